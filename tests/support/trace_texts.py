"""Events as other programs print them, written from their printf formats and not from our parser.

``Event`` is what happened; a ``Layout`` prints it as one tool does and says what that keeps of it.
``expected`` pairs the events with a dict, one by one, as the test's own idea of a trace.

Sources: include/trace/events/kmem.h of 2.6.32 and 7.0, kernel/trace/trace_output.c,
trace_functions_graph.c, trace-cmd's trace-read.c with libtraceevent, perf's builtin-script.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

PAGE_ALLOC, PAGE_FREE, CACHE_ALLOC, CACHE_FREE, KMALLOC, KFREE = range(6)
MOBILITY = ("GFP_KERNEL", "GFP_HIGHUSER_MOVABLE|__GFP_ZERO", "GFP_KERNEL|__GFP_RECLAIMABLE")
MOBILITY_2009 = ("GFP_KERNEL", "GFP_HIGHUSER_MOVABLE|GFP_ZERO", "GFP_KERNEL|GFP_RECLAIMABLE")
NUMBER_2009 = (0, 2, 1)  # unmovable, movable, reclaimable before Linux 4.4
GFP_BITS = (0xCC0, 0x100CCA, 0xCD0)


@dataclass(frozen=True)
class Event:
    """One event. ``key``: a pfn or an address; ``size``: an order or bytes."""

    kind: int
    time_ns: int
    cpu: int
    pid: int
    comm: str
    key: int
    size: int = 0
    migratetype: int = 0
    cache: str = ""


Row = tuple[int, int, int, int, int, int, str]  # time, cpu, task, kind, id, arg, cache or type


def expected(events: Iterable[Event], layout: Layout) -> list[Row]:
    """The rows of the trace: ids in the order of allocation, frees of unknown memory left out."""
    live: dict[tuple[bool, int], tuple[int, Event]] = {}
    rows: list[Row] = []
    ids = 0
    for number, event in enumerate(events):
        is_page = event.kind <= PAGE_FREE
        place = layout.place(event, number)
        if event.kind in (PAGE_ALLOC, CACHE_ALLOC, KMALLOC):
            live[is_page, event.key] = ids, event
            what = str(event.migratetype) if is_page else layout.cache(event)
            rows.append((*place, 0 if is_page else 2, ids, event.size, what))
            ids += 1
            continue
        number_of, origin = live.get((is_page, event.key), (-1, event))
        if number_of < 0 or (is_page and origin.size != event.size):
            continue
        del live[is_page, event.key]
        what = "0" if is_page else layout.cache(origin)
        arg = event.size if is_page else 0
        rows.append((*place, 1 if is_page else 3, number_of, arg, what))
    return rows


@dataclass(frozen=True)
class Layout:
    """How one tool prints. ``unit_ns``: the grain of its times, 0: lines 1 us apart, from 1."""

    name: str
    format: str
    line: Callable[[Event], str]
    before: tuple[str, ...] = ()
    after_each: tuple[str, ...] = ()
    unit_ns: int = 1000
    comm_chars: int = 15
    cpus: bool = True
    tasks: bool = True
    names: bool = True

    def text(self, events: Iterable[Event]) -> list[str]:
        printed = list(self.before)
        for event in events:
            printed += [self.line(event), *self.after_each]
        return printed

    def place(self, event: Event, number: int) -> tuple[int, int, int]:
        """Time in ns, CPU and task of an event, as far as this layout tells them."""
        time_ns = event.time_ns // self.unit_ns * self.unit_ns if self.unit_ns else number * 1000
        return time_ns, event.cpu * self.cpus, event.pid * self.tasks

    def cache(self, event: Event) -> str:
        if event.kind == KMALLOC:
            return f"kmalloc-{event.size}"
        return event.cache if self.names else f"cache-{event.size}"


# --- the fields of an event ---------------------------------------------------------------------


def fields_2026(e: Event) -> str:
    page = f"page={e.key * 64 & 0xFFFFFFFF:016x} pfn=0x{e.key:x} order={e.size}"
    alloc = f"bytes_req={e.size} bytes_alloc={e.size} gfp_flags=GFP_KERNEL node=-1 accounted=true"
    site = "call_site=f+0x6c/0x220 [mod]"
    return (
        f"mm_page_alloc: {page} migratetype={e.migratetype} gfp_flags={MOBILITY[e.migratetype]}",
        f"mm_page_free: {page}",
        f"kmem_cache_alloc: {site} ptr={e.key:016x} name={e.cache} {alloc}",
        f"kmem_cache_free: {site} ptr={e.key:016x} name={e.cache}",
        f"kmalloc: {site} ptr={e.key:016x} {alloc}",
        f"kfree: {site} ptr={e.key:016x}",
    )[e.kind]


def fields_2009(e: Event) -> str:
    page = f"page={0xFFFFEA0000000000 + e.key * 56:x} pfn={e.key} order={e.size}"
    alloc = f"bytes_req={e.size} bytes_alloc={e.size} gfp_flags=GFP_KERNEL|GFP_ZERO"
    site = "call_site=ffffffff810fa0b1"
    mobility = f"migratetype={NUMBER_2009[e.migratetype]} gfp_flags={MOBILITY_2009[e.migratetype]}"
    return (
        f"mm_page_alloc: {page} {mobility}",
        f"mm_page_free_direct: {page}",
        f"kmem_cache_alloc: {site} ptr={e.key:x} {alloc}",
        f"kmem_cache_free: {site} ptr={e.key:x}",
        f"kmalloc_node: {site} ptr={e.key:x} {alloc} node=0",
        f"kfree: {site} ptr={e.key:x}",
    )[e.kind]


def fields_raw(e: Event) -> tuple[str, str]:
    """Name and fields as trace-cmd -R prints them: every field of the record, in its order."""
    site, ptr = "call_site=f+0x6c", f"ptr=0x{e.key:x}"
    alloc = f"bytes_req={e.size} bytes_alloc={e.size} gfp_flags=0xcc0 node=-1 accounted=0"
    gfp = f"gfp_flags=0x{GFP_BITS[e.migratetype]:x} migratetype={e.migratetype}"
    return (
        ("mm_page_alloc", f" pfn=0x{e.key:x} order={e.size} {gfp}"),
        ("mm_page_free", f" pfn=0x{e.key:x} order={e.size}"),
        ("kmem_cache_alloc", f" {site} {ptr} name={e.cache} {alloc}"),
        ("kmem_cache_free", f" {site} {ptr} name={e.cache}"),
        ("kmalloc", f" {site} {ptr} {alloc}"),
        ("kfree", f" {site} {ptr}"),
    )[e.kind]


def fields_option(e: Event) -> str:
    """The option ``fields`` of tracefs: hexadecimal, and decimal in parentheses."""

    def both(name: str, value: int) -> str:
        return f" {name}=0x{value:x} ({value})"

    site, ptr = " call_site=f+0x6c/0x220 (-2123577916)", both("ptr", e.key)
    alloc = both("bytes_req", e.size) + both("bytes_alloc", e.size) + both("gfp_flags", 0xCC0)
    gfp = both("gfp_flags", GFP_BITS[e.migratetype]) + both("migratetype", e.migratetype)
    return (
        f"mm_page_alloc:{both('pfn', e.key)}{both('order', e.size)}{gfp}",
        f"mm_page_free:{both('pfn', e.key)}{both('order', e.size)}",
        f"kmem_cache_alloc:{site}{ptr} name={e.cache}{alloc} node=0xffffffff (-1)",
        f"kmem_cache_free:{site}{ptr} name={e.cache}",
        f"kmalloc:{site}{ptr}{alloc} node=0xffffffff (-1)",
        f"kfree:{site}{ptr}",
    )[e.kind]


# --- lines ----------------------------------------------------------------------------------------


def micros(time_ns: int) -> str:
    return f"{time_ns // 10**9:5}.{time_ns // 1000 % 10**6:06}"


def nanos(time_ns: int) -> str:
    return f"{time_ns // 10**9:5}.{time_ns % 10**9:09}"


def tracefs(e: Event) -> str:
    return f"{e.comm:>16}-{e.pid:<7} [{e.cpu:03}] d..2.  {micros(e.time_ns)}: {fields_2026(e)}"


def tracefs_tgid(e: Event) -> str:
    tgid = "-------" if e.pid % 3 == 0 else f"{e.pid:7}"
    head = f"{e.comm:>16}-{e.pid:<7} ({tgid}) [{e.cpu:03}] ....."
    return f"{head}  {micros(e.time_ns)}: {fields_2026(e)}"


def tracefs_plain(e: Event) -> str:
    return f"{e.comm:>16}-{e.pid:<7} [{e.cpu:03}]  {micros(e.time_ns)}: {fields_2026(e)}"


def tracefs_ticks(e: Event) -> str:
    return f"{e.comm:>16}-{e.pid:<7} [{e.cpu:03}] ..... {e.time_ns:12}: {fields_2026(e)}"


def tracefs_fields(e: Event) -> str:
    return f"{e.comm:>16}-{e.pid:<7} [{e.cpu:03}] ..... {micros(e.time_ns)}: {fields_option(e)}"


def tracefs_2009(e: Event) -> str:
    return f"{e.comm:>16}-{e.pid:<5} [{e.cpu:03}] {micros(e.time_ns)}: {fields_2009(e)}"


def latency(e: Event) -> str:
    head = f"{e.comm[:8]:>8}-{e.pid:<7} {e.cpu:3}d..2."
    return f"{head} {e.time_ns // 1000:4}us{' +!#*@$'[e.pid % 7]}: {fields_2026(e)}"


def verbose(e: Event) -> str:
    ms, us = divmod(e.time_ns // 1000, 1000)
    head = f"{e.comm:>16} {e.pid:7} {e.cpu:3} 0 00000001 0000002a "
    return f"{head}[{e.time_ns // 1000:08x}] {ms}.{us:03}ms (+0.001ms): {fields_2026(e)}"


def bare(e: Event) -> str:
    return fields_2026(e)


def _trace_cmd(e: Event, time: str, raw: bool = False, more: str = "") -> str:
    name, _, rest = fields_2026(e).partition(": ")
    if raw:
        name, rest = fields_raw(e)
    elif e.kind >= CACHE_ALLOC:
        rest = f"(f+0x6c) {rest}"
    return (
        f"{e.comm:>16}-{e.pid:<5} [{e.cpu:03}]{time}:{more} {name}: {' ' * (20 - len(name))}{rest}"
    )


def trace_cmd(e: Event) -> str:
    return _trace_cmd(e, f" {micros(e.time_ns)}")


def trace_cmd_t(e: Event) -> str:
    return _trace_cmd(e, f" {nanos(e.time_ns)}")


def trace_cmd_raw(e: Event) -> str:
    return _trace_cmd(e, f" {nanos(e.time_ns)}", raw=True)


def trace_cmd_tsc(e: Event) -> str:
    return _trace_cmd(e, f"{e.time_ns:12}")


def trace_cmd_diff(e: Event) -> str:
    return _trace_cmd(e, f" {micros(e.time_ns)}", more=f" {f'(+{e.pid})':<8}")


def trace_cmd_latency(e: Event) -> str:
    name, _, rest = fields_2026(e).partition(": ")
    head = f"{e.comm[:8]:>8}-{e.pid:<5} {e.cpu:3}...1. {nanos(e.time_ns)}"
    return f"{head}: {name}: {' ' * (20 - len(name))}{rest}"


def _perf(e: Event, who: str, time: str, more: str = "") -> str:
    name, _, rest = fields_2026(e).partition(": ")
    return f"{e.comm:>16} {who} [{e.cpu:03}] {time}: {more}{f'kmem:{name}':>35}: {rest}"


def perf(e: Event) -> str:
    return _perf(e, f"{e.pid:5}", micros(e.time_ns))


def perf_ns(e: Event) -> str:
    return _perf(e, f"{1:5}/{e.pid:<5}", nanos(e.time_ns), f"{1:10} ")


def graph(e: Event) -> str:
    place = f"{micros(e.time_ns)} |  {e.cpu:2})"
    task = f"{e.comm[:7]}-{e.pid}".center(14)
    return f"{place} {task} |               |  {'  ' * (e.pid % 4)}/* {fields_2026(e)} */"


def graph_untimed(e: Event) -> str:
    return f" {e.cpu:2})               |    /* {fields_2026(e)} */"


CHAIN = (
    "\tffffffff81636e0d kfree+0x20d ([kernel.kallsyms])",
    "\t           ee137 [unknown] (/bin/x)",
    "",
)
HEADING = ("# tracer: nop", "#", "#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION")

LAYOUTS = (
    Layout("tracefs", "ftrace", tracefs, before=HEADING),
    Layout("record-tgid", "ftrace", tracefs_tgid),
    Layout("no irq-info", "ftrace", tracefs_plain),
    Layout("clock x86-tsc", "ftrace", tracefs_ticks, unit_ns=1),
    Layout("option fields", "ftrace", tracefs_fields),
    Layout("Linux 2.6.32", "ftrace", tracefs_2009, names=False),
    Layout("latency-format", "ftrace", latency),
    Layout("latency-format, verbose", "ftrace", verbose),
    Layout("no context-info", "ftrace", bare, unit_ns=0, cpus=False, tasks=False),
    Layout("stacktrace", "ftrace", tracefs, after_each=(" => kfree", " => do_syscall_64")),
    Layout("trace-cmd", "trace-cmd", trace_cmd, before=("cpus=2",)),
    Layout("trace-cmd -t", "trace-cmd", trace_cmd_t, before=("cpus=2",), unit_ns=1),
    Layout("trace-cmd -t -R", "trace-cmd", trace_cmd_raw, before=("cpus=2",), unit_ns=1),
    Layout("trace-cmd, x86-tsc", "trace-cmd", trace_cmd_tsc, before=("cpus=2",), unit_ns=1),
    Layout("trace-cmd --ts-diff", "trace-cmd", trace_cmd_diff, before=("cpus=2",)),
    Layout("trace-cmd -l -t", "trace-cmd", trace_cmd_latency, before=("cpus=2",), unit_ns=1),
    Layout("perf script", "perf", perf),
    Layout("perf script --ns", "perf", perf_ns, unit_ns=1),
    Layout("perf script, callchains", "perf", perf, after_each=CHAIN),
    Layout("function_graph, abstime, proc", "function_graph", graph),
    Layout("function_graph", "function_graph", graph_untimed, unit_ns=0, tasks=False),
)
