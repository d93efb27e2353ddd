"""``explore``: try the schedules of a program; ``auto`` decides how.

The budget is spent by one search, by several in threads, or by ``auto`` (auto.py); what they found
becomes a verdict here, and a failing schedule a failure with its cause.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from shmalloc.errors import MisuseError
from stress.explorer.address import target_of
from stress.explorer.auto import AUTO, ONLY_RANDOM, run_auto, run_portfolio
from stress.explorer.digest import digest_of
from stress.explorer.found import Found
from stress.explorer.guarantee import pct_guarantee, pct_note
from stress.explorer.known import Failing, Known
from stress.explorer.loading import stop_loading
from stress.explorer.report.cause import cause_of
from stress.explorer.report.explain import trace_of
from stress.explorer.report.failure import Failure
from stress.explorer.result import (
    ABANDONED,
    BUDGET,
    ERROR,
    EXHAUSTED,
    FAILED,
    INTERRUPTED,
    PASSED,
    Exploration,
    ExplorationInterrupted,
)
from stress.explorer.searches import SYSTEMATIC, Budget, Plan, Search, run_bounded, strategies
from stress.explorer.strategies.pct import MAX_DEPTH
from stress.explorer.symmetry import alike, follows_of, told
from stress.explorer.token import Token
from stress.explorer.vacuous import APART, never_meet, nothing_required, requires_nothing
from stress.explorer.watch import watched
from stress.explorer.witness import find_witness, preempted_steps, traced_machine
from stress.machine import block as cb
from stress.machine.arguments import whole, whole_of
from stress.machine.block_layout import Settings
from stress.machine.engines import ENGINES
from stress.machine.models import MODELS
from stress.machine.program import Program
from stress.machine.read_only import WROTE
from stress.progress import Report
from stress.quantities import nearest
from stress.seeds import derive
from stress.signals import noted

DEFAULT_SECONDS = 10.0
MAX_SEED = (1 << 40) - 1


def explore(
    program: Program,
    strategy: str = "auto",
    memory: str = "sc",
    schedules: int | None = None,
    seconds: float | None = DEFAULT_SECONDS,
    seed: int = 1,
    preemptions: int | None = None,
    depth: int = 3,
    step_limit: int = 10_000,
    engine: str = "native",
    races: bool = True,
    stop_on_failure: bool = True,
    delays: int | None = None,
    workers: int = 1,
    free_spins: int = 1,
    vain_spins: int | None = None,
    progress: Report | None = None,
    known: Callable[[Failure], bool] | None = None,
    symmetry: bool = False,
) -> Exploration:
    """Try schedules of ``program`` until one fails, all are done, or the budget ends.

    ``strategy``: random, pct, pos, surw, dfs, dpor or auto. ``memory``: sc, tso or pso.
    ``schedules``, ``seconds``: the budget, whichever ends first; None: no limit.
    ``preemptions``, ``delays``: with dfs, try bounds 0, 1, ... up to this one. ``depth``: of pct.
    ``step_limit``: longer schedules are cut and count as abandoned. ``races``: look for data races
    and torn pairs. ``workers``: threads that explore at once; exhaustive strategies use one, and
    under auto the others run random ones. ``free_spins``: with dfs and dpor, how often a CPU
    repeats a spin before it waits for a change (parking.py); ``vain_spins`` is its old name.
    ``progress``: receives the progress; by default the logger "stress" logs it every ten seconds.
    ``symmetry``: dfs and dpor (under auto, too) try CPUs that are alike up to permutation only; the
    result says which are (symmetry.py).
    ``known``: says of a failure that it is known; such ones are counted, and the search goes on.

    Raises ``MisuseError`` for invalid arguments, ``EngineError`` for kernels that do not compile,
    ``EnvironmentUnfitError`` if this machine cannot run the native engine, and for a Ctrl-C
    ``ExplorationInterrupted``, a ``KeyboardInterrupt`` that has what was found until then.
    """
    stop_loading()
    if not isinstance(program, Program):
        raise MisuseError(f"program: {program!r}; use a Program(name, words, threads, ...)")
    _require(strategy, memory, engine, schedules, seconds, workers, depth, seed)
    _require_bounds(strategy, preemptions, delays)
    settings = Settings(
        step_limit=step_limit,
        model=memory,
        races=races,
        free_spins=free_spins if vain_spins is None else vain_spins,
    )
    if symmetry:
        settings = replace(settings, follows=follows_of(alike(program), len(program.threads)))
    plan = Plan(strategy, settings, engine, seed, stop_on_failure, preemptions, delays, depth)
    budget = Budget(seconds, schedules)
    budget.ran = watched(program.name, budget, progress)
    if known is not None:
        budget.known = _known(program, plan, known)
    found = _run_workers(program, plan, budget, workers)
    result = _conclude(program, plan, budget, found, symmetry)
    if budget.interrupt is not None:
        raise ExplorationInterrupted(result) from budget.interrupt
    return result


def _known(program: Program, plan: Plan, is_known: Callable[[Failure], bool]) -> Known:
    """What the searches ask about each failure."""
    if not plan.stop_on_failure:
        raise MisuseError("ignore: not together with --all-failures; leave one of the two out")

    def look(failing: Failing) -> Failure | None:
        failure = _failure(program, plan, failing)
        if failure is None or failure.kind == WROTE:
            return None
        return failure if is_known(failure) else None

    return Known(look)


def _require(
    strategy: str,
    memory: str,
    engine: str,
    schedules: int | None,
    seconds: float | None,
    workers: int,
    depth: int,
    seed: int,
) -> None:
    for name, value, known in (
        ("strategy", strategy, (*strategies(), AUTO)),
        ("memory", memory, tuple(MODELS)),
        ("engine", engine, ENGINES),
    ):
        if value not in known:
            raise nearest(value, known, name)
    if schedules is not None and (whole(schedules) or 0) < 1:
        raise MisuseError(f"schedules: {schedules!r}; use at least 1, or None")
    if seconds is not None and (not isinstance(seconds, int | float) or not seconds > 0):
        raise MisuseError(f"seconds: {seconds!r}; use more than 0, or None")
    whole_of("workers", workers, 1)
    whole_of("depth", depth, 1, MAX_DEPTH)
    whole_of("seed", seed, 0, MAX_SEED)


def _require_bounds(strategy: str, preemptions: int | None, delays: int | None) -> None:
    bounds = {"preemptions": preemptions, "delays": delays}
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    if given and strategy != "dfs":
        raise MisuseError("preemptions, delays: bounds of strategy dfs; use strategy='dfs'")
    if len(given) == 2:
        raise MisuseError("preemptions, delays: two bounds at once; use one of them")
    for name, bound in given.items():
        whole_of(name, bound, 0)


def _run_workers(program: Program, plan: Plan, budget: Budget, workers: int) -> Found:
    """The first worker follows the plan; the others sample with different seeds."""
    exhaustive = plan.strategy in SYSTEMATIC
    if workers == 1 or exhaustive:
        found = _run(program, plan, budget)
        if workers > 1:
            found.notes.append(f"{plan.strategy} is one search: it ran in one worker")
        return found
    plans = [replace(plan, seed=_worker_seed(plan.seed, k)) for k in range(workers)]
    if plan.strategy == AUTO:
        plans[1:] = [replace(one, strategy=ONLY_RANDOM) for one in plans[1:]]
    total = budget.schedules
    shares = [
        None if total is None else total // workers + (k < total % workers) for k in range(workers)
    ]
    budgets = [Budget(budget.seconds, share, budget.stop, known=budget.known) for share in shares]
    budgets[0].ran = budget.ran  # the progress of one thread stands for all
    if plan.engine == "native":  # compile here: only this thread hears a signal
        Search(program, replace(plan, strategy="random"), budget)
    # threads suffice: compiled searches run without the interpreter's lock
    with noted(budget.interrupted), ThreadPoolExecutor(workers) as pool:
        runs = [pool.submit(_run, program, p, b) for p, b in zip(plans, budgets, strict=True)]
        try:
            founds = [run.result() for run in runs]
        except BaseException:
            budget.stop.set()
            raise
    budget.start = max(one.start for one in budgets)  # compiling does not count
    for other in founds[1:]:
        founds[0].add(other)
    return founds[0]


def _worker_seed(seed: int, worker: int) -> int:
    """Seeds of a worker are consecutive; those of two workers are disjoint."""
    return seed if worker == 0 else derive(seed, f"worker {worker}") >> 2


def _run(program: Program, plan: Plan, budget: Budget) -> Found:
    if plan.strategy == AUTO:
        found = run_auto(program, plan, budget)
        if found.exhausted:
            budget.stop.set()  # other threads have nothing to add to a proof
        return found
    if plan.strategy == ONLY_RANDOM:
        return run_portfolio(program, plan, budget)
    if plan.strategy == "dfs":
        return run_bounded(program, plan, budget)
    search = Search(program, plan, budget)
    with budget.until_interrupted():
        search.run()
    if search.diverged:
        budget.stop.set()  # what other threads find cannot be trusted, either
    search.sample_classes()
    return search.found()


# --- the result ----------------------------------------------------------------------------------
def _conclude(
    program: Program, plan: Plan, budget: Budget, found: Found, symmetry: bool
) -> Exploration:
    seconds = budget.elapsed
    found.weigh()
    failure = None
    if found.failing is not None and not found.diverged:
        failure = _failure(program, plan, found.failing)
        if failure is None:
            found.diverged = True
            found.notes.append("the failing schedule did not fail when it was run again")
        elif failure.kind == WROTE:
            found.notes.append(failure.trace.written)
            found.diverged, failure = True, None
    elif found.diverged:
        found.notes.append("a schedule that was run twice did not repeat")
    passed = budget.known.failures if budget.known is not None else ()
    if found.pct and failure is None and not passed:
        _add_bound(found, plan)
    ended = budget.interrupt is None
    if ended and _may_be_apart(program, found) and never_meet(program, plan.settings):
        found.notes.append(APART)
    verdict = _verdict(found, ended)
    if verdict in PASSED and requires_nothing(program):
        found.notes.append(nothing_required(plan.settings.races))
    if ended and not found.schedules:
        found.notes.append("no schedule was run before the budget ended; give it more")
    if symmetry:
        systematic = plan.strategy == AUTO or plan.strategy in SYSTEMATIC
        classes = found.classes if found.exhausted else None
        found.notes.append(told(program, systematic, classes))
    if budget.known is not None and passed:
        found.notes.append(budget.known.note())
    return Exploration(
        program=program, verdict=verdict, strategy=plan.strategy,
        memory=plan.settings.model, engine=plan.engine, seed=plan.seed,
        schedules=found.schedules, steps=found.steps, classes=found.classes,
        estimate=found.estimate, interval=found.interval,
        abandoned=found.abandoned, redundant=found.redundant,
        outcomes=found.outcomes, failure=failure, failures=found.failures, seconds=seconds,
        longest=found.longest, guarantee="" if failure else "; ".join(found.guarantees),
        note="; ".join(dict.fromkeys(found.notes)),
        known=passed,
    )  # fmt: skip


def _add_bound(found: Found, plan: Plan) -> None:
    """Add the bound of PCT; if there is none, and only PCT was asked for, why."""
    bound = pct_guarantee(found.pct)
    if bound:
        found.guarantees.append(bound)
    elif plan.strategy == "pct":
        found.notes.append(pct_note(found.pct))


def _may_be_apart(program: Program, found: Found) -> bool:
    """Whether nothing was found that needs CPUs to meet; several classes do."""
    clean = not (found.failing or found.diverged or found.abandoned) and found.schedules > 0
    return clean and len(program.threads) > 1 and (found.classes or 1) == 1


def _verdict(found: Found, ended: bool) -> str:
    if found.diverged:
        return ERROR
    if found.failing is not None:
        return FAILED
    if found.exhausted:
        return EXHAUSTED
    if not ended:
        return INTERRUPTED
    return ABANDONED if found.abandoned or not found.schedules else BUDGET


def _failure(program: Program, plan: Plan, failing: Failing) -> Failure | None:
    """The failing schedule, shrunk and repeated in Python; None if it does not fail again."""
    settings, trace, before = failing
    settings = replace(settings, follows=())  # a token knows no symmetry, and needs none
    witness = find_witness(program, settings, plan.engine, trace)
    if witness is None:
        return None
    kind, code, _ = witness.signature
    token = Token(
        target_of(program),
        settings.model,
        settings.parking,
        settings.free_spins,
        settings.step_limit,
        kind,
        code,
        digest_of(program),
        witness.directives,
    )
    machine, again = traced_machine(program, settings, witness.directives)
    # Python's own stack is deeper than a fiber's: the kernel may finish there
    if again != witness.signature and kind != "stack":
        return None
    shown = trace_of(machine, preempted_steps(machine))
    return Failure(
        program=program,
        kind=kind,
        code=code,
        schedule=str(token),
        shrunk=witness.shrunk,
        preemptions=int(machine.block[cb.PREEMPTIONS]),
        trace=shown,
        cause=cause_of(program, kind, code, shown),
        memory_model=settings.model,
        found_after=before,
        shrink_seconds=witness.seconds,
        replays=witness.replays,
    )
