"""Reading instructions of aarch64 in a linked image: calls, and addresses made in two halves."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from shmalloc.compiler import elf

PAGE_SHIFT = 12


class Function(NamedTuple):
    """A function of an image: where it lies and its words."""

    name: str
    address: int
    words: tuple[int, ...]


def all_functions(image: bytes) -> list[Function]:
    """By address. What is small has a copy in each module of an image, under one name."""
    text = next(s for s in elf._read_sections(image) if s.name == ".text")
    found = []
    for address, size, name in elf.read_functions(image, "image"):
        at = text.offset + address - text.address
        words = struct.unpack_from(f"<{size // 4}I", image, at)
        found.append(Function(name, address, words))
    return found


def functions(image: bytes) -> dict[str, Function]:
    return {function.name: function for function in all_functions(image)}


def addresses(image: bytes) -> dict[str, int]:
    """Where each symbol lies."""
    return {s.name: s.value for s in elf._read_symbols(image, elf._read_sections(image))}


def _signed(value: int, bits: int) -> int:
    return value - (value >> (bits - 1) << bits)


def calls(function: Function) -> Iterator[int]:
    """Targets of ``bl``, and of ``b`` to places outside the function."""
    end = function.address + 4 * len(function.words)
    for k, word in enumerate(function.words):
        target = function.address + 4 * k + 4 * _signed(word & 0x3FFFFFF, 26)
        if word >> 26 == 0x25 or (word >> 26 == 5 and not function.address <= target < end):
            yield target


def halves(function: Function) -> Iterator[tuple[int, int]]:
    """Addresses made by ``adrp`` and a low half, with the bytes at stake (0: only the address).

    A register counts until anything may have written it: some are missed, none is invented.
    """
    pages: dict[int, int] = {}
    for k, word in enumerate(function.words):
        made, base = word & 31, word >> 5 & 31
        if base in pages and word & 0xFFC00000 == 0x91000000:  # add
            yield pages[base] + (word >> 10 & 0xFFF), 0
        elif base in pages and word & 0xBF000000 == 0xB9000000:  # ldr, str of a general register
            scale = word >> 30
            yield pages[base] + ((word >> 10 & 0xFFF) << scale), 1 << scale
        pages.pop(made, None)
        if word & 0x9F000000 == 0x90000000:  # adrp
            distance = _signed((word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3, 21)
            pages[made] = ((function.address + 4 * k >> PAGE_SHIFT) + distance) << PAGE_SHIFT
