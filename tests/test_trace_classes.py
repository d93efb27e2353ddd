"""Keys of executed schedules: equal for exactly the schedules that are equivalent."""

from __future__ import annotations

from functools import cache

import pytest

from support import reference
from support.litmus_programs import COUNTED, LITMUS
from support.trace_classes import Executed, trace_key


@cache
def programs() -> list[reference.Straight]:
    """Not made at import: every worker process would wait for the random ones."""
    return [
        *(litmus.program for litmus in LITMUS),
        *(counted.program for counted in COUNTED),
        *(reference.random_straight_program(seed, 1000, ("choose",)) for seed in range(100, 150)),
    ]


def executed(execution: tuple[reference.Event, ...]) -> list[Executed]:
    """A schedule of the reference as an explorer reports it, which does not say whose value is
    flushed: flushes are numbered by their time. Names of stores are those of ops.py."""
    events = []
    for at, (name, op, word, _, writes, _) in enumerate(execution):
        local = at if name.flush else name.k
        op = "store_relaxed" if op == "relaxed" else op
        wrote = writes == set(reference.words_of(op, word))
        events.append(Executed(name.cpu, local, op, word, wrote, tuple(sorted(writes))))
    return events


def key(*steps: tuple[int, str, int, bool], buffered: bool = False) -> object:
    """Of (cpu, op, word, wrote); each CPU numbers its steps."""
    events = []
    for cpu, op, word, wrote in steps:
        local = sum(event.cpu == cpu and event.op != "flush" for event in events)
        events.append(Executed(cpu, local, op, word, wrote))
    return trace_key(events, buffered)


def swapped(one: tuple[int, str, int, bool], other: tuple[int, str, int, bool]) -> bool:
    """Whether the order of the two makes a difference."""
    return key(one, other) != key(other, one)


@pytest.mark.parametrize("model", reference.MEMORY_MODELS)
def test_keys_divide_schedules_as_the_reference_does(model):
    for program in programs():
        if reference.schedules(program, model) > 3000:
            continue
        pairs = {
            (reference.class_key(execution), trace_key(executed(execution), buffered=model != "sc"))
            for execution in reference.executions(program, model)
        }
        ours, theirs = {pair[1] for pair in pairs}, {pair[0] for pair in pairs}
        assert len(ours) == len(theirs) == len(pairs), program


@pytest.mark.parametrize(
    "op", ["write", "store", "store_relaxed", "exchange", "fetch_add", "fetch_or", "fetch_and"]
)
def test_writes_of_a_word_are_ordered(op):
    assert swapped((0, op, 4, True), (1, op, 4, True))
    assert not swapped((0, op, 4, True), (1, op, 5, True))


@pytest.mark.parametrize("op", ["read", "load", "load_relaxed"])
def test_reads_commute_with_reads_but_not_with_writes(op):
    assert not swapped((0, op, 4, False), (1, op, 4, False))
    assert swapped((0, op, 4, False), (1, "store", 4, True))


def test_a_failed_cas_is_a_read():
    assert not swapped((0, "cas", 4, False), (1, "cas", 4, False))
    assert swapped((0, "cas", 4, False), (1, "cas", 4, True))


@pytest.mark.parametrize(("op", "wrote"), [("load2", False), ("cas2", False), ("cas2", True)])
def test_pairs_concern_two_words(op, wrote):
    assert swapped((0, op, 4, wrote), (1, "store", 5, True))
    assert not swapped((0, op, 4, wrote), (1, "store", 6, True))


def test_a_wake_is_ordered_against_waits_and_a_wait_against_writes():
    assert swapped((0, "wait", 4, False), (1, "wake", 4, False))
    assert swapped((0, "wake", 4, False), (1, "wake", 4, False))
    assert swapped((0, "wait", 4, False), (1, "store", 4, True))
    assert not swapped((0, "wait", 4, False), (1, "wait", 4, False))
    assert not swapped((0, "wake", 4, False), (1, "store", 4, True))


@pytest.mark.parametrize("op", ["fence", "relax", "finish", "mark", "fixed"])
def test_what_concerns_no_place_is_ordered_against_nothing(op):
    assert not swapped((0, op, 4, False), (1, "store", 4, True))


def test_one_more_event_is_another_class():
    once, twice = [(0, "relax", 0, False)], [(0, "relax", 0, False)] * 2
    assert key(*once) != key(*twice)


def test_a_buffered_store_is_no_write_until_it_is_flushed():
    store, flush, look = (0, "store", 4, False), (0, "flush", 4, True), (1, "load", 4, False)
    first, between = key(look, store, flush, buffered=True), key(store, look, flush, buffered=True)
    assert first == between != key(store, flush, look, buffered=True)


def test_a_read_served_by_the_own_buffer_is_ordered_against_its_flush_only():
    store, look, flush = (0, "store", 4, False), (0, "load", 4, False), (0, "flush", 4, True)
    alien = (1, "exchange", 4, True)
    served = key(store, alien, look, flush, buffered=True)
    assert served == key(store, look, alien, flush, buffered=True)
    assert served != key(store, alien, flush, look, buffered=True)


def test_how_flushes_are_numbered_does_not_matter():
    store, load = Executed(0, 0, "store", 4, False), Executed(1, 0, "load", 4, False)
    flushes = (Executed(0, local, "flush", 4, True) for local in (1, 7))
    first, second = (trace_key([store, flush, load], buffered=True) for flush in flushes)
    assert first == second


def test_an_unknown_op_has_no_silent_rule():
    with pytest.raises(AssertionError, match="no rule for the op 'teleport'"):
        key((0, "teleport", 4, False))
