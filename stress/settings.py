"""Settings as data: each is declared once, as a field of a struct, and is written in two forms.

A group of settings is a frozen ``msgspec.Struct``. A field's name, type, range and default are its
declaration; ``quantity`` adds how its text reads, how it prints, and the sentence that an error
ends with. Callers give a group as one line (``every=100ms,fuse=1..2000``) or as a table of a TOML
or JSON file; ``read`` makes the struct of either. ``line_of`` prints the line that reads as the
same struct again.

msgspec takes 30 ms to load, so only commands with such settings import this module, and
``shmstress --help`` does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from decimal import Decimal
from typing import Annotated, Any, TypeVar, get_args

from msgspec import Meta, Struct, convert, structs

from shmalloc.errors import MisuseError
from shmalloc.sizes import parse_duration
from stress.quantities import SEED_BITS, exact_duration, nearest, parse_seed

LONGEST_S = 10 * 365 * 86400.0
Group = TypeVar("Group", bound=Struct)


def quantity(
    use: str | None = None,
    read: Callable[[Any], object] = lambda value: value,
    show: Callable[[Any], str] = str,
    choices: Collection[str] = (),
    **limits: Any,
) -> Meta:
    """The declaration of a field. ``use`` ends the error of a wrong value: "use ...".

    ``read`` turns text into plain data, which msgspec checks (``limits`` are its own: ``ge``,
    ``le``, ...), or into a finished object. Without ``use``, the errors of ``read`` stand as they
    are.
    """
    extra = {"use": use, "read": read, "show": show, "choices": choices}
    meta: Meta = Meta(extra=extra, **limits)
    return meta


_ANY = quantity()


def decimal(number: float | Decimal) -> str:
    """The shortest text without an exponent that reads as ``number``."""
    return f"{Decimal(str(number)):f}"


def _share(text: str) -> str:
    return decimal(Decimal(text[:-1]) / 100) if re.fullmatch(r"[\d.]+%", text) else text


def _percent(share: float) -> str:
    return f"{(Decimal(repr(share)) * 100).normalize():f}%"


def share(least: str) -> Meta:
    """The quantity of a share, at least ``least``: ``50%``, or ``0.5``."""
    use = f"a share from {least} to 100%"
    return quantity(use, _share, _percent, ge=float(_share(least)), le=1)


def _switch(given: object) -> object:
    return {"on": True, "off": False}.get(str(given), given)


Duration = Annotated[
    float, quantity("a duration such as 100ms", parse_duration, exact_duration, gt=0, le=LONGEST_S)
]
Seed = Annotated[
    int, quantity(f"a number from 0 to 2**{SEED_BITS} - 1, 0x allowed", parse_seed, hex, ge=0)
]
Switch = Annotated[bool, quantity("on or off", _switch, lambda on: "on" if on else "off")]


def names_of(group: type[Struct]) -> list[str]:
    return [field.encode_name for field in structs.fields(group)]


def read(group: type[Group], given: object, where: str) -> Group:
    """The struct of a line of settings, of a table, or of ``on``, which changes none.

    Raises ``MisuseError`` of one line: the place, the value, and what to use.
    """
    if given is True or given == "on":
        given = {}
    if isinstance(given, str):
        given = _items(given, names_of(group), where)
    if not isinstance(given, Mapping):
        raise MisuseError(f"{where}: {given!r}; use on, settings such as name=value, or a table")
    values = read_fields(group, given, where)
    missing = [f.encode_name for f in structs.fields(group) if f.required and f.name not in values]
    if missing:
        raise MisuseError(f"{where}: {missing[0]} is missing; add {missing[0]}=...")
    try:
        return group(**values)
    except ValueError as error:  # of __post_init__: settings that exclude each other
        raise MisuseError(f"{where}: {error}") from error


def _items(line: str, names: list[str], where: str) -> dict[str, str]:
    """Name -> text of the settings of a line."""
    found: dict[str, str] = {}
    for part in line.split(","):
        name, equals, text = part.strip().partition("=")
        if name not in names:
            raise nearest(name, names if equals else ["on", *names], where)
        if name in found or not equals:
            reason = "is given twice" if equals else "has no value"
            raise MisuseError(f"{where}.{name} {reason}; use {name}=... once")
        found[name] = text
    return found


def read_fields(
    group: type[Struct], given: Mapping[str, object], where: str = ""
) -> dict[str, Any]:
    """Attribute -> value of the settings in ``given``, which are texts or data."""
    fields = {field.encode_name: field for field in structs.fields(group)}
    for name in given:
        if name not in fields:
            raise nearest(name, fields, where)
    at = f"{where}." if where else ""
    return {fields[n].name: _value(fields[n].type, value, at + n) for n, value in given.items()}


def _value(kind: Any, value: object, place: str) -> object:
    """``value`` as a field of type ``kind``, checked."""
    if type(None) in get_args(kind) and (value == "off" or value is False):
        return None
    declared = _quantity_of(kind)
    if declared["choices"] and str(value) not in declared["choices"]:
        raise nearest(str(value), declared["choices"], place)
    # A number of a file reads as the text that means the same.
    number = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        data = declared["read"](decimal(value) if number else value)  # type: ignore[arg-type]
        return convert(data, kind, strict=False) if isinstance(data, str | int | float) else data
    except (ValueError, TypeError, ArithmeticError) as error:
        if isinstance(error, TypeError) and isinstance(value, str):
            raise  # a mistake of the reader, which has to take texts
        if declared["use"] is None and isinstance(error, MisuseError):
            raise
        cure = f"{value!r}; use {declared['use']}" if declared["use"] else error
        raise MisuseError(f"{place}: {cure}") from error


def _quantity_of(kind: Any) -> dict[str, Any]:
    """What the type of a field declares, also if the field is optional."""
    parts = [kind, *get_args(kind)]
    metas = [m for part in parts for m in getattr(part, "__metadata__", ()) if isinstance(m, Meta)]
    return (metas[0] if metas else _ANY).extra or {}


def texts_of(group: Struct, brief: bool = False) -> dict[str, str]:
    """Name -> text of each setting that is not off by default; ``brief``: that was changed."""
    texts: dict[str, str] = {}
    for field in structs.fields(group):
        value, show = getattr(group, field.name), _quantity_of(field.type)["show"]
        if value != field.default or (value and not brief):
            texts[field.encode_name] = "off" if value is None else show(value)
    return texts


def line_of(group: Struct, brief: bool = False) -> str:
    """The one line that ``read`` turns into ``group``."""
    return ",".join(f"{name}={text}" for name, text in texts_of(group, brief).items())
