"""Histories that kernels write: the allocator passes in every schedule, broken ones are caught."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from shmalloc import constants as c
from shmalloc.compiler.check import violations
from shmalloc.dialect import kernel
from shmalloc.engine import get_engine
from shmalloc.errors import MisuseError
from shmalloc.kernels.pages import alloc_pages, free_pages_of
from shmalloc.memory import Ram
from shmalloc.words import cas, fetch_add, fetch_and, fetch_or, fixed, give_way, load, relax, store
from stress import Program
from stress.linearize import Operation, check, models
from stress.linearize.allocator import allocator
from stress.linearize.recorded import (
    ALLOC,
    FREE,
    LogArea,
    Meaning,
    prepare_log,
    read_log,
    schedules,
)
from stress.oracles import histories
from stress.oracles.histories import log_call, log_return
from stress.programs.initial_state import InitialState

CAPACITY = 8
ENGINES = pytest.mark.parametrize("engine", ["native", "interpreted"])


# --- the allocator -------------------------------------------------------------------------------
@kernel
def logged_alloc(mem, cpu, order):
    """Allocate; the log lies behind the segment."""
    log = fixed(mem, c.H_WORDS)
    entry = log_call(mem, log, cpu, ALLOC, order, 0)
    return log_return(mem, log, entry, alloc_pages(mem, cpu, order, c.MT_MOVABLE, cpu + 1))


@kernel
def logged_free(mem, cpu, pfn, order):
    log = fixed(mem, c.H_WORDS)
    entry = log_call(mem, log, cpu, FREE, pfn, order)
    return log_return(mem, log, entry, free_pages_of(mem, cpu, pfn, order, cpu + 1))


@kernel
def take_put_take(mem, cpu):
    for order in range(2):
        pfn = logged_alloc(mem, cpu, order)
        if pfn >= 0 and order == 0:
            logged_free(mem, cpu, pfn, order)
    return 0


def logged_world(cpus: int, pages: int) -> tuple[Program, LogArea]:
    """Each CPU takes, gives back and takes again."""
    world = InitialState.booted(pages, max_order=1, cpus=cpus)
    program = world.program("logged", [take_put_take] * cpus, story="histories")
    area = LogArea(world.layout.words, cpus, CAPACITY)
    return with_log(program, area), area


def with_log(program: Program, area: LogArea) -> Program:
    memory = np.zeros(area.at + area.words, dtype=np.int64)
    if isinstance(program.init, np.ndarray):
        memory[: area.at] = program.init
    prepare_log(memory, area)
    return Program(program.name, len(memory), program.threads, init=memory)


@pytest.mark.parametrize(
    ("engine", "cpus", "count"), [("native", 2, 400), ("native", 3, 400), ("interpreted", 3, 15)]
)
def test_the_allocator_is_linearizable_in_every_schedule(engine, cpus, count):
    program, area = logged_world(cpus, pages=4)
    told = Counter()
    for verdict, history in schedules(program, area, count, engine=engine):
        assert verdict == "passed"
        assert len(history) in range(2 * cpus, 3 * cpus + 1)
        found = check(history, allocator(4, 1))
        assert found.ok, found.report()
        told.update((one.name, one.result is None) for one in history)
    assert told["alloc", False] > count and told["free", False] > count


def test_both_engines_write_the_same_history():
    program, area = logged_world(3, pages=4)
    native, python = (
        [history for _, history in schedules(program, area, 5, engine=engine)]
        for engine in ("native", "interpreted")
    )
    assert native == python


def test_a_schedule_cut_at_any_step_is_linearizable_with_what_was_under_way():
    program, area = logged_world(2, pages=4)
    pending = Counter()
    for limit in range(20, 200, 3):
        for _, history in schedules(program, area, 6, seed=limit, step_limit=limit):
            found = check(history, allocator(4, 1))
            assert found.ok, found.report()
            pending.update(one.name for one in history if one.pending)
    assert pending["alloc"] > 50 and pending["free"] > 20


# --- broken allocators: a bitmap of two pages ----------------------------------------------------
BITMAP, LOG = 0, 2
BITMAP_PAGES = 2


@kernel
def lowest_free(mem):
    """The lowest page whose bit is not set; E_NOMEM: none."""
    bits = load(mem, BITMAP)
    for pfn in range(BITMAP_PAGES):
        if bits >> pfn & 1 == 0:
            return pfn
    return c.E_NOMEM


@kernel
def sound_take(mem):
    while True:
        pfn = lowest_free(mem)
        if pfn < 0 or fetch_or(mem, BITMAP, 1 << pfn) >> pfn & 1 == 0:
            return pfn
        relax(mem)


@kernel
def careless_take(mem):
    """Does not check whether another CPU set the bit meanwhile."""
    pfn = lowest_free(mem)
    if pfn >= 0:
        fetch_or(mem, BITMAP, 1 << pfn)
    return pfn


@kernel
def bitmap_take(mem, cpu, careless):
    entry = log_call(mem, LOG, cpu, ALLOC, 0, 0)
    return log_return(mem, LOG, entry, careless_take(mem) if careless else sound_take(mem))


@kernel
def bitmap_put(mem, cpu, pfn, early):
    """Free a page; ``early``: clear its bit before the call is logged."""
    if early:
        fetch_and(mem, BITMAP, ~(1 << pfn))
    entry = log_call(mem, LOG, cpu, FREE, pfn, 0)
    if not early:
        fetch_and(mem, BITMAP, ~(1 << pfn))
    return log_return(mem, LOG, entry, 0)


@kernel
def sound_user(mem, cpu):
    return use_bitmap(mem, cpu, 0, 0)


@kernel
def user_of_careless_take(mem, cpu):
    return use_bitmap(mem, cpu, 1, 0)


@kernel
def user_of_early_put(mem, cpu):
    return use_bitmap(mem, cpu, 0, 1)


@kernel
def use_bitmap(mem, cpu, careless, early):
    for _ in range(2):
        pfn = bitmap_take(mem, cpu, careless)
        if pfn >= 0:
            bitmap_put(mem, cpu, pfn, early)
    return 0


def verdicts_of(user, engine: str, count: int = 300) -> Counter[str]:
    area = LogArea(LOG, 3, CAPACITY)
    program = with_log(Program("bitmap", LOG, [user] * 3), area)
    return Counter(
        check(history, allocator(BITMAP_PAGES, 0)).verdict
        for _, history in schedules(program, area, count, engine=engine)
    )


@ENGINES
def test_a_sound_bitmap_passes_in_every_schedule(engine):
    assert set(verdicts_of(sound_user, engine)) == {"linearizable"}


@ENGINES
def test_a_block_that_is_given_out_twice_is_caught(engine):
    assert verdicts_of(user_of_careless_take, engine)["not-linearizable"] > 20


@ENGINES
def test_a_block_that_is_free_before_its_free_is_called_is_caught(engine):
    assert verdicts_of(user_of_early_put, engine)["not-linearizable"] > 5


def test_the_report_of_a_double_allocation_names_both_owners():
    area = LogArea(LOG, 3, CAPACITY)
    program = with_log(Program("bitmap", LOG, [user_of_careless_take] * 3), area)
    found = next(
        found
        for _, history in schedules(program, area, 300)
        if not (found := check(history, allocator(BITMAP_PAGES, 0))).ok
    )
    report = found.report()
    (part,) = found.failed
    assert part.blocked in found.unplaced
    assert f"client {part.blocked.client} returned from: {part.blocked.name} " in report
    assert "can end with  live: " in report


# --- native runs ---------------------------------------------------------------------------------
ROUNDS = 1000
THREADS = 3
OWNER, COUNTER, STARTED, NATIVE_LOG = 0, 1, 2, 4


@kernel
def locked_counter(mem, cpu):
    """Waits for the others, then adds 1 to a plain word under a lock, ``ROUNDS`` times."""
    fetch_add(mem, STARTED, 1)
    while load(mem, STARTED) < THREADS:
        give_way(mem)
    for _ in range(ROUNDS):
        entry = log_call(mem, NATIVE_LOG, cpu, 1, 1, 0)
        while not cas(mem, OWNER, 0, cpu + 1):
            give_way(mem)
        before = mem[COUNTER]
        mem[COUNTER] = before + 1
        store(mem, OWNER, 0)
        log_return(mem, NATIVE_LOG, entry, before)
    return 0


@pytest.fixture(scope="module")
def native_history() -> list[Operation]:
    """Of three threads at full speed: compiled kernels run without the interpreter's lock."""
    area = LogArea(NATIVE_LOG, THREADS, ROUNDS)
    ram = Ram.of_words(area.at + area.words)
    prepare_log(ram.array, area)
    run = get_engine("native").bind(locked_counter)
    threads = [threading.Thread(target=run, args=(ram, cpu)) for cpu in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return read_log(ram.array, area, lambda entry: Meaning("add", entry.a, entry.result))


def test_native_stamps_come_from_one_counter(native_history):
    stamps = [stamp for one in native_history for stamp in (one.call, one.returned)]
    assert sorted(stamps) == list(range(1, 2 * THREADS * ROUNDS + 1))


def test_a_native_history_of_a_locked_counter_is_linearizable(native_history):
    assert check(native_history, models.register()).ok


def test_one_wrong_result_in_a_native_history_is_caught(native_history):
    wrong = replace(native_history[-1], result=native_history[-1].result - 1)
    assert not check([*native_history[:-1], wrong], models.register()).ok


# --- the log -------------------------------------------------------------------------------------
AREA = LogArea(0, 2, 2)


def empty_log() -> Ram:
    ram = Ram.of_words(AREA.words)
    prepare_log(ram, AREA)
    return ram


def test_the_kernels_of_the_log_keep_the_dialect():
    assert [v for f in (histories.log_at, log_call, log_return) for v in violations(f)] == []


def test_a_log_gives_back_what_was_written_in_the_order_of_calls():
    ram = empty_log()
    first = log_call(ram, 0, 1, ALLOC, 3, 0)
    second = log_call(ram, 0, 0, FREE, 8, 2)
    assert log_return(ram, 0, first, 16) == 16
    log_return(ram, 0, second, -4)
    assert read_log(ram.array, AREA) == [
        Operation(1, "alloc", 3, 16, 1, 3),
        Operation(0, "free", (8, 2), False, 2, 4),
    ]


def test_what_did_not_return_is_pending():
    ram = empty_log()
    log_call(ram, 0, 0, ALLOC, 0, 0)
    (operation,) = read_log(ram.array, AREA)
    assert operation.pending


def test_a_cpu_that_died_before_its_call_was_stamped_had_not_begun():
    ram = empty_log()
    entry = log_call(ram, 0, 0, ALLOC, 0, 0)
    ram[entry + histories.ENTRY_CALL] = 0
    assert read_log(ram.array, AREA) == []


def test_a_log_that_was_too_short_is_refused():
    ram = empty_log()
    for _ in range(AREA.capacity + 1):
        log_return(ram, 0, log_call(ram, 0, 1, ALLOC, 0, 0), c.E_NOMEM)
    with pytest.raises(MisuseError, match="cpu 1 had room for 2 operations and made 1 more"):
        read_log(ram.array, AREA)


def test_an_entry_that_means_nothing_is_refused():
    ram = empty_log()
    log_call(ram, 0, 0, 77, 0, 0)
    with pytest.raises(MisuseError, match="what=77"):
        read_log(ram.array, AREA)


def test_logs_do_not_share_words():
    ram = empty_log()
    for cpu in range(AREA.cpus):
        for number in range(AREA.capacity):
            log_return(ram, 0, log_call(ram, 0, cpu, ALLOC, number, 0), cpu)
    told = [(one.client, one.argument, one.result) for one in read_log(ram.array, AREA)]
    assert told == [(0, 0, 0), (0, 1, 0), (1, 0, 1), (1, 1, 1)]
