"""The aarch64 instructions of our own assembly, as machine words.

LLVM in the wheels of llvmlite has an assembler for its own machine only. To make the same aarch64
code on any machine, four short functions (``rt.enter``, ``rt.back``, ``fiber.swap``,
``fiber.trampoline``) are assembled here: ``assembled`` knows exactly the forms of instruction that
they use, in the spelling of any assembler.

Names and numbers are those of the Arm Architecture Reference Manual, C6. A field's place is given
by its lowest bit: Rd, Rt at 0, Rn at 5, Rt2 at 10, imm7 at 15, Rm at 16, imm12 at 10.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from shmalloc.errors import EngineError

_SP: Final = 31


def _pair(opcode: int) -> Callable[..., int]:
    """stp, ldp with a signed offset from sp, in units of 8 bytes."""

    def encode(first: int, second: int, offset: int) -> int:
        return opcode | _fits(offset, 8, 64) << 15 | second << 10 | _SP << 5 | first

    return encode


_FORMS: Final[tuple[tuple[str, Callable[..., int]], ...]] = (
    ("stp xN, xN, [sp, #N]", _pair(0xA9000000)),
    ("ldp xN, xN, [sp, #N]", _pair(0xA9400000)),
    ("stp dN, dN, [sp, #N]", _pair(0x6D000000)),
    ("ldp dN, dN, [sp, #N]", _pair(0x6D400000)),
    ("str xN, [xN]", lambda t, n: 0xF9000000 | n << 5 | t),
    ("ldr xN, [xN]", lambda t, n: 0xF9400000 | n << 5 | t),
    ("add sp, sp, #N", lambda size: 0x910003FF | _fits(size, 1, 4096) << 10),
    ("sub sp, sp, #N", lambda size: 0xD10003FF | _fits(size, 1, 4096) << 10),
    ("mov xN, sp", lambda d: 0x910003E0 | d),  # add xN, sp, #0
    ("mov sp, xN", lambda n: 0x9100001F | n << 5),
    ("mov xN, xN", lambda d, m: 0xAA0003E0 | m << 16 | d),  # orr xN, xzr, xN
    ("mov xN, #N", lambda d, value: 0xD2800000 | _fits(value, 1, 65536) << 5 | d),  # movz
    ("blr xN", lambda n: 0xD63F0000 | n << 5),
    ("ret", lambda: 0xD65F03C0),
    ("brk #N", lambda number: 0xD4200000 | _fits(number, 1, 65536) << 5),
)


def _pattern(form: str) -> re.Pattern[str]:
    """What ``form`` matches: N is the number of a register, or of an immediate after "#"."""
    text = re.escape(form).replace("\\#N", r"\#(\d+)")
    return re.compile(re.sub("(?<=[xd])N", r"([12]?\\d|30)", text))


_ENCODERS: Final = [(_pattern(form), encode) for form, encode in _FORMS]


def _fits(value: int, unit: int, end: int) -> int:
    """``value`` in units, if it is a multiple of them below ``end``."""
    if value % unit or value // unit >= end:
        raise EngineError(f"aarch64: no instruction can hold {value}")
    return value // unit


def word_of(line: str) -> int:
    """The machine word of one instruction. Raises ``EngineError`` for a form that is not listed."""
    for pattern, encode in _ENCODERS:
        found = pattern.fullmatch(line)
        if found:
            return encode(*map(int, found.groups()))
    raise EngineError(f"aarch64: {line!r} is in no form that arm.py knows")


def assembled(text: str) -> list[int]:
    """The machine words of assembly text, one instruction a line."""
    return [word_of(line) for line in text.strip().splitlines()]
