"""An arena and the processes of ``multiprocessing``, by each start method: given, used, ended."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
from typing import Any

import numpy as np
import pytest

from shmalloc import Arena, MisuseError, SegmentError
from shmalloc.layout import ZoneSpec
from support.start_methods import Found, work

METHODS = ("fork", "forkserver", "spawn")
WATCHDOG_S = 60


def run_worker(method: str, arena: Arena, ends_without_a_word: bool) -> Found:
    context: Any = multiprocessing.get_context(method)
    found = context.Queue()
    worker = context.Process(target=work, args=(arena, found, ends_without_a_word))
    worker.start()
    told: Found = found.get(timeout=WATCHDOG_S)
    worker.join(WATCHDOG_S)
    assert worker.exitcode == 0
    return told


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_goes_on_with_the_arena_that_it_is_given(method: str) -> None:
    with Arena.create(size="1MiB", cpus=4) as arena:
        sent_back, cpu, pid, pids = run_worker(method, arena, ends_without_a_word=False)
        assert sent_back is arena
        assert (cpu, pids) == (1, [os.getpid(), pid])
        # multiprocessing ends its processes by os._exit; the arena was closed before
        assert [slot.free for slot in arena.slots()] == [False, True, True, True]
        run_worker(method, arena, ends_without_a_word=True)
        assert arena.slots()[1].dead
        with Arena.attach(arena.name) as newcomer:  # recovers it unasked
            assert newcomer.cpu == 2
            assert [slot.free for slot in arena.slots()] == [False, True, False, True]
        assert arena.validate() == []


def test_a_pickle_names_the_segment_and_not_one_that_has_its_name_now() -> None:
    with Arena.create(name="test-of-pickles", size="1MiB", cpus=2, engine="interpreted") as arena:
        text = pickle.dumps(arena)
        assert pickle.loads(text) is copy.deepcopy(arena) is arena
    with pytest.raises(MisuseError, match="is closed"):
        pickle.dumps(arena)
    with (
        Arena.create(name="test-of-pickles", size="1MiB", cpus=2, engine="interpreted"),
        pytest.raises(SegmentError, match="no such segment"),
    ):
        pickle.loads(text)


def test_numbers_of_numpy_make_an_arena_and_are_arguments_of_every_method() -> None:
    n = np.int64
    zones = [ZoneSpec(pages=n(64)), ZoneSpec(pages=n(64), node=n(1))]
    shape = {"page_bytes": n(512), "max_order": np.uint8(4), "pageblock_order": n(3)}
    with Arena.create(zones=zones, cpus=np.int32(3), engine="interpreted", **shape) as arena:
        with Arena.attach(arena.name, cpu=n(2), engine="interpreted") as other:
            assert (type(other.cpu), other.cpu) == (int, 2)
        arena.unplug(n(2))
        arena.plug(n(2))
        pfn = arena.alloc_pages(n(2), owner=n(5))
        assert arena.page(n(pfn), n(2)).nbytes == 2048
        arena.free_pages(np.uint32(pfn), n(2), owner=n(5))
        arena.free_pages_bulk(np.array(arena.alloc_pages_bulk(n(3))))
        cache = arena.cache("some", n(40), align=n(16))
        cache.free(n(cache.alloc()))
        cache.free_bulk(np.array(cache.alloc_bulk(n(3))))
        address = arena.kmalloc(n(10))
        assert len(arena.memory(n(address), n(8))) == 8
        assert arena.usable_bytes(n(address)) >= 10
        arena.kfree(n(address))
        assert arena.validate() == []
    with Arena.create(size=n(1 << 20), zones=n(2), cpus=n(2), engine="interpreted") as arena:
        assert len(arena.geometry.zones) == 2
