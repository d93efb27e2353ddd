"""Panels of what there is: zones, the map of the RAM, caches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import RenderableType
from rich.text import Text

from shmalloc import constants as c
from shmalloc.page_states import STATE_NAMES
from shmalloc.sizes import format_bytes
from shmalloc.statistics import ZoneStatistics
from stress.report.cells import one_line
from stress.top.fitting import Column, Fitting, Look
from stress.top.reading import Picture
from stress.top.slabs import CacheUse
from stress.top.view import View

# The letter and the style of each page state on the map: to be told apart without colours, too.
LOOKS = {
    c.T_TAIL: ("?", "bold red"),
    c.T_FREE: ("·", "green"),
    c.T_PCP: ("p", "cyan"),
    c.T_ALLOCATED: ("#", "yellow"),
    c.T_SLAB: ("s", "magenta"),
    c.T_ISOLATED: ("i", "blue"),
    c.T_OFFLINE: ("o", "dim"),
    c.T_POISONED: ("!", "red"),
    c.T_RESERVED: (" ", "dim"),
}
ROWS = 8  # of the map
MARGIN = 9  # before a row of the map: its first pfn
OLD_S = 1.5  # a map that is older says so


def zones(view: View, look: Look) -> Iterable[RenderableType]:
    """Free pages of each zone, and its free blocks by order: one row, or some lines."""
    orders = range(view.now.geometry.max_order + 1)
    table = Fitting(
        Column("zone", right=True),
        Column("node", 3, right=True),
        Column("pfns", 4),
        Column("managed", 2, right=True),
        Column("free", right=True),
        Column("isolated", 1, right=True),
        Column("low mark", 5, right=True),
        *(Column(str(order), right=True) for order in orders),
    )
    for zone in view.now.statistics.zones:
        table.add(*_zone_row(zone, look), style=_zone_style(zone))
    if table.fits(look.width):
        yield table.drawn(look.width)
    else:
        yield from (_zone_line(zone, look) for zone in view.now.statistics.zones)


def _zone_row(zone: ZoneStatistics, look: Look) -> Sequence[str]:
    return (
        str(zone.zone),
        str(zone.node),
        f"{zone.start_pfn}-{zone.end_pfn - 1}",
        look.number(zone.managed_pages),
        look.number(zone.free_pages),
        look.number(zone.isolated_pages),
        look.number(zone.watermarks[1]),
        *(look.number(blocks) for blocks in zone.free_blocks),
    )


def _zone_line(zone: ZoneStatistics, look: Look) -> Text:
    orders = "  ".join(f"{order}:{look.number(n)}" for order, n in enumerate(zone.free_blocks))
    free, managed = look.number(zone.free_pages), look.number(zone.managed_pages)
    isolated = f", {look.number(zone.isolated_pages)} isolated" if zone.isolated_pages else ""
    text = f"zone {zone.zone}: {free} of {managed} pages free{isolated}  {orders}"
    return Text(text, _zone_style(zone))


def _zone_style(zone: ZoneStatistics) -> str:
    return "yellow" if zone.free_pages < zone.watermarks[1] else ""


def map_title(now: Picture) -> str:
    """Says when the map was taken if that is some time ago: walks of large segments are rare."""
    late = now.time_s - now.map.time_s
    return "map of the RAM" + (f", {late:.0f} s ago" if late > OLD_S else "")


def memory_map(view: View, look: Look) -> Iterable[RenderableType]:
    """A letter for each stretch of pfns: the state of most of its pages; then the legend."""
    pages = view.now.geometry.pages
    cells = view.now.map.cells(map_width(look) * ROWS)
    yield from map_rows(cells, pages, look)
    counts = {state: look.number(count) for state, count in enumerate(view.now.map.pages) if count}
    yield legend(counts, -(-pages // max(1, len(cells))), look)


def map_rows(cells: bytes, pages: int | None, look: Look) -> Iterable[RenderableType]:
    """Rows of letters, each with its first pfn of ``pages``; None: with the share before it."""
    width = map_width(look)
    for first in range(0, len(cells), width):
        share = f"{first / len(cells):.0%}"
        place = share if pages is None else f"{first * pages // len(cells)}"
        row = Text(f"{place:>{MARGIN - 1}} ", "dim")
        for state in cells[first : first + width]:
            letter, style = _letter(state, look)
            row.append(letter, style)
        yield one_line(row)


def map_width(look: Look) -> int:
    """The largest power of two that fits, so that all rows are full."""
    return 1 << (max(16, look.width - MARGIN).bit_length() - 1)


def _letter(state: int, look: Look) -> tuple[str, str]:
    letter, style = LOOKS.get(state, LOOKS[c.T_TAIL])
    return ("." if look.ascii and letter == "·" else letter), style


def legend(shown: Mapping[int, str], pages: int | None, look: Look) -> Text:
    """What the letters of a map mean, each with a text; ``pages`` of a letter, None: unknown."""
    many = "a letter is of most pages of its stretch:"
    if pages is not None:
        many = "one page a letter:" if pages == 1 else f"{pages:,} pages a letter, of most:"
    text = Text(many)
    for state, more in shown.items():
        letter, style = _letter(state, look)
        text.append("  blank" if letter == " " else f"  {letter}", style)
        text.append(f" {STATE_NAMES[state]} {more}".rstrip())
    return text


def caches(view: View, look: Look) -> Iterable[RenderableType]:
    """Objects and slabs of each cache."""
    if not view.now.caches:
        yield Text("none", "dim")
        return
    table = Fitting(
        Column("cache", flexible=True),
        Column("bytes", 4, right=True),
        Column("live", right=True),
        Column("of", right=True),
        Column("in sheaves", 5, right=True),
        Column("slabs", right=True),
        Column("full", 2, right=True),
        Column("partial", 2, right=True),
        Column("empty", 3, right=True),
        Column("bad", 6, right=True),
        Column("memory", 1, right=True),
    )
    for cache in view.caches:
        table.add(*_cache_row(view, cache, look), style=_cache_style(cache))
    yield table.drawn(look.width)


def _cache_row(view: View, cache: CacheUse, look: Look) -> Sequence[str]:
    count, number = cache.count, look.number
    return (
        cache_text(cache),
        number(cache.object_bytes),
        number(cache.live),
        number(count.objects),
        number(cache.in_sheaves),
        number(count.slabs),
        number(count.full),
        number(cache.partial),
        number(count.empty),
        number(count.frozen),
        format_bytes(count.pages * view.now.geometry.page_bytes),
    )


def cache_text(cache: CacheUse) -> str:
    """``3 inode``, ``4 (dying, debug FZ)``."""
    notes = [cache.state] if cache.state != "live" else []
    if cache.debug:
        notes.append(f"debug {cache.debug}")
    name = f"{cache.number} {cache.name}".rstrip()
    return f"{name} ({', '.join(notes)})" if notes else name


def _cache_style(cache: CacheUse) -> str:
    return "bold red" if cache.count.frozen else "" if cache.state == "live" else "yellow"
