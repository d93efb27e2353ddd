"""The kernel dialect: each rule has an example that breaks it, and every kernel keeps them all."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import FunctionType

import pytest

import shmalloc
import stress
from shmalloc import dialect
from shmalloc.dialect import KERNELS, closure_of, is_kernel, kernel, violations
from shmalloc.words import load, load2, store

LIMIT = 8
lower_case = 3
NAME = "text"


@kernel
def helper(mem, i):
    return load(mem, i)


# --- one function for each rule, undecorated: they must not be registered ------------------------
def divides(mem, i):
    return i / 2


def raises_to_a_power(mem, i):
    return i**2


def multiplies_matrices(mem, i):
    return i @ i


def has_a_float(mem, i):
    return i + 1.5


def has_a_string(mem, i):
    return "text"


def builds_a_tuple(mem, i):
    return i, i


def unpacks_something_else(mem, i):
    a, b = helper(mem, i)
    return a + b


def unpacks_three_of_load2(mem, i):
    a, b, c = load2(mem, i)
    return a + b + c


def builds_a_list(mem, i):
    return [i]


def builds_a_dict(mem, i):
    return {i: i}


def builds_a_set(mem, i):
    return {i}


def formats(mem, i):
    return f"{i}"


def slices(mem, i):
    return mem[i:LIMIT]


def starred(mem, i):
    return helper(*mem)


def raises(mem, i):
    raise ValueError


def tries(mem, i):
    try:
        return i
    finally:
        store(mem, i, 0)


def asserts(mem, i):
    assert i
    return i


def has_a_lambda(mem, i):
    return (lambda: i)()


def has_a_nested_function(mem, i):
    def inner(mem):
        return 0

    return inner(mem)


def comprehends(mem, i):
    return [k for k in range(i)]


def generates(mem, i):
    return max(k for k in range(i))


def yields(mem, i):
    yield i


def yields_from(mem, i):
    yield from i


def comprehends_a_set(mem, i):
    return {k for k in range(i)}


def comprehends_a_dict(mem, i):
    return {k: k for k in range(i)}


def defines_a_class(mem, i):
    class Inner:
        pass

    return i


def imports_from(mem, i):
    from os import getpid  # noqa: F401

    return i


def awaits(mem, i):
    async def inner(mem):
        return await mem

    return i


def writes_an_outer_name(mem, i):
    def inner(mem):
        nonlocal i
        i = 0

    return i


def uses_a_context(mem, i):
    with mem:
        return i


def uses_an_attribute(mem, i):
    return mem.words


def walrus(mem, i):
    return (k := i) + k


def deletes(mem, i):
    k = i
    del k
    return i


def imports(mem, i):
    import os  # noqa: F401

    return i


def writes_a_global(mem, i):
    global lower_case
    lower_case = i


def matches(mem, i):
    match i:
        case _:
            return i


def has_a_default(mem, i=0):
    return i


def has_keyword_only(mem, *, i):
    return i


def has_star_arguments(mem, *rest):
    return 0


def passes_a_keyword(mem, i):
    return helper(mem, i=i)


def reads_a_lower_case_global(mem, i):
    return i + lower_case


def reads_a_text_global(mem, i):
    return i + NAME


def calls_a_function_that_is_no_kernel(mem, i):
    return divides(mem, i)


def calls_a_foreign_builtin(mem, i):
    return sum(i)


def returns_sometimes(mem, i):
    if i > 0:
        return i
    return


def falls_off_its_end(mem, i):
    if i > 0:
        return i


def falls_out_of_a_loop(mem, i):
    while True:
        if i > 0:
            break
        return i


def reads_what_one_branch_assigned(mem, i):
    if i > 0:
        k = i
    return k


def reads_what_a_loop_assigned(mem, i):
    for k in range(i):
        last = k
    return last


def augments_what_is_unassigned(mem, i):
    for _k in range(i):
        total += i  # noqa: F821, F841
    return i


def closes_over_a_name():
    outer = 3

    def closure(mem, i):
        return i + outer

    return closure


NOT_ALLOWED = "is not allowed"
BROKEN = [
    (divides, "// and shifts"), (raises_to_a_power, "// and shifts"),
    (multiplies_matrices, "// and shifts"), (has_a_float, "1.5 is not an integer"),
    (has_a_string, "'text' is not an integer"), (builds_a_tuple, "tuples"),
    (unpacks_something_else, "tuples"), (unpacks_three_of_load2, "tuples"),
    (builds_a_list, NOT_ALLOWED), (builds_a_dict, NOT_ALLOWED), (builds_a_set, NOT_ALLOWED),
    (formats, NOT_ALLOWED), (slices, NOT_ALLOWED), (starred, NOT_ALLOWED), (raises, NOT_ALLOWED),
    (tries, NOT_ALLOWED), (asserts, NOT_ALLOWED), (has_a_lambda, NOT_ALLOWED),
    (has_a_nested_function, "nested functions"), (comprehends, NOT_ALLOWED),
    (generates, NOT_ALLOWED), (yields, NOT_ALLOWED), (uses_a_context, NOT_ALLOWED),
    (yields_from, NOT_ALLOWED), (comprehends_a_set, NOT_ALLOWED),
    (comprehends_a_dict, NOT_ALLOWED), (defines_a_class, NOT_ALLOWED),
    (imports_from, NOT_ALLOWED), (awaits, NOT_ALLOWED), (writes_an_outer_name, NOT_ALLOWED),
    (uses_an_attribute, NOT_ALLOWED), (walrus, NOT_ALLOWED), (deletes, NOT_ALLOWED),
    (imports, NOT_ALLOWED), (writes_a_global, NOT_ALLOWED), (matches, NOT_ALLOWED),
    (has_a_default, "default"), (has_keyword_only, "keyword"), (has_star_arguments, "starred"),
    (passes_a_keyword, "keyword arguments"), (reads_a_lower_case_global, "lower_case is not"),
    (reads_a_text_global, "NAME is not"), (calls_a_function_that_is_no_kernel, "divides is not"),
    (calls_a_foreign_builtin, "sum is not"), (returns_sometimes, "nothing on others"),
    (falls_off_its_end, "fall off its end"), (falls_out_of_a_loop, "fall off its end"),
    (reads_what_one_branch_assigned, "k may be read before"),
    (reads_what_a_loop_assigned, "last may be read before"),
    (augments_what_is_unassigned, "total may be read before"),
    (closes_over_a_name(), "may not be a closure"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "reason"), BROKEN, ids=lambda v: getattr(v, "__name__", ""))
def test_a_broken_rule_is_reported(function: FunctionType, reason: str) -> None:
    assert any(reason in text for text in violations(function)), violations(function)


def test_a_violation_names_the_function_and_its_line():
    line = divides.__code__.co_firstlineno + 1
    assert violations(divides)[0].startswith(f"divides line {line}: ")


def test_every_forbidden_statement_has_an_example_here():
    reported = {
        text.split(": ")[1].split(" ")[0]
        for function, _reason in BROKEN
        for text in violations(function)
        if NOT_ALLOWED in text
    }
    assert reported == {node.__name__ for node in dialect._FORBIDDEN}


# --- what is allowed -----------------------------------------------------------------------------
def keeps_all_rules(mem, i):
    """A docstring is allowed, and so are loops, branches and one pair."""
    low, high = load2(mem, i)
    total = 0
    for k in range(LIMIT):
        if k == high:
            continue
        total += k if low > k else helper(mem, k)
    while total > LIMIT:
        total -= 1
    return max(total, mem[i])


def returns_nothing(mem, i):
    store(mem, i, 0)


def leaves_from_an_endless_loop(mem, i):
    while True:
        if load(mem, i) == 0:
            return 1


@pytest.mark.parametrize(
    "function", [keeps_all_rules, returns_nothing, leaves_from_an_endless_loop]
)
def test_what_the_dialect_allows_is_not_reported(function: FunctionType) -> None:
    assert violations(function) == []


# --- the registry --------------------------------------------------------------------------------
def _import_all_kernels() -> None:
    """Every module that decorates a kernel; others may start work when they are imported."""
    for package in (shmalloc, stress):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*.py")):
            if re.search(r"^@(kernel|hot)$", path.read_text(), re.MULTILINE):
                parts = path.relative_to(root.parent).with_suffix("").parts
                importlib.import_module(".".join(parts))


def test_every_kernel_of_the_project_keeps_the_dialect():
    _import_all_kernels()
    ours = [f for name, f in KERNELS.items() if name.startswith(("shmalloc.", "stress."))]
    assert len(ours) > 100
    assert [text for function in ours for text in violations(function)] == []


def test_the_decorator_returns_the_function_itself():
    def plain(mem):
        return 0

    assert kernel(plain) is plain
    assert is_kernel(plain)
    del KERNELS[f"{plain.__module__}.{plain.__qualname__}"]


def test_the_closure_of_a_kernel_holds_what_it_calls():
    assert closure_of(keeps_all_rules) == [helper, keeps_all_rules]
