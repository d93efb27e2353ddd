"""``shmstress page_owner``: see shmalloc/page_owner_text.py."""

from __future__ import annotations

import click

from stress.options import SEGMENTS
from stress.options import command as as_command


@as_command("page_owner")
@click.argument("name", type=SEGMENTS)
@click.option("--stacks", "what", flag_value="stacks", help="Pages by call stack (show_stacks).")
@click.option("--objects", "what", flag_value="objects", help="Objects by call stack, by cache.")
def command(name: str, what: str | None) -> int:
    """Print who allocated which pages of a segment, as debugfs/page_owner does.

    A paragraph for each block that was sampled: how it was allocated, by which thread and process,
    when, its state, and the Python stack of the call. The counts of --stacks and --objects are
    scaled up from the sample to all. The segment must sample its allocations: of an arena that is
    Arena.create(page_owner="1/64"), of a run --geometry page-owner=1/64.

    Reads only: nothing is written to the segment NAME, and its users need not live.

    Exit codes: 0 shown, 4 usage, or nothing that can be read.
    """
    from shmalloc.page_owner_text import PageOwnerText
    from stress.top.proc import show_owners

    texts = {"stacks": PageOwnerText.show_stacks, "objects": PageOwnerText.alloc_traces}
    return show_owners(name, texts.get(what or "", PageOwnerText.page_owner))
