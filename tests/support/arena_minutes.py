"""``ArenaMachine`` for minutes: what processes do with one arena, drawn by Hypothesis.

``tox -e arena-machine -- 10`` runs it for ten minutes, or to the first failure, which is reduced;
the suite has a short run.
"""

from __future__ import annotations

import sys
import time

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from stress.hypothesis import ArenaMachine

EXAMPLES = 50


def main(minutes: str = "5") -> None:
    end, done = time.monotonic() + 60 * float(minutes), 0
    chosen = settings(
        max_examples=EXAMPLES,
        stateful_step_count=60,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    while time.monotonic() < end:
        run_state_machine_as_test(ArenaMachine, settings=chosen)
        done += EXAMPLES
        print(f"{done} examples passed", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
