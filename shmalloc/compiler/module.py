"""One module of LLVM IR: every kernel that some entries reach, over their kinds of memory.

A kernel over a kind is an *instance* (instances.py), and an instance is one IR function. Entries
can be called from outside the image by the name that ``symbol_of`` gives; everything else is
internal, so that LLVM may inline and drop it.

An image may be made from several modules, which are compiled in different processes: each instance
is written in the module that owns it, and declared in the others. What is inlined anyway
(``@hot``, and what is small) is written in each module that calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from shmalloc.compiler import emit, runtime
from shmalloc.compiler.code import Code
from shmalloc.compiler.instances import Instance, symbol_of
from shmalloc.compiler.kinds import Kind, Registers
from shmalloc.compiler.lines import Lines, escaped
from shmalloc.compiler.signatures import parameters, passed, result_type
from shmalloc.dialect import Kernel, is_hot, is_unit

SMALL = 60  # nodes of a syntax tree: LLVM inlines what is smaller, whatever we say


@dataclass(frozen=True)
class Known:
    """A row of the table of kernels: what a fault's number stands for."""

    kernel: str
    first_line: int


class Module:
    """IR of what ``entries`` reach, or of the part of it whose home is this module.

    ``homes`` says in which of several modules an instance is written, ``part`` which one this is.
    """

    def __init__(
        self,
        entries: Iterable[Instance],
        target: str,
        homes: Mapping[Instance, int] | None = None,
        part: int = 0,
    ) -> None:
        self.target = target
        self.entries = list(entries)
        self.table: dict[int, Known] = {}
        self.lines = Lines()
        self._homes = {} if homes is None else homes
        self._part = part
        self._parts = 1 + max(self._homes.values(), default=0)
        self._exported = set(self.entries)
        self._seen: dict[Instance, None] = {}
        self._symbols: dict[str, Instance] = {}
        self._names: dict[Instance, str] = {}
        for instance in (*self.entries, *self._homes):  # the same names in every part
            self.symbol(instance)
        self._todo: list[Instance] = []
        self._text: list[str] = []
        self._declared: list[str] = []
        self._extra: dict[str, str] = {}

    def text(self) -> str:
        """The whole module."""
        for instance in self._homes or self.entries:
            if self._is_owned(instance):
                self.instance(*instance)
        while self._todo:
            self._write(self._todo.pop())
        runtime_text = (
            runtime.definitions(self.target) if self._part == 0 else runtime.shared_declarations()
        )
        parts = [
            runtime.declarations(self.target),
            runtime_text,
            *self._extra.values(),
            *self._declared,
            *self._text,
            '!0 = !{!"branch_weights", i32 1, i32 100000}\n!1 = !{}',
            self.lines.text(),
        ]
        return "\n".join(parts)

    def need(self, name: str, text: Callable[[], str]) -> None:
        """A function of the runtime of a kind, written once in this module."""
        if name not in self._extra:
            self._extra[name] = ""
            self._extra[name] = text()

    def instance(self, function: Kernel, kind: Kind, takes_memory: bool) -> Instance:
        """The instance, which is then written here or declared."""
        made = Instance(function, kind, takes_memory)
        if made not in self._seen:
            self._seen[made] = None
            if self._is_owned(made) or is_copied(made):
                self._todo.append(made)
            else:
                self._declare(made)
        return made

    def call(
        self, code: Code, instance: Instance, memory: Registers, numbers: list[str]
    ) -> list[str]:
        """Write a call; its results."""
        form = instance.form
        result = result_type(form)
        arguments = [*passed(instance.kind, memory), *numbers]
        found = code.call(self._global(instance), arguments, result)
        if not isinstance(form.result, int):
            return [] if form.result == "none" else [found]
        return [code.op(f"extractvalue {result} {found}, {k}") for k in range(form.result)]

    def symbol(self, instance: Instance) -> str:
        """The name of an instance. A number tells functions of the same name apart."""
        if instance not in self._names:
            plain = name = symbol_of(*instance)
            while name in self._symbols:
                name = f"{plain}#{len(self._symbols)}"
            self._names[instance], self._symbols[name] = name, instance
        return self._names[instance]

    def _global(self, instance: Instance) -> str:
        return f'@"{escaped(self.symbol(instance))}"'

    def _is_owned(self, instance: Instance) -> bool:
        return self._homes.get(instance, self._part) == self._part

    def _head(self, instance: Instance) -> str:
        form = instance.form
        given = ", ".join(parameters(form, instance.kind))
        return f"{result_type(form)} {self._global(instance)}({given})"

    def _declare(self, instance: Instance) -> None:
        self._declared.append(f"declare hidden {self._head(instance)} nounwind")

    def _write(self, instance: Instance) -> None:
        function, form = instance.function, instance.form
        where = len(self.table) * self._parts + self._part
        first = function.__code__.co_firstlineno
        file = function.__code__.co_filename
        self.table[where] = Known(f"{function.__module__}.{function.__qualname__}", first)
        scope = self.lines.function(self.symbol(instance), file, first)
        code = Code(self, where, first, scope)
        emit.Emitter(self, form, instance.kind, code).write()
        marker = "" if scope is None else f" !dbg !{scope}"
        self._text.append(
            f"define {self._linkage(instance)} {self._head(instance)}{_attributes(function)}"
            f"{marker} {{\n{code.body()}\n}}\n"
        )

    def _linkage(self, instance: Instance) -> str:
        if instance in self._exported and self._is_owned(instance):
            return "dso_local"
        elsewhere = self._parts > 1 and instance in self._homes and not is_copied(instance)
        return "hidden" if elsewhere else "internal"


def is_copied(instance: Instance) -> bool:
    """Whether each module has a copy of its own: it will be inlined."""
    function = instance.function
    return is_hot(function) or (not is_unit(function) and instance.form.weight < SMALL)


def _attributes(function: Kernel) -> str:
    """No builtins: an image calls nothing, so a loop may not become a call of memset."""
    inline = " alwaysinline" if is_hot(function) else " noinline" if is_unit(function) else ""
    return f'{inline} nounwind "no-builtins"'
