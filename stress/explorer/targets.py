"""Programs by name: ``MODULE:PROGRAM``, ``FILE.py:PROGRAM``, or a program of the allocator.

A token carries the name, so that ``shmstress replay`` finds what it replays.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import weakref
from pathlib import Path
from types import ModuleType

from shmalloc.errors import MisuseError
from stress.machine.program import Program
from stress.programs import PROGRAMS
from stress.quantities import nearest

_targets: weakref.WeakKeyDictionary[Program, str] = weakref.WeakKeyDictionary()


def load_program(target: str) -> Program:
    """The program of that name. Raises ``MisuseError`` naming the nearest one there is."""
    if target in PROGRAMS:
        program = PROGRAMS[target]()
    elif ":" in target:
        place, _, name = target.rpartition(":")
        program = _attribute(module_of(place), name, place)
    else:
        raise nearest(target, list(PROGRAMS), "program (or MODULE:PROGRAM)")
    _targets[program] = target
    return program


def module_of(place: str) -> ModuleType:
    if place.endswith(".py"):
        return _file_module(Path(place))
    if "" not in sys.path:
        sys.path.insert(0, "")  # like python -m: modules of the working directory
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        raise MisuseError(f"module: {place!r}: {error}; name an importable module") from error


def _file_module(path: Path) -> ModuleType:
    if not path.is_file():
        raise MisuseError(f"file: {path} does not exist; name a Python file")
    name = f"explored_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    # Not through the loader: its cached bytecode does not notice an edit within the same second.
    exec(compile(path.read_bytes(), str(path.resolve()), "exec"), vars(module))
    return module


def _attribute(module: ModuleType, name: str, place: str) -> Program:
    known = [key for key, value in vars(module).items() if isinstance(value, Program)]
    if name not in known:
        if not known:
            raise MisuseError(f"program: {place} has no Program at its top level")
        raise nearest(name, known, f"program of {place}")
    program: Program = getattr(module, name)
    return program


def target_of(program: Program) -> str:
    """The name by which ``load_program`` finds ``program``; its own name where there is none."""
    if program in _targets:
        return _targets[program]
    for kernel in program.threads:
        module = sys.modules.get(kernel.__module__)
        for name, value in vars(module).items() if module else ():
            if value is program:
                return f"{kernel.__module__}:{name}"
    return program.name
