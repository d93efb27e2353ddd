"""A database of a made-up soak, for tests of reports: a few rounds whose samples are drawn.

Everything is written through ``Records`` under a clock that is set by hand, so that times are known
and two databases of one ``Made`` are equal.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from shmalloc import constants as c
from shmalloc.errors import Violation
from stress.records.finding import Attachment, Finding
from stress.records.writer import Records, Work
from stress.run.accounts import Account
from stress.run.histogram import Histogram
from stress.run.memory import Snapshot
from stress.run.process_use import ProcessUse
from stress.run.progress import Moment

HOSTILE = "</script><script>document.title='gone'</script><img src=x onerror=document.title='gone'>"
TAIL = Violation("I_TAIL", "pfn 3128", "1", "2", (f"cpu 0: {HOSTILE}",), claim=0)
STARTED_S = 1_700_000_000.0
PAUSE_S = 2.0  # between two rounds
ORDERS = 11
PAGES = 65536
STATES = (c.T_FREE, c.T_PCP, c.T_ALLOCATED, c.T_SLAB)
CALLS = 2000  # timed in each round


@dataclass(frozen=True)
class Made:
    """What to make. ``link_stores``: rounds take them in turns; the second one is ``slower``."""

    rounds: int = 3
    samples: int = 20  # of a round, a second apart
    workers: int = 3
    workloads: tuple[str, ...] = ("churn", "frag")
    link_stores: tuple[str, ...] = ("page",)
    slower: float = 1.0
    verdict: str = "PASSED"
    seed: int = 1


def make(path: Path, made: Made = Made(), finish: bool = True) -> int:
    """Write a run into the database at ``path`` and return its id; ``finish``: it comes to an end.

    There are two findings: a violation in the first round, and a race with its page.
    """
    clock = Clock()
    with mock.patch.object(time, "time", clock), Records(path) as records:
        machine = {"cores": 2, "memory_bytes": 8 << 30, "packages": {"numpy": "2.5.5"}}
        soak = Work("soak", f"shmstress soak --seed {made.seed:#x}", {"duration": "1h"}, made.seed)
        run = records.begin_run(soak, machine, "5ca1ab1e")
        for number in range(made.rounds):
            _round(records, run, made, number, clock)
        if finish:
            records.end_run(run, made.verdict)
    return run


class Clock:
    """The time, set by hand."""

    def __init__(self) -> None:
        self.now_s = STARTED_S

    def __call__(self) -> float:
        return self.now_s


def _round(records: Records, run: int, made: Made, number: int, clock: Clock) -> None:
    draw = random.Random(made.seed * 1000 + number)
    store = made.link_stores[number % len(made.link_stores)]
    speed = made.slower if number % len(made.link_stores) else 1.0
    spec = {
        "workload": ",".join(made.workloads),
        "workers": str(made.workers),
        "ram": "256MiB",
        "zones": "128MiB,128MiB",
        "link-store": store,
    }
    work = Work("run", f"shmstress run --link-store {store} --seed {number:#x}", spec, number)
    features = [name for name in ("poison", "holes", "zero") if draw.random() < 0.5]
    round_id = records.begin_round(run, work, features)
    done = dict.fromkeys(made.workloads, 0)
    map_before: bytes | None = None
    began_s = clock.now_s
    for second in range(1, made.samples + 1):
        clock.now_s = began_s + second
        for at, name in enumerate(made.workloads):
            done[name] += round((at + 1) * 1e6 / speed * draw.uniform(0.9, 1.1))
        moment = moment_of(draw, second, clock.now_s, done, made.workers)
        records.sample(round_id, moment, moment.ram_map != map_before)
        map_before = moment.ram_map
    if number < 2:
        records.violations(round_id, [TAIL], "shmstress run --seed 0x2a")
    if number == 0:
        _find(records, round_id)
    _end(records, round_id, made, number, done, speed)
    clock.now_s += PAUSE_S


def moment_of(
    draw: random.Random, second: int, time_s: float, done: dict[str, int], workers: int
) -> Moment:
    """One sample of a round."""
    roles = ["controller", "forkserver", *(f"worker {n}" for n in range(workers))]
    snapshot = Snapshot(
        events=tuple(draw.randrange(1000) for _ in range(c.EV_COUNT)),
        free_by_order=tuple(draw.randrange(2 << (ORDERS - order)) for order in range(ORDERS)),
        pcp_pages=tuple(draw.randrange(100) for _ in range(workers)),
        free_pages=draw.randrange(PAGES // 2),
        isolated_pages=0,
        managed_pages=PAGES,
        reports=0,
    )
    return Moment(
        elapsed_s=float(second),
        duration_s=3600.0,
        audits=second // 5,
        snapshot=snapshot,
        accounts=tuple(Account(name, count, 0, 0.01, True) for name, count in done.items()),
        time_s=time_s,
        processes=tuple(
            ProcessUse(
                pid=100 + at,
                role=role,
                rss_bytes=80 << 20,
                private_bytes=(20 << 20) + draw.randrange(1 << 20),
                shared_bytes=40 << 20,
                fds=20 + at,
                threads=1,
                cpu_s=float(second),
            )
            for at, role in enumerate(roles)
        ),
        ram_map=bytes(draw.choices(STATES, k=512)) if second % 5 == 1 else None,
    )


def a_moment(second: int = 1) -> Moment:
    """A sample that is like any other."""
    return moment_of(random.Random(second), second, float(second), {"churn": second}, 2)


def _find(records: Records, round_id: int) -> None:
    from support import failures

    failure = failures.race()
    race = Finding(
        kind="schedule",
        invariant="race",
        site="push: mem[at] = value",
        report=failure.report(),
        command="shmstress replay shm1/x",
        sentence=HOSTILE,
        attachments=[Attachment.of_text("race.html", failure.html(), "text/html")],
    )
    records.finding(round_id, race)


def _end(
    records: Records, round_id: int, made: Made, number: int, done: dict[str, int], speed: float
) -> None:
    draw = random.Random(made.seed * 1000 + number)
    latencies = {name: Histogram() for name in ("alloc_pages", "free_pages")}
    for at, histogram in enumerate(latencies.values()):
        for _ in range(CALLS):
            histogram.add(round(draw.lognormvariate(4 + at, 0.5) * speed))
    workloads = [
        {"name": name, "ops": count, "seconds": float(made.samples * made.workers)}
        for name, count in done.items()
    ]
    result = {
        "workloads": workloads,
        "marks": {"a page was stolen": 7 * number, HOSTILE: 0},
        "events": {"alloc": 5},
    }
    operations = sum(done.values())
    records.end_round(round_id, "PASSED", float(made.samples), operations, result, latencies)
