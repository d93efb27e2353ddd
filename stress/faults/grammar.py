"""``--faults SPEC[,SPEC...]``: the faults of a run as one line, as tables, and as data.

::

    kill:every=100ms            SIGKILL to a random worker, on average each 100 ms
    kill:fuse=1..2000           the same by a fuse: at its N-th write from now, N in the range
    stop:every=1s,for=300ms     SIGSTOP to a random worker, SIGCONT 300 ms later
    fail:p=0.01                 each allocation fails with this probability; or every=100, nth=7
                                (once); kind=page or kind=object restricts it to one kind
    pressure:pages=50%          takes half of the memory and gives it back in waves (every=2s)
    hotplug:every=200ms         unplugs CPU slots and plugs them in again
    report:every=50ms           gives the free memory of a pageblock back to the system; needs
                                --geometry reporting=on

``off`` means no faults, to override a settings file. A part without a colon continues the fault
before it. A fault may occur several times; every setting except those of ``fail`` has a default. In
a file, faults are a line, a list of lines, or tables: ``[faults.kill]``, ``[[faults.kill]]``, or
``[[faults]]`` with ``fault = "kill"``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar

from msgspec import Struct, field

from shmalloc.errors import MisuseError
from stress.quantities import nearest
from stress.settings import Duration, decimal, line_of, quantity, read, share

FUSE_MOST = 1 << 40
_RANGE = re.compile(r"(\d+)(?:\.\.(\d+))?")


def _fuse(value: str | list[int]) -> range:
    text = value if isinstance(value, str) else "..".join(map(str, value))
    match = _RANGE.fullmatch(text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last <= FUSE_MOST:
        raise ValueError(text)
    return range(first, last + 1)


Writes = Annotated[
    range,
    quantity(
        "a number of writes, or a range such as 1..2000",
        _fuse,
        lambda writes: f"{writes.start}..{writes.stop - 1}",
    ),
]
Count = Annotated[int, quantity("a number of at least 1", ge=1, le=FUSE_MOST)]
Chance = Annotated[
    float, quantity("a probability such as 0.01, at most 1", show=decimal, gt=0, le=1)
]


class Fault(Struct, frozen=True):
    """One fault: its settings are the fields of its class, in the order in which they print."""

    name: ClassVar[str]

    def __str__(self) -> str:
        return f"{self.name}:{line_of(self)}".rstrip(":")


class Kill(Fault, frozen=True):
    """SIGKILL to one worker, on average each ``every_s``; with ``fuse`` by its own N-th write."""

    name = "kill"
    every_s: Duration = field(default=0.1, name="every")
    fuse: Writes | None = None


class Stop(Fault, frozen=True):
    """SIGSTOP to one worker, on average each ``every_s``, and SIGCONT after ``for_s``."""

    name = "stop"
    every_s: Duration = field(default=1.0, name="every")
    for_s: Duration = field(default=0.3, name="for")


class Fail(Fault, frozen=True):
    """Allocations that fail in every worker: by chance, every n-th, or the n-th once."""

    name = "fail"
    p: Chance | None = None
    every: Count | None = None
    nth: Count | None = None
    kind: Annotated[str, quantity(choices=("page", "object"))] | None = None

    def __post_init__(self) -> None:
        if [self.p, self.every, self.nth].count(None) != 2:
            raise ValueError("use one of p=0.01, every=100 or nth=7")


class Pressure(Fault, frozen=True):
    """A share of memory that the controller takes and gives back, one wave per ``every_s``."""

    name = "pressure"
    pages: Annotated[float, share("1%")] = 0.5
    every_s: Duration = field(default=2.0, name="every")


class Hotplug(Fault, frozen=True):
    """Unplugs a random slot, on average each ``every_s``, and plugs it in the next time."""

    name = "hotplug"
    every_s: Duration = field(default=0.2, name="every")


class Report(Fault, frozen=True):
    """Free page reporting of a random pageblock, on average each ``every_s``."""

    name = "report"
    every_s: Duration = field(default=0.05, name="every")


_KINDS = (Kill, Stop, Fail, Pressure, Hotplug, Report)
FAULTS: dict[str, type[Fault]] = {kind.name: kind for kind in _KINDS}


def parse_faults(given: object) -> tuple[Fault, ...]:
    """The faults of a line, a list, or tables. A misuse raises one line with place and cure."""
    return tuple(_fault(name, settings) for name, settings in _groups(given))


def _fault(name: str, settings: object) -> Fault:
    if name not in FAULTS:
        raise nearest(name, FAULTS, "faults")
    return read(FAULTS[name], settings, f"faults.{name}")


def _groups(given: object) -> Iterator[tuple[str, object]]:
    """Name and settings of each fault."""
    if given == "off":
        return
    if isinstance(given, str):
        for part in re.split(r",(?=[^,=]*(?::|,|$))", given):  # commas before a name of a fault
            name, _, settings = part.strip().partition(":")
            yield name, settings or "on"
    elif isinstance(given, list):
        for one in given:
            if isinstance(one, Mapping):
                yield str(one.get("fault", "")), {k: v for k, v in one.items() if k != "fault"}
            else:
                yield from _groups(one)
    elif isinstance(given, Mapping):
        for name, tables in given.items():
            for table in tables if isinstance(tables, list) else [tables]:
                yield name, table
    else:
        raise MisuseError(f"faults: {given!r}; use a line, a list of lines, or tables")
