"""Which directory may hold compiled code: one that only this user and root can change.

A user that can write to the directory of the compiled code decides what we execute. Ownership keeps
other users out; digests (store.py) only find damage. The directories, in the order of preference::

    $SHMALLOC_CACHE_DIR              "the usual one": the first of these three that is set;
    $XDG_CACHE_HOME/shmalloc         what is missing of its path is made with mode 0700
    ~/.cache/shmalloc
    TEMPORARY/shmalloc-XXXXXXXX      "the private one": its name cannot be guessed; only where the
                                     usual one cannot be trusted or cannot be written to

A path is walked from the root, and each step must pass before the next one is checked: a directory
that belongs to us or to root and that no group and no other user may write to. No other user can
then exchange what is below it, so the check stays true. A sticky directory such as /tmp may be on
the way, because other users cannot rename what belongs to us or to root in it; a symbolic link
directly in it is still refused (another user may have chosen it). Access lists are covered: their
widest permission shows in the group's bits of the mode.

The private directory serves a whole tree of processes: its maker puts its path into the
environment, and descendants use it as long as it exists and passes the same walk. Only its maker
removes it, at its exit; one that is killed leaves it behind.

Rules for callers: call ``trusted`` at each use, because another user may delete a directory and
make it again meanwhile (20 microseconds); pass no path through a shell or to another user.

What it does not do: read or write images (store.py). It imports nothing slow: each process that
uses a kernel pays for this import (pathlib alone takes longer than loading an image).
"""

# ruff: noqa: PTH100, PTH102, PTH106, PTH108, PTH111, PTH115, PTH117, PTH118, PTH120, PTH208

from __future__ import annotations

import atexit
import os
import stat

from shmalloc.errors import EnvironmentUnfitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

ENV_CACHE_DIR = "SHMALLOC_CACHE_DIR"
ENV_PRIVATE = "SHMALLOC_PRIVATE_CACHE"  # set by us for our descendants, not by users
MODE = 0o700
MOST_LINKS = 40  # symbolic links on one path, as in the system's own walk
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

_private: dict[int, str] = {}  # effective user -> the private directory that we made or inherited


class UntrustedError(EnvironmentUnfitError):
    """What another user could change, or is no directory. The message says which."""


def cache_root() -> Path:
    """The usual directory of compiled code. ``trusted`` decides whether it can be trusted."""
    from pathlib import Path

    return Path(usual())


def usual() -> str:
    """The same as text; it is absolute unless this user has no home."""
    chosen = os.environ.get(ENV_CACHE_DIR)
    if chosen:
        return os.path.abspath(chosen)
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the XDG specification: ignore a relative path
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "shmalloc")


def shown(text: str) -> str:
    """Text from outside, fit for a terminal: control characters and lone surrogates escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def trusted(path: str, *, make: bool) -> str:
    """``path`` without symbolic links, if each step of it passes; else UntrustedError.

    With ``make``, missing directories are made, with mode 0700.
    """
    if not os.path.isabs(path):
        raise UntrustedError(f"{shown(path)} is no absolute path (is there no home directory?)")
    here, info = "/", _looked_at("/")
    todo = path.split("/")[::-1]
    links = 0
    while todo:
        name = todo.pop()
        if name in ("", "."):
            continue
        if name == "..":  # of a resolved path, so what the system would find
            here = os.path.dirname(here)
            info = _looked_at(here)
            continue
        step = os.path.join(here, name)
        found = _made_or_looked_at(step) if make else _looked_at(step)
        if stat.S_ISLNK(found.st_mode):
            links += 1
            target = _target(step, found, info, links)
            todo += target.split("/")[::-1]
            if os.path.isabs(target):
                here, info = "/", _looked_at("/")
            continue
        _pass(step, found)
        here, info = step, found
    if info.st_mode & OTHERS_WRITE:  # sticky: fine on the way, not at the end
        raise UntrustedError(_open_to_others(here, info))
    return here


def may_write(folder: str) -> bool:
    """Whether files can be made in ``folder``; a disk that is full shows later."""
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=True)


def private() -> str | None:
    """The private directory of this tree of processes; None if none can be made."""
    for known in (_private.get(os.geteuid()), os.environ.get(ENV_PRIVATE)):
        if known and _is_usable(known):
            return known
    return _make_private()


def _looked_at(path: str) -> os.stat_result:
    try:
        return os.lstat(path)
    except OSError as error:
        raise UntrustedError(f"{shown(path)}: {error.strerror}") from error


def _made_or_looked_at(path: str) -> os.stat_result:
    """What is at ``path``; if nothing is, make a directory of ours there."""
    try:
        return os.lstat(path)
    except FileNotFoundError:
        pass  # to be made
    except OSError as error:
        raise UntrustedError(f"{shown(path)}: {error.strerror}") from error
    try:
        os.mkdir(path, MODE)
    except FileExistsError:
        pass  # another process of this or another user made it: check it now
    except OSError as error:
        raise UntrustedError(f"{shown(path)} cannot be made: {error.strerror}") from error
    return _looked_at(path)


def _target(step: str, link: os.stat_result, parent: os.stat_result, links: int) -> str:
    """Where the symbolic link ``step`` leads, unless another user may have chosen that."""
    if parent.st_mode & OTHERS_WRITE or link.st_uid not in (0, os.geteuid()):
        raise UntrustedError(f"{shown(step)} is a symbolic link that others may have put there")
    if links > MOST_LINKS:
        raise UntrustedError(f"{shown(step)} is one of too many symbolic links")
    try:
        return os.readlink(step)
    except OSError as error:
        raise UntrustedError(f"{shown(step)}: {error.strerror}") from error


def _pass(path: str, info: os.stat_result) -> None:
    """Accept a step that is a directory which only we and root can change."""
    if not stat.S_ISDIR(info.st_mode):
        raise UntrustedError(f"{shown(path)} is not a directory")
    if info.st_uid not in (0, os.geteuid()):
        raise UntrustedError(f"{shown(path)} belongs to user {info.st_uid}, not to you or root")
    if info.st_mode & OTHERS_WRITE and not info.st_mode & stat.S_ISVTX:
        raise UntrustedError(_open_to_others(path, info))


def _open_to_others(path: str, info: os.stat_result) -> str:
    return f"others may write to {shown(path)} (mode {stat.S_IMODE(info.st_mode):04o})"


def _is_usable(folder: str) -> bool:
    try:
        return may_write(trusted(folder, make=False))
    except UntrustedError:
        return False  # gone with its maker, or another user's: make our own


def _make_private() -> str | None:
    """A fresh directory in the first temporary folder that passes, told to our descendants."""
    import tempfile

    for parent in (os.environ.get("TMPDIR"), "/tmp", "/var/tmp"):
        if not parent:
            continue
        try:
            folder = tempfile.mkdtemp(prefix="shmalloc-", dir=parent)
        except OSError:
            continue  # missing, full or read-only: the next one may do
        atexit.register(_remove_private, folder, os.getpid())
        if not _is_usable(folder):
            _remove_private(folder, os.getpid())
            continue
        # If two threads come here at once, both use the first one's; the other directory stays
        # empty until the exit.
        known = _private.get(os.geteuid())
        if known is None or not _is_usable(known):
            known = _private[os.geteuid()] = folder
        os.environ[ENV_PRIVATE] = known
        return known
    return None


def _remove_private(folder: str, maker: int) -> None:
    """Remove the private directory at the exit of its maker; a fork of it leaves it alone."""
    if os.getpid() != maker:
        return
    try:
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)
    except OSError:
        return  # removed by another process, or a descendant is writing: it is in /tmp
