"""What the documentation shows runs, and prints what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import shmalloc

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
SAYS = {
    "lost_update": "failed after 1 schedules, seed 1:",
    "shared_array": "[0 2 4 6 8]",
    "misuse": "refused: M_DOUBLE_FREE",
}


def run(script):
    """Output of a script that imports the very package that is tested here."""
    place = str(Path(shmalloc.__file__).parent.parent)
    command = [sys.executable, str(script)]
    environment = {**os.environ, "PYTHONPATH": place}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    return done.stdout


def test_every_example_is_known_here():
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == set(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_an_example_prints_what_the_readme_says(name):
    assert SAYS[name] in run(ROOT / "examples" / f"{name}.py")


def test_the_counter_example_in_the_readme_is_what_the_example_prints():
    shown = re.search(r"\$ python examples/lost_update.py\n(.*?)```", README, re.DOTALL)
    assert run(ROOT / "examples" / "lost_update.py") == shown[1]


def test_the_arena_block_of_the_readme_runs(tmp_path):
    block = next(b for b in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "Arena" in b)
    (tmp_path / "block.py").write_text(block)
    printed = run(tmp_path / "block.py").splitlines()
    assert "is allocated to owner" in printed[0] and printed[1] == "[]"
