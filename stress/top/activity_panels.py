"""Panels of what happens: CPU slots, locks, counters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from stress.quantities import short
from stress.report.cells import bar, one_line
from stress.top.fitting import Column, Fitting, Look
from stress.top.lists import CpuUse
from stress.top.locks import HeldLock
from stress.top.processes import short_command
from stress.top.view import View, is_bad

NARROW = 80  # columns; below, what a slot is doing is a line of its own
COUNTER_WIDTH = 36


def cpu_slots(view: View, look: Look) -> Iterable[RenderableType]:
    """Who works on which slot, what its lists hold, and what it is doing."""
    table = Fitting(
        Column("cpu", right=True),
        Column("pid", right=True),
        Column("state"),
        Column("page lists"),
        Column("sheaves", 4, right=True),
        Column("ops/s", 2, right=True),
        Column("orders 0 1 2 3 +", 6),
        Column("doing", 3, flexible=True),
    )
    for cpu in view.cpus:
        table.add(*_cpu_row(view, cpu, look), style=_cpu_style(cpu))
    yield table.drawn(look.width)
    if look.width < NARROW:
        for cpu in view.cpus:
            if doing(cpu):
                yield one_line(Text(f"cpu {cpu.slot.claim} {doing(cpu)}"))


def _cpu_row(view: View, cpu: CpuUse, look: Look) -> Sequence[str]:
    share = bar(cpu.pages / cpu.high if cpu.high > 0 else 0.0, look.bar, look.ascii)
    rate = view.rate_of(cpu)
    return (
        str(cpu.slot.claim),
        str(cpu.slot.pid) if cpu.slot.pid else "-",
        slot_state(cpu),
        f"{share} {short(cpu.pages)}/{short(cpu.high)}",
        f"{short(cpu.objects)}/{short(cpu.room)}" if cpu.room else "-",
        "-" if rate is None else short(rate),
        " ".join(short(blocks) for blocks in cpu.by_order),
        "" if look.width < NARROW else doing(cpu),
    )


def slot_state(cpu: CpuUse) -> str:
    """``running``, ``offline, sleeping``, ``unused``, ``dead, being recovered``."""
    slot, process = cpu.slot, cpu.process
    if slot.recovering:
        return "dead, being recovered"
    parts = [slot.state] if slot.state not in ("online", "empty") else []
    parts.append("unused" if process is None else process.state)
    return ", ".join(parts)


def doing(cpu: CpuUse) -> str:
    """What a slot is doing, the most telling first; "" if nothing is known."""
    parts = []
    if cpu.waits_for:
        parts.append(f"waits for {cpu.waits_for}")
    if cpu.holds:
        parts.append(f"holds {', '.join(cpu.holds)}")
    if cpu.intent:
        parts.append(cpu.intent)
    if cpu.last:
        parts.append(f"last: {cpu.last}")
    return "; ".join(parts)


def _cpu_style(cpu: CpuUse) -> str:
    if cpu.slot.dead or (cpu.process is not None and cpu.process.odd):
        return "bold red"
    return "" if cpu.process is not None else "dim"


def locks(view: View, look: Look) -> Iterable[RenderableType]:
    """Which locks are held, by whom, for how long, and how many wait."""
    if view.now.locks:
        table = Fitting(
            Column("lock"),
            Column("cpu", right=True),
            Column("pid", right=True),
            Column("holder"),
            Column("held for", 1, right=True),
            Column("waiting", 2, right=True),
            Column("command", 3, flexible=True),
        )
        for lock in view.locks:
            table.add(*_lock_row(lock), style="bold red" if is_bad(lock) else "")
        yield table.drawn(look.width)
    if view.now.waiters:
        slots = ", ".join(map(str, view.now.waiters))
        yield Text(f"waiting for memory: cpu {slots}", "yellow")
    if not view.now.locks and not view.now.waiters:
        yield Text("none, and no process waits for memory", "dim")


def _lock_row(lock: HeldLock) -> Sequence[str]:
    process = lock.process
    unknown = "no process" if lock.current else "an earlier life"
    return (
        lock.name,
        str(lock.cpu),
        str(process.pid) if process else "-",
        process.state if process else unknown,
        f"{lock.held_s:.1f} s" if lock.held_s else "-",
        "?" if lock.waiting is None else str(len(lock.waiting)),
        short_command(process.command) if process else "",
    )


def counters(view: View, look: Look) -> Iterable[RenderableType]:
    """What has happened since the segment was made, in as many columns as fit."""
    entries = [
        (name.replace("_", " "), short(count), "" if rate is None else f"{short(rate)}/s")
        for name, count, rate in view.counters
    ]
    across = max(1, look.width // COUNTER_WIDTH)
    down = max(1, -(-len(entries) // across))
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    for _ in range(across):
        table.add_column(no_wrap=True, min_width=14)
        table.add_column(justify="right", no_wrap=True, min_width=5)
        table.add_column(justify="right", no_wrap=True, min_width=8)
    for row in range(down):
        table.add_row(*(cell for entry in entries[row::down] for cell in entry))
    yield table if entries else Text("nothing has happened", "dim")
    absent = [name.replace("_", " ") for name, n in view.now.statistics.events.items() if not n]
    if absent:
        yield Text(f"never: {', '.join(absent)}", "dim")
