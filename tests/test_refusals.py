"""Mistakes in a user's kernel: one line with the file, the line, what is wrong and the cure."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

from shmalloc.compiler.refusals import EXPRESSIONS, REFUSED, STATEMENTS
from shmalloc.engine import get_engine
from shmalloc.errors import DialectError
from support.runs import shmstress
from support.sources import module

# Lines of a kernel ``k(mem, cpu)``; the line of it that is wrong; what is wrong; the cure.
MISTAKES: dict[str, tuple[int, str, str]] = {
    "assert mem[0] == 1": (1, "an assert is not allowed", "return an error code and check it"),
    "raise ValueError('no')": (1, "raise is not allowed", "return an error code"),
    "mem[0] = 'x'": (1, "a string is not allowed", "use a number"),
    "x = b'x'": (1, "a string is not allowed", "use a number"),
    "x = f'{cpu}'": (1, "a string is not allowed", "use a number"),
    "x = 1.5": (1, "1.5 is not an integer", "count in a smaller unit"),
    "x = None": (1, "None is not an integer", "use 0 or -1"),
    "x = ...": (1, "Ellipsis is not an integer", "kernels have only integers"),
    "x = 1j": (1, "1j is not an integer", "kernels have only integers"),
    "d = {}\nd[1] = 2": (1, "a dict is not allowed", "keep values in words of memory"),
    "x = [1]": (1, "a list is not allowed", "keep values in words of memory"),
    "x = {1}": (1, "a set is not allowed", "keep values in words of memory"),
    "x = (1, 2)": (1, "a tuple is allowed only in", "use one name a value"),
    "x = cpu\nreturn sum(i for i in mem)": (2, "sum is not a kernel", "kernels call kernels"),
    "x = [i for i in range(3)]": (1, "a comprehension is not allowed", "write a for loop"),
    "x = (i for i in range(3))": (1, "a generator is not allowed", "write a for loop"),
    "x = lambda: 1": (1, "a lambda is not allowed", "make it a kernel of the module"),
    "x = (y := 1)": (1, "an assignment inside an expression", "assign in a line above"),
    "print(cpu)": (1, "print is not a kernel", "kernels call kernels"),
    "x = open('f')": (1, "open is not a kernel", "kernels call kernels"),
    "try:\n    x = 1\nexcept OSError:\n    pass": (1, "try is not allowed", "test a condition"),
    "with mem:\n    pass": (1, "with is not allowed", "call what acquires"),
    "match cpu:\n    case 1:\n        pass": (1, "match is not allowed", "write if and elif"),
    "def inner():\n    pass": (1, "nested functions are not allowed", "make it a kernel"),
    "class Inner:\n    pass": (1, "a class is not allowed", "keep values in words"),
    "global limit\nlimit = 1": (1, "global is not allowed", "keep values in words"),
    "import os": (1, "import is not allowed", "import in the module"),
    "x = cpu\ndel x": (2, "del is not allowed", "keep values in words"),
    "yield 1": (1, "yield is not allowed", "return a value"),
    "x = cpu is 1": (1, "in and is are not allowed", "compare with =="),
    "x = cpu in (1, 2)": (1, "in and is are not allowed", "compare with =="),
    "x = cpu / 2": (1, "/, ** and @ leave the integers", "use // and shifts"),
    "cpu.x += 1": (1, "an attribute is allowed only", "keep values in words of memory"),
    "mem.load(0)": (1, "an attribute is allowed only", "keep values in words of memory"),
    "x = mem[0:1]": (1, "a slice is not allowed", "access one word at a time"),
    "helper(*cpu)": (1, "helper is not a kernel", "decorate it with @kernel"),
    "load(mem, *cpu)": (1, "a starred argument is not allowed", "name each one"),
    "load(mem, i=0)": (1, "keyword arguments are not allowed", "pass them by position"),
    "load(mem)": (1, "load takes 2 arguments, 1 are given", "pass 2"),
    "x = load": (1, "load can only be called", "write load(..)"),
    "x = other": (1, "other can only be called", "write other(..)"),
    "x = helper(1)": (1, "helper is not a kernel but a plain Python", "decorate it with @kernel"),
    "x = limit": (1, "limit is not a constant", "if it never changes call it LIMIT"),
    "x = TABLE[1]": (1, "only memory has words", "keep a table in words of memory"),
    "x = TABLE": (1, "TABLE is not an integer but of type dict", "keep values in words"),
    "x = RATIO": (1, "RATIO is not an integer but of type float", "keep values in words"),
    "x = HUGE": (1, "of 16610 bits does not fit into 64 bits", "use two words"),
    "x = 1 << 64": (1, "a shift by 64 bits", "use 0 to 63"),
    "x = LIMT": (1, "LIMT is not defined", "did you mean LIMIT?"),
    "x = nothing_like_it": (1, "nothing_like_it is not defined", "define or import it"),
    "x = constants": (1, "constants is a module", "constants.NAME"),
    "x = constants.T_FRE": (1, "constants.T_FRE is not defined", "did you mean T_FREE?"),
    "x = constants.ZZZZZZ": (1, "constants.ZZZZZZ is not defined", "in shmalloc.constants"),
    "x = moduel.X": (1, "moduel is not defined", "define or import it"),
    "x = Colours.RED": (1, "Colours is no module", "keep values in words of memory"),
    "x = Colours(1)": (1, "Colours is a class", "keep values in words of memory"),
    "x = cpu(1)": (1, "cpu is not a kernel but a number", "call a kernel by its name"),
    "x = LIMIT(1)": (1, "LIMIT is not a kernel but a number", "call a kernel by its name"),
    "return k(mem, cpu)": (1, "recursion is not allowed (k -> k)", "use a loop"),
    "while True:\n    pass": (1, "this loop never ends", "read a word in it"),
    "while cpu:\n    break\nelse:\n    pass": (1, "else of a loop", "use a variable"),
    "for i in mem:\n    pass": (1, "a for loop goes over range(..) only", "count"),
    "x += 1": (1, "x may be read before it is assigned", "assign it on every path"),
}
HEAD = """
from enum import Enum
from shmalloc import constants

limit = 3
LIMIT = 3
TABLE = {1: 2}
RATIO = 0.5
HUGE = 10**5000

class Colours(Enum):
    RED = 1

def helper(x):
    return x

@kernel
def other(mem, cpu):
    return 1

"""


def kernel_of(folder: Path, statement: str) -> tuple[ModuleType, int]:
    """A module with the statement in its kernel ``k``, and the line of its ``def``."""
    text = f"{HEAD}@kernel\ndef k(mem, cpu):\n{textwrap.indent(statement, '    ')}\n"
    made = module(folder, text)
    return made, made.k.__code__.co_firstlineno + 1


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@pytest.mark.parametrize("statement", MISTAKES)
def test_a_mistake_is_one_line_with_its_place_and_the_cure(tmp_path: Path, statement: str) -> None:
    line, wrong, cure = MISTAKES[statement]
    made, first = kernel_of(tmp_path, statement)
    said = set()
    for engine in ("native", "interpreted"):
        with pytest.raises(DialectError) as caught:
            get_engine(engine).bind(made.k)
        said.add(str(caught.value))
    (text,) = said
    place, reason = re.fullmatch(r"(.+:\d+): kernel k: (.+)", text).groups()  # type: ignore[union-attr]
    assert place == f"{made.__file__}:{first + line - (line == 0)}"
    assert wrong in reason and cure in reason.replace(wrong, "", 1)


ARGUMENTS = {
    "mem, cpu=1": "default, keyword and starred arguments are not allowed",
    "mem, *more": "default, keyword and starred arguments are not allowed",
    "mem, *, cpu": "default, keyword and starred arguments are not allowed",
    "mem, **more": "default, keyword and starred arguments are not allowed",
}


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_arguments_have_no_default_and_no_star(tmp_path: Path, arguments: str) -> None:
    made = module(tmp_path, f"@kernel\ndef k({arguments}):\n    return 1\n")
    with pytest.raises(DialectError, match=ARGUMENTS[arguments] + "; name each argument"):
        get_engine("interpreted").bind(made.k)


ONLY_ELSEWHERE = {ast.Await, ast.AsyncFor, ast.AsyncWith, ast.FormattedValue}  # never in a def
OLD = {
    "Num",
    "Str",
    "Bytes",
    "NameConstant",
    "Ellipsis",
    "TypeAlias",
    "TemplateStr",
    "Interpolation",
}


def test_every_kind_of_syntax_is_allowed_or_has_a_sentence() -> None:
    kinds = {k for base in (ast.stmt, ast.expr) for k in base.__subclasses__()}
    known = {*STATEMENTS, *EXPRESSIONS, *REFUSED} | ONLY_ELSEWHERE
    assert {k.__name__ for k in kinds - known} - OLD == set()


SCRIPT = """
from shmalloc import kernel
from stress import Program

def helper(mem):
    return 1

@kernel
def k(mem, cpu):
    {}

program = Program("wrong", 2, [k, k])
"""
WRITTEN = {
    "assert mem[0] == 1": "an assert is not allowed",
    "raise ValueError": "raise is not allowed",
    "mem[0] = 'x'": "a string is not allowed",
    "d = {}": "a dict is not allowed",
    "k(mem, cpu)": "recursion is not allowed",
    "mem[0] = 1 << 70": "a shift by 70 bits",
    "helper(mem)": "helper is not a kernel but a plain Python function",
}


@pytest.mark.parametrize("engine", ["native", "interpreted"])
@pytest.mark.parametrize("statement", WRITTEN)
def test_the_command_line_says_it_in_one_line(tmp_path: Path, statement: str, engine: str) -> None:
    path = tmp_path / "wrong.py"
    path.write_text(SCRIPT.replace("{}", statement, 1))
    done = shmstress("explore", f"{path}:program", "--engine", engine)
    assert done.returncode == 4 and done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert re.search(rf"wrong\.py:\d+: kernel k: {re.escape(WRITTEN[statement])}", last)
    assert "Traceback" not in done.stderr
