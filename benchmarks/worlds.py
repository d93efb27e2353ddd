"""Segments to measure on, with the state of one worker in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from shmalloc.layout import Geometry, ZoneSpec
from shmalloc.segment import Segment

WORK_WORDS = 16384
PAGE_BYTES = 4096


@contextmanager
def segment(ram_bytes: int, **changes: object) -> Iterator[Segment]:
    """A booted segment with ``ram_bytes`` of frames in one zone and two CPU slots."""
    pages = ram_bytes // PAGE_BYTES
    values: dict[str, object] = {"zones": (ZoneSpec(pages),), "cpus": 2, "work_words": WORK_WORDS}
    with Segment.create(Geometry(**{**values, **changes})) as made:  # type: ignore[arg-type]
        yield made
