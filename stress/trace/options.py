"""What ``shmstress run --workload trace`` takes from the recording: its workers and its memory.

A recording determines the number of workers, one for each of its CPUs, and the memory that it
needs. It is replayed once; with ``--duration`` it is repeated for that time.
"""

from __future__ import annotations

from msgspec.structs import replace

from shmalloc import constants as c
from shmalloc.errors import MisuseError
from stress.geometry import PAGE_BYTES
from stress.quantities import counted, exact_bytes
from stress.spec import DEFAULT_RAM_BYTES, RawSpec
from stress.trace.compile import needed_pages
from stress.trace.format import SAMPLE, Trace, load

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
    trace = load(raw.trace or SAMPLE)
    slots = len(trace.cpus)
    if raw.workers not in ("auto", str(slots)):
        raise MisuseError(
            f"workers: {raw.workers!r}; {trace.source} was recorded on"
            f" {counted(slots, 'CPU')}, one for each worker: use --workers {slots},"
            " or leave it out"
        )
    if raw.engine == "interpreted" and slots > 1:
        raise MisuseError(
            f"engine: 'interpreted' runs one worker, but {trace.source} needs {slots}:"
            " use --engine native"
        )
    ram = raw.ram
    if ram is None and raw.zones.strip().isdigit():
        ram = exact_bytes(_ram_of(trace))
    return replace(raw, trace=trace.source, workers=str(slots), ram=ram)


def _ram_of(trace: Trace) -> int:
    """``ram_for``; raises ``MisuseError`` if no segment is that large."""
    wanted, most = ram_for(trace), 1 << (c.LINK_BITS + c.LINK_SHIFT)
    if wanted >= most:
        raise MisuseError(
            f"ram: a replay of {trace.source} without refusals needs {exact_bytes(wanted)}, and"
            f" {exact_bytes(most)} is the end: give less with --ram, what does not fit is counted"
        )
    return wanted


def ram_for(trace: Trace) -> int:
    """Bytes of RAM that a replay gets if none are given."""
    steps = -(-needed_pages(trace) * PAGE_BYTES // _RAM_STEP)
    return max(DEFAULT_RAM_BYTES, steps * _RAM_STEP)
