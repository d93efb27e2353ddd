"""The engines agree on random programs, and refuse the same ones in the same words.

The session's seed makes the programs: each run tries others. ``tox -e fuzz-kernels`` runs 100,000.
A difference names the seed and the program that repeat it:

    python -m support.fuzz_kernels --seed SEED --first PROGRAM --programs 1
"""

from __future__ import annotations

import random
import re
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

from shmalloc.compiler.check import violations
from shmalloc.compiler.directory import ENV_CACHE_DIR
from shmalloc.engine import get_engine
from shmalloc.errors import DialectError
from shmalloc.memory import Ram
from support import agreement, invalid_kernels, random_kernels
from support.invalid_kernels import VIOLATIONS

BATCHES, PROGRAMS = 2, 150  # batches of programs that are compiled as one image
STATEMENTS = tuple(VIOLATIONS)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of random programs are not worth keeping."""
    monkeypatch.setenv(ENV_CACHE_DIR, str(tmp_path / "cache"))


@pytest.mark.parametrize("number", range(BATCHES))
def test_random_programs_mean_the_same_in_every_engine(
    tmp_path: Path, rng: random.Random, number: int
) -> None:
    batch = agreement.compare(tmp_path, rng.getrandbits(32), 0, PROGRAMS)
    assert batch.differences == []
    assert batch.programs == PROGRAMS


def test_random_programs_use_what_there_is(tmp_path: Path, rng: random.Random) -> None:
    """Most do not fault, many do, in each way; each construct of the dialect occurs."""
    seed = rng.getrandbits(32)
    text = random_kernels.module_text(seed, 400)
    for word in random_kernels.VOCABULARY:
        start = r"\b" if word[0].isalnum() else ""
        assert re.search(start + re.escape(word), text), word
    batch = agreement.compare(tmp_path, seed, 0, 100, naive_every=1)
    assert batch.differences == []
    assert 0.1 < batch.faulty_programs / batch.programs < 0.5


def test_a_random_program_is_the_same_again() -> None:
    assert random_kernels.program_text(5, 7) == random_kernels.program_text(5, 7)
    assert random_kernels.program_text(5, 7) != random_kernels.program_text(6, 7)
    assert random_kernels.program_text(5, 7) in random_kernels.module_text(5, 9)


# --- refusals ------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ModuleType]:
    """A module with a random program for each violation, in which it is planted."""
    programs = [
        invalid_kernels.planted(random_kernels.program_text(11, k), f"program_{k}", statement)
        for k, statement in enumerate(STATEMENTS)
    ]
    text = random_kernels.head(11) + "\n".join(programs)
    return text, agreement.load_module(tmp_path_factory.mktemp("broken"), "broken", text)


def refusal(engine: str, kernel: FunctionType) -> str:
    takes = kernel.__code__.co_argcount - 1
    with pytest.raises(DialectError) as caught:
        get_engine(engine).call(kernel, Ram.of_words(16), *[0] * takes)
    return str(caught.value)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_both_engines_refuse_it_in_the_same_line(
    broken: tuple[str, ModuleType], statement: str
) -> None:
    text, module = broken
    name = f"program_{STATEMENTS.index(statement)}"
    kernel = getattr(module, name)
    said = refusal("interpreted", kernel)
    assert said == refusal("native", kernel)
    assert "\n" not in said
    assert VIOLATIONS[statement] in said
    found = re.match(r"(.+):(\d+): kernel (\w+): .+", said)
    assert found is not None and found[3] == name
    assert Path(found[1]).name == "broken.py"
    last = invalid_kernels.line_of(text, name) + statement.count("\n")
    if statement != invalid_kernels.SELF and VIOLATIONS[statement]:
        assert last - statement.count("\n") <= int(found[2]) <= last


@pytest.mark.parametrize("seed", range(3))
def test_random_programs_break_no_rule(tmp_path: Path, seed: int) -> None:
    module = agreement.load_module(
        tmp_path, f"in_order_{seed}", random_kernels.module_text(seed, 40)
    )
    kernels = [k for k in vars(module).values() if getattr(k, "__module__", "") == module.__name__]
    assert [found for kernel in kernels for found in violations(kernel)] == []
