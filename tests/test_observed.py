"""A segment that is looked at: words as they are, nothing written, its end told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shmalloc import constants as c
from shmalloc.errors import SegmentError
from shmalloc.layout import Geometry, ZoneSpec
from shmalloc.observed import ObservedSegment
from shmalloc.segment import Segment

SMALL = Geometry(zones=(ZoneSpec(pages=64),), page_bytes=64, cpus=2, max_order=3, pageblock_order=2)
HUGE = Geometry(zones=(ZoneSpec(pages=1 << 20),), cpus=2)  # 4 GiB, of which little is touched
SHM = Path("/dev/shm")


@pytest.fixture
def segment():
    with Segment.create(SMALL, engine="interpreted") as made:
        yield made


def test_an_observer_reads_the_words_as_they_are(segment):
    segment.ram[c.H_STOP] = 77
    with ObservedSegment(segment.name) as seen:
        assert seen[c.H_STOP] == 77 and seen.same_build
        assert seen.words(0, segment.layout.words).tolist() == segment.ram.array.tolist()


def test_an_observer_changes_nothing_and_claims_no_slot(segment):
    before = (SHM / segment.name).read_bytes()
    with ObservedSegment(segment.name) as seen:
        seen.words(0, segment.layout.words)
    assert (SHM / segment.name).read_bytes() == before


def test_an_observer_cannot_write(segment):
    with ObservedSegment(segment.name) as seen, pytest.raises(OSError):
        os.pwrite(seen._handle, b"x", 0)


def test_looking_at_pages_that_no_process_has_touched_costs_no_memory():
    with Segment.create(HUGE) as made, ObservedSegment(made.name) as seen:
        before = seen.touched_bytes
        inside = made.layout.frame((3 << 18) + 1)  # of a free block: only its first page is touched
        assert not seen.words(inside, 64 << 9).any()
        assert seen.touched_bytes == before < made.layout.bytes // 100


@pytest.mark.parametrize("first, count", [(-1, 2), (0, -1), (1 << 60, 1)])
def test_words_outside_are_refused(segment, first, count):
    with ObservedSegment(segment.name) as seen, pytest.raises(IndexError, match="outside"):
        seen.words(first, count)


def test_the_removal_is_told_and_the_words_stay(segment):
    with ObservedSegment(segment.name) as seen:
        assert not seen.removed
        segment.unlink()
        assert seen.removed and seen[c.H_MAGIC] == c.MAGIC


def test_a_segment_of_other_kernels_is_looked_at_and_told(segment):
    segment.ram[c.H_DIGEST] += 1
    with ObservedSegment(segment.name) as seen:
        assert not seen.same_build


TRUNCATED = """
import os, sys
from shmalloc.observed import ObservedSegment
seen = ObservedSegment(sys.argv[1])
os.truncate("/dev/shm/" + sys.argv[1], 4096)
try:
    seen.words(0, seen.layout.words)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_file_that_is_truncated_while_it_is_watched_kills_no_observer(segment):
    command = [sys.executable, "-c", TRUNCATED, segment.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != -signal.SIGBUS and "SegmentError" in done.stdout, done.stderr
    os.truncate(SHM / segment.name, segment.layout.bytes)  # the owner has it mapped


def test_a_foreign_file_is_refused(segment):
    segment.ram[c.H_MAGIC] = 5
    with pytest.raises(SegmentError, match="is foreign"):
        ObservedSegment(segment.name)
