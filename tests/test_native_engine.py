"""The native engine: the interpreter's meaning, checks of each access, images that notice edits.

test_compiler_words.py tests that each word is the right instruction.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import subprocess
import sys
import textwrap
from multiprocessing import shared_memory
from pathlib import Path

import numpy as np
import pytest

import shmalloc
from shmalloc.dialect import kernel
from shmalloc.engine import Engine, get_engine
from shmalloc.errors import EngineError, MisuseError
from shmalloc.memory import Ram
from shmalloc.words import (
    cas,
    cas2,
    exchange,
    fence,
    fetch_add,
    fetch_and,
    fetch_or,
    fixed,
    give_way,
    load,
    load2,
    load_relaxed,
    mark,
    relax,
    store,
    store_relaxed,
    wait,
    wake,
)
from support import children

WORDS = 16
OPERATIONS = 19


@kernel
def read_word(mem, i):
    return load(mem, i)


@kernel
def write_word(mem, i, value):
    store(mem, i, value)


@kernel
def simple_word(mem, what, i, a):
    if what == 0:
        return mem[i]
    if what == 1:
        mem[i] = a
    elif what == 2:
        return load(mem, i)
    elif what == 3:
        return load_relaxed(mem, i)
    elif what == 4:
        store(mem, i, a)
    elif what == 5:
        store_relaxed(mem, i, a)
    elif what == 6:
        return exchange(mem, i, a)
    elif what == 7:
        return fetch_add(mem, i, a)
    elif what == 8:
        return fetch_or(mem, i, a)
    elif what == 9:
        return fetch_and(mem, i, a)
    return 0


@kernel
def any_word(mem, what, i, a, b):
    if what < 10:
        return simple_word(mem, what, i, a)
    if what == 10:
        return int(cas(mem, i, a, b))
    if what == 11:
        return int(cas2(mem, i, a, b, b, a))
    if what == 12:
        low, high = load2(mem, i)
        return low + 7 * high
    if what == 13:
        return fixed(mem, i)
    if what == 14:
        mark(mem, i)
    elif what == 15:
        fence(mem)
    elif what == 16:
        relax(mem)
    elif what == 17:
        give_way(mem)
    elif what == 18:
        wake(mem, i, a)
    return 0


@kernel
def wait_for_change(mem, i, old):
    wait(mem, i, old)
    return load(mem, i)


# --- both engines mean the same ------------------------------------------------------------------
def test_both_engines_agree_on_every_word(rng: random.Random):
    native, python = Ram.of_words(WORDS), Ram.of_words(WORDS)
    seen = set()
    for _step in range(5_000):
        what = rng.randrange(OPERATIONS)
        i = rng.randrange(WORDS) & ~(what in (11, 12))
        a, b = rng.randrange(4), rng.randrange(4)
        seen.add(what)
        arguments = (any_word, native, what, i, a, b)
        found = get_engine("native").call(*arguments)
        assert found == any_word(python, what, i, a, b), (what, i, a, b)
        assert np.array_equal(native.array, python.array), (what, i, a, b)
    assert seen == set(range(OPERATIONS))


def test_large_values_keep_all_their_62_bits(engine: Engine):
    ram = Ram.of_words(2)
    value = (1 << 62) + 12345
    engine.call(write_word, ram, 1, value)
    assert engine.call(read_word, ram, 1) == value


def test_wait_returns_at_once_where_the_word_differs(engine: Engine):
    ram = Ram.of_words(2)
    ram[0] = 5
    assert engine.call(wait_for_change, ram, 0, 4) == 5


def test_wait_returns_after_its_limit_without_a_wake(engine: Engine):
    ram = Ram.of_words(2)
    assert engine.call(wait_for_change, ram, 0, 0) == 0


# --- bounds --------------------------------------------------------------------------------------
@pytest.mark.parametrize("i", [-1, WORDS, 1 << 40, -(1 << 62)])
@pytest.mark.parametrize("what", [0, 1, 2, 4, 6, 7, 10, 11, 12, 13, 14, 18])
def test_an_access_outside_raises_and_touches_nothing(engine: Engine, what: int, i: int):
    ram = Ram.of_words(WORDS)
    with pytest.raises(IndexError):
        engine.call(any_word, ram, what, i, 1, 1)
    assert not ram.array.any()


@pytest.mark.parametrize("what", [11, 12])
def test_an_odd_pair_raises(engine: Engine, what: int):
    with pytest.raises(IndexError, match="odd"):
        engine.call(any_word, Ram.of_words(WORDS), what, 3, 0, 1)


def test_a_pair_at_the_last_even_word_is_inside(engine: Engine):
    assert engine.call(any_word, Ram.of_words(WORDS), 12, WORDS - 2, 0, 0) == 0


def test_the_ram_can_be_used_again_after_an_access_outside(engine: Engine):
    ram = Ram.of_words(WORDS)
    with pytest.raises(IndexError):
        engine.call(read_word, ram, WORDS)
    assert engine.call(read_word, ram, 0) == 0


# --- what is refused -----------------------------------------------------------------------------
def test_a_function_that_is_no_kernel_is_refused():
    with pytest.raises(EngineError, match="is not a kernel"):
        get_engine("native").bind(run_edited)  # type: ignore[arg-type]


def test_an_unknown_engine_is_refused():
    with pytest.raises(MisuseError, match="engine"):
        get_engine("quantum")


# --- the cache -----------------------------------------------------------------------------------
CALLER_AND_CALLEE = """
    from shmalloc.dialect import kernel
    from shmalloc.words import load

    STEP = {step}

    @kernel
    def callee(mem, i):
        return load(mem, i) + {added}

    @kernel
    def caller(mem, i):
        return callee(mem, i) * STEP
"""
RUN = """
    import sys
    from edited import caller
    from shmalloc.engine import get_engine
    from shmalloc.memory import Ram
    print(get_engine("native").call(caller, Ram.of_words(2), 0), int("llvmlite" in sys.modules))
"""


def run_edited(folder: Path, added: int, step: int = 1) -> tuple[int, bool]:
    """The result of the caller in a fresh process, and whether it was compiled there."""
    source = textwrap.dedent(CALLER_AND_CALLEE).format(added=added, step=step)
    (folder / "edited.py").write_text(source)
    root = Path(shmalloc.__path__[0]).parent
    path = [str(folder), str(root), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path),
        "SHMALLOC_CACHE_DIR": str(folder / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(RUN)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result, compiled = map(int, done.stdout.split())
    return result, bool(compiled)


def test_an_edited_callee_is_noticed_and_an_unedited_one_is_loaded(tmp_path: Path):
    assert run_edited(tmp_path, added=1) == (1, True)
    assert run_edited(tmp_path, added=1) == (1, False)
    assert run_edited(tmp_path, added=2) == (2, True)
    assert run_edited(tmp_path, added=2, step=5) == (10, True)
    assert run_edited(tmp_path, added=1) == (1, False)


# --- many processes ------------------------------------------------------------------------------
def test_two_processes_increment_one_word_to_the_exact_total():
    get_engine("native").bind(children.increment_many)
    context = multiprocessing.get_context("spawn")
    segment = shared_memory.SharedMemory(create=True, size=4096)
    try:
        start = context.Barrier(2)
        workers = [
            context.Process(target=children.increment, args=(segment.name, start)) for _ in range(2)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(timeout=120)
        assert [worker.exitcode for worker in workers] == [0, 0]
        ram = Ram(segment.buf)
        total = ram[0]
        ram.release()
        assert total == 2 * children.INCREMENTS
    finally:
        segment.close()
        segment.unlink()
