"""The digest in a token is the same in each version of Python.

The digests below were made once, and each version of Python that tests run on must make the same
ones: a token is sent from one machine to another. tests/test_explorer_witness.py has what may be
edited without a change of the digest.
"""

from __future__ import annotations

import ast
from hashlib import sha256

import pytest

from shmalloc import kernel
from stress import Program
from stress.explorer.digest import digest_of, written

STEP = 4
NEVER = 9


@kernel
def raised(value):
    return value + STEP


@kernel
def count(mem, cpu):
    if False:
        mem[1] = NEVER
    for _ in range(2):
        mem[0] = raised(mem[0]) if cpu >= 0 else -1


@kernel
def counted(mem):
    while True:
        assert mem[0] != 17
        return 0 if mem[0] == 16 else 1


EVERYTHING = '''
# Uncommon on purpose: all that versions of Python have shown in different ways.
import a.b as c, d
from . import e
@d.marked(1, *c, **e)
class Shape(e, metaclass=c):
    """Its docstring."""
    side: int = 0x10
    area: float
    def name(self, /, first, *rest, last: str = "s", **others) -> str:
        return f"{self.side!r:>{first}} é {{}} {last=}" + u"w" + b"x".hex() + "\\U0001fae9\\u0378"
async def fetch(one, two=None):
    async with one as (x, *y):
        async for z in two:
            yield await z
def read(given, /):
    global everything
    match given:
        case None | True | 1 | -2.5 | 3 + 4j | "six" | d.e:
            return
        case [1, _, *rest] | {"k": 1, **rest} if rest:
            return None
        case Shape(0, side=x) as whole:
            return ...
    try:
        with open(given) as file, file:
            del file.x, given[1:2, ::3, ...]
    except* (OSError, ValueError) as error:
        raise KeyError from error
    everything = lambda x, *, y=1: (x := y if x else not y) or {**x} and {1, *y}
    return [p + q for p in given if p for q in p], {k: v for k, v in given}, 1 < 2 in (x,) is not x
'''
EVERYTHING_WRITTEN = "18124dc93c220300587f03f534188e0b4b3b0cd62fbc1c1b23ff61f792b40e04"


def test_a_program_has_the_digest_that_it_had_when_this_was_written():
    program = Program("counts", 2, [count, count], check=counted, init=[(1, 7)], names={0: "count"})
    assert digest_of(program) == "f6081a35f266"


def test_syntax_of_every_kind_is_written_as_it_was():
    text = written(ast.parse(EVERYTHING))
    assert sha256(text.encode()).hexdigest() == EVERYTHING_WRITTEN, text


PAIRS = (
    ("return", "return None"),
    ("{**None}", "{None: None}"),
    ("f'a{b}c'", "f'a{b!r}c'"),
    ("1", "True"),
    ("1", "1.0"),
    ("'b'", "b'b'"),
    ("x[:1]", "x[1:]"),
    ("f(x, y)", "f(x, *y)"),
)


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=map(str, PAIRS))
def test_what_means_something_else_is_written_in_another_way(one, other):
    def text(source: str) -> str:
        return written(ast.parse(f"def function():\n    {source}"))

    assert text(one) != text(other)
