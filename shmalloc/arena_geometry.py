"""The geometry of an arena, from what a program says of it: bytes, a number of zones, CPUs.

Owns nothing. What a geometry may be is checked by ``Geometry`` itself (layout.py).
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from shmalloc import constants as c
from shmalloc.checked import checked_int, shown, unknown_option
from shmalloc.engine import asymmetric
from shmalloc.errors import MisuseError
from shmalloc.geometry_rules import MOST_BYTES, RANGES, few_enough, largest_zone, plain_zones
from shmalloc.layout import Geometry, ZoneSpec
from shmalloc.sampled_layout import MOST_RATE
from shmalloc.sizes import as_int, format_bytes, parse_bytes

DEFAULT_SIZE = "1GiB"
SLOTS_PER_CORE = 4
_RATE = re.compile(r"1/([0-9]{1,7})", re.ASCII)
OPTIONS = ("name", "size", "engine", "prealloc", *Geometry.__dataclass_fields__)
OTHER_NAMES = {  # of the command line (docs/geometry.md), of Linux, and of habit
    "fill": "poison=True or zero=True",
    "min_free": "min_free_pages",
    "min_free_bytes": "min_free_pages",
    "min_free_kbytes": "min_free_pages",
    "pcp": "pcp_form",
    "ram": "size",
    "ram_bytes": "size",
    "nodes": "zones",
    "pages": "size",
    "page_poison": "poison",
    "page_poisoning": "poison",
    "page_reporting": "reporting",
    "slots": "claims",
    "workers": "cpus",
}
SECRET_BITS = 60  # below a leading 1: all secrets take the same room in the geometry's text


def geometry_of(
    size: int | str | None = None,
    cpus: int | None = None,
    zones: int | Sequence[ZoneSpec] | None = None,
    **fields: Any,
) -> Geometry:
    """``Geometry`` of an arena from a size in bytes, a number of zones and CPUs.

    Per-CPU locks are biased where the system has membarrier(2), unless ``biased_locks`` says
    otherwise. Unless ``harden`` does (0: off), free pointers are hardened with a random secret;
    unless ``pageblock_order`` does, a pageblock is no larger than the largest block. Raises
    ``MisuseError`` for what is no option, and for a value that an option cannot have.
    """
    for name in sorted(set(fields) - set(Geometry.__dataclass_fields__)):
        raise unknown_option(name, OPTIONS, OTHER_NAMES)
    fields["page_owner"] = sampling_rate(fields.get("page_owner", 0))
    fields["cpus"] = _default_cpus() if cpus is None else cpus
    fields.setdefault("biased_locks", asymmetric.is_possible())
    fields.setdefault("harden", 1 << SECRET_BITS | secrets.randbits(SECRET_BITS))
    if (largest := as_int(fields.get("max_order"))) is not None:
        fields.setdefault("pageblock_order", min(Geometry.pageblock_order, max(largest, 0)))
    count = 1 if zones is None else as_int(zones)
    if count is not None:
        specs = _equal_zones(DEFAULT_SIZE if size is None else size, count, fields)
    else:
        specs = _given_zones(zones, size)
    made = Geometry(zones=specs, **fields)
    if 0 < made.min_free_pages == largest_zone(made):  # all for those with a flag that says so
        raise MisuseError(few_enough(made))
    return made


def sampling_rate(given: Any) -> int:
    """64 of ``"1/64"``: one allocation in so many is sampled; 0 of 0 or ``"off"``: none."""
    if isinstance(given, str):
        found = _RATE.fullmatch(given.strip())
        if given.strip() == "off":
            return 0
        if found is not None and 1 <= int(found[1]) <= MOST_RATE:
            return int(found[1])
    elif as_int(given) == 0:
        return 0
    raise MisuseError(f"page_owner: {given!r}; use a form like '1/64', from 1/1 to 1/{MOST_RATE}")


def _default_cpus() -> int:
    return min(c.MAX_CPUS, SLOTS_PER_CORE * len(os.sched_getaffinity(0)))


def _equal_zones(size: int | str, count: int, fields: dict[str, Any]) -> tuple[ZoneSpec, ...]:
    """``count`` zones of equal size, one per node; the last one takes the remainder."""
    if not 1 <= count <= c.MAX_NODES:
        raise _no_zones(count)
    asked, most = parse_bytes(size), MOST_BYTES
    if asked > most:
        raise MisuseError(f"size: {size!r}; use at most {most:,} bytes, {format_bytes(most)}")
    given = fields.get("page_bytes", Geometry.page_bytes)
    page_bytes = checked_int("page_bytes", given, *RANGES["page_bytes"])
    pages = asked // page_bytes
    if pages < count:
        raise MisuseError(
            f"size: {size!r}; use at least {count * page_bytes} bytes, a page of {page_bytes} for"
            " each zone"
        )
    each = pages // count
    sizes = [each] * (count - 1) + [pages - each * (count - 1)]
    return tuple(ZoneSpec(pages=n, node=node) for node, n in enumerate(sizes))


def _given_zones(zones: Any, size: int | str | None) -> tuple[ZoneSpec, ...]:
    """The zones of a list, which have sizes of their own."""
    if not isinstance(zones, Iterable) or isinstance(zones, str | bytes):
        raise _no_zones(zones)
    specs = plain_zones(zones)
    if size is not None:
        raise MisuseError(f"size: {size!r} together with zones; leave it out, the zones have sizes")
    return specs


def _no_zones(given: object) -> MisuseError:
    return MisuseError(
        f"zones: {shown(given)}; use how many there are, 1 to {c.MAX_NODES}, or a list of ZoneSpec"
    )
