"""The rounds of a soak: the number of a round and the seed of the soak decide all of it.

Each choice has a name and draws from the seed of the round and that name (``Draw``), so that a new
choice changes no other. Nothing here depends on what earlier rounds found, or on the time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from shmalloc.errors import MisuseError
from stress.crash.allocator import case_names
from stress.explorer.targets import GLOB_SIGNS
from stress.line import Line, Value
from stress.programs import PROGRAMS
from stress.programs.worlds import SIGN, worlds_for
from stress.quantities import counted, exact_bytes, exact_duration, nearest
from stress.seeds import derive
from stress.soak.features import EVEN, SELDOM, Draw, Feature
from stress.soak.run_draw import draw_run, draw_trace, known_features, pool_of, trace_pool_of
from stress.soak.run_features import WORKLOAD
from stress.soak.spec import SoakSpec, matching
from stress.spec import RunSpec
from stress.trace.format import load

STRATEGIES = ("auto", "dpor", "surw", "pct", "pos", "random")
MEMORIES = ("sc", "tso")
CRASH_SEEDS = 24
SEARCH_SEED_BITS = 32
CHOICES = ("strategy", "memory", "engine", "depth")  # of explorations, that count as features


@dataclass(frozen=True)
class Round:
    """``command`` repeats the round alone, from ``seed``; it works for ``seconds`` at most.

    ``spec``: its settings, as data. ``words``: what it is, for people. ``on``, ``off``: its
    features, by name.
    """

    number: int
    kind: str
    seed: int
    command: str
    seconds: float
    words: str
    spec: Mapping[str, object]
    on: tuple[str, ...] = ()
    off: tuple[str, ...] = ()


class Drawer:
    """Draws the rounds of one soak on a machine with ``cores`` usable cores.

    Raises ``MisuseError`` if a program or a feature is unknown, a recording cannot be read, or
    nothing is left to draw.
    """

    def __init__(self, spec: SoakSpec, cores: int) -> None:
        self.spec = spec
        self._cores = cores
        self._programs = _meant(spec.programs, PROGRAMS) + _files(spec.programs)
        self._cases = _meant(spec.programs, case_names())
        _require_known(spec.programs, {*self._programs, *self._cases})
        known = [feature.name for feature in known_features(spec.workloads)]
        for pattern in spec.without:
            if not matching(known, [pattern]):
                raise nearest(pattern, known, "without")
        empty = {
            *(["explore"] if not self._programs else []),
            *(["crash"] if not self._cases else []),
            *(["run"] if not spec.workloads else []),
            *(["trace"] if not spec.traces else []),
        }
        if spec.weights.of("trace"):
            for file in spec.traces:
                load(file)  # now rather than in the night
        self._weights = {k: w for k, w in spec.weights.by_kind.items() if k not in empty}
        if not self._weights:
            raise MisuseError(
                f"weights: {spec.weights} leave no round to draw: {', '.join(sorted(empty))} have"
                " nothing to run; change --weights, --only, --program or --workload"
            )

    def round(self, number: int) -> Round:
        """The round of that number, from 1."""
        seed = derive(self.spec.seed, f"round {number}")
        kind = Draw(seed, "kind").weighted(self._weights)
        if kind in ("run", "trace"):
            draw = draw_run if kind == "run" else draw_trace
            run, on = draw(self.spec, seed, self._cores)
            return self._of_run(number, kind, run, on)
        search = hex(derive(seed, "search") & ((1 << SEARCH_SEED_BITS) - 1))
        line = self._explore(seed, search) if kind == "explore" else self._crash(seed, search)
        on_names = tuple(f"{n}:{value}" for n, value in line.options.items() if n in CHOICES)
        words = f"{line.targets[0]}, {', '.join(on_names) or 'one death'}"
        spec = {"program": line.targets[0], **line.options}
        seconds = self.spec.round_time_s
        return Round(number, kind, int(search, 0), str(line), seconds, words, spec, on_names)

    def features(self, kind: str) -> list[str]:
        """The names of all features that rounds of a kind may have."""
        return [feature.name for feature in self._pool(kind)]

    def _pool(self, kind: str) -> list[Feature]:
        match kind:
            case "run":
                return pool_of(self.spec, self.spec.workloads)
            case "trace":
                return trace_pool_of(self.spec)
            case _:
                return []

    def _of_run(self, number: int, kind: str, run: RunSpec, on: Sequence[Feature]) -> Round:
        names = tuple(feature.name for feature in on)
        off = tuple(name for name in self.features(kind) if name not in names)
        others = ", ".join(name for name in names if not name.startswith(WORKLOAD))
        words = (
            f"{','.join(run.workloads)} in {counted(run.workers, 'worker')},"
            f" {exact_bytes(run.ram_bytes)}: {others or 'no feature'}"
        )
        command, spec = run.command_line(), run.as_dict()
        return Round(number, kind, run.seed, command, run.duration_s, words, spec, names, off)

    def _explore(self, seed: int, search: str) -> Line:
        """A program under a strategy and a memory model; every now and then interpreted."""
        options: dict[str, Value] = {
            "strategy": Draw(seed, "strategy").one(STRATEGIES),
            "memory": Draw(seed, "memory").one(MEMORIES),
            "duration": exact_duration(self.spec.round_time_s),
            "seed": search,
        }
        if Draw(seed, "engine").chance(SELDOM):
            options["engine"] = "interpreted"
        program = Draw(seed, "program").one(self._programs)
        return Line("explore", (_in_some_world(seed, program),), options)

    def _crash(self, seed: int, search: str) -> Line:
        """A case; in every second round the supervisors die, too."""
        options: dict[str, Value] = {
            "duration": exact_duration(self.spec.round_time_s),
            "seeds": str(CRASH_SEEDS),
            "seed": search,
        }
        if Draw(seed, "depth").chance(EVEN):
            options |= {"depth": "2", "stride": str(Draw(seed, "stride").between(3, 31))}
        return Line("crash", (_in_some_world(seed, Draw(seed, "case").one(self._cases)),), options)


def _in_some_world(seed: int, target: str) -> str:
    """A program or a case, every other time in a world that it is not written for."""
    worlds = worlds_for(target) if ":" not in target and not target.endswith(".py") else []
    if not worlds or not Draw(seed, "in another world").chance(EVEN):
        return target
    return f"{target}{SIGN}{Draw(seed, 'world').one(worlds)}"


def _meant(patterns: Collection[str], known: Collection[str]) -> list[str]:
    """The names that ``patterns`` mean."""
    return [name for pattern in patterns for name in matching(known, [pattern])]


def _files(targets: Collection[str]) -> list[str]:
    """Programs of users: FILE.py, FILE.py:NAME, MODULE:NAME."""
    return [one for one in targets if one.endswith(".py") or ":" in one]


def _require_known(patterns: Collection[str], found: Collection[str]) -> None:
    for pattern in patterns:
        if not matching(found, [pattern]):
            raise nearest(pattern, [*PROGRAMS], "program (or a glob, FILE.py, FILE.py:NAME)")
        if GLOB_SIGNS & set(pattern) and pattern in found:
            raise MisuseError(f"program: {pattern!r}; a file's programs are named one by one")
