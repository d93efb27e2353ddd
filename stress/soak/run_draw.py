"""A round of real processes, drawn: its features become one line of ``shmstress run``."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec import structs

from shmalloc.sizes import parse_bytes
from stress.geometry import PAGE_BYTES
from stress.quantities import exact_bytes, exact_duration
from stress.seeds import derive
from stress.soak.features import Draw, Feature, switched_on
from stress.soak.run_features import (
    FEATURES,
    FEW_ORDERS,
    HOLES,
    INTERPRETED,
    INTERPRETED_BYTES,
    SMALL_RAM,
    WATERMARK,
    WORKLOAD,
    workload_features,
)
from stress.soak.spec import SoakSpec, matching
from stress.soak.zone_draw import draw_watermark, draw_zones
from stress.spec import RawSpec, RunSpec, resolve
from stress.trace.compile import Plan
from stress.trace.format import load
from stress.trace.options import WORKLOAD as TRACE
from stress.trace.options import with_trace
from stress.workloads import WORKLOADS

GEOMETRY = "geometry."
SEED_BITS = 32  # of a round's command: short enough to type


def known_features(workloads: Sequence[str]) -> list[Feature]:
    """All features, with those of these workloads."""
    return [*workload_features(tuple(workloads)), *FEATURES]


def pool_of(spec: SoakSpec, workloads: Sequence[str]) -> list[Feature]:
    """The features that rounds over these workloads may have."""
    known = known_features(workloads)
    left_out = matching([feature.name for feature in known], spec.without)
    return [feature for feature in known if feature.name not in left_out]


def trace_pool_of(spec: SoakSpec) -> list[Feature]:
    """The features that rounds of a recording may have: its allocations have to succeed."""
    never = {f"{WORKLOAD}{TRACE}", INTERPRETED, SMALL_RAM, FEW_ORDERS, HOLES, WATERMARK}
    return [
        feature
        for feature in pool_of(spec, ())
        if feature.name not in never and f"{WORKLOAD}{TRACE}" not in feature.excludes
    ]


def draw_run(spec: SoakSpec, seed: int, cores: int) -> tuple[RunSpec, list[Feature]]:
    """The spec of the round with this seed, and the features that are on."""
    pool = pool_of(spec, spec.workloads)
    on = switched_on(pool, seed)
    if not any(feature.name.startswith(WORKLOAD) for feature in on):
        on = [_some_workload(pool, on, seed), *on]
    names = [f.name.removeprefix(WORKLOAD) for f in on if f.name.startswith(WORKLOAD)]
    raw = _raw(spec, seed, on, names)
    return resolve(raw, WORKLOADS, cores), on


def draw_trace(spec: SoakSpec, seed: int, cores: int) -> tuple[RunSpec, list[Feature]]:
    """The same for a recording, which sets the workers and may need more memory."""
    on = switched_on(trace_pool_of(spec), seed)
    file = Draw(seed, "trace").one(spec.traces)
    needed_bytes = Plan.of(load(file)).needed_pages * PAGE_BYTES
    larger = structs.replace(spec, ram_bytes=max(spec.ram_bytes, needed_bytes))
    raw = structs.replace(_raw(larger, seed, on, [TRACE]), trace=file, workers="auto")
    return resolve(with_trace(raw), WORKLOADS, cores), on


def _some_workload(pool: Sequence[Feature], on: Sequence[Feature], seed: int) -> Feature:
    """A workload for a round without one, that the other features allow if there is one."""
    names = {feature.name for feature in on}
    excluded = {name for feature in on for name in feature.excludes}
    workloads = [feature for feature in pool if feature.name.startswith(WORKLOAD)]
    fitting = [f for f in workloads if f.name not in excluded and not f.excludes & names]
    return Draw(seed, "some workload").one(fitting or workloads)


def _raw(spec: SoakSpec, seed: int, on: Sequence[Feature], workloads: Sequence[str]) -> RawSpec:
    """The texts of a run: what every round draws, and what its features set."""
    texts = {
        "workload": ",".join(workloads),
        "workers": str(Draw(seed, "workers").between(min(2, spec.workers), spec.workers)),
        "ram": exact_bytes(spec.ram_bytes),
        "zones": "1",
        "duration": exact_duration(spec.round_time_s),
        "seed": hex(derive(seed, "run") >> (62 - SEED_BITS)),
    }
    faults: list[str] = []
    for feature in on:
        options = feature.options(Draw(seed, f"options of {feature.name}"), spec)
        faults += [options.pop("faults")] if "faults" in options else []
        texts |= options
    if faults:
        texts["faults"] = ",".join(faults)
    _draw_memory(texts, seed, {feature.name for feature in on})
    fields = {field.encode_name: field.name for field in structs.fields(RawSpec)}
    given = {fields[name]: value for name, value in texts.items() if name != "prealloc"}
    return structs.replace(RawSpec(workload=""), **given, prealloc="prealloc" in texts)


def _draw_memory(texts: dict[str, str], seed: int, on: Collection[str]) -> None:
    """Put zones and geometry in the place of what the features say of them."""
    ram_bytes = parse_bytes(texts.pop("ram"), "ram")
    if INTERPRETED in on:
        ram_bytes = min(ram_bytes, INTERPRETED_BYTES)
    zones = draw_zones(seed, texts["zones"], ram_bytes, on)
    texts["zones"] = ",".join(map(str, zones))
    names = [name for name in texts if name.startswith(GEOMETRY)]
    settings = {name.removeprefix(GEOMETRY): texts.pop(name) for name in names}
    if WATERMARK in on:
        settings["min-free"] = draw_watermark(seed, zones)
    if "pageblock-order" in settings and "max-order" in settings:
        orders = settings["pageblock-order"], settings["max-order"]
        settings["pageblock-order"] = min(orders, key=int)
    if settings:
        texts["geometry"] = ",".join(f"{name}={text}" for name, text in settings.items())
