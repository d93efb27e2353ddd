"""What is said when a worker makes an arena because it imports the program that started it.

Start methods spawn and forkserver import the main module in each worker. Without ``if __name__ ==
"__main__":`` that runs ``Arena.create`` there again: with a name it is refused, as the name is
taken; without one the worker has an arena of its own, and its writes are seen by no other process.

Owns nothing. It does not forbid such an arena: a library may want one for each process.
"""

from __future__ import annotations

import multiprocessing
import warnings

_CURE = (
    "this worker is importing the program that started it; create the arena under `if __name__ =="
    ' "__main__":` and pass it, or its arrays, to the worker'
)


def is_importing() -> bool:
    """Whether this process is a worker of ``multiprocessing`` that does not work yet."""
    return getattr(multiprocessing.current_process(), "_inheriting", False)


def cure() -> str:
    """What a message about a name that is taken says more in such a worker."""
    return f"; {_CURE}" if is_importing() else ""


def warn_of_own_arena(name: str | None) -> None:
    """Warn that an arena without a name is this worker's own, if it is importing."""
    if name is None and is_importing():
        warnings.warn(f"Arena.create: an arena of its own: {_CURE}", RuntimeWarning, stacklevel=3)
