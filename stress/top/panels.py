"""The panels of ``shmstress top``: a ``Picture`` arranged for a terminal of any width.

A panel is a title and something that rich draws; it is the same on a terminal (app.py) and in a
frame of text (frame.py). What is wrong is red, and also says so in words: there may be no colours.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from rich.console import RenderableType
from rich.text import Text

from shmalloc.sizes import format_bytes
from stress.quantities import counted, rough_duration
from stress.report.cells import bar, one_line
from stress.top.activity_panels import counters, cpu_slots, locks
from stress.top.fitting import Look, Rows
from stress.top.memory_panels import caches, map_title, memory_map, zones
from stress.top.panel import Panel
from stress.top.processes import short_command
from stress.top.view import View

RIGHT = ("map", "caches", "counters")
NARROW = 72  # columns; below, the bar of the memory is short


def panels(view: View) -> list[Panel]:
    """All of them, the most urgent first."""
    now = view.now
    found = [
        ("segment", f"segment {now.name}", headlines),
        ("violations", "violations", violations),
        ("cpus", f"CPU slots, by {view.cpu_order}", cpu_slots),
        ("locks", f"locks held at this moment: {len(now.locks)}", locks),
        ("zones", "zones, and their free blocks by order", zones),
        ("map", map_title(now), memory_map),
        ("caches", f"caches, by {view.cache_order}", caches),
        ("counters", f"counters, by {view.counter_order}", counters),
    ]
    return [
        Panel(key, title, Rows(partial(draw, view)), key in RIGHT)
        for key, title, draw in found
        if key != "violations" or now.reported
    ]


def headlines(view: View, look: Look) -> Iterable[RenderableType]:
    """What it is, whose it is, and whether anything is wrong."""
    now, geometry = view.now, view.now.geometry
    if now.removed:
        yield one_line(Text("ENDED: the segment was removed; this is the last of it", "bold red"))
    yield one_line(_state_line(view))
    yield one_line(
        Text(
            f"{format_bytes(now.bytes)}, of which {format_bytes(now.touched_bytes)} in use:"
            f" {geometry.pages:,} pages of {format_bytes(geometry.page_bytes)} in"
            f" {counted(len(geometry.zones), 'zone')}; {counted(geometry.cpus, 'CPU slot')};"
            f" links in the {geometry.link_store}",
            "dim",
        )
    )
    yield one_line(_memory_line(view, look))
    if not now.same_build:
        text = "it was made by another build: words that have changed since are misread"
        yield one_line(Text(text, "bold red"))


def _state_line(view: View) -> Text:
    now = view.now
    found = counted(now.reported, "violation") if now.reported else "no violations"
    text = Text(found, "bold red" if now.reported else "green")
    if now.stopping:
        text.append("; all were told to stop", "yellow")
    age = "" if now.age_s is None else f"{rough_duration(round(now.age_s))} old, "
    text.append(f"; {age}of pid {now.owner.pid}, ")
    text.append(now.owner.state, "bold red" if now.owner.odd else "")
    command = short_command(now.owner.command)
    return text.append(f" ({command})" if command else "")


def _memory_line(view: View, look: Look) -> Text:
    numbers = view.now.statistics
    used, managed = max(0, numbers.used_pages), max(0, numbers.managed_pages)
    share = bar(used / max(1, managed), 6 if look.width < NARROW else 24, look.ascii)
    isolated = sum(zone.isolated_pages for zone in numbers.zones)
    return Text(
        f"memory {share} {look.number(used)} of {look.number(managed)} pages used,"
        f" {look.number(numbers.pcp_pages)} on per-CPU lists, {look.number(isolated)} isolated"
    )


def violations(view: View, look: Look) -> Iterable[RenderableType]:
    """The first ones, in words."""
    for violation in view.now.violations:
        yield Text(str(violation), "red")
    more = view.now.reported - len(view.now.violations)
    if more > 0:
        yield Text(f"and {more:,} more")
