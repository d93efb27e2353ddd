"""What a round does: the command line of one of four commands, performed in this process.

The same work as that of the command, but what it finds comes as data: run_round.py has runs of real
processes, search_round.py explorations.
"""

from __future__ import annotations

from collections.abc import Callable

from shmalloc.errors import CorruptionError, EnvironmentUnfitError, KernelFault, MisuseError
from stress.line import COMMANDS, Line
from stress.quantities import nearest
from stress.records.finding import VIOLATION, Finding
from stress.records.fingerprint import Ignored, without_numbers
from stress.soak import run_round, search_round
from stress.soak.messages import Message, Outcome
from stress.soak.search_round import ALONE, PREPARATION
from stress.verdict import Verdict

Tell = Callable[[Message], None]
PERFORMERS: dict[str, Callable[[Line, Ignored, Tell], Outcome]] = {
    "run": run_round.run,
    "explore": search_round.explored,
    "replay": search_round.replayed,
    "crash": search_round.crashed,
}
assert tuple(PERFORMERS) == COMMANDS


def perform(command: str, ignored: Ignored, tell: Tell) -> Outcome:
    """The outcome of a command line. A limit of the machine and a wrong line are outcomes, too.

    ``ignored``: findings that the round goes past.
    """
    try:
        line = Line.parse(command)
        if line.command not in PERFORMERS:
            raise nearest(line.command, PERFORMERS, "command")
        return PERFORMERS[line.command](line, ignored, tell)
    except KeyboardInterrupt:
        return Outcome(Verdict.INTERRUPTED)
    except EnvironmentUnfitError as error:
        return Outcome(Verdict.UNFIT, troubles=(str(error),))
    except (CorruptionError, KernelFault) as error:  # before any worker or schedule
        return Outcome(Verdict.FAILED, found=(unprepared(error, command),))
    except MisuseError as error:
        return Outcome(Verdict.ERROR, troubles=(f"{command}: {error}",))


def unprepared(error: CorruptionError | KernelFault, command: str) -> Finding:
    """A kernel fails although it is alone: memory could not be prepared."""
    site = error.kernel if isinstance(error, KernelFault) else without_numbers(str(error))
    return Finding(VIOLATION, PREPARATION, site, report=str(error), command=command, sentence=ALONE)
