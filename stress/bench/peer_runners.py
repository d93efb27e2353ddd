"""A peer in a worker: its library loaded, its heap opened, its loops ready to be called.

A heap that processes share lies in a file without a name that the controller made; every worker
maps it at one address, because LLFree keeps addresses in its state. Worker 0 makes the heap, which
the others open when it is there. ``PeerError``: this peer cannot run here, and why; the bench goes
on without it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from stress.bench import boost, llfree, peer_loops, python_loops
from stress.bench.catalogue import PAGES
from stress.bench.jobs import Job
from stress.bench.object_loops import LEAST_BYTES
from stress.bench.page_loops import A_RING, MOST
from stress.bench.peers import HEAP_SHAPE, LLFREE_SHAPE, PYTHON_SHAPE, Peer
from stress.bench.runners import SEED, Called, Remote, Ring, Runner

HEAP_BYTES = 256 << 20
WORDS_BYTES = 128 << 20  # behind the heap: areas of all jobs and workers, mostly never touched
AREA_BYTES = 8 * (MOST + 2 * A_RING)
PAGE_BYTES = 4096
# Far from where the system puts mappings: the lower half of 47 bits has room at 48 TiB.
FIRST_ADDRESS = 0x3000_0000_0000
_MAP_FIXED_NOREPLACE = 0x100000
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]


class PeerError(Exception):
    """This peer cannot run in this process."""


def address_of(number: int) -> int:
    """Where heap ``number`` is mapped in every process; its words lie HEAP_BYTES behind."""
    return FIRST_ADDRESS + number * 2 * HEAP_BYTES


def map_heap(path: str, number: int) -> int:
    """Map the file of heap ``number`` and of its words, shared; the heap's address.

    It stays mapped for the life of the process. Raises ``PeerError``.
    """
    file = os.open(path, os.O_RDWR)
    try:
        flags = mmap.MAP_SHARED | _MAP_FIXED_NOREPLACE
        rights = mmap.PROT_READ | mmap.PROT_WRITE
        wanted = address_of(number)
        at = _libc.mmap(wanted, HEAP_BYTES + WORDS_BYTES, rights, flags, file, 0)
    finally:
        os.close(file)
    if at != wanted:
        raise PeerError(f"its heap cannot be mapped: {os.strerror(ctypes.get_errno())}")
    return wanted


@dataclass
class PeerState:
    """The state of one job's loop (peer_loops.py) and what it points to."""

    words: np.ndarray[Any, Any]
    slots: np.ndarray[Any, Any]
    order: np.ndarray[Any, Any]

    @property
    def address(self) -> int:
        return int(self.words.ctypes.data)


class PeerHeaps:
    """The peers of this worker. ``files``: the paths of shared heaps by the peer's name;
    ``images``: the compiled loops by shape."""

    def __init__(
        self,
        worker: int,
        workers: int,
        files: dict[str, str],
        images: dict[str, bytes],
        stack: ExitStack,
    ) -> None:
        self._worker, self._workers, self._files, self._stack = worker, workers, files, stack
        self._opened: dict[str, tuple[Any, int]] = {}
        self._loops = {shape: peer_loops.load(shape, image) for shape, image in images.items()}

    def open(self, peer: Peer) -> None:
        """Load a peer's library, and make (worker 0) or open its heap. Raises ``PeerError``."""
        if peer.shape == PYTHON_SHAPE or peer.name in self._opened:
            return
        try:
            library = ctypes.CDLL(peer.file or None)
            heap = self._heap(peer, library) if peer.name in self._files else 0
        except (OSError, AttributeError) as error:
            raise PeerError(str(error)) from error
        self._opened[peer.name] = library, heap

    def _heap(self, peer: Peer, library: ctypes.CDLL) -> int:
        names = list(self._files)
        at = map_heap(self._files[peer.name], names.index(peer.name))
        if peer.shape == LLFREE_SHAPE:
            policy = self._loops[peer.shape][peer_loops.POLICY]
            if self._worker == 0:
                llfree.set_up(library, at, HEAP_BYTES, self._workers, policy)
            return at
        assert peer.shape == HEAP_SHAPE, peer.shape
        opener = getattr(library, boost.OPEN)
        opener.restype = ctypes.c_void_p
        opener.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        heap = opener(at, HEAP_BYTES, int(self._worker == 0))
        if not heap:
            raise PeerError("it cannot make a heap in shared memory")
        return int(heap)

    def runner_of(self, job: Job) -> Runner:
        """The runner of a job of a peer that is open."""
        peer, values = job.peer, job.pattern.parameters
        assert peer is not None
        if peer.shape == PYTHON_SHAPE:
            return Called(1, python_loops.theirs(peer.name, values[0], self._stack))
        library, heap = self._opened[peer.name]
        loop, state = self._state(job, peer, library, heap)
        loops = self._loops[peer.shape]
        if loop in ("takes", "produce"):
            return self._between(job, peer, loop, state)
        run, clear = (peer_loops.function(loops[name]) for name in (loop, "clear"))
        mixed = int(loop == "mixed")

        def undo() -> int:
            return int(clear(state.address, mixed)) if loop in ("mixed", "replace") else 0

        return Called(job.pattern.batch, lambda n: int(run(state.address, n)), undo)

    def _between(self, job: Job, peer: Peer, loop: str, state: PeerState) -> Runner:
        """The runner of a job whose blocks another worker frees: they lie in shared words."""
        loops = self._loops[peer.shape]
        frees = {"takes": "gives", "produce": "consume"}[loop]
        shared = address_of(list(self._files).index(peer.name)) + HEAP_BYTES

        def act(name: str, whose: int, repeats: int = 1) -> int:
            state.words[peer_loops.S_SLOTS] = shared + (
                (job.area * self._workers + whose) * AREA_BYTES
            )
            return peer_loops.function(loops[name])(state.address, repeats)

        def wait(whose: int, spins: int) -> int:
            state.words[peer_loops.S_SPINS] = spins
            return 0

        both = partial(act, loop), partial(act, frees)
        if loop == "takes":
            return Remote(job.pattern.batch, *both)
        return Ring(job.pattern.batch, *both, wait)

    def _state(
        self, job: Job, peer: Peer, library: ctypes.CDLL, heap: int
    ) -> tuple[str, PeerState]:
        loop, size, count, shuffled = shape_of(job, peer)
        order = np.arange(MOST)
        if shuffled:
            order[:count] = np.random.default_rng(SEED + self._worker).permutation(count)
        state = PeerState(
            np.zeros(peer_loops.STATE_WORDS, np.int64), np.zeros(MOST, np.int64), order
        )
        words = state.words
        for index, name in ((peer_loops.S_TAKE, peer.take), (peer_loops.S_GIVE, peer.give)):
            words[index] = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
        words[peer_loops.S_HEAP], words[peer_loops.S_CORE] = heap, self._worker
        words[peer_loops.S_SIZE], words[peer_loops.S_COUNT] = size, count
        words[peer_loops.S_SLOTS] = state.slots.ctypes.data
        words[peer_loops.S_ORDER] = state.order.ctypes.data
        words[peer_loops.S_RANDOM] = SEED + self._worker
        words[peer_loops.S_LEAST] = LEAST_BYTES if job.pattern.loop == "object-ring" else size
        words[peer_loops.S_YIELD] = ctypes.cast(_libc.sched_yield, ctypes.c_void_p).value
        return loop, state


def shape_of(job: Job, peer: Peer) -> tuple[str, int, int, bool]:
    """The peer's loop for a pattern, its size (bytes, or an order), its count, and whether a batch
    is freed in a random order."""
    values, ours = job.pattern.parameters, job.pattern.loop
    page = 0 if peer.kind == PAGES else PAGE_BYTES
    if ours == "page-pairs":
        return "pairs", values[0] if peer.kind == PAGES else PAGE_BYTES << values[0], 1, False
    if ours == "page-batches":
        return "batches", page, values[0], values[1] == 1
    if ours == "page-mixed":
        return "mixed", 0, values[0], False
    if ours in ("object-pairs", "kmalloc-pairs"):
        return "pairs", values[0], 1, False
    if ours == "object-batches":
        return "batches", values[0], values[1], values[2] == 1
    if ours == "kmalloc-batches":
        return "batches", values[0], values[1], False
    if ours == "page-remote":
        return "takes", page, values[0], False
    if ours == "object-remote":
        return "takes", values[0], values[1], False
    if ours == "page-ring":
        return "produce", page, values[0], False
    if ours == "object-ring":
        return "produce", values[1], values[0], False
    assert ours == "kmalloc-replace", ours
    return "replace", values[1], values[0], False
