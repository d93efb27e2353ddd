"""``shmstress pagetypeinfo``: see shmalloc/proc_text.py."""

from __future__ import annotations

import click

from stress.options import SEGMENTS
from stress.options import command as as_command


@as_command("pagetypeinfo")
@click.argument("name", type=SEGMENTS)
def command(name: str) -> int:
    """Print free blocks by migratetype, as /proc/pagetypeinfo does.

    Free blocks of each zone, migratetype and order; then how many pageblocks are of each type.

    Reads only: nothing is written to the segment NAME, and its users need not stop.

    Exit codes: 0 shown, 4 usage, or nothing that can be read.
    """
    from shmalloc.proc_text import ProcText
    from stress.top.proc import show

    return show(name, ProcText.pagetypeinfo)
