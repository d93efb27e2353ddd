"""Forks: the child of a process that uses an arena goes on with it, on a claim of its own.

A forked child has copies of all objects of its parent, and shares the memory of its segments. If it
ran as its parent, two processes would write the words that only one may write, and neither death
could be recovered. So the claim of the child, the *embryo*, is made before the fork, and the child
wakes up with it::

    before         in the parent, for each open arena: wait until its other threads are out of calls
                   that hold its lock; claim an embryo, whose lock the child will inherit; let every
                   face copy to it what the child shall have (``_copy_for_child``)
    in the parent  close the embryo's descriptor: from now on only the child holds its lock
    in the child   close the descriptors of the parent's claims, become the embryo, let every face
                   forget what is the parent's (``_become_child``)

The hooks cannot know whether the fork succeeded, and need not: if it failed, or the child is killed
before it runs a single instruction, no process holds the embryo's lock, and it is recovered like
any dead process. A fork that runs no hooks of Python (``fork`` called by C code) makes no embryo:
in that child compiled kernels refuse to run (``Ram.renew``). A program that is started by exec, as
by ``subprocess``, inherits nothing.

Forks of several threads take turns. A signal handler may fork in the middle of another fork of its
thread: the arenas are in between then, and are not told; they refuse every call in that child,
which may use ``exec``, end, or attach anew.

Data it owns: ``_followed``, the open arenas of this process in the order of their making.

Rules for faces (pages, objects, arrays), which override two methods of ``Bound`` and call those of
the next face:

    ``_copy_for_child(embryo)``  in the parent, arena locked; ``embryo`` is the child's claim. What
                                 the child inherits and is counted for each claim is copied here.
    ``_become_child()``          in the child, ``self.claim`` is the embryo already. It allocates
                                 nothing and runs in a process of one thread.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Protocol

FORK_WAIT_S = 10.0  # for the turn; a child of a fork without it has no arena


class Followed(Protocol):
    """What has to be told of forks."""

    def before_fork(self) -> None: ...

    def after_fork_in_parent(self) -> None: ...

    def after_fork_in_child(self, told: bool) -> None:
        """``told``: ``before_fork`` was called."""


class _Thread(threading.local):
    """The forks of a thread that are under way, more than one if a signal handler forks."""

    def __init__(self) -> None:
        self.forks: list[bool] = []  # whether each has the turn


_followed: dict[int, weakref.ref[Followed]] = {}
_told: list[Followed] = []  # those that know of the fork which has the turn
_hooks: list[tuple[Callable[[], None], Callable[[bool], None]]] = []
_thread = _Thread()
_turn = threading.RLock()


def follow(arena: Followed) -> None:
    """Tell ``arena`` of all forks from now on, for as long as it exists."""
    key = id(arena)
    _followed[key] = weakref.ref(arena, lambda _: _followed.pop(key, None))


def forget(arena: Followed) -> None:
    """It is closed: tell it no more."""
    _followed.pop(id(arena), None)


def register(in_parent: Callable[[], None], in_child: Callable[[bool], None]) -> None:
    """Call these after each fork, before the arenas are told.

    ``in_child(told)`` says whether arenas knew of it; ``in_parent`` is not called if not.
    """
    _hooks.append((in_parent, in_child))


def _before() -> None:
    forks = _thread.forks
    forks.append(False)
    if len(forks) > 1 or not _turn.acquire(timeout=FORK_WAIT_S):
        return
    forks[0] = True
    for reference in list(_followed.values()):
        arena = reference()
        if arena is not None:
            _told.append(arena)
            arena.before_fork()


def _had_turn() -> bool:
    """Whether the innermost fork of this thread has it; an exception may have cut it off."""
    return bool(_thread.forks) and _thread.forks.pop()


def _after_in_parent() -> None:
    if _had_turn():
        for in_parent, _ in _hooks:
            in_parent()
        while _told:
            _told.pop().after_fork_in_parent()
        _turn.release()


def _after_in_child() -> None:
    global _turn
    told = {id(arena) for arena in _told} if _had_turn() else set()
    _turn = threading.RLock()
    _thread.forks.clear()
    _told.clear()
    for _, in_child in _hooks:
        in_child(bool(told))
    for reference in list(_followed.values()):
        arena = reference()
        if arena is not None:
            arena.after_fork_in_child(id(arena) in told)


os.register_at_fork(
    before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
)
