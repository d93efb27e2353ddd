"""``Queue``: messages from any process to any other, first in, first out, of a bounded number.

::

    queue = arena.queue(maxsize=64, item_bytes=4096)
    queue.put({"step": 1})                  # pickled; bytes go as they are
    message = queue.get(timeout=1.0)        # queue.Empty, as of the standard library

All memory is there from the start: ``put`` needs none, and a message that is larger than
``item_bytes`` is refused. What is larger belongs into an array, and its handle into the queue.

A process that dies in ``put`` leaves the whole message or none. One that dies in ``get`` before it
has its copy leaves the message to another process, which gets it later than its turn; one that dies
between its copy and the return of ``get`` takes the message along. No message comes twice.

``shutdown`` ends it: no message comes in any more, and when the last is out, ``get`` raises
``ShutDown``, as the standard library's queues do from Python 3.13 on. A ``put`` takes a buffer
before it looks whether the queue is shut down. So a ``get`` that finds it shut down, and then no
buffer of a living producer, has no message to wait for.

Bytes are copied between the kernels that take and give a buffer (kernels/ring.py). Threads of a
process may use one queue at once. An exception out of a signal handler may come before we know
which buffer a kernel took for us: what we hold and no thread uses is given back then (held.py), or
at the next wait, if other threads were in the queue.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from contextlib import suppress
from queue import Empty, Full
from threading import get_ident
from typing import TYPE_CHECKING, Any, ClassVar

from shmalloc import constants as c
from shmalloc.checked import checked_bool
from shmalloc.errors import MisuseError
from shmalloc.structures.handles import Structure
from shmalloc.structures.held import others_in
from shmalloc.structures.kernels.entries import ST_PARAMETERS
from shmalloc.structures.kernels.frames import own_life
from shmalloc.structures.kernels.ring import (
    BUFFER_WORDS,
    Q_BUFFERS,
    Q_ROOM,
    Q_SHUT,
    TOKEN_BITS,
    TOKEN_MASK,
    USE_BITS,
    USE_MASK,
    WRITING,
    buffer_at,
    data_of,
    entry_begin,
    entry_take,
    queue_adopt,
    queue_begin_wait,
    queue_drop,
    queue_length,
    queue_publish,
    queue_reclaim,
    queue_release,
    queue_return,
    queue_shut,
    queue_take_wait,
)
from shmalloc.structures.waiting import deadline_of, timeout_of, wait_for
from shmalloc.transit import Outgoing

if TYPE_CHECKING:
    from shmalloc.structures.operations import StructureOperations

if sys.version_info >= (3, 13):
    from queue import ShutDown
else:

    class ShutDown(Exception):
        """As ``queue.ShutDown`` of Python 3.13: the queue was shut down."""


PICKLED = 1  # in the lowest bit of a message's length


class Queue(Structure):
    """A bounded queue of many producers and consumers. Made by ``Arena.queue``."""

    kind: ClassVar[int] = 4
    kind_name: ClassVar[str] = "queue"

    __slots__ = (
        "_do_adopt",
        "_do_begin",
        "_do_publish",
        "_do_release",
        "_do_take",
        "_lost",
        "_places",
        "_q",
        "_shut",
        "item_bytes",
        "maxsize",
    )

    def __init__(self, arena: StructureOperations, at: int, state: int) -> None:
        super().__init__(arena, at, state)
        ram = self._segment.ram
        self._q = ram[at + ST_PARAMETERS]
        self.maxsize = ram[self._q + Q_BUFFERS]
        self.item_bytes = ram[self._q + Q_ROOM]
        self._lost = False  # whether an exception may have left a buffer of ours
        run = arena.engine.call
        self._places = [
            self._segment.view(run(data_of, ram, self._q, number), self.item_bytes)
            for number in range(self.maxsize)
        ]
        self._shut = self._segment.view(self._q + Q_SHUT, 8).cast("q")  # faster than ram
        self._do_adopt = arena.builtin(queue_adopt)
        self._do_begin = arena.builtin(entry_begin)
        self._do_publish = arena.builtin(queue_publish)
        self._do_take = arena.builtin(entry_take)
        self._do_release = arena.builtin(queue_release)

    def put(self, message: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put ``message``: bytes as they are, anything else pickled; wait for a place.

        Raises ``queue.Full`` after ``timeout`` seconds (None: never), or at once without ``block``,
        ``ShutDown`` after ``shutdown``, ``MisuseError`` if the message is too large.
        """
        outgoing = None
        if type(message) is bytes:
            data: Any = message
            size = len(data)
            length = size << 1
        else:
            outgoing = Outgoing(message)
            data = outgoing.data
            size = len(data)
            length = size << 1 | PICKLED
        if size > self.item_bytes:
            raise self._too_large(size, outgoing)
        if self._segment.closed:
            self._check()
        arena, q, inside, thread = self._arena, self._q, self._inside, get_ident()
        try:
            inside.append(thread)
            token = self._do_begin(arena.claim, self._at, self._state)
            if token < 0:
                token = self._wait_for_place(timeout_of(block, timeout))
            if self._shut[0]:
                arena.run(queue_drop, q, token)
                raise ShutDown
            self._places[token & TOKEN_MASK][:size] = data
            outgoing = None  # from here on a process may load what it names
            self._do_publish(arena.claim, q, token, length)
        except (Full, ShutDown):
            if outgoing is not None:
                outgoing.take_back()
            raise
        except BaseException:
            self._give_back()
            if outgoing is not None:
                outgoing.take_back()
            raise
        finally:
            inside.remove(thread)

    def put_nowait(self, message: Any) -> None:
        """Put without waiting: ``put(message, block=False)``."""
        self.put(message, False)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """The oldest message; wait for one.

        Raises ``queue.Empty`` after ``timeout`` seconds (None: never), or at once without
        ``block``, ``ShutDown`` if it was shut down and the last message is out.
        """
        if self._segment.closed:
            self._check()
        arena, q, inside, thread = self._arena, self._q, self._inside, get_ident()
        try:
            inside.append(thread)
            token, length = self._do_take(arena.claim, self._at, self._state)
            if token < 0:
                token, length = self._wait_for_message(timeout_of(block, timeout))
            data = self._places[token & TOKEN_MASK][: length >> 1].tobytes()
            self._do_release(arena.claim, q, token)
        except (Empty, ShutDown):
            raise
        except BaseException:
            self._give_back()
            raise
        finally:
            inside.remove(thread)
        return pickle.loads(data) if length & PICKLED else data

    def get_nowait(self) -> Any:
        """Get without waiting: ``get(block=False)``."""
        return self.get(False)

    def __iter__(self) -> Iterator[Any]:
        """The messages, as they come, until the queue is shut down and empty."""
        with suppress(ShutDown):
            while True:
                yield self.get()

    def shutdown(self, immediate: bool = False) -> None:
        """Take no message any more: ``put`` raises ``ShutDown`` in every process, and so does
        ``get`` when the last message is out. Who waits is told within 50 ms. For good.

        ``immediate``: throw away what is in it.
        """
        immediate = checked_bool("immediate", immediate)
        self._check()
        self._arena.run(queue_shut, self._q)
        while immediate and (token := self._left()[0]) >= 0:
            self._do_release(self._arena.claim, self._q, token)

    def qsize(self) -> int:
        """How many messages it had a moment ago; those of dead consumers are not counted."""
        self._check()
        return self._arena.engine.call(queue_length, self._segment.ram, self._q)

    def empty(self) -> bool:
        """Whether it had no message a moment ago."""
        return self.qsize() == 0

    def full(self) -> bool:
        """Whether every place had a message a moment ago."""
        return self.qsize() >= self.maxsize

    def _told(self) -> str:
        return f"{self.qsize()} of {self.maxsize} messages"

    def _give_back(self) -> None:
        """Give back the buffers that this process holds and no thread of it is using.

        Not while other threads are in this queue: theirs cannot be told from lost ones.
        """
        self._lost = self._is_usable()
        if self._lost and not others_in(self._inside):
            run, ram, life = self._arena.run, self._segment.ram, self._arena.run(own_life)
            for number in range(self.maxsize):
                at = self._arena.engine.call(buffer_at, ram, self._q, number)
                state = ram[at]
                if ram[at + 1] == life:
                    token = (state >> USE_BITS) << TOKEN_BITS | number
                    if run(queue_drop, self._q, token) < 0:
                        run(queue_return, self._q, token)
            self._lost = False

    def _wait_for_place(self, timeout: float | None) -> int:
        self._check()
        if self._lost:
            self._give_back()
        arena, q = self._arena, self._q
        attempt = arena.builtin(queue_begin_wait)

        def begin(_: int) -> int:
            return c.E_STOPPED if self._shut[0] else attempt(arena.claim, q)

        token = wait_for(arena, begin, deadline_of(timeout))
        if token < 0:
            raise ShutDown if self._shut[0] else Full
        return token

    def _wait_for_message(self, timeout: float | None) -> tuple[int, int]:
        self._check()
        if self._lost:
            self._give_back()
        arena, q = self._arena, self._q
        attempt = arena.builtin(queue_take_wait)
        found = (c.E_AGAIN, 0)

        def take(_: int) -> int:
            nonlocal found
            found = self._left() if self._shut[0] else attempt(arena.claim, q)
            return found[0]

        if timeout == 0:  # also what no kernel finds before it has waited
            found = self._left() if self._shut[0] else self._do_adopt(arena.claim, q)
        else:
            wait_for(arena, take, deadline_of(timeout))
        if found[0] == c.E_STOPPED:
            raise ShutDown
        if found[0] < 0:
            raise Empty
        return found

    def _left(self) -> tuple[int, int]:
        """Of a queue that is shut down: a message that is left, or E_STOPPED: none will come.

        E_AGAIN: a producer has a buffer; it may have looked before the shutdown.
        """
        arena, ram, q = self._arena, self._segment.ram, self._q
        arena.run(queue_reclaim, q)  # the dead have none
        first = arena.engine.call(buffer_at, ram, q, 0)
        states = [ram[first + number * BUFFER_WORDS] for number in range(self.maxsize)]
        none = c.E_AGAIN if any(s & USE_MASK == WRITING for s in states) else c.E_STOPPED
        token, length = self._do_take(arena.claim, self._at, self._state)
        if token < 0:
            token, length = self._do_adopt(arena.claim, q)
        if token < 0 and none == c.E_AGAIN:
            os.sched_yield()
        return (none, 0) if token < 0 else (token, length)

    def _too_large(self, size: int, outgoing: Outgoing | None) -> MisuseError:
        if outgoing is not None:
            outgoing.take_back()
        return MisuseError(
            f"message: {size:,} bytes; this queue takes {self.item_bytes:,}: make it with"
            f" item_bytes={size}, or put the handle of an array"
        )
