"""How a worker runs a job: one runner for each loop, made once and used in every round.

``run`` does so many repeats and says how many nanoseconds count and how many operations failed;
loops whose workers wait for each other count only what they do themselves. ``undo`` gives back what
is held between slices. Everything here happens in a worker process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from shmalloc.dialect import Kernel
from shmalloc.engine import get_engine
from shmalloc.memory import Ram
from shmalloc.segment import Segment
from stress.bench import control, object_loops, page_loops, ring_loops
from stress.bench.jobs import Job

SEED = 7


class Took(NamedTuple):
    """``own_ns``: what counts of the slice; ``operations`` done by this worker; ``failed`` ones."""

    own_ns: int
    operations: int
    failed: int


class Meeting:
    """The barrier of a slice: ``wait`` returns when all its workers are there."""

    def __init__(self, words: Ram, workers: int, spins: int) -> None:
        self._words, self._workers, self._spins, self._target = words, workers, spins, 0
        self._meet = get_engine("native").bind(control.meet)

    def wait(self) -> None:
        """Raises ``TimeoutError`` if another worker never comes."""
        self._target += self._workers
        if not self._meet(self._words, self._target, self._spins):
            raise TimeoutError("another worker did not come to the barrier")


class Spot(NamedTuple):
    """Who runs a slice, and with whom: ``worker`` of ``workers``, in round ``round``. ``spins``:
    looks of a worker that waits, before it gives its core away."""

    worker: int
    workers: int
    round: int
    spins: int
    meeting: Meeting


class Runner:
    """A job in this process. Subclasses and users of ``call`` fill in what is done."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def begin(self, spot: Spot) -> None:
        """Prepare for a slice, before the workers meet."""

    def run(self, repeats: int, spot: Spot) -> Took:
        """``repeats`` of the loop, all of whose time counts."""
        start = time.perf_counter_ns()
        failed = self.loop(repeats, spot)
        return Took(time.perf_counter_ns() - start, repeats * self.batch, failed)

    def loop(self, repeats: int, spot: Spot) -> int:
        """The loop itself; how many operations failed."""
        raise NotImplementedError

    def undo(self) -> int:
        """Give back what is held; how many of it could not be."""
        return 0


class Called(Runner):
    """Any function of the number of repeats: loops of Python, loops of peers."""

    def __init__(
        self, batch: int, call: Callable[[int], int | None], undo: Callable[[], int] | None = None
    ) -> None:
        super().__init__(batch)
        self._call, self._undo = call, undo

    def loop(self, repeats: int, spot: Spot) -> int:
        return self._call(repeats) or 0

    def undo(self) -> int:
        return self._undo() if self._undo is not None else 0


class Kernels:
    """The kernels of a segment, called for one claim, and the areas of all its workers."""

    def __init__(self, segment: Segment, claim: int) -> None:
        self.segment, self.claim = segment, claim
        self._run = get_engine("native")

    def __call__(self, kernel: Kernel, *arguments: int) -> int:
        return self._run.call(kernel, self.segment.ram, self.claim, *arguments)

    def area(self, worker: int) -> int:
        """The first word of the area of the worker with that claim."""
        return self.segment.layout.work(worker)

    def lay_out(self, at: int, shuffled: bool, count: int) -> None:
        """A fresh random state and the order in which a batch is freed."""
        words = self.segment.ram.array
        words[at + page_loops.A_RANDOM] = SEED + self.claim
        order = np.arange(count)
        if shuffled:
            order = np.random.default_rng(SEED + self.claim).permutation(count)
        words[at + page_loops.A_ORDER : at + page_loops.A_ORDER + count] = order


class Pairs(Runner):
    """A kernel ``(mem, claim, what, n)``: nothing is held, no area is needed."""

    def __init__(self, kernels: Kernels, kernel: Kernel, what: int) -> None:
        super().__init__(1)
        self._kernels, self._kernel, self._what = kernels, kernel, what

    def loop(self, repeats: int, spot: Spot) -> int:
        return self._kernels(self._kernel, self._what, repeats)


class Held(Runner):
    """A kernel ``(mem, claim, at, ..., n)`` over an area, and the one that clears the area.

    ``moves``: the areas go round: each slice works with that of another worker.
    """

    def __init__(
        self,
        kernels: Kernels,
        job: Job,
        kernel: Kernel,
        values: tuple[int, ...],
        clear: Kernel | None = None,
        moves: bool = False,
    ) -> None:
        super().__init__(job.pattern.batch)
        self._kernels, self._kernel, self._values = kernels, kernel, values
        self._clear, self._moves = clear, moves

    def loop(self, repeats: int, spot: Spot) -> int:
        whose = (spot.worker + spot.round) % spot.workers if self._moves else spot.worker
        at = self._kernels.area(whose)
        return self._kernels(self._kernel, at, *self._values, repeats)

    def undo(self) -> int:
        if self._clear is None:
            return 0
        at = self._kernels.area(self._kernels.claim)
        return self._kernels(self._clear, at, self._values[0])


OfWorker = Callable[[int], int]  # a batch of that worker; how many operations failed
OfRing = Callable[[int, int], int]  # the ring of that worker, and so many batches or spins


class Remote(Runner):
    """All workers allocate a batch, then each frees that of the one before it, in turns."""

    def __init__(self, batch: int, take: OfWorker, give: OfWorker) -> None:
        super().__init__(batch)
        self._take, self._give = take, give

    def run(self, repeats: int, spot: Spot) -> Took:
        turns = (self._take, spot.worker), (self._give, (spot.worker - 1) % spot.workers)
        spent = failed = 0
        for _ in range(repeats):
            for act, whose in turns:
                spot.meeting.wait()
                start = time.perf_counter_ns()
                failed += act(whose)
                spent += time.perf_counter_ns() - start
        spot.meeting.wait()
        return Took(spent, repeats * self.batch, failed)


class Ring(Runner):
    """Workers with even numbers allocate, each for the next one, which frees and counts."""

    def __init__(self, batch: int, produce: OfRing, consume: OfRing, wait: OfRing) -> None:
        """``wait``: of the ring of that worker, how many spins a waiting side makes."""
        super().__init__(batch)
        self._produce, self._consume, self._wait = produce, consume, wait

    def begin(self, spot: Spot) -> None:
        self._wait(spot.worker - spot.worker % 2, spot.spins)

    def run(self, repeats: int, spot: Spot) -> Took:
        consumes = spot.worker % 2
        act = self._consume if consumes else self._produce
        start = time.perf_counter_ns()
        failed = act(spot.worker - consumes, repeats)
        spent = time.perf_counter_ns() - start
        return Took(spent, repeats * self.batch if consumes else 0, failed)


def runner_of(job: Job, kernels: Kernels, caches: dict[int, int]) -> Runner:
    """The runner of a job of ours. ``caches``: the caches of the segment by size in bytes."""
    values = job.pattern.parameters
    loop = job.pattern.loop
    at = kernels.area(kernels.claim)
    shuffled = loop in ("page-batches", "object-batches") and values[-1] == 1
    kernels.lay_out(at, shuffled, job.pattern.batch if shuffled else page_loops.MOST)
    if loop in _PAIRS:
        what = caches[values[0]] if loop == "object-pairs" else values[0]
        return Pairs(kernels, _PAIRS[loop], what)
    if loop in _HELD:
        kernel, taken = _HELD[loop]
        if loop.startswith("object"):
            values = (caches[values[0]], *values[1:])
        clear = _CLEAR.get(loop)
        return Held(kernels, job, kernel, values[:taken], clear, loop == "kmalloc-replace")
    if loop.startswith("object") and loop != "object-ring":
        values = (caches[values[0]], *values[1:])
    first, second = _BETWEEN[loop]
    if loop.endswith("remote"):

        def act(kernel: Kernel, whose: int) -> int:
            return kernels(kernel, kernels.area(whose), *values)

        return Remote(job.pattern.batch, partial(act, first), partial(act, second))

    def produce(whose: int, repeats: int) -> int:
        return kernels(first, kernels.area(whose), *values, repeats)

    def consume(whose: int, repeats: int) -> int:
        return kernels(second, kernels.area(whose), values[0], repeats)

    def wait(whose: int, spins: int) -> int:
        kernels.segment.ram[kernels.area(whose) + page_loops.A_SPINS] = spins
        return 0

    return Ring(job.pattern.batch, produce, consume, wait)


# loop -> the kernel of the one that allocates, and of the one that frees
_BETWEEN: dict[str, tuple[Kernel, Kernel]] = {
    "page-remote": (page_loops.page_take, page_loops.page_give),
    "object-remote": (object_loops.object_take, object_loops.object_give),
    "page-ring": (ring_loops.page_produce, ring_loops.page_consume),
    "object-ring": (ring_loops.object_produce, ring_loops.object_consume),
}
_PAIRS: dict[str, Kernel] = {
    "page-pairs": page_loops.page_pairs,
    "object-pairs": object_loops.object_pairs,
    "kmalloc-pairs": object_loops.kmalloc_pairs,
}
# loop -> its kernel, and how many of the pattern's parameters it takes
_HELD: dict[str, tuple[Kernel, int]] = {
    "page-mixed": (page_loops.page_mixed, 1),
    "page-constant": (page_loops.page_constant, 1),
    "page-batches": (page_loops.page_batches, 1),
    "page-calls": (page_loops.page_calls, 1),
    "object-batches": (object_loops.object_batches, 2),
    "object-calls": (object_loops.object_calls, 2),
    "kmalloc-batches": (object_loops.kmalloc_batches, 2),
    "kmalloc-replace": (object_loops.kmalloc_replace, 2),
    "kmalloc-table": (object_loops.kmalloc_table, 2),
}
_CLEAR: dict[str, Kernel] = {
    "page-mixed": page_loops.page_clear,
    "page-constant": page_loops.page_clear,
    "kmalloc-replace": object_loops.kmalloc_clear,
    "kmalloc-table": object_loops.kmalloc_clear,
}
KERNELS: tuple[Kernel, ...] = (
    *_PAIRS.values(),
    *(kernel for kernel, _ in _HELD.values()),
    *dict.fromkeys(_CLEAR.values()),
    *(kernel for pair in _BETWEEN.values() for kernel in pair),
    page_loops.page_fragments,
    page_loops.page_defragment,
    page_loops.two_swaps,
)
