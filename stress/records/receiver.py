"""``RecordingProgress``: writes a run's moments into the database, one a second, as they happen.

A run is not stopped by its database. A sample that another writer holds up is taken again at the
next moment. If the file cannot be written any more (a full disk), recording ends, ``trouble`` says
why, and the command that records must not call its run a success.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from shmalloc.errors import ShmallocError
from stress.records.database import Busy
from stress.records.writer import Records
from stress.run.progress import Moment, Progress
from stress.spec import RunSpec

SAMPLE_EVERY_S = 1.0


class RecordingProgress(Progress):
    """Samples of one round."""

    def __init__(
        self,
        records: Records,
        round_id: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trouble: str | None = None
        self._records = records
        self._round_id = round_id
        self._clock = clock
        self._due_s = clock()
        self._map: bytes | None = None

    def begin(self, spec: RunSpec) -> None:
        self._due_s = self._clock()

    def moment(self, take: Callable[[], Moment]) -> None:
        now_s = self._clock()
        if now_s >= self._due_s and self._recorded(take):
            self._due_s += SAMPLE_EVERY_S
            if self._due_s <= now_s:  # after a delay the next one is a second later, not at once
                self._due_s = now_s + SAMPLE_EVERY_S

    def last(self, take: Callable[[], Moment]) -> None:
        self._recorded(take)

    def _recorded(self, take: Callable[[], Moment]) -> bool:
        """Whether a moment was written."""
        if self.trouble is not None:
            return False
        moment = take()
        new_map = moment.ram_map != self._map
        try:
            self._records.sample(self._round_id, moment, new_map)
        except Busy:
            return False  # another process writes: the next moment is tried
        except ShmallocError as error:
            self.trouble = str(error)
            return False
        self._map = moment.ram_map
        return True
