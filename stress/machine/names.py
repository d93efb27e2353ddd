"""What the words, values and codes of a program are called, for the reader of its failures.

A user's program names words by one dictionary, in either direction; a program with a layout names
them by functions. Nothing here changes what a program does: names are in no digest and no token.

Rules:
- a word without a name is called by its index, ``[4]``; a value without one is a number
- a name is one line of text without control characters, which a terminal would obey and XML
  refuses; "" means: no name
- every mistake is a ``MisuseError`` that names the argument and the cure: when the program is made
  where it shows at the first or the last word, else when the name is asked for
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from shmalloc.errors import MisuseError
from stress.machine.arguments import whole

Names = Mapping[Any, Any]  # {index: name} or {name: index}
WordName = Callable[[int], str]
ValueName = Callable[[int, int], str]
PairName = Callable[[int, int, int], str]
CodeName = Callable[[int], str]


class Finding(NamedTuple):
    """One violation that a run left in memory.

    ``name``: what is violated, ``I_TAIL: every page is covered by exactly one head``. ``text``:
    what was seen, ``at pfn 2, expected 1, found 2``. ``words``: those at stake. ``kernel``: the one
    that reported it, if it is known.
    """

    code: int
    name: str
    text: str
    words: tuple[int, ...] = ()
    kernel: str = ""


class Memory(Protocol):
    """Words that can be read by index."""

    def __getitem__(self, index: int, /) -> int: ...


Findings = Callable[[Memory], Sequence[Finding]]


def by_index(names: Names | None, words: int) -> dict[int, str]:
    """``names`` as ``{index: name}``, whichever way round its entries are."""
    if names is None:
        return {}
    if not isinstance(names, Mapping):
        raise MisuseError(f"names: {names!r}; use a dict such as {{0: 'head', 'tail': 2}}")
    found: dict[int, str] = {}
    for key, value in names.items():
        given, name = (value, key) if isinstance(key, str) else (key, value)
        index = whole(given)
        if index is None or not isinstance(name, str):
            raise MisuseError(f"names: {key!r}: {value!r}; use a word's index and its name")
        if not 0 <= index < words:
            raise MisuseError(f"names: word {index} is {name!r}; use words 0 to {words - 1}")
        if index in found:
            raise MisuseError(
                f"names: word {index} is both {found[index]!r} and {name!r}; use one name for it"
            )
        found[index] = _one_line("names", name, f"word {index}")
    return found


class Named(Protocol):
    """What of a program is looked at here."""

    @property
    def words(self) -> int: ...
    @property
    def word_name(self) -> WordName | None: ...
    @property
    def value_name(self) -> ValueName | None: ...
    @property
    def pair_name(self) -> PairName | None: ...
    @property
    def code_name(self) -> CodeName | None: ...
    @property
    def findings(self) -> Findings | None: ...


SHAPES = {
    "word_name": "(index) -> str",
    "value_name": "(index, value) -> str",
    "pair_name": "(index, low, high) -> str",
    "code_name": "(code) -> str",
    "findings": "(memory) -> list of Finding",
}


def require_functions(program: Named) -> None:
    """Refuse what is no function, and what fails at the first or the last word."""
    for argument, shape in SHAPES.items():
        function = getattr(program, argument)
        if function is not None and not callable(function):
            raise MisuseError(f"{argument}: {function!r}; use a function {shape}")
    for index in (0, program.words - 1):
        named("word_name", program.word_name, index)
        named("value_name", program.value_name, index, 0)
        named("pair_name", program.pair_name, index & ~1, 0, 0)
    named("code_name", program.code_name, 1)


def named(argument: str, function: Callable[..., str] | None, *values: int) -> str:
    """What ``function``, the program's ``argument``, calls these ``values``; "" without a name."""
    if function is None:
        return ""
    place = ", ".join(map(str, values))
    try:
        name = function(*values)
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        text = f"{argument}({place}): {said}"
        raise MisuseError(f"{text}; return '' if there is no name") from error
    if name is None or name == "":
        return ""
    if not isinstance(name, str):
        raise MisuseError(f"{argument}({place}) returned {name!r}; return a str, '' for no name")
    return _one_line(argument, name, place)


def _one_line(argument: str, name: str, what: str) -> str:
    if not name.strip() or any(is_unprintable(sign) for sign in name):
        raise MisuseError(
            f"{argument}: {what} is called {name!r}; use one line of text without control"
            " characters"
        )
    return name


def found_in(function: Findings | None, memory: Memory) -> tuple[Finding, ...]:
    """What ``function``, the program's ``findings``, finds in ``memory``."""
    if function is None:
        return ()
    try:
        found = function(memory)
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise MisuseError(f"findings: {said}; return a list, empty if nothing is found") from error
    if not isinstance(found, Sequence) or not all(isinstance(one, Finding) for one in found):
        raise MisuseError(f"findings returned {found!r}; return a list of Finding")
    return tuple(found)


def is_unprintable(sign: str) -> bool:
    """Whether it controls a terminal, ends a line, turns the order of the text, or is half a
    character."""
    bidirectional = "\u202a" <= sign <= "\u202e" or "\u2066" <= sign <= "\u2069"
    return bidirectional or unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp")
