"""What a marked test returns is explored, or run: the function of the test is wrapped for that.

The wrapper calls the test, takes what it returns, and returns nothing, so that pytest and plugins
that call the function themselves (pytest-run-parallel, in many threads) see a test like any other.
Below ``@given`` of Hypothesis it wraps what is called for each example. A test that turns out not
to be ours keeps its value.
"""

from __future__ import annotations

import functools
import inspect
from types import FunctionType
from typing import Any

import pytest

from shmalloc.pytest_plugin.loading import of_plugin
from shmalloc.pytest_plugin.marks import Asked, asked_of, speaks_by_its_value
from shmalloc.pytest_plugin.outcomes import FOR_OUTCOMES, failed
from shmalloc.pytest_plugin.record import record_of
from shmalloc.pytest_plugin.state import State

WRAPPED = "__shmalloc_test__"


def wrap(state: State, item: pytest.Function) -> None:
    """Let the function of a marked test give us what it returns; once for each function."""
    function = item.obj
    if getattr(function, WRAPPED, False):
        return
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        if _is_surely_ours(state, item):
            item.obj = _refusing(item)
        return
    handle = getattr(function, "hypothesis", None)
    drawn = getattr(handle, "inner_test", None)  # of @given: called for each example
    if handle is None or drawn is None:
        item.obj = _giving(state, function)
    else:
        handle.inner_test = _giving(state, drawn.__wrapped__ if hasattr(drawn, WRAPPED) else drawn)


def _giving(state: State, function: Any) -> Any:
    """``function``, but that we take what it returns."""
    ask, take, end = _asked, _take, _ending(function)  # the function below has no globals of ours

    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        asked = ask(state)
        value = function(*args, **kwargs)
        return value if asked is None else end(take, state, asked, value)

    # Plugins look into the globals of a test for what it uses.
    made = FunctionType(call.__code__, function.__globals__, closure=call.__closure__)
    setattr(functools.update_wrapper(made, function), WRAPPED, True)
    return made


def _ending(function: Any) -> Any:
    """What calls ``take`` when the test has returned. A debugger shows its frame as the test."""
    code = (lambda take, state, asked, returned: take(state, asked, returned)).__code__
    test = getattr(inspect.unwrap(function), "__code__", code)
    shown = code.replace(
        co_filename=test.co_filename,
        co_firstlineno=test.co_firstlineno,
        co_name=test.co_name,
        co_qualname=test.co_qualname,
    )
    return FunctionType(shown, function.__globals__)


def _is_surely_ours(state: State, item: pytest.Function) -> bool:
    """Whether the marks alone say so: what an async test returns never speaks to us."""
    try:
        asked = asked_of(item, state.settings.marks)
    except (ValueError, pytest.fail.Exception):  # ours, with something wrong
        return True
    return asked is not None and asked.surely


def _refusing(item: pytest.Function) -> Any:
    def test(**kwargs: Any) -> None:
        failed(f"{item.name} is async; the mark needs a plain function")

    setattr(test, WRAPPED, True)
    return test


def _asked(state: State) -> Asked | None:
    """What the marks ask for; an argument that is unknown fails the test before it runs."""
    __tracebackhide__ = FOR_OUTCOMES
    assert state.item is not None
    try:
        return asked_of(state.item, state.settings.marks)
    except ValueError as error:  # MisuseError is one, and need not be imported for other projects
        text = str(error)
    return failed(text)


def _take(state: State, asked: Asked, value: object) -> object:
    __tracebackhide__ = FOR_OUTCOMES
    if not asked.surely and not speaks_by_its_value(asked.kind, value):
        return value
    from shmalloc.errors import ShmallocError

    assert state.item is not None
    record = record_of(state.item, state.settings.seed)
    try:
        if asked.kind == "explore":
            ours = of_plugin("exploring")
            ours.explore_all(ours.Explorer(state), value, asked.arguments)
        else:
            ours = of_plugin("running")
            ours.run_returned(ours.StressRun(state, record), value, asked.arguments)
        return None
    except ShmallocError as error:  # of what the test asked for: no traceback of ours helps
        text = f"@pytest.mark.{asked.kind}: {error}"
    return failed(text)
