"""Settings files: ``shmstress.toml``, ``pyproject.toml``, or the TOML or JSON of ``--config``.

Each command has a table of its own: ``[explore]`` in ``shmstress.toml`` and
``[tool.shmstress.explore]`` in ``pyproject.toml``. Keys are the long names of the options. Without
``--config`` the nearest directory that has one of the two is used, from the working directory up to
the repository. A file that was named may also hold the keys of its one command without a table, as
``shmstress run --dry-run`` prints them.

An unknown key, a table of an unknown command and a value of the wrong kind are ``MisuseError``.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from shmalloc.errors import MisuseError
from stress.quantities import nearest

if TYPE_CHECKING:
    from stress.options.command import Command, Option

OWN_FILE = "shmstress.toml"
PROJECT_FILE = "pyproject.toml"
NAMED = f"{__name__}.named"  # of ctx.meta: a file was named, so none is looked for
PLACE = f"{__name__}.place"  # of ctx.meta: the file and the table that values are from
Tables = Mapping[str, Any]


def read(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """The callback of ``--config``: the file gives defaults to the command of ``ctx``."""
    if ctx.resilient_parsing:
        return
    if value is not None:
        use_file(ctx, Path(value))
    if value is not None or ctx.meta.get(NAMED):
        return
    try:
        here = Path.cwd()
    except FileNotFoundError:  # the directory is gone, and its files with it
        return
    for path, tables in found(here):
        use_tables(ctx, path, tables)


def found(start: Path) -> list[tuple[Path, Tables]]:
    """The settings that hold in the directory ``start``: at most one file."""
    for directory in (start, *start.parents):
        for name in (OWN_FILE, PROJECT_FILE):
            path = directory / name
            if path.is_file() and (tables := _tables(path)):
                return [(path, tables)]
        if (directory / ".git").exists():
            break
    return []


def use_file(ctx: click.Context, path: Path) -> None:
    """Defaults from a file that was named: its table of this command, or its keys without one."""
    whole = _tables(path)
    ctx.meta[NAMED] = True
    command = cast("Command", ctx.command)
    known = command.settable()
    plain = {k: v for k, v in whole.items() if not isinstance(v, dict) or k in known}
    use_tables(ctx, path, {k: v for k, v in whole.items() if k not in plain})
    _use(ctx, f"{path}", plain)


def use_tables(ctx: click.Context, path: Path, tables: Tables) -> None:
    """Defaults from the table of this command; all tables must be those of commands."""
    parent = ctx.parent.command if ctx.parent is not None else None
    known = parent.list_commands(ctx) if isinstance(parent, click.Group) else [*tables]
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise MisuseError(
                f"{path}: {name} stands in no table; use the table of a command,"
                f" such as [{ctx.command.name}]"
            )
        if name not in known:
            raise nearest(name, known, f"{path}, table")
    _use(ctx, f"{path}, [{ctx.command.name}]", tables.get(ctx.command.name or "", {}))


def _use(ctx: click.Context, where: str, values: Tables) -> None:
    """Add ``values`` to the defaults of ``ctx``, by the names of its parameters."""
    command = cast("Command", ctx.command)
    known = command.settable()
    defaults: dict[str, Any] = {}
    for key, value in values.items():
        option = known.get(key.replace("_", "-"))
        if option is None:
            raise nearest(key, known, f"{where}, key")
        assert option.name is not None
        if option.name in defaults:
            raise MisuseError(f"{where}: {key} is given twice, under two names; keep one")
        try:
            value = value if command.text_of is None else command.text_of(option.key, value)
        except MisuseError as error:
            raise MisuseError(f"{error} (set in {where})") from error
        defaults[option.name] = _plain(option, value, f"{where}, {key}")
    if defaults:
        ctx.meta[PLACE] = where
    ctx.default_map = {**(ctx.default_map or {}), **defaults}


def _plain(option: Option, value: Any, where: str) -> Any:
    """A value as the option reads it from a command line: a list is its items with commas."""
    if option.is_flag != isinstance(value, bool):
        wanted = "true or false" if option.is_flag else "a text, a number or a list"
        raise MisuseError(f"{where}: {value!r}; use {wanted}")
    if isinstance(value, float) and isinstance(option.type, click.types.IntParamType):
        raise MisuseError(f"{where}: {value!r}; use a whole number")
    if isinstance(value, list) and all(isinstance(one, str | int | float) for one in value):
        return [*map(str, value)] if option.multiple else ",".join(map(str, value))
    if isinstance(value, str | int | float):
        return [str(value)] if option.multiple else value
    raise MisuseError(f"{where}: {value!r}; use a text, a number or a list of them")


def _tables(path: Path) -> Tables:
    """What the file says for us: all of it, or ``[tool.shmstress]`` of a pyproject.toml."""
    try:
        text = path.read_text("utf-8-sig")  # some editors write a mark before the text
        whole = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        said = f"{error.strerror}; name a file that can be read"
        raise MisuseError(f"settings file: {path}: {said}") from error
    except ValueError as error:
        raise MisuseError(f"settings file: {path}: {error}") from error
    if path.name == PROJECT_FILE:
        tool = whole.get("tool", {})
        whole = tool.get("shmstress", {}) if isinstance(tool, dict) else {}
    if not isinstance(whole, dict):
        raise MisuseError(f"settings file: {path}: {whole!r}; use names with values")
    return whole
