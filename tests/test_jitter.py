"""``JitterRam``: delays, fuse and flight recorder: equal on both engines, off by default."""

from __future__ import annotations

import mmap
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import shmalloc
from shmalloc.compiler.codegen import Target
from shmalloc.engine import Engine, get_engine, ops
from shmalloc.errors import MisuseError, OutsideFault
from shmalloc.memory import Ram
from stress.jitter.delays import KINDS, Delays
from stress.jitter.ram import OFF, JitterRam, arm_fuse
from stress.jitter.recorder import FIRST, accesses, merged
from support import jittery
from support.jittery import every_word
from support.machine_code import LSE

FREEZE = 30
RING = 32
ENTRIES = 64
WORDS = RING + FIRST + 2 * ENTRIES


WRITTEN = ((0,), (1,), (2,), (3,), (4,), (5,), (6,), (7,), (8, 9), (), (10,))
ROUND = [  # operation, word, value as in an event, operands
    (ops.OP_WRITE, 0, 1, ()), (ops.OP_STORE, 1, 1, ()), (ops.OP_STORE_RELAXED, 2, 1, ()),
    (ops.OP_CAS, 3, 1, (0, 1)), (ops.OP_EXCHANGE, 4, 0, (1,)), (ops.OP_FETCH_ADD, 5, 0, (1,)),
    (ops.OP_FETCH_OR, 6, 0, (1,)), (ops.OP_FETCH_AND, 7, 3, (1,)),
    (ops.OP_CAS2, 8, 1, (0, 0, 1, 1)), (ops.OP_CAS, 0, 0, (0, 5)), (ops.OP_WRITE, 10, 1, ()),
    (ops.OP_LOAD2, 8, 1, (1,)),
    (ops.OP_READ, 0, 1, ()), (ops.OP_LOAD, 1, 1, ()), (ops.OP_LOAD_RELAXED, 2, 1, ()),
    (ops.OP_FENCE, 0, 0, ()), (ops.OP_HEAVY_FENCE, 12, 0, ()), (ops.OP_WAKE, 12, 0, ()),
    (ops.OP_WAIT, 12, 0, ()),
]  # fmt: skip
TIMED = next(k for k, access in enumerate(ROUND) if access[0] == ops.OP_CAS)


@pytest.fixture(params=["jitter", "interpreted"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """The engines that run kernels over a ``JitterRam``."""
    return get_engine(request.param)


def jitter_ram() -> JitterRam:
    """Memory that a child shares, with bits for ``fetch_and`` to take away."""
    ram = JitterRam(mmap.mmap(-1, -(-WORDS * 8 // mmap.PAGESIZE) * mmap.PAGESIZE))
    Ram.store(ram, 7, 3)
    return ram


def end_of_child(engine: Engine, ram: JitterRam, writes: int) -> int:
    """How a child ends that runs two rounds with a fuse: its exit code, or minus a signal."""
    engine.bind(every_word)
    pid = os.fork()
    if pid == 0:
        arm_fuse(ram, writes)
        engine.call(every_word, ram, 2)
        os._exit(3)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def written(ram: JitterRam) -> list[int]:
    return [int(ram.array[word] == 1) for word in range(11)]


# --- the fuse ------------------------------------------------------------------------------------
@pytest.mark.parametrize("writes", range(1, len(WRITTEN) + 1))
def test_the_process_dies_immediately_before_the_nth_write(engine: Engine, writes: int):
    ram = jitter_ram()
    assert end_of_child(engine, ram, writes) == -signal.SIGKILL
    before = {word for words in WRITTEN[: writes - 1] for word in words}
    assert written(ram) == [int(word in before) for word in range(11)]


def test_a_fuse_that_is_longer_than_the_run_kills_nothing(engine: Engine):
    assert end_of_child(engine, jitter_ram(), 2 * len(WRITTEN) + 1) == 3


def test_a_fuse_of_the_last_write_kills(engine: Engine):
    assert end_of_child(engine, jitter_ram(), 2 * len(WRITTEN)) == -signal.SIGKILL


def test_writes_are_counted_from_the_lighting_on(engine: Engine):
    ram = jitter_ram()
    engine.call(every_word, ram, 1)
    arm_fuse(ram, 1 << 40)
    engine.call(every_word, ram, 3)
    assert ram.writes == 3 * len(WRITTEN)


def test_a_fuse_that_is_put_out_kills_nothing(engine: Engine):
    ram = jitter_ram()
    arm_fuse(ram, 1)
    arm_fuse(ram, OFF)
    assert engine.call(every_word, ram, 1) == 1


@pytest.mark.parametrize("writes", [0, -2])
def test_a_fuse_without_a_write_is_refused(writes: int):
    with pytest.raises(MisuseError, match="fuse"):
        arm_fuse(jitter_ram(), writes)


# --- the flight recorder -------------------------------------------------------------------------
def recorded(ram: JitterRam) -> list[tuple[int, int, int, tuple[int, ...]]]:
    return [(a.op, a.at, a.value, a.operands) for a in accesses(ram, 0, RING)]


def test_every_access_is_recorded_with_what_it_was_given_and_what_it_found(engine: Engine):
    ram = jitter_ram()
    ram.record_into(RING, ENTRIES, FREEZE)
    engine.call(every_word, ram, 1)
    assert recorded(ram) == ROUND[TIMED:]  # those before the first clock have no time


def test_a_full_ring_keeps_the_last_accesses(engine: Engine):
    ram = jitter_ram()
    ram.record_into(RING, ENTRIES, FREEZE)
    engine.call(every_word, ram, 5)
    found = recorded(ram)
    assert len(found) > len(ROUND) / 2 and found[-2:] == ROUND[-2:]


def test_the_write_that_the_fuse_forbade_is_the_last_that_the_dead_recorded(engine: Engine):
    ram = jitter_ram()
    ram.record_into(RING, ENTRIES, FREEZE)
    assert end_of_child(engine, ram, 11) == -signal.SIGKILL
    last = accesses(ram, 0, RING)[-1]
    assert (last.op, last.at, last.value, last.died) == (ops.OP_WRITE, 10, 1, True)


def test_a_violation_freezes_the_ring(engine: Engine):
    ram = jitter_ram()
    ram.record_into(RING, ENTRIES, FREEZE)
    engine.call(every_word, ram, 1)
    Ram.store(ram, FREEZE, 1)
    engine.call(every_word, ram, 1)
    simple = TIMED  # recorded before the first access that looks at the word
    assert recorded(ram)[: len(ROUND) - TIMED] == ROUND[TIMED:]
    assert len(recorded(ram)) == len(ROUND) - TIMED + simple


def test_rings_are_merged_by_time_and_each_keeps_its_order(engine: Engine):
    rams = [jitter_ram(), jitter_ram()]
    for ram in rams:
        ram.record_into(RING, ENTRIES, FREEZE)
    for ram in (*rams, *rams):
        engine.call(every_word, ram, 1)
    rings = [accesses(ram, cpu, RING) for cpu, ram in enumerate(rams)]
    everything = merged(rings)
    assert len({access.clock for access in everything}) > 4
    assert [a.clock for a in everything] == sorted(a.clock for a in everything)
    assert [[a for a in everything if a.cpu == cpu] for cpu in (0, 1)] == rings


# --- delays --------------------------------------------------------------------------------------
HOOKED = 21  # accesses of a round: the recorded ones, relax and give_way


def always(kind: str) -> Delays:
    return Delays(1.0, {kind: 1})


@pytest.mark.parametrize("kind", KINDS)
def test_a_mean_gap_of_one_waits_at_every_access(engine: Engine, kind: str):
    ram = jitter_ram()
    ram.delay(always(kind))
    engine.call(every_word, ram, 3)
    assert ram.delayed() == dict.fromkeys(KINDS, 0) | {kind: 3 * HOOKED}


def test_a_mean_gap_of_four_waits_at_about_every_fourth_access(engine: Engine):
    ram = jitter_ram()
    ram.delay(Delays(1.0, {"short": 4}))
    engine.call(every_word, ram, 100)
    assert 20 * HOOKED < ram.delayed()["short"] < 30 * HOOKED


def test_without_sites_nothing_waits(engine: Engine):
    ram = jitter_ram()
    ram.delay(Delays(0.0, dict.fromkeys(KINDS, 1)))
    engine.call(every_word, ram, 3)
    assert not any(ram.delayed().values())


def test_some_sites_never_wait_and_others_always_do(engine: Engine):
    ram = jitter_ram()
    ram.delay(Delays(0.5, {"short": 1}), seed=3)
    engine.call(every_word, ram, 10)
    waited = ram.delayed()["short"]
    assert 0 < waited < 10 * HOOKED and waited % 10 == 0


def test_delays_can_be_taken_away(engine: Engine):
    ram = jitter_ram()
    ram.delay(always("short"))
    ram.delay(None)
    engine.call(every_word, ram, 1)
    assert not any(ram.delayed().values())


def test_one_seed_draws_the_same_habits_for_every_process_but_not_the_same_moments():
    delays = Delays(0.5, {"short": 100, "yield": 1000})
    one, other = delays.plans(seed=1, phase=0), delays.plans(seed=1, phase=1)
    assert one[1::2] == other[1::2] and one[::2] != other[::2]
    assert delays.plans(seed=2, phase=0)[1::2] != one[1::2]


@pytest.mark.parametrize(
    "sites, gaps", [(1.5, {}), (-0.1, {}), (0.5, {"shrot": 4}), (0.5, {"short": 0})]
)
def test_delays_that_mean_nothing_are_refused(sites: float, gaps: dict[str, int]):
    with pytest.raises(MisuseError):
        Delays(sites, gaps)


def test_words_mean_the_same_with_everything_armed(engine: Engine):
    armed, plain = jitter_ram(), jitter_ram()
    armed.delay(always("short"))
    armed.record_into(RING, ENTRIES, FREEZE)
    arm_fuse(armed, 1 << 40)
    assert engine.call(every_word, armed, 3) == engine.call(every_word, plain, 3)
    assert armed.array[:RING].tolist() == plain.array[:RING].tolist()


def test_an_access_outside_raises_and_touches_nothing(engine: Engine):
    ram = JitterRam.of_words(8)
    with pytest.raises(IndexError):
        engine.call(every_word, ram, 1)


def test_a_fault_is_the_same_as_over_a_plain_ram():
    faults = []
    for name, ram in (("jitter", JitterRam.of_words(8)), ("native", Ram.of_words(8))):
        with pytest.raises(OutsideFault) as raised:
            get_engine(name).call(every_word, ram, 1)
        faults.append(str(raised.value))
    assert faults[0] == faults[1] and "word 8" in faults[0]


@pytest.mark.parametrize(
    "name, ram", [("jitter", Ram.of_words(64)), ("native", JitterRam.of_words(64))]
)
def test_an_engine_refuses_the_memory_of_another_one(name: str, ram: Ram):
    with pytest.raises(MisuseError, match=type(ram).__name__):
        get_engine(name).call(every_word, ram, 1)


# --- the numbers of sites ------------------------------------------------------------------------
@pytest.mark.parametrize("target", [None, LSE], ids=["here", "aarch64"])
def test_one_kernel_inlined_three_times_is_three_sites(target: Target | None):
    for function, count in ((jittery.read_thrice, 3), (every_word, HOOKED)):
        sites = jittery.sites_of(function, target)
        assert len(sites) == len(set(sites)) == count


# --- what it costs programs that do not use it ---------------------------------------------------
def test_the_machine_code_over_a_plain_ram_is_the_same_whether_jitter_is_loaded_or_not():
    path = [str(Path(shmalloc.__path__[0]).parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, jittery.__file__],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    before, after = done.stdout.split(f"\n{jittery.SEPARATOR}\n")
    assert len(before.splitlines()) > 100
    assert before.strip() == after.strip()
    assert "every_word" in before and not re.search("jitter(?!y)", before)
