"""Kinds of values on the command line: times, seeds, sizes, names. Each checks and completes.

A wrong value raises ``MisuseError`` with the option, the value and the accepted forms, so that it
is one line and exit code 4 as everywhere. Values also come from the environment (text) and from
TOML files (numbers, lists), so a kind takes those as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from shmalloc.sizes import parse_bytes, parse_duration
from stress.quantities import nearest, parse_seed

if TYPE_CHECKING:
    Kind = click.ParamType[Any]
else:
    Kind = click.ParamType  # generic since click 8.4

Lookup = Callable[[], Iterable[str]]
SHOWN_CHOICES = 5  # a help text names this many choices, else only the kind


def _named(param: click.Parameter | None, kind: str) -> str:
    """The option as it is documented, for an error; ``kind`` for an argument."""
    return param.opts[0].lstrip("-") if isinstance(param, click.Option) else kind


class Time(Kind):
    """Seconds of ``90``, ``90s``, ``5m`` or ``1h30m``; with ``unlimited``, 0 means no limit."""

    name = "time"

    def __init__(self, unlimited: bool = False) -> None:
        self.unlimited = unlimited

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        if self.unlimited and str(value).strip() in ("0", "0s", "0.0"):
            return None
        return parse_duration(value, _named(param, self.name))


class Seed(Kind):
    """A seed in decimal or in 0x hexadecimal."""

    name = "seed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return parse_seed(str(value))


class Size(Kind):
    """Bytes, as a number or as ``64MiB``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return parse_bytes(value, _named(param, self.name))


class Names(Kind):
    """One of the ``known`` names; with ``several``, a list of them separated by commas.

    ``known`` is a tuple, or a function if an import is needed to know them. ``open``: other
    values are good as well (a file, MODULE:NAME), the command itself looks at them.
    """

    def __init__(
        self, what: str, known: Lookup | tuple[str, ...], several: bool = False, open: bool = False
    ) -> None:
        self.name = what
        self._known = known
        self.several = several
        self.open = open

    @property
    def known(self) -> list[str]:
        return list(self._known() if callable(self._known) else self._known)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str | None:
        if callable(self._known) or len(self._known) > SHOWN_CHOICES:
            return None
        return f"[{'|'.join(self._known)}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        if not self.open:
            known = self.known
            for name in text.split(",") if self.several else [text]:
                if name.strip() not in known:
                    raise nearest(name.strip(), known, self.name)
        return text

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        before, comma, begun = incomplete.rpartition(",") if self.several else ("", "", incomplete)
        taken = before.split(",")
        found = [
            CompletionItem(before + comma + name)
            for name in self.known
            if name.startswith(begun) and name not in taken
        ]
        return found or ([CompletionItem(incomplete, type="file")] if self.open else [])


def _programs() -> Iterable[str]:
    from stress.programs import PROGRAMS

    return PROGRAMS


def _cases() -> Iterable[str]:
    from stress.crash.allocator import case_names

    return case_names()


def _workloads() -> Iterable[str]:
    from stress.workloads import WORKLOADS

    return WORKLOADS


def _mutants() -> Iterable[str]:
    from stress.mutants import MUTANTS, PARTS

    return [*PARTS, *MUTANTS]


def _litmus_tests() -> Iterable[str]:
    from stress.litmus.catalogue import CATALOGUE

    return CATALOGUE


def _operations() -> Iterable[str]:
    from stress.faults.operations import OPERATIONS

    return OPERATIONS


def _bench_patterns() -> Iterable[str]:
    from stress.bench.catalogue import known

    return known()


def _segments() -> Iterable[str]:
    from stress.top.segments import segments

    return [one.name for one in segments()]


PROGRAMS = Names("program", _programs, open=True)
CASES = Names("program", _cases, open=True)
WORKLOADS = Names("workload", _workloads, several=True)
MUTANTS = Names("mutant", _mutants, open=True)
LITMUS_TESTS = Names("litmus test", _litmus_tests)
OPERATIONS = Names("operation", _operations)
BENCH_PATTERNS = Names("pattern", _bench_patterns)
MEMORIES = Names("memory", ("sc", "tso", "pso"))
SEGMENTS = Names("segment", _segments, open=True)
