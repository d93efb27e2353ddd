"""The crew: worker processes, what each is doing, and how each one ended.

Started through the forkserver: it loads the compiled kernels once, and every worker is a fork of
it. The crew knows who is alive and carries messages; what to do about a death is the controller's.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import psutil

from stress.run import worker
from stress.run.kernels import ENV_PRELOAD
from stress.run.messages import Answer, Command

KILL_JOIN_S = 5.0


@dataclass
class Member:
    """One worker as the controller sees it."""

    cpu: int
    process: BaseProcess
    pipe: Connection
    workload: str | None = None
    working: bool = False  # has been told to do something and has not answered yet

    @property
    def pid(self) -> int:
        return self.process.pid or 0

    def __str__(self) -> str:
        doing = f", workload {self.workload}" if self.workload else ""
        return f"worker {self.cpu} (pid {self.pid}, cpu slot {self.cpu}{doing})"


def cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(psutil.Process().cpu_affinity())


def start_forkserver(engine: str, workloads: tuple[str, ...]) -> None:
    """Let the forkserver begin to load the kernels, while the controller does something else."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["stress.run.preload"])
    os.environ[ENV_PRELOAD] = ",".join((engine, *workloads))
    try:
        forkserver.ensure_running()
    finally:
        del os.environ[ENV_PRELOAD]


class Crew:
    """The workers of one run, by CPU slot."""

    def __init__(self) -> None:
        self.members: list[Member] = []
        self._context = multiprocessing.get_context("forkserver")

    def start(self, tasks: list[worker.Task]) -> None:
        for task in tasks:
            ours, theirs = multiprocessing.Pipe()
            name = f"shmstress-worker-{task.cpu}"
            process = self._context.Process(target=worker.main, args=(task, theirs), name=name)
            process.start()
            theirs.close()  # so that the end of the worker ends the pipe
            self.members.append(Member(task.cpu, process, ours, working=True))

    def tell(self, member: Member, command: Command) -> bool:
        """Send ``command``; False where the worker is gone."""
        try:
            member.pipe.send(command)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def listen(self, timeout_s: float) -> list[tuple[Member, Answer]]:
        """Answers that have come, waiting for at most ``timeout_s`` for one or for a death."""
        pipes = {member.pipe: member for member in self.members if not member.pipe.closed}
        sentinels = [m.process.sentinel for m in self.members if not m.pipe.closed]
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
        ended = [(member, member.process.exitcode) for member in self.members]
        return [(member, code) for member, code in ended if code is not None]

    def kill(self) -> None:
        """End every worker that is left, now. Also stopped ones: SIGKILL needs no SIGCONT."""
        for member in self.members:
            if member.process.is_alive():
                member.process.kill()

    def join(self, timeout_s: float) -> bool:
        """Wait for all to end; whether they did."""
        for member in self.members:
            member.process.join(timeout_s)
        return all(member.process.exitcode is not None for member in self.members)

    def close(self) -> None:
        """Kill what is left and give back every descriptor."""
        self.kill()
        self.join(KILL_JOIN_S)
        for member in self.members:
            member.pipe.close()


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
    try:
        return str(psutil.Process(pid).status())
    except psutil.NoSuchProcess:
        return "gone"
