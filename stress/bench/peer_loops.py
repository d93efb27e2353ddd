"""The loops of the peers: the operations of ours, as LLVM IR, over two entry points of a library.

A loop is called once for thousands of operations, as ours are. Its state is words::

    0 entry that allocates | 1 entry that frees | 2 heap | 3 core | 4 size in bytes, or order
    5 count of a batch, or of slots | 6 address of slots | 7 address of the order of a batch
    8 random state | 9 least size of a ring | 10 address of sched_yield
    11 looks of a side that waits, before it yields

Two loops pass blocks to another process: ``takes`` fills the slots and ``gives`` frees them, in
turns; ``produce`` and ``consume`` have a ring in shared memory where the slots would be, which is
that of page_loops.py: head, tail and entries.
``take`` and ``give`` differ by how a library is called (its shape) and are inlined. A block is a
word that is never 0: its address, or its frame + 1. A loop returns how many allocations failed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

from shmalloc.compiler import codegen, link
from shmalloc.compiler.load import load as load_image
from stress.bench.page_loops import A_HEAD, A_RING, A_TAIL, RING

S_TAKE, S_GIVE, S_HEAP, S_CORE, S_SIZE, S_COUNT, S_SLOTS, S_ORDER, S_RANDOM = range(9)
S_LEAST, S_YIELD, S_SPINS = 9, 10, 11
STATE_WORDS = 16
LOOPS = ("pairs", "batches", "replace", "mixed", "clear", "takes", "gives", "produce", "consume")
POLICY = "policy"


def _word(name: str, index: int) -> str:
    return (
        f"  %{name}.at = getelementptr i64, ptr %s, i64 {index}\n"
        f"  %{name} = load i64, ptr %{name}.at, align 8\n"
    )


def _entry(index: int) -> str:
    return _word("f.word", index) + "  %f = inttoptr i64 %f.word to ptr\n"


_TAKE = "define internal i64 @take(ptr %s, i64 %what) alwaysinline {\n"
_GIVE = "define internal void @give(ptr %s, i64 %block, i64 %what) alwaysinline {\n"
_ADDRESS = "  %b = ptrtoint ptr %p to i64\n  ret i64 %b\n}\n"
_HEAP = _word("h.word", S_HEAP) + "  %h = inttoptr i64 %h.word to ptr\n"
_BLOCK = "  %p = inttoptr i64 %block to ptr\n"
# struct llfree_request: order and class in the first bytes, then a local slot that is present
_REQUEST = (
    "  %r = alloca [3 x i64], align 8\n"
    + _word("core", S_CORE)
    + "  %huge = icmp uge i64 %what, 9\n  %class = select i1 %huge, i64 256, i64 0\n"
    "  %first = or i64 %what, %class\n  store i64 %first, ptr %r, align 8\n"
    "  %r1 = getelementptr i64, ptr %r, i64 1\n  store i64 1, ptr %r1, align 8\n"
    "  %r2 = getelementptr i64, ptr %r, i64 2\n  store i64 %core, ptr %r2, align 8\n"
)
SHAPES = {
    "malloc": _TAKE
    + _entry(S_TAKE)
    + "  %p = call ptr %f(i64 %what)\n"
    + _ADDRESS
    + _GIVE
    + _entry(S_GIVE)
    + _BLOCK
    + "  call void %f(ptr %p)\n  ret void\n}\n",
    "heap": _TAKE
    + _entry(S_TAKE)
    + _HEAP
    + "  %p = call ptr %f(ptr %h, i64 %what)\n"
    + _ADDRESS
    + _GIVE
    + _entry(S_GIVE)
    + _HEAP
    + _BLOCK
    + "  call void %f(ptr %h, ptr %p)\n  ret void\n}\n",
    "llfree": _TAKE
    + _REQUEST
    + _entry(S_TAKE)
    + _HEAP
    + "  %got = call { i64, i64 } %f(ptr %h, i64 0, i64 0, ptr byval([3 x i64]) align 8 %r)\n"
    "  %frame = extractvalue { i64, i64 } %got, 0\n"
    "  %status = extractvalue { i64, i64 } %got, 1\n  %high = lshr i64 %status, 8\n"
    "  %error = and i64 %high, 255\n  %good = icmp eq i64 %error, 0\n"
    "  %next = add i64 %frame, 1\n  %b = select i1 %good, i64 %next, i64 0\n  ret i64 %b\n}\n"
    + _GIVE
    + _REQUEST
    + _entry(S_GIVE)
    + _HEAP
    + "  %frame = sub i64 %block, 1\n"
    "  call { i64, i64 } %f(ptr %h, i64 %frame, ptr byval([3 x i64]) align 8 %r)\n"
    "  ret void\n}\n",
}


def _counted(name: str, body: str, repeats: str = "%n") -> str:
    """A loop ``%name.k`` from 0 to ``repeats`` around ``body``, which may have blocks."""
    return (
        f"  br label %{name}.enter\n{name}.enter:\n"
        f"  store i64 0, ptr %{name}.i, align 8\n  br label %{name}.head\n{name}.head:\n"
        f"  %{name}.k = load i64, ptr %{name}.i, align 8\n"
        f"  %{name}.more = icmp slt i64 %{name}.k, {repeats}\n"
        f"  br i1 %{name}.more, label %{name}.body, label %{name}.end\n{name}.body:\n{body}"
        f"  %{name}.next = add i64 %{name}.k, 1\n  store i64 %{name}.next, ptr %{name}.i, align 8\n"
        f"  br label %{name}.head\n{name}.end:\n"
    )


def _function(name: str, counters: Sequence[str], body: str) -> str:
    places = "".join(f"  %{one}.i = alloca i64, align 8\n" for one in counters)
    return (
        f"define dso_local i64 @{name}(ptr %s, i64 %n) {{\n{places}"
        f"  %failed = alloca i64, align 8\n  store i64 0, ptr %failed, align 8\n{body}"
        "  %result = load i64, ptr %failed, align 8\n  ret i64 %result\n}\n"
    )


def _noted(block: str) -> str:
    """Count block 0 as a failure."""
    return (
        f"  %lost = icmp eq i64 {block}, 0\n  %one = zext i1 %lost to i64\n"
        "  %old = load i64, ptr %failed, align 8\n  %new = add i64 %old, %one\n"
        "  store i64 %new, ptr %failed, align 8\n"
    )


_SLOTS = (
    _word("size", S_SIZE)
    + _word("count", S_COUNT)
    + _word("slots.word", S_SLOTS)
    + "  %slots = inttoptr i64 %slots.word to ptr\n"
)
_ORDER = _word("order.word", S_ORDER) + "  %order = inttoptr i64 %order.word to ptr\n"
_NEXT = (
    "  %seed.mul = mul i64 %seed.old, 1103515245\n  %seed.sum = add i64 %seed.mul, 12345\n"
    "  %seed = and i64 %seed.sum, 2147483647\n  store i64 %seed, ptr %seed.at, align 8\n"
    "  %seed.middle = lshr i64 %seed, 8\n"
)
_DRAW = (
    "  %seed.at = getelementptr i64, ptr %s, i64 8\n  %seed.old = load i64, ptr %seed.at, align 8\n"
    + _NEXT
    + "  %seed.high = lshr i64 %seed, 16\n  %slot = urem i64 %seed.high, %count\n"
    "  %slot.at = getelementptr i64, ptr %slots, i64 %slot\n"
    "  %held = load i64, ptr %slot.at, align 8\n"
)
_IF_HELD = "  %full = icmp ne i64 %held, 0\n  br i1 %full, label %some, label %none\nsome:\n"


def _pairs() -> str:
    body = "  %b = call i64 @take(ptr %s, i64 %size)\n" + _noted("%b")
    body += "  br i1 %lost, label %none, label %some\nsome:\n"
    body += "  call void @give(ptr %s, i64 %b, i64 %size)\n  br label %none\nnone:\n"
    return _function("pairs", ["pair"], _word("size", S_SIZE) + _counted("pair", body))


def _taken() -> str:
    """Allocate a batch into the slots."""
    body = "  %b = call i64 @take(ptr %s, i64 %size)\n" + _noted("%b")
    body += "  %to = getelementptr i64, ptr %slots, i64 %take.k\n  store i64 %b, ptr %to, align 8\n"
    return _counted("take", body, "%count")


def _given() -> str:
    """Free the batch in the slots, in the state's order."""
    body = "  %which.at = getelementptr i64, ptr %order, i64 %give.k\n"
    body += "  %which = load i64, ptr %which.at, align 8\n"
    body += "  %from = getelementptr i64, ptr %slots, i64 %which\n"
    body += "  %block = load i64, ptr %from, align 8\n"
    body += "  call void @give(ptr %s, i64 %block, i64 %size)\n"
    return _counted("give", body, "%count")


def _batches() -> str:
    counters = ["batch", "take", "give"]
    body = _counted("batch", _taken() + _given())
    return _function("batches", counters, _SLOTS + _ORDER + body)


def _takes() -> str:
    return _function("takes", ["batch", "take"], _SLOTS + _counted("batch", _taken()))


def _gives() -> str:
    return _function("gives", ["batch", "give"], _SLOTS + _ORDER + _counted("batch", _given()))


_RING_WORDS = (
    _SLOTS
    + _word("least", S_LEAST)
    + _word("spins", S_SPINS)
    + _word("yield.word", S_YIELD)
    + "  %yield = inttoptr i64 %yield.word to ptr\n"
    + f"  %head.at = getelementptr i64, ptr %slots, i64 {A_HEAD}\n"
    + f"  %tail.at = getelementptr i64, ptr %slots, i64 {A_TAIL}\n"
    + f"  %ring = getelementptr i64, ptr %slots, i64 {A_RING}\n"
)


def _await(condition: str) -> str:
    """Spin, then yield, until ``condition`` computes a true %ready from %head and %tail."""
    return (
        "  store i64 0, ptr %waited.i, align 8\n  br label %look\nlook:\n"
        "  %head = load atomic i64, ptr %head.at acquire, align 8\n"
        "  %tail = load atomic i64, ptr %tail.at acquire, align 8\n"
        f"{condition}  br i1 %ready, label %go, label %rest\n"
        "rest:\n  %waited = load i64, ptr %waited.i, align 8\n  %looked = add i64 %waited, 1\n"
        "  store i64 %looked, ptr %waited.i, align 8\n"
        "  %long = icmp sgt i64 %looked, %spins\n  br i1 %long, label %away, label %look\n"
        "away:\n  %told = call i32 %yield()\n  br label %look\ngo:\n"
    )


def _entry_of(first: str) -> str:
    return (
        f"  %at = add i64 {first}, %entry.k\n  %index = and i64 %at, {RING - 1}\n"
        "  %place = getelementptr i64, ptr %ring, i64 %index\n"
    )


def _produce() -> str:
    """Random sizes from the least to the size; both are the same for pages."""
    room = "  %after = add i64 %head, %count\n  %used = sub i64 %after, %tail\n"
    room += f"  %ready = icmp sle i64 %used, {RING}\n"
    body = "  %seed.at = getelementptr i64, ptr %s, i64 8\n"
    body += "  %seed.old = load i64, ptr %seed.at, align 8\n" + _NEXT
    body += "  %span = sub i64 %size, %least\n  %range = add i64 %span, 1\n"
    body += "  %more = urem i64 %seed.middle, %range\n  %wanted = add i64 %more, %least\n"
    body += "  %b = call i64 @take(ptr %s, i64 %wanted)\n" + _noted("%b") + _entry_of("%head")
    body += "  store i64 %b, ptr %place, align 8\n"
    batch = _await(room) + _counted("entry", body, "%count")
    batch += "  store atomic i64 %after, ptr %head.at release, align 8\n"
    return _function(
        "produce", ["batch", "entry", "waited"], _RING_WORDS + _counted("batch", batch)
    )


def _consume() -> str:
    enough = "  %there = sub i64 %head, %tail\n  %ready = icmp sge i64 %there, %count\n"
    body = _entry_of("%tail") + "  %block = load i64, ptr %place, align 8\n"
    body += "  call void @give(ptr %s, i64 %block, i64 %size)\n"
    batch = _await(enough) + _counted("entry", body, "%count")
    batch += "  %after = add i64 %tail, %count\n"
    batch += "  store atomic i64 %after, ptr %tail.at release, align 8\n"
    return _function(
        "consume", ["batch", "entry", "waited"], _RING_WORDS + _counted("batch", batch)
    )


def _replace() -> str:
    """Random sizes from 16 to the state's; the size is not needed to free."""
    body = _DRAW + _IF_HELD
    body += "  call void @give(ptr %s, i64 %held, i64 0)\n  br label %none\nnone:\n"
    body += "  %range = sub i64 %size, 15\n  %more = urem i64 %seed.middle, %range\n"
    body += "  %bytes = add i64 %more, 16\n  %b = call i64 @take(ptr %s, i64 %bytes)\n"
    body += _noted("%b") + "  store i64 %b, ptr %slot.at, align 8\n"
    return _function("replace", ["turn"], _SLOTS + _counted("turn", body))


def _mixed() -> str:
    """Random orders from 0 to 9; a slot is ``block << 4 | order``."""
    body = _DRAW + _IF_HELD
    body += "  %before = and i64 %held, 15\n  %block = lshr i64 %held, 4\n"
    body += "  call void @give(ptr %s, i64 %block, i64 %before)\n  br label %none\nnone:\n"
    body += "  %wanted = urem i64 %seed.middle, 10\n  %b = call i64 @take(ptr %s, i64 %wanted)\n"
    body += _noted("%b") + "  %high = shl i64 %b, 4\n  %both = or i64 %high, %wanted\n"
    body += "  %kept = select i1 %lost, i64 0, i64 %both\n"
    body += "  store i64 %kept, ptr %slot.at, align 8\n"
    return _function("mixed", ["turn"], _SLOTS + _counted("turn", body))


def _clear() -> str:
    """Free what the slots of ``replace`` (n = 0) or ``mixed`` (n = 1) hold."""
    body = "  %slot.at = getelementptr i64, ptr %slots, i64 %turn.k\n"
    body += "  %held = load i64, ptr %slot.at, align 8\n  store i64 0, ptr %slot.at, align 8\n"
    body += _IF_HELD
    body += "  %shift = mul i64 %n, 4\n  %block = lshr i64 %held, %shift\n"
    body += "  %low = and i64 %held, 15\n  %order = mul i64 %low, %n\n"
    body += "  call void @give(ptr %s, i64 %block, i64 %order)\n  br label %none\nnone:\n"
    return _function("clear", ["turn"], _SLOTS + _counted("turn", body, "%count"))


# llfree_policy_fn of one class for each request: llfree_simple_policy of its header.
_POLICY_TEXT = """
define dso_local i64 @policy(i8 %requested, i8 %target, i64 %free) {
  %above = icmp ugt i8 %requested, %target
  %below = icmp ult i8 %requested, %target
  %half = icmp uge i64 %free, 2048
  %some = icmp uge i64 %free, 64
  %p0 = select i1 %some, i64 1095216660480, i64 0
  %p1 = select i1 %half, i64 4294967296, i64 %p0
  %p2 = select i1 %below, i64 2, i64 %p1
  %p3 = select i1 %above, i64 1, i64 %p2
  ret i64 %p3
}
"""


def text_of(shape: str) -> str:
    """The IR of all loops for libraries of this shape."""
    loops = (
        _pairs(),
        _batches(),
        _replace(),
        _mixed(),
        _clear(),
        _takes(),
        _gives(),
        _produce(),
        _consume(),
    )
    return SHAPES[shape] + "".join(loops) + (_POLICY_TEXT if shape == "llfree" else "")


def image_of(shape: str) -> bytes:
    """The loops for this shape, compiled: an image that any process can load."""
    return link.link([codegen.object_code(text_of(shape), codegen.host())], f"peers-{shape}")


def load(shape: str, image: bytes) -> dict[str, int]:
    """The addresses of the loops of ``image_of(shape)`` in this process, by name."""
    loaded = load_image(image, f"peers-{shape}")
    names = (*LOOPS, POLICY) if shape == "llfree" else LOOPS
    return {name: loaded.address(name) for name in names}


def function(address: int) -> Callable[[int, int], int]:
    """A loop as Python calls it: (address of its state, n) -> failures."""
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(address)
