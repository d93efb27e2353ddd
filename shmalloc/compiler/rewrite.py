"""A kernel as a plain Python function that computes with int64: what interpreted engines run.

``rewritten(form)`` makes from a checked kernel (types.py) the code of a function of the same name,
file and lines, so that breakpoints, tracebacks, coverage and the explorer's traces show the user's
source. Its meaning is that of compiled code, to the last bit:

- ``+ - * <<``, unary ``-``, ``abs`` and ``//`` wrap (rewrite_expressions.py)
- shift counts and the steps of ranges are checked before they are used; a division by zero is
  Python's own error
- words become methods of the memory: ``load(mem, i)`` is ``mem.load(i)``, one Python call less
- a bool becomes an int wherever the kernel uses it as one: stored, passed on, or as a result

A rewritten kernel does not track its position, so that it costs nothing unless it faults.
``entry(kernel)`` makes of one the function that an engine calls: it takes the arguments that
compiled code takes, and turns an exception into a ``KernelFault`` with kernel, line and CPU.

What it does not do: check the dialect (``analyse`` does), find and keep what a kernel calls
(runnable.py), know a memory or an engine.
"""

from __future__ import annotations

import ast
import builtins
import functools
import operator
from collections.abc import Callable, Mapping
from types import CodeType, FunctionType, TracebackType
from typing import Any

from shmalloc.compiler.integers import BOOL, INT64, INT_MAX, INT_MIN
from shmalloc.compiler.rewrite_expressions import (
    HELPERS,
    Expressions,
    Operand,
    call,
    is_simple,
    name,
    type_of,
    wrapped,
)
from shmalloc.compiler.types import Form, Type
from shmalloc.dialect import Kernel, caller_index
from shmalloc.errors import (
    ArithmeticFault,
    ExpectationFault,
    KernelFault,
    MisuseError,
    OutsideFault,
)

_MARK = ".kernel"  # in the globals of each rewritten kernel: its full name
FAULTS = (
    IndexError,
    ArithmeticError,
    AssertionError,
)  # what a rewritten kernel and its memory raise for a fault


def rewritten(form: Form) -> tuple[CodeType, dict[str, tuple[Kernel, bool]]]:
    """The code of ``form``'s function with the arithmetic of compiled code.

    And by each name that it calls: what, and whether that is given a memory.
    """
    body = _Statements(form)
    return _compiled(form, body.block(form.tree.body)), body.callees


def linked(function: Kernel, code: CodeType, callees: Mapping[str, Callable[..., Any]]) -> Kernel:
    """``function``, rewritten to ``code``, which calls ``callees``."""
    namespace: dict[str, Any] = {
        "__name__": function.__module__,
        "__builtins__": builtins,
        _MARK: f"{function.__module__}.{function.__qualname__}",
        **HELPERS,
    }
    for known in function.__code__.co_names:  # constants, too: a debugger is asked for them
        if known in function.__globals__:
            namespace[known] = function.__globals__[known]
    namespace |= callees
    made = FunctionType(code, namespace, function.__name__)
    made.__doc__ = function.__doc__
    made.__wrapped__ = function  # type: ignore[attr-defined]
    return made


def _compiled(form: Form, body: list[ast.stmt]) -> CodeType:
    """The code object of ``body`` under the name, the file and the lines of the kernel."""
    code = form.function.__code__
    # Never evaluated: the first line of a function is that of its first decorator.
    first = code.co_firstlineno
    decorator = ast.Constant(None, lineno=first, end_lineno=first, col_offset=0, end_col_offset=0)
    arguments = [ast.arg(arg=text) for text in form.params]
    tree = ast.FunctionDef(  # type: ignore[call-arg, unused-ignore]
        name=form.function.__name__,
        args=ast.arguments(
            posonlyargs=[], args=arguments, kwonlyargs=[], kw_defaults=[], defaults=[]
        ),
        body=body,
        decorator_list=[decorator],
        type_params=[],
    )
    ast.copy_location(tree, form.tree)
    module = ast.fix_missing_locations(ast.Module(body=[tree], type_ignores=[]))
    outer = compile(module, code.co_filename, "exec", dont_inherit=True)
    inner = next(constant for constant in outer.co_consts if isinstance(constant, CodeType))
    return inner.replace(co_qualname=code.co_qualname)


class _Statements(Expressions):
    """Statements of the dialect as statements of Python, each on its own line."""

    def block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        made: list[ast.stmt] = []
        for node in body:
            visit: Callable[[Any], list[ast.stmt]] = getattr(self, f"_do_{type(node).__name__}")
            made += [ast.copy_location(statement, node) for statement in visit(node)]
        return made

    def _do_Pass(self, node: ast.stmt) -> list[ast.stmt]:
        return [type(node)()]

    _do_Break = _do_Continue = _do_Pass

    def _do_Expr(self, node: ast.Expr) -> list[ast.stmt]:
        return [ast.Expr(value=self.exact(node.value))]

    def _do_Return(self, node: ast.Return) -> list[ast.stmt]:
        value = None if node.value is None else self.as_type(node.value, self.form.result)
        return [ast.Return(value=value)]

    def _do_Assign(self, node: ast.Assign) -> list[ast.stmt]:
        kinds = [type_of(target) for target in node.targets]
        targets = [self._target(target) for target in node.targets]
        if type_of(node.value) == "bool" and "bool" in kinds and set(kinds) != {"bool"}:
            return self._as_each_wants(node.value, targets, kinds)
        value = self.as_type(node.value, kinds[0])
        return [ast.Assign(targets=targets, value=value)]

    def _as_each_wants(
        self, value: ast.expr, targets: list[ast.expr], kinds: list[Type]
    ) -> list[ast.stmt]:
        """``a = b = value`` where one is a bool for good and the other holds ints elsewhere."""
        keep = ast.Name(id=".v", ctx=ast.Store())
        made: list[ast.stmt] = [ast.Assign(targets=[keep], value=self.exact(value))]
        for target, kind in zip(targets, kinds, strict=True):
            read: ast.expr = name(".v")
            if kind != "bool":
                read = ast.UnaryOp(op=ast.UAdd(), operand=read)
            made.append(ast.Assign(targets=[target], value=read))
        return made

    def _target(self, node: ast.expr) -> ast.expr:
        made: ast.expr
        if isinstance(node, ast.Name):
            made = ast.Name(id=node.id, ctx=ast.Store())
        elif isinstance(node, ast.Tuple):
            made = ast.Tuple(elts=[self._target(part) for part in node.elts], ctx=ast.Store())
        else:
            assert isinstance(node, ast.Subscript), "the front end knows no other target"
            index = self.integer(node.slice)
            made = ast.Subscript(value=self.exact(node.value), slice=index, ctx=ast.Store())
        return ast.copy_location(made, node)

    def _do_AugAssign(self, node: ast.AugAssign) -> list[ast.stmt]:
        """``x = x + v``; the index of ``mem[i]`` is evaluated once, before the word is read."""
        before: list[ast.stmt] = []
        target = node.target
        stored = self._target(target)
        read: ast.expr
        if isinstance(stored, ast.Subscript):
            if not is_simple(stored.slice):
                keep = ast.Name(id=".i", ctx=ast.Store())
                before = [ast.Assign(targets=[keep], value=stored.slice)]
                stored.slice = name(".i")
            read = ast.Subscript(value=stored.value, slice=stored.slice, ctx=ast.Load())
        else:
            assert isinstance(stored, ast.Name), "the front end knows no other target"
            read = name(stored.id)
        wanted = type_of(target)
        value = self._augmented(node, ast.copy_location(read, target), wanted)
        return [*before, ast.Assign(targets=[stored], value=ast.copy_location(value, node))]

    def _augmented(self, node: ast.AugAssign, read: ast.expr, wanted: Type) -> ast.expr:
        left: Operand = lambda _: (read, BOOL if wanted == "bool" else INT64)  # noqa: E731
        value, bounds = self.operation(node.op, left, self.operand(node.value, wanted))
        return value if bounds.fits() else wrapped(value, bounds)

    def _do_If(self, node: ast.If) -> list[ast.stmt]:
        body, orelse = self.block(node.body), self.block(node.orelse)
        return [ast.If(test=self.truth(node.test), body=body, orelse=orelse)]

    def _do_While(self, node: ast.While) -> list[ast.stmt]:
        return [ast.While(test=self.truth(node.test), body=self.block(node.body), orelse=[])]

    def _do_For(self, node: ast.For) -> list[ast.stmt]:
        assert isinstance(node.iter, ast.Call), "the front end allows range only"
        given = [self.integer(argument) for argument in node.iter.args]
        if len(given) == 3 and not (isinstance(given[2], ast.Constant) and given[2].value):
            tested, read = self.twice(given[2], ".s")
            given[2] = ast.IfExp(test=tested, body=read, orelse=call(".no_step"))
        numbers = ast.copy_location(call("range", *given), node.iter)
        target, body = self._target(node.target), self.block(node.body)
        return [ast.For(target=target, iter=numbers, body=body, orelse=[])]


# --- calls from outside --------------------------------------------------------------------------
def entry(kernel: Kernel, takes_memory: bool = True) -> Callable[..., Any]:
    """What an engine calls: ``kernel``, rewritten, with the arguments and faults of compiled code.

    Arguments become ints as compiled code takes them: TypeError for what is none, OverflowError
    for what does not fit into 64 bits.
    """
    names = kernel.__code__.co_varnames[: kernel.__code__.co_argcount]
    caller = caller_index(names)
    first = 1 if takes_memory else 0
    low, high = INT_MIN, INT_MAX  # locals of the closure are found faster than globals

    @functools.wraps(kernel)
    def called(*arguments: Any) -> Any:
        for value in arguments[first:]:
            if value.__class__ is not int or not low <= value <= high:
                arguments = (*arguments[:first], *map(_as_int64, arguments[first:]))
                break
        memory: Any = arguments[0] if takes_memory else None
        if getattr(memory, "ended", ""):
            raise MisuseError(f"{kernel.__name__}: {memory.ended}")
        try:
            return kernel(*arguments)
        except FAULTS as error:
            fault = placed(error, None if caller is None else arguments[caller])
            if isinstance(fault, KernelFault) and getattr(memory, "on_fault", None) is not None:
                memory.on_fault()
            raise fault.with_traceback(error.__traceback__) from None

    return called


def _as_int64(value: Any) -> int:
    number = operator.index(value)
    if not INT_MIN <= number <= INT_MAX:
        raise OverflowError(f"{number} does not fit into 64 bits with a sign")
    return int(number)


def placed(error: Exception, cpu: int | None) -> Exception:
    """``error``, which came out of a rewritten kernel, as a fault that says where it happened.

    The place is the innermost kernel of the traceback. An error that no kernel made stays.
    """
    kernel, file, line = place_in(error.__traceback__)
    if not kernel or (isinstance(error, KernelFault) and error.kernel):
        return error
    if isinstance(error, IndexError):
        kind, index = getattr(error, "kind", "outside"), getattr(error, "index", None)
        return OutsideFault(kind, kernel, file, line, cpu, index, getattr(error, "words", None))
    if isinstance(error, AssertionError):
        code = getattr(error, "code", None)  # none: an assertion of ours
        made = ExpectationFault("expectation", kernel, file, line, cpu, code)
        return error if code is None else made
    return ArithmeticFault(getattr(error, "kind", "division"), kernel, file, line, cpu)


def place_in(trace: TracebackType | None) -> tuple[str, str, int]:
    """Name, file, line of the innermost rewritten kernel in ``trace``; empty without one."""
    found = "", "", 0
    while trace is not None:
        kernel = trace.tb_frame.f_globals.get(_MARK)
        if kernel is not None:
            found = kernel, trace.tb_frame.f_code.co_filename, trace.tb_lineno
        trace = trace.tb_next
    return found
