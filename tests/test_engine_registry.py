"""Engines by name: the ones that shmalloc has, and the one that another package adds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import shmalloc
from shmalloc.engine import get_engine, register_engine, registry
from shmalloc.errors import MisuseError

ROOT = Path(shmalloc.__path__[0]).parent
# What spawns workers, and what a worker itself imports.
WITH_JITTER = ("stress.jitter", "stress.run.preload", "stress.run.worker", "stress.run.controller")


def in_a_fresh_process(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_shmalloc_alone_has_its_two_engines():
    code = "from shmalloc.engine.registry import registered; print(registered())"
    assert in_a_fresh_process(code) == "('native', 'interpreted')\n"


@pytest.mark.parametrize("module", WITH_JITTER)
def test_the_jitter_is_registered_where_a_run_needs_it(module):
    code = f"import {module}; from shmalloc.engine.registry import registered; print(registered())"
    assert in_a_fresh_process(code) == "('native', 'interpreted', 'jitter')\n"


def test_an_unknown_engine_is_refused_with_all_that_there_are(monkeypatch):
    monkeypatch.setattr(registry, "_makers", {})
    for name in ("fast", "slow"):
        register_engine(name, lambda: pytest.fail("an engine that was not asked for was made"))
    with pytest.raises(MisuseError, match=r"engine: 'quantum'; use 'fast' or 'slow'$"):
        get_engine("quantum")


def test_an_engine_is_made_once_and_only_when_it_is_asked_for(monkeypatch):
    made = []
    monkeypatch.setattr(registry, "_makers", {})
    monkeypatch.setattr(registry, "_engines", {})
    register_engine("counted", lambda: made.append(1) or object())  # type: ignore[arg-type]
    assert made == []
    assert get_engine("counted") is get_engine("counted")
    assert made == [1]


def test_shmalloc_names_no_place_in_stress():
    """Save the entry point of pytest: what it is for is to load our plugin from there."""
    named = {
        f"{path.relative_to(ROOT)}: {found}"
        for path in (ROOT / "shmalloc").rglob("*.py")
        if "pytest_plugin" not in path.parts
        for found in re.findall(r"\bstress[./]\w+", path.read_text())
    }
    assert named == set()
