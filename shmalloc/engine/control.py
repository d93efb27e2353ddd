"""Functions over a control block: schedulers, strategies, and the hooks around an access.

They are written in the kernel dialect, so one source is compiled and interpreted. They run over a
block of words of their own and call primitives instead of the words of kernels. ``dialect.KERNELS``
does not list them, so that no plan of the allocator includes them.

    @scheduler   a function over a control block
    @inlined     one that every step runs through: always inlined (1.4 times the speed)
    @shared      one that is never inlined: every driver calls the same one
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def scheduler(function: F) -> F:
    """Mark a function over a control block.

    It is written in the kernel dialect (integers, no exceptions); instead of words it calls
    primitives.
    """
    assert isinstance(function, FunctionType)
    function.__kernel__ = True  # type: ignore[attr-defined]
    return function


def inlined(function: F) -> F:
    """``scheduler`` that every step runs through: always inlined (1.4 times the speed)."""
    scheduler(function).__hot__ = True  # type: ignore[attr-defined]
    return function


def shared(function: F) -> F:
    """``scheduler`` that is never inlined: every driver calls the same one."""
    scheduler(function).__unit__ = True  # type: ignore[attr-defined]
    return function
