"""A third meaning of kernels: their text, walked node by node, as naively as possible.

Written from the list of meanings in docs/decisions/0016-a-compiler-of-our-own.md and nothing else.
It shares no code with the compiler or the rewritten kernels, so that an error common to both shows.
All values are unbounded ints, reduced to 64 bits after each operation; only the type of a result is
found ahead (``is_bool``), for Python sees whether it is a bool.

    outcome = Evaluator(text, module_name).call("program_0", words, [1, 2])

``words`` is changed in place. An outcome is ("result", value) or ("fault", kind, kernel, line, cpu,
index); the line is that on which the operator's left operand, the word or the call begins.

It is slow, runs one process, and checks nothing: what it is given must be in the dialect.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from shmalloc import constants as c

Outcome = tuple[Any, ...]
Locals = dict[str, int]


class _Fault(Exception):
    pass


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class _Return(Exception):
    pass


def reduced(value: int) -> int:
    """The number from -2**63 to 2**63 - 1 that has the same lowest 64 bits."""
    value = int(value) % 2**64
    return value - 2**64 if value >= 2**63 else value


OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
WITHOUT_EFFECT = ("fence", "light_fence", "relax", "give_way")


class Evaluator:
    """All kernels of one module."""

    def __init__(self, text: str, module: str) -> None:
        self.module = module
        self.kernels: dict[str, ast.FunctionDef] = {}
        self.constants: dict[str, int] = {}
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef):
                self.kernels[node.name] = node
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self.constants[node.targets[0].id] = ast.literal_eval(node.value)

    def call(self, name: str, words: list[int], arguments: list[int]) -> Outcome:
        self.words = words
        self.stack: list[str] = []
        parameters = [a.arg for a in self.kernels[name].args.args if a.arg != "mem"]
        cpu = dict(zip(parameters, arguments, strict=True)).get("cpu")
        try:
            found = self.run(name, arguments)
        except _Fault as fault:
            kind, line, index = fault.args
            return "fault", kind, f"{self.module}.{self.stack[-1]}", line, cpu, index
        return "result", bool(found) if self.gives_bool(name) else found

    def run(self, name: str, arguments: list[int]) -> Any:
        kernel = self.kernels[name]
        names = [a.arg for a in kernel.args.args if a.arg != "mem"]
        result = None
        self.stack.append(name)
        try:
            self.block(kernel.body, dict(zip(names, arguments, strict=True)))
        except _Return as given:
            result = given.args[0]
        self.stack.pop()
        return result

    # --- statements ---
    def block(self, body: list[ast.stmt], v: Locals) -> None:
        for node in body:
            self.statement(node, v)

    def statement(self, node: Any, v: Locals) -> None:
        match node:
            case ast.Expr():
                self.value(node.value, v)
            case ast.Assign():
                value = self.value(node.value, v)
                for target in node.targets:
                    self.assign(target, value, v)
            case ast.AnnAssign():
                self.assign(node.target, self.value(node.value, v), v)
            case ast.AugAssign():
                self.augment(node, v)
            case ast.Return():
                empty = node.value is None or ast.unparse(node.value) == "None"
                raise _Return(None if empty else self.value(node.value, v))
            case ast.If():
                self.block(node.body if self.value(node.test, v) else node.orelse, v)
            case ast.While():
                while self.value(node.test, v) and self.once(node.body, v):
                    pass
            case ast.For():
                self.count(node, v)
            case ast.Break():
                raise _Break
            case ast.Continue():
                raise _Continue

    def assign(self, target: Any, value: Any, v: Locals) -> None:
        if isinstance(target, ast.Tuple):
            for part, one in zip(target.elts, value, strict=True):
                self.assign(part, one, v)
        elif isinstance(target, ast.Subscript):
            self.words[self.place(target, self.value(target.slice, v))] = value
        else:
            v[target.id] = value

    def augment(self, node: Any, v: Locals) -> None:
        if isinstance(node.target, ast.Subscript):
            at = self.place(node.target, self.value(node.target.slice, v))
            old = self.words[at]
            self.words[at] = self.operate(node, old, self.value(node.value, v))
        else:
            old = v[node.target.id]
            v[node.target.id] = self.operate(node, old, self.value(node.value, v))

    def count(self, node: Any, v: Locals) -> None:
        given = [self.value(part, v) for part in node.iter.args]
        start, stop = [0, *given] if len(given) == 1 else given[:2]
        step = given[2] if len(given) == 3 else 1
        if step == 0:
            raise _Fault("step", node.iter.lineno, None)
        while start < stop if step > 0 else start > stop:
            v[node.target.id] = start
            if not self.once(node.body, v):
                return
            start += step

    def once(self, body: list[ast.stmt], v: Locals) -> bool:
        """One round of a loop; whether there may be another."""
        try:
            self.block(body, v)
        except _Break:
            return False
        except _Continue:
            pass
        return True

    # --- expressions ---
    def value(self, node: Any, v: Locals) -> Any:
        match node:
            case ast.Constant():
                return int(node.value)
            case ast.Name():
                return v[node.id] if node.id in v else int(self.constants[node.id])
            case ast.Attribute():
                return int(getattr(c, node.attr))
            case ast.BinOp():
                left = self.value(node.left, v)
                return self.operate(node, left, self.value(node.right, v))
            case ast.UnaryOp():
                return self.unary(node.op, self.value(node.operand, v))
            case ast.Compare():
                return self.compare(node, v)
            case ast.BoolOp():
                return self.decide(node, v)
            case ast.IfExp():
                return self.value(node.body if self.value(node.test, v) else node.orelse, v)
            case ast.Subscript():
                return self.words[self.place(node, self.value(node.slice, v))]
            case ast.Tuple():
                return tuple(self.value(part, v) for part in node.elts)
            case ast.Call():
                return self.called(node, v)
        raise AssertionError(f"no meaning for {ast.dump(node)}")

    def operate(self, node: Any, left: int, right: int) -> int:
        op = node.op
        if isinstance(op, ast.FloorDiv | ast.Mod):
            if right == 0:
                raise _Fault("division", node.lineno, None)
            return reduced(left // right if isinstance(op, ast.FloorDiv) else left % right)
        if isinstance(op, ast.LShift | ast.RShift):
            if right < 0 or right > 63:
                raise _Fault("shift", node.lineno, None)
            power = 2**right
            return reduced(left * power if isinstance(op, ast.LShift) else left // power)
        return reduced(OPERATORS[type(op)](left, right))

    def unary(self, op: ast.unaryop, value: int) -> int:
        if isinstance(op, ast.Not):
            return 1 if value == 0 else 0
        if isinstance(op, ast.USub):
            return reduced(-value)
        return reduced(-value - 1) if isinstance(op, ast.Invert) else value

    def compare(self, node: ast.Compare, v: Locals) -> int:
        left = self.value(node.left, v)
        for op, part in zip(node.ops, node.comparators, strict=True):
            right = self.value(part, v)
            if not OPERATORS[type(op)](left, right):
                return 0
            left = right
        return 1

    def decide(self, node: ast.BoolOp, v: Locals) -> int:
        value = 0
        for part in node.values:
            value = self.value(part, v)
            if (value == 0) == isinstance(node.op, ast.And):
                break
        return value

    # --- calls ---
    def called(self, node: Any, v: Locals) -> Any:
        name = node.func.id
        arguments = [self.value(part, v) for part in node.args if ast.unparse(part) != "mem"]
        if name in self.kernels:
            return self.run(name, arguments)
        if name in ("min", "max"):
            return sorted(arguments)[0 if name == "min" else -1]
        if name == "abs":
            return reduced(arguments[0] if arguments[0] >= 0 else -arguments[0])
        if name in ("int", "bool"):
            return arguments[0] if name == "int" else int(arguments[0] != 0)
        return self.word(node, name, arguments)

    def place(self, node: Any, index: int, pair: bool = False) -> int:
        if index < 0 or index >= len(self.words):
            raise _Fault("outside", node.lineno, index)
        if pair and index % 2 == 1:
            raise _Fault("odd pair", node.lineno, index)
        return index

    def word(self, node: Any, name: str, given: list[int]) -> Any:
        if name == "now":
            return 1
        if name in WITHOUT_EFFECT:
            return None
        at = self.place(node, given[0], name in ("cas2", "load2"))
        held = self.words[at]
        if name in ("load", "load_relaxed", "fixed"):
            return held
        if name == "load2":
            return held, self.words[at + 1]
        if name == "cas2":
            same = [held, self.words[at + 1]] == given[1:3]
            if same:
                self.words[at : at + 2] = given[3:5]
            return int(same)
        if name == "cas":
            self.words[at] = given[2] if held == given[1] else held
            return int(held == given[1])
        new = {
            "exchange": lambda: given[1],
            "store": lambda: given[1],
            "store_relaxed": lambda: given[1],
            "fetch_add": lambda: reduced(held + given[1]),
            "fetch_or": lambda: held | given[1],
            "fetch_and": lambda: held & given[1],
            "mark": lambda: reduced(held + 1),
            "wake": lambda: held,
        }[name]()
        self.words[at] = new
        return held if name.startswith(("exchange", "fetch")) else None

    # --- which results are bools ---
    def gives_bool(self, name: str) -> bool:
        """Whether each value that a kernel returns is a bool."""
        kernel = self.kernels[name]
        numbers = {a.arg for a in kernel.args.args}
        before = None
        while before != numbers:  # a variable that holds an int anywhere is one everywhere
            before = set(numbers)
            for node in ast.walk(kernel):
                numbers |= self._holds_int(node, before)
        returns = [n.value for n in ast.walk(kernel) if isinstance(n, ast.Return) and n.value]
        values = [value for value in returns if ast.unparse(value) != "None"]
        return bool(values) and all(self.is_bool(value, numbers) for value in values)

    def _holds_int(self, node: ast.AST, numbers: set[str]) -> set[str]:
        if isinstance(node, ast.For | ast.AugAssign):
            return {node.target.id} if isinstance(node.target, ast.Name) else set()
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if isinstance(targets[0], ast.Tuple):
                return {part.id for part in targets[0].elts if isinstance(part, ast.Name)}
            if not self.is_bool(node.value, numbers):
                return {target.id for target in targets if isinstance(target, ast.Name)}
        return set()

    def is_bool(self, node: Any, numbers: set[str]) -> bool:
        every: Callable[[list[ast.expr]], bool] = lambda parts: all(  # noqa: E731
            self.is_bool(part, numbers) for part in parts
        )
        match node:
            case ast.Constant():
                return isinstance(node.value, bool)
            case ast.Name():
                if node.id in self.constants:
                    return isinstance(self.constants[node.id], bool)
                return node.id not in numbers
            case ast.Compare():
                return True
            case ast.UnaryOp():
                return isinstance(node.op, ast.Not)
            case ast.BinOp():
                bits = isinstance(node.op, ast.BitAnd | ast.BitOr | ast.BitXor)
                return bits and every([node.left, node.right])
            case ast.BoolOp():
                return every(node.values)
            case ast.IfExp():
                return every([node.body, node.orelse])
            case ast.Call():
                name = ast.unparse(node.func)
                if name in self.kernels:
                    return self.gives_bool(name)
                return name in ("bool", "cas", "cas2") or (
                    name in ("min", "max") and every(node.args)
                )
        return False
