"""Words of kernels that only a scheduler gives a meaning: what the other memories refuse.

    returned(mem, cpu)    in a check: what the kernel of ``cpu`` returned
    choose(mem, n)        in a thread: any of 0 to n - 1, tried like the orders of steps

Rules: a check alone may ask what was returned, because an invariant sees CPUs that still run. The
kernels of a program are looked through, with all that they call, when the program is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from shmalloc.dialect import Kernel, is_kernel, primitive, reaches
from shmalloc.errors import MisuseError
from shmalloc.memory import Ram, WordError


@primitive("int")
def returned(mem: Any, cpu: int) -> Any:
    """What the kernel of ``cpu`` returned; in a check only."""
    return _explored(mem, "returned")(cpu)


@primitive("int")
def choose(mem: Any, n: int) -> Any:
    """One of ``0 .. n - 1``: exhaustive strategies try each, the others draw. n is 1 to 60.

    A step of its own, which no other CPU can see. In a thread only.
    """
    return _explored(mem, "choose")(n)


def _explored(mem: Any, word: str) -> Callable[..., Any]:
    meaning: Callable[..., Any] | None = getattr(mem, word, None)
    if meaning is None:
        raise MisuseError(f"{word}: it has a meaning under the explorer alone; use explore()")
    return meaning


class CheckedRam(Ram):
    """The memory of a check, interpreted: it knows what the CPUs returned."""

    def __init__(self, buffer: Any, returns: Callable[[], Sequence[int]]) -> None:
        super().__init__(buffer)
        self._returns = returns

    def returned(self, cpu: int) -> int:
        values = self._returns()
        if not 0 <= cpu < len(values):
            raise WordError("outside", cpu, len(values))
        return values[cpu]


_PLACES = {"choose": "a thread", "returned": "a check"}


def require_vocabulary(threads: Sequence[Kernel], check: Any, invariant: Any) -> None:
    """Refuse a word where it has no meaning."""
    if not says([*threads, check, invariant], returned, choose):
        return  # most programs: one closure instead of three
    for argument, kernels, foreign in (
        ("threads", threads, (returned,)),
        ("check", [check], (choose,)),
        ("invariant", [invariant], (returned, choose)),
    ):
        for word in foreign:
            if says(kernels, word):  # seldom, so it is asked of all at once
                kernel = next(one for one in kernels if says([one], word))
                name, place = word.__name__, _PLACES[word.__name__]
                text = f"{argument}: {kernel.__qualname__} calls {name}(); {place} alone"
                raise MisuseError(f"{text} may call it")


def says(kernels: Iterable[Any], *words: Callable[..., Any]) -> bool:
    """Whether one of ``kernels``, or of what they call, names one of ``words``."""
    return reaches(filter(is_kernel, kernels), words)
