"""``SoakSpec``: everything that decides the rounds of a soak, frozen, as a command line.

The same spec and the same kernels give the same rounds. What decides only where results go, or how
much room they may take, is not part of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any

from msgspec import Struct, field

from shmalloc.errors import MisuseError
from shmalloc.sizes import parse_bytes
from stress import shell
from stress.geometry import PAGE_BYTES
from stress.quantities import exact_bytes, nearest, parse_workers
from stress.settings import Duration, Seed, quantity, read_fields, texts_of
from stress.spec import MOST_WORKERS, OF_CLAIMS, WORKERS_PER_CORE
from stress.trace.format import SAMPLE

KINDS = ("run", "explore", "crash", "trace")
DEFAULT_WEIGHTS = "run=8,explore=2,crash=1,trace=1"
MOST_WEIGHT = 1_000_000
LEAST_RAM_BYTES = 4 << 20  # the smallest memory in which every workload can work
LIVE_FAULT_SLOTS = 1  # the controller has a slot of its own where faults act


@dataclass(frozen=True)
class Weights:
    """How often each kind of round is drawn, relative to the others."""

    by_kind: Mapping[str, int]

    def __str__(self) -> str:
        return ",".join(f"{kind}={weight}" for kind, weight in self.by_kind.items())

    def only(self, kinds: Collection[str]) -> Weights:
        """Weights of ``kinds`` alone. One that was off gets the weight 1."""
        return Weights({kind: self.of(kind) or 1 for kind in kinds})

    def of(self, kind: str) -> int:
        return self.by_kind.get(kind, 0)


def parse_weights(text: str) -> Weights:
    """Weights of ``run=8,explore=2``: a kind that is not named is not drawn."""
    found = dict.fromkeys(KINDS, 0)
    for part in text.split(","):
        name, equals, number = part.strip().partition("=")
        if name not in KINDS:
            raise nearest(name, KINDS, "weights")
        if not equals or not number.isdigit() or int(number) > MOST_WEIGHT:
            raise MisuseError(f"weights: {part.strip()!r}; use {name}=N, 0 to {MOST_WEIGHT}")
        found[name] = int(number)
    if not any(found.values()):
        raise MisuseError(f"weights: {text!r} draw nothing; give one kind at least the weight 1")
    return Weights({kind: weight for kind, weight in found.items() if weight})


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))


def _listed(values: Any) -> str:
    return ",".join(values)


def _bytes(text: str) -> str:
    return str(parse_bytes(text, "ram"))


Bytes = Annotated[int, quantity(read=_bytes, show=exact_bytes)]
Names = Annotated[tuple[str, ...], quantity(read=_names, show=_listed)]


class SoakSpec(Struct, frozen=True, rename=lambda name: name.replace("_", "-")):
    """``workers`` and ``ram_bytes`` are the most that a round may use."""

    workloads: Names = field(name="workload")
    programs: Names = field(name="program")
    workers: int
    duration_s: Duration = field(default=3600.0, name="duration")
    round_time_s: Duration = field(default=20.0, name="round-time")
    rounds: Annotated[int, quantity("a number of at least 1", ge=1)] | None = None
    seed: Seed = 1
    weights: Annotated[Weights, quantity(read=parse_weights)] = field(
        default_factory=lambda: parse_weights(DEFAULT_WEIGHTS)
    )
    traces: Names = field(default=(SAMPLE,), name="trace")
    ram_bytes: Bytes = field(default=256 << 20, name="ram")
    without: Names = ()
    repeat: Annotated[int, quantity("a number from 1 to 100", ge=1, le=100)] = 5
    minimize_time_s: Duration = field(default=120.0, name="minimize-time")
    explain_s: Duration | None = field(default=None, name="explain")

    def texts(self) -> dict[str, str]:
        """Option name -> text, in the order of the command line."""
        return texts_of(self)

    def command_line(self) -> str:
        """The line that begins a soak with the same rounds."""
        words = [word for name, text in self.texts().items() for word in (f"--{name}", text)]
        return shell.join(["shmstress", "soak", *words])


def spec_from(texts: Mapping[str, str]) -> SoakSpec:
    """The spec of recorded texts. Raises ``MisuseError`` for what this version does not know."""
    return SoakSpec(**read_fields(SoakSpec, texts))


def require_spec(spec: SoakSpec, known_workloads: Collection[str]) -> None:
    """Raises ``MisuseError`` for a soak whose rounds could not run."""
    for name in spec.workloads:
        if name not in known_workloads:
            raise nearest(name, known_workloads, "workload")
    if spec.weights.of("run") and not spec.workloads:
        raise MisuseError("workload: names none; name one at least, or use --only explore,crash")
    if spec.ram_bytes < LEAST_RAM_BYTES or spec.ram_bytes % PAGE_BYTES:
        raise MisuseError(
            f"ram: {exact_bytes(spec.ram_bytes)}; use at least {exact_bytes(LEAST_RAM_BYTES)},"
            f" in whole pages of {PAGE_BYTES} bytes"
        )
    if spec.round_time_s > spec.duration_s:
        raise MisuseError("round-time: longer than --duration; use a shorter one")


def workers_of(text: str, cores: int) -> int:
    """The most workers of a round, from ``auto``, a share of the cores or a number."""
    limit = MOST_WORKERS - LIVE_FAULT_SLOTS
    return parse_workers(text, cores, WORKERS_PER_CORE, limit, OF_CLAIMS)


def matching(names: Collection[str], patterns: Collection[str]) -> list[str]:
    """Those of ``names`` that one of the patterns means."""
    return [name for name in names if any(fnmatchcase(name, one) for one in patterns)]
