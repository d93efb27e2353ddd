"""Relocations: how an instruction or a word of data gets the address that it refers to.

A *kind* is the number that the ELF supplement of a machine gives to one way of writing an
address. Each kind is a function ``apply(content, at, place, target)``:

    content  the bytes of the output section, changed in place
    at       offset in ``content`` of what is changed
    place    the address that ``at`` has when the image is loaded at 0
    target   the address referred to, addend included, when the image is loaded at 0

A target that the field cannot hold raises OverflowError or struct.error; the linker turns both
into a LinkError that names the symbol.

``BY_MACHINE`` lists the kinds that LLVM emits for position independent code of the small code
model. ``Rules.through_table`` are kinds that want not the target but the word of the table of
addresses (GOT) which holds it. ``Rules.absolute`` is the one kind that dlopen must repeat when it
knows the base. Thread-local data and kinds of other code models are not known.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from shmalloc.compiler.elf import EM_AARCH64, EM_X86_64

Apply = Callable[[bytearray, int, int, int], None]

_INT32, _UINT32, _INT64 = struct.Struct("<i"), struct.Struct("<I"), struct.Struct("<q")
_LOW12 = 0xFFF

PC32: Final = 2
REX_GOTPCRELX: Final = 42


@dataclass(frozen=True)
class Rules:
    """What the linker must know of one machine; ``page`` is the alignment of segments in bytes."""

    page: int
    kinds: dict[int, Apply]
    through_table: frozenset[int]
    absolute: int
    narrow: int  # an absolute address in 32 bits, which only DWARF may hold
    relative: int  # the dynamic relocation "base of the image + addend"


def _relative32(content: bytearray, at: int, place: int, target: int) -> None:
    _INT32.pack_into(content, at, target - place)


def _relative64(content: bytearray, at: int, place: int, target: int) -> None:
    _INT64.pack_into(content, at, target - place)


def _absolute32(content: bytearray, at: int, place: int, target: int) -> None:
    _UINT32.pack_into(content, at, target)


def _absolute64(content: bytearray, at: int, place: int, target: int) -> None:
    _INT64.pack_into(content, at, target)


def _set_bits(content: bytearray, at: int, mask: int, bits: int) -> None:
    (word,) = _UINT32.unpack_from(content, at)
    _UINT32.pack_into(content, at, word & ~mask | bits)


def _page_distance(content: bytearray, at: int, place: int, target: int) -> None:
    """adrp: the signed distance in pages of 4 KiB, 21 bits, its two low bits kept apart."""
    pages = (target >> 12) - (place >> 12)
    if not -(1 << 20) <= pages < 1 << 20:
        raise OverflowError
    _set_bits(content, at, 0x60FFFFE0, (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5)


def _branch26(content: bytearray, at: int, place: int, target: int) -> None:
    """b and bl: the signed distance in instructions, 26 bits."""
    distance = target - place
    if distance & 3 or not -(1 << 27) <= distance < 1 << 27:
        raise OverflowError
    _set_bits(content, at, 0x03FFFFFF, distance >> 2 & 0x03FFFFFF)


def _low12(scale: int) -> Apply:
    """The low 12 bits of an address in units of ``1 << scale`` bytes: add, ldr and str."""

    def apply(content: bytearray, at: int, place: int, target: int) -> None:
        low = target & _LOW12
        if low & ((1 << scale) - 1):
            raise OverflowError
        _set_bits(content, at, _LOW12 << 10, low >> scale << 10)

    return apply


def shorten_load(content: bytearray, at: int) -> bool:
    """Make ``mov name@GOTPCREL(%rip), reg`` a ``lea name(%rip), reg``; False if it is no mov.

    Every name of an image lies within reach of its code, so the table of addresses saves nothing.
    """
    if at < 2 or content[at - 2] != 0x8B:
        return False
    content[at - 2] = 0x8D
    return True


_X86_64 = Rules(
    page=4096,
    kinds={
        1: _absolute64,
        PC32: _relative32,
        4: _relative32,  # PLT32
        9: _relative32,  # GOTPCREL
        10: _absolute32,
        24: _relative64,  # PC64
        41: _relative32,  # GOTPCRELX
        REX_GOTPCRELX: _relative32,
    },
    through_table=frozenset((9, 41, REX_GOTPCRELX)),
    absolute=1,
    narrow=10,
    relative=8,
)

_AARCH64 = Rules(
    page=1 << 16,  # kernels of 64 KiB pages map nothing finer
    kinds={
        257: _absolute64,
        258: _absolute32,
        260: _relative64,
        261: _relative32,
        275: _page_distance,  # ADR_PREL_PG_HI21
        277: _low12(0),  # ADD_ABS_LO12_NC
        278: _low12(0),  # LDST8_ABS_LO12_NC
        284: _low12(1),
        285: _low12(2),
        286: _low12(3),
        299: _low12(4),  # LDST128_ABS_LO12_NC
        282: _branch26,  # JUMP26
        283: _branch26,  # CALL26
        311: _page_distance,  # ADR_GOT_PAGE
        312: _low12(3),  # LD64_GOT_LO12_NC
    },
    through_table=frozenset((311, 312)),
    absolute=257,
    narrow=258,
    relative=1027,
)

BY_MACHINE: Final = {EM_X86_64: _X86_64, EM_AARCH64: _AARCH64}
