"""The store of compiled images: one file per key, checked at each use, built once, self-healing.

A key is a digest of everything that determines an image, so an intact file is valid for ever.
In a directory that can be trusted (directory.py)::

    KEY.image           an image (imagefile.py), replaced or removed, never changed
    .KEY.PID-*.new      one that is being written
    lock                the claims of builders (claims.py)
    rewritten/          a store of the same kind, of rewritten kernels (runnable.py)

A file that is damaged, or that belongs neither to us nor to root, is built again, with one line
that says why. Once all images together exceed $SHMALLOC_CACHE_MB, the least recently used are
removed; a reader has its file open and does not notice.

An image that cannot be kept is still used: a store that fails costs time, and one line.

Rules for callers: ``build`` gives the same bytes for one key in every process, as two may build at
once (claims.py); it does not wait for a thread that fetches. ``tell`` takes a line without an end.

What it does not do: make keys, compile, or load an image into the process.
"""

# ruff: noqa: PTH112, PTH118

from __future__ import annotations

import math
import os
import time

from shmalloc.compiler.claims import Claim
from shmalloc.compiler.directory import (
    ENV_CACHE_DIR,
    UntrustedError,
    cache_root,
    may_write,
    private,
    shown,
    trusted,
    usual,
)
from shmalloc.compiler.imagefile import (
    ENDING,
    UNFINISHED,
    DamagedImageError,
    path_of,
    read_image,
    remove,
    write_image,
)
from shmalloc.errors import EnvironmentUnfitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DamagedImageError", "Store", "cache_root", "default_store", "fetch"]

ENV_WAIT_S = "SHMALLOC_COMPILE_WAIT_S"
ENV_CACHE_MB = "SHMALLOC_CACHE_MB"
WAIT_S, CACHE_MB = 120.0, 512.0
ABANDONED_S = 3600.0  # a file that is still being written after this time has lost its writer

_stores: dict[str, Store] = {}


def fetch(key: str, build: Callable[[], bytes], tell: Callable[[str], None]) -> bytes:
    """The image with that key, from the usual store or built now; see ``Store.fetch``."""
    return default_store().fetch(key, build, tell)


def default_store(part: str = "") -> Store:
    """The store in the usual directory, or in ``part`` of it, as the environment says now."""
    root = os.path.join(usual(), part) if part else usual()
    return _stores.setdefault(root, Store(root))


class Store:
    """Images below ``root``, or in a private directory if ``root`` cannot be used."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.fspath(root)
        self._told: set[str] = set()

    def fetch(self, key: str, build: Callable[[], bytes], tell: Callable[[str], None]) -> bytes:
        """The image with that key; if it is missing or damaged, ``build`` makes it.

        Only one process builds it, while the others wait; see claims.py for the exceptions.
        ``tell`` gets one line each time that something takes long or does not work.
        """
        path_of(self.root, key)  # a wrong key is reported before a directory is made
        folder, why = self._folder()
        if folder is not None:
            try:
                payload = read_image(folder, key)
            except DamagedImageError as damage:
                if why:  # cannot be mended there
                    tell(f"{damage}; not using it")
                payload = None
            if payload is not None:
                return payload
        if why:
            folder = self._private_folder(why, tell)
        if folder is None:
            return build()
        return _built_once(folder, key, build, tell)

    def peek(self, key: str) -> bytes | None:
        """The image with that key if it is there, whole, and in the usual directory."""
        folder, _ = self._folder()
        try:
            return None if folder is None else read_image(folder, key)
        except DamagedImageError:
            return None  # ``fetch`` mends it and says so

    def put(self, key: str, payload: bytes, tell: Callable[[str], None]) -> bool:
        """Keep an image that exists already; False, and a line, if that is not possible."""
        folder, why = self._folder()
        if why:
            folder = self._private_folder(why, tell)
        return folder is not None and _keep(folder, key, payload, most_kept(), tell)

    def _folder(self) -> tuple[str | None, str]:
        """Where images are read; and if they cannot be written there, the reason."""
        try:
            folder = trusted(self.root, make=True)
        except UntrustedError as error:
            return None, str(error)
        return folder, "" if may_write(folder) else f"you may not write to {shown(folder)}"

    def _private_folder(self, why: str, tell: Callable[[str], None]) -> str | None:
        folder = private()
        if why not in self._told:
            self._told.add(why)
            where = "cannot be kept, as no temporary directory can be trusted either"
            if folder is not None:
                where = f"are kept in {shown(folder)} for this run only"
            tell(f"{why}; compiled kernels {where}; set ${ENV_CACHE_DIR} to a directory of yours")
        return folder


def _built_once(
    folder: str, key: str, build: Callable[[], bytes], tell: Callable[[str], None]
) -> bytes:
    """Build an image and keep it, unless another process has done so before our turn."""
    wait_s, most = longest_wait(), most_kept()  # report a wrong value before the long build
    path = path_of(folder, key)
    claim = Claim(folder, key)
    try:
        if not os.path.isdir(path):  # cannot be replaced: waiting for a turn is useless
            claim.take(tell, wait_s)
        try:
            payload = read_image(folder, key)
        except DamagedImageError as damage:
            kept = "not keeping them" if damage.lasting else "replacing it"
            tell(f"{damage}; compiling its kernels anew and {kept}")
            if damage.lasting:
                return build()
            payload = None
        if payload is None:
            payload = build()
            _keep(folder, key, payload, most, tell)
        return payload
    finally:
        claim.release()


def _keep(folder: str, key: str, payload: bytes, most: float, tell: Callable[[str], None]) -> bool:
    """Write an image and make room for it; False, and a line, if that fails."""
    try:
        write_image(folder, key, payload)
    except OSError as error:
        path = shown(path_of(folder, key))
        tell(f"{path} cannot be written: {error.strerror}; its kernels are not kept")
        return False
    _make_room(folder, key + ENDING, most)
    return True


def _make_room(folder: str, spared: str, most: float) -> None:
    """Remove the least recently used images, while all together exceed ``most`` bytes.

    The newest one stays. So does what cannot be removed: the next writer tries again.
    """
    images = _images(folder)
    total = sum(size for _, size, _ in images)
    for _, size, name in sorted(images):
        if total <= most:
            return
        if name != spared and remove(f"{folder}/{name}"):
            total -= size


def _images(folder: str) -> list[tuple[float, int, str]]:
    """Last use, size and name of all images; what a dead process left unfinished is removed."""
    images: list[tuple[float, int, str]] = []
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return images  # the whole directory is being deleted
    for entry in entries:
        try:
            info = entry.stat(follow_symlinks=False)
        except OSError:
            continue  # another process is removing it
        if entry.name.endswith(ENDING):
            images.append((info.st_mtime, info.st_size, entry.name))
        elif entry.name.endswith(UNFINISHED) and time.time() - info.st_mtime > ABANDONED_S:
            remove(entry.path)
    return images


def longest_wait() -> float:
    """Seconds for which a process waits for another to build what it needs."""
    return _number(ENV_WAIT_S, WAIT_S)


def most_kept() -> float:
    """Size limit in bytes of all images together."""
    return _number(ENV_CACHE_MB, CACHE_MB) * 1e6


def _number(name: str, default: float) -> float:
    text = os.environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise EnvironmentUnfitError(
            f"${name} is {shown(text)!r}; set it to a number from 0 on, or unset it ({default:g})"
        )
    return value
