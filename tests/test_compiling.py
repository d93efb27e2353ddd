"""What is compiled again after an edit, and by whom where several processes need it."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

import pytest

import shmalloc
from shmalloc.engine import cache, together
from shmalloc.kernel.pages import alloc_pages

# caller -> upper (a unit) -> lower (a unit)
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
"""
RUN = """
    from edited import caller
    from shmalloc.engine import get_engine
    from shmalloc.memory import Ram
    print(get_engine("native").call(caller, Ram.of_words(2), 0))
"""
HOLD = """
    import sys
    from shmalloc.engine import together
    with together.claim(sys.argv[1], wait=True) as ours:
        print(ours, flush=True)
        sys.stdin.read()
"""
DIGEST = "0123456789abcdef" * 2


def environment(folder: Path) -> dict[str, str]:
    root = Path(shmalloc.__path__[0]).parent
    return os.environ | {
        "PYTHONPATH": f"{folder}{os.pathsep}{root}",
        "SHMALLOC_CACHE_DIR": str(folder / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def run_edited(folder: Path, lower: str, added: int) -> tuple[int, set[str]]:
    """The caller's result in a fresh process, and which functions were not in the cache."""
    (folder / "edited.py").write_text(textwrap.dedent(UNITS).format(lower=lower, added=added))
    command = [sys.executable, "-c", textwrap.dedent(RUN)]
    before = set(entries(folder))
    done = subprocess.run(
        command, env=environment(folder), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout), functions(set(entries(folder)) - before)


def entries(folder: Path) -> list[Path]:
    """Machine code in the cache: edited.FUNCTION-LINE.py311.N.nbc."""
    return list((folder / "cache").rglob("edited.*.nbc"))


def functions(paths: Iterable[Path]) -> set[str]:
    return {path.name.split(".")[1].split("-")[0] for path in paths}


def test_an_edit_below_a_unit_compiles_that_unit_and_its_callers_only(tmp_path: Path):
    assert run_edited(tmp_path, "load(mem, i) + 1", 1) == (6, {"lower", "upper", "caller"})
    assert run_edited(tmp_path, "load(mem, i) + 1", 1) == (6, set())
    assert run_edited(tmp_path, "load(mem, i) + 5", 1) == (18, {"lower", "upper"})
    assert run_edited(tmp_path, "load(mem, i) + 5", 2) == (21, {"upper", "caller"})
    assert run_edited(tmp_path, "load(mem, i) + 1", 1) == (6, set())


def test_a_unit_that_returns_another_type_is_called_by_new_code(tmp_path: Path):
    run_edited(tmp_path, "load(mem, i) + 1", 1)
    result, compiled = run_edited(tmp_path, "load(mem, i) == 0", 1)
    assert (result, compiled) == (6, {"lower", "upper"})


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that has the claim of DIGEST in the cache of ``tmp_path``."""
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), DIGEST], env=environment(tmp_path),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None and child.stdin is not None
    assert child.stdout.readline() == "True\n"
    yield child
    child.stdin.close()
    child.wait()
    child.stdout.close()


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "cache_root", lambda: tmp_path / "cache")


def test_what_another_process_compiles_is_not_ours(holder, own_cache):
    with together.claim(DIGEST, wait=False) as ours:
        assert not ours


def test_another_entry_is_ours(holder, own_cache):
    with together.claim(DIGEST[::-1], wait=False) as ours:
        assert ours


def test_a_claim_ends_with_the_process_that_had_it(holder, own_cache):
    holder.kill()
    with together.claim(DIGEST, wait=True) as ours:
        assert ours


def test_a_claim_within_a_claim_is_ours_and_ends_with_the_outer_one(own_cache, tmp_path):
    with together.claim(DIGEST, wait=True):
        with together.claim(DIGEST, wait=False) as ours:
            assert ours
        assert together.claimed() == {DIGEST}
    assert together.claimed() == set()


def test_a_helper_fills_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What it was given to do is on disk when it is gone."""
    monkeypatch.setenv("SHMALLOC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("SHMALLOC_COMPILERS", "2")
    (tmp_path / "edited.py").write_text(
        textwrap.dedent(UNITS).format(lower="load(mem, i)", added=1)
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import edited  # type: ignore[import-not-found]

    helper = together.helper([("native", edited.caller)], 1)
    assert helper.wait(timeout=120) == 0
    assert functions(entries(tmp_path)) == {"lower", "upper", "caller"}


def test_every_kernel_of_a_plan_is_told_before_its_turn():
    told: list[tuple[int, str]] = []
    together.warm(
        [("interpreted", alloc_pages)] * 2, lambda k, kernel: told.append((k, kernel.__name__))
    )
    assert told == [(0, "alloc_pages"), (1, "alloc_pages")]


@pytest.mark.parametrize(("text", "count"), [("3", 3), ("1", 1)])
def test_the_number_of_compilers_can_be_set(monkeypatch: pytest.MonkeyPatch, text, count):
    monkeypatch.setenv("SHMALLOC_COMPILERS", text)
    assert together.compilers() == count


def test_there_are_no_more_compilers_than_cores(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SHMALLOC_COMPILERS", raising=False)
    assert 1 <= together.compilers() <= len(os.sched_getaffinity(0))
