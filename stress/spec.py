"""``RunSpec``: everything that decides a run, frozen, as a command line and as TOML.

Three views of one thing: the command line that repeats the run, the TOML that ``shmstress run
FILE.toml`` reads, and the dictionary in the JSON report. The fields of ``RunSpec`` declare the
name, the type and the range of each option. What decides only where results go (``Outputs``) is
kept apart, because it is not part of what is repeated.

A native run replays its inputs from the seed, never its interleavings.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from msgspec import Struct, field, json
from msgspec.structs import replace

from shmalloc import constants as c
from shmalloc.errors import MisuseError
from shmalloc.layout import LINK_STORES, Geometry
from shmalloc.sizes import parse_bytes
from stress import shell
from stress.faults.grammar import Fail, Fault, Kill, Report, Stop, parse_faults
from stress.geometry import PAGE_BYTES, RANDOM, GeometrySpec, drawn_geometry, parse_geometry
from stress.jitter.spec import Jitter, parse_jitter
from stress.quantities import exact_bytes, exact_duration, nearest, parse_entries, parse_workers
from stress.settings import Duration, Seed, quantity, read_fields, texts_of
from stress.zones import Zone, parse_zones, zone_text

__all__ = ["PAGE_BYTES", "Outputs", "RawSpec", "RunSpec", "Zone", "parse_zones", "resolve"]
WORKERS_PER_CORE = 3
MOST_WORKERS = c.MAX_CLAIMS - 1  # so many claims have owner ids (stress/oracles/owners.py)
OF_CLAIMS = f"a segment has {c.MAX_CLAIMS} claims, one for each worker and one for the controller"
# What a settings file or the environment of another place could turn on: a line says that it is off
OFF = {"prealloc": "--no-prealloc", "jitter": "--jitter off", "flight": "--flight 0"}
OFF["faults"] = "--faults off"
OFF["geometry"] = "--geometry off"


class Outputs(Struct, frozen=True):
    """Where the results of a run go: files, or ``-`` for standard output.

    ``ignored``: fingerprints of violations that do not count.
    """

    json: str | None = None
    out: str | None = None
    progress: str = "auto"
    db: str | None = None
    ignored: tuple[str, ...] = ()
    keep_bytes: int | None = None  # of the database
    explain_s: float | None = None  # to explain a failure


def _listed(values: Iterable[object]) -> str:
    return ",".join(map(str, values))


class RunSpec(Struct, frozen=True):
    """A resolved run: nothing in it depends on the machine it is repeated on."""

    workloads: Annotated[tuple[str, ...], quantity(show=_listed)] = field(name="workload")
    workers: int
    zones: Annotated[tuple[Zone, ...], quantity(show=_listed)]
    link_store: Annotated[str, quantity(choices=LINK_STORES)] = field(
        default="page", name="link-store"
    )
    geometry: Annotated[GeometrySpec, quantity(read=parse_geometry)] = GeometrySpec()
    duration_s: Duration = field(default=20.0, name="duration")
    seed: Seed = 1
    engine: Annotated[str, quantity(choices=("native", "interpreted"))] = "native"
    audit_every_s: Duration = field(default=5.0, name="audit-every")
    hang_timeout_s: Duration = field(default=10.0, name="hang-timeout")
    trace: str | None = None
    prealloc: bool = False
    jitter: Annotated[Jitter, quantity(read=parse_jitter)] | None = None
    flight: Annotated[int, quantity(read=parse_entries)] = 0  # entries of each CPU's recorder
    faults: Annotated[tuple[Fault, ...], quantity(read=parse_faults, show=_listed)] = ()
    once: bool = False  # a trace without a duration: over when it was replayed

    @property
    def live_faults(self) -> bool:
        """Whether the controller does something to the segment or its workers while they run."""
        return any(not isinstance(fault, Fail) for fault in self.faults)

    @property
    def slots(self) -> int:
        """Claims of the segment: with live faults the last one is the controller's."""
        return self.workers + int(self.live_faults)

    @property
    def cpus(self) -> int:
        """CPUs of the segment: claim n is on CPU n, or on n modulo this."""
        return min(self.slots, self.geometry.cpus or c.MAX_CPUS)

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

    def shape(self, **more: Any) -> Geometry:
        """The geometry of the segment; ``more``: what is not set by the spec."""
        zones = tuple(zone.spec() for zone in self.zones)
        fields = self.geometry.fields(self.seed)
        return Geometry(zones=zones, link_store=self.link_store, **(fields | more))

    @property
    def nodes(self) -> int:
        return 1 + max(zone.node for zone in self.zones)

    @property
    def ram_bytes(self) -> int:
        return sum(zone.bytes for zone in self.zones)

    def options(self) -> dict[str, str | bool]:
        """Option name -> text, in the order of the command line; absent if it is off."""
        options: dict[str, str | bool] = {**texts_of(self)}
        if self.once:
            del options["once"], options["duration"]
        if self.prealloc:
            options["prealloc"] = True
        if self.geometry == GeometrySpec():
            del options["geometry"]
        return options

    def command_line(self) -> str:
        """The one line that runs this spec again, whatever settings there are at that place."""
        words = ["shmstress", "run"]
        options = self.options()
        for name, value in options.items():
            words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
        off = [text for name, text in OFF.items() if name not in options]
        return " ".join([shell.join(words), *off])

    def toml(self) -> str:
        """A file that ``shmstress run FILE`` reads as this spec."""
        lists = {"workload": self.workloads, "zones": self.zones, "faults": self.faults}
        values = {n: [*map(str, lists[n])] if n in lists else v for n, v in self.options().items()}
        lines = (f"{name} = {json.encode(value).decode()}" for name, value in values.items())
        return "\n".join(["# shmstress run FILE repeats this run", *lines, ""])

    def as_dict(self) -> dict[str, object]:
        return {**self.options(), "ram": exact_bytes(self.ram_bytes)}


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


class RawSpec(Struct, frozen=True, rename=lambda name: name.replace("_", "-")):
    """The texts of a run as they were given; ``resolve`` turns them into a ``RunSpec``."""

    workload: str
    workers: str = "auto"
    ram: str | None = None
    zones: str = "2"
    link_store: str = "page"
    geometry: str | None = None
    duration: str | None = None  # by default 20 s, or as long as the trace lasts
    seed: str = "1"
    engine: str = "native"
    audit_every: str = "5s"
    hang_timeout: str = "10s"
    trace: str | None = None
    prealloc: bool = False
    faults: str | None = None
    jitter: str | None = None
    flight: str | None = None


DEFAULT_RAM_BYTES = 256 << 20
_OF_THE_MACHINE = {"workload", "workers", "ram", "zones"}  # resolved with what is there
LONGEST_TRACE = "1d"  # the time after which a trace that is to be replayed once is given up


def resolve(raw: RawSpec, known: Iterable[str], cores: int) -> RunSpec:
    """The run that ``raw`` asks for on a machine with ``cores`` usable cores.

    Raises ``MisuseError`` with argument, value and cure for everything that can never work.
    """
    workloads = parse_workloads(raw.workload, known)
    if ("trace" in workloads) != (raw.trace is not None):
        raise MisuseError(
            f"trace: {raw.trace!r} with workload {','.join(workloads)};"
            " use --workload trace and --trace FILE together"
        )
    once = "trace" in workloads and raw.duration is None
    ram_bytes = None if raw.ram is None else parse_bytes(raw.ram, "ram")
    texts = texts_of(raw) | ({"duration": LONGEST_TRACE} if once else {})
    if raw.geometry == RANDOM:
        del texts["geometry"]
    spec = RunSpec(
        workloads=workloads,
        workers=_workers(raw, cores),
        zones=parse_zones(raw.zones, ram_bytes, DEFAULT_RAM_BYTES),
        once=once,
        **read_fields(RunSpec, {n: t for n, t in texts.items() if n not in _OF_THE_MACHINE}),
    )
    if raw.geometry == RANDOM:
        spec = replace(spec, geometry=drawn_geometry(spec.seed))
    for fault in spec.faults:
        _refuse(fault, spec)
    _require_geometry(spec)
    return spec


def _require_geometry(spec: RunSpec) -> None:
    """Raises ``MisuseError`` for settings that exclude each other, or leave nothing to allocate."""
    smallest = min(zone.managed_bytes for zone in spec.zones)
    if spec.geometry.min_free_pages * PAGE_BYTES >= smallest:
        raise MisuseError(
            f"geometry: min-free={exact_bytes(spec.geometry.min_free_bytes or 0)} with a zone of"
            f" {exact_bytes(smallest)}; use less, or nothing can be allocated"
        )
    try:
        spec.shape(cpus=spec.cpus, claims=spec.slots)
    except MisuseError as error:
        text = str(error).replace("_", "-")  # as the settings are spelled
        raise MisuseError(f"geometry: {text}") from error


def _workers(raw: RawSpec, cores: int) -> int:
    if raw.engine == "interpreted" and raw.workers not in ("auto", "1"):
        raise MisuseError(
            f"workers: {raw.workers!r} with engine interpreted; its accesses are not atomic between"
            " processes: use 1 worker, or engine native"
        )
    if raw.engine == "interpreted":
        return 1
    limit = MOST_WORKERS - int(raw.faults not in (None, "off"))
    return parse_workers(raw.workers, cores, WORKERS_PER_CORE, limit, OF_CLAIMS)


def _refuse(fault: Fault, spec: RunSpec) -> None:
    """Raises ``MisuseError`` for a fault that ends every run, or would count as a violation."""
    if spec.engine == "interpreted" and not isinstance(fault, Fail):
        raise MisuseError(
            f"faults: {fault} with engine interpreted; its accesses are not atomic between"
            " worker and controller: use engine native, or fail alone"
        )
    if isinstance(fault, Report) and not spec.geometry.reporting:
        raise MisuseError(
            f"faults: {fault} without reporting; use --geometry reporting=on with it,"
            " and --link-store descriptor or table"
        )
    if isinstance(fault, Stop) and 2 * fault.for_s > spec.hang_timeout_s:
        raise MisuseError(
            f"faults: {fault} with hang-timeout {exact_duration(spec.hang_timeout_s)}: a stopped"
            " worker would count as hung; use for= of at most half of it"
        )


def option_text(name: str, value: Any) -> str | bool:
    """An option of a file as its text on the command line."""
    match name, value:
        case "faults", _:
            return _listed(parse_faults(value)) or "off"
        case "jitter", _:
            return str(parse_jitter(value))
        case "geometry", _ if value != RANDOM:
            return str(parse_geometry(value))
        case _, bool() | str():
            return value
        case "zones", {}:
            return zone_text(value)
        case _, int() | float():
            return str(value)
        case _, list():
            return _listed(option_text(name, one) for one in value)
    raise MisuseError(f"{name}: {value!r}; use the text of --{name}, or a list")
