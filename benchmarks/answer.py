"""Everything that docs/the-answer.md says about this allocator, measured in one run.

``python benchmarks/answer.py --write docs/the-answer.md`` (``tox -e answer``) measures, keeps the
figures in docs/pictures/the-answer.json, draws docs/pictures/the-answer.svg and makes the generated
parts of the document anew; the sentences between them are a person's. ``--quick`` is for trying it:
fewer rounds, less memory, and no file is written without ``--write``. ``--again`` measures nothing
and makes the picture and the document anew from the figures that are kept.

Ends with 1 if the figures contradict a sentence (answer_claims.py). The full run takes less than
six minutes on two idle cores and 6 GiB of /dev/shm, the quick one less than one.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import psutil

sys.path.insert(0, str(Path(__file__).parent))

from answer_claims import broken_claims, elsewhere
from answer_hazards import hazards
from answer_measures import (
    FULL,
    MANY,
    ORDERS,
    QUICK,
    SCATTERED,
    STORES,
    Effort,
    Figures,
    described,
    measure_filling,
    measure_fragmented,
    measure_huge,
    measure_memory,
    measure_starts,
    measure_stores,
    measure_switches,
    measure_tails,
)
from answer_page import rebuilt
from answer_plot import draw

from shmalloc.compiler import obtain
from shmalloc.sizes import format_bytes
from stress import explore
from stress.machine.native import kernels_of
from stress.programs import PROGRAMS, lookup

KEPT = Path(__file__).resolve().parent.parent / "docs" / "pictures" / "the-answer.json"
DIGITS = 5  # of a figure that is kept
Data = dict[str, Any]


def machine() -> Data:
    """What the figures are of."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    flags = "hypervisor" in Path("/proc/cpuinfo").read_text()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": names[0] if names else platform.machine(),
        "where": "a virtual machine" if flags else "no hypervisor",
        "cpus": os.cpu_count(),
        "memory": spaced(format_bytes(psutil.virtual_memory().total)),
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
    }


def spaced(size: str) -> str:
    """``256MiB`` as ``256 MiB``."""
    return re.sub(r"(?<=\d)(?=[A-Z])", " ", size)


def load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


def compared(figures: Figures, made: Data) -> dict[str, dict[str, float]]:
    """Ratios of two figures, round by round: what the document compares."""
    found = {}
    for name in list(figures.ratios):
        kind, _, store = name.rpartition(".")
        if store == "page" and kind.split(".")[0] in ("pair", "mixed", "scattered", "fragmented"):
            for other in elsewhere(made):
                found[f"{name}/{other}"] = figures.between(name, f"{kind}.{other}")
        if kind.startswith("small."):
            rest = name.removeprefix("small.")
            found[f"small/huge.{rest}"] = figures.between(name, f"huge.{rest}")
        if kind.startswith("huge.") and store == "page":
            found[f"{name}/descriptor"] = figures.between(name, f"{kind}.descriptor")
        if kind.startswith("tails.") and store != "none":
            found[f"{name}/none"] = figures.between(name, f"{kind}.none")
    return {name: described(ratios) for name, ratios in found.items()}


def readers() -> Data:
    """What readers without a lock see: every schedule of the programs about lookups."""
    programs = {name: PROGRAMS[name]() for name in lookup.PROGRAMS}
    obtain.obtain(kernels_of(programs.values()))  # one image: most of what they call is the same
    found: Data = {}
    for name, program in programs.items():
        runs = {m: explore(program, memory=m, strategy="dpor") for m in MEMORIES}
        for memory, run in runs.items():
            assert run.passed and run.classes is not None, f"{name}, {memory}: {run.verdict}"
        seen = {int(outcome[-1]) for run in runs.values() for outcome in run.outcomes}
        found[name] = {
            **{memory: run.classes for memory, run in runs.items()},
            "seen": sorted(MEANINGS[name].get(value, str(value)) for value in seen),
            "story": program.story,
        }
    return found


MEMORIES = ("sc", "tso")
_OWNERS = {0: "no owner", lookup.FIRST_OWNER: "the first owner"}
MEANINGS = {
    "lookup-owner-reuse": _OWNERS,
    "lookup-owner-reuse-3": _OWNERS,
    "lookup-get-and-reuse": {0: "that it is too late", 1: "the page, and kept it"},
}


def measured(effort: Effort, tell: Callable[[str], object]) -> Data:
    """The whole data of the document."""
    made: Data = {"stores": list(STORES), "orders": list(ORDERS)}
    made |= {"scattered": SCATTERED, "many": MANY}
    made["machine"] = machine() | {"load before": load()}
    made["counts"], made["rounds"] = list(effort.sizes), effort.rounds
    made["effort"] = "the full run" if effort is FULL else "the quick run"
    sizes = {"start": effort.start_bytes, "scattered": effort.scattered_bytes}
    made["sizes"] = {name: spaced(format_bytes(size)) for name, size in sizes.items()}
    figures = Figures(effort.rounds)
    steps: dict[str, Callable[[], Any]] = {
        "link stores": lambda: measure_stores(figures, effort),
        "fragmented memory": lambda: measure_fragmented(figures, effort),
        "poison and zero": lambda: measure_filling(figures),
        "refusals": lambda: measure_switches(figures),
        "huge": lambda: measure_huge(figures),
        "tails": lambda: measure_tails(figures),
        "memory": lambda: measure_memory(effort),
        "starts": lambda: measure_starts(figures, effort),
        "hazards": lambda: hazards(effort.stray_writes),
        "readers": readers,
    }
    for name, step in steps.items():
        start = time.monotonic()
        result = step()
        tell(f"{name}: {time.monotonic() - start:.0f} s")
        if result is not None:
            made[name] = result
    made["machine"]["load after"] = load()
    made["figures"] = figures.summary()
    made["figures"]["F"] = {"ratio": 1.0, "low": 1.0, "high": 1.0, "ns": median_ns(figures)}
    made["between"] = compared(figures, made)
    return made


def median_ns(figures: Figures) -> float:
    found = sorted(figures.ns["F"])
    return found[len(found) // 2]


def rounded(value: Any) -> Any:
    """The same with few digits: what is kept is what is shown."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list) else value


@click.command()
@click.option("--write", type=Path, help="the document, whose generated parts are made anew")
@click.option("--quick", is_flag=True, help="fewer rounds and less memory: to try it")
@click.option("--again", is_flag=True, help="measure nothing: from the figures that are kept")
def main(write: Path | None, quick: bool, again: bool) -> None:
    """Measure what docs/the-answer.md says."""
    tell = lambda text: click.echo(text, err=True)  # noqa: E731
    if again:
        made = json.loads(KEPT.read_text())
    else:
        made = rounded(measured(QUICK if quick else FULL, tell))
    page = None if write is None else rebuilt(write.read_text("utf-8"), made)
    if write is not None and page is not None:
        KEPT.write_text(json.dumps(made, indent=1) + "\n", "utf-8")
        draw(made, KEPT.with_suffix(".svg"))
        write.write_text(page, "utf-8")
    else:
        click.echo(json.dumps(made, indent=1))
    problems = broken_claims(made)
    for problem in problems:
        tell(f"the text is wrong: {problem}")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
