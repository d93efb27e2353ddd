"""debug_pagealloc: a use after free is a fault that names the page; a protection may be stale."""

import signal
import subprocess
import sys

import pytest

from shmalloc import Arena
from shmalloc.errors import MisuseError
from shmalloc.layout import LINK_STORES
from support.runs import environment

ARENA = {"size": "4MiB", "cpus": 2, "debug_pagealloc": True}
WITHOUT_LINKS = [name for name in LINK_STORES if name != "page"]
USES = """
import sys
from shmalloc import Arena
with Arena.create(size="4MiB", cpus=2, link_store="descriptor", debug_pagealloc=True) as arena:
    pfn = arena.alloc_pages()
    memory = {holder}.page(pfn)
    memory[8] = 1
    print(pfn)
    arena.free_pages(pfn)
    {before}
    print("touched", memory[8])
"""


def touched_after_free(holder, before):
    text = USES.format(holder=holder, before=before)
    return subprocess.run(
        [sys.executable, "-c", text], env=environment(), capture_output=True, text=True, timeout=60
    )


def test_a_use_after_free_is_a_fault_that_names_page_and_culprit():
    ended = touched_after_free("arena", "sys.stdout.flush()")
    assert ended.returncode == -signal.SIGSEGV
    pfn = int(ended.stdout)  # and nothing of what it read
    assert "use after free in process" in ended.stderr
    assert f"byte 0x8 of pfn {pfn} was touched; pfn {pfn} is" in ended.stderr
    assert "<string>:9" in ended.stderr  # the line that freed it
    *_, told, first = ended.stderr.splitlines()
    assert told == "touched by, innermost call first:"
    assert first == "    <module> (<string>:11)"  # the line that touched it, and no frame of ours


def test_another_process_faults_after_it_has_protected_what_is_free():
    other = "(other := Arena.attach(arena.name))"
    ended = touched_after_free(other, "arena.drain(); other.protect_free(); sys.stdout.flush()")
    assert ended.returncode == -signal.SIGSEGV
    assert f"of pfn {int(ended.stdout)} was touched" in ended.stderr


def test_a_page_that_another_process_allocates_is_given_back_when_it_is_touched():
    with Arena.create(link_store="descriptor", **ARENA) as arena, Arena.attach(arena.name) as other:
        pfn = arena.alloc_pages()
        memory = arena.page(pfn)
        arena.free_pages(pfn)
        arena.drain()
        while other.alloc_pages() != pfn:
            pass
        other.page(pfn)[0] = 7
        assert (memory[0], arena._protection.given_back) == (7, 1)


@pytest.mark.parametrize("store", WITHOUT_LINKS)
def test_no_kernel_touches_a_free_page(store):
    """Every free page is protected, and the allocator goes on: splits, merges, ranges, slabs."""
    with Arena.create(link_store=store, **ARENA) as arena:
        assert arena.protect_free() > 900
        pages = [arena.alloc_pages(order) for order in (0, 3, 0, 5, 1)]
        assert arena._protection.given_back == 0
        arena.alloc_contig_range(512, 520)
        for pfn, order in zip(pages, (0, 3, 0, 5, 1), strict=True):
            arena.free_pages(pfn, order)
        arena.drain()
        assert arena._protection.given_back == 0
        cache = arena.cache("objects", 64)
        cache.free(cache.alloc())
        assert arena._protection.given_back > 0
        assert arena.validate() == []


def test_lists_in_free_pages_and_filled_free_pages_are_refused():
    with pytest.raises(MisuseError, match="the list runs through it"):
        Arena.create(link_store="page", **ARENA)
    with pytest.raises(MisuseError, match="touch pages that have no owner"):
        Arena.create(link_store="index", poison=True, **ARENA)
