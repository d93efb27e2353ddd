"""Engines by name, for the explorer: a program laid out on fibers or on greenlets."""

from __future__ import annotations

from dataclasses import asdict, replace

from shmalloc.errors import MisuseError
from stress.machine.block_layout import Settings
from stress.machine.machine import Machine
from stress.machine.program import Program

ENGINES = ("native", "interpreted")


def make_machine(engine: str, program: Program, settings: Settings, trace: bool = False) -> Machine:
    """A machine of that engine. ``trace`` (interpreted only): every step knows its source.

    Raises ``MisuseError`` for another engine, ``EnvironmentUnfitError`` if this machine has no
    fibers, ``EngineError`` if a kernel does not compile.
    """
    if engine == "native":
        from stress.machine.native import NativeMachine  # the compiler: only where it is used

        return NativeMachine(program, **asdict(settings))
    if engine == "interpreted":
        from stress.machine.interpreted import InterpretedMachine

        chosen = replace(settings, log=True) if trace else settings
        return InterpretedMachine(program, trace=trace, **asdict(chosen))
    raise MisuseError(f"engine: {engine!r}; use {' or '.join(ENGINES)}")
