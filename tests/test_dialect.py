"""The kernel dialect: each rule has an example that breaks it, and every kernel keeps them all."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import FunctionType

import pytest

import shmalloc
import stress
from shmalloc import constants as c
from shmalloc.compiler import source
from shmalloc.compiler.check import violations
from shmalloc.compiler.refusals import REFUSED
from shmalloc.dialect import KERNELS, closure_of, is_kernel, kernel
from shmalloc.engine import get_engine
from shmalloc.errors import DialectError, EngineError, MisuseError
from shmalloc.memory import Ram
from shmalloc.words import load, load2, store

LIMIT = 8
lower_case = 3
NAME = "text"


@kernel
def helper(mem, i):
    return load(mem, i)


@kernel
def both(mem, i):
    return load(mem, i), i


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


def has_bytes(mem, i):
    return b"text"


def builds_a_tuple(mem, i):
    pair = i, i
    return pair


def returns_a_tuple_of_one(mem, i):
    return (i,)


def unpacks_a_tuple(mem, i):
    a, b = i, i
    return a + b


def returns_two_or_three(mem, i):
    if i:
        return i, i
    return i, i, i


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


def tries_a_group(mem, i):
    try:
        return i
    except* OSError:
        pass


def asserts(mem, i):
    assert i
    return i


def has_a_lambda(mem, i):
    return (lambda: i)()


def keeps_a_lambda(mem, i):
    k = lambda: i  # noqa: E731, F841
    return i


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


async def is_async(mem, i):
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


def disowns_a_name():
    outer = 3

    def inner(mem, i):
        nonlocal outer
        outer = i

    return inner


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


def calls_itself(mem, i):
    return calls_itself(mem, i)


def has_a_literal_of_65_bits(mem, i):
    return i + 0x1_0000_0000_0000_0000


def has_a_literal_below_all(mem, i):
    return -9_223_372_036_854_775_809 + i


# fmt: off
def is_nested_deeply(mem, i):
    return (
        i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i +
        i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i +
        i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i +
        i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i +
        i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i + i
    )
# fmt: on


def shifts_too_far(mem, i):
    return i << 64


def shifts_back(mem, i):
    i >>= -1
    return i


def has_a_range_without_a_step(mem, i):
    for k in range(i, 0, 0):
        i += k
    return i


def goes_over_a_list(mem, i):
    for k in [1, 2]:
        i += k
    return i


def counts_two_at_once(mem, i):
    for a, b in range(i):
        i += a + b
    return i


def has_an_else_of_a_while(mem, i):
    while i:
        break
    else:
        i = 1
    return i


def has_an_else_of_a_for(mem, i):
    for _ in range(i):
        break
    else:
        i = 1
    return i


def declares(mem, i):
    k: int  # noqa: F842
    return i


def annotates_a_word(mem, i):
    mem[i]: int = 3
    return i


def asks_whether_it_is_in(mem, i):
    return i in mem


def asks_whether_it_is(mem, i):
    return i is mem


def names_a_kernel(mem, i):
    return helper


def has_a_range_as_a_value(mem, i):
    return range(i)


def indexes_a_global(mem, i):
    return LIMIT[i]


def gives_too_few(mem, i):
    return helper(mem)


def gives_too_many(mem, i):
    return helper(mem, i, i)


def takes_the_least_of_one(mem, i):
    return min(i)


def reads_a_lower_case_constant_of_a_module(mem, i):
    return c.__name__


def reads_a_constant_of_a_local(mem, c):
    return c.MAGIC


def falls_out_of_a_loop(mem, i):
    while True:
        if i > 0:
            break
        return i


def reads_what_not_every_break_assigned(mem, i):
    while True:
        if i > 9:
            break
        k = i
        if i > 5:
            break
        i += 1
    return k


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


an_anonymous_kernel = lambda mem, i: i  # noqa: E731
NOT_ALLOWED = "is not allowed"
BROKEN = [
    (divides, "// and shifts"), (raises_to_a_power, "// and shifts"),
    (multiplies_matrices, "// and shifts"), (has_a_float, "1.5 is not an integer"),
    (has_a_string, "a string is not allowed"), (has_bytes, "a string is not allowed"),
    (builds_a_tuple, "a tuple is allowed only in"), (unpacks_a_tuple, "a tuple is allowed only in"),
    (returns_a_tuple_of_one, "at least two"), (returns_two_or_three, "different lengths"),
    (builds_a_list, "a list is not allowed"), (builds_a_dict, "a dict is not allowed"),
    (builds_a_set, "a set is not allowed"), (formats, "a string is not allowed"),
    (slices, "a slice is not allowed"), (starred, "a starred argument is not allowed"),
    (raises, "raise is not allowed"), (tries, "try is not allowed"),
    (tries_a_group, "try is not allowed"),
    (asserts, "an assert is not allowed"), (has_a_lambda, "is not a kernel"),
    (keeps_a_lambda, "a lambda is not allowed"), (an_anonymous_kernel, "a lambda is not allowed"),
    (has_a_nested_function, "nested functions are not allowed"), (comprehends, NOT_ALLOWED),
    (generates, NOT_ALLOWED), (yields, NOT_ALLOWED), (uses_a_context, "with is not allowed"),
    (yields_from, NOT_ALLOWED), (comprehends_a_set, NOT_ALLOWED),
    (comprehends_a_dict, NOT_ALLOWED), (defines_a_class, "a class is not allowed"),
    (imports_from, "import is not allowed"), (is_async, "an async function is not allowed"),
    (awaits, "an async function is not allowed"), (writes_an_outer_name, "nested functions"),
    (disowns_a_name(), "nonlocal is not allowed"), (uses_an_attribute, "an attribute is allowed"),
    (walrus, NOT_ALLOWED), (deletes, NOT_ALLOWED), (imports, "import is not allowed"),
    (writes_a_global, "global is not allowed"), (matches, NOT_ALLOWED),
    (has_a_default, "default"), (has_keyword_only, "keyword"), (has_star_arguments, "starred"),
    (passes_a_keyword, "keyword arguments"),
    (reads_a_lower_case_global, "lower_case is not a constant"),
    (reads_a_text_global, "NAME is not an integer"),
    (calls_a_function_that_is_no_kernel, "decorate it with @kernel"),
    (calls_a_foreign_builtin, "sum is not a kernel"), (returns_sometimes, "nothing on others"),
    (falls_off_its_end, "fall off its end"), (falls_out_of_a_loop, "fall off its end"),
    (reads_what_one_branch_assigned, "k may be read before"),
    (reads_what_a_loop_assigned, "last may be read before"),
    (reads_what_not_every_break_assigned, "k may be read before"),
    (augments_what_is_unassigned, "total may be read before"),
    (closes_over_a_name(), "may not be a closure"), (is_nested_deeply, "levels deep"),
    (has_a_literal_of_65_bits, "does not fit into 64 bits"),
    (has_a_literal_below_all, "does not fit into 64 bits"),
    (shifts_too_far, "a shift by 64 bits"), (shifts_back, "a shift by -1 bits"),
    (has_a_range_without_a_step, "step 0"), (goes_over_a_list, "goes over range(..) only"),
    (counts_two_at_once, "one name"), (has_an_else_of_a_while, "else of a loop"),
    (has_an_else_of_a_for, "else of a loop"), (declares, "a declaration without a value"),
    (annotates_a_word, "only a plain name"), (asks_whether_it_is_in, "in and is are not allowed"),
    (asks_whether_it_is, "in and is are not allowed"), (names_a_kernel, "can only be called"),
    (has_a_range_as_a_value, "allowed only in: for"), (indexes_a_global, "only memory has words"),
    (gives_too_few, "helper takes 2 arguments, 1"), (gives_too_many, "helper takes 2 arguments, 3"),
    (takes_the_least_of_one, "min takes 2 to 99 arguments, 1"),
    (reads_a_lower_case_constant_of_a_module, "c.__name__ is not an integer but of type str"),
    (reads_a_constant_of_a_local, "an attribute is allowed only"),
]  # fmt: skip
each_broken = pytest.mark.parametrize(
    ("function", "reason"), BROKEN, ids=[function.__name__ for function, _ in BROKEN]
)


@each_broken
def test_a_broken_rule_is_reported(function: FunctionType, reason: str) -> None:
    assert any(reason in text for text in violations(function)), violations(function)


def test_a_violation_names_file_line_and_kernel():
    line = divides.__code__.co_firstlineno + 1
    place = f"{source.readable(__file__)}:{line}: kernel divides: "
    assert violations(divides)[0].startswith(place)


def test_every_violation_of_a_kernel_is_reported_in_the_order_of_lines():
    assert [int(text.split(":")[1]) for text in violations(breaks_three_rules)] == [
        breaks_three_rules.__code__.co_firstlineno + k for k in (1, 2, 3)
    ]


def breaks_three_rules(mem, i):
    i /= 2
    i **= 2
    return "text"


def test_every_refusal_with_a_text_of_its_own_has_an_example_here():
    said = "\n".join(text for function, _reason in BROKEN for text in violations(function))
    assert [node.__name__ for node, text in REFUSED.items() if text not in said] == []


# --- engines refuse alike ------------------------------------------------------------------------
def refused(engine: str, function: FunctionType) -> str:
    """What ``engine`` raises when it binds the kernel, which is only that error."""
    with pytest.raises(DialectError) as caught:
        get_engine(engine).bind(function)
    assert isinstance(caught.value, MisuseError) and isinstance(caught.value, EngineError)
    return str(caught.value)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that a test marks are unmarked after it."""
    monkeypatch.setattr("shmalloc.dialect.KERNELS", dict(KERNELS))


@each_broken
def test_both_engines_refuse_it_in_the_same_line(
    registry: None, monkeypatch: pytest.MonkeyPatch, function: FunctionType, reason: str
) -> None:
    monkeypatch.setattr(function, "__kernel__", True, raising=False)
    told = refused("native", function)
    assert "\n" not in told and told == refused("interpreted", function)
    assert told == violations(function)[0]


def test_a_kernel_that_reaches_itself_is_refused_with_the_ring():
    told = refused("native", ring_first)
    assert "recursion is not allowed (ring_first -> ring_second -> ring_first)" in told
    assert told == refused("interpreted", ring_first)


@kernel
def ring_first(mem, i):
    return ring_second(mem, i)


@kernel
def ring_second(mem, i):
    return ring_first(mem, i)


def test_a_kernel_is_refused_where_what_it_calls_is_wrong():
    told = refused("native", calls_what_is_wrong)
    assert "kernel is_wrong: a string is not allowed" in told
    assert told == refused("interpreted", calls_what_is_wrong)


@kernel
def is_wrong(mem):
    return "text"


@kernel
def calls_what_is_wrong(mem):
    return is_wrong(mem)


def named(value: object) -> str:
    """The same in every process: the repr of a function holds its address."""
    return str(getattr(value, "__name__", repr(value)))


@pytest.mark.parametrize("value", [3, None, print, len, divides, "divides"], ids=named)
def test_what_is_no_kernel_is_refused_alike(value: FunctionType) -> None:
    told = []
    for engine in ("native", "interpreted"):
        with pytest.raises(
            EngineError, match="is not a kernel; decorate it with @kernel"
        ) as caught:
            get_engine(engine).bind(value)
        told.append(str(caught.value))
    assert told[0] == told[1]


@pytest.mark.parametrize("value", [3, print, staticmethod(divides)], ids=named)
def test_the_decorator_refuses_what_is_no_plain_function(value: FunctionType) -> None:
    with pytest.raises(DialectError, match="put @kernel directly above a def"):
        kernel(value)


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


def unpacks_the_results_of_a_kernel(mem, i):
    a, b = both(mem, i)
    return b, a


def reads_constants_of_a_module(mem, i):
    return c.MAGIC if i == LIMIT else -c.ZONE_SHIFT


def uses_what_was_assigned_before_every_break(mem, i):
    while True:
        k: int = load(mem, i)
        if k > LIMIT:
            break
        i += 1
        if i > LIMIT:
            break
    return k


def has_arguments_by_position_only(mem, /, i):
    return mem[i]


def assigns_to_several(mem, i):
    a = mem[i] = b = True
    a += b
    return a


def has_comments_in_quotes(mem, i):
    """The first."""
    "The second."
    return i


def gives_the_memory_a_second_name(mem, i):
    m = mem
    m[i] = 1
    return m[i]


@pytest.mark.parametrize(
    "function",
    [
        keeps_all_rules,
        returns_nothing,
        leaves_from_an_endless_loop,
        unpacks_the_results_of_a_kernel,
        reads_constants_of_a_module,
        uses_what_was_assigned_before_every_break,
        has_arguments_by_position_only,
        assigns_to_several,
        has_comments_in_quotes,
        gives_the_memory_a_second_name,
    ],
    ids=lambda function: function.__name__,
)
def test_what_the_dialect_allows_is_not_reported(function: FunctionType) -> None:
    assert violations(function) == []


@kernel
def stops(mem, i):
    breakpoint()
    return i


@kernel
def stops_below(i):
    breakpoint()
    return i


@kernel
def comes_to_a_stop(mem, i):
    return stops_below(i) + i


@pytest.mark.parametrize(("function", "result"), [(stops, 3), (comes_to_a_stop, 6)])
def test_a_breakpoint_stops_an_interpreted_kernel(
    function: FunctionType, result: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = []
    monkeypatch.setattr("sys.breakpointhook", lambda: stopped.append(1))
    assert get_engine("interpreted").call(function, Ram.of_words(2), 3) == result
    assert stopped == [1]


@pytest.mark.parametrize("function", [stops, comes_to_a_stop])
def test_a_breakpoint_is_not_compiled(function: FunctionType) -> None:
    assert "breakpoint() cannot be compiled; use engine='interpreted'" in refused(
        "native", function
    )


# --- the registry --------------------------------------------------------------------------------
def _import_all_kernels() -> None:
    """Every module that decorates a kernel; others may start work when they are imported."""
    for package in (shmalloc, stress):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*.py")):
            if re.search(r"^@(kernel|hot|unit)$", path.read_text(), re.MULTILINE):
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
