"""Let the processes of a team go on, turn by turn, as a plan says; and look what they do.

A turn ends when its CPU stands at its next gate, sleeps, or has ended. Where it does none of these
for ``PATIENCE_S`` and makes no access, the schedule is not what happens here: ``Astray``, in words.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from shmalloc.engine import ops
from stress.gates import state as gate_state
from stress.gates.plan import Plan, Turn
from stress.gates.team import Team

PATIENCE_S = 2.0  # without any access of any process
MOST_S = 20.0  # with accesses
POLL_S = 50e-6
STILL_S = 0.25  # in which no process makes an access: then none will


@dataclass
class Course:
    """What the processes did. ``astray``: why the schedule could not be kept; empty: it was."""

    astray: str = ""
    held: dict[int, tuple[int, int, int]] = field(default_factory=dict)  # op, word, operand
    asleep: dict[int, int] = field(default_factory=dict)  # word
    spinning: dict[int, int] = field(default_factory=dict)  # accesses that it has made


class Astray(Exception):
    """A process does not come where the schedule has it."""


def follow(team: Team, plan: Plan) -> Course:
    """Hold and release the processes of a started team as ``plan`` says."""
    course = Course()
    try:
        for cpu in range(plan.cpus):
            _until(team, cpu, lambda cpu=cpu: _stands(team, cpu, 1), "at its first access")
        for number, turn in enumerate(plan.turns):
            _take(team, plan, number, turn)
        _let_go(team, plan)
    except Astray as error:
        course.astray = str(error)
    for cpu in range(plan.cpus):
        _note(team, cpu, course)
    return course


def _stands(team: Team, cpu: int, count: int) -> bool:
    """Whether ``cpu`` is held before its access ``count``, or has ended."""
    held = team.gate(cpu, gate_state.DOING) == gate_state.HELD
    return (held and team.gate(cpu, gate_state.COUNT) == count) or team.is_done(cpu)


def _take(team: Team, plan: Plan, number: int, turn: Turn) -> None:
    cpu = turn.cpu
    _until(team, cpu, lambda: _stands(team, cpu, turn.first), f"before its access {turn.first}")
    if team.is_done(cpu):
        raise Astray(f"cpu {cpu} ended after {team.gate(cpu, gate_state.COUNT)} accesses")
    later = (one.first for one in plan.turns[number + 1 :] if one.cpu == cpu)
    following = next(later, plan.held.get(cpu, turn.last + 1))
    team.allow(cpu, turn.first, following)

    def ended() -> bool:
        asleep = turn.sleeps and team.gate(cpu, gate_state.COUNT) == turn.last
        return _stands(team, cpu, following) or (asleep and team.sleeps(cpu))

    _until(team, cpu, ended, f"after its access {turn.last}")


def _let_go(team: Team, plan: Plan) -> None:
    """All turns are over: who is not to be held runs on to its end, or as far as it gets."""
    for cpu in range(plan.cpus):
        if cpu in plan.held:
            count = plan.held[cpu]
            if team.gate(cpu, gate_state.COUNT) < count:  # it had no turn, or stands before
                _until(team, cpu, lambda cpu=cpu: _stands(team, cpu, 1), "at its first access")
                if count > 1:
                    team.allow(cpu, team.gate(cpu, gate_state.COUNT), count)
            _until(
                team, cpu, lambda cpu=cpu, n=count: _at(team, cpu, n), f"before its access {count}"
            )
        elif not team.is_done(cpu):
            team.allow(cpu, 1 << 62, 0)
    free = [cpu for cpu in range(plan.cpus) if cpu not in plan.held]
    _settle(team, free)


def _at(team: Team, cpu: int, count: int) -> bool:
    return _stands(team, cpu, count) or team.sleeps(cpu)


def _settle(team: Team, cpus: list[int]) -> None:
    """Wait until every one of ``cpus`` has ended, or sleeps and nothing will wake it."""
    begin = still = time.monotonic()
    counts = _counts(team)
    while not all(team.is_done(cpu) for cpu in cpus):
        now = time.monotonic()
        if _counts(team) != counts:
            counts, still = _counts(team), now
        if now - still > STILL_S and all(team.is_done(c) or team.sleeps(c) for c in cpus):
            return
        if now - still > PATIENCE_S or now - begin > PATIENCE_S:
            return  # it spins: said by ``Course.spinning``
        time.sleep(POLL_S)


def _counts(team: Team) -> list[int]:
    return [team.gate(cpu, gate_state.COUNT) for cpu in range(len(team.blocks))]


def _until(team: Team, cpu: int, met: object, where: str) -> None:
    """Wait until ``met()``. Raises ``Astray`` where that does not come."""
    assert callable(met)
    begin = still = time.monotonic()
    counts = _counts(team)
    while not met():
        now = time.monotonic()
        if _counts(team) != counts:
            counts, still = _counts(team), now
        if now - still > PATIENCE_S or now - begin > MOST_S:
            raise Astray(f"cpu {cpu} did not arrive {where}; {_doing(team, cpu)}")
        time.sleep(POLL_S)


def _doing(team: Team, cpu: int) -> str:
    count = team.gate(cpu, gate_state.COUNT)
    if team.is_done(cpu):
        end = team.ends[cpu]
        return f"it ended after {count} accesses{f': {end.text}' if end and end.text else ''}"
    op, at = team.gate(cpu, gate_state.OP), team.gate(cpu, gate_state.AT)
    if team.gate(cpu, gate_state.DOING) == gate_state.WAITING:
        return f"it waits for word {at}, its access {count}"
    if team.gate(cpu, gate_state.DOING) == gate_state.HELD:
        return f"it is held before its access {count}, {ops.NAMES[op]} of word {at}"
    return f"it has made {count} accesses and runs"


def _note(team: Team, cpu: int, course: Course) -> None:
    """Where ``cpu`` is, in numbers."""
    if team.is_done(cpu):
        return
    doing = team.gate(cpu, gate_state.DOING)
    if doing == gate_state.HELD:
        words = (gate_state.OP, gate_state.AT, gate_state.OPERAND)
        op, at, operand = (team.gate(cpu, word) for word in words)
        course.held[cpu] = op, at, operand
    elif team.sleeps(cpu):
        course.asleep[cpu] = team.gate(cpu, gate_state.AT)
    else:
        course.spinning[cpu] = team.gate(cpu, gate_state.COUNT)
