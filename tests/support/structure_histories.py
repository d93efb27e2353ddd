"""Histories of real processes that use one structure, for stress.linearize.

The stamps come from an atomic value in the arena, which all processes advance, so no two are equal.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

from shmalloc import Arena, Atomic, open_structure
from stress.linearize import Operation

PATIENCE_S = 60.0
Script = Callable[[int, Any, Callable[..., Any]], None]


def client(number: int, script: Script, handles: list[bytes], stamps: bytes, answers: Any) -> None:
    """A child: ``script(its number, the structures, do)``; ``do`` records an operation."""
    clock: Atomic = open_structure(stamps)
    found: list[tuple[Any, ...]] = []

    def do(name: str, argument: Any, run: Callable[[], Any]) -> Any:
        call = clock.add(1)
        result = run()
        found.append((number, name, argument, result, call, clock.add(1)))
        return result

    script(number, [open_structure(handle) for handle in handles], do)
    answers.send(found)
    answers.close()


def history(arena: Arena, handles: list[bytes], script: Script, clients: int) -> list[Operation]:
    """What ``clients`` processes did, each by ``script``."""
    context = multiprocessing.get_context("fork")  # its children attach anew
    clock = arena.atomic(1)
    running = []
    for number in range(clients):
        mine, theirs = context.Pipe(duplex=False)
        given = (number, script, handles, clock.handle, theirs)
        process = context.Process(target=client, args=given, daemon=True)
        process.start()
        theirs.close()
        running.append((process, mine))
    found: list[Operation] = []
    for process, answers in running:
        assert answers.poll(PATIENCE_S), f"client {process.name} sent no history"
        found += [Operation(*row) for row in answers.recv()]
        process.join(PATIENCE_S)
        assert process.exitcode == 0
    return sorted(found, key=lambda operation: operation.call)
