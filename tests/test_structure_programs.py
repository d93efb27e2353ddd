"""The programs and crash cases of the structures, and real kills: what docs/structures.md says."""

import pytest

from stress import explore
from stress.crash import Effort
from stress.crash.allocator import allocator_case, case_names
from stress.crash.result import CrashResult
from stress.crash.search import Hunt
from stress.crash.sites import OPERATION_NAMES, PUBLIC, write_sites
from stress.programs import (
    PROGRAMS,
    structure_dict_arrays,
    structure_dicts,
    structure_entries,
    structure_lock_sleepers,
    structure_locks,
    structure_pools,
    structure_queues,
)
from support.structure_kills import SCENARIOS, kill

# With pages: few classes, but an allocator to compile, so they run interpreted here.
WITH_PAGES = [*structure_entries.PROGRAMS, *structure_dict_arrays.PROGRAMS]
MAKING = ["structure-make-make", "structure-make-end", "structure-end-end"]
SMALL_WITH_PAGES = [*MAKING, "structure-dict-array-remove-remove"]
KILLED_WITH_PAGES = [
    *MAKING,
    *(f"structure-dict-array-{name}" for name in ("destroy", "ending", "give-up")),
]
WITHOUT_PAGES = [
    name
    for part in (structure_locks, structure_queues, structure_pools, structure_dicts)
    for name in part.PROGRAMS
]
NAMES = [*WITH_PAGES, *WITHOUT_PAGES]
# more classes than the suite has time for; benchmarks/programs.py explores them
LARGE = {
    ("structure-lock-3", "sc"), ("structure-lock-3", "tso"), ("structure-lock-twice-2", "tso"),
    ("structure-queue-3", "sc"), ("structure-queue-3", "tso"), ("structure-queue-round", "tso"),
    ("structure-pool-3", "sc"), ("structure-pool-3", "tso"),
    ("structure-queue-stale-3", "sc"), ("structure-queue-stale-3", "tso"),
    ("structure-dict-stale-3", "sc"), ("structure-dict-stale-3", "tso"),
}  # fmt: skip
HOME = "/structures/kernels/"


@pytest.mark.parametrize("memory", ["sc", "tso"])
def test_no_schedule_of_a_program_breaks_a_structure(memory):
    for name in (*WITHOUT_PAGES, *structure_lock_sleepers.PROGRAMS):
        if (name, memory) not in LARGE:
            result = explore(PROGRAMS[name](), memory=memory, strategy="dpor")
            assert result.verdict == "passed-exhausted", f"{name}: {result.verdict}"


def test_no_schedule_breaks_an_entry_or_loses_a_block():
    for name in SMALL_WITH_PAGES:
        result = explore(PROGRAMS[name](), strategy="dpor", engine="interpreted")
        assert result.verdict == "passed-exhausted", f"{name}: {result.verdict}"


def test_every_program_has_a_crash_case():
    assert set(NAMES) <= set(case_names())


def test_a_structure_survives_a_death_before_each_write_and_another_in_the_recovery():
    """And every write of every operation was tried."""
    total, followed = CrashResult(cases=0), set()
    quick = Effort(depth=2, again=1, stride=11, seeds=8)
    slow = Effort(depth=2, again=1, stride=97, seeds=0, engine="interpreted")
    for name in [*KILLED_WITH_PAGES, *WITHOUT_PAGES]:
        effort = slow if name in WITH_PAGES else quick
        total.add(Hunt(allocator_case(name), effort, OPERATION_NAMES, followed).run())
    assert (total.verdict, total.failures) == ("passed", [])
    hit = {key.site for key in total.once}
    every = {site for entry in PUBLIC for site in write_sites(entry) if HOME in site.file}
    assert sorted(every - hit) == []
    assert len(every) > 20


@pytest.mark.parametrize("name", SCENARIOS)
def test_real_kills_break_nothing(name):
    assert "nothing broken" in kill(name, kills=8, seed=1)
