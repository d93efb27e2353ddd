"""Linearizability by its definition, by brute force; and small random histories.

``has_order`` tries every subset of the pending operations and every permutation of the rest.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import combinations, permutations
from typing import Any

from stress.linearize import Model, OneOf, Operation

Kind = tuple[str, Any, Any]  # name, argument, a result that it may have


def states_after(model: Model, order: Sequence[Operation]) -> set[Any]:
    """All states that ``order`` may end in; none: the model forbids it."""
    states = {model.init}
    for operation in order:
        reached = [model.step(state, operation) for state in states]
        states = set()
        for after in reached:
            if type(after) is OneOf:
                states |= after
            elif after is not None:
                states.add(after)
    return states


def keeps_time(order: Sequence[Operation]) -> bool:
    return not any(
        later.returned is not None and later.returned < earlier.call
        for place, earlier in enumerate(order)
        for later in order[place + 1 :]
    )


def keeps_programs(order: Sequence[Operation]) -> bool:
    return not any(
        later.client == earlier.client and later.call < earlier.call
        for place, earlier in enumerate(order)
        for later in order[place + 1 :]
    )


def has_order(
    model: Model,
    history: Sequence[Operation],
    keeps: Callable[[Sequence[Operation]], bool] = keeps_time,
) -> bool:
    completed = [one for one in history if not one.pending]
    pending = [one for one in history if one.pending]
    chosen = (some for size in range(len(pending) + 1) for some in combinations(pending, size))
    return any(
        keeps(order) and states_after(model, order)
        for some in chosen
        for order in permutations([*completed, *some])
    )


def random_history(
    rng: random.Random, kinds: Sequence[Kind], operations: int, clients: int = 3
) -> list[Operation]:
    """Clients that do anything and get any answer; the last operation of some is pending."""
    clock = iter(range(1, 1000))
    under_way: dict[int, tuple[Kind, int]] = {}
    history: list[Operation] = []
    begun = 0
    while begun < operations:
        client = rng.randrange(clients)
        if client in under_way:
            (name, argument, result), call = under_way.pop(client)
            history.append(Operation(client, name, argument, result, call, next(clock)))
        else:
            under_way[client] = rng.choice(kinds), next(clock)
            begun += 1
    for client, ((name, argument, result), call) in under_way.items():
        returned = None if rng.random() < 0.5 else next(clock)
        history.append(Operation(client, name, argument, result, call, returned))
    return history
