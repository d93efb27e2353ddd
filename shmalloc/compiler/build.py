"""Making an image from its entries: one module, or two that are compiled at once on two cores.

A plan of entries is split by Python module, so that what calls each other stays together; each
half is IR and object code of its own, and link.py joins them. The second half is made by a forked
child, which has all kernels already. It is not forked where other threads run, for they could hold
any lock of the C library at that moment, nor for little.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

from shmalloc.compiler import codegen, link, symbols
from shmalloc.compiler.codegen import Target
from shmalloc.compiler.image import packed
from shmalloc.compiler.instances import Instance, symbol_of
from shmalloc.compiler.module import Module, weight_of
from shmalloc.compiler.reach import reached
from shmalloc.compiler.wrappers import Shape, wrappers

WORTH_A_CHILD = 12_000  # nodes of syntax trees: about a second of compiling
_Part = tuple[bytes, dict[int, Any]]  # object code, table of kernels


def shape_of(entry: Instance) -> Shape:
    return Shape(entry.kind, len(entry.form.numbers), entry.form.result)


def compile_image(
    entries: Sequence[Instance], target: Target | None = None, processes: int | None = None
) -> bytes:
    """The image of ``entries`` for ``target`` (default: this processor).

    Raises ``DialectError`` for the first kernel that is not in the dialect.
    """
    target = target or codegen.host()
    known = reached(entries)
    homes = _halves(known) if _may_fork(known, processes) else None
    parts = [_part(entries, target, homes, 0)] if homes is None else _both(entries, target, homes)
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


# --- two at once ---------------------------------------------------------------------------------
def _may_fork(known: Sequence[Instance], processes: int | None) -> bool:
    if processes is None:
        alone = threading.active_count() == 1
        processes = min(2, len(os.sched_getaffinity(0))) if alone else 1
    return processes > 1 and sum(weight_of(instance) for instance in known) > WORTH_A_CHILD


def _halves(known: Sequence[Instance]) -> dict[Instance, int]:
    """Which part each instance is in: modules from the heaviest on to the lighter part."""
    weights: dict[str, int] = {}
    for instance in known:
        home = f"{instance.kind.name}:{instance.function.__module__}"
        weights[home] = weights.get(home, 0) + weight_of(instance)
    load, part_of = [0, 0], {}
    for home in sorted(weights, key=lambda home: (-weights[home], home)):
        part = 0 if load[0] <= load[1] else 1
        part_of[home] = part
        load[part] += weights[home]
    return {i: part_of[f"{i.kind.name}:{i.function.__module__}"] for i in known}


def _both(entries: Sequence[Instance], target: Target, homes: dict[Instance, int]) -> list[_Part]:
    receive = _in_child(lambda: _part(entries, target, homes, 1))
    first = _part(entries, target, homes, 0)
    second = receive()
    return [first, second if second is not None else _part(entries, target, homes, 1)]


def _in_child(work: Callable[[], _Part]) -> Callable[[], _Part | None]:
    """Start ``work`` in a forked child; what is returned waits for its result, None if it failed.

    The tables of kernels are made again here rather than sent: nothing is unpickled.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(work, reader, writer)
    os.close(writer)

    def receive() -> _Part | None:
        with os.fdopen(reader, "rb") as pipe:
            data = pipe.read()
        _, status = os.waitpid(child, 0)
        if status != 0:
            return None
        size = int.from_bytes(data[:8], "little")
        return data[8 : 8 + size], _rows(data[8 + size :])

    return receive


def _answer(work: Callable[[], _Part], reader: int, writer: int) -> None:
    """What the child does; never returns."""
    status = 1
    try:
        os.close(reader)
        data, rows = work()
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(len(data).to_bytes(8, "little") + data + _text_of(rows))
        status = 0
    finally:
        os._exit(status)


def _text_of(rows: dict[int, Any]) -> bytes:
    import json

    return json.dumps({n: [r.kernel, r.first_line] for n, r in rows.items()}).encode()


def _rows(data: bytes) -> dict[int, Any]:
    import json

    from shmalloc.compiler.module import Known

    return {int(n): Known(*row) for n, row in json.loads(data).items()}
