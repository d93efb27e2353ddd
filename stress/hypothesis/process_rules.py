"""The processes of a machine: they attach, fork, close their arena, attach again, end, are killed.

The machine's own process is number 0: it makes the arena, and stays. The others are children, or
their children (child.py). What each of them holds on the arena is a life, or several (model.py).
"""

from __future__ import annotations

from typing import Any, ClassVar

from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    precondition,
    rule,
)

from shmalloc import Arena
from stress.hypothesis.child import Child
from stress.hypothesis.hands import Hands
from stress.hypothesis.model import Life, Model

SMALL = {"page_bytes": 512, "max_order": 5, "pageblock_order": 3}


class Process:
    """One that uses the arena; ``child`` None: the machine. ``lives``: the last is the present one.

    ``active``: it has the arena open.
    """

    def __init__(
        self, number: int, lives: list[Life], hands: Hands | None = None, child: Child | None = None
    ) -> None:
        self.number, self.lives, self.hands, self.child = number, lives, hands, child

    @property
    def exists(self) -> bool:
        return self.hands is not None or self.child is not None

    @property
    def active(self) -> bool:
        return self.exists and not self.life.closed

    @property
    def life(self) -> Life:
        return self.lives[-1]

    def tell(self, method: str, *arguments: Any) -> Any:
        """``Hands.method`` in that process."""
        if self.child is not None:
            return self.child.tell(method, *arguments)
        return getattr(self.hands, method)(*arguments)

    def __repr__(self) -> str:
        return f"<Process {self.number}>"


class ProcessRules(RuleBasedStateMachine):
    """``geometry``: arguments of ``Arena.create``. ``max_children``: child processes at a time.

    ``engine``: of the machine's own process.
    """

    geometry: ClassVar[dict[str, Any]] = {"size": "256KiB", **SMALL}
    max_children: ClassVar[int] = 3
    engine: ClassVar[str] = "native"

    processes: Bundle[Process] = Bundle("processes")
    children: Bundle[Process] = Bundle("children")
    active = processes.filter(lambda process: process.active)
    forkable = children.filter(lambda process: process.exists)

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.running: list[Process] = []
        self.own: Process | None = None
        self.arena: Arena | None = None

    @initialize(target=processes)
    def create(self) -> Process:
        """The arena, with a CPU slot for each process."""
        arguments = {"cpus": self.max_children + 1, **self.geometry}
        self.arena = Arena.create(engine=self.engine, **arguments)
        self.own = Process(0, [Life(0)], hands=Hands(self.arena))
        return self.own

    @precondition(lambda self: len(self.running) < self.max_children)
    @rule(targets=(processes, children))
    def open(self) -> Process:
        """A child attaches."""
        assert self.arena is not None
        return self._runs([Life(self.model.number())], Child.attached(self.arena.name))

    @precondition(lambda self: 0 < len(self.running) < self.max_children)
    @rule(targets=(processes, children), process=forkable)
    def fork(self, process: Process) -> Process:
        """A child forks: its child has a reference for each of its own."""
        assert process.child is not None
        lives = [life for life in process.lives if not life.over]
        forked = self.model.forked(lives)
        if process.life.over:
            forked.append(Life(self.model.number(), closed=True, over=True))
        return self._runs(forked, process.child.fork())

    def _runs(self, lives: list[Life], child: Child) -> Process:
        made = Process(self.model.number(), lives, child=child)
        self.running.append(made)
        return made

    @rule(process=children.filter(lambda process: process.active))
    def detach(self, process: Process) -> None:
        """It closes its arena; arrays that it has open stay, and with them its claim."""
        process.tell("detach")
        self.model.closed(process.life)

    @rule(process=children.filter(lambda process: process.exists and not process.active))
    def attach(self, process: Process) -> None:
        """It attaches again."""
        assert self.arena is not None
        process.tell("attach", self.arena.name)
        process.lives.append(Life(self.model.number()))

    @rule(process=consumes(children))
    def kill(self, process: Process) -> None:
        """SIGKILL; then its claims are recovered, and what it owned is freed."""
        if process.exists:
            self._is_killed(process)

    @rule(process=consumes(children))
    def close(self, process: Process) -> None:
        """It closes its arena and ends; what it allocated stays."""
        if process.exists:
            self._ends(process)

    def _is_killed(self, process: Process) -> None:
        lives = [life for life in process.lives if not life.over]
        child = self._remove(process)
        child.kill()
        assert self.arena is not None
        recovered = self.arena.recover()
        assert [dead.pid for dead in recovered] == [child.pid] * len(lives), recovered
        reaped = sum(map(self.arena.reap, recovered))
        owned = self.model.died(lives)
        assert reaped == owned, f"{reaped} blocks and objects were freed; it owned {owned}"

    def _ends(self, process: Process) -> None:
        self._remove(process).end()
        self.model.left(process.lives)

    def _remove(self, process: Process) -> Child:
        child = process.child
        assert child is not None
        self.running.remove(process)
        process.child = None
        return child

    def teardown(self) -> None:
        """No process and no segment stays, however the steps ended."""
        for process in list(self.running):
            self._remove(process).kill()
        if self.arena is not None:
            self.arena.close()
