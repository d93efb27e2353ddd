"""The linearizability checker: against the definition, on known histories, within budgets."""

from __future__ import annotations

import random
import threading
from dataclasses import replace

import pytest

from shmalloc.errors import MisuseError
from stress.linearize import ANY, Model, OneOf, Operation, Recorder, check, keyed, models
from stress.linearize.allocator import allocator
from stress.linearize.search import Search, Spending
from stress.linearize.simulate import Intent, simulate
from support.linearize_brute import (
    has_order,
    keeps_programs,
    keeps_time,
    random_history,
    states_after,
)

O = Operation  # noqa: E741 - histories are tables
EMPTY = models.EMPTY


def bag_step(state: frozenset[int], operation: Operation) -> object:
    """A bag that gives any of its items: a step with a choice if the result is not known."""
    if operation.name == "put":
        return state | {operation.argument}
    if operation.pending:
        return OneOf(state - {item} for item in state)
    return state - {operation.result} if operation.result in state else None


def coin_step(state: int, operation: Operation) -> object:
    """A counter that moves by one or two, nondeterministically."""
    if operation.name == "move":
        return OneOf({state + 1, state + 2})
    return state if operation.result == state else None


BAG = Model(frozenset(), bag_step, by_client=False, name="bag")
COIN = Model(0, coin_step, observes=lambda one: one.name == "read", name="coin")
KINDS = {
    "register": (models.register(), [
        ("read", None, 0), ("read", None, 1), ("write", 1, None), ("write", 0, None),
        ("cas", (0, 1), True), ("cas", (1, 0), False), ("add", 1, 0),
    ]),
    "queue": (models.queue(), [
        ("enqueue", 1, None), ("enqueue", 2, None), ("dequeue", None, 1), ("dequeue", None, 2),
        ("dequeue", None, EMPTY),
    ]),
    "stack": (models.stack(), [
        ("push", 1, None), ("push", 2, None), ("pop", None, 1), ("pop", None, 2),
        ("pop", None, EMPTY),
    ]),
    "set": (models.hash_set(), [
        (name, element, told)
        for name in ("add", "remove", "contains") for element in (1, 2) for told in (True, False)
    ]),
    "lock": (models.lock(), [
        ("acquire", None, None), ("try_acquire", None, True), ("try_acquire", None, False),
        ("release", None, None), ("release", None, None),
    ]),
    "bag": (BAG, [("put", 1, None), ("put", 2, None), ("take", None, 1), ("take", None, 2)]),
    "coin": (COIN, [("move", None, None), *(("read", None, n) for n in (1, 2, 3))]),
    "allocator": (allocator(4, 1), [
        ("alloc", 0, 0), ("alloc", 0, 1), ("alloc", 1, 0), ("alloc", 1, 2), ("alloc", 0, None),
        ("free", (0, 0), True), ("free", (0, 1), True), ("free", (1, 0), True),
        ("free", (2, 1), True), ("free", (0, 0), False),
    ]),
    "allocator that never fails": (allocator(2, 0, failures="never"), [
        ("alloc", 0, 0), ("alloc", 0, 1), ("alloc", 0, None), ("free", (0, 0), True),
        ("free", (1, 0), True),
    ]),
}  # fmt: skip
EACH_MODEL = pytest.mark.parametrize("name", KINDS)


# --- against the definition ----------------------------------------------------------------------
@EACH_MODEL
@pytest.mark.parametrize("partition", [True, False])
def test_the_verdict_is_that_of_the_definition(name, partition, rng):
    model, kinds = KINDS[name]
    seen = set()
    for number in range(250):
        history = random_history(rng, kinds, 2 + number % 4)
        expected = (
            "linearizable" if has_order(definition_of(model), history) else "not-linearizable"
        )
        assert check(history, model, partition=partition).verdict == expected, history
        seen.add(expected)
    assert len(seen) == 2


def definition_of(model: Model) -> Model:
    """An allocator whose pending allocs guess their pfn, where ours has a credit; others as is."""
    if model.name != "allocator":
        return model
    pages, max_order = (4, 1) if model.init[0] == (0, 0) else (2, 0)
    may_fail = model.step(model.init, O(0, "alloc", 0, None, 1, 2)) is not None

    def step(live: frozenset[tuple[int, int]], operation: Operation) -> object:
        if operation.name == "free":
            there = operation.argument in live
            if there != bool(operation.result):
                return None
            return live - {operation.argument}
        order = operation.argument
        if operation.result is None:
            return live if may_fail else None
        chosen = range(0, pages, 1 << order) if operation.pending else [operation.result]
        return OneOf(
            live | {(pfn, order)}
            for pfn in chosen
            if order <= max_order
            and pfn % (1 << order) == 0
            and not any(a < pfn + (1 << order) and pfn < a + (1 << o) for a, o in live)
        )

    return Model(frozenset(), step)


@EACH_MODEL
def test_sequential_consistency_is_that_of_the_definition(name, rng):
    model, kinds = KINDS[name]
    for number in range(120):
        history = random_history(rng, kinds, 2 + number % 4)
        ok = has_order(definition_of(model), history, keeps_programs)
        assert check(history, model, consistency="sequential").ok == ok, history


@EACH_MODEL
def test_the_order_of_a_passed_part_is_legal_and_keeps_time(name, rng):
    model, kinds = KINDS[name]
    passed = 0
    for _ in range(500):
        history = random_history(rng, kinds, 4)
        for part in check(history, model).parts:
            if part.verdict == "linearizable":
                passed += 1
                assert states_after(model, part.order) and keeps_time(part.order)
                assert {o for o in part.operations if not o.pending} <= set(part.order)
    assert passed > 10


@EACH_MODEL
def test_a_partial_order_is_legal_keeps_time_and_none_of_the_unplaced_is_in_it(name, rng):
    model, kinds = KINDS[name]
    failed = 0
    for _ in range(500):
        for part in check(random_history(rng, kinds, 4), model).failed:
            failed += 1
            assert states_after(model, part.order) and keeps_time(part.order)
            assert part.unplaced and not set(part.unplaced) & set(part.order)
    assert failed > 10


@EACH_MODEL
def test_the_blocked_operation_is_the_one_at_whose_return_the_history_broke(name, rng):
    """A prefix ends at a return. The results of pending operations are known, as in the search."""
    model, kinds = KINDS[name]
    broken = 0
    for _ in range(300):
        history = random_history(rng, kinds, 5)
        for part in check(history, model, partition=False).failed:
            broken += 1
            until = part.blocked.returned
            assert not has_a_prefix_order(model, part.operations, until)
            earlier = [o.returned for o in part.operations if not o.pending and o.returned < until]
            assert not earlier or has_a_prefix_order(model, part.operations, max(earlier))
    assert broken > 10


def has_a_prefix_order(model: Model, operations: tuple[Operation, ...], until: float) -> bool:
    """Whether what returned by ``until`` has an order, with any of the calls until then."""
    must = [o for o in operations if not o.pending and o.returned <= until]
    may = [o for o in operations if o not in must and o.call < until]
    return any(
        has_order(definition_of(model), [*must, *(o for k, o in enumerate(may) if some >> k & 1)])
        for some in range(1 << len(may))
    )


# --- known histories -----------------------------------------------------------------------------
HERLIHY_WING = {  # Herlihy and Wing 1990, figure 1: histories of a queue
    "H1": (True, [O("A", "enqueue", "x", None, 1, 3), O("B", "enqueue", "y", None, 2, 4),
                  O("B", "dequeue", None, "x", 5, 7), O("A", "dequeue", None, "y", 6, 9),
                  O("A", "enqueue", "z", None, 10, None)]),
    "H2": (False, [O("A", "enqueue", "x", None, 1, 2), O("B", "enqueue", "y", None, 3, 5),
                   O("A", "dequeue", None, "y", 6, 7)]),
    "H3": (True, [O("A", "enqueue", "x", None, 1, None), O("B", "dequeue", None, "x", 2, 3)]),
    "H4": (False, [O("A", "enqueue", "x", None, 1, 4), O("B", "enqueue", "y", None, 2, 3),
                   O("A", "dequeue", None, "y", 5, 7), O("C", "dequeue", None, "y", 6, 8)]),
}  # fmt: skip


@pytest.mark.parametrize("name", HERLIHY_WING)
def test_the_queue_histories_of_herlihy_and_wing(name):
    expected, history = HERLIHY_WING[name]
    assert check(history, models.queue()).ok == expected


def test_a_stale_read_is_sequentially_consistent_but_not_linearizable():
    history = [O("A", "write", 1, None, 1, 2), O("B", "read", None, 0, 3, 4)]
    assert check(history, models.register()).verdict == "not-linearizable"
    found = check(history, models.register(), consistency="sequential")
    assert found.verdict == "sequentially-consistent"


def test_sequential_consistency_is_not_checked_by_parts():
    """Each register alone is sequentially consistent, both together are not (store buffering)."""
    history = [
        O("A", "write", 1, None, 1, 2, "x"),
        O("A", "read", None, 0, 3, 4, "y"),
        O("B", "write", 1, None, 1, 2, "y"),
        O("B", "read", None, 0, 3, 4, "x"),
    ]
    model = keyed(models.register())
    for key in "xy":
        alone = [one for one in history if one.key == key]
        assert check(alone, model, consistency="sequential").ok
    found = check(history, model, consistency="sequential")
    assert found.verdict == "not-sequentially-consistent"


def test_equal_stamps_order_nothing():
    history = [O("A", "write", 1, None, 1, 2), O("B", "read", None, 0, 2, 3)]
    assert check(history, models.register()).ok
    later = [history[0], replace(history[1], call=2.5)]
    assert not check(later, models.register()).ok


def test_an_empty_history_is_linearizable():
    assert check([], models.queue()).verdict == "linearizable"


# --- pending operations --------------------------------------------------------------------------
def test_a_pending_write_may_have_happened_or_not():
    write = O("A", "write", 1, None, 1, None)
    for value in (0, 1):
        assert check([write, O("B", "read", None, value, 2, 3)], models.register()).ok


def test_a_pending_write_may_happen_long_after_its_call_but_not_before():
    write = O("A", "write", 1, None, 5, None)
    before, after = O("B", "read", None, 1, 1, 2), O("B", "read", None, 1, 6, 7)
    assert check([write, O("B", "read", None, 0, 1, 4), after], models.register()).ok
    assert not check([write, before], models.register()).ok


def test_a_pending_write_happens_only_once():
    reads = [O("B", "read", None, v, t, t) for t, v in ((2, 1), (4, 1))]
    write, other = O("A", "write", 1, None, 1, None), O("B", "write", 2, None, 3, 3)
    assert not check([write, reads[0], other, reads[1]], models.register()).ok
    assert check(
        [write, replace(write, client="C"), reads[0], other, reads[1]], models.register()
    ).ok


def test_the_result_of_a_pending_operation_equals_everything():
    assert O("A", "read", None, 7, 1, None).result is ANY
    assert ANY == 7 and ANY == "x" and not ANY != 7  # noqa: SIM202


# --- parts ---------------------------------------------------------------------------------------
def many_registers(rng: random.Random, death: float) -> list[Operation]:
    cells = dict.fromkeys("abcd", 0)

    def write(key: str, value: int) -> None:
        cells[key] = value

    def begin(client: int) -> Intent:
        key, value = rng.choice("abcd"), rng.randrange(3)
        if rng.random() < 0.5:
            return Intent("read", None, lambda: cells[key], key)
        return Intent("write", value, lambda: write(key, value), key)

    return simulate(begin, 4, 60, rng, death)


@pytest.mark.parametrize("death", [0.0, 0.05])
def test_parts_and_the_whole_have_the_same_verdict(rng, death):
    model = keyed(models.register())
    verdicts = set()
    for number in range(60):
        history = many_registers(rng, death)
        if number % 2:
            k = rng.choice([k for k, o in enumerate(history) if o.name == "read" and not o.pending])
            history[k] = replace(history[k], result=(history[k].result + 1) % 3)
        split, whole = (check(history, model, partition=p) for p in (True, False))
        assert split.verdict == whole.verdict
        assert number % 2 or split.ok
        assert len(split.parts) == 4 and len(whole.parts) == 1
        verdicts.add(split.verdict)
    assert len(verdicts) == 2


# --- budgets -------------------------------------------------------------------------------------
def hard_history() -> list[Operation]:
    """Twelve overlapping enqueues and a dequeue of a missing item: 12! orders to refute."""
    enqueues = [O(k, "enqueue", k, None, 1, 10) for k in range(12)]
    return [*enqueues, O(0, "dequeue", None, EMPTY, 20, 20)]


def test_a_budget_of_configurations_that_ends_first_is_unknown():
    found = check(hard_history(), models.queue(), visited=1000, seconds=None)
    assert found.verdict == "unknown" and not found.ok
    assert found.visited == 1000
    assert len(found.partial["all"]) == 12
    assert "the budget ended" in found.report()


def test_a_budget_of_time_that_ends_first_is_unknown():
    found = check(hard_history(), models.queue(), seconds=0.05, visited=None)
    assert found.verdict == "unknown"
    assert 0.05 <= found.seconds < 5


def test_a_hard_part_does_not_hide_that_another_one_failed():
    hard = [replace(one, key="hard") for one in hard_history()]
    wrong = [O("W", "dequeue", None, "nothing", 1, 2, "wrong")] + [
        O(f"W{k}", "enqueue", k, None, 3, 4, "wrong") for k in range(20)
    ]
    found = check([*hard, *wrong], keyed(models.queue()), visited=500)
    assert found.verdict == "not-linearizable"
    assert {part.key: part.verdict for part in found.parts} == {
        "hard": "unknown",
        "wrong": "not-linearizable",
    }


def broken_registers(parts: int) -> list[Operation]:
    """Each key was read as 9, which was never written."""
    return [O("W", "read", None, 9, 1, 2, key) for key in range(parts)]


def test_the_first_part_that_fails_ends_the_check():
    found = check(broken_registers(4), keyed(models.register()))
    assert found.verdict == "not-linearizable"
    assert [part.verdict for part in found.parts].count("not-linearizable") == 1
    assert "3 other parts were not searched to their end" in found.report()


def test_what_easy_parts_leave_of_the_budget_is_for_the_hard_one():
    """The hard part alone takes almost all of the budget, and an equal share would not do."""
    hard = [replace(one, key="hard") for one in hard_history()[:6] + hard_history()[12:]]
    easy = [O("E", "enqueue", 1, None, 1, 2, key) for key in range(20)]
    alone = check(hard, models.queue(), visited=10_000)
    assert alone.verdict == "not-linearizable"
    together = check([*hard, *easy], keyed(models.queue()), visited=alone.visited + 21)
    assert together.verdict == "not-linearizable"


@EACH_MODEL
def test_a_search_in_turns_visits_what_one_in_a_single_turn_visits(name, rng):
    model, kinds = KINDS[name]
    for _ in range(20):
        history = random_history(rng, kinds, 4)
        once, turns = (Search("x", model, history) for _ in range(2))
        budget = Spending(None, None, 0.0)
        once.run(budget)
        while turns.found is None:
            turns.run(budget, 1)
        assert (once.found, once.part().visited) == (turns.found, turns.part().visited)


# --- reports -------------------------------------------------------------------------------------
def test_a_report_names_the_operation_that_broke_it_and_draws_what_overlapped():
    report = check(HERLIHY_WING["H2"][1], models.queue()).report()
    assert "until client A returned from: dequeue() -> 'y'" in report
    assert "can end with  ('x', 'y')" in report
    assert report.splitlines()[-4:-1] == [
        "  A    1 [---]                     enqueue(x) -> None",
        "  B    2         [---]             enqueue(y) -> None",
        "  A    !                 [---]     dequeue() -> 'y'",
    ]


def test_a_report_of_a_long_history_is_short():
    reads = [O(k % 5, "read", None, 0, 3 * k, 3 * k + 4) for k in range(2000)]
    wrong = O("W", "read", None, 9, 7000, 7001)
    report = check([*reads, wrong], models.register()).report()
    assert len(report.splitlines()) < 40
    assert "until client W returned from: read() -> 9" in report


# --- misuse --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("history", "arguments", "complaint"),
    [
        ([O("A", "read", None, 0, 2, 1)], {}, "before its call"),
        ([O("A", "fly", None, 0, 1, 2)], {}, "'fly' is none of this model"),
        ([], {"seconds": 0}, "seconds: 0"),
        ([], {"visited": 0}, "visited: 0"),
        ([], {"consistency": "strict"}, "use linearizable or sequential"),
        (
            [O("A", "read", None, 0, 1, 3), O("A", "read", None, 0, 2, 4)],
            {"consistency": "sequential"},
            "give each a client of its own",
        ),
    ],
)
def test_a_check_that_makes_no_sense_is_refused_with_the_cure(history, arguments, complaint):
    with pytest.raises(MisuseError, match=complaint):
        check(history, models.register(), **arguments)


def test_a_model_whose_state_cannot_be_kept_is_refused():
    with pytest.raises(MisuseError, match="cannot be hashed"):
        Model([], lambda state, operation: state)


# --- recording Python threads --------------------------------------------------------------------
def test_threads_that_use_a_locked_list_are_a_queue():
    recorder, items, mutex = Recorder(), [], threading.Lock()

    def work(client: int) -> None:
        for number in range(50):
            with recorder.operation(client, "enqueue", (client, number)), mutex:
                items.append((client, number))
            with recorder.operation(client, "dequeue") as ticket, mutex:
                ticket.result = items.pop(0) if items else EMPTY

    threads = [threading.Thread(target=work, args=(client,)) for client in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    history = recorder.history()
    assert len(history) == 300
    assert check(history, models.queue()).ok


def test_an_operation_that_raises_stays_pending():
    recorder = Recorder()
    with pytest.raises(RuntimeError), recorder.operation("A", "write", 1):
        raise RuntimeError
    assert [one.pending for one in recorder.history()] == [True]
