"""``shmstress slabinfo``: see shmalloc/proc_text.py."""

from __future__ import annotations

import click

from stress.options import SEGMENTS
from stress.options import command as as_command


@as_command("slabinfo")
@click.argument("name", type=SEGMENTS)
def command(name: str) -> int:
    """Print the caches of a segment, as /proc/slabinfo does.

    One row for each cache. Objects that wait in sheaves count as active, as in Linux; the tunable
    "limit" is the capacity of a sheaf.

    Reads only: nothing is written to the segment NAME, and its users need not stop.

    Exit codes: 0 shown, 4 usage, or nothing that can be read.
    """
    from shmalloc.proc_text import ProcText
    from stress.top.proc import show

    return show(name, ProcText.slabinfo)
