"""Arenas and arrays that are read-only: what they show, what they refuse, and that they hold it."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import pickle
import signal
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pytest

from shmalloc import Arena, MisuseError
from shmalloc.arena import open_array
from support.reading import work

WATCHDOG_S = 60


@pytest.fixture
def arena() -> Iterator[Arena]:
    with Arena.create(size="4MiB", cpus=8) as made:
        yield made


@pytest.fixture
def reader(arena: Arena) -> Iterator[Arena]:
    with Arena.attach(arena.name, readonly=True) as attached:
        yield attached


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_reader_sees_arrays_refuses_changes_and_keeps_what_it_reads(
    arena: Arena, reader: Arena, method: str
) -> None:
    context: Any = multiprocessing.get_context(method)
    arena.cache("known", 16)
    pfn = arena.alloc_pages()
    ours, theirs = context.Pipe()
    given, sealed = arena.full(64, 5.0), arena.array(np.arange(3.0), readonly=True)
    arguments = (reader, given, sealed, theirs, pfn)
    worker = context.Process(target=work, args=arguments, daemon=True)
    worker.start()
    ours.send(arena.send(given[:4]))
    assert ours.poll(WATCHDOG_S), "the worker told nothing"
    told, forwarded = ours.recv()
    assert told == {
        "readonly": True,
        "accepted": [],
        "values": [5.0] * 4,
        "writeable": [False, False],
        "page": True,
        "free": True,
        "found": True,
        "again": True,
    }
    given[0] = 6.0
    assert forwarded[0] == 6.0
    del given, sealed, forwarded, arguments
    gc.collect()
    overwritten = [arena.full(64, 777.0) for _ in range(50)]
    ours.send("dropped")
    assert ours.poll(WATCHDOG_S), "the worker told nothing"
    assert ours.recv() == ([6.0, 5.0, 5.0, 5.0], [0.0, 1.0, 2.0])
    worker.join(WATCHDOG_S)
    assert worker.exitcode == 0
    del overwritten
    arena.recover()
    assert (arena.leaks(), arena.validate()) == ([], [])


def test_no_flag_makes_a_read_only_array_writable(arena: Arena, reader: Arena) -> None:
    x = arena.zeros(3)
    handle = x.handle()
    sealed = arena.array([1.0], readonly=True)
    for array in (
        sealed,
        reader.open_array(handle),
        reader.open(arena.send(x)),
        arena.open_array(handle, readonly=True),
        open_array(handle, readonly=True),
        arena.open(arena.send(x), readonly=True),
        arena.open(arena.send(sealed)),
        pickle.loads(ForkingPickler.dumps(sealed[:])),
    ):
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_a_write_past_numpy_ends_the_process_and_not_the_data(arena: Arena, reader: Arena) -> None:
    x = arena.full(3, 5.0)
    opened = reader.open_array(x.handle())
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)  # pytest's handler would print a trace
        ctypes.memset(opened.ctypes.data, 0, 8)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGSEGV
    assert x.tolist() == [5.0] * 3


def test_a_read_only_array_is_the_same_memory(arena: Arena, reader: Arena) -> None:
    x = arena.array(np.arange(12.0).reshape(3, 4))
    opened = reader.open(arena.send(x[1:, ::2]))
    x += 1
    assert (opened.tolist(), opened.references) == ([[5.0, 7.0], [9.0, 11.0]], 2)


def test_a_reader_forwards_what_it_reads(arena: Arena, reader: Arena) -> None:
    opened = reader.open(arena.send(arena.array(np.arange(5))))
    forwarded = arena.open(reader.send(opened[2:]))
    assert (forwarded.tolist(), forwarded.flags.writeable) == ([2, 3, 4], False)


def test_a_view_outlives_a_closed_reader(arena: Arena) -> None:
    with Arena.attach(arena.name, readonly=True) as reader:
        view = reader.open(arena.send(arena.full(3, 5.0)))[1:]
        page = reader.page(0)
    assert (reader.closed, view.tolist(), len(page)) == (
        True,
        [5.0, 5.0],
        arena.geometry.page_bytes,
    )


def test_a_reader_loads_atomics_and_changes_none(arena: Arena, reader: Arena) -> None:
    number, pair = arena.atomic(7), arena.atomic_pair(1, 2)
    opened = reader.open_structure(number.handle)
    assert (opened.load(), reader.open_structure(pair.handle).load()) == (7, (1, 2))
    with pytest.raises(MisuseError, match="only; attach without"):
        opened.add(1)
    assert number.load() == 7


def test_an_arena_that_writes_is_taken_before_one_that_reads(arena: Arena, reader: Arena) -> None:
    x = arena.zeros(3)
    assert pickle.loads(ForkingPickler.dumps(x))._ref.arena is arena
    assert pickle.loads(pickle.dumps(reader)) is reader
