"""The worker processes of a run: what each is doing, and how each one ended.

Started through the forkserver (fork_server.py). ``Workers`` knows which are alive and carries
messages; it does not decide what a death means. Spares are workers without a slot, ready to take
that of a dead worker.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from stress.run import worker
from stress.run.last_words import LastWords
from stress.run.messages import Answer, Command, Take
from stress.surroundings import require_processes

KILL_JOIN_S = 5.0
SPARE = -1  # the slot of a worker that has none yet


@dataclass(eq=False)
class Member:
    """One worker as the controller sees it."""

    cpu: int
    process: BaseProcess
    pipe: Connection
    last_words: LastWords
    core: int | None = None
    workload: str | None = None
    working: bool = False  # has been told to do something and has not answered yet
    settled: bool = True  # its slot is its own; False for a spare until it said Ready
    idle: bool = False  # of a spare: it may be told to take a slot
    epoch: int = 0  # number of its claim of the slot
    vacant: bool = False  # dead, its slot recovered; no other worker has taken it yet
    pending_kill: str = ""  # how this run is about to kill it: "random" or "fuse"

    @property
    def pid(self) -> int:
        return self.process.pid or 0

    def forget(self) -> None:
        """Give back what we hold of a worker that is dead."""
        self.pipe.close()
        self.process.close()
        self.last_words.close()

    def __str__(self) -> str:
        if self.cpu == SPARE:
            return f"spare worker (pid {self.pid})"
        doing = f", workload {self.workload}" if self.workload else ""
        return f"worker {self.cpu} (pid {self.pid}, cpu slot {self.cpu}{doing})"


def cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0))


class Workers:
    """The workers of one run, by CPU slot, and the spares."""

    def __init__(self) -> None:
        self.members: list[Member] = []
        self.spares: list[Member] = []
        self._context = multiprocessing.get_context("forkserver")

    @property
    def all(self) -> list[Member]:
        return [*self.members, *self.spares]

    def start(self, tasks: list[worker.Task]) -> None:
        self.members += [self._start(task) for task in tasks]

    def start_spare(self, task: worker.Task) -> None:
        """Start a spare; it says Idle when it is ready."""
        spare = self._start(task)
        spare.working, spare.settled = False, False
        self.spares.append(spare)

    def _start(self, task: worker.Task) -> Member:
        ours, theirs = multiprocessing.Pipe()
        words = LastWords(task.log)
        cpu = SPARE if task.cpu is None else task.cpu
        name = f"shmstress-worker-{'spare' if cpu == SPARE else cpu}"
        given = (task, theirs, words.path)
        process = self._context.Process(target=worker.main, args=given, name=name)
        try:
            process.start()
        except (EOFError, ConnectionError):  # the forkserver died of a fork that failed
            require_processes(1, "workers")
            raise
        theirs.close()  # so that the end of the worker ends the pipe
        return Member(cpu, process, ours, words, task.core, working=True)

    def replace(self, dead: Member, log: str | None) -> Member | None:
        """Give the slot of ``dead`` to a spare, which takes it soon; None if none is ready."""
        spare = next((spare for spare in self.spares if spare.idle), None)
        if spare is not None:
            self.spares.remove(spare)
            spare.cpu, spare.core, spare.workload = dead.cpu, dead.core, dead.workload
            spare.idle = False
            self.members[dead.cpu] = spare
            dead.forget()
            if log is not None:
                spare.last_words.close()
                spare.last_words = LastWords(log)
            self.tell(spare, Take(spare.cpu, spare.core, log))
        return spare

    def tell(self, member: Member, command: Command) -> bool:
        """Send ``command``; False if the worker is gone."""
        if member.pipe.closed:
            return False
        try:
            member.pipe.send(command)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def listen(self, timeout_s: float) -> list[tuple[Member, Answer]]:
        """Answers that have come, waiting for at most ``timeout_s`` for one or for a death."""
        pipes = {member.pipe: member for member in self.all if not member.pipe.closed}
        sentinels = [member.process.sentinel for member in self.all if not member.vacant]
        ready = multiprocessing.connection.wait([*pipes, *sentinels], timeout_s)
        answers: list[tuple[Member, Answer]] = []
        for pipe, member in pipes.items():
            if pipe in ready:
                try:
                    answers.append((member, pipe.recv()))
                except (EOFError, ConnectionResetError):
                    member.pipe.close()
        return answers

    def dead(self) -> list[tuple[Member, int]]:
        """Workers that have ended, with their exit codes (negative: the signal)."""
        ended = [(m, m.process.exitcode) for m in self.all if not m.vacant]
        return [(member, code) for member, code in ended if code is not None]

    def kill(self) -> None:
        """End every worker that is left, now. Also stopped ones: SIGKILL needs no SIGCONT."""
        for member in self.all:
            if member.process.is_alive():
                member.process.kill()

    def join(self, timeout_s: float) -> bool:
        """Wait for all to end; whether they did."""
        for member in self.all:
            member.process.join(timeout_s)
        return all(member.process.exitcode is not None for member in self.all)

    def close(self) -> None:
        """Kill what is left and give back every descriptor."""
        self.kill()
        self.join(KILL_JOIN_S)
        for member in self.all:
            member.pipe.close()
            member.last_words.close()


def describe_exit(code: int) -> str:
    """An exit code in words: ``died by SIGSEGV``, ``ended with exit code 1``."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"died by {signal.Signals(-code).name}"
    except ValueError:
        return f"died by signal {-code}"


def process_state(pid: int) -> str:
    """What the system says a process is doing: ``running``, ``stopped``, ``disk-sleep``, ..."""
    import psutil  # which takes as long as starting a worker

    try:
        return str(psutil.Process(pid).status())
    except psutil.NoSuchProcess:
        return "gone"
