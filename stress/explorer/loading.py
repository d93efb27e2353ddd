"""Modules of users: how they are found and imported, and the messages when that fails.

A file runs as Python runs a script: its imports are searched in its folder, then in its root
(address.py). Its top level runs once; if it calls ``explore`` itself after it has made the wanted
program, it stops there, so that a script explores nothing while it is loaded.

A mistake in the file is reported in one line with its place (stress/broken.py).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

from shmalloc.errors import MisuseError
from stress.broken import told
from stress.explorer.address import root_of
from stress.explorer.bindings import names_made

MAKERS = frozenset({"Program", "CrashCase"})


class _Reached(BaseException):
    """The file being loaded begins to explore: it has made its programs."""


_loading: ContextVar[tuple[dict[str, Any], set[str]] | None] = ContextVar("loading", default=None)


def stop_loading() -> None:
    """``explore`` and its like call this first: a file that is being loaded stops here."""
    loading = _loading.get()
    if loading is not None:
        scope, wanted = loading
        if wanted and wanted <= scope.keys():
            raise _Reached


def here() -> list[Path]:
    """The working directory, in which targets are searched; empty if it no longer exists."""
    try:
        return [Path.cwd()]
    except FileNotFoundError:
        return []


def around() -> list[Path]:
    """Where to search the address in a token: the root, this folder, the folders above."""
    places = [place for cwd in here() for place in (root_of(cwd / "-"), cwd, *cwd.parents)]
    return list(dict.fromkeys(places))


def module_of(place: str, folders: Sequence[Path], name: str = "") -> ModuleType:
    """The module that ``place`` names, a file or a module's name, searched in ``folders``.

    ``name``: the wanted name in it. Raises ``MisuseError`` if there is none, or it fails.
    """
    if place.endswith(".py"):
        return _file_module(_find(place, folders), name)
    top = place.partition(".")[0]
    for folder in folders:
        if (folder / f"{top}.py").is_file() or (folder / top).is_dir():
            first = folder
            break
    else:
        first = None
    try:
        with _looked_in_first(first):
            return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{place}.".startswith(f"{error.name}."):
            raise MisuseError(
                f"module: {place!r} was not found; name a module that can be imported from here,"
                " or a file"
            ) from error
        raise told(place, error) from error
    except Exception as error:
        raise told(place, error) from error


def _find(place: str, folders: Sequence[Path]) -> Path:
    """The file ``place`` in the first of the folders that has it."""
    if not folders and not Path(place).is_absolute():
        raise MisuseError(
            f"file: {place}: the working directory no longer exists; change to one that does,"
            " or name the file by its whole path"
        )
    tried = [Path(os.path.normpath(folder / place)) for folder in folders] or [Path(place)]
    for path in tried:
        if path.is_file():
            return path
    if tried[0].is_dir():
        raise MisuseError(f"file: {tried[0]} is a directory; name a Python file in it")
    raise MisuseError(f"file: {place} does not exist in {tried[0].parent}; name a Python file")


def _look_in(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


@contextmanager
def _looked_in_first(folder: Path | None) -> Iterator[None]:
    """While a module is loaded its folder comes first, as in a script; afterwards it comes last.

    A ``jinja2.py`` beside a program is not what we mean when we import jinja2 for a page.
    """
    if folder is None:
        yield
        return
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        _look_in(folder)


def _file_module(path: Path, name: str) -> ModuleType:
    _look_in(root_of(path))
    spec = importlib.util.spec_from_file_location(_free_name(path), path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    scope = vars(module)
    token = None
    try:
        # Not by the loader: its bytecode does not notice an edit within the same second.
        code = compile(path.read_bytes(), str(path), "exec")
        token = _loading.set((scope, {name} if name else names_made(path, MAKERS)))
        with _looked_in_first(path.resolve().parent):
            exec(code, scope)
    except _Reached:
        pass
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise told(str(path), error) from error
    finally:
        if token is not None:
            _loading.reset(token)
    return module


def _free_name(path: Path) -> str:
    """A name that no module of another file has."""
    name = f"explored_{path.stem}".encode(errors="backslashreplace").decode()  # may be no text
    taken = sys.modules.get(name)
    if taken is None or getattr(taken, "__file__", None) == str(path):
        return name
    return f"{name}_{zlib.crc32(os.fsencode(path)):08x}"
