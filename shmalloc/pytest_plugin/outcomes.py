"""How a test ends that says nothing by itself: skipped, with a reason that begins with its kind.

VACUOUS: it tested nothing; with ``--shm-strict`` that is a failure. UNFIT: this machine cannot run
it. The reason also goes to the section at the end of the session.
"""

from __future__ import annotations

from operator import methodcaller
from typing import NoReturn

import pytest

from shmalloc.pytest_plugin.record import UNFIT, VACUOUS, Record

# Of a frame of ours, as its __tracebackhide__: pytest and its debugger go past it to the test.
FOR_OUTCOMES = methodcaller("errisinstance", (pytest.fail.Exception, pytest.skip.Exception))


def vacuous(record: Record, reason: str, strict: bool) -> NoReturn:
    """End the test: it tested nothing."""
    __tracebackhide__ = True
    record.tell(VACUOUS, reason)
    if strict:
        failed(f"VACUOUS: {reason} (--shm-strict)")
    skipped(f"VACUOUS: {reason}")


def unfit(record: Record, reason: str) -> NoReturn:
    """End the test: this machine cannot run it."""
    __tracebackhide__ = True
    record.tell(UNFIT, reason)
    skipped(f"UNFIT: {reason}")


def skipped(reason: str) -> NoReturn:
    """Skip the test; the place that pytest shows is the test, not this file."""
    __tracebackhide__ = True
    raise pytest.skip.Exception(reason, _use_item_location=True)


def failed(text: str) -> NoReturn:
    """Fail the test with a text that needs no traceback."""
    __tracebackhide__ = True
    raise pytest.fail.Exception(text, pytrace=False)
