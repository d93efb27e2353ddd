"""The processes that use a segment: who they are, what they do, and on which word they sleep.

A pid and a start time name a process (shmalloc/processes.py); the pids of a segment mean something
only in the pid namespace of its owner. On which word a process sleeps is asked of the system, not
of the segment, which does not record it: ``/proc/PID/syscall`` shows the address of a futex, and
``/proc/PID/maps`` where the segment lies there. Both need the right to trace the process: a user
has it for his own ones unless ``kernel.yama.ptrace_scope`` forbids.
"""

from __future__ import annotations

import platform
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

from shmalloc.processes import command_of, state_of

DEAD = "dead"
ELSEWHERE = "in another pid namespace"
_FUTEX = {"x86_64": "202", "aarch64": "98"}
_MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) \S+ ([0-9a-f]+) \S+ (\d+) ", re.MULTILINE)


@dataclass(frozen=True)
class Process:
    """A process at a moment; ``state``: ``running``, ``sleeping``, ``stopped``, ``dead`` ..."""

    pid: int
    start: int
    state: str
    command: str

    @property
    def dead(self) -> bool:
        return self.state == DEAD

    @property
    def odd(self) -> bool:
        """Whether it does not run, and will not by itself."""
        return self.state in (DEAD, "stopped", "traced")


def short_command(command: str) -> str:
    """A command line without the folders of its program, nor the interpreter of a script."""
    first, _, rest = command.partition(" ")
    program = PurePath(first).name
    if program.startswith("python") and rest and not rest.startswith("-"):
        return short_command(rest)
    return f"{program} {rest}".rstrip()


def process_of(pid: int, start: int, ours: bool) -> Process:
    """What the system says of a process. ``ours``: its pid is of our namespace."""
    if not ours:
        return Process(pid, start, ELSEWHERE, "")
    state = state_of(pid, start)
    return Process(pid, start, state, "" if state == DEAD else command_of(pid))


class Sleepers:
    """Tells for the processes that map a file on which of its words they sleep. ``inode``: its."""

    def __init__(self, inode: int) -> None:
        self._inode = inode
        self._places: dict[tuple[int, int], tuple[tuple[int, int, int], ...]] = {}

    def by_word(self, processes: Iterable[Process]) -> dict[int, tuple[int, ...]] | None:
        """Word -> pids, one for each thread that sleeps on it; None if the system does not tell."""
        found: dict[int, list[int]] = defaultdict(list)
        for process in processes:
            if process.state in (DEAD, ELSEWHERE):
                continue
            try:
                for address in _futexes(process.pid):
                    word = self._word(process, address)
                    if word is not None:
                        found[word].append(process.pid)
            except PermissionError:
                return None
            except (FileNotFoundError, ProcessLookupError):  # it has ended
                continue
        return {word: tuple(pids) for word, pids in found.items()}

    def _word(self, process: Process, address: int) -> int | None:
        key = (process.pid, process.start)
        if key not in self._places:  # what is mapped stays there for the life of a segment
            self._places[key] = _mappings(process.pid, self._inode)
        for first, end, offset in self._places[key]:
            if first <= address < end:
                return (address - first + offset) // 8
        return None


def _futexes(pid: int) -> list[int]:
    """The addresses of the futexes that the threads of a process sleep on."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        call = (task / "syscall").read_text().split()
        if len(call) > 1 and call[0] == _FUTEX.get(platform.machine()):
            found.append(int(call[1], 16))
    return found


def _mappings(pid: int, inode: int) -> tuple[tuple[int, int, int], ...]:
    """(first address, end, offset in the file) of each mapping of the file."""
    text = Path(f"/proc/{pid}/maps").read_text(errors="replace")
    return tuple(
        (int(first, 16), int(end, 16), int(offset, 16))
        for first, end, offset, number in _MAPPING.findall(text)
        if int(number) == inode
    )
