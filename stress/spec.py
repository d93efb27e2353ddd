"""``RunSpec``: everything that decides a run, frozen, as a command line and as TOML.

Three views of one thing: the command line that repeats the run, the TOML that ``shmstress run
FILE.toml`` reads, and the dictionary in the JSON report. What decides only where results go
(``Outputs``) is kept apart, because it is no part of what is repeated.

A native run replays its inputs from the seed, never its interleavings.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from shmalloc.constants import MAX_CPUS, MAX_NODES, MAX_ZONES
from shmalloc.errors import MisuseError
from shmalloc.layout import LINK_STORES
from shmalloc.sizes import parse_bytes, parse_duration
from stress.faults.grammar import Fail, Fault, Kill, Stop, parse_faults
from stress.jitter.spec import Jitter, parse_jitter
from stress.quantities import (
    exact_bytes, exact_duration, nearest, parse_entries, parse_seed, parse_workers,
)  # fmt: skip

__all__ = [
    "DEFAULT_RAM_BYTES", "ENGINES", "PAGE_BYTES", "PROGRESS", "Outputs", "RawSpec", "RunSpec",
    "Zone", "nearest", "parse_workloads", "parse_zones", "resolve",
]  # fmt: skip

WORKERS_PER_CORE = 3
ODD_PAGES = 5
PAGE_BYTES = 4096
ENGINES = ("native", "interpreted")
PROGRESS = ("auto", "always", "never")


@dataclass(frozen=True)
class Zone:
    """One zone of the run's memory: its size and its node."""

    bytes: int
    node: int = 0

    def __str__(self) -> str:
        return exact_bytes(self.bytes) + (f"@{self.node}" if self.node else "")


@dataclass(frozen=True)
class Outputs:
    """Where the results of a run go: files, or ``-`` for standard output."""

    json: str | None = None
    junit: str | None = None
    out: str | None = None
    progress: str = "auto"


@dataclass(frozen=True)
class RunSpec:
    """A resolved run: nothing in it depends on the machine it is repeated on."""

    workloads: tuple[str, ...]
    workers: int
    zones: tuple[Zone, ...]
    link_store: str = "page"
    duration_s: float = 20.0
    seed: int = 1
    engine: str = "native"
    audit_every_s: float = 5.0
    hang_timeout_s: float = 10.0
    trace: str | None = None
    prealloc: bool = False
    faults: tuple[Fault, ...] = ()
    jitter: Jitter | None = None
    flight: int = 0  # items that the flight recorder keeps of each CPU
    once: bool = False  # a trace without a duration: over when it was replayed

    @property
    def live_faults(self) -> bool:
        """Whether the controller does something to the segment or its workers while they run."""
        return any(not isinstance(fault, Fail) for fault in self.faults)

    @property
    def slots(self) -> int:
        """CPU slots of the segment: with live faults the last one is the controller's."""
        return self.workers + int(self.live_faults)

    @property
    def kills(self) -> bool:
        return any(isinstance(fault, Kill) for fault in self.faults)

    @property
    def fuses(self) -> bool:
        """Whether workers run over a memory that can be cut off at a write."""
        return any(isinstance(fault, Kill) and fault.fuse is not None for fault in self.faults)

    @property
    def hooked(self) -> bool:
        """Whether workers work over a ``JitterRam``: for delays, for the recorder, for a fuse."""
        return self.jitter is not None or self.flight > 0 or self.fuses

    @property
    def work_engine(self) -> str:
        """The engine that runs the workloads' kernels; all others run on ``engine``."""
        return "jitter" if self.hooked and self.engine == "native" else self.engine

    @property
    def ram_bytes(self) -> int:
        return sum(zone.bytes for zone in self.zones)

    def options(self) -> dict[str, str | bool]:
        """Option name -> text, in the order of the command line; absent where it is the default."""
        options: dict[str, str | bool] = {
            "workload": ",".join(self.workloads),
            "workers": str(self.workers),
            "zones": ",".join(map(str, self.zones)),
            "link-store": self.link_store,
            "duration": exact_duration(self.duration_s),
            "seed": hex(self.seed),
            "engine": self.engine,
            "audit-every": exact_duration(self.audit_every_s),
            "hang-timeout": exact_duration(self.hang_timeout_s),
        }
        if self.once:
            del options["duration"]
        if self.trace is not None:
            options["trace"] = self.trace
        if self.prealloc:
            options["prealloc"] = True
        if self.jitter is not None:
            options["jitter"] = str(self.jitter)
        if self.flight:
            options["flight"] = str(self.flight)
        if self.faults:
            options["faults"] = ",".join(map(str, self.faults))
        return options

    def command_line(self) -> str:
        """The one line that runs this spec again."""
        words = ["shmstress", "run"]
        for name, value in self.options().items():
            words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
        return shlex.join(words)

    def toml(self) -> str:
        """A file that ``shmstress run FILE`` reads as this spec."""
        lines = (f"{name} = {json.dumps(value)}" for name, value in self.options().items())
        return "\n".join(["# shmstress run FILE repeats this run", *lines, ""])

    def as_dict(self) -> dict[str, object]:
        return {**self.options(), "ram": exact_bytes(self.ram_bytes)}


def parse_zones(text: str, ram_bytes: int | None, default_ram_bytes: int) -> tuple[Zone, ...]:
    """Zones of a count (shares of the RAM, a node each) or of ``SIZE[@NODE],...``."""
    if text.strip().isdigit():
        return _shared_zones(int(text), ram_bytes or default_ram_bytes)
    zones = tuple(_parse_zone(part) for part in text.split(","))
    total = sum(zone.bytes for zone in zones)
    if ram_bytes is not None and total != ram_bytes:
        raise MisuseError(
            f"zones: {text!r} are {exact_bytes(total)}, but ram is {exact_bytes(ram_bytes)};"
            " give one of the two, or make them agree"
        )
    if len(zones) > MAX_ZONES:
        raise MisuseError(f"zones: {len(zones)}; use 1 to {MAX_ZONES}")
    return zones


def _shared_zones(count: int, ram_bytes: int) -> tuple[Zone, ...]:
    if not 1 <= count <= MAX_ZONES:
        raise MisuseError(f"zones: {count}; use 1 to {MAX_ZONES}")
    pages = ram_bytes // PAGE_BYTES
    if ram_bytes % PAGE_BYTES or pages < count:
        raise MisuseError(
            f"ram: {exact_bytes(ram_bytes)}; use whole {PAGE_BYTES}-byte pages, at least one a zone"
        )
    # Odd borders on purpose: only there can a merge without a zone check do its damage.
    share = pages // count - (ODD_PAGES if pages > 1024 * count else 0)
    sizes = [share] * (count - 1) + [pages - share * (count - 1)]
    return tuple(Zone(size * PAGE_BYTES, i % MAX_NODES) for i, size in enumerate(sizes))


def _parse_zone(text: str) -> Zone:
    size_text, _, node_text = text.strip().partition("@")
    size = parse_bytes(size_text, "zones")
    if size % PAGE_BYTES:
        raise MisuseError(f"zones: {size_text!r}; use whole pages of {PAGE_BYTES} bytes")
    node = int(node_text) if node_text.isdigit() else 0 if not node_text else -1
    if not 0 <= node < MAX_NODES:
        raise MisuseError(f"zones: node {node_text!r} of {text!r}; use 0 to {MAX_NODES - 1}")
    return Zone(size, node)


def parse_workloads(text: str, known: Iterable[str]) -> tuple[str, ...]:
    """The workload names of a comma-separated list, in order, each once and known."""
    choices = list(known)
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in choices:
            raise nearest(name, choices, "workload")
    if not names:
        raise MisuseError(f"workload: {text!r} names none; known are {', '.join(choices)}")
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class RawSpec:
    """The texts of a run as they were given; ``resolve`` turns them into a ``RunSpec``."""

    workload: str
    workers: str
    ram: str | None
    zones: str
    link_store: str
    duration: str | None  # None: 20 s, or as long as the trace lasts
    seed: str
    engine: str
    audit_every: str
    hang_timeout: str
    trace: str | None
    prealloc: bool
    faults: str | None = None
    jitter: str | None = None
    flight: str | None = None


DEFAULT_RAM_BYTES = 256 << 20
DEFAULT_DURATION = "20s"
LONGEST_TRACE = "1d"  # a trace that is to be replayed once is given up after this


def resolve(raw: RawSpec, known: Iterable[str], cores: int) -> RunSpec:
    """The run that ``raw`` asks for on a machine with ``cores`` usable cores.

    Raises ``MisuseError`` with argument, value and cure for everything that can never work.
    """
    if raw.link_store not in LINK_STORES:
        raise nearest(raw.link_store, LINK_STORES, "link-store")
    if raw.engine not in ENGINES:
        raise nearest(raw.engine, ENGINES, "engine")
    workers = 1 if raw.engine == "interpreted" and raw.workers == "auto" else parse_workers(
        raw.workers, cores, WORKERS_PER_CORE, MAX_CPUS - int(raw.faults is not None)
    )  # fmt: skip
    if raw.engine == "interpreted" and workers != 1:
        raise MisuseError(
            f"workers: {workers} with engine interpreted; its accesses are not atomic between"
            " processes: use 1 worker, or engine native"
        )
    workloads = parse_workloads(raw.workload, known)
    if ("trace" in workloads) != (raw.trace is not None):
        raise MisuseError(
            f"trace: {raw.trace!r} with workload {','.join(workloads)};"
            " use --workload trace and --trace FILE together"
        )
    once = "trace" in workloads and raw.duration is None
    faults = () if raw.faults is None else parse_faults(raw.faults)
    hang_timeout_s = parse_duration(raw.hang_timeout, "hang-timeout")
    _refuse_faults(faults, raw.engine, hang_timeout_s)
    ram_bytes = None if raw.ram is None else parse_bytes(raw.ram, "ram")
    return RunSpec(
        workloads=workloads,
        workers=workers,
        zones=parse_zones(raw.zones, ram_bytes, DEFAULT_RAM_BYTES),
        link_store=raw.link_store,
        duration_s=parse_duration(raw.duration or (LONGEST_TRACE if once else DEFAULT_DURATION)),
        seed=parse_seed(raw.seed),
        engine=raw.engine,
        audit_every_s=parse_duration(raw.audit_every, "audit-every"),
        hang_timeout_s=hang_timeout_s,
        trace=raw.trace,
        prealloc=raw.prealloc,
        jitter=None if raw.jitter is None else parse_jitter(raw.jitter),
        flight=0 if raw.flight is None else parse_entries(raw.flight, "flight"),
        faults=faults,
        once=once,
    )


def _refuse_faults(faults: tuple[Fault, ...], engine: str, hang_timeout_s: float) -> None:
    """Raises ``MisuseError`` for faults that no run survives, or would take for a violation."""
    for fault in faults:
        if engine == "interpreted" and not isinstance(fault, Fail):
            raise MisuseError(
                f"faults: {fault} with engine interpreted; its accesses are not atomic between"
                " worker and controller: use engine native, or fail alone"
            )
        if isinstance(fault, Stop) and 2 * fault.for_s > hang_timeout_s:
            raise MisuseError(
                f"faults: {fault} with hang-timeout {exact_duration(hang_timeout_s)}: a stopped"
                " worker would count as hung; use for= of at most half of it"
            )
