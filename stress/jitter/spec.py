"""``--jitter SPEC``: how the accesses of a run's workers are delayed, as text and as data.

``on``, or settings separated by commas, each with its default::

    seed=N            which sites wait, and how; by default the run's seed decides
    sites=50%         the share of the access sites that ever wait
    short=1/256       a site of this kind waits once in 256 accesses, for a short spin
    long=1/4096       for a long spin, some microseconds
    yield=1/1024      for other threads: sched_yield
    sleep=1/32768     for a sleep, below a millisecond
    shuffle=on        workers move to random cores after each audit
    stutter=off       or 500ms/5s: after 5 s of work all workers stop for 500 ms, and go on at once

``off`` takes a kind of delay away. In a file the same names stand in a table ``[jitter]``, and
``stutter`` may be a table of ``pause`` and ``work``. ``str`` of a ``Jitter`` parses to it again.
"""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Struct, field

from shmalloc.errors import MisuseError
from stress.jitter.delays import KINDS, Delays
from stress.jitter.state import MAX_GAP
from stress.quantities import exact_duration
from stress.settings import Duration, Seed, Switch, line_of, quantity, read, share


def _gap(text: str) -> str:
    match = re.fullmatch(r"1/(\d+)", text)
    if match is None:
        raise ValueError(text)
    return match[1]


Gap = Annotated[
    int, quantity(f"1/N with N from 1 to {MAX_GAP}, or off", _gap, "1/{}".format, ge=1, le=MAX_GAP)
]


class Stutter(Struct, frozen=True):
    """Work for ``work_s``, then stop for ``pause_s``."""

    pause_s: Duration = field(name="pause")
    work_s: Duration = field(name="work")

    def __str__(self) -> str:
        return f"{exact_duration(self.pause_s)}/{exact_duration(self.work_s)}"


def _stutter(given: object) -> Stutter:
    if isinstance(given, str):
        pause, slash, work = given.partition("/")
        if not slash:
            raise MisuseError(f"jitter.stutter: {given!r}; use PAUSE/WORK such as 500ms/5s, or off")
        given = {"pause": pause, "work": work}
    return read(Stutter, given, "jitter.stutter")


class Jitter(Struct, frozen=True):
    """What is done to the workers of a run. A gap is the mean number of accesses between waits."""

    seed: Seed | None = None
    sites: Annotated[float, share("0%")] = 0.5
    short: Gap | None = 256
    long: Gap | None = 4096
    yield_: Gap | None = field(default=1024, name="yield")
    sleep: Gap | None = 32768
    shuffle: Switch = True
    stutter: Annotated[Stutter, quantity(read=_stutter)] | None = None

    @property
    def delays(self) -> Delays:
        gaps = zip(KINDS, (self.short, self.long, self.yield_, self.sleep), strict=True)
        return Delays(self.sites, {kind: gap for kind, gap in gaps if gap is not None})

    def __str__(self) -> str:
        return line_of(self, brief=True) or "on"


def parse_jitter(given: object) -> Jitter:
    """The jitter of a line, of a table, or of ``on``. A misuse is one line with place and cure."""
    return read(Jitter, given, "jitter")
