"""What ran, in words: the verdict's sentence, the spec, the machine, the environment.

A spec and an environment are read from JSON of any version of shmstress, so nothing is expected to
be there: what is known is said in words, what is not is listed as it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from shmalloc.errors import MisuseError
from stress.line import Line
from stress.quantities import counted, rough_duration
from stress.records.rows import FindingRow, RoundRow, RunRow
from stress.report.page import words
from stress.report.page.model import Fact, Number
from stress.report.run_time import elapsed_s, sessions_of, worked_s
from stress.verdict import Verdict

PROGRAM = "program"  # what a command line names without an option
# What a kind of run counts, where it is not operations.
OPERATIONS = {"explore": "schedules", "crash": "runs", "mutants": "schedules"}
_COUNT = re.compile("[0-9]{1,9}")
_SAID = {"workload", "workers", "ram", "zones", "link-store", "duration", "seed"}
# Said only if they are others.
_DEFAULTS = {"engine": "native", "audit-every": "5s", "hang-timeout": "10s"}


def verdict_of(name: str | None) -> Verdict | None:
    """The verdict of that name; None for none, or one of another version."""
    return Verdict.__members__.get(name or "")


def settings_of(one: RunRow | RoundRow) -> dict[str, Any]:
    """Its settings by the names of their options: of its command line and of its spec."""
    spec = {name: value for name, value in one.spec.items() if name != "at_s"}
    return _options_of(one.command) | spec


def what_it_is(one: RunRow | RoundRow, without: Collection[str] = ()) -> str:
    """A run or a round in words; a spec of a run says more than its command line, others less."""
    settings = dict(one.spec) if "workload" in one.spec else _options_of(one.command)
    return spec_words({n: v for n, v in settings.items() if n not in without and v is not None})


def _options_of(command: str) -> dict[str, Any]:
    """What a command line sets, and its targets; nothing for the text of another program."""
    try:
        line = Line.parse(command)
    except MisuseError:
        return {}
    targets = {PROGRAM: " ".join(line.targets)} if line.targets else {}
    return {**line.options, **targets}


def spec_words(spec: Mapping[str, Any]) -> str:
    """``churn, frag by 6 workers on 256MiB in 2 zones, link store page; seed 0x2a``."""
    if "workload" not in spec:
        rest = _listed({name: value for name, value in spec.items() if name != PROGRAM})
        return ": ".join(filter(None, [str(spec.get(PROGRAM, "")), rest]))
    parts = [str(spec["workload"]).replace(",", ", ")]
    if "workers" in spec:
        parts.append(f"by {_workers(str(spec['workers']))}")
    if "ram" in spec:
        zones = str(spec["zones"]).split(",") if "zones" in spec else []
        parts.append(f"on {spec['ram']}" + (f" in {counted(len(zones), 'zone')}" if zones else ""))
    if "duration" in spec:
        parts.append(f"for {spec['duration']}")
    more = [f"link store {spec['link-store']}"] if "link-store" in spec else []
    more += [f"seed {spec['seed']}"] if "seed" in spec else []
    rest = _listed({
        name: value
        for name, value in spec.items()
        if name not in _SAID and _DEFAULTS.get(name) != value
    })  # fmt: skip
    return "; ".join(filter(None, [" ".join(parts), ", ".join(more), rest]))


def _workers(text: str) -> str:
    return counted(int(text), "worker") if _COUNT.fullmatch(text) else f"{text} workers"


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(
        _switch(name, value) if isinstance(value, bool) else f"{name} {_flat(value)}"
        for name, value in values.items()
    )


def _switch(name: str, on: bool) -> str:
    return name if on else f"no-{name}"


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={_flat(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ",".join(map(_flat, value))
    return str(value)


# --- the verdict ---------------------------------------------------------------------------------
def sentence(
    run: RunRow, rounds: Sequence[RoundRow], findings: Sequence[FindingRow], work_s: float
) -> str:
    """The verdict as one sentence, without its name."""
    still_open = [one for one in findings if one.status == "open"]
    others = len(findings) - len(still_open)
    found = counted(len(still_open), "open finding") if still_open else "No open finding"
    if others:
        found += f" ({others} more ignored or fixed)"
    amount = _amount(run, rounds, work_s)
    if run.state == "lost":
        return f"Its process died before the end. {found} in {amount}."
    if run.state == "running":
        return f"It is still running. {found} in {amount} so far."
    verdict = verdict_of(run.verdict)
    if verdict is None or verdict in (Verdict.PASSED, Verdict.FAILED):
        return f"{found} in {amount}."
    return f"{found} in {amount}: {verdict.meaning}."


def _amount(run: RunRow, rounds: Sequence[RoundRow], work_s: float) -> str:
    parts = [rough_duration(work_s)]
    if len(rounds) + run.dropped_rounds != 1:
        parts.append(counted(len(rounds) + run.dropped_rounds, "round"))
    operations = sum(one.operations or 0 for one in rounds)
    if operations:
        parts.append(f"{words.amount(operations)} {OPERATIONS.get(run.kind, 'operations')}")
    return ", ".join(parts[:-1]) + f" and {parts[-1]}" if len(parts) > 1 else parts[0]


# --- facts ---------------------------------------------------------------------------------------
def what_ran(
    run: RunRow, rounds: Sequence[RoundRow], samples: int, last_s: float
) -> tuple[Fact, ...]:
    key = f"runs/{run.id}"
    operations = sum(one.operations or 0 for one in rounds)
    wall_s = elapsed_s(run, rounds, last_s)
    facts = [
        Fact("Started", Number(f"{key}/started_s", run.started_s, words.date(run.started_s))),
        Fact("Wall time", Number(f"{key}/wall_s", wall_s, rough_duration(wall_s))),
        *_sessions(run, rounds, last_s),
        Fact("Machine", _machine(run)),
        Fact("shmstress", run.version),
        Fact("Seed", run.seed or "none"),
        Fact("Rounds", Number(f"{key}/rounds", len(rounds), f"{len(rounds):,}")),
        Fact(
            OPERATIONS.get(run.kind, "operations").capitalize(),
            Number(f"{key}/operations", operations, words.plain(operations)),
        ),
    ]
    if samples:
        facts.append(Fact("Samples", Number(f"{key}/samples", samples, f"{samples:,}")))
    if run.dropped_rounds:
        text = f"{run.dropped_rounds:,} passed ones"
        facts.append(Fact("Not kept", Number(f"{key}/dropped_rounds", run.dropped_rounds, text)))
    return tuple(facts)


def _sessions(run: RunRow, rounds: Sequence[RoundRow], last_s: float) -> Iterator[Fact]:
    """What a soak that went on later worked, without its pauses."""
    count = sessions_of(run)
    if count > 1:
        work_s = worked_s(run, rounds, last_s)
        text = f"{rough_duration(work_s)} in {counted(count, 'session')}"
        yield Fact("Worked", Number(f"runs/{run.id}/worked_s", work_s, text))


def _machine(run: RunRow) -> str:
    machine = run.machine
    parts = [run.hostname or "unknown"]
    if "cores" in machine:
        parts.append(counted(machine["cores"], "core"))
    if "memory_bytes" in machine:
        parts.append(words.size(machine["memory_bytes"]))
    return ", ".join(parts)


def environment(run: RunRow) -> tuple[Fact, ...]:
    facts = [Fact("Python", run.python), Fact("Digest of the kernels", run.kernels)]
    facts += [Fact(name, text) for name, text in _flattened(run.machine, "")]
    seen: dict[str, Fact] = {}
    for fact in facts:
        if fact.value and fact.label.lower() not in seen:
            seen[fact.label.lower()] = fact
    return tuple(seen.values())


def _flattened(values: Mapping[str, Any], before: str) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        label = f"{before}{name}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flattened(value, "")
        elif name.endswith("_bytes") and isinstance(value, int):
            yield label.removesuffix(" bytes"), words.size(value)
        elif value is not None:
            yield label, _flat(value)
