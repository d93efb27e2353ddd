"""One session of ``shmstress mutants --systematic``: draw, hunt, print, and carry on next time."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import stress
from shmalloc.errors import MisuseError
from stress import progress as watching
from stress.mutants import kill_table
from stress.mutants.single_token import TokenMutant, all_mutants
from stress.mutants.systematic import (
    STAGES,
    SURVIVED,
    TESTS,
    TROUBLE,
    Hunt,
    Judged,
    State,
    hunt_in_turn,
    in_parts,
    sampled,
)
from stress.mutants.tree import place
from stress.report.environment import environment
from stress.tables import grid, show
from stress.verdict import Verdict

SCHEMA = 1


@dataclass(frozen=True)
class Wanted:
    """What was asked for. ``sample`` None: all of the parts."""

    parts: tuple[str, ...]
    sample: int | None
    seed: int
    state: Path
    stages: tuple[str, ...]
    seconds: float
    jobs: int
    only_table: bool


@dataclass
class Session:
    """The mutants that were drawn, and what is known of them."""

    everything: list[TokenMutant]
    drawn: list[TokenMutant]
    state: State

    @property
    def judged(self) -> list[kill_table.Pair]:
        pairs = [(mutant, self.state.of(mutant)) for mutant in self.drawn]
        return [(mutant, one) for mutant, one in pairs if one is not None]

    def left(self, stages: Sequence[str]) -> list[TokenMutant]:
        """Those that one of these stages may still find."""
        return [one for one in self.drawn if self.state.stages_left(one, stages)]

    @property
    def verdict(self) -> Verdict:
        """Holes are a failure; trouble is an error; and nothing judged is nothing tested."""
        outcomes = {one.outcome for _, one in self.judged}
        if SURVIVED in outcomes:
            return Verdict.FAILED
        if TROUBLE in outcomes:
            return Verdict.ERROR
        return Verdict.PASSED if outcomes else Verdict.VACUOUS


def begun(wanted: Wanted) -> Session:
    """The mutants to judge. Raises ``MisuseError`` for a part or a stage that is none."""
    for stage in wanted.stages:
        if stage not in STAGES:
            raise MisuseError(f"stages: {stage!r}; known are {', '.join(STAGES)}")
    everything = in_parts(all_mutants(), wanted.parts)
    drawn = everything
    if wanted.sample is not None:
        drawn = sampled(everything, wanted.sample, wanted.seed)
    return Session(everything, drawn, State(wanted.state))


def tests_beside() -> Path | None:
    """The tests of a checkout; None where the packages are installed."""
    folder = Path(str(stress.__file__)).parent.parent / "tests"
    return folder if (folder / "conftest.py").is_file() else None


def carry_on(session: Session, wanted: Wanted, progress: str) -> None:
    """Hunt what is left, each result into the state at once: an interrupt loses nothing."""
    tests = tests_beside() if TESTS in wanted.stages else None
    hunt = Hunt(wanted.stages, wanted.seconds, tests)
    with ExitStack() as stack:
        report = stack.enter_context(watching.shown(progress, ticking=True))
        roots = [stack.enter_context(place()) for _ in range(wanted.jobs)]
        left = session.left(wanted.stages)
        hunted = hunt_in_turn(left, hunt, roots, session.state)
        for number, (mutant, one) in enumerate(hunted, 1):
            session.state.add(one)
            print(f"{mutant}\n    {one}", file=sys.stderr)
            report(watching.Step("hunting", number, len(left), one.outcome))


def perform(wanted: Wanted, json: str | None, markdown: str | None, progress: str) -> Verdict:
    session = begun(wanted)
    left = len(session.left(wanted.stages))
    print(
        f"{len(session.drawn):,} of {len(session.everything):,} single-token mutants,"
        f" seed {wanted.seed:#x}, {left:,} to judge, state {wanted.state}",
        file=sys.stderr,
    )
    try:
        if not wanted.only_table:
            carry_on(session, wanted, progress)
    finally:
        _tell(session, wanted, json, markdown)
    return session.verdict


def _tell(session: Session, wanted: Wanted, json: str | None, markdown: str | None) -> None:
    from stress.report.exports import Exports

    files = Exports({"markdown": markdown}, json=json)
    judged = session.judged
    if judged:
        table = grid(*kill_table.COLUMNS, right=kill_table.NUMBERS)
        for cells in kill_table.rows(judged, session.everything):
            table.add_row(*cells)
        show(table, files.aside)
    else:
        print(_nothing_judged(wanted), file=sys.stderr)
    last = kill_table.last_line(judged, session.everything)
    for line in [*kill_table.holes(judged), last, session.verdict.name]:
        print(line, file=sys.stderr if files.aside else sys.stdout)
    if markdown is not None:
        files.put(markdown, kill_table.markdown(judged, session.everything))
    if json is not None:
        files.put(json, _document(session, wanted, judged))


def _nothing_judged(wanted: Wanted) -> str:
    cure = "without --table" if wanted.only_table else "again, and leave it more time"
    return (
        f"state: {str(wanted.state)!r} holds no result for the mutants that were drawn; hunt them"
        f" {cure}, or name the --state of a hunt"
    )


def _document(session: Session, wanted: Wanted, judged: Sequence[kill_table.Pair]) -> str:
    share = kill_table.killed_share(judged, session.everything)
    whole = {
        "schema": SCHEMA,
        "tool": {"name": "shmstress", "version": stress.__version__, "command": "mutants"},
        "environment": environment(),
        "spec": asdict(wanted) | {"state": str(wanted.state)},
        "verdict": session.verdict.name,
        "exit_code": session.verdict.exit_code,
        "mutants": len(session.everything),
        "drawn": len(session.drawn),
        "killed": share._asdict(),
        "results": [_row(mutant, one) for mutant, one in judged],
    }
    return json_module.dumps(whole, indent=2) + "\n"


def _row(mutant: TokenMutant, one: Judged) -> dict[str, Any]:
    return asdict(one) | {"file": mutant.file, "line": mutant.line, "text": str(mutant)}
