"""What a round does: the command line of one of four commands, performed in this process.

The same work as that of the command, but what it finds comes as data: run_round.py has runs of real
processes, search_round.py explorations.
"""

from __future__ import annotations

from collections.abc import Callable

from shmalloc.errors import EnvironmentUnfitError, MisuseError
from stress.quantities import nearest
from stress.records.fingerprint import Ignored
from stress.soak import run_round, search_round
from stress.soak.line import COMMANDS, Line
from stress.soak.messages import Message, Outcome
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

    ``ignored``: findings that an exploration goes past.
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
    except MisuseError as error:
        return Outcome(Verdict.ERROR, troubles=(f"{command}: {error}",))
