"""A round of real processes: a line of ``shmstress run``, with a sample each second."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from msgspec import structs

from stress.line import Line, Value
from stress.quantities import nearest
from stress.records.finding import fingerprint_of
from stress.records.fingerprint import Ignored
from stress.run.controller import Controller
from stress.run.interrupts import Interrupts
from stress.run.kernels import keep_whole_plan
from stress.run.progress import Moment, Progress
from stress.run.reported import IsKnown
from stress.run.result import RunResult
from stress.run.workers import cores
from stress.soak.messages import Begun, Message, Outcome, Sampled, Told
from stress.spec import RawSpec, RunSpec, resolve
from stress.trace.options import with_trace
from stress.workloads import WORKLOADS

SAMPLE_EVERY_S = 1.0
Tell = Callable[[Message], None]


def spec_of(line: Line) -> RunSpec:
    """The spec of a line that ``shmstress run`` takes. Raises ``MisuseError``."""
    names = {field.encode_name: field.name for field in structs.fields(RawSpec)}
    given: dict[str, Value] = {}
    for name, value in line.options.items():
        if name not in names:
            raise nearest(name, names, "run")
        given[names[name]] = value
    raw = structs.replace(RawSpec(workload=""), **given)
    return resolve(with_trace(raw), WORKLOADS, len(cores()))


class Samples(Progress):
    """Sends a moment each second, and the last one."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._due_s = 0.0

    def tell(self, text: str) -> None:
        self._tell(Told(text))

    def begin(self, spec: RunSpec) -> None:
        self._tell(Begun())

    def moment(self, take: Callable[[], Moment]) -> None:
        now_s = time.monotonic()
        if now_s >= self._due_s:
            self._due_s = now_s + SAMPLE_EVERY_S
            self._tell(Sampled(take()))

    def last(self, take: Callable[[], Moment]) -> None:
        self._tell(Sampled(take()))


def run(line: Line, ignored: Ignored, tell: Tell) -> Outcome:
    """Run it to its end; a controller that is stuck in a kernel tells that and ends the process.

    It goes past violations that are ``ignored``, as ``shmstress run --ignore`` does.
    """

    def abandon(result: RunResult) -> None:
        tell(outcome_of(result))
        os._exit(result.verdict.exit_code)  # the main thread is in a kernel that never ends

    spec = spec_of(line)
    keep_whole_plan(spec, lambda text: tell(Told(text)))  # the next round wants another part of it
    with Interrupts() as interrupts:
        controller = Controller(
            spec, Samples(tell), interrupts, None, abandon, is_known=known_by(ignored)
        )
        return outcome_of(controller.run())


def known_by(ignored: Ignored) -> IsKnown | None:
    """Whether a run goes past a violation; None if it goes past none."""
    return (lambda violation: fingerprint_of(violation) in ignored) if ignored else None


def outcome_of(result: RunResult) -> Outcome:
    return Outcome(
        result.verdict,
        operations=result.ops,
        seconds=result.seconds,
        result=result.as_dict(),
        latencies=result.latencies,
        violations=tuple(result.violations),
        violations_total=max(result.violations_total, len(result.violations)),
        ignored=tuple(result.ignored),
        troubles=tuple(text for _, text in result.troubles),
    )
