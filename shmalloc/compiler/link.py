"""The linker: object files of LLVM become one shared object that dlopen takes, without ld or cc.

Sections of one sort are concatenated, as ``sections`` draws it; names are resolved among all
objects; each relocation is applied as ``relocate`` says:

    object 1  .text .rodata .bss ...  --+      .text    = .text of 1, .text of 2, ...
    object 2  .text .data ...         --+-->   .rodata  = .rodata* of 1, of 2, ...
                                               .data    = whatever is writable, .bss = its zeros
                                               .debug_* = the same, never mapped

Nothing from outside the image is ever linked in: what code needs of the process comes through a
table of pointers that ``load.Loaded.fill`` fills. dlsym finds global names of default visibility.
gdb, perf and nm find every function, local ones too, in .symtab, source lines in .debug_line, and
callers by .eh_frame or .debug_frame where an object has one. An object that refers to
``symbols.FUNCTIONS`` gets the table of all functions that is drawn there.

Callers compile with reloc=pic and codemodel=small. References of one object to another's data cost
a load less if the data is declared hidden or dso_local. Not linked: thread-local data,
constructors, common and absolute symbols, compressed sections, undefined weak symbols.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from shmalloc.compiler import elf, relocate, symbols
from shmalloc.compiler.elf import LinkError, ObjectFile, Section, Symbol, read_object
from shmalloc.compiler.sections import Output, Sections, hash_size, hash_table

__all__ = ["LinkError", "link"]

_KIND: Final = 0xFFFFFFFF  # of a relocation's info; above it the number of the symbol
_MOST_BYTES: Final = 1 << 30  # of a section: all of an image stays within reach of 32 bits
_FUNCTIONS_KEY: Final = (-1, 0)
# Numbers of the entries of .dynamic.
_HASH, _STRTAB, _SYMTAB, _RELA, _RELASZ, _RELAENT, _STRSZ, _SYMENT = 4, 5, 6, 7, 8, 9, 10, 11
_SONAME, _RELACOUNT, _FLAGS_1, _NODELETE = 14, 0x6FFFFFF9, 0x6FFFFFFB, 8
_DYNAMIC_ENTRIES: Final = 12

_Key = tuple[int, int]  # a definition: number of the object, number of the symbol in it


def link(objects: Sequence[bytes], soname: str) -> bytes:
    """One shared object made of ``objects`` (ELF64 relocatable, all x86-64 or all aarch64).

    Raises LinkError for an object that is damaged or of another machine than the first, for a
    name that is defined twice or nowhere, and for a relocation that is unknown or out of reach.
    """
    if not objects:
        raise LinkError(f"{soname}: there is no object to link")
    files = [read_object(data, f"object {k} of {soname}") for k, data in enumerate(objects, 1)]
    for file in files:
        if file.machine != files[0].machine:
            first, own = elf.MACHINES[files[0].machine], elf.MACHINES[file.machine]
            raise LinkError(f"{file.label} is for {own}, object 1 for {first}")
    return _Image(files, soname).build()


class _Home(NamedTuple):
    """Where a section of an object went."""

    output: Output
    start: int


class _Piece(NamedTuple):
    """The relocations of one section of an object."""

    number: int  # of the object
    home: _Home
    section: Section
    rows: list[tuple[int, int, int]]  # offset, symbol << 32 | kind, addend


class _Listed(NamedTuple):
    """A symbol of the image."""

    symbol: Symbol
    key: _Key
    local: bool


class _Image:
    """One link: ``build`` runs the steps in their only order, each leaves its result here."""

    def __init__(self, files: list[ObjectFile], soname: str) -> None:
        self.files, self.soname = files, soname
        self.rules = relocate.BY_MACHINE[files[0].machine]
        self.sections = Sections()
        self.homes: list[list[_Home | None]] = []
        self.defined: dict[str, _Key] = {}
        self.keys: list[list[_Key | None]] = []  # of each symbol of each object
        self.slots: dict[_Key, int] = {}  # of the table of addresses, .got
        self.repeats = 0  # relocations that dlopen repeats, without those of .got
        self.listed: list[_Listed] = []  # local ones first
        self.names: list[int] = []  # in .strtab, of listed
        self.exported: list[_Listed] = []
        self.exported_names: list[int] = []  # in .dynstr

    def build(self) -> bytes:
        self.homes = [[self._gather(f, s) for s in f.sections] for f in self.files]
        self._define()
        self.keys = [self._keys_of(number) for number in range(len(self.files))]
        pieces = list(self._read_relocations())
        for piece in pieces:
            self._prepare(piece)
        self._list_symbols()
        self._reserve()
        self.sections.lay_out(self.rules.page)
        repeated = [pair for piece in pieces for pair in self._relocate(piece)]
        self._fill(repeated)
        return self.sections.written(self.files[0].machine, self.rules.page)

    # --- sections and names ---------------------------------------------------------------------

    def _gather(self, file: ObjectFile, section: Section) -> _Home | None:
        """Append ``section`` to its section of the image, or leave it out."""
        name = _output_name(section, file.label)
        if name is None:
            return None
        if section.align & (section.align - 1) or section.align > self.rules.page:
            raise LinkError(f"{file.label}: {section.name} is aligned to {section.align} bytes")
        output = self.sections[name]
        if output.size + section.size > _MOST_BYTES:
            raise LinkError(f"{file.label}: {section.name} makes {name} larger than 1 GiB")
        return _Home(output, output.take(section, file.content(section)))

    def _define(self) -> None:
        """Find the definition of each global name: the strong one, else the first weak one."""
        twice = set()
        for number, file in enumerate(self.files):
            for index, symbol in enumerate(file.symbols):
                if symbol.binding == elf.STB_LOCAL or symbol.section == elf.SHN_UNDEF:
                    continue
                if symbol.section >= elf.SHN_FIRST_SPECIAL or symbol.kind == elf.STT_TLS:
                    what = "is common, absolute or thread-local"
                    raise LinkError(f"{file.label}: {symbol.name} {what}")
                known = self.defined.setdefault(symbol.name, (number, index))
                if known != (number, index) and symbol.binding != elf.STB_WEAK:
                    if self._symbol(known).binding != elf.STB_WEAK:
                        twice.add(symbol.name)
                    self.defined[symbol.name] = (number, index)
        if twice:
            raise LinkError(f"{self.soname}: defined twice: {_some(twice)}")
        missing = {s.name for file in self.files for s in file.symbols if _is_wanted(s)}
        missing -= self.defined.keys() | {symbols.FUNCTIONS}
        if missing:
            raise LinkError(f"{self.soname}: defined nowhere: {_some(missing)}")

    def _keys_of(self, number: int) -> list[_Key | None]:
        """The definition that each symbol of an object stands for; None for one left out."""
        keys: list[_Key | None] = []
        for index, symbol in enumerate(self.files[number].symbols):
            key: _Key | None = (number, index)
            if symbol.binding != elf.STB_LOCAL or symbol.section == elf.SHN_UNDEF:
                key = self.defined.get(symbol.name)
                if key is None and symbol.name == symbols.FUNCTIONS:
                    key = _FUNCTIONS_KEY
            keys.append(key if key == _FUNCTIONS_KEY or (key and self._home(key)) else None)
        return keys

    def _symbol(self, key: _Key) -> Symbol:
        return self.files[key[0]].symbols[key[1]]

    def _home(self, key: _Key) -> _Home | None:
        section = self._symbol(key).section
        return None if section >= elf.SHN_FIRST_SPECIAL else self.homes[key[0]][section]

    def _address(self, key: _Key | None) -> int:
        """Where a definition lies when the image is loaded at 0; 0 for none, which nothing uses."""
        if key is None:
            return 0
        if key == _FUNCTIONS_KEY:
            return self.sections[symbols.SECTION].address
        home = self._home(key)
        return home.output.address + home.start + self._symbol(key).value if home else 0

    # --- relocations ----------------------------------------------------------------------------

    def _read_relocations(self) -> Iterator[_Piece]:
        for number, file in enumerate(self.files):
            for section in file.sections:
                if section.kind != elf.SHT_RELA:
                    continue
                if section.info >= len(file.sections) or section.size % elf.RELA.size:
                    raise LinkError(f"{file.label}: damaged file: table {section.name}")
                home = self.homes[number][section.info]
                if home is not None:
                    rows = list(elf.RELA.iter_unpack(file.content(section)))
                    yield _Piece(number, home, file.sections[section.info], rows)

    def _prepare(self, piece: _Piece) -> None:
        """Check each relocation of ``piece``; count what it needs of .got and .rela.dyn."""
        rules, keys, output = self.rules, self.keys[piece.number], piece.home.output
        last = piece.section.size - 4 if output.content else -1
        for row, (offset, info, addend) in enumerate(piece.rows):
            kind, symbol = info & _KIND, info >> 32
            if offset > last or symbol >= len(keys):
                raise self._error(piece, row, "lies outside")
            if kind not in rules.kinds or (kind == rules.narrow and output.mapped):
                raise self._error(piece, row, "not linked; compile with reloc=pic, codemodel=small")
            key = keys[symbol]
            if key is None:
                raise self._error(piece, row, "names what is not in the image")
            if kind in rules.through_table:
                at = piece.home.start + offset
                if kind == relocate.REX_GOTPCRELX and relocate.shorten_load(output.content, at):
                    piece.rows[row] = (offset, symbol << 32 | relocate.PC32, addend)
                else:
                    self.slots.setdefault(key, len(self.slots))
            elif kind == rules.absolute and output.mapped:
                if not output.writable:
                    raise self._error(piece, row, "an address in memory that is not writable")
                self.repeats += 1

    def _relocate(self, piece: _Piece) -> Iterator[tuple[int, int]]:
        """Apply the relocations; yields (address, target) of each that dlopen must repeat."""
        rules, kinds, keys = self.rules, self.rules.kinds, self.keys[piece.number]
        addresses = [self._address(key) for key in keys]
        output, start = piece.home
        content, base = output.content, output.address
        absolute = rules.absolute if output.mapped else None
        for row, (offset, info, addend) in enumerate(piece.rows):
            kind, at = info & _KIND, start + offset
            if kind in rules.through_table:
                target = self._slot(keys[info >> 32]) + addend
            else:
                target = addresses[info >> 32] + addend
            try:
                kinds[kind](content, at, base + at, target)
            except (struct.error, OverflowError):
                raise self._error(piece, row, "out of reach or misaligned") from None
            if kind == absolute:
                yield base + at, target

    def _slot(self, key: _Key | None) -> int:
        """The address of the word of .got that holds the address of ``key``."""
        assert key is not None  # _prepare refused it
        return self.sections[".got"].address + 8 * self.slots[key]

    def _error(self, piece: _Piece, row: int, what: str) -> LinkError:
        offset, info, _ = piece.rows[row]
        file = self.files[piece.number]
        name = "?"
        if info >> 32 < len(file.symbols):
            symbol = file.symbols[info >> 32]
            in_file = symbol.section < len(file.sections)
            name = symbol.name or (file.sections[symbol.section].name if in_file else "?")
        where = f"{piece.section.name}+{offset:#x} to {name}"
        return LinkError(f"{file.label}: relocation {info & _KIND} at {where}: {what}")

    # --- tables ---------------------------------------------------------------------------------

    def _list_symbols(self) -> None:
        """Choose what .symtab lists (all that has a name) and what .dynsym exports."""
        found = []
        for number, file in enumerate(self.files):
            for index, symbol in enumerate(file.symbols):
                key = (number, index)
                marker = symbol.name.startswith("$")  # "$x": code begins here, on aarch64
                if symbol.section == elf.SHN_UNDEF or not symbol.name or marker:
                    continue
                if symbol.kind < elf.STT_SECTION and self._home(key) is not None:
                    hidden = symbol.visibility in (elf.STV_INTERNAL, elf.STV_HIDDEN)
                    local = hidden or self.defined.get(symbol.name) != key
                    found.append(_Listed(symbol, key, local))
        self.listed = sorted(found, key=lambda listed: not listed.local)
        self.exported = [listed for listed in self.listed if not listed.local]

    def _reserve(self) -> None:
        """Fix the size of each generated section, and all names."""
        sections, exports = self.sections, len(self.exported)
        names = sections[".dynstr"]
        names.add_text(self.soname)
        self.exported_names = [names.add_text(listed.symbol.name) for listed in self.exported]
        self.names = [sections[".strtab"].add_text(listed.symbol.name) for listed in self.listed]
        sections[".hash"].reserve(hash_size(exports))
        sections[".dynsym"].reserve(elf.SYMBOL.size * (exports + 1))
        sections[".dynsym"].info = 1
        sections[".symtab"].reserve(elf.SYMBOL.size * (len(self.listed) + 1))
        sections[".symtab"].info = len(self.listed) - exports + 1
        sections[".rela.dyn"].reserve(elf.RELA.size * (self.repeats + len(self.slots)))
        sections[".got"].reserve(8 * len(self.slots))
        sections[".dynamic"].reserve(16 * _DYNAMIC_ENTRIES)
        if any(_FUNCTIONS_KEY in keys for keys in self.keys):
            sections[symbols.SECTION].reserve(symbols.table_size(self._function_names()))

    def _functions(self) -> list[_Listed]:
        return [listed for listed in self.listed if listed.symbol.kind == elf.STT_FUNC]

    def _function_names(self) -> list[str]:
        return [listed.symbol.name for listed in self._functions()]

    def _fill(self, repeated: list[tuple[int, int]]) -> None:
        """Write the generated sections; their sizes stay."""
        sections = self.sections
        for key, slot in self.slots.items():
            repeated.append((sections[".got"].address + 8 * slot, self._address(key)))
        rows = [elf.RELA.pack(at, self.rules.relative, target) for at, target in repeated]
        if rows:
            sections[".rela.dyn"].content[:] = b"".join(rows)
        sections[".hash"].content[:] = hash_table([e.symbol.name for e in self.exported])
        sections[".dynsym"].content[24:] = self._rows(self.exported, self.exported_names)
        sections[".symtab"].content[24:] = self._rows(self.listed, self.names)
        entries = b"".join(struct.pack("<QQ", *entry) for entry in self._dynamic(len(repeated)))
        sections[".dynamic"].content[: len(entries)] = entries
        if any(_FUNCTIONS_KEY in keys for keys in self.keys):
            table = sections[symbols.SECTION]
            functions = [(self._address(f.key), f.symbol.size) for f in self._functions()]
            rows_of = zip(functions, self._function_names(), strict=True)
            table.content[:] = symbols.table(((*f, n) for f, n in rows_of), table.address)

    def _rows(self, listed: Iterable[_Listed], names: Iterable[int]) -> bytes:
        rows = []
        for (symbol, key, local), name in zip(listed, names, strict=True):
            home = self._home(key)
            index, binding = home.output.index if home else 0, 0 if local else symbol.binding
            info = binding << 4 | symbol.kind
            row = (name, info, symbol.visibility, index, self._address(key), symbol.size)
            rows.append(elf.SYMBOL.pack(*row))
        return b"".join(rows)

    def _dynamic(self, repeated: int) -> Iterator[tuple[int, int]]:
        """The entries of .dynamic; the zeros behind them end it."""
        sections = self.sections
        yield _SONAME, 1
        yield _HASH, sections[".hash"].address
        yield _STRTAB, sections[".dynstr"].address
        yield _STRSZ, sections[".dynstr"].size
        yield _SYMTAB, sections[".dynsym"].address
        yield _SYMENT, elf.SYMBOL.size
        yield _FLAGS_1, _NODELETE
        if repeated:
            yield _RELA, sections[".rela.dyn"].address
            yield _RELASZ, sections[".rela.dyn"].size
            yield _RELAENT, elf.RELA.size
            yield _RELACOUNT, repeated


def _output_name(section: Section, label: str) -> str | None:
    """The section of the image that takes ``section``; None for one that is left out."""
    flags, kind, name = section.flags, section.kind, section.name
    debug = name.startswith(".debug_")
    if not (flags & elf.SHF_ALLOC or debug) or kind in (elf.SHT_RELA, elf.SHT_NOTE):
        return None
    known = kind in (elf.SHT_PROGBITS, elf.SHT_NOBITS, elf.SHT_X86_64_UNWIND)
    if not known or name.startswith((".ctors", ".dtors")):
        raise LinkError(f"{label}: {name}: constructors and sections of kind {kind} are not linked")
    if flags & (elf.SHF_TLS | elf.SHF_COMPRESSED):
        raise LinkError(f"{label}: {name}: thread-local or compressed sections are not linked")
    if debug:
        return name
    if flags & elf.SHF_EXECINSTR:
        if flags & elf.SHF_WRITE or kind == elf.SHT_NOBITS:
            raise LinkError(f"{label}: {name} is executable, and writable or empty")
        return ".text"
    if kind == elf.SHT_NOBITS:
        return ".bss"
    if flags & elf.SHF_WRITE:
        return ".data"
    return ".eh_frame" if name == ".eh_frame" else ".rodata"


def _is_wanted(symbol: Symbol) -> bool:
    """Whether an object needs ``symbol`` of another one."""
    return symbol.section == elf.SHN_UNDEF and symbol.binding == elf.STB_GLOBAL


def _some(names: Iterable[str], most: int = 8) -> str:
    """The first names, sorted, and how many more there are."""
    listed = sorted(names)
    more = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {more} more" if more > 0 else "")
