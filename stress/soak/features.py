"""Swarm testing: features that a round of real processes has, or has not.

A round with half of the features finds what a round with all of them hides, because features
suppress each other (Groce, Zhang, Eide, Chen, Regehr: "Swarm Testing", ISSTA 2012). Each feature is
on by its own chance, drawn from the seed of the round and the name of the feature, so that a new
feature changes no other. Of two that exclude each other, the one that is looked at first stays; the
order is drawn as well.

``run_features.py`` has the features.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from stress.seeds import derive
from stress.soak.spec import SoakSpec

EVEN = 0.5
SELDOM = 1 / 16
T = TypeVar("T")
Options = dict[str, str]


class Draw:
    """Random choices for one purpose of one round."""

    def __init__(self, seed: int, purpose: str) -> None:
        self._random = random.Random(derive(seed, purpose))

    def chance(self, share: float) -> bool:
        return self._random.random() < share

    def one(self, choices: Iterable[T]) -> T:
        return self._random.choice(list(choices))

    def weighted(self, weights: Mapping[str, int]) -> str:
        return self._random.choices(list(weights), list(weights.values()))[0]

    def between(self, least: int, most: int) -> int:
        return self._random.randint(least, most)

    def shuffled(self, values: Iterable[T]) -> list[T]:
        found = list(values)
        self._random.shuffle(found)
        return found


Setter = Callable[[Draw, SoakSpec], Options]


@dataclass(frozen=True)
class Feature:
    """``options``: what it sets when it is on, of ``shmstress run``.

    ``excludes``, ``needs``: names of features that it cannot be on with, or without.
    """

    name: str
    options: Setter
    excludes: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    chance: float = EVEN


def switched_on(features: Sequence[Feature], seed: int) -> list[Feature]:
    """Those that are on in the round with this seed, in the order of ``features``."""
    on: dict[str, Feature] = {}
    for feature in Draw(seed, "order of features").shuffled(features):
        wanted = Draw(seed, f"feature {feature.name}").chance(feature.chance)
        if wanted and not feature.excludes & on.keys() and not _excluded(feature.name, on):
            on[feature.name] = feature
    return [one for one in features if one.name in on and one.needs <= on.keys()]


def _excluded(name: str, on: Mapping[str, Feature]) -> bool:
    return any(name in feature.excludes for feature in on.values())
