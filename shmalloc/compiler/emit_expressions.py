"""From a kernel's form to LLVM IR: expressions and calls.

An expression becomes a value and its width, "i64" or "i1" for what a comparison gives; a variable
is a slot (code.py), one for each field if it holds a memory. Evaluation order is Python's.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any

from shmalloc.compiler import arithmetic, source
from shmalloc.compiler.arithmetic import COMPARISONS
from shmalloc.compiler.code import Code
from shmalloc.compiler.kinds import Kind, Registers
from shmalloc.compiler.signatures import width
from shmalloc.compiler.types import Form
from shmalloc.dialect import Kernel, is_kernel, is_primitive
from shmalloc.errors import DialectError

if TYPE_CHECKING:
    from shmalloc.compiler.module import Module

Value = tuple[str, str]  # text, "i64" or "i1"


class Expressions:
    """Writes expressions of one kernel into ``code``."""

    def __init__(self, module: Module, form: Form, kind: Kind, code: Code) -> None:
        self.module, self.form, self.kind, self.code = module, form, kind, code
        self._loops: list[tuple[str, str]] = []  # (where continue goes, where break goes)
        self._slots: dict[str, str] = {}
        self._fields: dict[str, dict[str, str]] = {}  # of variables that hold a memory
        self._memory: Registers = {name: f"%m.{name}" for name in kind.fields}

    def _arithmetic(self, node: ast.BinOp | ast.AugAssign, left: str, right: ast.expr) -> str:
        value = self._int(right)
        self.code.line = node.lineno
        return arithmetic.binary(self.code, self._fault, node.op, left, value)

    def _fault(self, what: int) -> None:
        self.kind.fault(self.code, self._memory, what, "0")

    def _int(self, node: ast.expr) -> str:
        text, width = self._value(node)
        return text if width == "i64" else self.code.wide(text)

    def _bit(self, node: ast.expr) -> str:
        text, width = self._value(node)
        return text if width == "i1" else self.code.truth(text)

    def _value(self, node: ast.expr) -> Value:
        visit: Callable[[Any], Value] = getattr(self, f"_on_{type(node).__name__}")
        return visit(node)

    def _test(self, node: ast.expr, yes: str, no: str) -> None:
        """Branch on the truth of ``node``, without making a value of it."""
        if isinstance(node, ast.BoolOp):
            every = isinstance(node.op, ast.And)
            for part in node.values[:-1]:
                more = self.code.fresh("and" if every else "or")
                self._test(part, *((more, no) if every else (yes, more)))
                self.code.label(more)
            self._test(node.values[-1], yes, no)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            self._test(node.operand, no, yes)
        else:
            self.code.branch(self._bit(node), yes, no)

    def _on_Constant(self, node: ast.Constant) -> Value:
        if isinstance(node.value, bool):
            return ("true" if node.value else "false"), "i1"
        return str(node.value), "i64"

    def _on_Name(self, node: ast.Name) -> Value:
        return self.code.load(self._slots[node.id]), "i64"

    def _on_BinOp(self, node: ast.BinOp) -> Value:
        left = self._int(node.left)
        return self._arithmetic(node, left, node.right), "i64"

    def _on_UnaryOp(self, node: ast.UnaryOp) -> Value:
        if isinstance(node.op, ast.Not):
            return self.code.op(f"xor i1 {self._bit(node.operand)}, true"), "i1"
        value = self._int(node.operand)
        if isinstance(node.op, ast.USub):
            value = self.code.op(f"sub i64 0, {value}")
        elif isinstance(node.op, ast.Invert):
            value = self.code.op(f"xor i64 {value}, -1")
        return value, "i64"

    def _on_Compare(self, node: ast.Compare) -> Value:
        """A chain stops at its first false comparison, as in Python."""
        code = self.code
        left = self._int(node.left)
        result = ""
        slot = code.slot("i1") if len(node.ops) > 1 else ""
        end = code.fresh("endchain")
        for k, (operator, part) in enumerate(zip(node.ops, node.comparators, strict=True)):
            right = self._int(part)
            result = code.op(f"icmp {COMPARISONS[type(operator)]} i64 {left}, {right}")
            if slot:
                code.do(f"store i1 {result}, ptr {slot}")
            if k < len(node.ops) - 1:
                more = code.fresh("chain")
                code.branch(result, more, end)
                code.label(more)
            left = right
        if slot:
            code.go(end)
            code.label(end)
            result = code.op(f"load i1, ptr {slot}")
        return result, "i1"

    def _on_BoolOp(self, node: ast.BoolOp) -> Value:
        """The value that decides."""
        code = self.code
        slot, end = code.slot(), code.fresh("endbool")
        for part in node.values[:-1]:
            value = self._int(part)
            code.store(value, slot)
            more = code.fresh("more")
            decided = (more, end) if isinstance(node.op, ast.And) else (end, more)
            code.branch(code.truth(value), *decided)
            code.label(more)
        code.store(self._int(node.values[-1]), slot)
        code.go(end)
        code.label(end)
        return code.load(slot), "i64"

    def _on_IfExp(self, node: ast.IfExp) -> Value:
        code = self.code
        slot = code.slot()
        yes, no, end = code.fresh("then"), code.fresh("else"), code.fresh("endif")
        self._test(node.test, yes, no)
        for label, part in ((yes, node.body), (no, node.orelse)):
            code.label(label)
            code.store(self._int(part), slot)
            code.go(end)
        code.label(end)
        return code.load(slot), "i64"

    def _on_Subscript(self, node: ast.Subscript) -> Value:
        return self._word("getitem", node, self._int(node.slice)), "i64"

    def _word(self, name: str, node: ast.Subscript, *arguments: str) -> str:
        """``mem[i]`` or ``mem[i] = v``."""
        self.code.line = node.lineno
        kind: Kind = node.value.type  # type: ignore[attr-defined]
        found = self._mean(kind, name, self._memory_of(node.value), list(arguments))
        return found[0] if found else ""

    # --- calls -----------------------------------------------------------------------------------
    def _on_Call(self, node: ast.Call) -> Value:
        if isinstance(node.callee, str):  # type: ignore[attr-defined]
            return self._builtin(node)
        return self._call(node)[0], "i64"

    def _call(self, node: ast.Call) -> list[str]:
        """The results of a call: none, one, or several."""
        callee = node.callee  # type: ignore[attr-defined]
        if isinstance(callee, str):
            return [self._int(node)]
        kind = node.args[0].type if node.args else None  # type: ignore[attr-defined]
        if not isinstance(kind, Kind):
            numbers = [self._int(part) for part in node.args]
            self.code.line = node.lineno
            return self._kernel(callee, self.kind, self._memory, numbers, takes_memory=False)
        memory = self._memory_of(node.args[0])
        numbers = [self._int(part) for part in node.args[1:]]
        self.code.line = node.lineno
        if is_kernel(callee):
            return self._kernel(callee, kind, memory, numbers)
        return self._mean(kind, callee.__name__, memory, numbers)

    def _mean(self, kind: Kind, name: str, memory: Registers, arguments: list[str]) -> list[str]:
        """The results of a word, as the kind of memory defines it."""
        meaning = self._meaning(kind, name)
        if isinstance(meaning, FunctionType) and is_kernel(meaning):
            return self._kernel(meaning, kind, memory, arguments)
        found = meaning(self.code, memory, arguments)
        if found is None:
            return []
        return found if isinstance(found, list) else [found]

    def _meaning(self, kind: Kind, name: str) -> Any:
        if name not in kind.meanings:
            place = source.place_of(self.form.function, self.code.line)
            raise DialectError(
                f"{place}: kernel {self.form.function.__qualname__}: {name} has no meaning over a"
                f" {kind.name} memory"
            )
        return kind.meanings[name]

    def _kernel(
        self,
        callee: Kernel,
        kind: Kind,
        memory: Registers,
        numbers: list[str],
        takes_memory: bool = True,
    ) -> list[str]:
        instance = self.module.instance(callee, kind, takes_memory)
        return self.module.call(self.code, instance, memory, numbers)

    def _memory_of(self, node: ast.expr) -> Registers:
        """The fields of the memory that ``node`` is."""
        kind: Kind = node.type  # type: ignore[attr-defined]
        if isinstance(node, ast.Name):
            if node.id not in self._fields:
                return self._memory
            slots = self._fields[node.id]
            return {
                field: self.code.op(f"load {width(field)}, ptr {at}, align 8")
                for field, at in slots.items()
            }
        assert isinstance(node, ast.Call) and is_primitive(node.callee)  # type: ignore[attr-defined]
        home: Kind = node.args[0].type  # type: ignore[attr-defined]
        numbers = [self._int(part) for part in node.args[1:]]
        meaning: Any = self._meaning(home, node.callee.__name__)  # type: ignore[attr-defined]
        made = meaning(self.code, self._memory_of(node.args[0]), numbers)
        return dict(zip(kind.fields, made, strict=True))

    def _builtin(self, node: ast.Call) -> Value:
        name: str = node.callee  # type: ignore[attr-defined]
        if name == "bool":
            return self._bit(node.args[0]), "i1"
        values = [self._int(part) for part in node.args]
        if name == "int":
            return values[0], "i64"
        if name == "abs":
            return self.code.op(f"call i64 @llvm.abs.i64(i64 {values[0]}, i1 false)"), "i64"
        found = values[0]
        for value in values[1:]:
            found = self.code.op(f"call i64 @llvm.s{name}.i64(i64 {found}, i64 {value})")
        return found, "i64"
