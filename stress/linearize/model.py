"""``Model``: what an object does for one client at a time, as pure functions.

Rules for a step function:

- it changes nothing: states are hashable values, and it returns new ones
- it returns None if the operation's result is impossible in that state; so None is no state
- a pending operation has no result. ``operation.result == value`` is always true for it; a step
  that does more with results (indexes, orders, tests for truth) tests ``operation.pending`` first
- it always returns the same for the same arguments
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shmalloc.errors import MisuseError
from stress.linearize.history import Operation

State = Any
Parts = Mapping[Hashable, Sequence[Operation]]


class OneOf(frozenset[Any]):
    """Several states, one of which is the true one: returned by a step that has a choice.

    The search keeps the whole set until a later result decides.
    """


Rejoin = Callable[[Sequence[Operation], Sequence[Hashable]], Sequence[Operation] | None]
Step = Callable[[State, Operation], State]


@dataclass(frozen=True, eq=False)
class Model:
    """A sequential specification.

    ``init``: the first state. ``step(state, operation)``: the state afterwards, a ``OneOf``, or
    None if the operation cannot have that result. ``partition``: splits a history into parts
    that the model allows or forbids independently of each other; it may leave out an operation that
    the model allows anywhere (these are counted). It matters only for speed, but much: the search
    is exponential in the overlap within a part. ``rejoin(history, keys of failed parts)``: if the
    partition left out pending operations that could explain such a failure, all operations of those
    parts with them, to check as one part instead; None: no operation could.

    ``observes(operation)``: whether it, with this result, leaves *every* state that allows it
    unchanged (a read does; a write of the present value does not, it would change other states).
    Only for speed. ``by_client``: whether ``step`` looks at ``operation.client``. ``describe``,
    ``describe_state``: for reports.
    """

    init: State
    step: Step
    partition: Callable[[Sequence[Operation]], Parts] | None = None
    describe: Callable[[Operation], str] = str
    describe_state: Callable[[State], str] = repr
    rejoin: Rejoin | None = None
    observes: Callable[[Operation], bool] | None = None
    by_client: bool = True
    name: str = "model"

    def __post_init__(self) -> None:
        try:
            hash(self.init)
        except TypeError:
            raise MisuseError(
                f"init: {self.init!r} cannot be hashed; use tuples and frozensets for states"
            ) from None
        if self.init is None:
            raise MisuseError("init: None means 'impossible'; use another value for nothing")


def advance(step: Step, state: State, operation: Operation) -> State:
    """``step`` over one state or a ``OneOf``; None if no state allows the operation."""
    if type(state) is not OneOf:
        after = step(state, operation)
        return after if type(after) is not OneOf else _settled(after)
    reached: set[State] = set()
    for one in state:
        after = step(one, operation)
        if type(after) is OneOf:
            reached |= after
        elif after is not None:
            reached.add(after)
    return _settled(OneOf(reached))


def _settled(states: OneOf) -> State:
    if len(states) > 1:
        return states
    return next(iter(states), None)


def by_key(history: Sequence[Operation]) -> Parts:
    """A partition: operations on different keys are on different objects."""
    parts: dict[Hashable, list[Operation]] = {}
    for operation in history:
        parts.setdefault(operation.key, []).append(operation)
    return parts


def keyed(model: Model) -> Model:
    """Many objects of ``model``, one for each key, checked one by one.

    Linearizability is local (Herlihy and Wing 1990): a history is linearizable exactly if that of
    each object is. The state here, a set of (key, state), serves the check of a whole.
    """

    def step(states: frozenset[tuple[Hashable, State]], operation: Operation) -> State:
        before = next((one for key, one in states if key == operation.key), model.init)
        after = advance(model.step, before, operation)
        others = states - {(operation.key, before)}
        if type(after) is OneOf:
            return OneOf(others | {(operation.key, one)} for one in after)
        return None if after is None else others | {(operation.key, after)}

    name = f"{model.name} by key"
    return replace(model, init=frozenset(), step=step, partition=by_key, rejoin=None, name=name)
