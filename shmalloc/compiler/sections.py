"""The sections of an image, where they lie, and the file that they make.

Lowest address first; a section appears only if it is not empty, except the four of code and data:

    r--  header, programs, .hash .dynsym .dynstr .rela.dyn .shm.functions .rodata .eh_frame
    r-x  .text
    rw-  .dynamic .got .data .bss
    not mapped: .symtab .strtab .shstrtab, .debug_*, and the table of sections

A segment begins at a multiple of the machine's page plus its offset in the file: so the file has
no holes, and the bytes of two segments that share a page of the file are mapped twice. Nothing is
both writable and executable, and the stack is not executable either.

Sizes first, contents later: ``Sections`` is filled (``take``, ``add_text``, ``reserve``), then
``lay_out`` fixes every address, then contents may change but not grow, then ``written``.
Nothing here knows of relocations or of what symbols mean.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from shmalloc.compiler import elf

_R = elf.SHF_ALLOC
_RX = elf.SHF_ALLOC | elf.SHF_EXECINSTR
_RW = elf.SHF_ALLOC | elf.SHF_WRITE
_PERMISSIONS: Final = {_R: elf.PF_R, _RX: elf.PF_R | elf.PF_X, _RW: elf.PF_R | elf.PF_W}
_PROGRAMS: Final = 5

# name, kind, flags, alignment, bytes of an entry, the section whose index is its "link"
_SECTIONS: Final = (
    (".hash", elf.SHT_HASH, _R, 8, 4, ".dynsym"),
    (".dynsym", elf.SHT_DYNSYM, _R, 8, 24, ".dynstr"),
    (".dynstr", elf.SHT_STRTAB, _R, 1, 0, ""),
    (".rela.dyn", elf.SHT_RELA, _R, 8, 24, ".dynsym"),
    (".shm.functions", elf.SHT_PROGBITS, _R, 16, 0, ""),
    (".rodata", elf.SHT_PROGBITS, _R, 16, 0, ""),
    (".eh_frame", elf.SHT_PROGBITS, _R, 8, 0, ""),
    (".text", elf.SHT_PROGBITS, _RX, 64, 0, ""),
    (".dynamic", elf.SHT_DYNAMIC, _RW, 8, 16, ".dynstr"),
    (".got", elf.SHT_PROGBITS, _RW, 8, 8, ""),
    (".data", elf.SHT_PROGBITS, _RW, 16, 0, ""),
    (".bss", elf.SHT_NOBITS, _RW, 16, 0, ""),
    (".symtab", elf.SHT_SYMTAB, 0, 8, 24, ".strtab"),
    (".strtab", elf.SHT_STRTAB, 0, 1, 0, ""),
    (".shstrtab", elf.SHT_STRTAB, 0, 1, 0, ""),
)
_ALWAYS: Final = frozenset((".rodata", ".text", ".data", ".bss"))  # a symbol may mark an empty one


@dataclass
class Output:
    """One section of the image; only that of .bss is larger than its content."""

    name: str
    kind: int
    flags: int
    align: int
    entry: int = 0
    link: str = ""
    info: int = 0
    index: int = 0
    size: int = 0
    address: int = 0
    offset: int = 0
    content: bytearray = field(default_factory=bytearray)

    @property
    def mapped(self) -> bool:
        return bool(self.flags & elf.SHF_ALLOC)

    @property
    def writable(self) -> bool:
        return bool(self.flags & elf.SHF_WRITE)

    def take(self, section: elf.Section, content: memoryview) -> int:
        """Append a section of an object; returns the offset at which it begins."""
        start = round_up(self.size, max(section.align, 1))
        self.align = max(self.align, section.align)
        self.size = start + section.size
        if self.kind != elf.SHT_NOBITS:
            self.content += bytes(start - len(self.content))
            self.content += content
        return start

    def reserve(self, size: int) -> None:
        """Make it ``size`` bytes of zeros, to be filled when addresses are known."""
        self.content, self.size = bytearray(size), size

    def add_text(self, text: str) -> int:
        """Append a name to a section of names; returns its offset."""
        if not self.content:
            self.content += b"\0"
        start = len(self.content)
        self.content += text.encode() + b"\0"
        self.size = len(self.content)
        return start


class Sections:
    """All sections of one image, by name, in the order of the file."""

    def __init__(self) -> None:
        self._all = {row[0]: Output(*row) for row in _SECTIONS}
        self._segments: list[tuple[int, int, int, int, int]] = []

    def __getitem__(self, name: str) -> Output:
        """The section ``name``; one that is not listed above is made, and not mapped."""
        return self._all.setdefault(name, Output(name, elf.SHT_PROGBITS, 0, 1))

    def lay_out(self, page: int) -> None:
        """Drop what is empty, number the rest, give each its offset and its address.

        ``page`` is in bytes. No section may change its size from here on.
        """
        names = self[".shstrtab"]
        names.add_text("")
        kept = [o for o in self._all.values() if o.size or o.name in _ALWAYS]
        for output in kept:
            names.add_text(output.name)
        self._all = {output.name: output for output in kept}
        for index, output in enumerate(kept, 1):
            output.index = index
        at = self._lay_out_mapped(page)
        for output in kept:
            if not output.mapped:
                output.offset = round_up(at, output.align)
                at = output.offset + output.size

    def _lay_out_mapped(self, page: int) -> int:
        """Place the three segments; returns where the file goes on behind them."""
        at = address = elf.HEADER.size + _PROGRAMS * elf.PROGRAM.size
        for flags, permissions in _PERMISSIONS.items():
            if flags == _R:
                start = start_address = 0
            else:
                address = round_up(address, page) + at % page
                start, start_address = at, address
            for output in self._all.values():
                if output.flags == flags:
                    gap = -address % output.align
                    output.offset, output.address = at + gap, address + gap
                    at = output.offset + len(output.content)
                    address = output.address + output.size
            row = permissions, start, start_address, at - start, address - start_address
            self._segments.append(row)
        return at

    def written(self, machine: int, page: int) -> bytes:
        """The file, whole."""
        outputs = list(self._all.values())
        table = round_up(max(o.offset + len(o.content) for o in outputs), 8)
        image = bytearray(table + elf.SECTION.size * (len(outputs) + 1))
        elf.HEADER.pack_into(
            image, 0, elf.MAGIC, elf.ET_DYN, machine, 1, 0, elf.HEADER.size, table, 0,
            elf.HEADER.size, elf.PROGRAM.size, _PROGRAMS, elf.SECTION.size, len(outputs) + 1,
            self[".shstrtab"].index,
        )  # fmt: skip
        for k, program in enumerate(self._programs(page)):
            elf.PROGRAM.pack_into(image, elf.HEADER.size + k * elf.PROGRAM.size, *program)
        names = bytes(self[".shstrtab"].content)
        for output in outputs:
            image[output.offset : output.offset + len(output.content)] = output.content
            elf.SECTION.pack_into(
                image,
                table + elf.SECTION.size * output.index,
                names.index(b"\0" + output.name.encode() + b"\0") + 1,
                output.kind,
                output.flags,
                output.address,
                output.offset,
                output.size,
                self[output.link].index if output.link else 0,
                output.info,
                output.align,
                output.entry,
            )
        return bytes(image)

    def _programs(self, page: int) -> Iterable[tuple[int, ...]]:
        """What dlopen reads: segments (one that is empty would be refused), .dynamic, the stack."""
        for permissions, at, address, filled, size in self._segments:
            if size:
                yield elf.PT_LOAD, permissions, at, address, address, filled, size, page
        dynamic = self[".dynamic"]
        at, address, size = dynamic.offset, dynamic.address, dynamic.size
        yield elf.PT_DYNAMIC, elf.PF_R | elf.PF_W, at, address, address, size, size, 8
        yield elf.PT_GNU_STACK, elf.PF_R | elf.PF_W, 0, 0, 0, 0, 0, 16


def round_up(value: int, unit: int) -> int:
    """The first multiple of ``unit`` that is not below ``value``."""
    return -(-value // unit) * unit


def hash_size(count: int) -> int:
    """Bytes of the hash table over ``count`` names."""
    return 4 * (2 + max(1, count) + count + 1)


def hash_table(names: Sequence[str]) -> bytes:
    """The table by which dlsym finds ``names``, whose symbols are numbered from 1 (DT_HASH)."""
    heads, chains = [0] * max(1, len(names)), [0] * (len(names) + 1)
    for number, name in enumerate(names, 1):
        value = 0
        for byte in name.encode():
            value = (value << 4) + byte
            value = (value ^ (value & 0xF0000000) >> 24) & 0x0FFFFFFF
        bucket = value % len(heads)
        chains[number], heads[bucket] = heads[bucket], number
    words = (len(heads), len(chains), *heads, *chains)
    return struct.pack(f"<{len(words)}I", *words)
