"""Hunts of single-token mutants, in a state that is carried on.

A mutant goes through stages until one finds it::

    programs   every program that reaches its kernel, interpreted and then compiled (glance.py)
    crash      every crash case that reaches it
    run        ``shmstress run`` with the default workloads and with kills
    tests      the tests beside the packages that name its module; a checkout has them

What the dialect refuses is no mutant. One that no stage finds is *equivalent* if
``equivalent.py`` has the argument, *needs C11* if it only weakens an order that the models here
keep anyway, and else it has *survived*: a hole in the worlds or the oracles.

The state is a file with a line of JSON for each mutant that was hunted, the newest one last. A line
is void when its function is no longer the one that was mutated, so a run after a change hunts what
the change has touched, and what was not yet hunted.
"""

from __future__ import annotations

import json
import queue
import random
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from shmalloc.errors import MisuseError
from stress.check.changes import PACKAGES, Changes
from stress.check.select import Ways, candidates, select
from stress.check.source import Name, Sources
from stress.mutants.equivalent import argument_for
from stress.mutants.glance import PREPARING
from stress.mutants.mutant import rewrite
from stress.mutants.runner import code_name, document_in
from stress.mutants.single_token import LOCKS, ORDER, TokenMutant
from stress.mutants.tree import ChildError, copy_packages, run_python
from stress.quantities import nearest
from stress.verdict import Verdict

PROGRAMS, CRASH, RUN, TESTS = STAGES = ("programs", "crash", "run", "tests")
KILLED, REFUSED, EQUIVALENT, NEEDS_C11, SURVIVED, TROUBLE = OUTCOMES = (
    "killed",
    "refused",
    "equivalent",
    "needs C11",
    "survived",
    "trouble",
)
PATIENCE_S = 900.0  # with a child: it has limits of its own, of processor time and of a watchdog
TESTS_CPU_S = 200  # for the tests that name a module of kernels
TEST_TIMEOUT_S = 90  # for one of them, which may have met a kernel that does not end
ENDLESS = "a kernel that does not end"
FAIREST_SHARE = 0.5  # of the time of the first stage: interpreted; the rest is compiled
KILLS = ("--faults", "kill:every=200ms")


@dataclass(frozen=True)
class Judged:
    """What became of one mutant. ``stage``: that found it; ``by``: the program, the workloads or
    the test; ``kind``: of its failure. ``stages``: that were tried. ``note``: why it was refused,
    the argument why it is equivalent, or what went wrong."""

    name: str
    digest: str
    outcome: str
    stage: str = ""
    by: str = ""
    kind: str = ""
    seconds: float = 0.0
    stages: tuple[str, ...] = ()
    note: str = ""

    def __str__(self) -> str:
        by = f" by {self.by} ({self.kind})" if self.by else f": {self.note}" if self.note else ""
        return f"{self.name}: {self.outcome}{by} after {self.seconds:.0f} s"


class State:
    """The file of what was judged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._judged: dict[str, Judged] = {}
        self._lock = threading.Lock()
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        for number, line in enumerate(lines, 1):
            try:
                fields = json.loads(line)
                one = Judged(**fields | {"stages": tuple(fields["stages"])})
            except (ValueError, TypeError, KeyError) as error:
                if number == len(lines):
                    break  # the last line of a run that was killed
                raise MisuseError(f"state: {path}:{number} is no line of a state") from error
            self._judged[one.name] = one

    def of(self, mutant: TokenMutant) -> Judged | None:
        """What was judged of this mutant of this function; None: nothing. An argument that was
        found since then is heard."""
        one = self._judged.get(mutant.name)
        if one is None or one.digest != mutant.digest:
            return None
        argument = argument_for(mutant) if one.outcome == SURVIVED else None
        return one if argument is None else replace(one, outcome=EQUIVALENT, note=argument)

    def stages_left(self, mutant: TokenMutant, wanted: Sequence[str]) -> tuple[str, ...]:
        """The stages that may still find the mutant: none, if it was found, or need not be."""
        one = self.of(mutant)
        if one is None:
            return tuple(wanted)
        if one.outcome not in (SURVIVED, NEEDS_C11):
            return ()
        return tuple(stage for stage in wanted if stage not in one.stages)

    def add(self, one: Judged) -> None:
        with self._lock:
            self._judged[one.name] = one
            with self._path.open("a", encoding="utf-8") as out:
                out.write(json.dumps(asdict(one)) + "\n")


def in_parts(mutants: Sequence[TokenMutant], parts: Iterable[str]) -> list[TokenMutant]:
    """Those of these modules of kernels; all without a part. Raises ``MisuseError`` for a name
    that no module has."""
    stems = {mutant.module.rpartition(".")[2] for mutant in mutants}
    for part in parts:
        if part not in stems:
            raise nearest(part, sorted(stems), "part")
    return [one for one in mutants if not parts or one.module.rpartition(".")[2] in parts]


def sampled(mutants: Sequence[TokenMutant], count: int, seed: int) -> list[TokenMutant]:
    """All of the locks, and ``count`` of the others, as many of each module as its share."""
    locks = [one for one in mutants if is_lock(one)]
    rest = [one for one in mutants if not is_lock(one)]
    wanted = min(count, len(rest))
    rng = random.Random(seed)
    groups: dict[str, list[TokenMutant]] = {}
    for one in rest:
        groups.setdefault(one.module, []).append(one)
    drawn: list[TokenMutant] = []
    exact = {module: len(group) * wanted / len(rest) for module, group in groups.items()}
    for module, group in groups.items():
        drawn += rng.sample(group, int(exact[module]))
    left = sorted(groups, key=lambda module: (int(exact[module]) - exact[module], module))
    chosen = {one.name for one in drawn}
    for module in left[: wanted - len(drawn)]:
        drawn.append(rng.choice([one for one in groups[module] if one.name not in chosen]))
    rng.shuffle(drawn)
    return locks + drawn


def is_lock(mutant: TokenMutant) -> bool:
    return mutant.module.rpartition(".")[2] in LOCKS


# --- one mutant ----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Hunt:
    """``seconds``: of each stage. ``tests``: the folder with the tests, if there is one."""

    stages: tuple[str, ...]
    seconds: float
    tests: Path | None = None

    def judge(self, mutant: TokenMutant, root: Path, state: State) -> Judged:
        """Hunt ``mutant`` in a copy of the packages at ``root``, in stages that it has not survived
        yet."""
        path = root / mutant.file
        original = path.read_text("utf-8")
        rewrite(path, mutant.patched(original))
        try:
            return self._judged(mutant, root, state)
        finally:
            rewrite(path, original)

    def _judged(self, mutant: TokenMutant, root: Path, state: State) -> Judged:
        before = state.of(mutant)
        spent, notes, tried = 0.0, list[str](), tuple[str, ...]()
        if before is not None:
            spent, tried = before.seconds, before.stages
            notes += [before.note] if before.note and before.outcome == SURVIVED else []
        for stage in state.stages_left(mutant, self.stages):
            tried = (*tried, stage)
            found = _STAGES[stage](self, mutant, root)
            spent += found.seconds
            if found.outcome in (KILLED, REFUSED, TROUBLE):
                fields = asdict(found) | {"seconds": spent, "stages": tried}
                return Judged(**fields)
            notes += [f"{stage}: {found.note}"] if found.note else []
        outcome, note = SURVIVED, "; ".join(notes)
        if (argument := argument_for(mutant)) is not None:
            outcome, note = EQUIVALENT, argument
        elif mutant.kind == ORDER:
            outcome, note = NEEDS_C11, "no model here lets a load or a store overtake another one"
        return Judged(mutant.name, mutant.digest, outcome, seconds=spent, stages=tried, note=note)

    def programs(self, mutant: TokenMutant, root: Path) -> Judged:
        names = [name for name in reaching(mutant) if not name.startswith("crash:")]
        interpreted = self.seconds * FAIREST_SHARE
        return self._glanced(mutant, root, PROGRAMS, names, interpreted, self.seconds - interpreted)

    def crash(self, mutant: TokenMutant, root: Path) -> Judged:
        names = [name for name in reaching(mutant) if name.startswith("crash:")]
        return self._glanced(mutant, root, CRASH, names, self.seconds, 0.0)

    def _glanced(
        self, mutant: TokenMutant, root: Path, stage: str, names: list[str], *seconds: float
    ) -> Judged:
        if not names:
            return Judged(mutant.name, mutant.digest, SURVIVED, note=f"no {stage} reach it")
        times = [f"{one:g}" for one in seconds]
        arguments = ["-m", "stress.mutants.glance", str(root), *times, *names]
        try:
            code, output, errors = run_python(root, arguments, PATIENCE_S)
        except ChildError as error:
            return Judged(mutant.name, mutant.digest, TROUBLE, note=str(error))
        if code == -signal.SIGXCPU:
            doing = errors.rstrip().rpartition("\n")[2]
            if doing.startswith(PREPARING):
                return _killed(mutant, stage, doing.split()[1], ENDLESS, sum(seconds))
            note = "the search took too long to say anything"
            return Judged(mutant.name, mutant.digest, SURVIVED, seconds=sum(seconds), note=note)
        told = document_in(code, output, errors, codes=(0,))
        if isinstance(told, str):
            return Judged(mutant.name, mutant.digest, TROUBLE, note=told)
        found = told["found"]
        if found is not None:
            kind = code_name(found["kind"], found["code"])
            by = f"{found['program']} ({found['memory']})"
            return _killed(mutant, stage, by, kind, float(found["seconds"]))
        refused = [one for one in told["problems"] if one.startswith(REFUSED)]
        outcome, note = (
            (REFUSED, refused[0]) if refused else (SURVIVED, "; ".join(told["problems"]))
        )
        return Judged(mutant.name, mutant.digest, outcome, seconds=told["seconds"], note=note)

    def run(self, mutant: TokenMutant, root: Path) -> Judged:
        """Without kills, and with them."""
        spent, note = 0.0, ""
        for options in ((), KILLS):
            arguments = [
                "-m",
                "stress",
                "run",
                "--duration",
                f"{self.seconds / 2:g}s",
                "--ram",
                "64MiB",
                "--seed",
                "1",
                "--progress",
                "never",
                "--json",
                "-",
                "--config",
                "/dev/null",
                *options,
            ]
            codes = {verdict.exit_code for verdict in Verdict}
            try:
                told = document_in(*run_python(root, arguments, PATIENCE_S), codes)
            except ChildError as error:
                return Judged(mutant.name, mutant.digest, TROUBLE, note=str(error))
            if isinstance(told, str):
                note = told
                continue
            result = told["results"][0]
            spent += float(result["seconds"])
            if told["verdict"] == Verdict.FAILED.name:
                groups = result["violation_groups"]
                kind = str(groups[0]["invariant"]) if groups else "worker"
                return _killed(mutant, RUN, " ".join(("run", *options)), kind, spent)
        return Judged(mutant.name, mutant.digest, SURVIVED, seconds=spent, note=note)

    def all_tests(self, mutant: TokenMutant, root: Path) -> Judged:
        files = [] if self.tests is None else tests_of(mutant.module, self.tests)
        if not files:
            return Judged(mutant.name, mutant.digest, SURVIVED)
        options = ["-x", "-q", "-p", "no:cacheprovider", "--timeout", f"{TEST_TIMEOUT_S:g}"]
        arguments = ["-m", "pytest", *options, *map(str, files)]
        try:
            code, output, _ = run_python(root, arguments, PATIENCE_S, TESTS_CPU_S)
        except ChildError as error:
            return Judged(mutant.name, mutant.digest, TROUBLE, note=str(error))
        if code == -signal.SIGXCPU:  # which the tests of the original may do as well
            note = f"the tests of the module take more than {TESTS_CPU_S} s of a processor"
            return Judged(mutant.name, mutant.digest, SURVIVED, note=note)
        failed = [line for line in output.splitlines() if line.startswith("FAILED ")]
        if code == 1 and failed:
            by = failed[0].removeprefix("FAILED ").partition(" - ")[0]
            return _killed(mutant, TESTS, Path(by).name, "test", 0.0)
        note = "" if code == 0 else f"pytest ended with exit code {code}"
        return Judged(mutant.name, mutant.digest, SURVIVED, note=note)


_STAGES: dict[str, Callable[[Hunt, TokenMutant, Path], Judged]] = {
    PROGRAMS: Hunt.programs,
    CRASH: Hunt.crash,
    RUN: Hunt.run,
    TESTS: Hunt.all_tests,
}


def _killed(mutant: TokenMutant, stage: str, by: str, kind: str, seconds: float) -> Judged:
    return Judged(mutant.name, mutant.digest, KILLED, stage, by, kind, seconds)


@cache
def _known() -> dict[str, Any]:
    return candidates((), crash=True)


@cache
def _ways() -> Ways:
    return Ways(Sources(PACKAGES))


@cache
def _reaching(module: str, function: str) -> tuple[str, ...]:
    changes = Changes("", {Name(module, function): 1})
    return tuple(select(_known(), changes, _ways()).chosen)


def reaching(mutant: TokenMutant) -> tuple[str, ...]:
    """The programs and crash cases that reach the mutant's kernel, the nearest ones first."""
    return _reaching(mutant.module, mutant.function)


def tests_of(module: str, folder: Path) -> list[Path]:
    """The tests that import a module of kernels."""
    return [path for path in sorted(folder.glob("test_*.py")) if module in path.read_text("utf-8")]


# --- all of them ---------------------------------------------------------------------------------
def hunt_in_turn(
    mutants: Iterable[TokenMutant], hunt: Hunt, roots: Sequence[Path], state: State
) -> Iterator[tuple[TokenMutant, Judged]]:
    """Judge the mutants, as many at a time as there are ``roots``, in whatever order they end."""
    todo: queue.SimpleQueue[TokenMutant] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[TokenMutant, Judged] | BaseException | None] = queue.SimpleQueue()
    for mutant in mutants:
        todo.put(mutant)
        reaching(mutant)  # here, and not in two threads at once
    stop = threading.Event()

    def work(root: Path) -> None:
        try:
            copy_packages(root)
            while not stop.is_set():
                mutant = todo.get_nowait()
                done.put((mutant, hunt.judge(mutant, root, state)))
        except queue.Empty:
            done.put(None)
        except BaseException as error:  # raised again by the thread that waits
            done.put(error)

    threads = [threading.Thread(target=work, args=(root,), daemon=True) for root in roots]
    for thread in threads:
        thread.start()
    running = len(threads)
    try:
        while running:
            told = done.get()
            if isinstance(told, BaseException):
                raise told
            if told is None:
                running -= 1
            else:
                yield told
    finally:
        stop.set()
