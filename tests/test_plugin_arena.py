"""The fixture ``arena``: fresh for each test, audited, with nothing left allocated."""

import numpy as np
import pytest

from shmalloc import constants as c
from shmalloc.arena import Arena
from stress.pytest_plugin.arena import findings
from support.sessions import Project

TESTS = """
import pytest

def test_gives_back(arena):
    arena.free_pages(arena.alloc_pages(3), 3)

def test_keeps(arena):
    arena.alloc_pages(3)

def test_fails_before_it_gives_back(arena):
    arena.alloc_pages(3)
    assert False

@pytest.mark.parametrize("arena", [{"size": "1MiB", "page_bytes": 64, "cpus": 1}], indirect=True)
def test_another_size(arena):
    assert arena.geometry.pages == 1 << 14

def test_closes(arena):
    arena.close()
"""
SMALL = {"size": 256 * 64, "page_bytes": 64, "cpus": 2, "max_order": 4, "pageblock_order": 2}


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("arena"), {"test_arena.py": TESTS}).run(
        "--shm-engine=interpreted"
    )


@pytest.mark.parametrize("name", ["gives_back", "another_size", "closes"])
def test_a_test_that_gives_everything_back_passes(session, name):
    (outcome,) = [o for test, o in session.outcomes().items() if test.startswith(f"test_{name}")]
    assert outcome == "passed"


def test_a_leak_fails_the_test_and_names_the_block(session):
    assert session.cases["test_keeps"].outcome == "error"
    assert "arena: leaked: pfn " in session.cases["test_keeps"].text
    assert "order 3 (pfns " in session.cases["test_keeps"].text


def test_a_test_that_failed_is_not_blamed_for_a_leak(session):
    assert session.cases["test_fails_before_it_gives_back"].outcome == "failure"
    assert "leaked" not in session.cases["test_fails_before_it_gives_back"].text


@pytest.fixture(params=["native", "interpreted"])
def small(request):
    with Arena.create(engine=request.param, **SMALL) as made:
        yield made


def use(arena):
    """Everything that the arena keeps for itself is there, and nothing of ours."""
    cache = arena.cache("things", 16, ctor=b"x" * 16)
    cache.free(cache.alloc())
    arena.kfree(arena.kmalloc(24))
    arena.free_pages_bulk(arena.alloc_pages_bulk(3))
    arena.array(np.arange(3)).close()
    return cache


def test_what_the_allocator_keeps_for_itself_is_no_leak(small):
    use(small)
    assert findings(small, leaks=True) == []


@pytest.mark.parametrize(
    ("leak", "says"),
    [
        (lambda arena, cache: arena.alloc_pages(2), "order 2 (pfns "),
        (lambda arena, cache: cache.alloc_bulk(3), "leaked: 3 objects of cache 'things'"),
        (lambda arena, cache: arena.kmalloc(24), "leaked: 1 object of cache 'kmalloc of "),
        (lambda arena, cache: arena.array(np.arange(80)), "leaked: a shared array: pfn "),
    ],
    ids=["pages", "objects", "kmalloc", "array"],
)
def test_what_a_test_keeps_is_a_leak(small, leak, says):
    kept = leak(small, use(small))
    found = findings(small, leaks=True)
    assert kept is not None and len(found) == 1 and says in found[0]


def test_a_leak_of_an_arena_that_samples_names_the_call_that_allocated_it():
    with Arena.create(engine="interpreted", page_owner="1/1", **SMALL) as arena:
        use(arena)
        arena.alloc_pages(2)
        first, *sites = findings(arena, leaks=True)
    here = "test_a_leak_of_an_arena_that_samples_names_the_call_that_allocated_it"
    assert first.startswith("leaked: pfn ")
    assert (
        len(sites) == 1
        and f"allocated by {here} (" in sites[0]
        and "1 block of order 2" in sites[0]
    )


def test_a_broken_descriptor_is_found_by_the_audit(small):
    pfn = small.alloc_pages(1)
    small.segment.ram[small.segment.layout.descriptor(pfn)] ^= c.TYPE_MASK
    assert any("expected" in text for text in findings(small, leaks=False))


UNFIT = """
import pytest
from shmalloc import Arena, EnvironmentUnfitError

@pytest.fixture(autouse=True)
def full_machine(monkeypatch):
    def create(**arguments):
        raise EnvironmentUnfitError("no room for the segment")
    monkeypatch.setattr(Arena, "create", create)

def test_pages(arena):
    pass
"""


def test_an_arena_that_the_machine_cannot_hold_skips_the_test(tmp_path):
    case = Project(tmp_path, {"test_arena.py": UNFIT}).run().cases["test_pages"]
    assert case.outcome == "skipped" and "UNFIT: no room for the segment" in case.text
