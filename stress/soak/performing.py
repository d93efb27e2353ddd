"""``Performer``: performs a command line in a process of its own, and passes on what it says.

Samples go to the database, if the round is recorded, and to the view: the same ones, with the
soak's own process among those that they list.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from stress.progress import Step
from stress.records.database import Busy
from stress.records.writer import Records
from stress.run.process_use import ProcessUse, use_of
from stress.run.progress import Moment
from stress.soak.child import RoundProcess
from stress.soak.messages import Begun, Going, Message, Outcome, Sampled, Told
from stress.soak.stops import Stops
from stress.soak.view import View

OWN_ROLE = "soak"


class Performer:
    """``missed``: samples that another writer of the database kept from being recorded.

    ``ignored``: fingerprints that rounds go past.
    """

    def __init__(self, records: Records, view: View, stops: Stops) -> None:
        self._records = records
        self._view = view
        self._stops = stops
        self._ram_map: bytes | None = None
        self.missed = 0
        self.ignored: tuple[str, ...] = ()

    def perform(self, command: str, seconds: float, round_id: int | None = None) -> Outcome:
        """``seconds``: of its work, at most. ``round_id``: the round that its samples belong to."""
        self._ram_map = None

        def receive(message: Message) -> None:
            match message:
                case Sampled(moment):
                    self._sample(moment, round_id)
                case Going(step):
                    self._view.step(step)
                case Told(text):
                    self._view.tell(text)
                case Begun():
                    self._view.step(Step("begun"))

        with RoundProcess(command, seconds, self.ignored) as process:
            return process.listen(receive, self._view.tick, self._stops)

    def _sample(self, moment: Moment, round_id: int | None) -> None:
        whole = replace(moment, processes=(*own_use(), *moment.processes))
        self._view.moment(whole)
        if round_id is None:
            return
        try:
            self._records.sample(round_id, whole, new_map=whole.ram_map != self._ram_map)
        except Busy:
            self.missed += 1
            return
        self._ram_map = whole.ram_map


def own_use() -> tuple[ProcessUse, ...]:
    """This process, as a part of every sample."""
    use = use_of(os.getpid(), OWN_ROLE)
    return () if use is None else (use,)


Perform = Callable[[str, float], Outcome]
