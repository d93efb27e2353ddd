"""The allocator's own programs: some of each part, to the last class (all: ``tox -e explore``)."""

import pytest

from shmalloc.compiler import obtain
from stress import Program
from stress.machine.native import kernels_of
from stress.programs import PROGRAMS

EXHAUSTED = (
    "buddy-merge-take",
    "buddy-split-walk",
    "pcp-drain-alloc",
    "pcp-unplug-alloc",
    "slab-free-free",
    "slab-barn-swap",
    "slab-destroy-free",
    "lock-sleep-2",
    "lock-asks-2",
    "lock-called-off-2",
    "wait-list-wake",
    "contig-isolate-free",
    "lookup-owner-reuse",
    "lookup-get-and-reuse",
)


SAMPLED = tuple(name for name in PROGRAMS if name.endswith("-3"))  # with three CPUs


@pytest.fixture(scope="module")
def compiled():
    """One image for the programs that run natively: most of what they call is the same."""
    obtain.obtain(kernels_of(PROGRAMS[name]() for name in EXHAUSTED))


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("memory", ["sc", "tso"])
@pytest.mark.parametrize("name", EXHAUSTED)
def test_a_program_of_the_allocator_passes_in_every_class(explorer, name, memory):
    result = explorer(PROGRAMS[name](), strategy="dpor", memory=memory, seconds=120)
    assert result.passed
    assert (result.verdict, result.redundant) == ("passed-exhausted", 0)


@pytest.mark.explore(strategy="random", engine="interpreted", schedules=20, seconds=None)
@pytest.mark.parametrize("name", SAMPLED)
def test_no_schedule_of_a_small_sample_fails(name) -> Program:
    return PROGRAMS[name]()
