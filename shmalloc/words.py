"""The vocabulary of kernels: every way in which a kernel may touch shared memory.

A kernel is a plain Python function over a memory ``mem``; the memory decides what an access means.
Interpreted, each word below calls the method of the same name on ``mem``. Compiled, the engine
replaces each word by the bare instruction (``Ram``) or by a hooked one (``ModelRam``); no other
code knows which one runs.

A segment is an array of int64 words addressed by word index, so a "pointer" is an index and means
the same in every process. Bit 63 is unused everywhere: there is no sign or overflow question.

Plain accesses are spelled ``mem[i]`` and ``mem[i] = v``: happens-before must order them, and a race
on one is a bug. Every other access is a word of this file: a race partner is expected.

This file knows no memory, no engine and no layout. A read gives ``Any``: a word means what its
place means (units.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shmalloc.units import Int, Memory, WordIndex


def load(mem: Memory, i: WordIndex) -> Any:
    """Atomic read of word ``i``, acquire: what was written before the matching store is visible."""
    return mem.load(i)


def load_relaxed(mem: Memory, i: WordIndex) -> Any:
    """Atomic read of word ``i`` that orders nothing else."""
    return mem.load_relaxed(i)


def store(mem: Memory, i: WordIndex, value: Int) -> None:
    """Atomic write of word ``i``, release: publishes everything written before it."""
    mem.store(i, value)


def store_relaxed(mem: Memory, i: WordIndex, value: Int) -> None:
    """Atomic write of word ``i`` that publishes nothing else."""
    mem.store_relaxed(i, value)


def cas(mem: Memory, i: WordIndex, old: Int, new: Int) -> bool:
    """Compare-exchange of word ``i`` (acq_rel): True and written if it held ``old``, else False."""
    return mem.cas(i, old, new)


def exchange(mem: Memory, i: WordIndex, value: Int) -> Any:
    """Write ``value`` to word ``i`` and return what it held (acq_rel)."""
    return mem.exchange(i, value)


def fetch_add(mem: Memory, i: WordIndex, delta: int) -> Any:
    """Add ``delta`` to word ``i`` and return what it held (acq_rel)."""
    return mem.fetch_add(i, delta)


def fetch_or(mem: Memory, i: WordIndex, bits: int) -> Any:
    """Or ``bits`` into word ``i`` and return what it held (acq_rel)."""
    return mem.fetch_or(i, bits)


def fetch_and(mem: Memory, i: WordIndex, bits: int) -> Any:
    """And ``bits`` into word ``i`` and return what it held (acq_rel)."""
    return mem.fetch_and(i, bits)


def cas2(mem: Memory, i: WordIndex, old0: Int, old1: Int, new0: Int, new1: Int) -> bool:
    """Compare-exchange of the words ``i`` and ``i + 1`` as one 128-bit unit; ``i`` must be even."""
    return mem.cas2(i, old0, old1, new0, new1)


def load2(mem: Memory, i: WordIndex) -> tuple[Any, Any]:
    """Both words of the pair at even ``i`` in one atomic read, as ``(word i, word i + 1)``."""
    return mem.load2(i)


def fence(mem: Memory) -> None:
    """Sequentially consistent fence: the only order between a store and a later load elsewhere."""
    mem.fence()


def light_fence(mem: Memory) -> None:
    """Keep the order of the program here, against a ``heavy_fence`` of another process.

    The two together order a store before this fence and a load after it as two ``fence`` would,
    and all the cost is the other's: natively this one only keeps the compiler from moving accesses
    across it. Two light fences order nothing between them. Never a scheduling point.

    C++: asymmetric_thread_fence_light (P1202).
    """
    mem.light_fence()


def heavy_fence(mem: Memory, i: WordIndex) -> None:
    """``fence``, and every other process runs one here, too: its stores to word ``i`` that it has
    made are visible, and what it loads from here on is not older than this moment.

    Natively membarrier(2) for all words at once, which interrupts every processor that runs a
    process registered for it (``engine/asymmetric.py``): 1 to 3 us. The model waits until no store
    buffer holds a store to word ``i``, and promises nothing of other words. Name the word that
    the other process stores to before its ``light_fence``.

    C++: asymmetric_thread_fence_heavy (P1202).
    """
    mem.heavy_fence(i)


def relax(mem: Memory) -> None:
    """Spin hint inside a waiting loop: a CPU pause natively, a fair yield in the model."""
    mem.relax()


def give_way(mem: Memory) -> None:
    """Yield the processor to another process (sched_yield); in the model the same as relax."""
    mem.relax()


def wait(mem: Memory, i: WordIndex, old: Int) -> None:
    """Sleep until ``wake`` on word ``i``, unless its low 32 bits already differ from ``old``'s.

    May return early (natively after 50 ms at most, and then it is a ``notice`` as well), so callers
    loop over their condition.
    """
    mem.wait(i, old)


def notice(mem: Memory, i: WordIndex) -> None:
    """Say that we are still waiting for word ``i``: its owner may be dead (recover.py).

    Never a scheduling point; does nothing in the model, whose supervisor handles the dead.
    """
    mem.notice(i)


def wake(mem: Memory, i: WordIndex, count: int) -> None:
    """Wake at most ``count`` sleepers on word ``i``: any of them, if there are more."""
    mem.wake(i, count)


def fixed(mem: Memory, i: WordIndex) -> Any:
    """Read a word that was written before the first CPU started and never changes (geometry).

    Never a scheduling point and never a race; compiled, it may be kept in a register.
    """
    return mem.fixed(i)


def mark(mem: Memory, i: WordIndex) -> None:
    """Count one event in word ``i`` for reports and coverage. Approximate when a CPU is shared.

    Never a scheduling point, never a race, and orders nothing: no kernel may read such a word.
    """
    mem.mark(i)


def now(mem: Memory) -> int:
    """A clock for logs only: time stamp counter natively, the number of steps in the model."""
    return mem.now()


def expect(mem: Memory, condition: int, code: int) -> None:
    """End the kernel here, as a failure with ``code``, unless ``condition`` is true.

    No access and no scheduling point. In a worker process and in plain calls it raises an
    ``ExpectationFault``; under the explorer the schedule fails at this step.
    """
    mem.expect(condition, code)


WORDS = (
    load, load_relaxed, store, store_relaxed, cas, exchange, fetch_add, fetch_or, fetch_and,
    cas2, load2, fence, light_fence, heavy_fence, relax, give_way, wait, wake, notice, fixed, mark,
    now, expect,
)  # fmt: skip
