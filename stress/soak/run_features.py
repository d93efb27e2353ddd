"""The features of a round of real processes: workloads, faults, delays, memory, engine.

Each sets options of ``shmstress run`` to one of a few values, the extreme ones among them. An
option with a dot is a setting of a longer one: ``geometry.fill`` of ``--geometry``. Several
features may add to ``faults``. What depends on the sizes of the zones (holes, the watermark) is
drawn by zone_draw.py; run_draw.py joins everything to one line.
"""

from __future__ import annotations

from shmalloc.layout import LINK_STORES
from stress.faults.grammar import FAULTS
from stress.geometry import PAGE_BYTES
from stress.quantities import exact_bytes
from stress.soak.features import SELDOM, Draw, Feature, Options, Setter
from stress.soak.spec import LEAST_RAM_BYTES, SoakSpec
from stress.workloads import WORKLOADS

WORKLOAD, FAULT, LINKS, FILL = "workload:", "fault:", "links:", "fill:"
SMALL_RAM = "small-ram"
SEVERAL_ZONES, SEVERAL_NODES, HOLES, WATERMARK = (
    "several-zones", "several-nodes", "holes", "watermark",
)  # fmt: skip
REPORTING, FEW_ORDERS = "reporting", "few-orders"
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


def _small_lists(draw: Draw, spec: SoakSpec) -> Options:
    """Per-CPU lists that hold few pages, down to one."""
    batch = draw.one((1, 4, 16))
    high = batch * draw.one((1, 3))
    return {"geometry.pcp-batch": str(batch), "geometry.pcp-high": str(high)}


def _reporting(draw: Draw, spec: SoakSpec) -> Options:
    """Needs a link store whose lists do not lie in the pages that are given back."""
    return {"geometry.reporting": "on", "link-store": draw.one(tuple(_STORES))}


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


def _fault(name: str, *texts: str, kind: str = "", needs: frozenset[str] = frozenset()) -> Feature:
    """A fault with one of these settings, off beside workloads that are unfit for its ``kind``."""
    unfit = frozenset(
        f"{WORKLOAD}{one.name}" for one in WORKLOADS.values() if (kind or name) in one.unfit
    )
    return Feature(f"{FAULT}{name}", _one_of("faults", *texts), unfit, needs)


FAULT_FEATURES = (
    _fault("kill", "kill:every=100ms", "kill:every=250ms", "kill:every=1s"),
    _fault("fuse", "kill:every=200ms,fuse=1..2000", "kill:every=500ms,fuse=1..100000", kind="kill"),
    _fault("stop", "stop:every=1s,for=300ms", "stop:every=3s,for=1s"),
    _fault(
        "fail", "fail:p=0.01", "fail:p=0.3", "fail:every=50,kind=page", "fail:p=0.1,kind=object"
    ),
    _fault("pressure", "pressure:pages=50%,every=2s", "pressure:pages=90%,every=3s"),
    _fault("hotplug", "hotplug:every=200ms", "hotplug:every=1s"),
    _fault("report", "report:every=10ms", "report:every=100ms", needs=frozenset({REPORTING})),
)
LIVE = frozenset(f"{FAULT}{name}" for name in (*FAULTS, "fuse") if name != "fail")
DELAY_FEATURES = (
    Feature("delays", _delays),
    Feature("flight", _one_of("flight", "64", "1024")),
)
_STORES = [name for name in LINK_STORES if name != "page"]
_LINK_FEATURES = [  # of two at once the first one is left out
    Feature(
        f"{LINKS}{name}",
        _one_of("link-store", name),
        frozenset(f"{LINKS}{other}" for other in _STORES[:i]),
    )
    for i, name in enumerate(_STORES)
]
MEMORY_FEATURES = (
    Feature(SMALL_RAM, _small_ram),
    Feature(SEVERAL_ZONES, _one_of("zones", "2", "3", "4")),
    Feature(SEVERAL_NODES, _nothing, needs=frozenset({SEVERAL_ZONES})),
    Feature(HOLES, _nothing),
    Feature(WATERMARK, _nothing),
    Feature(REPORTING, _reporting, frozenset({f"{FILL}poison"})),
    *_LINK_FEATURES,
    Feature(f"{FILL}poison", _one_of("geometry.fill", "poison")),
    Feature(f"{FILL}zero", _one_of("geometry.fill", "zero"), frozenset({f"{FILL}poison"})),
    Feature("harden", _one_of("geometry.harden", "on")),
    Feature("listed-pcp", _one_of("geometry.pcp", "list")),
    Feature("small-pcp", _small_lists),
    Feature(FEW_ORDERS, _one_of("geometry.max-order", "4", "6", "8")),
    Feature("small-pageblocks", _one_of("geometry.pageblock-order", "2", "4", "6")),
    Feature("few-spins", _one_of("geometry.spins", "0", "2")),
    Feature("sampled-allocations", _one_of("geometry.page-owner", "1/1", "1/64"), chance=SELDOM),
    Feature("late-start", _one_of("geometry.start-pfn", "1", "77", "4096")),
    Feature("prealloc", _one_of("prealloc", "on"), chance=SELDOM),
    Feature("init-on-alloc", _one_of("geometry.init-on-alloc", "on"), frozenset({f"{FILL}poison"})),
    Feature("init-on-free", _one_of("geometry.init-on-free", "on"), frozenset({f"{FILL}poison"})),
)
ENGINE_FEATURES = (
    Feature(INTERPRETED, _interpreted, LIVE, chance=SELDOM),
    Feature(  # with reporting, an audit gives all free memory back, which takes longer than that
        "frequent-audits", _one_of("audit-every", "500ms", "1s"), frozenset({REPORTING})
    ),
)
FEATURES = (*FAULT_FEATURES, *DELAY_FEATURES, *MEMORY_FEATURES, *ENGINE_FEATURES)


def workload_features(names: tuple[str, ...]) -> list[Feature]:
    return [Feature(f"{WORKLOAD}{name}", _nothing) for name in names]
