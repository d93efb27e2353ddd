"""Kernels are compiled before the first test runs, once for all workers, with a line that says so.

What a test needs is compiled at its first use anyway, and meanwhile the store of images lets every
other process wait. Doing it here keeps the seconds out of the first test, whose time may be
limited, and out of every fork of pytest-forked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from shmalloc.engine.doctor import native_problem
from shmalloc.errors import ShmallocError
from shmalloc.pytest_plugin.options import Settings

WAITING = "waiting for "


def compile_for(needs: Iterable[str], settings: Settings, say: Callable[[str], None]) -> None:
    """Compile what tests with these needs will call: ``explore``, ``stress``, ``arena``."""
    if (settings.engine or settings.usual_engine) != "native" or native_problem() is not None:
        return
    for need in dict.fromkeys(needs):
        try:
            _COMPILES[need](say)
        except ShmallocError as error:  # the test that needs it fails with the same words
            say(str(error))


def _explorer(say: Callable[[str], None]) -> None:
    from stress.explorer.searches import warm

    warm(say)


def _run(say: Callable[[str], None]) -> None:
    from shmalloc.engine.native import warm_together
    from stress.run.kernels import whole_plan

    warm_together(whole_plan(), say)


def _arena(say: Callable[[str], None]) -> None:
    from shmalloc.engine import get_engine
    from shmalloc.engine.plans import arena

    get_engine("native").warm(arena(), say)


_COMPILES = {"explore": _explorer, "stress": _run, "arena": _arena}


def of_one_process(say: Callable[[str], None], worker: str) -> Callable[[str], None]:
    """Of many workers, only the one that compiles has something to tell."""
    return say if not worker else lambda text: None if text.startswith(WAITING) else say(text)
