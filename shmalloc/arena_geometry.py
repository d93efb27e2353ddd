"""The geometry of an arena, from what a program says of it: bytes, a number of zones, CPUs.

Owns nothing. What a geometry may be is checked by ``Geometry`` itself (layout.py).
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Sequence
from typing import Any, cast

from shmalloc import constants as c
from shmalloc.errors import MisuseError
from shmalloc.layout import Geometry, ZoneSpec
from shmalloc.sampled_layout import MOST_RATE
from shmalloc.sizes import as_int, parse_bytes

DEFAULT_SIZE = "1GiB"
SLOTS_PER_CORE = 4
_RATE = re.compile(r"1/([0-9]{1,7})", re.ASCII)
SECRET_BITS = 60  # below a leading 1: all secrets take the same room in the geometry's text


def geometry_of(
    size: int | str | None = None,
    cpus: int | None = None,
    zones: int | Sequence[ZoneSpec] | None = None,
    **fields: Any,
) -> Geometry:
    """``Geometry`` of an arena from a size in bytes, a number of zones and CPUs.

    Unless ``harden`` says otherwise (0: off), free pointers are hardened with a random secret.
    """
    unknown = sorted(set(fields) - set(Geometry.__dataclass_fields__))
    if unknown:
        known = ", ".join(Geometry.__dataclass_fields__)
        raise MisuseError(f"{unknown[0]}: no such field of the geometry; use one of {known}")
    fields["page_owner"] = sampling_rate(fields.get("page_owner", 0))
    fields["cpus"] = _default_cpus() if cpus is None else cpus
    fields = {name: _plain(value) for name, value in fields.items()}
    for name, value in fields.items():
        if Geometry.__dataclass_fields__[name].type == "int" and as_int(value) is None:
            raise MisuseError(f"{name}: {value!r}; use an int")
    fields.setdefault("harden", 1 << SECRET_BITS | secrets.randbits(SECRET_BITS))
    count = as_int(zones)
    if zones is None or count is not None:
        page_bytes = fields.get("page_bytes", Geometry.__dataclass_fields__["page_bytes"].default)
        specs = _equal_zones(DEFAULT_SIZE if size is None else size, count or 1, page_bytes)
    elif size is not None:
        raise MisuseError(f"size: {size!r} together with zones; leave it out, the zones have sizes")
    else:
        given = cast(Sequence[ZoneSpec], zones)
        specs = tuple(ZoneSpec(_plain(z.pages), _plain(z.node), z.holes) for z in given)
    return Geometry(zones=specs, **fields)


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


def _plain(value: Any) -> Any:
    """An int of numpy as one of Python, which can be written down; anything else as it is."""
    number = as_int(value)
    return value if number is None else number


def _default_cpus() -> int:
    return min(c.MAX_CPUS, SLOTS_PER_CORE * len(os.sched_getaffinity(0)))


def _equal_zones(size: int | str, count: int, page_bytes: int) -> tuple[ZoneSpec, ...]:
    """``count`` zones of equal size, one per node; the last one takes the remainder."""
    if not 1 <= count <= c.MAX_NODES:
        raise MisuseError(f"zones: {count}; use 1 to {c.MAX_NODES}, or a list of ZoneSpec for more")
    pages = parse_bytes(size) // page_bytes
    if pages < count:
        raise MisuseError(f"size: {size!r} is less than {count} pages of {page_bytes} bytes")
    each = pages // count
    sizes = [each] * (count - 1) + [pages - each * (count - 1)]
    return tuple(ZoneSpec(pages=n, node=node) for node, n in enumerate(sizes))
