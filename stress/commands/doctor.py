"""``shmstress doctor``: can this machine run it, and with what."""

from __future__ import annotations

import json as json_module

import click

from shmalloc.engine.doctor import native_problem
from shmalloc.sizes import format_bytes
from stress.report.environment import environment
from stress.verdict import Verdict

WANTED_SHM_BYTES = 320 << 20  # a default run with its descriptors


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the facts as one JSON document.")
def command(as_json: bool) -> int:
    """Check processor, shared memory and packages; exits 7 where a run is impossible."""
    facts = environment()
    problems = find_problems(facts)
    if as_json:
        click.echo(json_module.dumps({**facts, "problems": problems}, indent=2))
    else:
        for name, value in _readable(facts).items():
            click.echo(f"{name:<12} {value}")
        for problem in problems:
            click.echo(f"!!! {problem}")
        click.echo("this machine cannot run it" if problems else "this machine can run it")
    return Verdict.UNFIT.exit_code if problems else 0


def find_problems(facts: dict[str, object]) -> list[str]:
    """Why a default run cannot work here, each with its cure; empty where it can."""
    problems = [native_problem()]
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
