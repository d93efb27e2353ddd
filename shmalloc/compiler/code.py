"""LLVM IR as text, one function at a time: labels, values, slots, calls.

``Code`` collects the instructions of one function. Values are names of IR registers or decimal
constants, all 64-bit unless their text says otherwise; a *slot* is a stack word that LLVM turns
into a register. After an instruction that ends a block nothing is written until the next label:
``dead`` says so.

Each instruction carries the line of the kernel that it came from, if lines are wanted: that is the
line table of debuggers and profilers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shmalloc.compiler.module import Module

RARELY = ", !prof !0"  # the first label of a branch is hardly ever taken
CONSTANT = ", !invariant.load !1"  # the word never changes while a kernel runs


class Code:
    """The body of one IR function of ``module``. ``where``: its number in the table of kernels."""

    def __init__(
        self, module: Module, where: int, first_line: int, scope: int | None = None
    ) -> None:
        self.module, self.where, self.first_line = module, where, first_line
        self.line = first_line
        self.dead = False
        self._scope = scope
        self._count = 0
        self._slots: list[str] = []
        self._text: list[str] = []

    @property
    def target(self) -> str:
        """The processor: "x86_64" or "aarch64"."""
        return self.module.target

    def body(self) -> str:
        """All that was written, slots first."""
        return "\n".join(["entry:", *self._slots, *self._text])

    # --- writing ---------------------------------------------------------------------------------
    def fresh(self, hint: str = "t") -> str:
        """A name not yet used in this function."""
        self._count += 1
        return f"{hint}{self._count}"

    def do(self, text: str) -> None:
        """An instruction without a result."""
        if not self.dead:
            self._text.append(f"  {text}{self._place()}")

    def op(self, text: str) -> str:
        """An instruction with a result; the name of that."""
        name = f"%{self.fresh()}"
        self.do(f"{name} = {text}")
        return name

    def _place(self) -> str:
        if self._scope is None:
            return ""
        return f", !dbg !{self.module.lines.place(self._scope, self.line)}"

    def slot(self, kind: str = "i64") -> str:
        """A stack word, there for the whole call; its address."""
        name = f"%{self.fresh('s')}"
        self._slots.append(f"  {name} = alloca {kind}, align 8")
        return name

    def label(self, name: str) -> None:
        """Begin the block ``name``."""
        self._text.append(f"{name}:")
        self.dead = False

    def go(self, label: str) -> None:
        self.do(f"br label %{label}")
        self.dead = True

    def branch(self, condition: str, yes: str, no: str, hint: str = "") -> None:
        self.do(f"br i1 {condition}, label %{yes}, label %{no}{hint}")
        self.dead = True

    def end(self, text: str) -> None:
        """The last instruction of a block."""
        self.do(text)
        self.dead = True

    # --- values ----------------------------------------------------------------------------------
    def load(self, address: str, extra: str = "") -> str:
        return self.op(f"load i64, ptr {address}, align 8{extra}")

    def store(self, value: str, address: str) -> None:
        self.do(f"store i64 {value}, ptr {address}, align 8")

    def wide(self, bit: str) -> str:
        """A truth value as a number."""
        if bit in ("true", "false"):
            return "1" if bit == "true" else "0"
        return self.op(f"zext i1 {bit} to i64")

    def truth(self, value: str) -> str:
        """Whether a number is not zero."""
        return self.op(f"icmp ne i64 {value}, 0")

    def word(self, base: str, index: str) -> str:
        """Address of word ``index`` behind the address ``base``, a pointer."""
        return self.op(f"getelementptr inbounds i64, ptr {base}, i64 {index}")

    # --- calls -----------------------------------------------------------------------------------
    def call(self, function: str, arguments: Iterable[str], result: str = "i64") -> str:
        """Call an IR function with 64-bit arguments ("i64 %x" or "ptr %p" where typed)."""
        given = ", ".join(a if " " in a else f"i64 {a}" for a in arguments)
        if result == "void":
            self.do(f"call void {function}({given})")
            return ""
        return self.op(f"call {result} {function}({given})")

    def site(self) -> int:
        """The place that a fault names: the kernel's number and the line within it."""
        return self.where << 16 | min(max(self.line - self.first_line, 0), 0xFFFF)
