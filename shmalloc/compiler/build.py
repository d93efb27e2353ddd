"""Making an image from its entries: one module, or two that are compiled at once on two cores.

A plan of entries is split by Python module, so that what calls each other stays together; each half
is IR and object code of its own, and link.py joins them. Forked children, which have all kernels
already, make the halves: nothing ends a call of LLVM, which takes seconds, but a process that waits
for a child hears a signal at once. There is no fork while other threads run, since they could hold
any lock of the C library: then this process makes both halves.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from shmalloc.compiler import codegen, link, symbols
from shmalloc.compiler.codegen import Target
from shmalloc.compiler.image import packed
from shmalloc.compiler.instances import Instance, order_of, symbol_of
from shmalloc.compiler.module import Known, Module
from shmalloc.compiler.reach import reached
from shmalloc.compiler.wrappers import Shape, wrappers
from shmalloc.parent import end_with_parent

WORTH_A_CHILD = 12_000  # nodes of syntax trees: about a second of compiling
_COMPLETE = b"\n"  # ends what a child sends: its exit status may be lost
_Part = tuple[bytes, dict[int, Known]]  # object code, table of kernels


def shape_of(entry: Instance) -> Shape:
    return Shape(entry.kind, len(entry.form.numbers), entry.form.result)


def compile_image(
    entries: Sequence[Instance], target: Target | None = None, processes: int | None = None
) -> bytes:
    """The image of ``entries`` for ``target`` (default: this processor).

    Raises ``DialectError`` for the first kernel that is not in the dialect.
    """
    target = target or codegen.host()
    entries = sorted(entries, key=order_of)
    known = reached(entries)
    homes = _halves(known)
    if homes is None:
        parts = [_part(entries, target, None, 0)]
    else:
        parts = _both(entries, target, homes, processes)
    table = {number: row for _, rows in parts for number, row in rows.items()}
    shared = link.link([data for data, _ in parts], "shmalloc.image")
    description = {
        "target": [target.triple, target.cpu],
        "entries": {
            symbol_of(*entry): [len(entry.form.numbers), entry.form.result, entry.kind.name]
            for entry in entries
        },
        "table": {str(n): [row.kernel, row.first_line] for n, row in table.items()},
    }
    return packed(description, shared)


def module_text(entries: Sequence[Instance], target: Target) -> str:
    """The IR of ``entries`` as one module, for people and tests."""
    return _text(entries, target, None, 0)[0]


def _text(
    entries: Sequence[Instance], target: Target, homes: dict[Instance, int] | None, part: int
) -> tuple[str, Module]:
    module = Module(entries, target.architecture, homes, part)
    text = module.text()
    if part == 0:
        shapes = dict.fromkeys(shape_of(entry) for entry in entries)
        text += wrappers(shapes) + symbols.crash_ir(target.architecture)
    return text, module


def _part(
    entries: Sequence[Instance], target: Target, homes: dict[Instance, int] | None, part: int
) -> _Part:
    text, module = _text(entries, target, homes, part)
    return codegen.object_code(text, target), module.table


# --- two halves ----------------------------------------------------------------------------------
def _may_fork() -> bool:
    return threading.active_count() == 1


def _halves(known: Sequence[Instance]) -> dict[Instance, int] | None:
    """Which part each instance is in: modules from the heaviest on to the lighter part.

    None: too little to be split. The kernels alone decide, so that one key is one image.
    """
    weights: dict[str, int] = {}
    for instance in known:
        weights[_home_of(instance)] = weights.get(_home_of(instance), 0) + instance.form.weight
    if sum(weights.values()) < WORTH_A_CHILD:
        return None
    load, part_of = [0, 0], {}
    for home in sorted(weights, key=lambda home: (-weights[home], home)):
        part = 0 if load[0] <= load[1] else 1
        part_of[home] = part
        load[part] += weights[home]
    return {instance: part_of[_home_of(instance)] for instance in known}


def _home_of(instance: Instance) -> str:
    return f"{instance.kind.name}:{instance.function.__module__}"


def _both(
    entries: Sequence[Instance], target: Target, homes: dict[Instance, int], processes: int | None
) -> list[_Part]:
    works = [partial(_part, entries, target, homes, part) for part in (0, 1)]
    if processes == 1 or (processes is None and not _may_fork()):
        return [work() for work in works]
    made: list[_Part | None]
    if len(os.sched_getaffinity(0)) > 1:
        with _Child(works[0]) as one, _Child(works[1]) as other:
            made = [one.result(), other.result()]
    else:  # one after the other: half of the memory
        made = []
        for work in works:
            with _Child(work) as child:
                made.append(child.result())
    return [part or work() for part, work in zip(made, works, strict=True)]


class _Child:
    """A forked process that makes a part. Whatever ends the parent's part also ends the child."""

    def __init__(self, work: Callable[[], _Part]) -> None:
        self._done = False
        self._reader, writer = os.pipe()
        with warnings.catch_warnings():
            # No Python thread runs (_may_fork); those of numpy's OpenBLAS handle forks.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if self._pid == 0:
            _answer(work, self._reader, writer)
        os.close(writer)

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._reader)
        if not self._done:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        with suppress(ChildProcessError):  # other code reaps all children of this process
            os.waitpid(self._pid, 0)

    def result(self) -> _Part | None:
        """Its result; None if it failed. Waits until the child has sent everything."""
        with open(self._reader, "rb", closefd=False) as pipe:
            data = pipe.read()
        self._done = True
        size = int.from_bytes(data[:8], "little")
        if len(data) <= 8 + size or not data.endswith(_COMPLETE):
            return None
        return data[8 : 8 + size], _rows(data[8 + size : -len(_COMPLETE)])


def _answer(work: Callable[[], _Part], reader: int, writer: int) -> None:
    """What the child does; never returns. The parent detects its errors and tries again."""
    status = 1
    try:
        end_with_parent()
        os.close(reader)
        data, rows = work()
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(len(data).to_bytes(8, "little") + data + _text_of(rows) + _COMPLETE)
        status = 0
    finally:
        os._exit(status)


def _text_of(rows: dict[int, Known]) -> bytes:
    return json.dumps({n: [r.kernel, r.first_line] for n, r in rows.items()}).encode()


def _rows(data: bytes) -> dict[int, Known]:
    """The table of a part, which came as JSON: nothing is unpickled."""
    return {int(n): Known(*row) for n, row in json.loads(data).items()}
