"""What ``shmstress run --workload trace`` takes from the recording: its workers and its memory.

A recording determines the number of workers, one for each of its CPUs, and the memory that it
needs. It is replayed once; with ``--duration`` it is repeated for that time.
"""

from __future__ import annotations

from msgspec.structs import replace

from shmalloc.errors import MisuseError
from stress.quantities import counted, exact_bytes
from stress.spec import DEFAULT_RAM_BYTES, PAGE_BYTES, RawSpec
from stress.trace.compile import Plan
from stress.trace.format import SAMPLE, load

WORKLOAD = "trace"
_RAM_STEP = 64 << 20


def with_trace(raw: RawSpec) -> RawSpec:
    """``raw`` with the values that the recording determines; unchanged without a recording.

    Raises ``MisuseError`` for a damaged trace, and for options that contradict the recording.
    """
    if WORKLOAD not in [name.strip() for name in raw.workload.split(",")]:
        return raw
    if raw.workload.strip() != WORKLOAD:
        raise MisuseError(
            f"workload: {raw.workload!r}; a trace takes one CPU slot for each of its CPUs:"
            " use --workload trace alone"
        )
    plan = Plan.of(load(raw.trace or SAMPLE))
    if raw.workers not in ("auto", str(plan.slots)):
        raise MisuseError(
            f"workers: {raw.workers!r}; {plan.trace.source} was recorded on"
            f" {counted(plan.slots, 'CPU')}, one for each worker: use --workers {plan.slots},"
            " or leave it out"
        )
    if raw.engine == "interpreted" and plan.slots > 1:
        raise MisuseError(
            f"engine: 'interpreted' runs one worker, but {plan.trace.source} needs {plan.slots}:"
            " use --engine native"
        )
    ram = raw.ram
    if ram is None and raw.zones.strip().isdigit():
        steps = -(-plan.needed_pages * PAGE_BYTES // _RAM_STEP)
        ram = exact_bytes(max(DEFAULT_RAM_BYTES, steps * _RAM_STEP))
    return replace(raw, trace=plan.trace.source, workers=str(plan.slots), ram=ram)
