"""From a kernel's form to LLVM IR: statements.

An undefined operation ends the call: a division by zero, a shift by a count outside 0..63, a range
whose step is 0. The checks are left out where constants show that they hold.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from shmalloc.compiler import arithmetic
from shmalloc.compiler.emit_expressions import Expressions
from shmalloc.compiler.flow import breaks
from shmalloc.compiler.kinds import Kind, Registers
from shmalloc.compiler.signatures import argument, result_type, width


class Emitter(Expressions):
    """Writes the body of one kernel into ``code``."""

    def write(self) -> None:
        form, code = self.form, self.code
        for name, kind in form.variables.items():
            if isinstance(kind, Kind):
                if form.params[:1] != (name,):
                    self._fields[name] = {field: code.slot() for field in kind.fields}
            else:
                self._slots[name] = code.slot()
        for name in form.numbers:
            code.store(argument(name), self._slots[name])
        self._block(form.tree.body)
        if not code.dead:
            code.end("ret i64 0" if form.result == "none" else "unreachable")

    def _block(self, body: list[ast.stmt]) -> None:
        for node in body:
            if self.code.dead:
                return
            self.code.line = node.lineno
            visit: Callable[[Any], None] = getattr(self, f"_do_{type(node).__name__}")
            visit(node)

    def _do_Pass(self, node: ast.Pass) -> None:
        pass

    def _do_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value.type, Kind):  # type: ignore[attr-defined]
            return  # the name of a memory, alone
        if isinstance(node.value, ast.Call):
            self._call(node.value)
        else:
            self._value(node.value)

    def _do_Assign(self, node: ast.Assign) -> None:
        target = node.targets[0]
        if isinstance(target, ast.Tuple):
            assert isinstance(node.value, ast.Call)
            for part, value in zip(target.elts, self._call(node.value), strict=True):
                self._assign(part, value)
            return
        kind = node.value.type  # type: ignore[attr-defined]
        if isinstance(kind, Kind):
            self._assign_memory(node.targets, kind, self._memory_of(node.value))
            return
        value = self._int(node.value)
        for target in node.targets:
            self._assign(target, value)

    def _assign(self, target: ast.expr, value: str) -> None:
        if isinstance(target, ast.Subscript):
            self._word("setitem", target, self._int(target.slice), value)
        else:
            assert isinstance(target, ast.Name)
            self.code.store(value, self._slots[target.id])

    def _assign_memory(self, targets: list[ast.expr], kind: Kind, memory: Registers) -> None:
        for target in targets:
            assert isinstance(target, ast.Name)
            for field in kind.fields:
                at = self._fields[target.id][field]
                self.code.do(f"store {width(field)} {memory[field]}, ptr {at}, align 8")

    def _do_AugAssign(self, node: ast.AugAssign) -> None:
        target = node.target
        if isinstance(target, ast.Subscript):
            index = self._int(target.slice)
            old = self._word("getitem", target, index)
            value = self._arithmetic(node, old, node.value)
            self._word("setitem", target, index, value)
        else:
            assert isinstance(target, ast.Name)
            old = self.code.load(self._slots[target.id])
            value = self._arithmetic(node, old, node.value)
            self.code.store(value, self._slots[target.id])

    def _do_Return(self, node: ast.Return) -> None:
        if node.value is None:
            self.code.end("ret i64 0")
        elif isinstance(self.form.result, int):
            call = isinstance(node.value, ast.Call)
            parts = self._call(node.value) if call else [self._int(p) for p in node.value.elts]  # type: ignore[arg-type, attr-defined]
            kind = result_type(self.form)
            packed = "undef"
            for k, part in enumerate(parts):
                packed = self.code.op(f"insertvalue {kind} {packed}, i64 {part}, {k}")
            self.code.end(f"ret {kind} {packed}")
        else:
            self.code.end(f"ret i64 {self._int(node.value)}")

    def _do_If(self, node: ast.If) -> None:
        code = self.code
        yes, no, end = code.fresh("then"), code.fresh("else"), code.fresh("endif")
        self._test(node.test, yes, no if node.orelse else end)
        code.label(yes)
        self._block(node.body)
        reached = not node.orelse or not code.dead
        if not code.dead:
            code.go(end)
        if node.orelse:
            code.label(no)
            self._block(node.orelse)
            reached = reached or not code.dead
            if not code.dead:
                code.go(end)
        if reached:
            code.label(end)

    def _do_While(self, node: ast.While) -> None:
        code = self.code
        head, body, end = code.fresh("while"), code.fresh("do"), code.fresh("endwhile")
        code.go(head)
        code.label(head)
        for_ever = isinstance(node.test, ast.Constant) and node.test.value
        if for_ever:
            code.go(body)
        else:
            self._test(node.test, body, end)
        code.label(body)
        self._loops.append((head, end))
        self._block(node.body)
        self._loops.pop()
        if not code.dead:
            code.go(head)
        if not for_ever or breaks(node.body):
            code.label(end)
        else:
            code.dead = True

    def _do_For(self, node: ast.For) -> None:
        assert isinstance(node.target, ast.Name) and isinstance(node.iter, ast.Call)
        code = self.code
        given = [self._int(part) for part in node.iter.args]
        start, stop, step = arithmetic.bounds(given)
        if not arithmetic.is_constant(step):
            code.line = node.iter.lineno
            self._require_step(step)
        elif int(step) == 0:  # +0, int(False)
            self._fault(arithmetic.STEP)
            code.label(code.fresh("after"))
        counter = code.slot()
        body, more, end = (code.fresh(hint) for hint in ("do", "next", "endfor"))
        code.store(start, counter)
        code.branch(arithmetic.in_range(code, start, stop, step), body, end)
        code.label(body)
        code.store(code.load(counter), self._slots[node.target.id])
        self._loops.append((more, end))
        self._block(node.body)
        self._loops.pop()
        if not code.dead:
            code.go(more)
        code.label(more)
        code.line = node.lineno
        now = code.load(counter)
        follows = arithmetic.has_next(code, now, stop, step)
        code.store(code.op(f"add i64 {now}, {step}"), counter)
        code.branch(follows, body, end)
        code.label(end)

    def _require_step(self, step: str) -> None:
        bad, good = self.code.fresh("bad"), self.code.fresh("good")
        self.code.branch(self.code.op(f"icmp eq i64 {step}, 0"), bad, good)
        self.code.label(bad)
        self._fault(arithmetic.STEP)
        self.code.label(good)

    def _do_Break(self, node: ast.Break) -> None:
        self.code.go(self._loops[-1][1])

    def _do_Continue(self, node: ast.Continue) -> None:
        self.code.go(self._loops[-1][0])
