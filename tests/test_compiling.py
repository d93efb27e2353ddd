"""What is compiled again after an edit: the images whose kernels can reach it, and no others."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import shmalloc
from shmalloc.engine.native import is_kept, warm_together
from shmalloc.kernel.audit import audit
from shmalloc.kernel.slots import publish, release_slot

# caller -> upper (a unit) -> lower (a unit); stranger knows none of them
UNITS = """
    from shmalloc.dialect import kernel, unit
    from shmalloc.words import load

    @unit
    def lower(mem, i):
        return {lower}

    @unit
    def upper(mem, i):
        return lower(mem, i) + {added}

    @kernel
    def caller(mem, i):
        return upper(mem, i) * 3

    @kernel
    def stranger(mem, i):
        return load(mem, i)
"""
RUN = """
    import sys
    import edited
    from shmalloc.engine import get_engine
    from shmalloc.memory import Ram
    kernel = getattr(edited, sys.argv[1])
    get_engine("native").warm([kernel])
    print(get_engine("native").call(kernel, Ram.of_words(2), 0))
"""


def environment(folder: Path) -> dict[str, str]:
    root = Path(shmalloc.__path__[0]).parent
    return os.environ | {
        "PYTHONPATH": f"{folder}{os.pathsep}{root}",
        "SHMALLOC_CACHE_DIR": str(folder / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def run_edited(folder: Path, lower: str, added: int, kernel: str = "caller") -> tuple[int, int]:
    """A kernel's result in a fresh process, and how many images were not on disk."""
    (folder / "edited.py").write_text(textwrap.dedent(UNITS).format(lower=lower, added=added))
    command = [sys.executable, "-c", textwrap.dedent(RUN), kernel]
    before = images(folder)
    done = subprocess.run(
        command, env=environment(folder), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # what takes less than a second is not worth a line
    return int(done.stdout), len(images(folder) - before)


def images(folder: Path) -> set[Path]:
    return set((folder / "cache").glob("*.image"))


def test_an_edit_below_a_kernel_makes_its_image_again(tmp_path: Path):
    assert run_edited(tmp_path, "load(mem, i) + 1", 1) == (6, 1)
    assert run_edited(tmp_path, "load(mem, i) + 1", 1) == (6, 0)
    assert run_edited(tmp_path, "load(mem, i) + 5", 1) == (18, 1)
    assert run_edited(tmp_path, "load(mem, i) + 5", 2) == (21, 1)
    assert run_edited(tmp_path, "load(mem, i) + 1", 1) == (6, 0)


def test_an_edit_leaves_images_alone_that_cannot_reach_it(tmp_path: Path):
    assert run_edited(tmp_path, "load(mem, i) + 1", 1, "stranger") == (0, 1)
    assert run_edited(tmp_path, "load(mem, i) + 5", 1, "stranger") == (0, 0)


def test_a_unit_that_returns_another_type_is_called_by_new_code(tmp_path: Path):
    run_edited(tmp_path, "load(mem, i) + 1", 1)
    assert run_edited(tmp_path, "load(mem, i) == 0", 1) == (6, 1)


def test_a_plan_is_one_image_for_whoever_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also where a part of it is loaded already; what is interpreted is not in it."""
    monkeypatch.setenv("SHMALLOC_CACHE_DIR", str(tmp_path / "cache"))
    one = (("native", publish),)
    both = (*one, ("native", release_slot), ("interpreted", audit))
    warm_together(one)
    assert is_kept(one) and not is_kept(both)
    warm_together(both)
    assert is_kept(both[1::-1]) and len(images(tmp_path)) == 2
