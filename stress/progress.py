"""Progress: the one interface between long work and its observers.

Work calls ``report(Step(...))`` as often as it likes, from one thread at a time. ``shown(wanted)``
gives a report that draws one line on standard error by rich, or nothing if that is no terminal;
``logged(logger)`` one that writes a line every ten seconds, for Python code that calls us. A report
costs next to nothing when it draws nothing.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

DRAW_EVERY_S = 0.1
LOG_EVERY_S = 10.0


@dataclass(frozen=True)
class Step:
    """``done`` of ``total`` units of ``label``; ``total`` None: there is no telling.

    ``note``: what else there is to say, such as ``1,200 schedules``.
    """

    label: str
    done: float = 0
    total: float | None = None
    note: str = ""

    def __str__(self) -> str:
        share = f" {self.done / self.total:.0%}" if self.total else ""
        return f"{self.label}:{share} {self.note}".rstrip().removesuffix(":")


Report = Callable[[Step], None]


def silent(step: Step) -> None:
    """The report of work that is not watched."""


@contextmanager
def shown(wanted: str = "auto", ticking: bool = False) -> Iterator[Report]:
    """A report for ``--progress auto|always|never``.

    ``ticking``: redraw while the work is silent, by a thread; not beside work that forks.
    """
    if wanted == "never" or (wanted == "auto" and not sys.stderr.isatty()):
        yield silent
        return
    from rich.console import Console  # rich costs 80 ms: only for a terminal
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(
        stderr=True, force_terminal=True if wanted == "always" else None, force_jupyter=False
    )
    columns = (
        SpinnerColumn("dots" if console.encoding.startswith("utf") else "line"),
        TextColumn("{task.description}", markup=False),
        BarColumn(24),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns,
        console=console,
        auto_refresh=ticking,
        transient=True,
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),  # a pipe stays one
    ) as bars:
        task = bars.add_task("", total=None, note="")
        due = 0.0

        def report(step: Step) -> None:
            nonlocal due
            bars.update(
                task, description=step.label, completed=step.done, total=step.total, note=step.note
            )
            now = time.monotonic()
            if now >= due or step.done == step.total:
                due = now + DRAW_EVERY_S
                bars.refresh()

        yield report


def logged(logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> Report:
    """A report that says how far it is every ten seconds, the first time after ten seconds."""
    due = clock() + LOG_EVERY_S

    def report(step: Step) -> None:
        nonlocal due
        if clock() >= due:
            due = clock() + LOG_EVERY_S
            logger.warning("%s", step)

    return report
