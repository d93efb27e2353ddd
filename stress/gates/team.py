"""The processes of a program: one for each CPU, over one shared memory, each with its gates.

They are forks of the process that compiled the kernels, so they have any program that it has, and
nothing to load. The memory is shared and has no name: it disappears with the last of them.

A process tells the end of its kernel through a pipe, and by DONE in its block. It is killed when
its parent ends. Fork a team in a process with no other threads, as ``shmstress`` is.
"""

from __future__ import annotations

import mmap
import multiprocessing
import warnings
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import numpy as np

from shmalloc.errors import KernelFault
from shmalloc.memory import Ram
from shmalloc.parent import end_with_parent
from shmalloc.processes import start_ticks, state_of
from stress import signals
from stress.gates import state as gate_state
from stress.gates.native import GateEngine, GateRam
from stress.machine.program import Program

JOIN_S = 5.0
_engine: list[GateEngine] = []


@dataclass(frozen=True)
class End:
    """How the kernel of a CPU ended: what it returned, or the fault that ended it."""

    value: int = 0
    fault: str = ""  # its kind, one of shmalloc.errors
    code: int = 0  # what was expected, or the word that is outside
    text: str = ""


def gate_engine() -> GateEngine:
    """The engine of this process; ``EnvironmentUnfitError`` where compiled kernels cannot run."""
    if not _engine:
        _engine.append(GateEngine())
    return _engine[0]


def shared_words(count: int) -> Any:
    """Zeroed memory for ``count`` words that forks share."""
    return mmap.mmap(-1, -(-count * 8 // mmap.PAGESIZE) * mmap.PAGESIZE)


class Team:
    """A process for each CPU of ``program``, all held before their first access.

    ``buffer``: the shared memory, which the team initializes. Use in a ``with`` block.
    """

    def __init__(self, program: Program) -> None:
        cpus = len(program.threads)
        gate_engine().warm(program.threads)
        self._buffer = memoryview(shared_words(program.words))[: program.words * 8]
        self.ram = Ram(self._buffer)
        program.initialize(self.ram)
        words = np.frombuffer(shared_words(cpus * gate_state.BLOCK_WORDS), np.int64)
        self.blocks = [
            words[cpu * gate_state.BLOCK_WORDS : (cpu + 1) * gate_state.BLOCK_WORDS]
            for cpu in range(cpus)
        ]
        for block in self.blocks:
            block[gate_state.NEXT] = 1
        self.program = program
        self.ends: list[End | None] = [None] * cpus
        self._members: list[tuple[Any, Connection]] = []

    def start(self) -> None:
        """Fork the processes."""
        context = multiprocessing.get_context("fork")
        for cpu, thread in enumerate(self.program.threads):
            ram = GateRam(self._buffer, self.blocks[cpu])
            call = gate_engine().builtin(thread, ram)
            ours, theirs = context.Pipe()
            given = (call, ram, (cpu, *self.program.arguments[cpu]), theirs)
            process = context.Process(target=_main, args=given, name=f"cpu-{cpu}", daemon=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # threads of numpy's OpenBLAS
                process.start()
            theirs.close()
            self._members.append((process, ours))

    def gate(self, cpu: int, word: int) -> int:
        return int(self.blocks[cpu][word])

    def allow(self, cpu: int, count: int, following: int) -> None:
        """Let a held process make its access ``count``; hold it before ``following``, 0: never."""
        self.blocks[cpu][gate_state.NEXT] = following
        self.blocks[cpu][gate_state.GRANTED] = count

    def set_outcomes(self, cpu: int, outcomes: tuple[tuple[int, int], ...]) -> None:
        """What a ``choose`` gives, before the start: (number of the access, value)."""
        for k, (count, value) in enumerate(outcomes):
            at = gate_state.FIRST_OUTCOME + 2 * k
            self.blocks[cpu][at], self.blocks[cpu][at + 1] = count, value
        self.blocks[cpu][gate_state.OUTCOMES] = len(outcomes)

    def is_done(self, cpu: int) -> bool:
        """Whether the kernel of ``cpu`` has ended; then ``ends`` knows how."""
        if self.ends[cpu] is None:
            process, pipe = self._members[cpu]
            if pipe.poll() or not process.is_alive():
                self.ends[cpu] = _received(process, pipe)
        return self.ends[cpu] is not None

    def sleeps(self, cpu: int) -> bool:
        """Whether the process is asleep in a ``wait``: its system says so, and its block does."""
        if self.gate(cpu, gate_state.DOING) != gate_state.WAITING:
            return False
        pid = int(self._members[cpu][0].pid)
        return state_of(pid, start_ticks(pid) or 0) == "sleeping"

    @property
    def returns(self) -> list[int]:
        return [end.value if end is not None else 0 for end in self.ends]

    def again(self) -> None:
        """Begin anew: memory as at first, every process before its first access.

        All must have ended, none by its death."""
        self.program.initialize(self._prepared())
        for cpu, block in enumerate(self.blocks):
            block[: gate_state.OUTCOMES] = 0
            block[gate_state.NEXT] = 1
            self.ends[cpu] = None
            self._members[cpu][1].send(None)

    def _prepared(self) -> Ram:
        self.ram.array[:] = 0
        return self.ram

    def close(self) -> None:
        """End all processes, held and sleeping ones included."""
        for process, _ in self._members:
            process.kill()
        for process, pipe in self._members:
            process.join(JOIN_S)
            pipe.close()
            process.close()
        self._members.clear()

    def __enter__(self) -> Team:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _received(process: Any, pipe: Connection) -> End:
    try:
        end: End = pipe.recv()
    except (EOFError, ConnectionResetError):
        process.join(JOIN_S)
        return End(fault="death", text=f"the process ended with code {process.exitcode}")
    return end


def _main(call: Any, ram: GateRam, arguments: tuple[int, ...], pipe: Connection) -> None:
    """The whole life of one process. ``ram`` keeps its words alive."""
    end_with_parent()
    signals.ignore()  # they reach the whole group: one decides
    with suppress(EOFError, ConnectionError):  # the team is gone
        while True:
            pipe.send(_ended(call, arguments))
            pipe.recv()


def _ended(call: Any, arguments: tuple[int, ...]) -> End:
    try:
        return End(int(call(*arguments) or 0))
    except KernelFault as fault:
        index = fault.index if fault.index is not None else 0
        return End(fault=fault.kind, code=index, text=str(fault))
