"""``shmstress vmstat``: see shmalloc/proc_text.py."""

from __future__ import annotations

import click

from stress.options import SEGMENTS
from stress.options import command as as_command


@as_command("vmstat")
@click.argument("name", type=SEGMENTS)
def command(name: str) -> int:
    """Print the counters of a segment, as /proc/vmstat does.

    A name and a number in each line: nr_... are pages at this moment, the others count events since
    the segment was made. docs/counters.md says what each means.

    Reads only: nothing is written to the segment NAME, and its users need not stop.

    Exit codes: 0 shown, 4 usage, or nothing that can be read.
    """
    from shmalloc.proc_text import ProcText
    from stress.top.proc import show

    return show(name, ProcText.vmstat)
