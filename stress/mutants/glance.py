"""What runs inside a copy with a single-token mutant: all that reaches its kernel, in groups.

``python -m stress.mutants.glance ROOT SECONDS NATIVE PROGRAM...`` prints the JSON document of
hunt.py. Hundreds of programs reach a lock, so they are prepared and interpreted a few at a time,
for a moment each: most mutants fall at once. The nearest ones come first, and get what is left of
the time. Then, for NATIVE seconds, the same ones run compiled.
A kernel that never ends, outside of a schedule, where no step limit ends it, is ended by a limit of
processor time, which is no other one's load. The last line of standard error says what was going on
then: a search that is slow has found nothing.

Everything here is the copy's, mutant and all.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial

from shmalloc.errors import DialectError
from stress.check.loop import INTERPRETED, NATIVE, Job, Loop, Turn, jobs_of
from stress.check.unprepared import UnpreparedError, prepared
from stress.explorer.spinning import EndlessLoopError
from stress.mutants.hunt import MEMORIES, document, endless, thing_of, unprepared

GROUP = 6
GLANCES = (Turn("dpor", INTERPRETED, 0.1, fair=True),)
GLANCES_SHARE = 0.7  # of the time, at most
LOOKS = (Turn("auto", INTERPRETED, 1.0),)
COMPILED = (Turn("auto", NATIVE, fair=True),)
REFUSED = "refused"
PREPARING = "preparing"  # a program: its kernels run outside of a schedule
GRACE_CPU_S = 60.0  # to start, compile and shrink


def jobs(names: Sequence[str]) -> Iterator[Job]:
    for name in names:
        bare = name.removeprefix("crash:")
        print(f"{PREPARING} {name}", file=sys.stderr, flush=True)
        thing = prepared(name, partial(thing_of, name, bare))
        yield from jobs_of(bare, thing, MEMORIES)


def glance(programs: Sequence[str], seconds: float, native_seconds: float) -> Loop:
    """Loops over groups of programs until one fails; the last loop has the outcomes of all."""
    begin = time.monotonic()
    whole = Loop([], (), seconds)
    for first in range(0, len(programs), GROUP):
        left = begin + GLANCES_SHARE * seconds - time.monotonic()
        if left <= 0 or whole.failures:
            break
        begun = [*jobs(programs[first : first + GROUP])]
        print("exploring", file=sys.stderr, flush=True)
        group = Loop(begun, GLANCES, left).run()
        whole.outcomes += group.outcomes
        whole.open += group.open
    left = begin + seconds - time.monotonic()
    if left > 0 and not whole.failures:
        longer = Loop(whole.open, LOOKS, left).run()
        whole.outcomes += longer.outcomes
        whole.open = longer.open
    if native_seconds > 0 and not whole.failures:
        again = Loop(whole.open, COMPILED, native_seconds).run()
        whole.outcomes += again.outcomes
        whole.open = again.open
    return whole


def limit_cpu_time(seconds: float) -> None:
    """Have this process ended by SIGXCPU when it has used the processor for so long."""
    most = int(seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (most, most + 1))


def main(root: str, seconds: str, native: str, *programs: str) -> None:
    limit_cpu_time(GRACE_CPU_S + 2 * (float(seconds) + float(native)))
    try:
        told = document(glance(programs, float(seconds), float(native)))
    except EndlessLoopError as error:
        told = endless(error)
    except UnpreparedError as error:
        told = unprepared(error)
        if isinstance(error.__cause__, DialectError | NameError):
            told |= {"found": None, "problems": [f"{REFUSED}: {error.__cause__}"]}
    except (DialectError, SyntaxError) as error:
        told = {"found": None, "problems": [f"{REFUSED}: {error}"], "schedules": 0, "seconds": 0.0}
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
