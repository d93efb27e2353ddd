"""Where results are to be written: looked at before a run, written to after it."""

from __future__ import annotations

import os
from pathlib import Path

from shmalloc.errors import MisuseError


def require_place(option: str, path: str | None) -> None:
    """Raises ``MisuseError`` where ``path`` cannot be written; ``-`` and None always can.

    The option ``out`` names a directory, which need not exist; any other names a file.
    """
    if path is None or path == "-":
        return
    place = Path(path).absolute()
    if option == "out":
        while not place.exists():
            place = place.parent
    elif place.is_dir():
        raise MisuseError(f"{option}: {path} is a directory; name a file in it")
    else:
        place = place if place.exists() else place.parent
    if not os.access(place, os.W_OK):
        raise MisuseError(f"{option}: {path} cannot be written; name an existing, writable place")


def require_places(**paths: str | None) -> None:
    """``require_place`` for several options; two that name one file would overwrite each other."""
    for option, path in paths.items():
        require_place(option, path)
    given = [(option, path) for option, path in paths.items() if path is not None]
    for at, (option, path) in enumerate(given):
        for other, same in given[:at]:
            if path == same or (path != "-" and _is_file_of(path, same)):
                raise MisuseError(f"{option}: {path} is the file of {other}, too; name another")


def _is_file_of(path: str, other: str) -> bool:
    ours, theirs = Path(path).resolve(), Path(other).resolve()
    return ours == theirs and (ours.is_file() or not ours.exists())


def require_file(option: str, path: str) -> None:
    """Raises ``MisuseError`` where no file can be written under the name ``path``."""
    place = Path(path)
    if not place.parent.is_dir():
        raise MisuseError(f"{option}: {path!r}; there is no directory {str(place.parent)!r}")
    if place.is_dir() or not os.access(place if place.exists() else place.parent, os.W_OK):
        raise MisuseError(f"{option}: {path!r} may not be written; use another file")


def write_to(path: str, text: str) -> None:
    """``text`` into the file ``path``; ``-`` is standard output."""
    if path == "-":
        print(text, end="", flush=True)
    else:
        # A name of a file may hold bytes that are no text; they are shown, like on standard output.
        Path(path).write_text(text, "utf-8", "backslashreplace")
