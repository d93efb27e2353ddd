"""``shmstress leaks``: see shmalloc/leak_report.py."""

from __future__ import annotations

import click

from stress.options import SEGMENTS
from stress.options import command as as_command


@as_command("leaks")
@click.argument("name", type=SEGMENTS)
def command(name: str) -> int:
    """Print what is still allocated in a segment, by the call that allocated it.

    For each call site: how many and how many bytes, scaled up from the sample to all; how old the
    oldest is; which processes hold it, and whether these live. The segment must sample its
    allocations: of an arena that is Arena.create(page_owner="1/64"), of a run
    --geometry page-owner=1/64.

    Reads only: nothing is written to the segment NAME, and its users need not live.

    Exit codes: 0 shown, 4 usage, or nothing that can be read.
    """
    from stress.top.proc import show_leaks

    return show_leaks(name)
