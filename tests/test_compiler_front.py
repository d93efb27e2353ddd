"""The front end under attack: each kernel compiles and agrees, or is refused in one line."""

from __future__ import annotations

import os
import runpy
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from shmalloc import constants as c
from shmalloc.compiler.check import outline
from shmalloc.engine import get_engine
from support.sources import PREAMBLE, agreed, module, refusal, result


def body(tmp_path: Path, text: str, arguments: str = "mem, i"):
    """A kernel with the lines of ``text``, which are separated by "|"; leading dots indent."""
    lines = [line.strip() for line in text.split("|")]
    depth = [len(line) - len(line.lstrip(".")) for line in lines]
    code = "\n".join("    " * (1 + d) + line[d:] for d, line in zip(depth, lines, strict=True))
    return module(tmp_path, f"@kernel\ndef k({arguments}):\n{code}\n").k


# --- control flow --------------------------------------------------------------------------------
FLOWS = {
    "while True: |.i += 1 |.if i > 7: |..break | return i": 8,
    "while 1: |.x = i * 2 |.if x > 9: |..break |.i += 1 | return x": 10,
    "while 0: |.i = 9 | return i": 3,
    "while True: |.return i |.break": 3,
    "n = 0 | for a in range(5): |.for b in range(5): |..if b == 2: |...break |..n += 1 |"
    " return n": 10,
    "n = 0 | for a in range(6): |.if a % 2: |..continue |.n += a | return n": 6,
    "n = 0 | while i: |.i -= 1 |.if i == 1: |..continue |.n += i | return n": 2,
    "n = 0 | while True: |.while True: |..n += 1 |..if n % 3 == 0: |...break |.if n > 5: |..break |"
    " return n": 6,
    "while True: |.i += 1 |.x = i |.if i < 6: |..continue |.break | return x": 6,
    "while True: |.while True: |..x = i |..if x: |...break |.break | return x": 3,
    "while True: |.for a in range(3): |..if a == i: |...break |.x = i |.if i: |..break |"
    " return x": 3,
    "while i: |.while True: |..x = i |..break |.i = x - 1 | return i": 0,
    "while True: |.if i > 5: |..return i |.x = i + 1 |.i = x": 6,
    "for a in range(3): |.for b in range(3): |..if a * b == 2: |...return a * 10 + b |"
    " return 0": 12,
    "for a in range(10, 0, -3): |.i = a | return i": 1,
    "for i in range(i): |.pass | return i": 2,
    "return i | x = y | y = x": 3,
    "if i: |.return 1 | else: |.return 2": 1,
    "if False: |.x = 1 | else: |.x = 2 | return x": 2,
    "x: int = i | (y): int = x | return x + y": 6,
    "a = mem[a] = b = i | return a + b": 6,
}


@pytest.mark.parametrize("text", FLOWS)
def test_control_goes_where_it_goes_in_python(tmp_path: Path, text: str) -> None:
    assert result(body(tmp_path, text), 3) == FLOWS[text]


UNASSIGNED = (
    "if i: |.x = 1 | return x",
    "while i: |.x = 1 |.break | return x",
    "while True: |.if i: |..break |.x = 1 | return x",
    "while True: |.if i: |..x = 1 |..continue |.break | return x",
    "while True: |.while True: |..x = 1 |..break |.if i: |..break | if i: |.y = x | return y",
    "while True: |.if i: |..while True: |...x = 1 |...break |.break | return x",
    "while True: |.for a in range(i): |..x = 1 |..break |.break | return x",
    "while i == 3: |.x = i |.break | return x",
    "for a in range(i): |.pass | return a",
    "for a in range(i): |.x = 1 | return x",
    "x += 1 | return x",
    "x = x | return x",
    "mem[x] = x = 1 | return x",
    "while x: |.x = 1 | return i",
    "if i: |.x = 1 | elif i > 1: |.pass | else: |.x = 2 | return x",
    "if i: |.m = mem | return m[0]",
)


@pytest.mark.parametrize("text", UNASSIGNED)
def test_what_is_not_assigned_on_every_path_is_refused(tmp_path: Path, text: str) -> None:
    assert "may be read before it is assigned" in refusal(body(tmp_path, text), 3)


STUCK = (
    "while True: |.pass",
    "while 1: |.i = 2",
    "while i: |.pass | return 0",
    "while i == 3 and y < 5: |.x = i | return x",
    "while True: |.for a in range(3): |..break",
    "while True: |.i = min(i, y)",
    "while True: |.while i: |..i -= 1 |..break",
)
LEAVING = (
    "while i: |.i -= 1 | return i",
    "while True: |.for a in range(3): |..return 0",
    "while True: |.if i: |..break | return 0",
    "while load(mem, 0) > 9: |.pass | return 0",
    "while mem[0] > 9: |.pass | return 0",
    "while 0: |.pass | return 0",
)


@pytest.mark.parametrize("text", STUCK)
def test_a_loop_without_an_end_or_an_access_is_refused(tmp_path: Path, text: str) -> None:
    assert "this loop never ends and accesses no memory" in refusal(
        body(tmp_path, text, "mem, i, y"), 3
    )


@pytest.mark.parametrize("text", LEAVING)
def test_a_loop_that_can_end_or_lets_others_run_is_accepted(tmp_path: Path, text: str) -> None:
    assert outline(body(tmp_path, text)).findings == []


# --- types ---------------------------------------------------------------------------------------
RESULTS = {
    "return i == 3": True,
    "return i == 3 and i > 5": False,
    "return i and i > 1": 1,
    "return True & (i == 3)": True,
    "return False & True": False,
    "return True ^ 1": 0,
    "x = True | return x": True,
    "x = i == 3 | x = 5 | return x": 5,
    "if i: |.return True | return 0": 1,
    "return not i": False,
    "return min(True, False)": False,
    "return max(True, i)": 3,
    "return ~True": -2,
    "return bool(i)": True,
    "return int(True)": 1,
    "return": None,
    "pass": None,
    "return None": None,
    "return True, i": (1, 3),
    "a, b = load2(mem, 2) | return b, a": (3, 2),
    "return load2(mem, 2)": (2, 3),
    "return cas(mem, 3, 3, 9)": True,
}


@pytest.mark.parametrize("text", RESULTS)
def test_a_result_is_a_bool_an_int_a_tuple_or_none_as_in_python(tmp_path: Path, text: str) -> None:
    found = result(body(tmp_path, text), 3)
    assert (found, type(found)) == (RESULTS[text], type(RESULTS[text]))


MISUSES = {
    "return mem": "a memory",
    "x = mem + 1": "not a number",
    "if mem: |.pass": "not a number",
    "x = mem if i else mem": "not a number",
    "mem = mem": "the memory that the kernel was given; use another name",
    "mem = 3": "the memory that the kernel was given; use another name",
    "for mem in range(3): |.pass": "the memory that the kernel was given; use another name",
    "m = mem | m = 3": "is a memory here and something else elsewhere",
    "store(mem, 0, mem)": "not a number",
    "return i[0]": "is no memory",
    "mem[mem] = 1": "not a number",
    "x = store(mem, 0, 1)": "no value",
    "return store(mem, 0, 1)": "no value",
    "x = 1 + store(mem, 0, 1)": "no value",
    "x = load2(mem, 0)": "2 results",
    "x = load2(mem, 0) + 1": "2 results",
    "if load2(mem, 0): |.pass": "2 results",
    "a, b, d = load2(mem, 0)": "unpacks 2 results",
    "a, b = load(mem, 0)": "unpacks a number",
    "a, b = store(mem, 0, 1)": "unpacks no value",
    "a, b = d, e = load2(mem, 0)": "a tuple is allowed only in",
    "mem[0], b = load2(mem, 0)": "a tuple is allowed only in",
    "a, *b = load2(mem, 0)": "a tuple is allowed only in",
    "if i: |.return 1, 2 | return 1": "different numbers of results",
    "load(mem)": "load takes 2 arguments, 1 are given",
    "store(mem, 1)": "store takes 3 arguments, 2 are given",
    "x = abs(1, 2)": "abs takes 1 arguments, 2 are given",
    "x = bool()": "bool takes 1 arguments, 0 are given",
    "for a in range(): |.pass": "range takes 1 to 3 arguments, 0 are given",
    "load(i, mem)": "mem is a memory, not a number",
    "load(0, 1)": "takes a memory first",
}


@pytest.mark.parametrize("text", MISUSES)
def test_a_misuse_of_types_is_refused(tmp_path: Path, text: str) -> None:
    assert MISUSES[text] in refusal(body(tmp_path, text), 3)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def k():\n    return 1", "takes no memory; its first argument is one"),
        ("def k(a, b):\n    return a + b", "a is a memory, not a number"),
    ],
)
def test_an_entry_takes_a_memory(tmp_path: Path, text: str, reason: str) -> None:
    function = module(tmp_path, f"@kernel\n{text}\n").k
    assert reason in refusal(function, *[1] * (function.__code__.co_argcount - 1))


@pytest.mark.parametrize("count", [15, 16, 17, 40])
def test_a_kernel_takes_as_many_arguments_as_you_like(tmp_path: Path, count: int) -> None:
    names = [f"a{k}" for k in range(count)]
    terms = " + ".join(f"{k + 1} * {name}" for k, name in enumerate(names))
    function = body(tmp_path, f"return {terms}", ", ".join(["mem", *names]))
    assert result(function, *range(count)) == sum((k + 1) * k for k in range(count))


@pytest.mark.parametrize("count", [2, 9, 10, 25, 40])
def test_a_kernel_gives_as_many_results_as_you_like(tmp_path: Path, count: int) -> None:
    function = body(tmp_path, "return " + ", ".join(f"i + {k}" for k in range(count)))
    assert result(function, 3) == tuple(range(3, 3 + count))


@pytest.mark.parametrize("caller", ["cpu", "claim"])
def test_the_caller_of_a_fault_is_found_behind_many_arguments(tmp_path: Path, caller: str) -> None:
    names = ", ".join(["mem", *(f"a{k}" for k in range(40)), caller])
    function = body(tmp_path, "return mem[100]", names)
    outcome = agreed(function, *range(41))
    assert outcome[0] == "fault" and 40 in outcome, outcome


# --- names ---------------------------------------------------------------------------------------
SHADOWED = {
    "min = None": ("return min(i, 2)", "min is not an integer but of type NoneType"),
    "range = None": ("for a in range(i): pass", "goes over range(..) only"),
    "abs = 3": ("return abs(i)", "abs is not a kernel"),
}


@pytest.mark.parametrize("text", SHADOWED)
def test_a_builtin_that_the_module_hides_is_not_called(tmp_path: Path, text: str) -> None:
    line, reason = SHADOWED[text]
    made = module(tmp_path, f"{text}\n@kernel\ndef k(mem, i):\n    {line}\n")
    assert reason in refusal(made.k, 3)


def test_a_kernel_with_the_name_of_a_word_or_builtin_is_that_kernel(tmp_path: Path) -> None:
    made = module(
        tmp_path,
        """
        @kernel
        def load(mem, i):
            return 40
        @kernel
        def min(mem, i):
            return 2
        @kernel
        def k(mem, i):
            return load(mem, i) + min(mem, i) + words.load(mem, 0)
    """,
    )
    assert result(made.k, 3) == 42


def test_kernels_that_were_redefined_are_told_apart(tmp_path: Path) -> None:
    made = module(
        tmp_path,
        """
        @unit
        def f(mem):
            return 1
        old = f
        @unit
        def f(mem):
            return 2
        @kernel
        def k(mem):
            return f(mem) * 10 + old(mem)
    """,
    )
    assert [result(function) for function in (made.f, made.old, made.k)] == [2, 1, 21]


def test_modules_of_the_same_name_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file, value in (("twin_a", 1), ("twin_b", 2)):
        text = f"@kernel\ndef f(mem):\n    return {value}\n"
        monkeypatch.setitem(sys.modules, file, module(tmp_path, text, "twin", f"{file}.py"))
    made = module(
        tmp_path,
        """
        import twin_a, twin_b
        @kernel
        def k(mem):
            return twin_a.f(mem) * 10 + twin_b.f(mem)
    """,
    )
    assert result(made.k) == 12
    assert [result(sys.modules[file].f) for file in ("twin_a", "twin_b")] == [1, 2]


def test_names_may_have_any_letters(tmp_path: Path) -> None:
    made = module(
        tmp_path,
        """
        @kernel
        def größe(mem, höhe):
            länge = höhe + 1
            return länge
    """,
    )
    assert result(made.größe, 3) == 4


@pytest.mark.parametrize("name", ["qu'o\"te", "back\\slash", "new\nline", "ünï", "rt.fault", "a/b"])
def test_a_module_may_have_any_name(tmp_path: Path, name: str) -> None:
    text = (
        "@kernel\ndef k(mem, i):\n    return mem[i]\n@unit\ndef u(mem, i):\n    return k(mem, i)\n"
    )
    made = module(tmp_path, text, name, "plain.py")
    assert result(made.u, 3) == 3
    assert agreed(made.u, 100)[:3] == ("fault", "outside", f"{name}.k")


@pytest.mark.parametrize(
    "file",
    ["qu'o\"te.py", "back\\slash.py", "new\nline.py", "ünï.py", os.fsdecode(b"\xff.py")],
    ids=ascii,
)
def test_a_file_may_have_any_name_and_messages_stay_one_line(tmp_path: Path, file: str) -> None:
    text = (
        "@kernel\ndef k(mem, i):\n    return mem[i]\n@kernel\ndef wrong(mem):\n    return 1 / 2\n"
    )
    made = module(tmp_path, text, file=file)
    assert result(made.k, 3) == 3
    assert "kernel wrong: /, ** and @ leave the integers; use // and shifts" in refusal(made.wrong)


def test_methods_are_kernels_by_their_class(tmp_path: Path) -> None:
    made = module(
        tmp_path,
        """
        class Home:
            @staticmethod
            @kernel
            def static(mem, i):
                return mem[i]
            @kernel
            def method(mem, i):
                return mem[i]
    """,
    )
    assert result(made.Home.static, 3) == result(made.Home.method, 3) == 3


def test_a_wrapper_of_a_kernel_is_refused(tmp_path: Path) -> None:
    made = module(
        tmp_path,
        """
        import functools
        def twice(function):
            @functools.wraps(function)
            def inner(*arguments):
                return function(*arguments)
            return inner
        @twice
        @kernel
        def k(mem, i):
            return i
    """,
    )
    assert "kernel k: " in refusal(made.k, 3)


# --- constants -----------------------------------------------------------------------------------
CONSTANTS = {
    "X = True": (True, bool),
    "import enum\nclass E(enum.IntEnum):\n    A = 3\nX = E.A": (3, int),
    "class I(int):\n    def __int__(self):\n        return 9\nX = I(3)": (3, int),
    "X = -(1 << 63)": (-(1 << 63), int),
}


@pytest.mark.parametrize("text", CONSTANTS)
def test_a_constant_is_the_int_or_bool_that_it_is(tmp_path: Path, text: str) -> None:
    found = result(module(tmp_path, f"{text}\n@kernel\ndef k(mem):\n    return X\n").k)
    assert (found, type(found)) == CONSTANTS[text]


@pytest.mark.parametrize(
    "value", ["1 << 63", "1 << 30000", "3.0", "'x'", "None", "__import__('numpy').int64(3)"]
)
def test_another_constant_is_refused(tmp_path: Path, value: str) -> None:
    assert "kernel k: " in refusal(
        module(tmp_path, f"X = {value}\n@kernel\ndef k(mem):\n    return X").k
    )


def test_a_literal_of_20000_bits_is_refused(tmp_path: Path) -> None:
    assert "constant of 20000 bits" in refusal(body(tmp_path, f"return 0x{'f' * 5000}"), 3)


def test_a_constant_is_frozen_at_the_first_look(tmp_path: Path) -> None:
    made = module(tmp_path, "X = 1\n@kernel\ndef k(mem):\n    return X\n")
    get_engine("interpreted").bind(made.k)
    made.X = 2
    assert result(made.k) == 1


# --- size ----------------------------------------------------------------------------------------
def test_a_kernel_may_have_thousands_of_lines_and_locals(tmp_path: Path) -> None:
    lines = "".join(f"    x{k + 1} = x{k} + 1\n" for k in range(2000))
    made = module(tmp_path, f"@kernel\ndef k(mem, i):\n    x0 = i\n{lines}    return x2000\n")
    assert result(made.k, 3) == 2003


def deep(levels: int, function):
    return function() if levels == 0 else deep(levels - 1, function)


@pytest.mark.parametrize(
    "text",
    [
        "return " + " + ".join(["i"] * 96),
        "return " + "-" * 96 + "i",
        "if i == 0: |.return 0 |"
        + "".join(f"elif i == {k}: |.return {k} |" for k in range(1, 96))
        + "return 7",
    ],
    ids=["sum", "signs", "elif"],
)
def test_what_is_deep_compiles_also_for_a_deep_caller(tmp_path: Path, text: str) -> None:
    function = body(tmp_path, text)
    assert deep(100, lambda: agreed(function, 3))[0] == "result"


@pytest.mark.parametrize(
    "text",
    [
        "return " + " + ".join(["i"] * 300),
        "return " + "not " * 300 + "i",
        "return " + "(1 + " * 150 + "i" + ")" * 150,
        "if i == 0: |.return 0 |"
        + "".join(f"elif i == {k}: |.return {k} |" for k in range(1, 200))
        + "return 7",
    ],
    ids=["sum", "not", "parentheses", "elif"],
)
def test_what_is_too_deep_is_refused(tmp_path: Path, text: str) -> None:
    assert "nested more than 100 levels deep" in refusal(body(tmp_path, text), 3)


# --- where sources come from ---------------------------------------------------------------------
KERNEL = PREAMBLE + "@kernel\ndef k(mem, i):\n    return mem[i]\n"


@pytest.mark.parametrize(
    ("was", "edited"),
    [
        ("return 1", "return 2"),
        ("return 1", "return True"),
        ("return 1", "return i"),
        ("return 1", "return (1"),
    ],
)
def test_a_file_that_was_edited_since_its_import_is_refused(
    tmp_path: Path, was: str, edited: str
) -> None:
    made = module(tmp_path, f"@kernel\ndef k(mem, i):\n    {was}\n")
    Path(made.__file__ or "").write_text(
        f"{PREAMBLE}@kernel\ndef k(mem, i):\n    {edited}  # new\n"
    )
    assert "the source of k changed since it was imported; start a new process" in refusal(
        made.k, 3
    )


def test_a_comment_may_be_edited_after_the_import(tmp_path: Path) -> None:
    made = module(tmp_path, "@kernel\ndef k(mem, i):\n    return 1\n")
    path = Path(made.__file__ or "")
    path.write_text(path.read_text() + "# another comment\n")
    assert result(made.k, 3) == 1


def test_a_module_that_was_edited_and_imported_again_is_the_new_one(tmp_path: Path) -> None:
    text = "@kernel\ndef k(mem, i):\n    return {}\n"
    assert result(module(tmp_path, text.format(1), "again").k, 3) == 1
    assert result(module(tmp_path, text.format("22 "), "again").k, 3) == 22


@pytest.mark.parametrize("name", [None, "nobody_imports_this"])
def test_code_without_a_file_is_refused(name: str | None) -> None:
    scope = {} if name is None else {"__name__": name}
    exec(compile(KERNEL, "<made up>", "exec"), scope)
    assert "no source of k was found; put the kernel into a file" in refusal(scope["k"], 3)


def test_code_that_says_to_be_of_another_file_is_refused() -> None:
    scope = {"__name__": "nobody_imports_this"}
    exec(compile(KERNEL, __file__, "exec"), scope)
    assert "changed since it was imported" in refusal(scope["k"], 3)


@pytest.mark.parametrize("name", ["<run_path>", "__main__"])
def test_a_script_that_was_run_has_kernels(tmp_path: Path, name: str) -> None:
    (tmp_path / "script.py").write_text(KERNEL)
    assert result(runpy.run_path(str(tmp_path / "script.py"), run_name=name)["k"], 3) == 3


def test_a_kernel_in_a_zip_file_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "zipped.zip", "w") as file:
        file.writestr("from_a_zip.py", KERNEL)
    monkeypatch.syspath_prepend(str(tmp_path / "zipped.zip"))
    import from_a_zip  # type: ignore[import-not-found]

    assert result(from_a_zip.k, 3) == 3


def test_threads_that_look_at_one_kernel_see_no_recursion(tmp_path: Path) -> None:
    """One is in the middle of a kernel while the other begins with it."""
    from shmalloc.compiler import types
    from shmalloc.compiler.kinds import ANY

    function = body(tmp_path, "return i")
    types._here.functions.append(function)
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(types.analyse(function, ANY).result))
    try:
        thread.start()
        thread.join(timeout=60)
    finally:
        types._here.functions.pop()
    assert found == ["int"]


def test_a_module_that_is_bound_to_another_name_later_changes_nothing(tmp_path: Path) -> None:
    made = module(tmp_path, "@kernel\ndef k(mem):\n    return c.T_COUNT\n")
    before = result(made.k)
    made.c = None
    assert result(made.k) == before == c.T_COUNT
