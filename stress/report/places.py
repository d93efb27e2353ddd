"""Where results are to be written: looked at before a run, written to after it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from tempfile import TemporaryFile

from shmalloc.errors import MisuseError
from stress.surroundings import unwritable, writing

STDOUT = "-"
DIRECTORIES = ("out", "plant", "into")
MOST_OF_A_NAME = 50  # characters of 4 bytes, of at most 255


def require_place(option: str, path: str | None) -> None:
    """Raises ``MisuseError`` where ``path`` cannot be written; ``-`` and None always can.

    The options DIRECTORIES name a directory, which need not exist; any other names a file.
    """
    if path is None or path == STDOUT:
        return
    if option in DIRECTORIES:
        _require(option, path, directory=True)
    else:
        require_file(option, path)


def require_places(**paths: str | None) -> None:
    """``require_place`` for several options; two that name one file would overwrite each other."""
    for option, path in paths.items():
        require_place(option, path)
    given = [(option, path) for option, path in paths.items() if path is not None]
    for at, (option, path) in enumerate(given):
        for other, same in given[:at]:
            if path == same or (path != STDOUT and _is_file_of(path, same)):
                raise MisuseError(f"{option}: {path} is the file of {other}, too; name another")


def _is_file_of(path: str, other: str) -> bool:
    ours, theirs = Path(path).resolve(), Path(other).resolve()
    return ours == theirs and (ours.is_file() or not ours.exists())


def require_file(option: str, path: str) -> None:
    """Raises ``MisuseError`` where no file can be written under the name ``path``."""
    if path == STDOUT:
        raise MisuseError(f"{option}: - is standard output, and this is no text; name a file")
    _require(option, path, directory=False)


def _require(option: str, path: str, directory: bool) -> None:
    place = Path(path).absolute()
    try:
        if not directory and place.is_dir():
            raise MisuseError(f"{option}: {path} is a directory; name a file in it")
        while directory and not place.exists():
            place = place.parent
        if directory or not place.exists():
            _try_folder(place if directory else Path(path).parent)
        elif not os.access(place, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise unwritable(option, path, error) from error


def _try_folder(folder: Path) -> None:
    """Make a file in ``folder``, which its permissions need not allow (/proc), and remove it."""
    if not folder.exists():
        raise FileNotFoundError(0, f"there is no directory {str(folder)!r}")
    if not os.access(folder, os.W_OK):  # before a name is made
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    with TemporaryFile(dir=folder):
        pass


def write_to(path: str, text: str) -> None:
    """``text`` into the file ``path``; ``-`` is standard output.

    A file is there as a whole or not at all, and an old one until the new one is whole: it is
    written under another name first. A device and a pipe are written where they are, and so is a
    file in a folder that takes no other, or that has another owner or name, which stay its own.
    """
    if path == STDOUT:
        print(text, end="", flush=True)
        return
    # A name of a file may hold bytes that are no text; they are shown, like on standard output.
    write_bytes_to(path, text.encode("utf-8", "backslashreplace"))


def write_bytes_to(path: str, data: bytes) -> None:
    """``data`` into the file ``path``, as ``write_to`` does it."""
    with writing(path):
        place = Path(os.path.realpath(path))  # a symbolic link stays one
        if _may_be_replaced(Path(path), place):
            _replace(place, data)
        else:
            Path(path).write_bytes(data)


def _may_be_replaced(path: Path, place: Path) -> bool:
    if not os.access(place.parent, os.W_OK):
        return False
    try:
        status = path.stat()
    except FileNotFoundError:
        return True
    ours = status.st_uid == os.geteuid() and status.st_nlink == 1
    return stat.S_ISREG(status.st_mode) and ours and place.exists()


def _replace(place: Path, data: bytes) -> None:
    fresh = place.with_name(f".{place.name[:MOST_OF_A_NAME]}-{os.getpid()}.part")
    try:
        with fresh.open("xb") as file:
            if place.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(place.stat().st_mode))
            file.write(data)
        fresh.replace(place)
    finally:
        fresh.unlink(missing_ok=True)
