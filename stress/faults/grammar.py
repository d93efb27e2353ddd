"""``--faults SPEC[,SPEC...]``: which faults a run has, as text and as data.

::

    kill:every=100ms            SIGKILL to a random worker, about each 100 ms
    kill:fuse=1..2000           the same by a fuse: at its N-th write from now, N of the range
    stop:every=1s,for=300ms     SIGSTOP to a random worker, SIGCONT 300 ms later
    fail:p=0.01                 each allocation fails with this chance; or every=100, nth=7 (once);
                                kind=page or kind=object: only those
    pressure:pages=50%          half of the memory is taken and given back in waves (every=2s)
    hotplug:every=200ms         CPU slots are unplugged and plugged in again

A part without a colon goes on with the fault before it. Each fault may be given several times;
every setting has a default but that of ``fail``. ``str`` of a fault parses to it again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, ClassVar

from shmalloc.errors import MisuseError
from shmalloc.sizes import parse_duration
from stress.quantities import exact_duration, nearest, percent_of, require_once

FUSE_MOST = 1 << 40
KINDS = ("page", "object")
_RANGE = re.compile(r"(\d+)(?:\.\.(\d+))?")


@dataclass(frozen=True)
class Fault:
    """One fault: its settings are the fields of the class, in the order in which they print."""

    name: ClassVar[str]

    def __str__(self) -> str:
        settings = ",".join(
            f"{_NAMES.get(field.name, field.name)}={_text(field.name, getattr(self, field.name))}"
            for field in fields(self)
            if getattr(self, field.name) is not None
        )
        return f"{self.name}:{settings}"


@dataclass(frozen=True)
class Kill(Fault):
    """SIGKILL to one worker, on average each ``every_s``; with ``fuse`` by its own N-th write."""

    name = "kill"
    every_s: float = 0.1
    fuse: range | None = None


@dataclass(frozen=True)
class Stop(Fault):
    """SIGSTOP to one worker, on average each ``every_s``, and SIGCONT after ``for_s``."""

    name = "stop"
    every_s: float = 1.0
    for_s: float = 0.3


@dataclass(frozen=True)
class Fail(Fault):
    """Allocations that fail: by chance, each n-th, or once the n-th, of every worker."""

    name = "fail"
    p: float | None = None
    every: int | None = None
    nth: int | None = None
    kind: str | None = None


@dataclass(frozen=True)
class Pressure(Fault):
    """A share of the memory that somebody else takes and gives back, a wave each ``every_s``."""

    name = "pressure"
    pages: float = 0.5
    every_s: float = 2.0


@dataclass(frozen=True)
class Hotplug(Fault):
    """A random slot is unplugged, on average each ``every_s``, and plugged in at the next time."""

    name = "hotplug"
    every_s: float = 0.2


_NAMES = {"every_s": "every", "for_s": "for"}


def _text(name: str, value: object) -> str:
    """A setting as its parser reads it."""
    if isinstance(value, range):
        return f"{value.start}..{value.stop - 1}"
    if isinstance(value, float):
        if name.endswith("_s"):
            return exact_duration(value)
        return f"{round(value * 100)}%" if name == "pages" else f"{Decimal(repr(value)):f}"
    return str(value)


def _whole(value: str, what: str) -> int:
    if not value.isdigit() or int(value) < 1:
        raise MisuseError(f"{what}: {value!r}; use a number of at least 1")
    return int(value)


def _chance(value: str, what: str) -> float:
    try:
        chance = float(value)
    except ValueError:
        chance = -1.0
    if not 0 < chance <= 1:
        raise MisuseError(f"{what}: {value!r}; use a chance such as 0.01, at most 1")
    return chance


def _share(value: str, what: str) -> float:
    percent = percent_of(value)
    if not 1 <= percent <= 100:
        raise MisuseError(f"{what}: {value!r}; use a share of the memory from 1% to 100%")
    return percent / 100


def _fuse(value: str, what: str) -> range:
    match = _RANGE.fullmatch(value)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last <= FUSE_MOST:
        raise MisuseError(f"{what}: {value!r}; use a number of writes, or a range such as 1..2000")
    return range(first, last + 1)


def _kind(value: str, what: str) -> str:
    if value not in KINDS:
        raise nearest(value, KINDS, what)
    return value


Parser = Callable[[str, str], Any]
_SETTINGS: dict[type[Fault], dict[str, tuple[str, Parser]]] = {
    Kill: {"every": ("every_s", parse_duration), "fuse": ("fuse", _fuse)},
    Stop: {"every": ("every_s", parse_duration), "for": ("for_s", parse_duration)},
    Fail: {
        "p": ("p", _chance), "every": ("every", _whole), "nth": ("nth", _whole),
        "kind": ("kind", _kind),
    },
    Pressure: {"pages": ("pages", _share), "every": ("every_s", parse_duration)},
    Hotplug: {"every": ("every_s", parse_duration)},
}  # fmt: skip
FAULTS: dict[str, type[Fault]] = {fault.name: fault for fault in _SETTINGS}


def parse_faults(text: str) -> tuple[Fault, ...]:
    """The faults of ``text``. Raises ``MisuseError`` with the nearest name that there is."""
    groups: list[tuple[str, list[str]]] = []
    for part in text.split(","):
        name, colon, setting = part.strip().partition(":")
        if colon or "=" not in name:
            groups.append((name, [setting] if setting else []))
        elif groups:
            groups[-1][1].append(name)
        else:
            raise MisuseError(f"faults: {name!r} belongs to no fault; begin with one such as kill:")
    return tuple(_parse_fault(name, settings) for name, settings in groups)


def _parse_fault(name: str, settings: list[str]) -> Fault:
    if name not in FAULTS:
        raise nearest(name, FAULTS, "faults")
    kind = FAULTS[name]
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.strip().partition("=")
        if key not in _SETTINGS[kind]:
            raise nearest(key, _SETTINGS[kind], f"faults: {name}")
        field, parse = _SETTINGS[kind][key]
        require_once(f"faults: {name}", key, equals, field in values)
        values[field] = parse(value, f"faults: {name}: {key}")
    if kind is Fail and sum(key in values for key in ("p", "every", "nth")) != 1:
        raise MisuseError("faults: fail: use one of p=0.01, every=100 or nth=7")
    return kind(**values)
