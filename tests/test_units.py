"""Units are types for the checker only: it finds mixed units, and nothing else sees them."""

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from shmalloc import units
from shmalloc.compiler.digest import key_of
from shmalloc.compiler.instances import Instance
from shmalloc.engine.native import RAM
from stress import Program
from stress.explorer.digest import digest_of

ROOT = Path(__file__).resolve().parent.parent
HEAD = """\
from __future__ import annotations
from shmalloc.dialect import kernel
from shmalloc.units import Memory, Pfn, WordIndex
from shmalloc.words import load
"""
BARE = """
@kernel
def thread(mem, cpu):
    at = cpu + 1
    mem[at] = load(mem, at) + cpu
    return at
"""
ANNOTATED = """
@kernel
def thread(mem: Memory, cpu: int) -> WordIndex:
    at: WordIndex = cpu + 1
    mem[at] = load(mem, at) + cpu
    return at
"""
SWAPPED = """
from __future__ import annotations
from shmalloc.kernels.buddy import free_block, link_free
from shmalloc.kernels.lock import lock
from shmalloc.kernels.objects import cache_at, object_at
from shmalloc.kernels.reporting import cpu_of
from shmalloc.kernels.zone import pcp_at, zone_at
from shmalloc.units import CacheId, Claim, Cpu, Memory, Migratetype, Order, Pfn, ZoneId, ZoneWords

def swapped(
    mem: Memory, zone: ZoneWords, zone_id: ZoneId, claim: Claim, cpu: Cpu, pfn: Pfn, order: Order,
    mt: Migratetype, cache_id: CacheId,
) -> None:
"""
RIGHT = (
    "free_block(mem, zone, claim, pfn, order)",
    "free_block(mem, zone_at(mem, zone_id), claim, pfn + (1 << order), 0)",
    "lock(mem, zone + 4, claim)",
    "pcp_at(mem, cpu_of(mem, claim), zone_id)",
    "object_at(mem, cache_at(mem, cache_id), pfn, 3)",
    "link_free(mem, zone, claim, pfn ^ (1 << order), order - 1, mt)",
)
WRONG = (
    "free_block(mem, zone_id, claim, pfn, order)",
    "free_block(mem, zone, claim, order, pfn)",
    "lock(mem, claim, zone)",
    "lock(mem, zone, cpu)",
    "pcp_at(mem, claim, zone_id)",
    "object_at(mem, cache_id, pfn, 3)",
    "link_free(mem, zone, claim, pfn, mt, order)",
)


def module_of(folder: Path, name: str, text: str):
    """The module ``text``, imported from a file of its own; its name is the same each time."""
    path = folder / f"{name}.py"
    path.write_text(HEAD + text)
    spec = importlib.util.spec_from_file_location("units_of_a_test", path)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture
def pair(tmp_path: Path):
    """One kernel twice, without and with annotations, from the same lines."""
    assert BARE.count("\n") == ANNOTATED.count("\n")
    return [module_of(tmp_path, n, t).thread for n, t in (("bare", BARE), ("typed", ANNOTATED))]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory):
    """Name of a file -> what mypy says for it: (line, text). One run, which takes long."""
    folder = tmp_path_factory.mktemp("typed")
    texts = {
        "swapped.py": SWAPPED + "".join(f"    {call}\n" for call in (*RIGHT, *WRONG)),
        "calls.py": CALLS,
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    options = ("--strict", "--no-error-summary", "--hide-error-context")
    config = ("--config-file", str(ROOT / "pyproject.toml"))
    files = (str(folder / name) for name in texts)
    command = [sys.executable, "-m", "mypy", *options, *config, *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    split = [line.split(":", 2) for line in done.stdout.splitlines()]
    return {
        file: [(int(number), text) for path, number, text in split if Path(path).name == file]
        for file in texts
    }


def test_a_unit_is_int_at_run_time():
    assert units.Pfn is units.ZoneId is units.WordIndex is int


def test_the_checker_finds_every_swapped_unit_and_no_right_one(said):
    calls = (*RIGHT, *WRONG)
    first = SWAPPED.count("\n") + 1
    errors = {number for number, text in said["swapped.py"] if " error: " in text}
    assert {calls[number - first] for number in errors} == set(WRONG)


def test_annotations_do_not_change_the_key_of_an_image(pair):
    bare, typed = ([Instance(one, RAM, True)] for one in pair)
    assert key_of(bare) == key_of(typed)


def test_annotations_do_not_change_a_token(pair):
    bare, typed = (Program("same", 4, [one, one]) for one in pair)
    assert digest_of(bare) == digest_of(typed)


# --- what is checked, and what a user sees -------------------------------------------------------
CALLS = """
from __future__ import annotations
import numpy as np
from shmalloc import Arena, SharedArray, kernel, open_array
from shmalloc.units import Memory
from stress import Program, explore

def total(a: SharedArray) -> float:
    with a as values:
        reveal_type(values)
        return float(values.sum())

with Arena.create(size="64MiB") as arena:
    reveal_type(arena)
    reveal_type(arena.array(np.arange(5)))
    reveal_type(open_array)

@kernel
def increment(mem: Memory, cpu: int) -> int:
    mem[0] = mem[0] + 1
    return cpu

reveal_type(increment)
reveal_type(explore(Program("x", 2, [increment, increment]), seconds=1).failure)
increment(arena)
"""
REVEALED = (
    "shmalloc.shared_array.SharedArray",
    "shmalloc.arena.Arena",
    "shmalloc.shared_array.SharedArray",
    "def (handle: bytes, readonly: bool =) -> shmalloc.shared_array.SharedArray",
    "def (mem: shmalloc.units.Memory, cpu: int) -> int",
    "stress.explorer.report.failure.Failure | None",
)


def test_a_users_script_is_typed_strictly(said):
    revealed = [text.split('"')[1] for _, text in said["calls.py"] if "Revealed" in text]
    assert tuple(revealed) == REVEALED
    errors = [number for number, text in said["calls.py"] if " error: " in text]
    assert errors == [CALLS.count("\n")] * 2


@pytest.mark.parametrize("package", ["shmalloc", "stress"])
def test_a_package_says_that_it_is_typed(package: str):
    assert (ROOT / package / "py.typed").is_file()


def test_the_checker_leaves_no_module_of_ours_out():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert settings["strict"] and settings["packages"] == ["shmalloc", "stress"]
    assert "exclude" not in settings
    assert not any(override.get("ignore_errors") for override in settings["overrides"])
