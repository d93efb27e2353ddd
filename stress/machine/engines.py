"""Engines by name, for the explorer: a program laid out on fibers or on greenlets."""

from __future__ import annotations

from dataclasses import asdict, replace

from stress.machine.block_layout import Settings
from stress.machine.program import Program, World
from shmalloc.errors import MisuseError

ENGINES = ("native", "interpreted")


def make_world(engine: str, program: Program, settings: Settings, trace: bool = False) -> World:
    """A world of that engine. ``trace`` (interpreted only): every step knows its source.

    Raises ``MisuseError`` for another engine, ``EnvironmentUnfitError`` where this machine has no
    fibers, ``EngineError`` where a kernel does not compile.
    """
    if engine == "native":
        from stress.machine.native import NativeModel  # the compiler: only where it is used

        return NativeModel(program, **asdict(settings))
    if engine == "interpreted":
        from stress.machine.interpreted import PyModel

        chosen = replace(settings, log=True) if trace else settings
        return PyModel(program, trace=trace, **asdict(chosen))
    raise MisuseError(f"engine: {engine!r}; use {' or '.join(ENGINES)}")
