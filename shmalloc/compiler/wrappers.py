"""Builtin functions that Python calls kernels through: METH_FASTCALL, in IR.

One wrapper serves all kernels with the same *shape*: a kind of memory, a number of ints, what comes
back. Its ``self`` is an int, the address of a *record*::

    0  address of the memory's place        1  address of the kernel's machine code
    2  what a call adds to RUNNING in that place: A_CALL or ALONE

A call that runs *alone* is not entered while another such call is in a kernel over that memory: in
another thread, which waits there without the interpreter's lock, or beneath in this one. Nor while
one waits for that, or a thread that calls all the time would keep the others out.

It takes exactly the kernel's ints, lays out the frame of the call (runtime.py) and enters the
kernel through ``rt.enter``. Two variants: ``k`` keeps the interpreter's lock, for calls of at most
a few microseconds; ``r`` releases it, for batches. A wrong count, a fault and an exception that a
listener left all go to one Python function, the *handler*, which raises the exception. It also
takes the calls that were not entered, waits, and answers in their place.

Only functions of CPython's stable ABI are called, by address: one image serves every version.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from shmalloc.compiler.kinds import Kind
from shmalloc.compiler.runtime import (
    ARGUMENTS,
    CODE,
    COUNT,
    CROWDED,
    EXTRA,
    FAULT,
    FRAME_WORDS,
    HELD,
    PLACE,
    PLACE_BASE,
    PLACE_WORDS,
    RESULTS,
    RUNNING,
    WANTED,
    WRONG_COUNT,
    imported,
)
from shmalloc.compiler.signatures import width
from shmalloc.compiler.types import Type


class Shape(NamedTuple):
    """What a wrapper depends on. ``result``: "int", "bool", "none" or the size of a tuple."""

    kind: Kind
    ints: int
    result: Type

    @property
    def frame_words(self) -> int:
        """The frame of a call, longer for more arguments or results than usual."""
        results = self.result if isinstance(self.result, int) else 1
        return max(FRAME_WORDS, ARGUMENTS + self.ints, RESULTS + results)

    @property
    def name(self) -> str:
        return f"{self.kind.name}.{self.ints}.{self.result}"

    def symbol(self, releases: bool) -> str:
        return f"py.{self.name}.{'r' if releases else 'k'}"


def wrappers(shapes: Iterable[Shape]) -> str:
    """IR of the wrappers of ``shapes``, each in both variants."""
    text = [thunk(shape) for shape in shapes]
    text += [_wrapper(shape, releases) for shape in shapes for releases in (False, True)]
    return "\n".join(text)


def _word(base: str, at: int, name: str) -> str:
    return f"  {name} = getelementptr i64, ptr {base}, i64 {at}\n"


def _load(base: str, at: int, name: str, kind: str = "i64") -> str:
    return _word(base, at, f"{name}.at") + f"  {name} = load {kind}, ptr {name}.at, align 8\n"


def _store(base: str, at: int, value: str, name: str, kind: str = "i64") -> str:
    return _word(base, at, f"{name}.at") + f"  store {kind} {value}, ptr {name}.at, align 8\n"


def _field(field: str, number: int) -> str:
    """Load a field of the memory from its place, or from the frame."""
    if field == "call":
        return ""
    at = {"base": PLACE_BASE, "words": PLACE_WORDS}.get(field, EXTRA + number)
    return _load("%place", at, f"%m.{field}", width(field))


def thunk(shape: Shape) -> str:
    """IR of the function that ``rt.enter`` calls: from the frame into registers, and the call."""
    lines = [f'define internal i64 @"thunk.{shape.name}"(ptr %call) nounwind {{\nentry:\n']
    lines.append(_load("%call", PLACE, "%place", "ptr") + _load("%call", CODE, "%code", "ptr"))
    given, extra = [], 0
    for field in shape.kind.fields:
        lines.append(_field(field, extra))
        extra += field not in ("base", "words", "call")
        given.append(f"{width(field)} {'%call' if field == 'call' else f'%m.{field}'}")
    for k in range(shape.ints):
        lines.append(_load("%call", ARGUMENTS + k, f"%a{k}"))
        given.append(f"i64 %a{k}")
    lines.append(_called(shape.result, ", ".join(given)) + "}\n")
    return "".join(lines)


def _called(result: Type, given: str) -> str:
    if not isinstance(result, int):
        return f"  %r = call i64 %code({given})\n  ret i64 %r\n"
    kind = "{" + ", ".join(["i64"] * result) + "}"
    text = f"  %r = call {kind} %code({given})\n"
    for k in range(result):
        text += f"  %r{k} = extractvalue {kind} %r, {k}\n"
    for k in range(1, result):
        text += _store("%call", RESULTS + k - 1, f"%r{k}", f"%to{k}")
    return text + "  ret i64 %r0\n"


def _function(name: str, api: str) -> str:
    return f"  {name} = {imported(api)}\n"


def _wrapper(shape: Shape, releases: bool) -> str:
    symbol = shape.symbol(releases)
    text = (
        f'define dso_local ptr @"{symbol}"(ptr %self, ptr %args, i64 %n) nounwind {{\nentry:\n'
        f"  %call = alloca [{shape.frame_words} x i64], align 16\n"
        + _function("%long", "PyLong_AsLongLong")
        + "  %at = call i64 %long(ptr %self)\n  %record = inttoptr i64 %at to ptr\n"
        + _load("%record", 0, "%place", "ptr")
        + _load("%record", 1, "%code", "ptr")
        + _store("%call", PLACE, "%place", "%f.place", "ptr")
        + _store("%call", CODE, "%code", "%f.code", "ptr")
        + _store("%call", FAULT, "0", "%f.fault")
        + _store("%call", COUNT, "%n", "%f.count")
        + _store("%call", HELD, "0" if releases else "1", "%f.held")
        + f"  %wrong = icmp ne i64 %n, {shape.ints}\n"
        + "  br i1 %wrong, label %miscounted, label %arg0, !prof !0\n"
    )
    text += "".join(_argument(k) for k in range(shape.ints))
    return text + f"arg{shape.ints}:\n" + _entered(shape, releases) + _ending(shape) + "}\n"


def _argument(k: int) -> str:
    """Argument ``k`` as an int. -1 may be an error: one more check, out of line."""
    return (
        f"arg{k}:\n"
        + _load("%args", k, f"%o{k}", "ptr")
        + f"  %v{k} = call i64 %long(ptr %o{k})\n"
        + _store("%call", ARGUMENTS + k, f"%v{k}", f"%g{k}")
        + f"  %m{k} = icmp eq i64 %v{k}, -1\n"
        + f"  br i1 %m{k}, label %look{k}, label %arg{k + 1}, !prof !0\nlook{k}:\n"
        + _function(f"%occurred{k}", "PyErr_Occurred")
        + f"  %e{k} = call ptr %occurred{k}()\n  %z{k} = icmp eq ptr %e{k}, null\n"
        + f"  br i1 %z{k}, label %arg{k + 1}, label %failed\n"
    )


def _entered(shape: Shape, releases: bool) -> str:
    enter = f'  %r = call i64 @rt.enter(ptr @"thunk.{shape.name}", ptr %call)\n'
    # Counted while the interpreter's lock is held, so plain accesses do.
    begin = (
        _load("%place", RUNNING, "%running")
        + _load("%record", 2, "%one")
        + _load("%place", WANTED, "%wanted")
        + "  %busy = lshr i64 %running, 32\n  %taken = or i64 %busy, %wanted\n"
        + "  %alone = icmp ugt i64 %one, 4294967295\n  %not = icmp ne i64 %taken, 0\n"
        + "  %crowd = and i1 %alone, %not\n"
        + "  br i1 %crowd, label %crowded, label %entered, !prof !0\nentered:\n"
        + _counted("add", "%running", "%in")
    )
    end = "  %still = load i64, ptr %running.at, align 8\n" + _counted("sub", "%still", "%out")
    if releases:
        enter = (
            _function("%save", "PyEval_SaveThread")
            + _function("%restore", "PyEval_RestoreThread")
            + f"  %state = call ptr %save()\n{enter}  call void %restore(ptr %state)\n"
        )
    return (
        begin
        + enter
        + end
        + "  %what = load i64, ptr %f.fault.at, align 8\n  %bad = icmp ne i64 %what, 0\n"
        + "  br i1 %bad, label %trouble, label %fine, !prof !0\n"
    )


def _counted(operation: str, value: str, name: str) -> str:
    return (
        f"  {name} = {operation} i64 {value}, %one\n  store i64 {name}, ptr %running.at, align 8\n"
    )


def _ending(shape: Shape) -> str:
    failed = "failed:\n  ret ptr null\n" if shape.ints else ""
    return (
        "fine:\n"
        + _converted(shape.result)
        + "miscounted:\n"
        + f"  store i64 {WRONG_COUNT}, ptr %f.fault.at, align 8\n  br label %trouble\n"
        + "crowded:\n"
        + f"  store i64 {CROWDED}, ptr %f.fault.at, align 8\n  br label %trouble\n"
        + "trouble:\n"
        + _function("%from.t", "PyLong_FromLongLong")
        + _function("%invoke", "PyObject_CallFunctionObjArgs")
        + _function("%handler", "handler")
        + _function("%drop", "Py_DecRef")
        + "  %frame.at = ptrtoint ptr %call to i64\n  %frame = call ptr %from.t(i64 %frame.at)\n"
        + "  %raised = call ptr (ptr, ...) %invoke(ptr %handler, ptr %self, ptr %frame, ptr null)\n"
        + "  call void %drop(ptr %frame)\n  ret ptr %raised\n"
        + failed
    )


def _converted(result: Type) -> str:
    if result == "none":
        share = _function("%share", "Py_IncRef") + _function("%none", "None")
        return share + "  call void %share(ptr %none)\n  ret ptr %none\n"
    if result == "bool":
        return (
            _function("%make", "PyBool_FromLong") + "  %o = call ptr %make(i64 %r)\n  ret ptr %o\n"
        )
    from_int = _function("%make", "PyLong_FromLongLong")
    if result == "int":
        return from_int + "  %o = call ptr %make(i64 %r)\n  ret ptr %o\n"
    assert isinstance(result, int)
    return from_int + _tuple(result)


def _tuple(size: int) -> str:
    """A tuple of the results; null, with the exception of Python's, where memory ran out."""
    text = _function("%new", "PyTuple_New") + _function("%set", "PyTuple_SetItem")
    text += f"  %o = call ptr %new(i64 {size})\n  %nothing = icmp eq ptr %o, null\n"
    text += "  br i1 %nothing, label %starved, label %item0, !prof !0\n"
    for k in range(size):
        value = "%r" if k == 0 else f"%x{k}"
        text += f"item{k}:\n" + (_load("%call", RESULTS + k - 1, f"%x{k}") if k else "")
        text += f"  %p{k} = call ptr %make(i64 {value})\n  %n{k} = icmp eq ptr %p{k}, null\n"
        text += f"  br i1 %n{k}, label %unwanted, label %keep{k}, !prof !0\nkeep{k}:\n"
        text += f"  call i32 %set(ptr %o, i64 {k}, ptr %p{k})\n  br label %item{k + 1}\n"
    text += f"item{size}:\n  ret ptr %o\nunwanted:\n" + _function("%unref", "Py_DecRef")
    return text + "  call void %unref(ptr %o)\n  ret ptr null\nstarved:\n  ret ptr null\n"
