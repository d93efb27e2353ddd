"""``auto``: a glance, an attempt at a proof, and random strategies for what is left.

A search that tries everything (DPOR, or DFS where DPOR cannot) makes a short start: a small program
is done then, and proved. Otherwise a glance follows, a few hundred random schedules: most failures
show themselves there, long before a search that keeps to an order comes to them. Then the
systematic search goes on for as long as what it has left is likely to fit into the budget. The rest
of the budget goes to a portfolio of random strategies in turns, because no single one finds most
bugs. DFS knows no end of its own; it stays among them and has its turn.

A member that finds that a schedule did not repeat is out, and the others go on. The result says
which, and is no proof then; it is an error if no member is left.
"""

from __future__ import annotations

from dataclasses import replace

from stress.explorer.found import Found
from stress.explorer.searches import Budget, Continue, Plan, Search, refuses_dpor
from stress.machine.program import Program

AUTO = "auto"
ONLY_RANDOM = "portfolio"  # what the further workers of auto do
PORTFOLIO = ("surw", "pct", "pos", "random")
GLANCE = ("random", "pct", "surw")
START_SCHEDULES = 64  # of the systematic search, before the glance
START_SHARE = 0.05  # of the time
GLANCE_SCHEDULES = 450  # of all members of the glance together
GLANCE_SHARE = 0.1  # of the time
TRIAL_SHARE = 0.25  # of the budget, before the estimate decides
TURN_SECONDS = 0.5  # of one member of the portfolio
TURN_SCHEDULES = 2_000  # of its first turn


class Members:
    """The searches of one program, made when they have their first turn."""

    def __init__(self, program: Program, plan: Plan, budget: Budget) -> None:
        self.budget = budget
        self._program, self._plan = program, plan
        self._searches: dict[str, Search] = {}

    def member(self, strategy: str) -> Search:
        if strategy not in self._searches:
            plan = replace(self._plan, strategy=strategy)
            self._searches[strategy] = Search(self._program, plan, self.budget)
        return self._searches[strategy]

    @property
    def schedules(self) -> int:
        """How many all have run."""
        return sum(search.schedules for search in self._searches.values())

    @property
    def over(self) -> bool:
        """Whether no member has another turn."""
        budget, searches = self.budget, self._searches.values()
        spent = budget.schedules is not None and self.schedules >= budget.schedules
        ended = any(search.failed or search.exhausted for search in searches)
        return ended or spent or budget.seconds_left <= 0 or budget.stop.is_set()

    @property
    def rest(self) -> int | None:
        """How many schedules the budget still has; None: as many as the time allows."""
        limit = self.budget.schedules
        return None if limit is None else limit - self.schedules

    def run(
        self,
        strategy: str,
        seconds: float | None,
        schedules: int | None,
        goes_on: Continue = lambda search: True,
    ) -> None:
        """One turn of a member: at most so long, so many schedules, and what the budget has."""
        search = self.member(strategy)  # may compile: before its turn begins
        limits = [count for count in (schedules, self.rest) if count is not None]
        budget = self.budget.slice(seconds, min(limits, default=None))
        search.run(budget, goes_on)

    def found(self) -> Found:
        """What all have found together."""
        total = Found()
        for strategy, search in self._searches.items():
            found = search.found()
            if found.diverged:
                found = replace(found, diverged=False, exhausted=False, out=[strategy])
            total.add(found)
            total.exhausted |= found.exhausted
        total.diverged = bool(total.out) and len(total.out) == len(self._searches)
        return total


def run_auto(program: Program, plan: Plan, budget: Budget) -> Found:
    """The whole of ``auto``, in one thread."""
    members = Members(program, plan, budget)
    systematic = "dfs" if refuses_dpor(program, plan.settings) else "dpor"
    with budget.until_interrupted():
        members.run(systematic, START_SHARE * budget.seconds_left, _part(budget, START_SCHEDULES))
        _glance(members)
        if not members.over:
            members.run(systematic, None, None, _worthwhile(members))
        _take_turns(members, (*PORTFOLIO, "dfs") if systematic == "dfs" else PORTFOLIO)
    return members.found()


def run_portfolio(program: Program, plan: Plan, budget: Budget) -> Found:
    """Random strategies only: what further workers do."""
    members = Members(program, plan, budget)
    _take_turns(members, PORTFOLIO)
    return members.found()


def _part(budget: Budget, schedules: int) -> int:
    """``schedules``, or less of a small budget."""
    limit = budget.schedules
    return schedules if limit is None else max(1, min(schedules, int(TRIAL_SHARE * limit)))


def _glance(members: Members) -> None:
    seconds = GLANCE_SHARE * members.budget.seconds_left
    schedules = _part(members.budget, GLANCE_SCHEDULES)
    for strategy in GLANCE:
        if not members.over:
            members.run(strategy, seconds / len(GLANCE), max(1, schedules // len(GLANCE)))


def _worthwhile(members: Members) -> Continue:
    """Whether the systematic search goes on: it is on trial, or what it has left fits."""
    budget = members.budget
    began_s, before = budget.elapsed, members.schedules
    trial_s = TRIAL_SHARE * max(budget.seconds_left, 0)
    trial = None if budget.schedules is None else TRIAL_SHARE * budget.schedules

    def goes_on(search: Search) -> bool:
        spent_s, ran = budget.elapsed - began_s, members.schedules - before
        if spent_s < trial_s and (trial is None or ran < trial):
            return True
        return search.plan.strategy == "dpor" and _fits(search, members, spent_s / max(ran, 1))

    return goes_on


def _fits(search: Search, members: Members, seconds_a_class: float) -> bool:
    """Whether the remaining classes are likely to be done before the budget ends."""
    search.sample_classes()
    found, rest = search.found(), members.rest
    assert found.classes is not None
    left = (found.estimate or 0) - found.classes
    in_time = left * seconds_a_class < members.budget.seconds_left
    return in_time and (rest is None or left < rest)


def _take_turns(members: Members, strategies: tuple[str, ...]) -> None:
    """Until the budget ends, or a member comes to an end."""
    limit, turn = members.budget.schedules, 0
    while not (members.over or all(members.member(name).diverged for name in strategies)):
        first = turn < len(strategies)
        share = TURN_SCHEDULES if first else None
        if limit is not None:
            share = min(share or limit, max(limit // (2 * len(strategies)), 1))
        members.run(strategies[turn % len(strategies)], TURN_SECONDS, share)
        turn += 1
