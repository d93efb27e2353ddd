"""A memory whose pauses are scripted: what other CPUs do while a kernel spins or sleeps.

``Scripted`` runs a kernel interpreted. At each ``relax``, ``give_way`` and ``wait`` it notes the
pause and lets the next action of its script change the words. A kernel that pauses once more than
the script says, or reads and never pauses, fails the test, so nothing can hang.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shmalloc import constants as c
from shmalloc.compiler.runnable import runnable
from shmalloc.kernels.reporting import claim_at
from shmalloc.memory import Ram, aligned_words

Action = Callable[["Scripted"], None]
SPINS = 3  # of every lock here
EPOCH = 5
MOST_READS = 100
WORD = 1400  # of the lock, behind the records of eight claims


def nothing(mem: Scripted) -> None:
    """The other CPUs do nothing during this pause."""


def called_off(claim: int, at: int = WORD) -> Action:
    """Someone tells ``claim`` during this pause to wait no longer for the lock at ``at``."""

    def act(mem: Scripted) -> None:
        mem[claim_at(mem, claim) + c.C_GIVE_UP] = at

    return act


def becomes(value: int, at: int = WORD) -> Action:
    """Word ``at`` has ``value`` after this pause."""

    def act(mem: Scripted) -> None:
        mem[at] = value

    return act


class Scripted(Ram):
    """``seen``: ("relax",), ("wait", word, value), ("wake", word, count) and ("notice", word), in
    the order in which they came; ``tries``: compare-exchanges; ``before``: what others do just
    before the n-th of these, from 1."""

    def __init__(self, *script: Action, held: int = 0) -> None:
        super().__init__(aligned_words(WORD + 16))
        self[c.H_SPINS] = SPINS
        for claim in range(8):
            self[claim_at(self, claim) + c.C_EPOCH] = EPOCH
        self[WORD] = held
        self.script = list(script)
        self.seen: list[tuple[Any, ...]] = []
        self.tries = self._reads = 0
        self.before: dict[int, Action] = {}

    def call(self, kernel: Any, *arguments: int) -> Any:
        result = runnable(kernel)(self, *arguments)
        assert not self.script, "the kernel paused less often than the script says"
        assert not self.before, "the kernel tried less often than the script says"
        return result

    def _pause(self, *what: Any) -> None:
        self.seen.append(what)
        assert self.script, f"one pause more than the script says: {self.seen}"
        self.script.pop(0)(self)

    def relax(self) -> None:
        self._pause("relax")

    def wait(self, i: int, old: int) -> None:
        self._pause("wait", i, old)

    def wake(self, i: int, count: int) -> None:
        self.seen.append(("wake", i, count))

    def notice(self, i: int) -> None:
        self.seen.append(("notice", i))

    def load(self, i: int) -> int:
        self._reads += 1
        assert self._reads < MOST_READS, f"it reads word {i} and never pauses"
        return super().load(i)

    load_relaxed = load

    def cas(self, i: int, old: int, new: int) -> bool:
        self.tries += 1
        assert self.tries < MOST_READS, f"it tries to change word {i} and never pauses"
        self.before.pop(self.tries, nothing)(self)
        return super().cas(i, old, new)

    def count(self, claim: int, which: int) -> int:
        """Event ``which`` of ``claim``."""
        return self[claim_at(self, claim) + c.C_EVENTS + which]


def owner(claim: int, epoch: int = EPOCH) -> int:
    """What the lock's word holds while ``claim`` has it, as kernels/lock.py draws it."""
    return epoch << 32 | (claim + 1)
