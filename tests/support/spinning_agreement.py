"""Whether the explorer finds in a program exactly what brute force finds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from stress.explorer.found import Found
from stress.explorer.searches import Budget
from support.explorations import RANDOM_STRATEGIES, searching
from support.reference import Straight
from support.spinning_classes import Enumerator, TooManyError
from support.spinning_programs import Drawn, as_explored, patience

MOST = 20_000
SAMPLE = 40  # schedules of a random strategy


@dataclass
class Compared:
    """One program under one memory model, or the sum of many."""

    programs: int = 0
    schedules: int = 0
    classes: int = 0
    endless: int = 0
    deadlocked: int = 0
    differences: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.programs:,} programs, {self.classes:,} classes of {self.schedules:,} schedules;"
            f" {self.deadlocked} deadlock, {self.endless} spin for ever;"
            f" {len(self.differences)} differences"
        )

    def add(self, other: Compared) -> None:
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def explored(drawn: Drawn, strategy: str, memory: str, most: int) -> Found:
    program = as_explored(drawn.program)
    search = searching(program, strategy, memory, "native", free_spins=drawn.free_spins)
    search.run(Budget(None, most))
    return search.found()


def compare(drawn: Drawn, memory: str) -> Compared | None:
    """None if the program is too large for brute force."""
    try:
        judge = Enumerator(drawn.program, memory, drawn.free_spins, MOST)
        schedules, traces = judge.schedules, judge.traces
    except TooManyError:
        return None
    found = Compared(1, schedules, traces.classes)
    found.endless = int(traces.endless)
    found.deadlocked = int("deadlock" in traces.ends)
    dpor = explored(drawn, "dpor", memory, MOST + 1)
    outcomes = set(dpor.outcomes)
    if traces.endless and dpor.schedules > MOST:  # spinning on and on has too many classes
        outcomes |= traces.outcomes
    expected: dict[str, tuple[object, object]] = {
        "outcomes of dpor": (outcomes, traces.outcomes),
        "failing of dpor": (bool(dpor.failures), traces.failing),
        "redundant": (dpor.redundant, 0),
    }
    if not traces.endless:
        dfs = explored(drawn, "dfs", memory, MOST + 1)
        expected |= {
            "classes of dpor": (dpor.classes, traces.classes),
            "dpor exhausted": (dpor.exhausted or may_give_up(drawn) or refuses(dpor), True),
            "schedules of dfs": (dfs.schedules, schedules),
            "outcomes of dfs": (set(dfs.outcomes), traces.outcomes),
        }
        if patience(drawn.program) <= drawn.free_spins:
            expected |= sampled(drawn, memory, traces.outcomes)
    for what, (got, right) in expected.items():
        if got != right:
            found.differences.append(f"{what} under {memory}: {got}, by brute force {right}")
    return found


def may_give_up(drawn: Drawn) -> bool:
    """Whether a CPU may stand still that would go on after some more spins: dpor says so."""
    return patience(drawn.program) > drawn.free_spins


def refuses(dpor: Found) -> bool:
    """Whether dpor says that it gives no proof because of spins: careful, and not wrong."""
    return any("free_spins" in note for note in dpor.notes)


def sampled(
    drawn: Drawn, memory: str, outcomes: set[tuple[int, ...]]
) -> dict[str, tuple[object, object]]:
    """What a random strategy, of each program another one, finds that brute force does not."""
    strategy = RANDOM_STRATEGIES[len(str(drawn)) % len(RANDOM_STRATEGIES)]
    found = set(explored(drawn, strategy, memory, SAMPLE).outcomes)
    return {f"new outcomes of {strategy}": (found - outcomes, set())}


def differences(program: Straight, memory: str, free_spins: int) -> list[str]:
    """What a test of one program requires to be empty."""
    compared = compare(Drawn(program, free_spins), memory)
    assert compared is not None, "the program is too large for brute force"
    return compared.differences


def reduced(drawn: Drawn, memory: str) -> Drawn:
    """Without the instructions that its first difference does not need."""
    compared = compare(drawn, memory)
    smaller = compared is not None and bool(compared.differences)
    kind = compared.differences[0].split(":")[0] if compared is not None and smaller else ""
    while smaller:
        smaller = False
        for candidate in shorter(drawn):
            compared = compare(candidate, memory)
            if compared is not None and any(one.startswith(kind) for one in compared.differences):
                drawn, smaller = candidate, True
                break
    return drawn


def shorter(drawn: Drawn) -> list[Drawn]:
    """With one instruction left out, or a CPU that has none."""
    cpus = drawn.program.cpus
    found = []
    for cpu, code in enumerate(cpus):
        codes = [code[:k] + code[k + 1 :] for k in range(len(code))]
        rest = cpus[:cpu], cpus[cpu + 1 :]
        left = [(*rest[0], one, *rest[1]) for one in codes if one]
        left += [rest[0] + rest[1]] if len(code) <= 1 and len(cpus) > 1 else []
        found += [drawn._replace(program=replace(drawn.program, cpus=one)) for one in left]
    return found


def as_test(drawn: Drawn, memory: str) -> str:
    """The program as a test to paste."""
    codes = "".join(
        "        (" + "".join(f"Instruction{tuple(one)}, " for one in code).rstrip() + "),\n"
        for code in drawn.program.cpus
    )
    return (
        "def test_the_explorer_agrees_with_brute_force_about_a_found_program():\n"
        f'    program = Straight("found", {drawn.program.init}, (\n{codes}    ))\n'
        f'    assert differences(program, "{memory}", {drawn.free_spins}) == []\n'
    )
