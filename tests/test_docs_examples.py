"""The examples of docs/allocating.md and docs/waiting.md run as they stand, and are complete."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from shmalloc import Gfp
from support.floors import ROOT
from support.runs import environment

PAGES = ("allocating", "waiting")
BLOCKS = {
    f"{page}-{number}": block
    for page in PAGES
    for number, block in enumerate(
        re.findall(r"```python\n(.*?)```", (ROOT / "docs" / f"{page}.md").read_text(), re.DOTALL)
    )
}
WATCHDOG_S = 120


@pytest.mark.parametrize("block", BLOCKS)
def test_an_example_of_a_page_runs(block, tmp_path):
    script = tmp_path / "example.py"
    script.write_text(BLOCKS[block])
    ended = subprocess.run(
        [sys.executable, str(script)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=WATCHDOG_S,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_pages_have_an_example_of_each_subject():
    text = "".join(BLOCKS.values())
    subjects = (
        "Gfp.ATOMIC", "min_free_pages=", "unaccepted=True", "wait_s=", "Gfp.NOFAIL",
        "try_alloc_pages", "try_free_pages", "arena.reclaimer()", "register_shrinker",
    )  # fmt: skip
    assert [subject for subject in subjects if subject not in text] == []


def test_the_table_of_flags_has_each_flag_once():
    page = (ROOT / "docs" / "allocating.md").read_text()
    rows = re.findall(r"^\| `Gfp\.(\w+)(?:\(n\))?` \|", page, re.MULTILINE)
    assert sorted(rows) == sorted([*Gfp.__members__, "up_to_zone"])
