"""Random programs with one violation of the dialect each, planted in a valid program.

``VIOLATIONS`` maps a violation's statement to what its refusal must say. ``planted(text, ...)``
puts it after the first statement of a kernel, which control always reaches. The statement comes
before everything that is random, so that it is the first violation that the compiler finds.
"""

from __future__ import annotations

# Statement (its first line is where it is found) -> part of the refusal.
VIOLATIONS: dict[str, str] = {
    "x = 1.5": "1.5 is not an integer",
    "x = 'text'": "a string is not allowed",
    "x = f'{fuel}'": "a string is not allowed",
    "x = None": "None is not an integer",
    "x = 9223372036854775808": "does not fit into 64 bits",
    "x = -9223372036854775809": "does not fit into 64 bits",
    "x = 1 << 64": "a shift by 64 bits",
    "x = 1 >> -1": "a shift by -1 bits",
    "x = fuel / 2": "leave the integers; use // and shifts",
    "x = fuel ** 2": "leave the integers; use // and shifts",
    "x = fuel @ 2": "leave the integers; use // and shifts",
    "fuel /= 2": "leave the integers; use // and shifts",
    "assert fuel": "an assert is not allowed",
    "raise ValueError": "raise is not allowed",
    "try:\n    x = 1\nfinally:\n    x = 2": "try is not allowed",
    "with fuel:\n    x = 1": "with is not allowed",
    "x = [1]": "a list is not allowed",
    "x = {1: 2}": "a dict is not allowed",
    "x = {1}": "a set is not allowed",
    "x = 1, 2": "a tuple is allowed only",
    "x, y = 1, 2": "a tuple is allowed only",
    "x, y = fuel": "a tuple is allowed only",
    "x, y, z = load2(mem, 0)": "unpacks",
    "x = load2(mem, 0)": "2 results",
    "x = [k for k in range(3)]": "a comprehension is not allowed",
    "x = lambda: 1": "a lambda is not allowed",
    "x = mem[1:2]": "a slice is not allowed",
    "x = fuel[1]": "is no memory",
    "x = mem + 1": "memory",
    "x = store(mem, 1, 2)": "no value",
    "x = load": "can only be called",
    "x = undefined_name": "undefined_name is not defined",
    "x = UNDEFINED_NAME": "UNDEFINED_NAME is not defined",
    "x = c": "c is a module; name one of its constants",
    "x = c.__name__": "c.__name__ is not an integer but of type str",
    "x = c.T_FRE": "c.T_FRE is not defined; did you mean T_FREE?",
    "x = c.free": "c.free is not defined",
    "x = fuel.real": "an attribute is allowed only",
    "x = print(1)": "print is not a kernel",
    "x = load(mem)": "load takes 2 arguments",
    "x = load(mem, 1, 2)": "load takes 2 arguments",
    "x = load(mem, i=1)": "keyword arguments are not allowed",
    "x = load(*fuel)": "a starred argument is not allowed",
    "x = load(1, 2)": "takes a memory first",
    "x = min(1)": "min takes",
    "x = range(3)": "only in: for i in range",
    "x = fuel is fuel": "in and is are not allowed",
    "x = fuel in mem": "in and is are not allowed",
    "x = (y := 5)": "an assignment inside an expression (:=) is not allowed",
    "while True:\n    x = 1": "this loop never ends and accesses no memory",
    "x: int": "a declaration without a value",
    "x = x + 1": "x may be read before it is assigned",
    "x += 1": "x may be read before it is assigned",
    "if fuel:\n    x = 1\nfuel += x": "x may be read before it is assigned",
    "for x in range(fuel):\n    y = x\nfuel += y": "y may be read before it is assigned",
    "for x in [1]:\n    fuel += x": "goes over range(..) only",
    "for x in range(1, 2, 0):\n    fuel += x": "step 0",
    "for x, y in range(3):\n    fuel += x": "one name",
    "while fuel:\n    break\nelse:\n    fuel = 1": "else of a loop",
    "global SMALL": "global is not allowed",
    "import os": "import is not allowed",
    "from os import getpid": "import is not allowed",
    "del fuel": "del is not allowed",
    "yield fuel": "yield is not allowed",
    "def inner():\n    return 1": "nested functions are not allowed",
    "class Inner:\n    pass": "a class is not allowed",
    "match fuel:\n    case 1:\n        fuel = 2": "match is not allowed",
    "if fuel < 0:\n    return 1, 2, 3, 4": "",  # no kernel that is made at random returns four
    "NAME_OF_THE_KERNEL": "recursion is not allowed",  # stands for a call of itself
}
SELF = "NAME_OF_THE_KERNEL"


def planted(program: str, kernel: str, statement: str) -> str:
    """``program`` with ``statement`` behind the first statement of the function ``kernel``."""
    head, begin, rest = program.partition(f"def {kernel}(")
    signature, newline, body = rest.partition(":\n")
    first, end, others = body.partition("\n")
    if statement == SELF:
        statement = f"{kernel}({signature[:-1]})"
    lines = "".join(f"    {line}\n" for line in statement.split("\n"))
    return f"{head}{begin}{signature}{newline}{first}{end}{lines}{others}"


def line_of(text: str, kernel: str) -> int:
    """The line of ``text`` on which the statement that was planted in ``kernel`` begins."""
    before = text[: text.index(f"def {kernel}(")]
    return before.count("\n") + 3  # the head and the first statement are in front of it
