"""The reference itself: reference.py against the literature, against itself, and ``interpret``."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations, pairwise

import pytest

import model_programs as m
from support import reference
from support.litmus_programs import COUNTED, LITMUS, increments, strangers
from support.reference import Instruction, Name, Straight

every_model = pytest.mark.parametrize("model", reference.MEMORY_MODELS)


@pytest.fixture(scope="module")
def programs() -> list[Straight]:
    return [reference.random_straight_program(seed) for seed in range(150)]


@pytest.fixture(scope="module")
def small(programs: list[Straight]) -> list[Straight]:
    """Those of which every schedule can be taken apart."""
    return [program for program in programs if reference.schedules(program, "pso") <= 400]


@pytest.fixture(scope="module")
def wide() -> list[Straight]:
    """Programs with too many schedules to run: for ``outcomes`` only."""
    return [reference.random_straight_program(seed, limit=10**9) for seed in range(150)]


class Flat:
    """A memory for one CPU at a time, with no order to choose: what the words say they do."""

    def __init__(self, image: list[tuple[int, int]], words: int) -> None:
        self.words = [0] * words
        for at, value in image:
            self.words[at] = value

    def load(self, i: int) -> int:
        return self.words[i]

    def store(self, i: int, value: int) -> None:
        self.words[i] = value

    fixed = __getitem__ = load
    __setitem__ = store_relaxed = store

    def load2(self, i: int) -> tuple[int, int]:
        return self.words[i], self.words[i + 1]

    def choose(self, n: int) -> int:
        return n - 1

    def exchange(self, i: int, value: int) -> int:
        found, self.words[i] = self.words[i], value
        return found

    def fetch_add(self, i: int, delta: int) -> int:
        return self.exchange(i, self.words[i] + delta)

    def cas(self, i: int, old: int, new: int) -> bool:
        return self.words[i] == old and self.exchange(i, new) == old

    def cas2(self, i: int, old0: int, old1: int, new0: int, new1: int) -> bool:
        if self.load2(i) != (old0, old1):
            return False
        self.words[i : i + 2] = new0, new1
        return True

    def fence(self) -> None:
        """Do nothing: there is no other CPU to be ordered against."""

    def heavy_fence(self, i: int) -> None:
        """Likewise."""


def alone(program: Straight, cpu: int) -> Straight:
    """The program with nothing to do for all other CPUs."""
    codes = tuple(code if at == cpu else () for at, code in enumerate(program.cpus))
    return Straight(f"{program.name}/{cpu}", program.init, codes)


def names(execution: tuple[reference.Event, ...]) -> tuple[Name, ...]:
    return tuple(event.name for event in execution)


# --- one CPU: the meaning of instructions --------------------------------------------------------
def test_the_layout_is_that_of_the_interpreter():
    assert (reference.CODE, reference.INSTRUCTIONS) == (m.CODE, m.INSTRUCTIONS)
    assert reference.INSTRUCTIONS * reference.INSTRUCTION_WORDS == m.CPU_CODE
    assert reference.NO_OPERATION == m.WHATS - 1


@every_model
def test_a_cpu_alone_does_what_the_interpreter_does(programs, model):
    for program in programs:
        for cpu in range(len(program.cpus)):
            solo = alone(program, cpu)
            memory = Flat(reference.as_image(solo), reference.image_words(solo))
            accs = tuple(m.interpret(memory, at) for at in range(len(solo.cpus)))
            expected = tuple(memory.words[: len(solo.init)]) + accs
            possible = reference.outcomes(solo, model)
            chooses = any(one.op == "choose" for code in solo.cpus for one in code)
            assert expected in possible and (chooses or len(possible) == 1), solo


def test_random_programs_are_the_same_for_the_same_seed_and_differ_otherwise(programs):
    assert programs[7] == reference.random_straight_program(7)
    assert len({(program.init, program.cpus) for program in programs}) > 140


def test_random_programs_use_every_op_and_keep_their_limits(programs, wide):
    used = {instruction.op for program in programs for code in program.cpus for instruction in code}
    assert used == set(reference.WHAT)
    for program in programs + wide:
        assert 2 <= len(program.init) <= 3 and 2 <= len(program.cpus) <= 3
        assert all(1 <= len(code) <= 4 for code in program.cpus)


# --- memory models: the literature ---------------------------------------------------------------
@every_model
@pytest.mark.parametrize("litmus", LITMUS, ids=lambda litmus: litmus.program.name)
def test_the_weak_outcome_is_seen_exactly_where_the_literature_allows_it(litmus, model):
    weak = any(litmus.is_weak(outcome) for outcome in reference.outcomes(litmus.program, model))
    assert weak == (model in litmus.allowed)


@every_model
@pytest.mark.parametrize(
    "litmus",
    [litmus for litmus in LITMUS if litmus.executions is not None],
    ids=lambda litmus: litmus.program.name,
)
def test_classes_are_all_candidate_executions_but_forbidden_ones(litmus, model):
    assert reference.classes(litmus.program, model) == litmus.classes(model)


def test_outcomes_grow_with_weaker_memory(wide):
    differ = Counter()
    for program in wide:
        sc, tso, pso = (reference.outcomes(program, model) for model in reference.MEMORY_MODELS)
        assert sc <= tso <= pso, program
        differ += Counter(tso=sc != tso, pso=tso != pso)
    assert differ["tso"] >= 5 and differ["pso"] >= 5, "the programs tell the models apart"


@pytest.mark.parametrize("model", ["tso", "pso"])
def test_a_fence_behind_every_store_restores_sequential_consistency(wide, model):
    for program in wide:
        codes = tuple(
            tuple(
                step
                for instruction in code
                for step in (
                    instruction,
                    *[Instruction("fence")] * (instruction.op in reference.STORES),
                )
            )
            for code in program.cpus
        )
        fenced = Straight(program.name, program.init, codes)
        assert reference.outcomes(fenced, model) == reference.outcomes(program, "sc"), program


# --- store buffers -------------------------------------------------------------------------------
def stored(
    model: str, *words: int, code: tuple[Instruction, ...] = ()
) -> tuple[Straight, reference.State]:
    """CPU 0 has stored 1, 2, ... to ``words`` and flushed nothing; ``code`` comes next."""
    stores = tuple(Instruction("relaxed", word, k + 1) for k, word in enumerate(words))
    program = Straight("stored", (0, 0), ((*stores, *code),))
    state = reference.start(program)
    for k in range(len(stores)):
        state, _ = reference.step(program, model, state, Name(0, k, flush=False))
    return program, state


@pytest.mark.parametrize("model", ["tso", "pso"])
def test_a_full_buffer_delays_the_next_store_until_a_flush(model):
    program, state = stored(model, *[0] * reference.DEPTH, code=(Instruction("store", 0, 9),))
    flush_first, store = Name(0, 0, flush=True), Name(0, reference.DEPTH, flush=False)
    assert reference.enabled(program, model, state) == [flush_first]
    state, _ = reference.step(program, model, state, flush_first)
    assert store in reference.enabled(program, model, state)


@pytest.mark.parametrize(("model", "flushes"), [("tso", {0}), ("pso", {0, 1})])
def test_the_oldest_value_is_flushed_first_under_pso_for_each_word(model, flushes):
    program, state = stored(model, 0, 1, 0, 1)
    assert {name.k for name in reference.enabled(program, model, state) if name.flush} == flushes


@pytest.mark.parametrize("model", ["tso", "pso"])
@pytest.mark.parametrize("op", ["fence", "heavy_fence", "cas", "cas2", "exchange", "fetch_add"])
def test_fences_and_read_modify_writes_wait_for_an_empty_buffer(model, op):
    program, state = stored(model, 0, code=(Instruction(op),))
    assert all(name.flush for name in reference.enabled(program, model, state))


@pytest.mark.parametrize("model", ["tso", "pso"])
def test_load2_takes_each_half_from_the_youngest_own_store_or_from_memory(model):
    program, state = stored(model, 1, 1, code=(Instruction("load2"),))
    state, event = reference.step(program, model, state, Name(0, 2, flush=False))
    assert state.accs == (0 * 3 + 2,)
    assert (event.reads, event.forwarded) == ({0}, {1})


# --- classes -------------------------------------------------------------------------------------
@pytest.mark.parametrize("counted", COUNTED, ids=lambda counted: counted.program.name)
def test_classes_of_families_follow_their_formula(counted):
    assert reference.classes(counted.program) == counted.classes


@pytest.mark.parametrize("n", [2, 3])
def test_under_tso_each_own_read_is_before_or_after_the_flush(n):
    assert reference.classes_tso(strangers(n).program) == 2**n


def test_an_own_read_is_ordered_against_every_own_flush_of_that_word():
    code = (Instruction("store", 0, 1), Instruction("store", 0, 2), Instruction("load", 0))
    assert reference.classes_tso(Straight("two stores", (0,), (code,))) == 3


def test_an_own_read_served_by_the_buffer_is_not_ordered_against_others():
    own = (Instruction("store", 0, 1), Instruction("load", 0))
    program = Straight("other store", (0,), (own, (Instruction("store", 0, 2),)))
    served, unserved = 2, 3  # places of the other's flush among our flush (and read from memory)
    assert reference.classes_tso(program) == served + unserved


def test_buffers_add_no_class_where_a_cpu_stores_last():
    assert [reference.classes_tso(increments(n).program) for n in (2, 3)] == [4, 36]


def test_two_increments_have_six_schedules():
    assert reference.schedules(increments(2).program) == 6


@every_model
def test_the_number_of_schedules_is_that_of_the_executions(small, model):
    for program in small:
        count = len({names(execution) for execution in reference.executions(program, model)})
        assert count == reference.schedules(program, model)


@every_model
def test_independent_events_commute(small, model):
    for program in small:
        seen, waiting = set(), [reference.start(program)]
        while waiting:
            state = waiting.pop()
            if state not in seen:
                seen.add(state)
                both = combinations(reference.enabled(program, model, state), 2)
                for one, other in both:
                    assert_commute(program, model, state, one, other)
                choices = reference.enabled(program, model, state)
                waiting += [reference.step(program, model, state, name)[0] for name in choices]


def assert_commute(
    program: Straight, model: str, state: reference.State, one: Name, other: Name
) -> None:
    middle, event = reference.step(program, model, state, one)
    swapped_middle, swapped_other = reference.step(program, model, state, other)
    if reference.dependent(event, swapped_other):
        return
    end, later = reference.step(program, model, middle, other)
    swapped_end, swapped_later = reference.step(program, model, swapped_middle, one)
    assert (end, event, later) == (swapped_end, swapped_later, swapped_other)


@every_model
def test_classes_are_what_swaps_of_independent_neighbours_connect(small, model):
    for program in small:
        schedules = {
            names(execution): execution for execution in reference.executions(program, model)
        }
        parts = 0
        unreached = set(schedules)
        while unreached:
            parts += 1
            waiting = [unreached.pop()]
            while waiting:
                near = neighbours(schedules[waiting.pop()]) & unreached
                unreached -= near
                waiting += near
        assert parts == reference.classes(program, model), program


def neighbours(execution: tuple[reference.Event, ...]) -> set[tuple[Name, ...]]:
    """The result of one swap, whether or not it is a schedule."""
    order = names(execution)
    return {
        (*order[:at], other.name, one.name, *order[at + 2 :])
        for at, (one, other) in enumerate(pairwise(execution))
        if not reference.dependent(one, other)
    }


@every_model
def test_schedules_of_one_class_end_alike_and_classes_cover_all_outcomes(small, model):
    for program in small:
        ends = defaultdict(set)
        for execution in reference.executions(program, model):
            state = reference.start(program)
            for event in execution:
                state, _ = reference.step(program, model, state, event.name)
            ends[reference.class_key(execution)].add(state.memory + state.accs)
        assert all(len(found) == 1 for found in ends.values()), program
        assert set().union(*ends.values()) == reference.outcomes(program, model)
