"""Modules of kernels that tests write, import, edit and import again."""

from __future__ import annotations

import importlib.util
import itertools
import sys
import textwrap
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from shmalloc.engine import get_engine
from shmalloc.errors import DialectError, KernelFault
from shmalloc.memory import Ram

PREAMBLE = """\
from shmalloc import constants as c
from shmalloc import words
from shmalloc.dialect import hot, kernel, unit
from shmalloc.words import cas, load, load2, store
"""
WORDS = 16
# a whole file: of two CPUs one may overwrite what the other has counted
LOST_UPDATE = """from shmalloc import kernel
from stress import Program

@kernel
def count(mem, cpu):
    mem[0] = mem[0] + 1

@kernel
def counted(mem):
    return 0 if mem[0] == 2 else 3

lost = Program("lost", 2, [count, count], check=counted)
"""
_numbers = itertools.count()


def module(folder: Path, text: str, name: str = "", file: str = "") -> ModuleType:
    """``text`` behind the preamble, as a new module; its name is new, too, unless one is given."""
    name = name or f"written_{next(_numbers)}"
    path = folder / (file or f"{name}.py")
    path.write_text(PREAMBLE + textwrap.dedent(text))
    # Python takes bytecode for that of an edited file if size and second of the edit are the same.
    Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made


def outcome(engine: str, function: FunctionType, *arguments: int) -> tuple[Any, ...]:
    """What a call over the words 0, 1, 2, .. comes to: result, fault or refusal, and the words.

    Anything else that is raised is a bug and comes out.
    """
    ram = Ram.of_words(WORDS)
    ram.array[:] = range(WORDS)
    try:
        result = get_engine(engine).bind(function)(ram, *arguments)
    except DialectError as error:
        assert "\n" not in str(error)
        return "refused", str(error)
    except KernelFault as fault:
        place = fault.kernel, fault.file, fault.line, fault.cpu
        return "fault", fault.kind, *place, ram.array.tolist()
    return "result", type(result), result, ram.array.tolist()


def agreed(function: FunctionType, *arguments: int) -> tuple[Any, ...]:
    """The outcome, which is the same on both engines."""
    found = outcome("native", function, *arguments)
    assert outcome("interpreted", function, *arguments) == found
    return found


def result(function: FunctionType, *arguments: int) -> Any:
    """The result, which is the same on both engines."""
    found = agreed(function, *arguments)
    assert found[0] == "result", found
    return found[2]


def refusal(function: FunctionType, *arguments: int) -> str:
    """What both engines say against a kernel."""
    found = agreed(function, *arguments)
    assert found[0] == "refused", found
    return str(found[1])
