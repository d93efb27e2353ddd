"""Calls of kernels from Python: an exception never a crash, threads, forks, and one image."""

from __future__ import annotations

import ast
import gc
import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import pytest

import shmalloc
from shmalloc import constants as c
from shmalloc import cpus
from shmalloc.arena import Arena
from shmalloc.compiler import notice, obtain
from shmalloc.dialect import is_kernel
from shmalloc.engine import Engine, get_engine, plans
from shmalloc.errors import ArithmeticFault, CorruptionError, KernelFault, MisuseError, OutsideFault
from shmalloc.memory import Ram
from support import calling

FACES = [
    importlib.import_module(f"shmalloc.{found.name}")
    for found in pkgutil.iter_modules(shmalloc.__path__)
    if not found.ispkg
]
SMALL = {"page_bytes": 256, "cpus": 2, "max_order": 4, "pageblock_order": 2}
WORDS = 64
THREADS = 8
PATIENCE_S = 30.0


@pytest.fixture
def arena(engine: Engine) -> Iterator[Arena]:
    with Arena.create(size=128 * 256, engine=engine.name, **SMALL) as made:
        yield made


@pytest.fixture(params=[False, True], ids=["keeps the lock", "releases the lock"])
def call(request: pytest.FixtureRequest) -> Callable[[FunctionType], Callable[..., Any]]:
    """A kernel as a native builtin over one memory, in both variants."""
    ram = Ram.of_words(WORDS)
    native = get_engine("native")
    return lambda kernel: native.builtin(kernel, ram, releases=request.param)


# --- one plan ------------------------------------------------------------------------------------
def kernels_of(face: ModuleType) -> set[FunctionType]:
    """The kernels that a file imports by name, or names as members of a module of kernels."""
    found = {value for value in vars(face).values() if is_kernel(value)}
    for node in ast.walk(ast.parse(inspect.getsource(face))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            home = vars(face).get(node.value.id)
            if isinstance(home, ModuleType) and home.__name__.startswith("shmalloc.kernels"):
                found.add(getattr(home, node.attr))
    return {kernel for kernel in found if is_kernel(kernel)}


def test_the_plan_of_an_arena_is_what_its_files_call() -> None:
    wanted = set().union(*(kernels_of(face) for face in FACES))
    assert wanted == set(plans.arena())


def test_every_kernel_of_an_arena_has_the_same_plan() -> None:
    assert all(plans.plan_of(kernel) == plans.arena() for kernel in plans.arena())


EVERYTHING = """
from shmalloc import Arena
from shmalloc.compiler import obtain
with Arena.create(size="1MiB") as arena:
    images = len(obtain._images)
    arena.free_pages(arena.alloc_pages(2), 2)
    arena.free_pages_bulk(arena.alloc_pages_bulk(5))
    arena.kfree(arena.kmalloc(100))
    cache = arena.cache("some", 40)
    cache.free_bulk(cache.alloc_bulk(3))
    cache.destroy()
    arena.zeros(1000).close()
    arena.drain()
    with Arena.attach(arena.name) as other:
        arena.unplug(other.cpu)
        arena.plug(other.cpu)
    arena.recover()
    assert arena.validate() == []
print(images, len(obtain._images))
"""


def test_an_arena_needs_one_image() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", EVERYTHING], capture_output=True, text=True, timeout=120
    )
    assert (ended.stdout, ended.returncode) == ("1 1\n", 0), ended.stderr


# --- exceptions ----------------------------------------------------------------------------------
@pytest.mark.parametrize("arguments", [(), (0,), (0, 1, 2), tuple(range(40))])
def test_a_wrong_number_of_ints_is_a_type_error_that_names_them(
    call: Callable[..., Any], arguments: tuple[int, ...]
) -> None:
    with pytest.raises(TypeError, match=rf"peek\(\) takes 2 ints \(cpu, i\), not {len(arguments)}"):
        call(calling.peek)(*arguments)


@pytest.mark.parametrize("wrong", ["1", 1.0, None, b"1", [1], 1 + 0j, np.float64(1)])
def test_what_is_no_int_is_a_type_error(call: Callable[..., Any], wrong: object) -> None:
    peek = call(calling.peek)
    for arguments in ((wrong, 0), (0, wrong)):
        with pytest.raises(TypeError):
            peek(*arguments)


@pytest.mark.parametrize("wrong", [1 << 63, 1 << 70, -(1 << 63) - 1])
def test_an_int_of_more_than_64_bits_is_an_overflow_error(
    call: Callable[..., Any], wrong: int
) -> None:
    with pytest.raises(OverflowError):
        call(calling.peek)(0, wrong)


def test_keywords_are_a_type_error(call: Callable[..., Any]) -> None:
    with pytest.raises(TypeError):
        call(calling.peek)(cpu=0, i=0)


def test_what_an_index_raises_comes_out(call: Callable[..., Any]) -> None:
    class Stubborn:
        def __index__(self) -> int:
            raise ZeroDivisionError("no number today")

    with pytest.raises(ZeroDivisionError, match="no number today"):
        call(calling.peek)(0, Stubborn())


@pytest.mark.parametrize("number", [-1, 0, (1 << 63) - 1, -(1 << 63), np.int64(-7), np.uint8(9)])
def test_every_int64_comes_through(call: Callable[..., Any], number: int) -> None:
    assert call(calling.both)(3, 5, number) == (int(number), 5)


def test_a_fault_says_where_and_on_which_cpu(call: Callable[..., Any]) -> None:
    with pytest.raises(OutsideFault) as outside:
        call(calling.peek)(3, WORDS)
    fault: KernelFault = outside.value
    line = inspect.getsourcelines(calling.peek)[1] + 2
    assert (fault.kernel, fault.line) == ("support.calling.peek", line)
    assert (fault.kind, fault.cpu, fault.index) == ("outside", 3, WORDS)
    with pytest.raises(ArithmeticFault) as division:
        call(calling.divide)(2, 1, 0)
    assert (division.value.kind, division.value.cpu) == ("division", 2)


def test_a_fault_leaves_the_builtin_usable(call: Callable[..., Any]) -> None:
    peek = call(calling.peek)
    for _ in range(1000):
        with pytest.raises(OutsideFault):
            peek(0, -1)
    assert peek(0, 0) == 0


ANOTHER = """
import sys
from shmalloc import Arena
with Arena.attach(sys.argv[1]) as arena:
    pages = arena.alloc_pages_bulk(8)  # needs the lock of the zone
    arena.free_pages_bulk(pages)
    print("allocated", len(pages))
"""


@pytest.fixture
def faulted() -> Iterator[Arena]:
    """An arena of which this process ended in a kernel, with the lock of its zone held."""
    with Arena.create(size="4MiB", cpus=4) as arena:
        with pytest.raises(OutsideFault, match="lock_and_fault"):
            arena.run(calling.lock_and_fault, arena.segment.layout.zone(0) + c.Z_LOCK)
        yield arena


def test_what_a_faulted_call_had_locked_others_recover(faulted: Arena) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ANOTHER, faulted.name],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert (done.stdout, done.stderr) == ("allocated 8\n", "")


def test_an_arena_refuses_to_go_on_after_a_fault(faulted: Arena) -> None:
    with pytest.raises(MisuseError, match="ended in a fault; close this arena and attach again"):
        faulted.alloc_pages()


def test_a_fault_of_a_fork_does_not_end_the_life_of_its_parent() -> None:
    with Arena.create(size="4MiB", cpus=4) as arena:
        child = os.fork()
        if child == 0:
            try:
                arena.run(calling.peek, -1)
            except OutsideFault:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert [slot.cpu for slot in cpus.slots(arena.segment) if slot.dead] == [1]


def test_closing_waits_for_a_thread_that_is_in_a_kernel() -> None:
    arena = Arena.create(size="4MiB", cpus=4)
    at = arena.segment.layout.frame(arena.alloc_pages())
    arena.segment.ram[at] = arena.segment.ram[at + 1] = 0
    slept: list[int] = []
    thread = threading.Thread(
        target=lambda: slept.append(arena.run(calling.sleep_until_set, at, 10))
    )
    thread.start()
    until(lambda: arena.segment.ram.load(at + 1) > 0, "the thread to sleep in the kernel")
    arena.close()
    thread.join(PATIENCE_S)
    assert slept == [10]


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for a condition; the watchdog names it."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, f"waited {PATIENCE_S:g} s for {what}"
        time.sleep(0.001)


# --- closed, dropped, forked ---------------------------------------------------------------------
HOT = {
    "_do_alloc_pages": 3,
    "_do_free_pages": 2,
    "_do_free_pages_of": 3,
    "_do_kmalloc": 1,
    "_do_kfree": 1,
    "_do_cache_alloc": 1,
    "_do_cache_free": 2,
    "_do_make_array": 1,
    "_do_exchange_array": 3,
    "_do_make_run": 2,
    "_do_drop_array": 2,
    "_do_open_array": 2,
    "_do_send_array": 2,
    "_do_load_array": 4,
    "_do_try_alloc_pages": 3,
    "_do_try_free_pages": 3,
}


@pytest.mark.parametrize("name", HOT)
def test_a_builtin_of_a_closed_arena_raises_also_when_that_is_gone(name: str) -> None:
    made = Arena.create(size=128 * 256, **SMALL)
    call = getattr(made, name)
    made.close()
    with pytest.raises(MisuseError, match="the memory is closed"):
        call(*range(HOT[name] + 1))
    del made
    gc.collect()
    with pytest.raises(MisuseError, match="the memory is closed"):
        call(*range(HOT[name] + 1))


def test_every_builtin_of_an_arena_is_tried_here(arena: Arena) -> None:
    assert {name for name in vars(arena) if name.startswith("_do_")} == set(HOT)


def test_every_method_of_a_closed_arena_raises(arena: Arena) -> None:
    cache = arena.cache("some", 32)
    address, pfn, array = cache.alloc(), arena.alloc_pages(), arena.empty(3)
    handle, block = array.handle(), arena.kmalloc(10)
    arena.close()
    calls: list[Callable[[], object]] = [
        arena.alloc_pages,
        lambda: arena.free_pages(pfn),
        lambda: arena.free_pages(pfn, 0, owner=3),
        cache.alloc,
        lambda: cache.free(address),
        lambda: arena.kmalloc(10),
        lambda: arena.kfree(block),
        lambda: arena.empty(3),
        lambda: arena.open_array(handle),
        lambda: arena.usable_bytes(block),
        lambda: arena.alloc_pages_bulk(3),
        arena.recover,
    ]
    for work in calls:
        with pytest.raises(MisuseError, match="is closed"):
            work()
    assert array.close() == 0


def test_a_builtin_keeps_its_memory(call: Callable[..., Any]) -> None:
    ram = Ram.of_words(WORDS)
    ram[7] = 77
    peek = get_engine("native").builtin(calling.peek, ram, releases=False)
    del ram
    gc.collect()
    noise = [Ram.of_words(WORDS) for _ in range(50)]
    assert peek(0, 7) == 77
    assert len(noise) == 50


def test_nothing_of_an_arena_is_kept_when_it_is_gone() -> None:
    gc.collect()
    before, listeners = len(obtain._records), len(notice._listeners)
    for _ in range(3):
        with Arena.create(size=128 * 256, **SMALL) as made:
            made.free_pages(made.alloc_pages())
            made.kfree(made.kmalloc(8))
            made.empty(5).close()
            assert len(obtain._records) > before
        del made
    gc.collect()
    assert (len(obtain._records), len(notice._listeners)) == (before, listeners)


def test_a_fork_goes_on_with_the_same_builtins() -> None:
    with Arena.create(size=128 * 256, **SMALL) as made:
        pfn = made.alloc_pages()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                other = made.alloc_pages()
                owner = made.segment.ram[made.segment.layout.descriptor(other) + 1]
                made.free_pages(other)
                status = 0 if other != pfn and owner == os.getpid() else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        made.free_pages(pfn)
        assert made.validate() == []


# --- threads -------------------------------------------------------------------------------------
def in_threads(work: Callable[[], object], count: int = THREADS) -> None:
    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_many_threads_call_one_builtin(call: Callable[..., Any]) -> None:
    count, peek = call(calling.count_up), call(calling.peek)
    in_threads(lambda: [count(0, 8, 50) for _ in range(200)])
    assert peek(0, 8) == THREADS * 200 * 50


def test_faults_of_many_threads_are_not_mixed_up(call: Callable[..., Any]) -> None:
    peek, wrong = call(calling.peek), []

    def work() -> None:
        me = threading.get_ident() % 1000
        for k in range(300):
            try:
                peek(me, WORDS + k)
            except OutsideFault as fault:
                if (fault.cpu, fault.index) != (me, WORDS + k):
                    wrong.append(fault)

    in_threads(work)
    assert wrong == []


def test_many_threads_use_one_arena() -> None:
    with Arena.create(size="1MiB", **{**SMALL, "page_bytes": 4096}) as made:
        cache = made.cache("threads", 48)

        def work() -> None:
            for k in range(300):
                pfn, address = made.alloc_pages(k % 3), cache.alloc()
                array = made.empty(20)
                made.free_pages(pfn, k % 3)
                cache.free(address)
                array.close()

        in_threads(work)
        assert made.validate() == []
        assert made.violations() == []


def test_a_sleeper_in_a_kernel_keeps_no_thread_from_running(call: Callable[..., Any]) -> None:
    """The kernel gives up after a while, so this ends even if no other thread may run."""
    rounds, slept = int(PATIENCE_S / 0.05), []
    sleep, wake_up = call(calling.sleep_until_set), call(calling.set_word)
    thread = threading.Thread(target=lambda: slept.append(sleep(0, 8, rounds)), daemon=True)
    thread.start()
    while call(calling.peek)(0, 9) == 0:
        time.sleep(0.001)
    wake_up(0, 8)
    thread.join(2 * PATIENCE_S)
    assert len(slept) == 1
    assert 0 < slept[0] < rounds


def test_what_a_listener_raises_is_raised_after_the_call(call: Callable[..., Any]) -> None:
    sleep = call(calling.sleep_until_set)
    record = obtain._records[sleep.__self__]
    heard = []

    def listener(index: int) -> None:
        heard.append(index)
        raise LookupError(f"word {index}: no owner")

    notice.listen(record.memory.place_address, listener)
    try:
        with pytest.raises(LookupError, match="word 8: no owner"):
            sleep(0, 8, 2)
    finally:
        notice.listen(record.memory.place_address, None)
    assert set(heard) == {8}
    assert sleep(0, 8, 1) == 1  # raised once


# --- what the faces take -------------------------------------------------------------------------
def test_numpys_ints_are_ints(arena: Arena) -> None:
    pfn = arena.alloc_pages(np.int8(1))
    arena.free_pages(np.int64(pfn), np.uint16(1))
    address = arena.kmalloc(np.int32(24))
    assert arena.usable_bytes(np.int64(address)) >= 24
    arena.kfree(np.int64(address))
    cache = arena.cache("some", np.int64(16))
    cache.free(np.int64(cache.alloc()))
    arena.free_pages_bulk(np.array(arena.alloc_pages_bulk(np.int64(3))))
    assert arena.validate() == []


@pytest.mark.parametrize("wrong", [True, False, np.True_, 1.0, "1", None, 1 << 70, -(1 << 70)])
def test_a_wrong_argument_is_a_misuse(arena: Arena, wrong: Any) -> None:
    cache = arena.cache("some", 16)
    calls: list[Callable[[], object]] = [
        lambda: arena.alloc_pages(wrong),
        lambda: arena.free_pages(wrong),
        lambda: arena.free_pages(0, wrong),
        lambda: arena.kmalloc(wrong),
        lambda: arena.kfree(wrong),
        lambda: cache.free(wrong),
        lambda: arena.free_pages_bulk([wrong]),
        lambda: arena.page(wrong),
    ]
    for work in calls:
        with pytest.raises(MisuseError, match=r"use (an int from|the pfn|the address)"):
            work()
    assert arena.violations() == []


def test_a_misuse_is_reported_once(arena: Arena) -> None:
    pfn = arena.alloc_pages()
    arena.free_pages(pfn)
    with pytest.raises(CorruptionError):
        arena.free_pages(pfn)
    assert len(arena.violations()) == 1


def test_memory_that_ran_out_is_counted_once(arena: Arena) -> None:
    with pytest.raises(MemoryError):
        while True:
            arena.alloc_pages(4)
    assert arena.statistics().events["fail"] == 1
