"""``shmstress doctor``: can this machine run it, and with what."""

from __future__ import annotations

import json as json_module
import os

import click

from shmalloc.sizes import format_bytes
from stress.options import command as as_command
from stress.options import option
from stress.report.environment import environment
from stress.report.places import require_place, write_to
from stress.verdict import Verdict

WANTED_SHM_BYTES = 320 << 20  # a default run with its descriptors


@as_command("doctor")
@option(
    "--json",
    "json",
    is_flag=False,
    flag_value="-",
    metavar="FILE",
    help="Write the facts to FILE as JSON; - or no FILE is standard output.",
)
def command(json: str | None) -> int:
    """Check whether this machine can run shmstress: processor, shared memory, packages.

    Exit codes: 0 it can, 4 usage, 7 it cannot, with the reason and the cure.
    """
    from stress.tables import grid, show

    require_place("json", json)
    facts = environment()
    problems = find_problems(facts)
    if json is not None:
        write_to(json, json_module.dumps({**facts, "problems": problems}, indent=2) + "\n")
    if json != "-":
        table = grid("fact", "value", heading=False)
        for name, value in _readable(facts).items():
            table.add_row(name, value)
        show(table)
        for problem in problems:
            click.echo(f"!!! {problem}")
        click.echo("this machine cannot run it" if problems else "this machine can run it")
    return Verdict.UNFIT.exit_code if problems else 0


def find_problems(facts: dict[str, object]) -> list[str]:
    """Why a default run cannot work here, each with its cure; empty if it can."""
    from shmalloc.engine.doctor import native_problem

    problems = [native_problem()]
    if not os.access("/dev/shm", os.W_OK):
        problems.append("/dev/shm is not writable; remount it, or change its permissions")
    free = facts["shm_free_bytes"]
    assert isinstance(free, int)
    if free < WANTED_SHM_BYTES:
        problems.append(
            f"/dev/shm has {format_bytes(free)} free, a default run takes"
            f" {format_bytes(WANTED_SHM_BYTES)}; enlarge it, or use a smaller --ram"
        )
    return [problem for problem in problems if problem is not None]


def _readable(facts: dict[str, object]) -> dict[str, str]:
    texts = {name.removesuffix("_bytes"): str(value) for name, value in facts.items()}
    for name in ("memory", "shm_free"):
        texts[name] = format_bytes(int(texts[name]))
    packages = facts["packages"]
    assert isinstance(packages, dict)
    texts["packages"] = ", ".join(f"{name} {version}" for name, version in packages.items())
    return texts
