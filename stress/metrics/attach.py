"""Metrics for a command: an ``Exporter`` if its options ask for one, closed at the end.

prometheus_client is an extra. It is imported here, and only if metrics are wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from shmalloc.errors import EnvironmentUnfitError
from stress.metrics.places import Places
from stress.workloads import EVENT_NAMES

if TYPE_CHECKING:
    from stress.metrics.exporter import Exporter
    from stress.run.result import RunResult


@contextmanager
def attached(
    places: Places, command: str, told: Callable[[str], object]
) -> Iterator[Exporter | None]:
    """The exporter of a command, or None. Its port is closed at the end, however that comes.

    Raises ``MisuseError`` if the port or the file cannot be used, ``EnvironmentUnfitError`` without
    prometheus_client.
    """
    if not places.any:
        yield None
        return
    if find_spec("prometheus_client") is None:
        raise EnvironmentUnfitError(
            "metrics: they need prometheus_client; pip install 'shmalloc[metrics]'"
        )
    from stress.metrics.exporter import Exporter

    exporter = Exporter(places, command, told)
    try:
        yield exporter
    finally:
        exporter.close()


def end_of(exporter: Exporter, result: RunResult) -> None:
    """A run, which is one round, is over."""
    from stress.metrics.state import Ending

    events = {name: result.events[number] for number, name in EVENT_NAMES.items()}
    exporter.end_round(
        Ending(
            result.verdict,
            result.violations,
            result.violations_total,
            result.latencies,
            events,
            result.audits,
        )
    )
    exporter.finish(result.verdict)
