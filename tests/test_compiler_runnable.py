"""Rewritten kernels that one process keeps for the next."""

from __future__ import annotations

import marshal
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

import pytest

from shmalloc.compiler import digest, runnable, scope, store
from shmalloc.compiler.digest import key_of_rewritten
from shmalloc.dialect import Kernel
from shmalloc.kernels import lock
from shmalloc.kernels.pages import alloc_pages


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Where kernels are kept; nothing is known of any."""
    monkeypatch.setenv("SHMALLOC_CACHE_DIR", str(tmp_path))
    runnable.forget()
    yield tmp_path
    runnable.forget()


@pytest.fixture
def next_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that may not analyse a kernel."""
    runnable.runnable(alloc_pages)
    runnable.forget()

    def analyse(function: Kernel, kind: object) -> None:
        raise AssertionError(f"{function.__name__} is analysed again")

    monkeypatch.setattr(runnable, "analyse", analyse)


def code_of(function: Kernel, seen: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    """What a rewritten kernel and all that it calls does, by name."""
    if function.__name__ not in seen:
        code = function.__code__
        seen[function.__name__] = (code.co_code, code.co_consts, code.co_filename, *code.co_lines())
        for name in code.co_names:
            callee = function.__globals__.get(name)
            if isinstance(callee, FunctionType):
                code_of(callee, seen)
    return seen


def test_the_next_process_analyses_no_kernel(next_process: None) -> None:
    assert runnable.runnable(alloc_pages).__name__ == "alloc_pages"


def test_the_next_process_runs_the_same_code(monkeypatch: pytest.MonkeyPatch) -> None:
    made = code_of(runnable.runnable(alloc_pages), {})
    runnable.forget()
    monkeypatch.setattr(runnable, "analyse", None)
    assert code_of(runnable.runnable(alloc_pages), {}) == made
    assert len(made) > runnable.WORTH_KEEPING


def test_the_next_process_knows_what_a_kernel_returns(next_process: None) -> None:
    assert runnable.result_of(alloc_pages) == "int"


def test_a_changed_constant_is_analysed_again(
    next_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = key_of_rewritten(alloc_pages, True)
    with monkeypatch.context() as changed:
        changed.setattr("shmalloc.constants.EV_ALLOC", 62)
        scope.forget()
        digest.forget()
        assert key_of_rewritten(alloc_pages, True) != before
        with pytest.raises(AssertionError, match="analysed again"):
            runnable.runnable(alloc_pages)
    scope.forget()
    digest.forget()


def test_code_from_another_folder_has_our_file(folder: Path) -> None:
    runnable.runnable(alloc_pages)
    runnable.forget()
    key = key_of_rewritten(alloc_pages, True)
    payload = marshal.loads(store.default_store(runnable.FOLDER).peek(key) or b"")
    elsewhere = {
        name: (code.replace(co_filename="/elsewhere.py"), callees, result)
        for name, (code, callees, result) in payload.items()
    }
    store.default_store(runnable.FOLDER).put(key, marshal.dumps(elsewhere), lambda _: None)
    assert runnable.runnable(alloc_pages).__code__.co_filename == alloc_pages.__code__.co_filename


def test_a_damaged_file_is_made_again(folder: Path) -> None:
    runnable.runnable(alloc_pages)
    runnable.forget()
    (file,) = folder.rglob("*.image")
    whole = file.read_bytes()
    file.write_bytes(whole[:-9] + b"\0" * 9)
    assert runnable.runnable(alloc_pages).__name__ == "alloc_pages"
    assert file.read_bytes() == whole


def test_few_kernels_are_not_kept(folder: Path) -> None:
    runnable.runnable(lock.try_lock)
    assert list(folder.rglob("*.image")) == []
