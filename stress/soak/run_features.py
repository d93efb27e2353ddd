"""The features of a round of real processes: workloads, faults, delays, memory, engine.

Each sets options of ``shmstress run`` to one of a few values, the extreme ones among them. The
faults of a round are joined to one list, and zones are made of what several features say
(run_draw.py).
"""

from __future__ import annotations

from stress.faults.grammar import FAULTS
from stress.quantities import exact_bytes
from stress.soak.features import SELDOM, Draw, Feature, Options, Setter
from stress.soak.spec import LEAST_RAM_BYTES, SoakSpec
from stress.spec import PAGE_BYTES
from stress.workloads import WORKLOADS

WORKLOAD, FAULT, LINKS = "workload:", "fault:", "links:"
SMALL_RAM = "small-ram"
SEVERAL_ZONES, SEVERAL_NODES = "several-zones", "several-nodes"
INTERPRETED = "interpreted"
INTERPRETED_BYTES = 16 << 20  # more takes plain Python too long to boot and to audit


def _nothing(draw: Draw, spec: SoakSpec) -> Options:
    return {}


def _one_of(name: str, *texts: str) -> Setter:
    return lambda draw, spec: {name: draw.one(texts)}


def _small_ram(draw: Draw, spec: SoakSpec) -> Options:
    """A share of the memory: lists run dry, zones fill up, blocks meet."""
    shares = [spec.ram_bytes >> shift for shift in (1, 2, 3, 4)]
    fitting = [size for size in shares if size >= LEAST_RAM_BYTES] or [spec.ram_bytes]
    return {"ram": exact_bytes(draw.one(fitting) // PAGE_BYTES * PAGE_BYTES)}


def _delays(draw: Draw, spec: SoakSpec) -> Options:
    """Each kind of delay is off, rare or frequent."""
    settings = [f"sites={draw.one(('10%', '25%', '50%', '100%'))}"]
    for kind, gaps in {
        "short": ("64", "256", "1024"),
        "long": ("1024", "4096", "16384"),
        "yield": ("256", "1024", "4096"),
        "sleep": ("8192", "32768", "131072"),
    }.items():
        settings.append(f"{kind}=1/{draw.one(gaps)}" if draw.chance(0.6) else f"{kind}=off")
    settings.append(f"shuffle={draw.one(('on', 'off'))}")
    if draw.chance(0.3):
        settings.append(f"stutter={draw.one(('50ms/1s', '200ms/3s'))}")
    return {"jitter": ",".join(settings)}


def _interpreted(draw: Draw, spec: SoakSpec) -> Options:
    return {"engine": "interpreted", "workers": "1"}


def _unfit(fault: str) -> frozenset[str]:
    """The workloads that cannot run under a fault."""
    return frozenset(
        f"{WORKLOAD}{name}" for name, workload in WORKLOADS.items() if fault in workload.unfit
    )


FAULT_FEATURES = (
    Feature(
        f"{FAULT}kill",
        _one_of("faults", "kill:every=100ms", "kill:every=250ms", "kill:every=1s"),
        _unfit("kill"),
    ),
    Feature(
        f"{FAULT}fuse",
        _one_of("faults", "kill:every=200ms,fuse=1..2000", "kill:every=500ms,fuse=1..100000"),
        _unfit("kill"),
    ),
    Feature(f"{FAULT}stop", _one_of("faults", "stop:every=1s,for=300ms", "stop:every=3s,for=1s")),
    Feature(
        f"{FAULT}fail",
        _one_of(
            "faults", "fail:p=0.01", "fail:p=0.3", "fail:every=50,kind=page",
            "fail:p=0.1,kind=object",
        ),
        _unfit("fail"),
    ),
    Feature(
        f"{FAULT}pressure",
        _one_of("faults", "pressure:pages=50%,every=2s", "pressure:pages=90%,every=3s"),
        _unfit("pressure"),
    ),
    Feature(
        f"{FAULT}hotplug",
        _one_of("faults", "hotplug:every=200ms", "hotplug:every=1s"),
        _unfit("hotplug"),
    ),
)  # fmt: skip
LIVE = frozenset(f"{FAULT}{name}" for name in (*FAULTS, "fuse") if name != "fail")
DELAY_FEATURES = (
    Feature("delays", _delays),
    Feature("flight", _one_of("flight", "64", "1024")),
)
MEMORY_FEATURES = (
    Feature(SMALL_RAM, _small_ram),
    Feature(SEVERAL_ZONES, _one_of("zones", "2", "3", "4")),
    Feature(SEVERAL_NODES, _nothing),  # where there are several zones
    Feature(f"{LINKS}descriptor", _one_of("link-store", "descriptor")),
    Feature(f"{LINKS}table", _one_of("link-store", "table"), frozenset({f"{LINKS}descriptor"})),
    Feature("prealloc", _one_of("prealloc", "on"), chance=SELDOM),
)
ENGINE_FEATURES = (
    Feature(INTERPRETED, _interpreted, LIVE, SELDOM),
    Feature("frequent-audits", _one_of("audit-every", "500ms", "1s")),
)
FEATURES = (*FAULT_FEATURES, *DELAY_FEATURES, *MEMORY_FEATURES, *ENGINE_FEATURES)


def workload_features(names: tuple[str, ...]) -> list[Feature]:
    return [Feature(f"{WORKLOAD}{name}", _nothing) for name in names]
