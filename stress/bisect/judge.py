"""What a token does at one commit: run as a file, on the packages and programs of its worktree.

::

    python -P judge.py  < request, one JSON object  > answer, one JSON object

    request   token; program, its target; folders, in which that is searched; known, digests that
              are judged; seconds, for a search when its schedule passes; shows, the token whose
              steps to show
    answer    verdict: fails, passes, known or absent; digest; why; token; steps, as text

The schedule of a token is counted in steps of each CPU, and another commit may need one step more:
a schedule that passes there says nothing yet. So the schedules of the program are searched, too,
for a failure of the same kind and code. What cannot be judged is absent: the program, a module of
it, or what this file asks of the packages, which may be those of an older commit.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FAILS, PASSES, KNOWN, ABSENT = "fails", "passes", "known", "absent"


def judged(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request."""
    from stress.explorer.digest import digest_of
    from stress.explorer.replay import replay
    from stress.explorer.targets import load_program
    from stress.explorer.token import Token

    token = Token.parse(request["token"])
    program = load_program(request["program"], [Path(folder) for folder in request["folders"]])
    digest = digest_of(program)
    answer: dict[str, Any] = {"digest": digest, "verdict": KNOWN, "token": request["token"]}
    if digest in request["known"] and not request["shows"]:
        return answer
    again = replay(program, request["shows"] or request["token"])
    if request["shows"]:
        steps = _steps(program, request["shows"], again.failure)
        return answer | {"verdict": FAILS if again.reproduced else PASSES, "steps": steps}
    if again.reproduced:
        return answer | {"verdict": FAILS, "why": "its schedule fails"}
    return answer | _searched(program, token, request["seconds"])


def _searched(program: Any, token: Any, seconds: float) -> dict[str, Any]:
    """The verdict of a search for a failure of the token's kind and code."""
    from stress.explorer.explore import explore

    found = explore(
        program,
        memory=token.memory,
        seconds=seconds,
        engine="interpreted",
        step_limit=token.step_limit,
        known=lambda failure: (failure.kind, failure.code) != (token.kind, token.code),
    )
    if found.failure is not None:
        why = f"its schedule passes, another one of {found.schedules:,} fails"
        return {"verdict": FAILS, "why": why, "token": found.failure.schedule}
    whole = "all" if found.verdict == "passed-exhausted" else "others"
    why = f"its schedule passes, and {found.schedules:,} {whole}"
    if found.known:
        kinds = ", ".join(sorted({failure.headline for failure, _ in found.known}))
        return {"verdict": ABSENT, "why": f"fails in another way: {kinds}"}
    return {"verdict": PASSES, "why": why}


def _steps(program: Any, text: str, failure: Any) -> str:
    """The schedule of a token line by line, whether it fails or not."""
    from stress.explorer.report.account import Account
    from stress.explorer.report.explain import trace_of
    from stress.explorer.report.text import render
    from stress.explorer.token import Token
    from stress.explorer.witness import preempted_steps, traced_machine
    from stress.machine.block_layout import Settings

    if failure is not None:
        return str(failure.report())
    token = Token.parse(text)
    settings = Settings(
        step_limit=token.step_limit,
        model=token.memory,
        parking=token.parking,
        free_spins=token.free_spins,
    )
    machine, _ = traced_machine(program, settings, token.directives)
    account = Account(
        program=program,
        kind="passes",
        code=0,
        trace=trace_of(machine, preempted_steps(machine)),
        cause="All CPUs are done, and nothing is wrong.",
        memory_model=token.memory,
    )
    return render(account)


def main() -> None:
    request = json.load(sys.stdin)
    try:
        answer = judged(request)
    except Exception as error:  # of an older commit: anything may be missing there
        said = str(error).splitlines() or [""]
        answer = {"verdict": ABSENT, "why": f"{type(error).__name__}: {said[0]}"}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
