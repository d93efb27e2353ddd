"""``--jitter SPEC``: how the accesses of a run's workers are delayed, as text and as data.

``on``, or settings separated by commas, each with its default::

    seed=N            which sites wait, and how; else the run's seed decides
    sites=50%         the share of the places in the code that ever wait
    short=1/256       a place of this kind waits once in 256 accesses, for a short spin
    long=1/4096       for a long spin, some microseconds
    yield=1/1024      for others: sched_yield
    sleep=1/32768     for a sleep, below a millisecond
    shuffle=on        workers move to random cores after each audit
    stutter=off       or 500ms/5s: after 5 s of work all workers stop for 500 ms, and go on at once

``off`` takes a kind of delay away. ``str`` of a ``Jitter`` is text that parses to it again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stress.jitter.delays import KINDS, Delays
from stress.jitter.state import MAX_GAP
from shmalloc.errors import MisuseError
from shmalloc.sizes import parse_duration
from stress.quantities import exact_duration, nearest, parse_seed, percent_of, require_once

_CHANCE = re.compile(r"1/(\d+)")
GAPS = {"short": 256, "long": 4096, "yield": 1024, "sleep": 32768}
assert tuple(GAPS) == KINDS


@dataclass(frozen=True)
class Stutter:
    """Work for ``work_s``, then stop for ``pause_s``."""

    pause_s: float
    work_s: float

    def __str__(self) -> str:
        return f"{exact_duration(self.pause_s)}/{exact_duration(self.work_s)}"


@dataclass(frozen=True)
class Jitter:
    """What is done to the workers of a run. ``gaps``: mean accesses between two waits, by kind."""

    seed: int | None = None
    sites_percent: int = 50
    gaps: tuple[tuple[str, int], ...] = tuple(GAPS.items())
    shuffle: bool = True
    stutter: Stutter | None = None

    @property
    def delays(self) -> Delays:
        return Delays(self.sites_percent / 100, dict(self.gaps))

    def __str__(self) -> str:
        gaps = dict(self.gaps)
        texts = [] if self.seed is None else [f"seed={self.seed:#x}"]
        if self.sites_percent != Jitter.sites_percent:
            texts.append(f"sites={self.sites_percent}%")
        for kind in KINDS:
            if gaps.get(kind) != GAPS[kind]:
                texts.append(f"{kind}=1/{gaps[kind]}" if kind in gaps else f"{kind}=off")
        if not self.shuffle:
            texts.append("shuffle=off")
        if self.stutter is not None:
            texts.append(f"stutter={self.stutter}")
        return ",".join(texts) or "on"


def _percent(text: str) -> int:
    percent = percent_of(text)
    if not 0 <= percent <= 100:
        raise MisuseError(f"jitter: sites={text}; use a share from 0% to 100%")
    return percent


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise nearest(text, ("on", "off"), "jitter: shuffle")
    return text == "on"


def _stutter(text: str) -> Stutter | None:
    if text == "off":
        return None
    pause, slash, work = text.partition("/")
    if not slash:
        raise MisuseError(f"jitter: stutter={text}; use PAUSE/WORK such as 500ms/5s, or off")
    return Stutter(parse_duration(pause, "stutter"), parse_duration(work, "stutter"))


def _gap(text: str) -> int | None:
    match = _CHANCE.fullmatch(text)
    if text == "off":
        return None
    if match is None or not 1 <= int(match[1]) <= MAX_GAP:
        raise MisuseError(
            f"jitter: a delay of {text!r}; use 1/N with N from 1 to {MAX_GAP}, or off"
        )
    return int(match[1])


_SETTINGS: dict[str, Callable[[str], object]] = {
    "seed": parse_seed, "sites": _percent, **dict.fromkeys(KINDS, _gap), "shuffle": _switch,
    "stutter": _stutter,
}  # fmt: skip


def parse_jitter(text: str) -> Jitter:
    """The jitter of ``text``. Raises ``MisuseError`` with the nearest setting that there is."""
    values: dict[str, Any] = {}
    for part in () if text.strip() == "on" else text.split(","):
        name, equals, value = part.strip().partition("=")
        if name not in _SETTINGS:
            raise nearest(name, ("on", *_SETTINGS), "jitter")
        require_once("jitter", name, equals, name in values)
        values[name] = _SETTINGS[name](value)
    gaps = {kind: values.pop(kind, gap) for kind, gap in GAPS.items()}
    if "sites" in values:
        values["sites_percent"] = values.pop("sites")
    present = tuple((kind, gap) for kind, gap in gaps.items() if gap is not None)
    return Jitter(gaps=present, **values)
