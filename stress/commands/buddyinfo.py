"""``shmstress buddyinfo``: see shmalloc/proc_text.py."""

from __future__ import annotations

import click

from stress.options import SEGMENTS
from stress.options import command as as_command


@as_command("buddyinfo")
@click.argument("name", type=SEGMENTS)
def command(name: str) -> int:
    """Print the free blocks of a segment by order, as /proc/buddyinfo does.

    One row for each zone: how many blocks of order 0, 1, 2, ... are free. Blocks on per-CPU lists
    are not among them.

    Reads only: nothing is written to the segment NAME, and its users need not stop.

    Exit codes: 0 shown, 4 usage, or nothing that can be read.
    """
    from shmalloc.proc_text import ProcText
    from stress.top.proc import show

    return show(name, ProcText.buddyinfo)
