"""Loading ``stress`` for a test that is surely ours: the only way from the plugin to it.

pytest imports the plugin in every project of an environment with shmalloc, and ``stress`` is a
common name: of a folder ``tests/stress``, or of a package of the project. So the plugin lies in
``shmalloc`` and names ``stress`` in a call instead of an import. Callers ask for a module when a
test uses a mark or a fixture of ours, or one of our options was given, never before.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

_OURS = Path(__file__).parents[2] / "stress"


def of_plugin(name: str) -> Any:
    """A module of ``stress/pytest_plugin``."""
    return of_stress(f"pytest_plugin.{name}")


def of_stress(name: str) -> Any:
    """A module of ``stress``. Fails the test if another package of that name hides ours."""
    problem = what_hides_stress()
    if problem is not None:
        __tracebackhide__ = True
        raise pytest.fail.Exception(problem, pytrace=False)
    return import_module(f"stress.{name}")


def what_hides_stress() -> str | None:
    """A sentence about the file that an import of ``stress`` finds instead of ours."""
    try:
        spec = find_spec("stress")
    except ValueError:  # a module that was made by hand
        return _sentence("a module in sys.modules")
    if spec is None:
        return None
    places = list(spec.submodule_search_locations or ())
    if any(Path(place).resolve() == _OURS.resolve() for place in places):
        return None
    return _sentence(spec.origin or ", ".join(places))


def _sentence(file: str) -> str:
    return (
        f"{file} hides the package stress that comes with shmalloc: rename it, or keep its folder"
        " off sys.path; for a mark that is not meant for shmalloc, set shm_marks"
    )
