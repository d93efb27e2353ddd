"""The allocator's own programs: some of each part, to the last class (all: ``tox -e explore``)."""

import pytest

from stress import explore
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
    "wait-list-wake",
    "contig-isolate-free",
)


@pytest.mark.parametrize("memory", ["sc", "tso"])
@pytest.mark.parametrize("name", EXHAUSTED)
def test_a_program_of_the_allocator_passes_in_every_class(name, memory):
    result = explore(PROGRAMS[name](), strategy="dpor", memory=memory, seconds=120)
    print(result if result.failure is None else result.failure.report())
    assert (result.verdict, result.redundant) == ("passed-exhausted", 0)
