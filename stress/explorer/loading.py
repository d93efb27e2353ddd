"""Modules of users: found, imported, and what is said when that fails.

A file is run as Python runs a script: its folder is where its imports are looked for, then its root
(address.py). Its top level runs once; where it calls ``explore`` itself, after what is wanted is
made, it stops there, so that a script explores nothing while it is loaded.

A mistake in the file is told in one line with its place. ``SHMSTRESS_TRACEBACK=1`` shows Python's
traceback before it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import sysconfig
import traceback
import zlib
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

import shmalloc
import stress
from shmalloc.errors import MisuseError
from stress.explorer.address import root_of
from stress.explorer.bindings import names_made

MAKERS = frozenset({"Program", "CrashCase"})
TRACEBACK = "SHMSTRESS_TRACEBACK"
_OURS = [Path(p.__file__).parent for p in (shmalloc, stress) if p.__file__]
_LIBRARIES = [*_OURS, *(Path(sysconfig.get_path(n)) for n in ("stdlib", "purelib", "platlib"))]


class _Reached(BaseException):
    """The file that is loaded explores: what it makes is made."""


_loading: ContextVar[tuple[dict[str, Any], set[str]] | None] = ContextVar("loading", default=None)


def stop_loading() -> None:
    """``explore`` and its like begin with it: a file that is being loaded goes no further."""
    loading = _loading.get()
    if loading is not None:
        scope, wanted = loading
        if wanted and wanted <= scope.keys():
            raise _Reached


def here() -> list[Path]:
    """The working directory, where what a user types is looked for; nothing where it is gone."""
    try:
        return [Path.cwd()]
    except FileNotFoundError:
        return []


def around() -> list[Path]:
    """Where the address in a token is looked for: from the root, from here, from further up."""
    places = [place for cwd in here() for place in (root_of(cwd / "-"), cwd, *cwd.parents)]
    return list(dict.fromkeys(places))


def module_of(place: str, folders: Sequence[Path], name: str = "") -> ModuleType:
    """The module that ``place`` means, a file or a module's name, looked for in ``folders``.

    ``name``: what is wanted of it. Raises ``MisuseError`` if there is none, or it fails.
    """
    if place.endswith(".py"):
        return _file_module(_find(place, folders), name)
    top = place.partition(".")[0]
    for folder in folders:
        if (folder / f"{top}.py").is_file() or (folder / top).is_dir():
            _look_in(folder, first=True)
            break
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{place}.".startswith(f"{error.name}."):
            raise MisuseError(
                f"module: {place!r} is not found; name a module that can be imported from here,"
                " or a file"
            ) from error
        raise _failed(place, error) from error
    except Exception as error:
        raise _failed(place, error) from error


def _find(place: str, folders: Sequence[Path]) -> Path:
    """The file ``place`` in the first of the folders that has it."""
    if not folders and not Path(place).is_absolute():
        raise MisuseError(
            f"file: {place}: the working directory is gone; change to one that exists,"
            " or name the file by its whole path"
        )
    tried = [Path(os.path.normpath(folder / place)) for folder in folders] or [Path(place)]
    for path in tried:
        if path.is_file():
            return path
    if tried[0].is_dir():
        raise MisuseError(f"file: {tried[0]} is a directory; name a Python file in it")
    raise MisuseError(f"file: {place} does not exist in {tried[0].parent}; name a Python file")


def _look_in(folder: Path, first: bool) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0 if first else len(sys.path), str(folder))


def _file_module(path: Path, name: str) -> ModuleType:
    _look_in(path.resolve().parent, first=True)
    _look_in(root_of(path), first=False)
    spec = importlib.util.spec_from_file_location(_free_name(path), path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    scope = vars(module)
    token = None
    try:
        # Not through the loader: its bytecode does not notice an edit within the same second.
        code = compile(path.read_bytes(), str(path), "exec")
        token = _loading.set((scope, {name} if name else names_made(path, MAKERS)))
        exec(code, scope)
    except _Reached:
        pass
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise _failed(str(path), error) from error
    finally:
        if token is not None:
            _loading.reset(token)
    return module


def _free_name(path: Path) -> str:
    """A name that no module of another file has."""
    name = f"explored_{path.stem}"
    taken = sys.modules.get(name)
    if taken is None or getattr(taken, "__file__", None) == str(path):
        return name
    return f"{name}_{zlib.crc32(os.fsencode(path)):08x}"


# --- what went wrong -----------------------------------------------------------------------------
def _failed(place: str, error: BaseException) -> MisuseError:
    """What went wrong while a user's file was read or run, in one line."""
    if os.environ.get(TRACEBACK, "") not in ("", "0"):
        traceback.print_exception(error)
    where = place
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{error.filename}:{error.lineno or 1}"
    else:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame)]
        if frames:
            where = f"{frames[-1].filename}:{frames[-1].lineno}"
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    text = " ".join(f"{type(error).__name__}: {said}".rstrip(": ").split())
    return MisuseError(f"{where}: {text}; {_cure(error)}")


def _is_users(frame: traceback.FrameSummary) -> bool:
    path = Path(frame.filename)
    if not path.is_absolute():  # <frozen importlib._bootstrap>, <string>
        return False
    return not any(path.is_relative_to(library) for library in _LIBRARIES)


def _cure(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return 'the file ended Python; put that below if __name__ == "__main__"'
    if isinstance(error, ImportError) and "relative import" in str(error):
        return "name the module instead of its file: PACKAGE.MODULE:NAME"
    if isinstance(error, ImportError):
        return "install what it imports, or put it beside the file"
    return f"mend the file ({TRACEBACK}=1 shows the whole traceback)"
