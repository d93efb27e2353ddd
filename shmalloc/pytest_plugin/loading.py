"""Loading ``stress`` for a test that is surely ours: the only way from the plugin to it.

pytest imports the plugin in every project of an environment with shmalloc, and ``stress`` is a
common name: of a folder ``tests/stress``, or of a package of the project. So the plugin lies in
``shmalloc`` and names ``stress`` in a call instead of an import. Callers ask for a module when a
test uses a mark or a fixture of ours, or one of our options was given, never before.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def of_plugin(name: str) -> Any:
    """A module of ``stress/pytest_plugin``."""
    return of_stress(f"pytest_plugin.{name}")


def of_stress(name: str) -> Any:
    """A module of ``stress``."""
    return import_module(f"stress.{name}")
