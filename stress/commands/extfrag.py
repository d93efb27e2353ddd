"""``shmstress extfrag``: see shmalloc/proc_text.py."""

from __future__ import annotations

import click

from stress.options import SEGMENTS
from stress.options import command as as_command


@as_command("extfrag")
@click.argument("name", type=SEGMENTS)
def command(name: str) -> int:
    """Print how fragmented a segment is, as Linux's debugfs does.

    The fragmentation index by order: near 0.000 an allocation of that order fails for lack of
    memory, near 1.000 because of fragmentation, and -1.000 means that it would succeed. Then the
    share of the free memory that lies in smaller blocks.

    Reads only: nothing is written to the segment NAME, and its users need not stop.

    Exit codes: 0 shown, 4 usage, or nothing that can be read.
    """
    from shmalloc.proc_text import ProcText
    from stress.top.proc import show

    return show(name, ProcText.extfrag)
