"""``Exporter``: a receiver of a run's progress that exports what it hears.

It takes a moment once a second, serves it over HTTP, writes it to a file, or both. A run is never
stopped by its metrics: a file that can no longer be written is told once, and tried again at the
next sample. ``attach.py`` makes one for a command and takes care of its end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from stress.metrics.families import families
from stress.metrics.places import Places
from stress.metrics.server import MetricsServer
from stress.metrics.state import Ending, State, by_invariant
from stress.metrics.textfile import require_textfile, write_textfile
from stress.run.progress import Moment, Progress
from stress.spec import RunSpec
from stress.surroundings import sentence
from stress.verdict import Verdict

SAMPLE_EVERY_S = 1.0


class Exporter(Progress):
    """Receives Moments, and says how rounds ended. ``told``: gets a line for people.

    Raises ``MisuseError`` if the port or the file cannot be used.
    """

    def __init__(
        self,
        places: Places,
        command: str,
        told: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state = State(command, time.time())
        self.trouble = ""
        self._told = told
        self._clock = clock
        self._due_s = clock()
        self._file = places.file
        self._registry = CollectorRegistry()
        self._registry.register(self)
        require_textfile(places.file)
        self._server: MetricsServer | None = None
        if places.port is not None:
            self._server = MetricsServer(self._registry, places.address, places.port)
            told(f"metrics: {self._server.url}")

    # --- what a run tells ------------------------------------------------------------------------

    def begin_round(self, number: int, kind: str, about: Mapping[str, object]) -> None:
        """A round begins: a ``kind`` of command, with settings ``about`` by option."""
        self.state = replace(
            self.state, round=number, kind=kind, about=about, moment=None, sums=self.state.counts
        )
        self._due_s = self._clock()

    def begin(self, spec: RunSpec) -> None:
        """The only round of a run begins."""
        self.begin_round(1, self.state.command, spec.as_dict())
        self.serve()

    def serve(self) -> None:
        """Answer scrapes from now on. Not before what forks has forked: it starts threads."""
        if self._server is not None:
            self._server.start()

    def moment(self, take: Callable[[], Moment]) -> None:
        now_s = self._clock()
        if now_s >= self._due_s:
            self._due_s = now_s + SAMPLE_EVERY_S
            self.last(take)

    def last(self, take: Callable[[], Moment]) -> None:
        self.state = replace(self.state, moment=take())
        self._write()

    def end_round(self, ending: Ending) -> None:
        """A round is over."""
        state, found = self.state, by_invariant(ending.violations, ending.total)
        self.state = replace(
            state,
            moment=None if state.moment is None else ending.after(state.moment),
            sums=state.sums.plus_round(ending.verdict, found),
        )

    def finding(self) -> None:
        """Something was found that was not known."""
        self.state = replace(self.state, findings=self.state.findings + 1)

    def finish(self, verdict: Verdict) -> None:
        """Nothing more will come. The file keeps this last state."""
        self.state = replace(self.state, finished=True, verdict=verdict)
        self._write()

    def close(self) -> None:
        """Close the port and end its threads."""
        if self._server is not None:
            self._server.stop()

    # --- what prometheus_client asks -------------------------------------------------------------

    def collect(self) -> Iterator[Metric]:
        """The metrics now; called by the threads that answer."""
        return families(self.state)

    def describe(self) -> Iterator[Metric]:
        """Nothing: what there is depends on the run."""
        return iter(())

    def _write(self) -> None:
        if self._file is None:
            return
        try:
            write_textfile(self._file, self._registry)
        except OSError as error:
            if not self.trouble:
                self._told(f"metrics-file: {sentence(error)}; it is tried again")
            self.trouble = sentence(error)
        else:
            self.trouble = ""
