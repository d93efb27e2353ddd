"""A session of a soak: a run of the database, begun or gone on with.

A soak is one row of ``runs``, whatever number of sessions it took. Its spec is recorded when it
begins; going on uses that spec, the counts of the last round that ended, and the next number.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from shmalloc.errors import MisuseError
from stress.quantities import exact_duration
from stress.records.reader import Reader
from stress.records.rows import RunRow
from stress.records.writer import Records, Work
from stress.report.recording import begin_run, kernels_digest
from stress.soak.spec import SoakSpec, spec_from
from stress.soak.standing import Standing

KIND = "soak"


@dataclass(frozen=True)
class Session:
    """``run_id``: its row. ``kernels``: the digest of those that run now."""

    spec: SoakSpec
    run_id: int
    standing: Standing
    kernels: str


def begin_soak(records: Records, spec: SoakSpec) -> Session:
    """A new soak."""
    work = Work(KIND, spec.command_line(), spec.texts(), spec.seed)
    return Session(spec, begin_run(records, work), Standing(), kernels_digest())


def resume_soak(records: Records, duration_s: float | None) -> Session:
    """The last soak of the file goes on; ``duration_s``: another total time.

    Raises ``MisuseError`` if there is none, it is running, or its time is over.
    """
    with Reader(records.path) as reader:
        soaks = [run for run in reader.runs() if run.kind == KIND]
    if not soaks:
        raise MisuseError(f"resume: {records.path} has no soak; leave --resume out to begin one")
    last = soaks[-1]
    spec, standing = _spec_of(last), _standing_of(last)
    if duration_s is not None:
        spec = replace(spec, duration_s=duration_s)
    if standing.total and spec.duration_s - standing.clock_s <= spec.round_time_s / 2:
        raise MisuseError(
            f"resume: the last soak of {records.path} is over after"
            f" {exact_duration(spec.duration_s)}; use a longer --duration, or leave --resume out"
            " to begin another"
        )
    records.resume_run(last.id)
    with Reader(records.path) as reader:  # its last writer may have ended a round meanwhile
        standing = _standing_of(reader.run(last.id))
    return Session(spec, last.id, standing, kernels_digest())


def _spec_of(run: RunRow) -> SoakSpec:
    return spec_from({name: str(text) for name, text in run.spec.items()})


def _standing_of(run: RunRow) -> Standing:
    try:
        return Standing.from_dict(run.summary)
    except TypeError as error:
        raise MisuseError(
            f"resume: the soak was recorded by shmstress {run.version}, and this one cannot read"
            f" how far it is ({error}); begin another one"
        ) from error
