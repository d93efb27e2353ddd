"""From what a stress test says to the ``RunSpec`` of its run.

A test says it in the names of ``shmstress run``: as arguments of its mark or of ``stress_run``, as
a dictionary that it returns (``link_store`` or ``link-store``), or as a finished ``RunSpec``. A
workload is a name, a ``Workload`` of the user's own, or a pair of kernels ``(step, finish)``.

What it does not do: start anything (running.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from msgspec import structs

from shmalloc.dialect import is_kernel
from shmalloc.errors import MisuseError
from shmalloc.pytest_plugin.options import Budget, Settings
from stress.quantities import exact_duration, nearest
from stress.spec import RawSpec, RunSpec, option_text, resolve
from stress.workloads import WORKLOADS, Workload, add

TEST_SECONDS = 5.0  # of a test that says nothing; twenty are too long for a suite
TEST_RAM = "64MiB"
WORKLOAD = "churn"
TRACE = "trace"
_ALIASES = {"seconds": "duration"}


@cache
def option_names() -> tuple[str, ...]:
    """The names that a test may give values to."""
    return (*(field.name for field in structs.fields(RawSpec)), *_ALIASES)


def spec_of(
    asked: Mapping[str, Any], value: object, settings: Settings, seed: int, test: str
) -> RunSpec:
    """The run that the arguments of a test and what it returned ask for.

    ``test``: its name, for a pair of kernels that has none. Raises ``MisuseError``.
    """
    if isinstance(value, RunSpec):
        if asked:
            raise MisuseError(
                f"{next(iter(asked))}: together with a RunSpec, which says everything; leave it out"
            )
        return _adjusted(value, settings, seed)
    options = _options(asked) | _options(_as_mapping(value))
    options["workload"] = _names(options.get("workload", WORKLOAD), test)
    _set_engine(options, settings)
    _set_duration(options, settings.budget)
    options.setdefault("seed", seed)
    if "zones" not in options and options["workload"] != TRACE:  # a recording needs its own
        options.setdefault("ram", TEST_RAM)
    return _resolved(options)


def _as_mapping(value: object) -> Mapping[str, Any]:
    """What a test returned, as options."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return value
    if isinstance(value, Workload | str) or _is_workloads(value):
        return {"workload": value}
    raise MisuseError(
        f"the test returned {value!r}; return a dict of options, a RunSpec, a Workload, two kernels"
        " (step, finish), or None"
    )


def _is_workloads(value: object) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(one, Workload | str) or is_kernel(one) for one in value
    )


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in given.items():
        known = str(name).replace("-", "_")
        if known not in option_names():
            raise nearest(str(name), option_names(), "options of a run")
        found[_ALIASES.get(known, known)] = value
    return {name: value for name, value in found.items() if value is not None}


def _names(value: object, test: str) -> str:
    """The text of ``--workload``; workloads of the user's own come into the table."""
    members: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
    if len(members) == 2 and all(is_kernel(one) for one in members):
        return add(Workload(test, members[0], members[1]))
    return ",".join(add(one) if isinstance(one, Workload) else str(one) for one in members)


def _set_engine(options: dict[str, Any], settings: Settings) -> None:
    """The command line wins over the test; plain Python takes one worker."""
    if settings.engine is not None:
        options["engine"] = settings.engine
    options.setdefault("engine", settings.usual_engine)
    if settings.engine == "interpreted":
        options["workers"] = 1


def _set_duration(options: dict[str, Any], budget: Budget) -> None:
    once = options["workload"] == TRACE
    wanted = options.get("duration", None if once else TEST_SECONDS)
    if isinstance(wanted, str):
        from shmalloc.sizes import parse_duration

        wanted = parse_duration(wanted, "seconds")
    seconds = budget.seconds_of(wanted)
    if seconds is not None:
        options["duration"] = exact_duration(seconds)


def _adjusted(spec: RunSpec, settings: Settings, seed: int) -> RunSpec:
    seconds = settings.budget.seconds_of(spec.duration_s)
    assert seconds is not None
    spec = structs.replace(spec, duration_s=seconds)
    unset = next(field for field in structs.fields(RunSpec) if field.name == "seed").default
    return structs.replace(spec, seed=seed) if spec.seed == unset else spec


def _resolved(options: Mapping[str, Any]) -> RunSpec:
    from stress.commands.run import with_fit_workloads
    from stress.run.workers import cores
    from stress.trace.options import with_trace

    texts: dict[str, Any] = {name: _text(name, value) for name, value in options.items()}
    raw = RawSpec(**texts)
    return with_fit_workloads(resolve(with_trace(raw), WORKLOADS, len(cores())))


def _text(name: str, value: Any) -> str | bool:
    """An option as the command line has it."""
    if name == "workload":
        return str(value)
    if name == "seed" and isinstance(value, int):
        return hex(value)
    return option_text(name.replace("_", "-"), list(value) if isinstance(value, tuple) else value)
