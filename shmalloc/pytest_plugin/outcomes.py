"""How a test ends that says nothing by itself: skipped, with a reason that begins with its kind.

VACUOUS: it tested nothing; with ``--shm-strict`` that is a failure. UNFIT: this machine cannot run
it. The reason also goes to the section at the end of the session.
"""

from __future__ import annotations

from typing import NoReturn

import pytest

from shmalloc.pytest_plugin.record import UNFIT, VACUOUS, Record


def vacuous(record: Record, reason: str, strict: bool) -> NoReturn:
    """End the test: it tested nothing."""
    record.tell(VACUOUS, reason)
    if strict:
        failed(f"VACUOUS: {reason} (--shm-strict)")
    skipped(f"VACUOUS: {reason}")


def unfit(record: Record, reason: str) -> NoReturn:
    """End the test: this machine cannot run it."""
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
