"""What happens to arrays on their way between real processes, situation by situation.

A *hand* is a process that does what it is told: keeps arrays that it receives, makes and sends
some, ends or kills itself. A situation is a function of ``Stage`` that gives its outcome in a few
words, ``right`` where every value arrived. The stage shares arrays by one of the ways of
array_ways.py. What an arena frees is overwritten at once, so an array that lost its memory would
show another value.
"""

from __future__ import annotations

import ctypes
import importlib.util
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing.reduction import ForkingPickler
from subprocess import PIPE
from typing import Any

from shmalloc import Arena
from support.array_ways import GONE, Managed, Named, Ours, value_of

PATIENCE_S = 60


class Hand:
    """The commands of a hand, in its process."""

    def __init__(self, way: Any, queue: Any) -> None:
        self.way, self.queue = way, queue
        self.kept: dict[str, Any] = {}

    def keep(self, key: str, thing: Any) -> None:
        self.kept[key] = thing

    def get(self, key: str) -> None:
        self.kept[key] = self.queue.get(timeout=PATIENCE_S)

    def put(self, key: str) -> None:
        thing = self.kept.pop(key)
        self.queue.put(thing)
        self.way.drop(thing)

    def make(self, key: str, value: float) -> None:
        self.kept[key] = self.way.made(value)

    def values(self, key: str) -> list[float]:
        thing = self.kept[key]
        return [value_of(a) for a in (thing if isinstance(thing, tuple | list) else [thing])]

    def dumps(self, key: str) -> bytes:
        return bytes(ForkingPickler.dumps(self.kept[key]))

    def drop(self, key: str) -> None:
        thing = self.kept.pop(key)
        self.way.drop(*(thing if isinstance(thing, tuple | list) else [thing]))
        del thing
        self.way.collect()

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def leave(self) -> None:
        os._exit(0)


def serve(pipe: Any, way: Any, queue: Any) -> None:
    hand = Hand(way, queue)
    while True:
        try:
            method, arguments = pipe.recv()
            if method == "end":
                pipe.send(None)
                return
            pipe.send(getattr(hand, method)(*arguments))
        except GONE:
            pipe.send("gone")


class Remote:
    """A hand, as the parent has it."""

    def __init__(self, context: Any, way: Any, queue: Any = None) -> None:
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, way, queue))
        self.process.start()
        theirs.close()

    def tell(self, method: str, *arguments: Any) -> Any:
        self.pipe.send((method, arguments))
        assert self.pipe.poll(PATIENCE_S), f"a hand did not answer {method}"
        return self.pipe.recv()

    def end(self) -> None:
        self.tell("end")
        self.join()

    def dies(self, how: str = "die") -> None:
        self.pipe.send((how, ()))
        self.join()

    def join(self) -> None:
        self.process.join(PATIENCE_S)
        assert not self.process.is_alive(), "a hand did not end"
        self.pipe.close()


class Stage:
    """The parent: its way, hands that live as long as it does, and what is left behind."""

    def __init__(self, context: Any, way: Any = Ours) -> None:
        self.context = context
        self.way = way(context)
        self.made, self.drop = self.way.made, self.way.drop
        self.queue = context.Queue()
        self._hands: list[Remote] = []

    @property
    def hands(self) -> list[Remote]:
        if not self._hands:
            self._hands = [self.another() for _ in range(2)]
        return self._hands

    def another(self) -> Remote:
        return Remote(self.context, self.way, self.queue)

    def close(self) -> None:
        for hand in self._hands:
            hand.end()
        self.queue.close()
        self.queue.join_thread()
        self.way.close()


def loaded(way: Any, sent: bytes) -> float | str:
    """The value of what was sent, which is dropped again."""
    try:
        array = pickle.loads(sent)
    except GONE:
        return "gone"
    value = value_of(array)
    way.drop(array)
    return value


def judged(got: Any, wanted: Any) -> str:
    if list(got) == list(wanted):
        return "right"
    if got == "gone" or all(g in ("gone", w) for g, w in zip(got, wanted, strict=True)):
        return "gone"
    return f"WRONG {got}"


# --- on the way ----------------------------------------------------------------------------------
def piped_and_dropped(stage: Stage) -> str:
    """Pipe: the sender drops before it is received"""
    x = stage.made(5)
    pipe, other = stage.context.Pipe()
    pipe.send(x)
    stage.drop(x)
    del x
    stage.way.churn()
    got = _received(other)
    pipe.close()
    other.close()
    return _judged_and_dropped(stage, got, [5])


def _received(pipe: Any) -> Any:
    try:
        return [pipe.recv()]
    except GONE:
        return ["gone"]


def _judged_and_dropped(stage: Stage, got: list[Any], wanted: Any) -> str:
    """``judged`` of arrays; they are dropped then."""
    told = judged([one if isinstance(one, str) else value_of(one) for one in got], wanted)
    stage.drop(*(one for one in got if not isinstance(one, str)))
    return told


def queued_and_dropped(stage: Stage) -> str:
    """Queue: the sender drops at once, ten times"""
    hand, got = stage.hands[0], []
    for k in range(10):
        x = stage.made(k)
        stage.queue.put(x)
        stage.drop(x)
        del x
    stage.way.churn()
    for _ in range(10):
        missing = hand.tell("get", "x")
        got += ["gone"] if missing else hand.tell("values", "x")
        if not missing:
            hand.tell("drop", "x")
    return judged(got, range(10))


def argument_dropped(stage: Stage) -> str:
    """An argument of a new process: the parent drops it at once"""
    x = stage.made(7)
    pipe, theirs = stage.context.Pipe()
    process = stage.context.Process(target=_tells_value, args=(theirs, x))
    process.start()
    theirs.close()
    stage.drop(x)
    del x
    stage.way.churn()
    process.join(PATIENCE_S)
    try:
        got = pipe.recv()
    except EOFError:  # the child could not read its arguments
        got = "gone"
    pipe.close()
    return judged([got], [7])


def _tells_value(pipe: Any, array: Any) -> None:
    pipe.send(value_of(array))


def forwarded(stage: Stage) -> str:
    """A sends to B, B to C; each drops what it sent"""
    first, second = stage.hands
    x = stage.made(6)
    first.tell("keep", "x", x)
    first.tell("put", "x")
    stage.drop(x)
    del x
    stage.way.churn()
    if second.tell("get", "x"):
        return "gone"
    got = second.tell("values", "x")
    second.tell("drop", "x")
    return judged(got, [6])


def several_in_one_message(stage: Stage) -> str:
    """(x, x, x[3:]) in one message"""
    x = stage.made(5)
    pipe, other = stage.context.Pipe()
    pipe.send((x, x, x[3:]))
    stage.drop(x)
    del x
    stage.way.churn()
    got = _received(other)
    pipe.close()
    other.close()
    if got == ["gone"]:
        return "gone"
    arrays = list(got[0])
    same = arrays[0] is arrays[1]
    told = judged([value_of(array) for array in arrays], [5] * 3)
    stage.drop(*arrays[1:])
    return told if same else f"WRONG: {told}, two arrays"


def one_array_to_many(stage: Stage) -> str:
    """One array, ten messages, two receivers; then the sender drops"""
    hands = stage.hands
    x, got = stage.made(5), []
    for _ in range(5):
        for hand in hands:
            hand.tell("keep", "x", x)
    stage.drop(x)
    del x
    stage.way.churn()
    for hand in hands:
        got += hand.tell("values", "x")
        hand.tell("drop", "x")
    return judged(got, [5, 5])


def pool_chunks(stage: Stage) -> str:
    """Pool.map over (shared, i) in chunks"""
    shared = stage.made(3)
    with stage.context.Pool(2) as pool:
        got = pool.map(_item, [(shared, k) for k in range(32)])
        pool.close()
        pool.join()
    stage.drop(shared)
    return judged(got, [3] * 32)


def _item(task: tuple[Any, int]) -> float:
    array, k = task
    return float(array[k])


def pool_temporaries(stage: Stage) -> str:
    """Pool.map over arrays that have no name"""
    with stage.context.Pool(2) as pool:
        got = pool.map(value_of, [stage.made(k) for k in range(20)], chunksize=5)
        pool.close()
        pool.join()
    return judged(got, range(20))


def executor_returns(stage: Stage) -> str:
    """Arrays that the workers of an executor return; the workers have ended when they are read"""
    with ProcessPoolExecutor(2, mp_context=stage.context) as executor:
        futures = [executor.submit(_remade, (stage.way, k)) for k in range(8)]
        got = [_result(future) for future in futures]
    stage.way.recover()
    stage.way.churn()
    return _judged_and_dropped(stage, got, range(8))


def _result(future: Any) -> Any:
    try:
        return future.result(timeout=PATIENCE_S)
    except GONE:
        return "gone"


def _remade(task: tuple[Any, int]) -> Any:
    way, value = task
    return way.made(value)


def joblib_both_ways(stage: Stage) -> str:
    """joblib (loky): an argument of workers, and arrays that they return"""
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor

    shared = stage.made(3)
    try:
        got = Parallel(2)(delayed(_item)((shared, k)) for k in range(8))
        made = Parallel(2)(delayed(_remade)((stage.way, k)) for k in range(8))
        get_reusable_executor().shutdown(wait=True)
    except Exception as error:
        return f"{type(error).__name__}"
    stage.way.recover()
    stage.way.churn()
    got += [value_of(one) for one in made]
    stage.drop(shared, *made)
    return judged(got, [*[3] * 8, *range(8)])


# --- bytes that are loaded twice, or never -------------------------------------------------------
def _bytes_of(stage: Stage, value: float, *, times: int = 1) -> list[bytes]:
    """Pickles of a new array, which is dropped then."""
    x = stage.made(value)
    sent = [bytes(ForkingPickler.dumps(x)) for _ in range(times)]
    stage.drop(x)
    del x
    stage.way.churn()
    return sent


def same_bytes_first_kept(stage: Stage) -> str:
    """The same bytes twice, the first array kept"""
    (sent,) = _bytes_of(stage, 5)
    try:
        first = pickle.loads(sent)
    except GONE:
        return "gone"
    stage.way.churn()
    told = judged([value_of(first), loaded(stage.way, sent)], [5, 5])
    stage.drop(first)
    return told


def same_bytes_first_dropped(stage: Stage) -> str:
    """The same bytes twice, the first array dropped before the second load"""
    (sent,) = _bytes_of(stage, 5)
    first = loaded(stage.way, sent)
    stage.way.churn()
    second = loaded(stage.way, sent)
    return f"first {judged([first], [5])}, second {judged([second], [5])}"


def same_bytes_then_others(stage: Stage) -> str:
    """Bytes A are loaded twice and dropped, then bytes B of the same array"""
    first, second = _bytes_of(stage, 5, times=2)
    got = [loaded(stage.way, first), loaded(stage.way, first)]
    stage.way.churn()
    return judged([*got, loaded(stage.way, second)], [5] * 3)


def never_loaded(stage: Stage) -> str:
    """The bytes are thrown away while the sender lives"""
    _bytes_of(stage, 5)
    return str(stage.way.lost_bytes())


def never_loaded_sender_ended(stage: Stage) -> str:
    """The bytes are thrown away, and the sender ends"""
    hand = stage.another()
    hand.tell("make", "x", 5)
    hand.tell("dumps", "x")
    hand.tell("drop", "x")
    hand.end()
    stage.way.end_grace()
    kept = stage.way.left()
    return f"{kept} kept" if kept else "nothing kept"


def dumps_fails(stage: Stage) -> str:
    """Pickling fails after the array"""
    x = stage.made(5)
    with suppress(AttributeError, pickle.PicklingError):
        ForkingPickler.dumps((x, lambda: 0))
        return "WRONG: pickled"
    stage.drop(x)
    del x
    return str(stage.way.lost_bytes())


# --- ends and deaths -----------------------------------------------------------------------------
def _from_a_sender(stage: Stage, end: Callable[[Remote], object], when: str) -> str:
    """A process makes and sends three arrays and ends; they are loaded before, after, or late."""
    hand, sent = stage.another(), []
    for value in (1, 2, 3):
        hand.tell("make", f"x{value}", value)
        sent.append(hand.tell("dumps", f"x{value}"))
    held = [pickle.loads(one) for one in sent] if when == "before" else []
    end(hand)
    stage.way.recover()
    stage.way.churn()
    if when == "late":
        stage.way.end_grace()
        stage.way.churn()
    if when != "before":
        return judged([loaded(stage.way, one) for one in sent], [1, 2, 3])
    return _judged_and_dropped(stage, held, [1, 2, 3])


def sender_ends(stage: Stage) -> str:
    """The sender ends in order; what it sent is loaded then"""
    return _from_a_sender(stage, Remote.end, "after")


def sender_ends_late(stage: Stage) -> str:
    """The same, a minute after its end"""
    return _from_a_sender(stage, Remote.end, "late")


def sender_killed(stage: Stage) -> str:
    """The sender is killed; what it sent is loaded then"""
    return _from_a_sender(stage, Remote.dies, "after")


def sender_killed_late(stage: Stage) -> str:
    """The same, a minute after its death"""
    return _from_a_sender(stage, Remote.dies, "late")


def sender_killed_after(stage: Stage) -> str:
    """The sender is killed when its arrays were loaded"""
    return _from_a_sender(stage, Remote.dies, "before")


def receiver_killed_unread(stage: Stage) -> str:
    """The receiver is killed before it reads its pipe; the sender drops"""
    hand, x = stage.another(), stage.made(5)
    hand.dies()
    pipe, other = stage.context.Pipe()
    pipe.send(x)
    pipe.close()
    other.close()
    stage.drop(x)
    del x
    return str(stage.way.lost_bytes())


def receiver_killed_before_load(stage: Stage) -> str:
    """The receiver is killed when it has the bytes, before it loads them; the sender drops"""
    hand, x = stage.another(), stage.made(5)
    hand.tell("keep", "bytes", bytes(ForkingPickler.dumps(x)))
    hand.dies()
    stage.drop(x)
    del x
    stage.way.recover()
    return str(stage.way.lost_bytes())


def receiver_killed_holding(stage: Stage) -> str:
    """The receiver is killed when it has the array; the sender drops then"""
    hand, x = stage.another(), stage.made(5)
    hand.tell("keep", "x", x)
    hand.dies()
    stage.way.recover()
    told = judged([value_of(x)], [5])
    stage.drop(x)
    return told


def receiver_leaves(stage: Stage) -> str:
    """The receiver has the array and ends by os._exit; the sender drops then"""
    hand, x = stage.another(), stage.made(5)
    hand.tell("keep", "x", x)
    hand.dies("leave")
    told = judged([value_of(x)], [5])
    stage.drop(x)
    return told


def maker_killed(stage: Stage) -> str:
    """A process makes five arrays and is killed"""
    hand = stage.another()
    for k in range(5):
        hand.tell("make", f"x{k}", k)
    hand.dies()
    return "-"


def forgotten(stage: Stage) -> str:
    """A hundred arrays are made, one after the other, and not closed"""
    for k in range(100):
        stage.made(k)
    return "-"


def view_after_close(stage: Stage) -> str:
    """A view is read after all is closed"""
    if not isinstance(stage.way, Ours):
        x = stage.made(5)
        view = x.array[3:]
        with suppress(FileNotFoundError):
            stage.drop(x)
        return judged([float(view[-1])], [5])
    with Arena.create(size="1MiB") as arena:
        view = arena.full(8, 5.0)[3:]
    return judged([float(view[-1])], [5])


def kept_in_a_file(stage: Stage) -> str:
    """pickle.dumps, as for a file; another program reads it when the array is gone"""
    x = stage.made(5)
    kept = pickle.dumps(x)
    stage.drop(x)
    del x
    stage.way.churn()
    return judged([_read_by_a_program(kept)], [5])


def other_programs(stage: Stage) -> str:
    """Two programs, not children of multiprocessing, open it one after the other, and end"""
    x = stage.made(5)
    got = [_read_by_a_program(bytes(ForkingPickler.dumps(x))) for _ in range(2)]
    got.append(value_of(x))
    stage.drop(x)
    told = [judged([one], [5]) for one in got]
    return "right" if told == ["right"] * 3 else f"first {told[0]}, second {told[1]}"


def _read_by_a_program(pickled: bytes) -> float | str:
    read = "import sys, pickle; print(float(pickle.load(sys.stdin.buffer)[-1]))"
    done = subprocess.run(
        [sys.executable, "-c", read], input=pickled, stdout=-1, timeout=PATIENCE_S
    )
    return float(done.stdout) if done.stdout else "gone"


def program_killed(stage: Stage) -> str:
    """A program makes three arrays and is killed"""
    return _killed(stage, os.kill)


def group_killed(stage: Stage) -> str:
    """The same, with every process that it has started"""
    return _killed(stage, os.killpg)


def _killed(stage: Stage, kill: Callable[[int, int], None]) -> str:
    program = "import sys; from support.array_situations import make_and_wait as f; f(sys.argv[1])"
    command = [sys.executable, "-c", program, type(stage.way).__name__]
    process = subprocess.Popen(command, stdin=PIPE, stdout=PIPE, process_group=0)
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == b"made\n"
    kill(process.pid, signal.SIGKILL)
    process.wait(PATIENCE_S)
    process.stdin.close()
    process.stdout.close()
    return "-"


def make_and_wait(way: str) -> None:
    """What that program does."""
    made = {kind.__name__: kind for kind in (Ours, Named, Managed)}[way](multiprocessing)
    kept = [made.made(k) for k in range(3)]
    print("made", flush=True)
    sys.stdin.read()
    del kept


def too_large(stage: Stage) -> str:
    """An array of 16 MB, where an arena was made with 8"""
    try:
        x = stage.made(5, words=1 << 21)
    except MemoryError:
        return "MemoryError"
    told = judged([value_of(x)], [5])
    stage.drop(x)
    return told


def forked_by_c(stage: Stage) -> str:
    """A fork by C code, without Python's hooks: the child reads an array, and makes one"""
    x = stage.made(5)
    pid = ctypes.CDLL(None).fork()
    if pid == 0:
        code = 1
        with suppress(BaseException):
            code = 2 if value_of(x) != 5 else 3
            stage.drop(stage.made(6))
            code = 4
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    stage.drop(x)
    return {3: "reads right, makes none", 4: "right"}.get(code, f"WRONG: exit code {code}")


TRANSIT: tuple[Callable[[Stage], str], ...] = (
    piped_and_dropped,
    queued_and_dropped,
    argument_dropped,
    forwarded,
    several_in_one_message,
    one_array_to_many,
    pool_chunks,
    pool_temporaries,
    executor_returns,
    *((joblib_both_ways,) if importlib.util.find_spec("joblib") else ()),
    same_bytes_first_kept,
    same_bytes_first_dropped,
    same_bytes_then_others,
    never_loaded,
    never_loaded_sender_ended,
    dumps_fails,
    sender_ends,
    sender_ends_late,
    sender_killed,
    sender_killed_late,
    sender_killed_after,
    receiver_killed_unread,
    receiver_killed_before_load,
    receiver_killed_holding,
)
SITUATIONS = (
    *TRANSIT,
    receiver_leaves,
    maker_killed,
    forgotten,
    view_after_close,
    kept_in_a_file,
    other_programs,
    too_large,
    forked_by_c,
)
PROGRAMS = (program_killed, group_killed)  # they leave what the next program may find
LOST = "1 kept, shown by leaks(), ended by hand"
EXPECTED = {
    "same_bytes_first_dropped": "first right, second gone",
    "never_loaded": LOST,
    "dumps_fails": LOST,
    "receiver_killed_unread": LOST,
    "receiver_killed_before_load": LOST,
    "never_loaded_sender_ended": "nothing kept",
    "sender_ends_late": "gone",
    "sender_killed_late": "gone",
    "maker_killed": "-",
    "forgotten": "-",
    "too_large": "MemoryError",
    "forked_by_c": "reads right, makes none",
}


def outcomes(
    context: Any, plays: tuple[Callable[[Stage], str], ...] = SITUATIONS
) -> dict[str, tuple[str, int]]:
    """(outcome, arrays left) of each situation with an arena, one after the other, in one program.

    Who leaves something behind, or disturbs those behind it, is seen.
    """
    stage = Stage(context)
    try:
        return {play.__name__: (play(stage), stage.way.left()) for play in plays}
    finally:
        stage.close()
