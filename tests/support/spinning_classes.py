"""Every class of the schedules of a program that spins, sleeps and wakes, by brute force.

``traces`` grows all prefixes of classes by one event at a time, as ``classes_by_prefixes`` of
reference.py does, over the machine of spinning_reference.py. A prefix is the set of its events and
the set of the ordered pairs of those that depend on each other; it determines the state, which
``traces`` requires, so the rules for what depends on what are tested as well. Sets are masks: event
and pair number n are bit n.

``schedules`` counts the interleavings.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from support.reference import Event, Straight
from support.spinning_reference import DEADLOCK, ENDLESS, End, Machine, State, dependent, end_of

Prefix = tuple[int, int]  # events, ordered pairs


class TooManyError(Exception):
    """The program is too large for brute force."""


@dataclass(frozen=True)
class Traces:
    """Of one program: how many classes its schedules have, and how these end."""

    classes: int
    ends: frozenset[End]

    @property
    def outcomes(self) -> set[tuple[int, ...]]:
        return {end for end in self.ends if isinstance(end, tuple)}

    @property
    def failing(self) -> bool:
        return bool({DEADLOCK, ENDLESS} & self.ends)

    @property
    def endless(self) -> bool:
        return ENDLESS in self.ends


class Enumerator:
    """The schedules of one program. ``most``: of the states, prefixes and schedules, each."""

    def __init__(self, program: Straight, model: str, free_spins: int = 1, most: int = 20_000):
        self.machine = Machine(program, model, free_spins)
        self.most = most
        self._numbers: dict[Event, int] = {}
        self._events: list[Event] = []
        self._dependents: list[int] = []  # of each event, the others as a mask
        self._pairs: dict[tuple[int, int], int] = {}
        self._moves: dict[State, list[tuple[int, State]]] = {}

    def moves(self, state: State) -> list[tuple[int, State]]:
        """Each event that can happen next, by its number, and the state behind it."""
        known = self._moves.get(state)
        if known is None:
            if len(self._moves) == self.most:
                raise TooManyError(f"more than {self.most} states")
            steps = [self.machine.step(state, name) for name in self.machine.enabled(state)]
            known = [(self._number(event), after) for after, event in steps]
            self._moves[state] = known
        return known

    def _number(self, event: Event) -> int:
        number = self._numbers.get(event)
        if number is None:
            number = self._numbers[event] = len(self._events)
            related = 0
            for other, earlier in enumerate(self._events):
                if dependent(earlier, event):
                    related |= 1 << other
                    self._dependents[other] |= 1 << number
            self._events.append(event)
            self._dependents.append(related)
        return number

    def _ordered(self, events: int, number: int) -> int:
        """The pairs that event ``number`` makes behind ``events``."""
        pairs = 0
        earlier = events & self._dependents[number]
        while earlier:
            other = earlier.bit_length() - 1
            earlier ^= 1 << other
            pairs |= 1 << self._pairs.setdefault((other, number), len(self._pairs))
        return pairs

    @cached_property
    def schedules(self) -> int:
        """How many interleavings there are."""
        below: dict[State, int] = {}

        def count(state: State) -> int:
            if state not in below:
                below[state] = sum(count(after) for _, after in self.moves(state)) or 1
                if below[state] > self.most:
                    raise TooManyError(f"more than {self.most} schedules")
            return below[state]

        return count(self.machine.start())

    @cached_property
    def traces(self) -> Traces:
        """All classes, and how they end."""
        layer: dict[Prefix, State] = {(0, 0): self.machine.start()}
        classes = seen = 0
        ends: set[End] = set()
        while layer:
            seen += len(layer)
            if seen > self.most:
                raise TooManyError(f"more than {self.most} prefixes")
            longer: dict[Prefix, State] = {}
            for (events, pairs), state in layer.items():
                moves = self.moves(state)
                if not moves:
                    classes += 1
                    ends.add(end_of(state))
                for number, after in moves:
                    prefix = events | 1 << number, pairs | self._ordered(events, number)
                    assert longer.setdefault(prefix, after) == after, self.machine
            layer = longer
        return Traces(classes, frozenset(ends))
