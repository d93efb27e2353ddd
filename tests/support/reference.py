"""An explorer so simple that it can be checked by reading: the reference for the real one.

A program is straight-line code for each CPU, as data. The machine below runs it one *event* at a
time under sc, tso or pso; everything else enumerates: ``outcomes`` all states, ``executions`` all
schedules, ``classes`` the distinct orders of dependent events among these. No reduction of any kind
happens here, nothing is shared with the tested code, and callers keep programs small.

The machine:

- an instruction of a CPU is one event; so is each *flush*, which makes one stored value visible
- sc: stores write the memory. tso: plain and atomic stores go to the buffer of their CPU and are
  flushed oldest first. pso: oldest first among those to the same word only, and a ``store`` (it
  releases) after all that is older
- a read of a word takes the youngest value in the CPU's own buffer, else memory; load2 does so for
  each half. Read-modify-writes and fences happen only when that buffer is empty, a store only when
  fewer than DEPTH values are in it
- ``acc`` of a CPU starts as its number and adds up what it reads, modulo 1024, exactly as
  ``interpret`` of model_programs.py does; ``as_image`` is the program in the form that it reads

Instructions ``(op, word, a, b)``::

    read load   acc += [word]                     load2   acc += 3 * [word] + [word + 1]
    write       [word] = a + (acc & 3)            store relaxed   [word] = a
    exchange    acc += [word]; [word] = a         fetch_add  acc += [word]; [word] += a
    cas         [word] = b, acc += 1 if [word] == a
    cas2        [word], [word + 1] = b, acc & 3; acc += 2 if both are a
    choose      acc += v for each v from 0 to 1 + word, an event of its own
    fence
    heavy_fence no buffer holds a value of [word]
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

DEPTH = 8  # values in the buffer of one CPU, of all words together
MEMORY_MODELS = ("sc", "tso", "pso")

# The layout that ``interpret`` reads, repeated: this file imports nothing of the project.
CODE = 64
INSTRUCTIONS = 12
INSTRUCTION_WORDS = 4
NO_OPERATION = 22
WHAT = {
    "read": 0,
    "write": 1,
    "load": 2,
    "store": 4,
    "relaxed": 5,
    "exchange": 6,
    "fetch_add": 7,
    "cas": 10,
    "cas2": 11,
    "load2": 12,
    "fence": 18,
    "choose": 27,
    "heavy_fence": 28,
}
READS = ("read", "load", "load2")
STORES = ("write", "store", "relaxed")
PAIRS = ("load2", "cas2")


class Instruction(NamedTuple):
    op: str
    word: int = 0
    a: int = 0
    b: int = 0


@dataclass(frozen=True)
class Straight:
    """Initial words, from word 0 on, and the code of each CPU."""

    name: str
    init: tuple[int, ...]
    cpus: tuple[tuple[Instruction, ...], ...]


class Name(NamedTuple):
    """Which event: the same in every schedule. Instruction ``k`` of ``cpu``, or its flush.

    ``value``: of a choose.
    """

    cpu: int
    k: int
    flush: bool
    value: int = 0


class Event(NamedTuple):
    """What an event did: the words of memory it read and wrote, and those its own buffer gave.

    A failed cas2 counts as a write of the half that it found as expected. Whether it really writes
    that half is decided by the other one, and an order that depends on it could not be told from
    the events of the schedules in which it fails.
    """

    name: Name
    op: str
    word: int
    reads: frozenset[int]
    writes: frozenset[int]
    forwarded: frozenset[int] = frozenset()


class Entry(NamedTuple):
    """A value in a store buffer, and which instruction stored it."""

    k: int
    word: int
    value: int
    releases: bool


class State(NamedTuple):
    memory: tuple[int, ...]
    done: tuple[int, ...]  # instructions of each CPU
    accs: tuple[int, ...]
    buffers: tuple[tuple[Entry, ...], ...]  # oldest first


# --- the machine ---------------------------------------------------------------------------------
def start(program: Straight) -> State:
    count = len(program.cpus)
    return State(program.init, (0,) * count, tuple(range(count)), ((),) * count)


def enabled(program: Straight, model: str, state: State) -> list[Name]:
    """Every event that can happen next."""
    names = []
    for cpu, code in enumerate(program.cpus):
        k, buffer = state.done[cpu], state.buffers[cpu]
        if k < len(code) and can_run(code[k], cpu, state.buffers):
            names += [Name(cpu, k, False, value) for value in range(values_of(code[k]))]
        names += flushes(model, cpu, buffer)
    return names


def flushes(model: str, cpu: int, buffer: Sequence[Entry]) -> Iterator[Name]:
    """Those that can happen next."""
    older_words: set[int] = set()
    for entry in buffer:
        overtakes = model == "pso" and entry.word not in older_words and not entry.releases
        if not older_words or overtakes:
            yield Name(cpu, entry.k, flush=True)
        older_words.add(entry.word)


def values_of(instruction: Instruction) -> int:
    """How many outcomes an instruction has."""
    return 2 + instruction.word if instruction.op == "choose" else 1


def can_run(instruction: Instruction, cpu: int, buffers: Sequence[Sequence[Entry]]) -> bool:
    op, buffer = instruction.op, buffers[cpu]
    if op == "heavy_fence" and any(e.word == instruction.word for some in buffers for e in some):
        return False
    if op in READS or op == "choose":
        return True
    if op in STORES:
        return len(buffer) < DEPTH
    return not buffer


def step(program: Straight, model: str, state: State, name: Name) -> tuple[State, Event]:
    """The enabled event ``name`` happens."""
    if name.flush:
        return flush(state, name)
    instruction = program.cpus[name.cpu][name.k]
    state = state._replace(done=replaced(state.done, name.cpu, name.k + 1))
    if instruction.op in READS:
        return run_read(state, name, instruction)
    if instruction.op == "choose":
        after = state._replace(accs=accumulated(state, name.cpu, name.value))
        return after, Event(name, "choose", instruction.word, frozenset(), frozenset())
    if instruction.op in STORES:
        return run_store(model, state, name, instruction)
    return run_atomic(state, name, instruction)


def replaced(items: tuple[Any, ...], at: int, value: object) -> tuple[Any, ...]:
    return (*items[:at], value, *items[at + 1 :])


def accumulated(state: State, cpu: int, value: int) -> tuple[int, ...]:
    return replaced(state.accs, cpu, (state.accs[cpu] + value) & 1023)


def words_of(op: str, word: int) -> tuple[int, ...]:
    return (word, word + 1) if op in PAIRS else (word,)


def flush(state: State, name: Name) -> tuple[State, Event]:
    buffer = state.buffers[name.cpu]
    entry = next(entry for entry in buffer if entry.k == name.k)
    rest = tuple(other for other in buffer if other.k != name.k)
    memory = replaced(state.memory, entry.word, entry.value)
    after = state._replace(memory=memory, buffers=replaced(state.buffers, name.cpu, rest))
    return after, Event(name, "flush", entry.word, frozenset(), frozenset({entry.word}))


def run_read(state: State, name: Name, instruction: Instruction) -> tuple[State, Event]:
    words = words_of(instruction.op, instruction.word)
    own = {entry.word: entry.value for entry in state.buffers[name.cpu]}  # the youngest remains
    found = [own.get(word, state.memory[word]) for word in words]
    value = found[0] * 3 + found[1] if instruction.op == "load2" else found[0]
    forwarded = frozenset(word for word in words if word in own)
    reads = frozenset(words) - forwarded
    after = state._replace(accs=accumulated(state, name.cpu, value))
    return after, Event(name, *instruction[:2], reads, frozenset(), forwarded)


def run_store(
    model: str, state: State, name: Name, instruction: Instruction
) -> tuple[State, Event]:
    op, word, value, _ = instruction
    if op == "write":
        value += state.accs[name.cpu] & 3
    if model == "sc":
        after = state._replace(memory=replaced(state.memory, word, value))
        return after, Event(name, op, word, frozenset(), frozenset({word}))
    buffer = (*state.buffers[name.cpu], Entry(name.k, word, value, op == "store"))
    after = state._replace(buffers=replaced(state.buffers, name.cpu, buffer))
    return after, Event(name, op, word, frozenset(), frozenset())


def run_atomic(state: State, name: Name, instruction: Instruction) -> tuple[State, Event]:
    """Read-modify-writes and fences; a failed cas only reads."""
    op, word, a, b = instruction
    if op in ("fence", "heavy_fence"):
        return state, Event(name, op, word, frozenset(), frozenset())
    words = words_of(op, word)
    found = [state.memory[word] for word in words]
    written, gain = {
        "exchange": ([a], found[0]),
        "fetch_add": ([found[0] + a], found[0]),
        "cas": ([b], 1),
        "cas2": ([b, state.accs[name.cpu] & 3], 2),
    }[op]
    if op in ("cas", "cas2") and any(value != a for value in found):
        expected = (at for at, value in zip(words, found, strict=True) if value == a)
        return state, Event(name, op, word, frozenset(words), frozenset(expected))
    memory = state.memory
    for at, value in zip(words, written, strict=True):
        memory = replaced(memory, at, value)
    after = state._replace(memory=memory, accs=accumulated(state, name.cpu, gain))
    return after, Event(name, op, word, frozenset(words), frozenset(words))


# --- what is enumerated --------------------------------------------------------------------------
def outcomes(program: Straight, model: str = "sc") -> set[tuple[int, ...]]:
    """Every possible end: the final words followed by the acc of each CPU."""
    seen = {start(program)}
    waiting = list(seen)
    ends = set()
    while waiting:
        state = waiting.pop()
        names = enabled(program, model, state)
        if not names:
            ends.add(state.memory + state.accs)
        after = {step(program, model, state, name)[0] for name in names} - seen
        seen |= after
        waiting += after
    return ends


def executions(program: Straight, model: str = "sc") -> Iterator[tuple[Event, ...]]:
    """Every schedule: the sequence of its events."""

    def continued(state: State, past: tuple[Event, ...]) -> Iterator[tuple[Event, ...]]:
        names = enabled(program, model, state)
        if not names:
            yield past
        for name in names:
            after, event = step(program, model, state, name)
            yield from continued(after, (*past, event))

    return continued(start(program), ())


def dependent(one: Event, other: Event) -> bool:
    """Whether the order of the two matters, as far as it can differ between schedules.

    They touch the same word of memory and at least one writes it; or one is a read served by the
    CPU's own buffer and the other a flush of that word by the same CPU (any: also of an older
    value); or one is a heavy fence and the other puts a value of its word into a buffer.

    Left out is what has the same order in every schedule and so distinguishes none: the
    instructions of a CPU, a store and its flush, flushes of one fifo, the flushes of earlier stores
    and a fence or read-modify-write.
    """
    if one.writes & (other.reads | other.writes) or one.reads & other.writes:
        return True
    if keeps_waiting(one, other) or keeps_waiting(other, one):
        return True
    return own_flush(one, other) or own_flush(other, one)


def keeps_waiting(store: Event, fence: Event) -> bool:
    buffered = store.op in STORES and not store.writes
    return fence.op == "heavy_fence" and buffered and store.word == fence.word


def own_flush(flushed: Event, reader: Event) -> bool:
    same_cpu = flushed.name.cpu == reader.name.cpu
    return same_cpu and flushed.name.flush and flushed.word in reader.forwarded


def class_key(execution: Sequence[Event]) -> frozenset[tuple[Name, Name]]:
    """The ordered pairs of dependent events, and each choice as a pair with itself: equal for
    exactly the equivalent schedules.

    Two schedules with the same pairs are linear extensions of the same partial order, so one
    becomes the other by swaps of neighbours that are independent.
    """
    chosen = frozenset((one.name, one.name) for one in execution if one.op == "choose")
    return chosen | frozenset(
        (earlier.name, later.name)
        for at, later in enumerate(execution)
        for earlier in execution[:at]
        if dependent(earlier, later)
    )


def classes(program: Straight, model: str = "sc") -> int:
    """The number of Mazurkiewicz traces: schedules that differ in the order of dependent events."""
    return len({class_key(execution) for execution in executions(program, model)})


def classes_by_prefixes(program: Straight, model: str = "sc", most: int = 10_000) -> int | None:
    """The same number, by growing all prefixes of traces by one event at a time.

    Two prefixes of schedules with the same events and ordered pairs are one, so programs of many
    CPUs take seconds instead of days. None if there are more than ``most`` prefixes.
    """
    layer = {(start(program), frozenset[tuple[Name, Name]](), frozenset[Event]())}
    ended = seen = 0
    while layer:
        longer = set()
        for state, pairs, events in layer:
            names = enabled(program, model, state)
            ended += not names
            for name in names:
                after, event = step(program, model, state, name)
                ordered = {(one.name, event.name) for one in events if dependent(one, event)}
                longer.add((after, pairs | ordered, events | {event}))
        layer = longer
        seen += len(layer)
        if seen > most:
            return None
    return ended


def classes_tso(program: Straight) -> int:
    return classes(program, "tso")


def schedules(program: Straight, model: str = "sc") -> int:
    """How many ``executions`` there are, without running them one by one."""

    @cache
    def below(state: State) -> int:
        names = enabled(program, model, state)
        if not names:
            return 1
        return sum(below(step(program, model, state, name)[0]) for name in names)

    return below(start(program))


# --- programs ------------------------------------------------------------------------------------
SCHEDULES_LIMIT = 4000


def random_straight_program(
    seed: int, limit: int = SCHEDULES_LIMIT, without: Sequence[str] = ()
) -> Straight:
    """2 or 3 CPUs, 1 to 4 instructions each, 2 or 3 words. Half of them only read and write.

    It has at most ``limit`` schedules under pso, where it has most; by default ``classes`` takes
    milliseconds. ``outcomes`` is quick without a limit, too: one program in 13 then has outcomes
    under tso that sc forbids, by default one in 40. ``without``: instructions that are not drawn.
    """
    rng = random.Random(seed)
    ops = rng.choice((tuple(op for op in WHAT if op not in without), READS + STORES))
    while True:
        words = rng.choice((2, 2, 3))
        cpus = tuple(
            tuple(random_instruction(rng, ops, words) for _ in range(rng.choice((1, 2, 3, 4, 4))))
            for _ in range(rng.choice((2, 2, 3)))
        )
        init = tuple(rng.randint(0, 1) for _ in range(words))
        program = Straight(f"random-{seed}", init, cpus)
        if schedules(program, "pso") <= limit:
            return program


def random_choosing_programs(rng: random.Random, count: int, limit: int) -> Iterator[Straight]:
    """2 to 4 CPUs, every second instruction or so a choice; at most ``limit`` schedules under
    pso."""
    ops = (*WHAT, *["choose"] * len(WHAT))
    while count > 0:
        cpus = tuple(
            tuple(random_instruction(rng, ops, 2) for _ in range(rng.choice((1, 2, 2, 3))))
            for _ in range(rng.choice((2, 2, 3, 4)))
        )
        program = Straight("random-choosing", (rng.randint(0, 1), rng.randint(0, 1)), cpus)
        if schedules(program, "pso") <= limit:
            count -= 1
            yield program


def random_wide_program(rng: random.Random) -> Straight:
    """3 to 6 CPUs with 1 to 4 instructions, most of them with one."""
    words = rng.choice((2, 3, 3, 4))
    ops = rng.choice((tuple(WHAT), READS + STORES, READS + STORES))
    lengths = [1] * rng.randint(3, 6)
    for _ in range(rng.randint(0, 5)):
        cpu = rng.randrange(len(lengths))
        lengths[cpu] = min(4, lengths[cpu] + 1)
    cpus = tuple(tuple(random_instruction(rng, ops, words) for _ in range(k)) for k in lengths)
    return Straight("random-wide", tuple(rng.randint(0, 1) for _ in range(words)), cpus)


def random_instruction(rng: random.Random, ops: Sequence[str], words: int) -> Instruction:
    op = rng.choice(ops)
    word = 0 if op in PAIRS else rng.randrange(2 if op == "choose" else words)
    return Instruction(op, word, rng.randint(0, 2) + (op in STORES), rng.randint(0, 2))


def as_image(program: Straight, what: Mapping[str, int] = WHAT) -> list[tuple[int, int]]:
    """The program as ``interpret`` reads it: (index, value) pairs of the initial memory."""
    image = list(enumerate(program.init))
    for cpu, code in enumerate(program.cpus):
        assert len(code) <= INSTRUCTIONS, f"{program.name}: {len(code)} instructions"
        rows = [(what[op], word, a, b) for op, word, a, b in code]
        rows += [(NO_OPERATION, 0, 0, 0)] * (INSTRUCTIONS - len(rows))
        at = CODE + cpu * INSTRUCTIONS * INSTRUCTION_WORDS
        image += enumerate((value for row in rows for value in row), start=at)
    return image


def image_words(program: Straight) -> int:
    """The size of a memory that holds the program and its image."""
    return CODE + len(program.cpus) * INSTRUCTIONS * INSTRUCTION_WORDS


def observed(program: Straight) -> list[int | tuple[str, int]]:
    """What an explorer observes to count the same outcomes as ``outcomes``."""
    return [*range(len(program.init)), *(("r", cpu) for cpu in range(len(program.cpus)))]
