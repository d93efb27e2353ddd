"""A mistake in a file that is being worked on, told in one line with its place and a cure.

``SHMSTRESS_TRACEBACK=1`` shows Python's traceback before it. Nothing here imports a kernel or a
program: they may be what is broken.
"""

from __future__ import annotations

import os
import sysconfig
import traceback
from pathlib import Path

import shmalloc
import stress
from shmalloc.errors import MisuseError

TRACEBACK = "SHMSTRESS_TRACEBACK"
_OURS = [Path(p.__file__).parent for p in (shmalloc, stress) if p.__file__]
_LIBRARIES = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")]


def told(place: str, error: BaseException, ours: bool = False) -> MisuseError:
    """What went wrong while a user's file was read or run, in one line.

    ``ours``: the packages themselves may be what is broken.
    """
    if os.environ.get(TRACEBACK, "") not in ("", "0"):
        traceback.print_exception(error)
    where = place
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{error.filename}:{error.lineno or 1}"
    else:
        frames = _frames(error, ours)
        if frames:
            where = f"{frames[-1].filename}:{frames[-1].lineno}"
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    text = " ".join(f"{type(error).__name__}: {said}".rstrip(": ").split())
    return MisuseError(f"{where}: {text}; {_cure(place, error)}")


def _frames(error: BaseException, ours: bool) -> list[traceback.FrameSummary]:
    """The frames in the user's files, or in those and in ours."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_absolute() and not _is_in(frame, _LIBRARIES)
    ]
    return [frame for frame in frames if ours or not _is_in(frame, _OURS)]


def _is_in(frame: traceback.FrameSummary, places: list[Path]) -> bool:
    return any(Path(frame.filename).is_relative_to(place) for place in places)


def _cure(place: str, error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return 'the file ended Python; put that below if __name__ == "__main__"'
    if isinstance(error, ImportError) and "relative import" in str(error):
        folder, module = _as_module(Path(place).absolute())
        return f"name the module instead of its file, in {folder}: {module}:NAME"
    if isinstance(error, ImportError):
        return "install what it imports, or put it beside the file"
    return f"mend the file ({TRACEBACK}=1 shows the whole traceback)"


def _as_module(file: Path) -> tuple[Path, str]:
    """Where the outermost package of a file lies, and the file's name as a module of it."""
    folder, names = file.parent.parent, [file.parent.name, file.stem]
    while (folder / "__init__.py").is_file():
        folder, names = folder.parent, [folder.name, *names]
    return folder, ".".join(names)
