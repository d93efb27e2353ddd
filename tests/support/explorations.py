"""Programs as the explorer takes them, and searches run one schedule at a time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import model_programs as m
from shmalloc.dialect import kernel
from shmalloc.engine import ops
from stress.explorer.searches import Budget, Plan, Search
from stress.machine import block as cb
from stress.machine.block_layout import Settings
from stress.machine.machine import VERDICTS, Machine, events_of, fault_of
from stress.machine.program import Program
from support import reference
from support.trace_classes import Executed

ENGINES = ("native", "interpreted")
MEMORY_MODELS = ("sc", "tso", "pso")
RANDOM_STRATEGIES = ("random", "pct", "pos", "surw")
STRATEGIES = (*RANDOM_STRATEGIES, "dfs", "dpor")
STEP_LIMIT = 400
Code = tuple[int, int, int, int]
UNWRITTEN = ((3, 4), (10, 12))
# Instructions of ``interpret``.
PLAIN_READ, PLAIN_WRITE, LOAD, STORE, STORE_RELAXED = 0, 1, 2, 4, 5
EXCHANGE, FETCH_ADD, FETCH_OR, FETCH_AND, CAS, CAS2, LOAD2 = 6, 7, 8, 9, 10, 11, 12
WAIT, WAKE, SPIN_UNTIL, SPIN_THRICE, SPIN_LOCK, FENCE = 13, 14, 15, 16, 17, 18
PLACELESS = (FENCE, 19, 21, 22)  # fence, mark, fixed, nothing
CHOOSE = 27
FREQUENT = (LOAD, STORE, FETCH_ADD, CAS, WAKE)
NOW = 20  # sees how many steps there were: equivalent schedules differ in it

HEADER = (
    cb.CODE, cb.HASH, cb.STEPS, cb.CHANGES, cb.TOTAL_STEPS, cb.SCHEDULES, cb.FAILURES, cb.OTHER_CPU,
    cb.FAULT_CPU, cb.ABANDONED_COUNT, cb.KEPT_OUTCOME, cb.KEPT_SCHEDULE,
)  # fmt: skip


@kernel
def first_word_small(mem):
    return 7 if mem[0] > 4 else 0


def as_program(program: reference.Straight, what: Mapping[str, int] = reference.WHAT) -> Program:
    """A straight-line program, run as data by ``interpret``; its outcomes are the reference's."""
    return Program(
        name=program.name,
        words=reference.image_words(program),
        threads=[m.interpret] * len(program.cpus),
        init=reference.as_image(program, what),
        observe=reference.observed(program),
    )


def searching(
    program: Program,
    strategy: str,
    memory: str,
    engine: str,
    races: bool = False,
    free_spins: int = 1,
) -> Search:
    """A search that keeps a log of its last schedule and does not stop at a failure."""
    settings = Settings(STEP_LIMIT, 20, True, memory, races, free_spins=free_spins)
    return Search(program, Plan(strategy, settings, engine, 1, False), Budget(None, None))


def schedules_of(search: Search, most: int, seed: int = 0) -> Iterator[Machine]:
    """The machine after each of at most ``most`` schedules of ``search``, fewer where it ends."""
    for k in range(most):
        before = search.schedules
        search.machine.call(search.driver, seed + k, 1)
        assert not search.diverged, "a schedule that was run twice did not repeat"
        if search.schedules == before:
            assert search.done
            return
        yield search.machine


def varied_program(number: int) -> Program:
    """A random program, in turns as it is, without plain accesses (which race soon), with words
    that hold nothing, and with an invariant."""
    program = m.random_program(number)
    observed = (0, 1, 2, *(("r", cpu) for cpu in range(len(program.threads))))
    program = replace(program, observe=observed)
    if number % 4 > 0:
        program = replace(program, init=without_plain_accesses(program))
    if number % 4 == 2:
        program = replace(program, undefined=UNWRITTEN)
    if number % 4 == 3:
        program = replace(program, invariant=first_word_small)
    return program


def without_plain_accesses(program: Program) -> list[tuple[int, int]]:
    """The image of the program with loads and stores in their place."""
    atomic = {PLAIN_READ: LOAD, PLAIN_WRITE: STORE}
    return [
        (at, atomic.get(value, value) if at >= m.CODE and (at - m.CODE) % 4 == 0 else value)
        for at, value in program.init
    ]


def coded(name: str, *codes: Sequence[Code], init: Sequence[int] = (0, 0)) -> Program:
    """A program of instructions ``(what, word, a, b)`` for ``interpret``, observed whole."""
    image = list(enumerate(init))
    nothing = (m.WHATS - 1, 0, 0, 0)
    for cpu, code in enumerate(codes):
        rows = [*code, *[nothing] * (m.INSTRUCTIONS - len(code))]
        at = m.CODE + cpu * m.CPU_CODE
        image += enumerate((value for row in rows for value in row), start=at)
    observed = [*range(len(init)), *(("r", cpu) for cpu in range(len(codes)))]
    words = m.CODE + len(codes) * m.CPU_CODE
    return Program(name, words, [m.interpret] * len(codes), init=image, observe=observed)


def small_program(seed: int, pairs: bool = True) -> Program:
    """2 or 3 CPUs, 1 to 4 instructions each, all kinds of them: sleeping, waking and spinning.

    ``pairs``: with cas2.
    """
    rng = random.Random(seed)
    left_out = {NOW, *PLACELESS} | (set() if pairs else {CAS2})
    kinds = [what for what in (*range(m.WHATS), CHOOSE) if what not in left_out]
    cpus = rng.choice((2, 2, 3))
    longest = 4 if cpus == 2 else 3
    codes = [
        [small_instruction(rng, kinds) for _ in range(rng.randint(1, longest))] for _ in range(cpus)
    ]
    return coded(f"small-{seed}", *codes, init=[rng.randint(0, 1), rng.randint(0, 1)])


def small_instruction(rng: random.Random, kinds: Sequence[int]) -> Code:
    what = rng.choice((rng.choice(kinds), rng.choice(FREQUENT)))
    word = 0 if what in (CAS2, LOAD2) else rng.randrange(2)
    return what, word, rng.randint(0, 2), rng.randint(0, 2)


def executed(machine: Machine) -> list[Executed]:
    """The events of the last schedule, as ``trace_key`` takes them."""
    found = []
    made: Counter[int] = Counter()
    for event in events_of(machine.block):
        op = ops.NAMES[event.op]
        failed = op in ("cas", "cas2") and event.value == 0
        word = event.value if op == "choose" else event.address  # another value, another event
        early = (ops.RETURNED_EARLY,) if op == "wait" and event.value == ops.RETURNED_EARLY else ()
        found.append(Executed(event.cpu, made[event.cpu], op, word, not failed, early))
        made[event.cpu] += op != "flush"
    return found


def verdict(machine: Machine) -> str:
    return VERDICTS[int(machine.block[cb.OUTCOME])]


def state(machine: Machine) -> dict[str, object]:
    """Everything that the last schedule of a machine left behind."""
    block = machine.block
    trace, steps = int(block[cb.TRACE_AT]), int(block[cb.STEPS])
    cpus = int(block[cb.CPUS])
    return {
        "events": events_of(block),
        "actors": [int(actor) for actor in block[trace : trace + steps]],
        "verdict": verdict(machine),
        "fault": fault_of(block),
        "header": {at: int(block[at]) for at in HEADER},
        "returns": [int(value) for value in block[cb.RETURN : cb.RETURN + cpus]],
        "memory": machine.ram.array.tolist(),
    }
