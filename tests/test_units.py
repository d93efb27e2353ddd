"""Units are types for the checker only: it finds mixed units, and nothing else sees them."""

import importlib.util
from pathlib import Path

import pytest

from shmalloc import units
from shmalloc.compiler.digest import key_of
from shmalloc.compiler.instances import Instance
from shmalloc.engine.native import RAM
from stress import Program
from stress.explorer.token import digest_of

HEAD = """\
from __future__ import annotations
from shmalloc.dialect import kernel
from shmalloc.units import Memory, Pfn, WordIndex
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


def test_a_unit_is_int_at_run_time():
    assert units.Pfn is units.ZoneId is units.WordIndex is int


def test_annotations_do_not_change_the_key_of_an_image(pair):
    bare, typed = ([Instance(one, RAM, True)] for one in pair)
    assert key_of(bare) == key_of(typed)


def test_annotations_do_not_change_a_token(pair):
    bare, typed = (Program("same", 4, [one, one]) for one in pair)
    assert digest_of(bare) == digest_of(typed)
