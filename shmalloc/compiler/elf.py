"""ELF files: the shapes of their records, and a reader that trusts none.

Only what LLVM writes for the two machines of this package is known here: 64 bits, little endian,
relocations with addends. A relocatable object, and likewise a linked image, is laid out so:

    header   64 bytes: magic, type, machine, where the two tables are
    programs 56 bytes each: what dlopen maps (images only)
    contents of the sections, in any order
    sections 64 bytes each: name, kind, flags, address, offset, size, link, info, align, entry size

A symbol table is a section of 24-byte records; its ``link`` is the section of its names. A table
of relocations is a section of 24-byte records; its ``info`` is the section that it changes.

Code that reads bytes from elsewhere calls ``read_object`` or ``read_functions``: both raise
``LinkError`` for anything damaged, and nothing else. Sections named here lie within the file;
symbols and relocations are not checked further, because only the linker knows their meaning.
Nothing here writes files or touches memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from shmalloc.errors import EngineError

HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
PROGRAM: Final = struct.Struct("<IIQQQQQQ")
SECTION: Final = struct.Struct("<IIQQQQIIQQ")
SYMBOL: Final = struct.Struct("<IBBHQQ")
RELA: Final = struct.Struct("<QQq")

MAGIC: Final = b"\x7fELF\x02\x01\x01"  # 64 bits, little endian, version 1
ET_REL, ET_DYN = 1, 3
EM_X86_64, EM_AARCH64 = 62, 183
MACHINES: Final = {EM_X86_64: "x86-64", EM_AARCH64: "aarch64"}

SHT_NULL, SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_HASH = 0, 1, 2, 3, 4, 5
SHT_DYNAMIC, SHT_NOTE, SHT_NOBITS, SHT_DYNSYM = 6, 7, 8, 11
SHT_X86_64_UNWIND = 0x70000001  # what LLVM calls .eh_frame on x86-64
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_TLS, SHF_COMPRESSED = 1, 2, 4, 0x400, 0x800
SHN_UNDEF, SHN_FIRST_SPECIAL = 0, 0xFF00

PT_LOAD, PT_DYNAMIC, PT_GNU_STACK = 1, 2, 0x6474E551
PF_X, PF_W, PF_R = 1, 2, 4

STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_SECTION, STT_FILE, STT_TLS = 0, 1, 2, 3, 4, 6
STV_DEFAULT, STV_INTERNAL, STV_HIDDEN, STV_PROTECTED = 0, 1, 2, 3

_T = TypeVar("_T")


class LinkError(EngineError):
    """Object files that cannot become an image: damaged, of another machine, or incomplete."""


class Section(NamedTuple):
    """One row of the table of sections; offset and size are bytes of the file."""

    name: str
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int


class Symbol(NamedTuple):
    """One row of a table of symbols; ``value`` is an offset in its section (objects) or an address
    (images), ``size`` is in bytes."""

    name: str
    binding: int
    kind: int
    visibility: int
    section: int
    value: int
    size: int


@dataclass(frozen=True)
class ObjectFile:
    """A relocatable object, read: ``label`` names it in messages."""

    label: str
    data: bytes
    machine: int
    sections: list[Section]
    symbols: list[Symbol]

    def content(self, section: Section) -> memoryview:
        """The bytes of ``section`` in the file; none for one that holds only zeros (.bss)."""
        size = 0 if section.kind == SHT_NOBITS else section.size
        return memoryview(self.data)[section.offset : section.offset + size]


def read_object(data: bytes, label: str) -> ObjectFile:
    """The tables of a relocatable object.

    Raises LinkError, which names ``label``, for a file that is damaged, cut short, not ELF64, no
    relocatable object, or of a machine that is neither x86-64 nor aarch64.
    """
    return _refusing_damage(lambda: _read_object(data, label), label)


def read_functions(data: bytes, label: str) -> list[tuple[int, int, str]]:
    """(address, bytes, name) of each function of an image, sorted; LinkError for a damaged one."""

    def read() -> list[tuple[int, int, str]]:
        symbols = _read_symbols(data, _read_sections(data))
        return sorted((s.value, s.size, s.name) for s in symbols if s.kind == STT_FUNC)

    return _refusing_damage(read, label)


def mapped_bytes(data: bytes, label: str) -> int:
    """The size in bytes of an image's address range; LinkError for a damaged one."""

    def read() -> int:
        header = HEADER.unpack_from(data)
        if not data.startswith(MAGIC) or header[1] != ET_DYN:
            raise ValueError("it is no ELF64 shared object")
        rows = (PROGRAM.unpack_from(data, header[5] + k * PROGRAM.size) for k in range(header[10]))
        return max(int(row[3] + row[6]) for row in rows if row[0] == PT_LOAD)

    return _refusing_damage(read, label)


def _refusing_damage(read: Callable[[], _T], label: str) -> _T:
    try:
        return read()
    except (struct.error, ValueError, IndexError) as error:
        raise LinkError(f"{label}: damaged file: {error}") from None


def _read_object(data: bytes, label: str) -> ObjectFile:
    if not data.startswith(MAGIC):
        raise ValueError("it is no ELF64 little endian file")
    kind, machine = HEADER.unpack_from(data)[1:3]
    if kind != ET_REL:
        raise ValueError(f"ELF type {kind} is no relocatable object")
    if machine not in MACHINES:
        raise LinkError(f"{label}: machine {machine} is neither x86-64 nor aarch64")
    sections = _read_sections(data)
    symbols = _read_symbols(data, sections)
    if any(len(sections) <= s.section < SHN_FIRST_SPECIAL for s in symbols):
        raise ValueError("a symbol lies in no section of it")
    return ObjectFile(label, data, machine, sections, symbols)


def _read_sections(data: bytes) -> list[Section]:
    header = HEADER.unpack_from(data)
    table, size, count, names_index = header[6], header[11], header[12], header[13]
    if size != SECTION.size or table + size * count > len(data):
        raise ValueError("its table of sections does not lie within the file")
    rows = list(SECTION.iter_unpack(data[table : table + size * count]))
    for row in rows:
        if row[1] not in (SHT_NULL, SHT_NOBITS) and row[4] + row[5] > len(data):
            raise ValueError("a section does not lie within the file")
    names = data[rows[names_index][4] :]
    return [Section(_text(names, row[0]), *row[1:9]) for row in rows]


def _read_symbols(data: bytes, sections: list[Section]) -> list[Symbol]:
    """The symbols of the first full table, in its order; none if the file has no such table."""
    table = next((s for s in sections if s.kind == SHT_SYMTAB), None)
    if table is None:
        return []
    strings = sections[table.link]
    names = data[strings.offset : strings.offset + strings.size]
    rows = SYMBOL.iter_unpack(data[table.offset : table.offset + table.size])
    return [
        Symbol(_text(names, name), info >> 4, info & 15, other & 3, section, value, size)
        for name, info, other, section, value, size in rows
    ]


def _text(names: bytes, at: int) -> str:
    return names[at : names.index(0, at)].decode()
