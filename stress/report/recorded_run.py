"""One ``shmstress run`` in a database, or in two: that of ``--db`` and that in ``--out``.

The run does not depend on its database: if that cannot be written any more, the run goes on, says
so at its end, and is no success (ERROR).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shmalloc.errors import ShmallocError, Violation
from stress.records.finding import Attachment, fingerprint_of
from stress.records.fingerprint import Ignored
from stress.records.outcomes import record_run
from stress.records.work import Work
from stress.report.recording import Recording, recorded, told
from stress.run.progress import Progress, Several
from stress.run.result import RunResult
from stress.spec import RunSpec
from stress.verdict import Verdict

if TYPE_CHECKING:
    from stress.records.receiver import RecordingProgress


@dataclass
class _Kept:
    """The round in one database."""

    path: str
    recording: Recording
    round_id: int
    receiver: RecordingProgress


class RecordedRun:
    """A run and the databases that it is recorded in; there may be none."""

    def __init__(self, spec: RunSpec, recordings: Sequence[tuple[str, Recording]]) -> None:
        self._spec = spec
        self._ignoring = [recording for _, recording in recordings if recording.ignores]
        self._kept = [_begun(spec, path, r) for path, r in recordings if r.records is not None]

    def progress(self, view: Progress) -> Progress:
        """``view``, and the samples of each database."""
        return Several([view, *(one.receiver for one in self._kept)]) if self._kept else view

    @property
    def is_known(self) -> Callable[[Violation], bool] | None:
        """Whether the run goes past a violation; None if it goes past none."""
        if not self._ignoring:
            return None
        return lambda violation: any(
            recording.is_ignored(fingerprint_of(violation)) for recording in self._ignoring
        )

    def finish(self, result: RunResult, logs: Path | None) -> None:
        """Record what came of it, before the result is shown: it may get a trouble or a note."""
        for one in self._kept:
            try:
                self._record(one, result, logs)
            except ShmallocError as error:
                one.receiver.trouble = one.receiver.trouble or str(error)
                one.recording.give_up()
        for one in self._kept:
            if one.receiver.trouble is not None:
                result.troubles.append((Verdict.ERROR, one.receiver.trouble))

    def _record(self, one: _Kept, result: RunResult, logs: Path | None) -> None:
        records = one.recording.records
        assert records is not None
        files = [Attachment.of_text("spec.toml", self._spec.toml()), *_logs(logs)]
        found = record_run(records, one.round_id, result, files)
        one.recording.verdict = result.verdict
        one.recording.end()
        result.notes += told(found, one.path)


def _begun(spec: RunSpec, path: str, recording: Recording) -> _Kept:
    from stress.records.receiver import RecordingProgress

    records, round_id = recording.records, recording.round(work_of(spec))
    assert records is not None and round_id is not None
    return _Kept(path, recording, round_id, RecordingProgress(records, round_id))


def _logs(folder: Path | None) -> Iterator[Attachment]:
    """What the workers wrote, if they wrote into files."""
    for path in sorted(folder.glob("worker-*.log")) if folder is not None else ():
        if content := path.read_bytes():
            yield Attachment(path.name, content)


def work_of(spec: RunSpec) -> Work:
    return Work("run", spec.command_line(), spec.as_dict(), spec.seed)


@contextmanager
def recorded_run(
    spec: RunSpec, paths: Sequence[str], ignored: Sequence[str], keep_bytes: int | None = None
) -> Iterator[RecordedRun]:
    """Record the run of ``spec`` in each database; it goes past the fingerprints ``ignored``."""
    names = Ignored(ignored)
    places: list[str | None] = [*paths] or [None]
    with ExitStack() as stack:
        recordings = [
            (path or "", stack.enter_context(recorded(path, names, work_of(spec), keep_bytes)))
            for path in places
        ]
        yield RecordedRun(spec, recordings)
