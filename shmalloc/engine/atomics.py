"""The bare instructions: one LLVM intrinsic for every word, over an address and a length.

Every memory type is compiled to a struct that starts with the same three fields::

    base   address of word 0        words  how many words        side  address of the side words

Each access is bounds-checked, always: an index outside of the segment (or an odd one for a pair)
is counted in the side words and the access goes to the guard pair there, so that neither Python
nor the segment is harmed; the engine raises after the call. The check costs 0.15 ns (predicted
branch). Side words, private to the process::

    0 faults seen   1 last index   2,3 guard pair   4,5 timespec of one futex sleep

No kernel calls these directly: lowering.py maps words to them.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

I64 = ir.IntType(64)
I128 = ir.IntType(128)
SIDE_WORDS = 6
SIDE_GUARD = 2
SIDE_TICKS = 6  # behind the guard pair and the futex's time limit


class MemoryType(types.Type):
    """Base of all compiled memory types; ``implementations`` maps a word's name to its lowering."""

    fields: tuple[str, ...] = ("base", "words", "side")
    implementations: dict[str, Callable]


def register_memory_model(memory_type: type[MemoryType]) -> None:
    """Tell numba that ``memory_type`` is a struct of addresses."""

    class Model(models.StructModel):
        def __init__(self, manager: object, fe_type: object) -> None:
            super().__init__(manager, fe_type, [(f, types.intp) for f in memory_type.fields])

    register_model(memory_type)(Model)


def field(context, builder, memory_type, value, name):
    """The struct field ``name`` of a memory value, as an i64."""
    return getattr(cgutils.create_struct_proxy(memory_type)(context, builder, value), name)


def checked_address(context, builder, memory_type, memory, index, pair=False):
    """Address of word ``index`` as i64, or of the guard pair after counting a fault."""
    get = lambda name: field(context, builder, memory_type, memory, name)  # noqa: E731
    outside = builder.icmp_unsigned(">=", index, get("words"))
    if pair:
        odd = builder.trunc(index, ir.IntType(1))
        outside = builder.or_(outside, odd)
    inside_address = builder.add(get("base"), builder.shl(index, I64(3)))
    entry = builder.block
    with builder.if_then(outside, likely=False):
        side = builder.inttoptr(get("side"), I64.as_pointer())
        count = builder.load(side)
        builder.store(builder.add(count, I64(1)), side)
        builder.store(index, builder.gep(side, [I64(1)]))
        guard_address = builder.add(get("side"), I64(SIDE_GUARD * 8))
        fault = builder.block
    address = builder.phi(I64)
    address.add_incoming(inside_address, entry)
    address.add_incoming(guard_address, fault)
    return address


def _access(result, *operands, pair=False):
    """Make an intrinsic ``(mem, i, *operands) -> result`` from an emitter of one instruction.

    The emitter gets ``(builder, address, *operand values)`` and returns the result value or None.
    """

    def decorate(emit):
        def build(memory_type):
            def codegen(context, builder, signature, args):
                address = checked_address(
                    context, builder, signature.args[0], args[0], args[1], pair
                )
                value = emit(builder, address, *args[2:])
                return context.get_dummy_value() if value is None else value

            return result(memory_type, types.int64, *operands), codegen

        if len(operands) == 0:
            return intrinsic(lambda typingctx, mem, i: build(mem))
        if len(operands) == 1:
            return intrinsic(lambda typingctx, mem, i, value: build(mem))
        if len(operands) == 2:
            return intrinsic(lambda typingctx, mem, i, old, new: build(mem))
        return intrinsic(lambda typingctx, mem, i, old0, old1, new0, new1: build(mem))

    return decorate


def _word(builder, address):
    return builder.inttoptr(address, I64.as_pointer())


@_access(types.int64)
def raw_read(builder, address):
    return builder.load(_word(builder, address))


@_access(types.int64)
def raw_fixed(builder, address):
    """A load that LLVM may keep in a register: the word never changes while a kernel runs."""
    value = builder.load(_word(builder, address))
    value.set_metadata("invariant.load", builder.module.add_metadata([]))
    return value


@_access(types.int64)
def raw_load(builder, address):
    return builder.load_atomic(_word(builder, address), "acquire", 8)


@_access(types.int64)
def raw_load_relaxed(builder, address):
    return builder.load_atomic(_word(builder, address), "monotonic", 8)


@_access(types.void, types.int64)
def raw_write(builder, address, value):
    builder.store(value, _word(builder, address))


@_access(types.void, types.int64)
def raw_store(builder, address, value):
    builder.store_atomic(value, _word(builder, address), "release", 8)


@_access(types.void, types.int64)
def raw_store_relaxed(builder, address, value):
    builder.store_atomic(value, _word(builder, address), "monotonic", 8)


def _read_modify_write(operation):
    @_access(types.int64, types.int64)
    def raw(builder, address, value):
        return builder.atomic_rmw(operation, _word(builder, address), value, "acq_rel")

    return raw


raw_exchange = _read_modify_write("xchg")
raw_fetch_add = _read_modify_write("add")
raw_fetch_or = _read_modify_write("or")
raw_fetch_and = _read_modify_write("and")


@_access(types.boolean, types.int64, types.int64)
def raw_cas(builder, address, old, new):
    outcome = builder.cmpxchg(_word(builder, address), old, new, "acq_rel", "acquire")
    return builder.extract_value(outcome, 1)


def _join(builder, low, high):
    return builder.or_(builder.zext(low, I128), builder.shl(builder.zext(high, I128), I128(64)))


@_access(types.boolean, types.int64, types.int64, types.int64, types.int64, pair=True)
def raw_cas2(builder, address, old0, old1, new0, new1):
    pointer = builder.inttoptr(address, I128.as_pointer())
    old, new = _join(builder, old0, old1), _join(builder, new0, new1)
    outcome = builder.cmpxchg(pointer, old, new, "acq_rel", "acquire")
    return builder.extract_value(outcome, 1)


@_access(types.UniTuple(types.int64, 2), pair=True)
def raw_load2(builder, address):
    """One 16-byte atomic read: a plain vector load where AVX guarantees it, else cmpxchg16b."""
    pointer = builder.inttoptr(address, I128.as_pointer())
    both = builder.load_atomic(pointer, "acquire", 16)
    low = builder.trunc(both, I64)
    high = builder.trunc(builder.lshr(both, I128(64)), I64)
    return cgutils.pack_array(builder, [low, high])


@_access(types.void)
def raw_mark(builder, address):
    """Not an atomic add on purpose: 0.5 ns instead of 3, and a lost count harms nobody."""
    pointer = _word(builder, address)
    count = builder.load_atomic(pointer, "monotonic", 8)
    builder.store_atomic(builder.add(count, I64(1)), pointer, "monotonic", 8)


@_access(types.int64)
def raw_address(builder, address):
    return address


@intrinsic
def raw_fence(typingctx, mem):
    def codegen(context, builder, signature, args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(mem), codegen


@intrinsic
def raw_pause(typingctx, mem):
    def codegen(context, builder, signature, args):
        x86 = "x86" in builder.module.triple or "i386" in builder.module.triple
        name, operands = ("llvm.x86.sse2.pause", []) if x86 else ("llvm.aarch64.hint", [32])
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(32)] * len(operands))
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        builder.call(function, [ir.IntType(32)(1) for _ in operands])
        return context.get_dummy_value()

    return types.void(mem), codegen


@intrinsic
def raw_cycles(typingctx, mem):
    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(I64, [])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.readcyclecounter")
        return builder.and_(builder.call(function, []), I64((1 << 62) - 1))

    return types.int64(mem), codegen


@intrinsic
def raw_tick(typingctx, mem):
    """One more in the side word of ticks; what it holds then."""

    def codegen(context, builder, signature, args):
        side = field(context, builder, signature.args[0], args[0], "side")
        word = builder.gep(builder.inttoptr(side, I64.as_pointer()), [I64(SIDE_TICKS)])
        count = builder.add(builder.load(word), I64(1))
        builder.store(count, word)
        return count

    return types.int64(mem), codegen


@intrinsic
def raw_side(typingctx, mem):
    """Address of the process-private side words."""

    def codegen(context, builder, signature, args):
        return field(context, builder, signature.args[0], args[0], "side")

    return types.int64(mem), codegen
