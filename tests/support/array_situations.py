"""What happens to arrays on their way between real processes, situation by situation.

A *hand* is a process that does what it is told: keeps arrays that it receives, makes and sends
some, ends or kills itself. A situation is a function of ``Stage`` that gives its outcome in a word
or two, ``right`` where every value arrived. What is freed is overwritten at once, so an array that
lost its memory would show another value.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np

from shmalloc import Arena
from shmalloc import constants as c
from shmalloc.errors import MisuseError

PATIENCE_S = 60
WORDS = 64
TICKS_S = 20  # at most, until a hand's tick has given back what it dropped


def value_of(array: Any) -> float:
    return float(np.asarray(array)[-1])


def array_of(arena: Any, value: float) -> Any:
    return arena.full(WORDS, float(value))


class Hand:
    """The commands of a hand, in its process."""

    def __init__(self, name: str, queue: Any) -> None:
        self.name, self.queue = name, queue
        self.kept: dict[str, Any] = {}
        self._arena: Any = None

    @property
    def arena(self) -> Any:
        if self._arena is None:
            self._arena = Arena.attach(self.name)
        return self._arena

    def keep(self, key: str, thing: Any) -> None:
        self.kept[key] = thing

    def get(self, key: str) -> None:
        self.kept[key] = self.queue.get(timeout=PATIENCE_S)

    def put(self, key: str) -> None:
        self.queue.put(self.kept.pop(key))

    def make(self, key: str, value: float) -> None:
        self.kept[key] = array_of(self.arena, value)

    def load(self, key: str, sent: bytes) -> None:
        self.kept[key] = pickle.loads(sent)

    def values(self, key: str) -> list[float]:
        thing = self.kept[key]
        return [value_of(a) for a in (thing if isinstance(thing, tuple | list) else [thing])]

    def dumps(self, key: str) -> bytes:
        return bytes(ForkingPickler.dumps(self.kept[key]))

    def drop(self, key: str) -> None:
        del self.kept[key]
        if self._arena is not None:
            self._arena.collect()

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def serve(pipe: Any, name: str, queue: Any) -> None:
    hand = Hand(name, queue)
    while True:
        method, arguments = pipe.recv()
        if method == "end":
            pipe.send(None)
            return
        try:
            pipe.send(getattr(hand, method)(*arguments))
        except MisuseError:
            pipe.send("gone")


class Remote:
    """A hand, as the parent has it."""

    def __init__(self, context: Any, name: str, queue: Any = None) -> None:
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, name, queue))
        self.process.start()
        theirs.close()

    def tell(self, method: str, *arguments: Any) -> Any:
        self.pipe.send((method, arguments))
        assert self.pipe.poll(PATIENCE_S), f"a hand did not answer {method}"
        return self.pipe.recv()

    def kill(self) -> None:
        self.pipe.send(("die", ()))
        self.join()

    def join(self) -> None:
        self.process.join(PATIENCE_S)
        assert not self.process.is_alive(), "a hand did not end"
        self.pipe.close()


class Stage:
    """The parent: its arena, two hands that live as long as it does, and what is left behind."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.arena = Arena.create(size="8MiB", cpus=32)
        self.queue = context.Queue()
        self.hands = [Remote(context, self.arena.name, self.queue) for _ in range(2)]

    def another(self) -> Remote:
        return Remote(self.context, self.arena.name, self.queue)

    def made(self, value: float) -> Any:
        return array_of(self.arena, value)

    def churn(self) -> None:
        """Overwrite all that is free."""
        self.arena.collect()
        for _ in range(3):
            kept = [self.made(777.0) for _ in range(40)]
            del kept

    def left(self) -> int:
        """Arrays that have references when the hands have noticed what they dropped."""
        end = time.monotonic() + TICKS_S
        while self.referenced() and time.monotonic() < end:
            time.sleep(0.01)
        return self.referenced()

    def referenced(self) -> int:
        gc.collect()
        self.arena.recover()
        layout, ram = self.arena.segment.layout, self.arena.segment.ram
        at, pages = layout.at["arrays"], self.arena.geometry.pages
        counts = ram.array[at : at + pages * c.AR_STRIDE : c.AR_STRIDE] & c.AR_REFS_MASK
        return int((counts != 0).sum())

    def close(self) -> None:
        for hand in self.hands:
            hand.tell("end")
            hand.join()
        self.queue.close()
        self.queue.join_thread()
        self.arena.close()


def loaded(sent: bytes) -> float | str:
    try:
        return value_of(pickle.loads(sent))
    except MisuseError:
        return "gone"


def judged(got: Any, wanted: Any) -> str:
    if list(got) == list(wanted):
        return "right"
    return (
        "gone"
        if all(one in ("gone", want) for one, want in zip(got, wanted, strict=True))
        else (f"WRONG {got}")
    )


# --- situations ----------------------------------------------------------------------------------
def sent_and_dropped(stage: Stage) -> str:
    """Pipe: the sender drops at once."""
    x = stage.made(5)
    stage.hands[0].tell("keep", "x", x)
    del x
    stage.churn()
    got = stage.hands[0].tell("values", "x")
    stage.hands[0].tell("drop", "x")
    return judged(got, [5])


def queued_and_dropped(stage: Stage) -> str:
    """Queue: the sender drops at once, ten times."""
    for k in range(10):
        stage.queue.put(stage.made(k))
    stage.churn()
    got = []
    for _ in range(10):
        stage.hands[0].tell("get", "x")
        got += stage.hands[0].tell("values", "x")
    stage.hands[0].tell("drop", "x")
    return judged(got, range(10))


def forwarded(stage: Stage) -> str:
    """A sends to B, B to C; each drops."""
    x = stage.made(6)
    stage.hands[0].tell("keep", "x", x)
    del x
    stage.hands[0].tell("put", "x")
    stage.churn()
    stage.hands[1].tell("get", "x")
    got = stage.hands[1].tell("values", "x")
    stage.hands[1].tell("drop", "x")
    return judged(got, [6])


def several_in_one_message(stage: Stage) -> str:
    """(x, x, x[3:]) in one message."""
    x = stage.made(5)
    stage.hands[0].tell("keep", "x", (x, x, x[3:]))
    del x
    stage.churn()
    got = stage.hands[0].tell("values", "x")
    stage.hands[0].tell("drop", "x")
    return judged(got, [5] * 3)


def one_array_to_many(stage: Stage) -> str:
    """One array, ten messages, two receivers."""
    x, got = stage.made(5), []
    for _ in range(5):
        for hand in stage.hands:
            hand.tell("keep", "x", x)
    del x
    stage.churn()
    for hand in stage.hands:
        got += hand.tell("values", "x")
        hand.tell("drop", "x")
    return judged(got, [5, 5])


def same_bytes_first_kept(stage: Stage) -> str:
    """The same bytes twice, the first array kept."""
    sent = bytes(ForkingPickler.dumps(stage.made(5)))
    stage.churn()
    first = pickle.loads(sent)
    stage.churn()
    return judged([value_of(first), loaded(sent)], [5, 5])


def same_bytes_first_dropped(stage: Stage) -> str:
    """The second load comes when the array is gone."""
    sent = bytes(ForkingPickler.dumps(stage.made(5)))
    first = loaded(sent)
    stage.churn()
    return judged([first, loaded(sent)], [5, 5])


def same_bytes_then_others(stage: Stage) -> str:
    """Bytes A are loaded twice and dropped, then bytes B of the same array."""
    x = stage.made(5)
    a, b = (bytes(ForkingPickler.dumps(x)) for _ in range(2))
    del x
    got = [loaded(a), loaded(a)]
    stage.churn()
    return judged([*got, loaded(b)], [5] * 3)


def never_loaded(stage: Stage) -> str:
    """The sender lives, the bytes are thrown away: shown, and ended by hand."""
    ForkingPickler.dumps(stage.made(5))
    stage.churn()
    shown = [(leak.pid, leak.sender_ended) for leak in stage.arena.leaks()]
    stage.arena.recover(transit_older_than=0)
    return "shown" if shown == [(os.getpid(), False)] else f"WRONG {shown}"


def dumps_fails(stage: Stage) -> str:
    """Pickling fails after the array: as if never loaded."""
    try:
        ForkingPickler.dumps((stage.made(5), lambda: 0))
    except Exception:
        shown = len(stage.arena.leaks())
        stage.arena.recover(transit_older_than=0)
        return "shown" if shown == 1 else f"WRONG {shown}"
    return "WRONG: pickled"


def sender_ends(stage: Stage) -> str:
    """The sender ends in order; what it sent is loaded later, and the rest after the grace."""
    return _after_the_sender(stage, lambda hand: (hand.tell("end"), hand.join()))


def sender_is_killed(stage: Stage) -> str:
    """The sender is killed; the rest as before."""
    return _after_the_sender(stage, lambda hand: hand.kill())


def _after_the_sender(stage: Stage, end: Callable[[Remote], object]) -> str:
    hand = stage.another()
    sent = []
    for value in (1, 2, 3):
        hand.tell("make", "x", value)
        sent.append(hand.tell("dumps", "x"))
    held = pickle.loads(sent[0])
    hand.tell("drop", "x")
    end(hand)
    stage.arena.recover()
    stage.churn()
    early = [value_of(held), loaded(sent[1])]
    ended = [leak.sender_ended for leak in stage.arena.leaks()]
    stage.arena.ticket_grace_s = 0.0
    stage.arena.recover()
    stage.arena.ticket_grace_s = 60.0
    stage.churn()
    late = loaded(sent[2])
    right = (early, ended, late) == ([1, 2], [True], "gone")
    return "right, gone after the grace" if right else f"WRONG {early} {ended} {late}"


def receiver_is_killed_with_it(stage: Stage) -> str:
    """The receiver is killed when it has the array."""
    hand, x = stage.another(), stage.made(5)
    hand.tell("keep", "x", x)
    hand.kill()
    stage.arena.recover()
    return judged([x.references, value_of(x)], [1, 5])


def receiver_is_killed_before(stage: Stage) -> str:
    """The message is in its pipe: as if never loaded."""
    hand, x = stage.another(), stage.made(5)
    hand.pipe.send(("die", ()))
    hand.process.join(PATIENCE_S)
    sent = bytes(ForkingPickler.dumps(x))
    with suppress(OSError):
        hand.pipe.send_bytes(sent)
    hand.pipe.close()
    del x
    shown = len(stage.arena.leaks())
    stage.arena.recover(transit_older_than=0)
    return "shown" if shown == 1 else f"WRONG {shown}"


def _item(task: tuple[Any, int]) -> float:
    array, k = task
    return float(array[k])


def _remade(task: tuple[str, int]) -> Any:
    name, value = task
    return array_of(Arena.attach(name), value)


def pool_maps(stage: Stage) -> str:
    """Pool.map over (shared, i) in chunks, and over temporaries."""
    shared = stage.arena.array(np.arange(32.0))
    with stage.context.Pool(2) as pool:
        got = pool.map(_item, [(shared, k) for k in range(32)])
        got += pool.map(value_of, [stage.made(k) for k in range(20)], chunksize=5)
        pool.close()
        pool.join()
    return judged(got, [*range(32), *range(20)])


def executor_returns(stage: Stage) -> str:
    """Arrays that the workers of an executor return, which then end."""
    with ProcessPoolExecutor(2, mp_context=stage.context) as executor:
        made = list(executor.map(_remade, [(stage.arena.name, k) for k in range(8)]))
    stage.arena.recover()
    stage.churn()
    return judged([value_of(one) for one in made], range(8))


SITUATIONS: tuple[Callable[[Stage], str], ...] = (
    sent_and_dropped,
    queued_and_dropped,
    forwarded,
    several_in_one_message,
    one_array_to_many,
    same_bytes_first_kept,
    same_bytes_first_dropped,
    same_bytes_then_others,
    never_loaded,
    dumps_fails,
    sender_ends,
    sender_is_killed,
    receiver_is_killed_with_it,
    receiver_is_killed_before,
    pool_maps,
    executor_returns,
)
EXPECTED = {
    "same_bytes_first_dropped": "gone",
    "never_loaded": "shown",
    "dumps_fails": "shown",
    "receiver_is_killed_before": "shown",
    "sender_ends": "right, gone after the grace",
    "sender_is_killed": "right, gone after the grace",
}


def outcomes(context: Any) -> dict[str, tuple[str, int]]:
    """(outcome, arrays left) of each situation, one after the other, among the same processes."""
    stage = Stage(context)
    try:
        return {play.__name__: (play(stage), stage.left()) for play in SITUATIONS}
    finally:
        stage.close()
