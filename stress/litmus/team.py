"""``Team``: the processes of a litmus run, one for each role, pinned to cores.

They are forks of the forkserver, which has the kernel loaded, and live for the whole run; between
two turns they wait for their pipes. The controller sends a number of rounds, and the process
answers with the result of ``play_rounds``; an answer before the first message means ready.

A process that loses its controller reads the end of its pipe and exits. One that loses a partner in
the middle of a turn gives up after some seconds and answers LOST.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import time
from contextlib import suppress
from multiprocessing import reduction
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

from shmalloc.engine import asymmetric, get_engine
from stress import signals
from stress.litmus.arena import Arena
from stress.litmus.cells import LOST, play_rounds
from stress.run.workers import KILL_JOIN_S, describe_exit

READY = 0


class TeamError(Exception):
    """A process of the team died or lost its partners: the turn does not count."""


class Team:
    """``processes`` processes over the arena in ``file``. Use in a ``with`` block."""

    def __init__(self, file: int, processes: int, cores: list[int]) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self.members: list[tuple[BaseProcess, Connection]] = []
        try:
            for cpu in range(processes):
                self._start(file, cpu, cores[cpu % len(cores)])
            self._gather(processes)
        except BaseException:
            self.close()
            raise

    def _start(self, file: int, cpu: int, core: int) -> None:
        ours, theirs = multiprocessing.Pipe()
        process = self._context.Process(
            target=_main, args=(cpu, core, _SharedFile(file), theirs), name=f"litmus-{cpu}"
        )
        process.start()
        theirs.close()  # so that the end of the process ends the pipe
        self.members.append((process, ours))

    def play(self, processes: int, rounds: int) -> float:
        """Let the first ``processes`` play ``rounds`` rounds; returns the seconds."""
        begin = time.perf_counter()
        for _, pipe in self.members[:processes]:
            with suppress(BrokenPipeError, ConnectionResetError):  # gather reports the end
                pipe.send(rounds)
        self._gather(processes)
        return time.perf_counter() - begin

    def _gather(self, processes: int) -> None:
        """One answer from each of the first ``processes``. Raises ``TeamError``."""
        missing = {pipe: cpu for cpu, (_, pipe) in enumerate(self.members[:processes])}
        while missing:
            for pipe in multiprocessing.connection.wait(list(missing)):
                assert isinstance(pipe, Connection)
                cpu = missing.pop(pipe)
                try:
                    answer = pipe.recv()
                except (EOFError, ConnectionResetError):
                    raise TeamError(f"process {cpu} {self._end_of(cpu)}") from None
                if answer == LOST:
                    raise TeamError(f"process {cpu} lost its partner, which does not answer")

    def _end_of(self, cpu: int) -> str:
        process, _ = self.members[cpu]
        process.join(KILL_JOIN_S)
        code = process.exitcode
        return "closed its pipe but still runs" if code is None else describe_exit(code)

    def close(self) -> None:
        """End all processes, stopped ones included, and close every descriptor."""
        for process, _ in self.members:
            process.kill()
        for process, pipe in self.members:
            process.join(KILL_JOIN_S)
            pipe.close()

    def __enter__(self) -> Team:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _SharedFile:
    """A descriptor for a process that is being started."""

    def __init__(self, file: int) -> None:
        self._file: Any = file

    def __getstate__(self) -> Any:
        return reduction.DupFd(self._file)  # made here: it belongs to the process being started

    def __setstate__(self, sent: Any) -> None:
        self._file = sent.detach()

    def arena(self) -> Arena:
        """The memory in the file; the descriptor is no longer needed."""
        try:
            return Arena(self._file)
        finally:
            os.close(self._file)


def _main(cpu: int, core: int, file: _SharedFile, pipe: Connection) -> None:
    """The whole life of one process."""
    signals.ignore()  # they reach the whole group: one decides
    os.sched_setaffinity(0, [core])
    asymmetric.register()  # what needs it is not chosen where the system refuses
    arena = file.arena()
    play = get_engine("native").bind(play_rounds)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the controller is gone
        pipe.send(READY)
        while True:
            pipe.send(play(arena.ram, cpu, pipe.recv()))
