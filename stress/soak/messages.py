"""What the process of a round tells the soak: each message is plain data and travels as a pickle.

``Begun`` comes once, when the kernels are at hand and the work begins; ``Sampled`` once a second
from a run of real processes, ``Going`` from an exploration; ``Outcome`` last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shmalloc.errors import Violation
from stress.progress import Step
from stress.records.finding import Finding, fingerprint_of
from stress.run.histogram import Histogram
from stress.run.progress import Moment
from stress.verdict import Verdict


@dataclass(frozen=True)
class Begun:
    """The time of the round counts from now."""


@dataclass(frozen=True)
class Told:
    """A line about the kernels, such as that they are being compiled."""

    text: str


@dataclass(frozen=True)
class Sampled:
    """The sample that the database gets and the live view shows."""

    moment: Moment


@dataclass(frozen=True)
class Going:
    """How far an exploration is."""

    step: Step


@dataclass(frozen=True)
class Outcome:
    """How a round ended.

    ``operations``: of the allocator, or schedules, or deaths. ``result``: the entry of ``results``
    in the JSON document of that command. ``violations``: of real processes; ``ignored``: those that
    they went past; ``found``: what an exploration found. ``troubles``: what else went wrong, in
    words. ``kernels``: the digest of those that ran; empty where the process did not say.
    """

    verdict: Verdict
    operations: int = 0
    seconds: float = 0.0
    result: Mapping[str, object] = field(default_factory=dict)
    latencies: Mapping[str, Histogram] = field(default_factory=dict)
    violations: tuple[Violation, ...] = ()
    violations_total: int = 0
    ignored: tuple[Violation, ...] = ()
    found: tuple[Finding, ...] = ()
    troubles: tuple[str, ...] = ()
    kernels: str = ""

    @property
    def fingerprints(self) -> frozenset[str]:
        """Of everything that was found, also of what is ignored."""
        reported = (*self.violations, *self.ignored)
        violations = {fingerprint_of(violation) for violation in reported}
        return frozenset(violations | {one.fingerprint for one in self.found})


Message = Begun | Told | Sampled | Going | Outcome
