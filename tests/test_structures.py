"""The structures in examples/structures: right ones pass in every class, broken ones are found."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from stress import Program, explore, replay

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "structures"
FILES = sorted(path.stem for path in FOLDER.glob("*.py"))
MAX_LINES = 100
PASSES = None
CHECK, EXPECTED, LIVELOCK = "check", "expectation", "livelock"
# (file, program) -> how it fails under sc, under tso; PASSES: proved
VERDICTS = {
    ("chase_lev_deque", "unfenced"): (PASSES, CHECK),
    ("chase_lev_deque", "fenced"): (PASSES, PASSES),
    ("epoch_reclamation", "too_early"): (EXPECTED, EXPECTED),
    ("epoch_reclamation", "unfenced"): (PASSES, EXPECTED),
    ("epoch_reclamation", "two_epochs"): (PASSES, PASSES),
    ("hazard_pointers", "careless"): (EXPECTED, EXPECTED),
    ("hazard_pointers", "unfenced"): (PASSES, EXPECTED),
    ("hazard_pointers", "careful"): (PASSES, PASSES),
    ("mcs_lock", "forgetful"): (LIVELOCK, LIVELOCK),
    ("mcs_lock", "queue_lock"): (PASSES, PASSES),
    ("michael_scott_queue", "uncounted"): (CHECK, CHECK),
    ("michael_scott_queue", "counted"): (PASSES, PASSES),
    ("spmc_ring", "late"): (EXPECTED, EXPECTED),
    ("spmc_ring", "early"): (PASSES, PASSES),
}
CASES = [
    (file, name, memory, kinds[k])
    for (file, name), kinds in VERDICTS.items()
    for k, memory in enumerate(("sc", "tso"))
]


def loaded(file: str) -> ModuleType:
    """The module, imported once."""
    name = f"structures_{file}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{file}.py")
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def test_every_program_has_a_verdict_here():
    named = {
        (file, name)
        for file in FILES
        for name, value in vars(loaded(file)).items()
        if isinstance(value, Program)
    }
    assert named == {*VERDICTS, ("spmc_ring", "filled")}


@pytest.mark.parametrize("file", FILES)
def test_a_structure_fits_on_two_pages(file):
    assert len((FOLDER / f"{file}.py").read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize(("file", "name", "memory", "kind"), CASES)
def test_a_structure_explores_to_its_verdict(file, name, memory, kind):
    program = getattr(loaded(file), name)
    result = explore(program, "dpor", memory, seconds=100)
    if kind is PASSES:
        assert (result.verdict, result.redundant) == ("passed-exhausted", 0), str(result)
        return
    assert result.failure is not None and result.failure.kind == kind, str(result)
    for engine in ("native", "interpreted"):
        assert replay(program, result.failure.schedule, engine=engine).reproduced


@pytest.mark.parametrize("strategy", ["pct", "pos", "surw"])
def test_a_ring_with_four_consumers_fills_beyond_ten(strategy):
    """Within 100,000 schedules; a random walk needs more."""
    filled = loaded("spmc_ring").filled
    result = explore(filled, strategy, schedules=100_000, seconds=None)
    assert result.failure is not None and result.failure.kind == "expectation", str(result)


def test_the_interpreted_engine_finds_the_deque_without_its_fence():
    unfenced = loaded("chase_lev_deque").unfenced
    failure = explore(unfenced, "dpor", "tso", engine="interpreted", seconds=100).failure
    assert failure is not None and failure.kind == "check"
