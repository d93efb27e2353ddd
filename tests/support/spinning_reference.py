"""The reference for programs that spin, sleep and wake: every class of their schedules, once.

It runs on the machine of reference.py and shares nothing with the explorer. The instructions it
adds, with ``acc`` as there:

    relax       the end of a spin
    wait        sleep if [word] == a; a wake ends the sleep
    wake        1 + (a & 1) sleepers of the word go on, any of them
    spin_until  while [word] < a: relax
    spin_thrice at most three times: if [word] == a: acc += 5, leave; relax
    spin_lock   while exchange([word], 1) == 1: relax
    spin_cas    while not cas([word], a, b): relax
    spin_either first, second = [word], [a], again after a relax while both are 0;
                acc += 2 * first + second
    spin_seen   while [word] == 0: look at [a], relax; acc += 1 if [a] was ever seen set

Each access of them is one event, and so is a relax; wait and wake are calls of the system, which
need an empty store buffer. Under a search that tries everything, spinning follows one rule. A
*spin* is what a CPU does from one relax to the next. It repeats the last one if it read what that
had read, word by word and wherever the values came from, and changed nothing: no store, no new
value, no wait, no wake, no choice. A CPU that relaxes after ``free_spins`` repeated spins in a row
(0: after any that changed nothing) stands still, until another CPU gives a word that the last one
read a new value; if that has happened since it read the word, it goes on at once. A value that came
from its own store buffer is new when a store of that word is flushed from there, and only then.
When no event can happen, all that stand still go on.

Two rules for what depends on what, besides those of reference.py: a wait reads its word, and it
looks at the sleepers of the word, which a wake changes, even if it does not sleep itself. Relaxes
depend on nothing.

If all CPUs that are not done or asleep spin for ever, the schedule has no end. It counts as one
that ended in "endless" where all stood still for the second time in the same state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import NamedTuple

from support import reference
from support.reference import Event, Instruction, Name, Straight, replaced

WHAT = {
    **reference.WHAT,
    "wait": 13,
    "wake": 14,
    "spin_until": 15,
    "spin_thrice": 16,
    "spin_lock": 17,
    "spin_cas": 23,
    "spin_either": 24,
    "spin_seen": 25,
    "relax": 26,
}
AWAKE = -1
RELAX = Instruction("relax")
DEADLOCK, ENDLESS = "deadlock", "endless"
NOTHING: frozenset[int] = frozenset()

End = tuple[int, ...] | str  # as in reference.outcomes, or why there is no such end


class Place(NamedTuple):
    """Where a CPU is: in its ``k``-th instruction, and of a loop, before which access."""

    k: int = 0
    phase: int = 0
    kept: int = 0


class Found(NamedTuple):
    """What a CPU read; ``own``: it came from its own store buffer."""

    word: int
    value: int
    own: bool


class Spin(NamedTuple):
    """What a CPU has done since its last relax, and what it found before that."""

    found: tuple[Found, ...] = ()
    last: tuple[Found, ...] | None = None
    repeated: int = 0  # spins in a row
    changed: bool = False
    overtaken: bool = False  # what it found is out of date
    stands: bool = False


class State(NamedTuple):
    core: reference.State  # ``done`` counts events, so that a name is never given twice
    places: tuple[Place, ...]
    spins: tuple[Spin, ...]
    asleep: tuple[int, ...]  # the word that a CPU sleeps on
    halted: State | None = None  # when all stood still for the last time
    endless: bool = False


# --- loops ---------------------------------------------------------------------------------------
@cache
def body(instruction: Instruction) -> tuple[Instruction, ...]:
    """The accesses of an instruction in their order; those of a loop are repeated."""
    op, word, a, b = instruction
    look = Instruction("load", word)
    return {
        "spin_until": (look, RELAX),
        "spin_thrice": (look, RELAX) * 3,
        "spin_lock": (Instruction("exchange", word, 1), RELAX),
        "spin_cas": (Instruction("cas", word, a, b), RELAX),
        "spin_either": (look, Instruction("load", a), RELAX),
        "spin_seen": (look, Instruction("load", a), RELAX),
    }.get(op, (instruction,))


def gain_of(instruction: Instruction, place: Place, answer: int) -> int | None:
    """What a loop adds to acc if it ends with this access; None: it goes on."""
    op, _, a, _ = instruction
    phase = place.phase
    if op == "spin_either":
        return 2 * place.kept + answer if phase == 1 and place.kept + answer > 0 else None
    if op == "spin_seen":
        return place.kept if phase == 0 and answer != 0 else None
    if op == "spin_thrice":
        return 0 if phase == 5 else 5 if phase % 2 == 0 and answer == a else None
    ends = {"spin_until": answer >= a, "spin_lock": answer != 1, "spin_cas": answer == 1}[op]
    return 0 if phase == 0 and ends else None


def kept_by(instruction: Instruction, place: Place, answer: int) -> int:
    """What a loop that goes on remembers."""
    if instruction.op == "spin_either":
        return answer if place.phase == 0 else 0
    if instruction.op == "spin_seen" and place.phase == 1 and answer != 0:
        return 1
    return place.kept


def moved_on(instruction: Instruction, place: Place, answer: int) -> tuple[Place, int]:
    """Where the CPU comes to behind an access that answered, and what it adds to acc."""
    accesses = body(instruction)
    if len(accesses) == 1:
        return Place(place.k + 1), answer
    gain = gain_of(instruction, place, answer)
    if gain is not None:
        return Place(place.k + 1), gain
    phase = (place.phase + 1) % len(accesses)
    return Place(place.k, phase, kept_by(instruction, place, answer)), 0


# --- the machine ---------------------------------------------------------------------------------
@dataclass(frozen=True)
class Machine:
    """A program under a memory model."""

    program: Straight
    model: str
    free_spins: int

    def start(self) -> State:
        count = len(self.program.cpus)
        core = reference.start(self.program)
        return State(core, (Place(),) * count, (Spin(),) * count, (AWAKE,) * count)

    def finished(self, state: State, cpu: int) -> bool:
        return state.places[cpu].k == len(self.program.cpus[cpu])

    def access(self, state: State, cpu: int) -> Instruction:
        """What the CPU does next."""
        place = state.places[cpu]
        return body(self.program.cpus[cpu][place.k])[place.phase]

    def enabled(self, state: State) -> Iterator[Name]:
        if state.endless:
            return
        for cpu, buffer in enumerate(state.core.buffers):
            stopped = state.spins[cpu].stands or state.asleep[cpu] != AWAKE
            if not stopped and not self.finished(state, cpu):
                access = self.access(state, cpu)
                if access.op == "relax" or reference.can_run(access, cpu, state.core.buffers):
                    for value in range(outcomes_of(state, access)):
                        yield Name(cpu, state.core.done[cpu], False, value)
            yield from reference.flushes(self.model, cpu, buffer)

    def step(self, state: State, name: Name) -> tuple[State, Event]:
        """The enabled event ``name`` happens; then all go on if all stand still."""
        if name.flush:
            after, event = flushed(state, name)
        else:
            access = self.access(state, name.cpu)
            done = replaced(state.core.done, name.cpu, name.k + 1)
            state = state._replace(core=state.core._replace(done=done))
            after, event = self.happened(state, name, access)
        for spin in after.spins:
            if spin.stands and not any(self.enabled(after)):
                return gone_on(after), event
        return after, event

    def happened(self, state: State, name: Name, access: Instruction) -> tuple[State, Event]:
        event = Event(name, access.op, access.word, NOTHING, NOTHING)
        if access.op == "relax":
            return self.relaxed(self.moved(state, name.cpu, 0), name.cpu), event
        if access.op == "choose":
            return self.chosen(state, name), event
        if access.op == "wake":
            return woken(self.moved(state, name.cpu, 0), name, access), event
        if access.op == "wait":
            waiting = slept(self.moved(state, name.cpu, 0), name.cpu, access)
            return waiting, event._replace(reads=frozenset({access.word}))
        return self.accessed(state, name, access)

    def chosen(self, state: State, name: Name) -> State:
        spin = state.spins[name.cpu]._replace(changed=True)
        after = state._replace(spins=replaced(state.spins, name.cpu, spin))
        return self.moved(after, name.cpu, name.value)

    def moved(self, state: State, cpu: int, answer: int) -> State:
        place = state.places[cpu]
        after, gain = moved_on(self.program.cpus[cpu][place.k], place, answer)
        core = state.core._replace(accs=reference.accumulated(state.core, cpu, gain))
        return state._replace(core=core, places=replaced(state.places, cpu, after))

    def relaxed(self, state: State, cpu: int) -> State:
        spin = state.spins[cpu]
        repeated = (
            spin.repeated + 1 if not spin.changed and same_values(spin.found, spin.last) else 0
        )
        stands = not spin.changed and repeated >= self.free_spins
        if stands and spin.overtaken:
            repeated, stands = 0, False
        next_spin = Spin((), spin.found, min(repeated, self.free_spins), stands=stands)
        if self.finished(state, cpu):
            next_spin = Spin()
        return state._replace(spins=replaced(state.spins, cpu, next_spin))

    def accessed(self, state: State, name: Name, access: Instruction) -> tuple[State, Event]:
        before, cpu = state.core, name.cpu
        if access.op in reference.READS:
            core, event = reference.run_read(before, name, access)
        elif access.op in reference.STORES:
            core, event = reference.run_store(self.model, before, name, access)
        else:
            core, event = reference.run_atomic(before, name, access)
        answer = (core.accs[cpu] - before.accs[cpu]) & 1023
        changes = access.op in reference.STORES or core.memory != before.memory
        spin = state.spins[cpu]
        spin = spin._replace(
            found=spin.found + found_by(before, event), changed=spin.changed or changes
        )
        core = core._replace(accs=before.accs)
        after = state._replace(core=core, spins=replaced(state.spins, cpu, spin))
        return overtaken(self.moved(after, cpu, answer), before.memory), event


def same_values(found: tuple[Found, ...], last: tuple[Found, ...] | None) -> bool:
    return last is not None and [one[:2] for one in found] == [one[:2] for one in last]


def found_by(core: reference.State, event: Event) -> tuple[Found, ...]:
    """What the event read."""
    own = {entry.word: entry.value for entry in core.buffers[event.name.cpu]}
    forwarded = tuple(Found(word, own[word], True) for word in sorted(event.forwarded))
    return forwarded + tuple(Found(word, core.memory[word], False) for word in sorted(event.reads))


def flushed(state: State, name: Name) -> tuple[State, Event]:
    core, event = reference.flush(state.core, name)
    after = overtaken(state._replace(core=core), state.core.memory)
    spin = disturbed(after.spins[name.cpu], event.word, own=True)
    return after._replace(spins=replaced(after.spins, name.cpu, spin)), event


def overtaken(state: State, memory: tuple[int, ...]) -> State:
    """Words got new values since ``memory``: those that read them in their spins hear of it."""
    spins = state.spins
    if state.core.memory == memory:
        return state
    for word, value in enumerate(memory):
        if state.core.memory[word] != value:
            spins = tuple(disturbed(spin, word, own=False) for spin in spins)
    return state._replace(spins=spins)


def disturbed(spin: Spin, word: int, own: bool) -> Spin:
    """What the spin may have read has a new value."""
    for one in (spin.last if spin.stands else spin.found) or ():
        if one.word == word and one.own == own:
            again = spin._replace(stands=False, repeated=0)
            return again if spin.stands else spin._replace(overtaken=True)
    return spin


def slept(state: State, cpu: int, access: Instruction) -> State:
    spins = replaced(state.spins, cpu, state.spins[cpu]._replace(changed=True))
    state = state._replace(spins=spins)
    if state.core.memory[access.word] != access.a:
        return state
    return state._replace(asleep=replaced(state.asleep, cpu, access.word))


def outcomes_of(state: State, access: Instruction) -> int:
    """How many ways an access can end."""
    return len(wakings(state, access)) if access.op == "wake" else reference.values_of(access)


def wakings(state: State, access: Instruction) -> list[tuple[int, ...]]:
    """The sets of CPUs that a wake can wake."""
    sleepers = [cpu for cpu, word in enumerate(state.asleep) if word == access.word]
    return list(combinations(sleepers, min(1 + (access.a & 1), len(sleepers))))


def woken(state: State, name: Name, access: Instruction) -> State:
    for cpu in wakings(state, access)[name.value]:
        state = state._replace(asleep=replaced(state.asleep, cpu, AWAKE))
    spin = state.spins[name.cpu]._replace(changed=True)
    return state._replace(spins=replaced(state.spins, name.cpu, spin))


def gone_on(state: State) -> State:
    """No event can happen: all that stand still go on, unless they did so here before."""
    spins = tuple(spin._replace(stands=False) for spin in state.spins)
    here = state._replace(spins=spins, halted=None)
    here = here._replace(core=here.core._replace(done=()))
    endless = here == state.halted
    return state._replace(spins=spins, halted=here, endless=endless)


def dependent(one: Event, other: Event) -> bool:
    """Whether the order of the two matters."""
    if one.word == other.word and "wake" in (one.op, other.op):
        return one.op in ("wait", "wake") and other.op in ("wait", "wake")
    return reference.dependent(one, other)


def end_of(state: State) -> End:
    if state.endless:
        return ENDLESS
    if any(word != AWAKE for word in state.asleep):
        return DEADLOCK
    return state.core.memory + state.core.accs
