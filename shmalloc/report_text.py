"""A violation report in words: where it was, what was expected, what was found.

Kernels report ``(code, where, expected, found)`` as four ints; ``constants`` says how ``where`` and
the other two are tagged, and the code says what an untagged one means. Everything that shows a
report takes its text from here: the Python face, runs, crash mode and the explorer.

``words`` is any memory that can be read by index, in use or not: its contents may be corrupt.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.descriptor_text import migratetype_text, state_text, type_text
from shmalloc.layout import Layout, cache_stride
from shmalloc.word_names import WordNames

SMALL = 4096  # numbers below are shown in decimal; patterns and owner words are not
_TAG_MASK = ~((1 << c.TAG_SHIFT) - 1)
_ERRORS = {value: name for name, value in vars(c).items() if name.startswith("E_")}
OBJECT_CODES = frozenset({c.M_OBJECT_FREE, c.M_OBJECT_CACHE, c.M_LEAKED_OBJECTS})
WORD_CODES = frozenset({c.M_OBJECT_POINTER, c.M_OBJECT_BYTES})
FREE_CODES = frozenset(
    {
        c.M_DOUBLE_FREE,
        c.M_WRONG_ORDER,
        c.M_TAIL_FREE,
        c.M_OUT_OF_RANGE,
        c.M_SLAB_AS_PAGE,
        c.M_WRONG_STATE,
        c.M_STRANGER,
    }
)
_STATE_CODES = frozenset(
    {
        c.I_TAIL,
        c.I_FREE_HEAD,
        c.I_PCP_COUNT,
        c.I_LIST_LINKS,
        c.X_WALKER,
        c.X_VERSION,
        c.X_LOST_OWNER,
    }
)
_ERROR_CODES = frozenset({c.M_LEAKED_OBJECTS, c.I_PROGRESS})  # a kernel's return value
_COUNT_CODES = frozenset(
    {
        c.I_CONSERVATION,
        c.I_FREE_HEAD,
        c.I_LIST_LINKS,
        c.I_PCP_COUNT,
        c.I_SLAB,
        c.I_SHEAF,
        c.I_TEARDOWN,
        c.M_LEAKED_OBJECTS,
    }
)
_BYTE_CODES = frozenset({c.I_BYTES, c.M_OBJECT_BYTES, c.X_PAYLOAD})  # any bit pattern may be found

_TAGS = (
    c.AT_WORD,
    c.AT_CACHE,
    c.AT_ZONE,
    c.AT_CPU,
    c.AT_LIST,
    c.AT_PCP,
    c.IS_TYPE,
    c.IS_MT,
    c.IS_FREE,
)
_EXPECTED = {
    c.I_TEARDOWN: "{} free pages",
    c.M_OBJECT_POINTER: "the address of an object of {}",
    c.M_OBJECT_FREE: "a live object of {}",
    c.M_OBJECT_CACHE: "an object of {}",
    c.M_LEAKED_OBJECTS: "no live object",
    c.X_DOUBLE_ALLOC: "owner {} alone",
    c.X_LOST_OWNER: "owner {}",
    c.X_WALKER: "a legal descriptor with word 1 = {}",
}
_FOUND = {
    c.I_UNMERGED: "its buddy, pfn {}, free beside it",
    c.M_OBJECT_CACHE: "an object of {}",
    c.M_OBJECT_FREE: "a free one",
    c.M_LEAKED_OBJECTS: "{} live",
    c.X_DOUBLE_ALLOC: "owner {}",
}


class Words(Protocol):
    """Words that can be read by index."""

    def __getitem__(self, index: int, /) -> int: ...


class Stake(NamedTuple):
    """The page, the object or the cache that a report is about; what is unknown is None."""

    pfn: int | None = None
    address: int | None = None
    cache: int | None = None


def number_text(value: int) -> str:
    """Small numbers in decimal; patterns and owner words in hexadecimal."""
    return str(value) if -SMALL < value < SMALL else f"{value:#x}"


def untagged(value: int) -> tuple[int, int]:
    """The tag and the number of a tagged value; tag 0: it bears none."""
    tag = value & _TAG_MASK
    return (tag, value & ~_TAG_MASK) if tag in _TAGS else (0, value)


class ReportText:
    """The words for reports about one segment."""

    def __init__(self, words: Words, layout: Layout) -> None:
        self._words = words
        self._layout = layout
        self._names = WordNames(layout)

    # --- where -----------------------------------------------------------------------------------

    def place(self, code: int, where: int) -> str:
        """``pfn 5``, ``cache 3 'inode'``, ``zone 0 free``, ``object 0x90 (pfn 4)``."""
        tag, number = untagged(where)
        if tag:
            return self._tagged(tag, number)
        if code in OBJECT_CODES:
            return self.object(where)
        if code in WORD_CODES:
            return f"word {where:#x}{self._of_page(where)}"
        return f"pfn {where}" if self._is_pfn(code, where) else self.word(where)

    def stake(self, code: int, where: int) -> Stake:
        """What the report is about, to find its history."""
        tag, number = untagged(where)
        if tag == c.AT_CACHE:
            return Stake(cache=number)
        if tag not in (0, c.AT_WORD):
            return Stake()
        if not tag and self._is_pfn(code, where):
            return Stake(pfn=where)
        address = number if code in OBJECT_CODES or code in (c.I_SLAB, c.I_SHEAF) else None
        return self._stake_of_word(number, address)

    def _stake_of_word(self, word: int, address: int | None) -> Stake:
        region = self._names.region(word)
        pfn = self.pfn_of(word)
        if region == "caches":
            start, stride = self._layout.at["caches"], cache_stride(self._layout.geometry)
            return Stake(cache=(word - start) // stride)
        return Stake(pfn=pfn, address=address if region == "frames" else None)

    def _is_pfn(self, code: int, where: int) -> bool:
        if code in OBJECT_CODES or code in WORD_CODES:
            return False
        return code in FREE_CODES or 0 <= where < self._layout.geometry.pages

    def pfn_of(self, word: int) -> int | None:
        """The page that a word belongs to, by its frame, descriptor or link; None: no page."""
        strides = {
            "frames": self._layout.geometry.page_words,
            "memmap": c.D_WORDS,
            "table": c.NODE_WORDS,
            "owners": 1,
        }
        region = self._names.region(word)
        if region not in strides:
            return None
        pfn = (word - self._layout.at[region]) // strides[region]
        return pfn if 0 <= pfn < self._layout.geometry.pages else None

    def word(self, word: int) -> str:
        """A word by its name; a word in a page also by its index."""
        if self._names.region(word) == "frames":
            return f"word {word:#x}{self._of_page(word)}"
        return self._names.name(word)

    def object(self, address: int) -> str:
        """``object 0x90 (pfn 4)``."""
        return f"object {address:#x}{self._of_page(address)}"

    def _of_page(self, word: int) -> str:
        pfn = self.pfn_of(word) if self._names.region(word) == "frames" else None
        return "" if pfn is None else f" (pfn {pfn})"

    def cache(self, number: int) -> str:
        """``cache 3 'inode'``; ``cache 3`` without a name."""
        if not 0 <= number < self._layout.geometry.caches:
            return f"cache {number}, which does not exist"
        name = self.cache_name(number)
        return f"cache {number} {name!r}" if name else f"cache {number}"

    def cache_name(self, number: int) -> str:
        """The name of a cache, "" if it has none."""
        geometry = self._layout.geometry
        at = self._layout.at["caches"] + number * cache_stride(geometry) + cs.K_NAME
        length = int(self._words[at])
        if not 0 < length <= cs.NAME_WORDS * 8 - 8:
            return ""
        raw = (int(self._words[at + 1 + i]) for i in range(cs.NAME_WORDS - 1))
        text = b"".join(word.to_bytes(8, "little", signed=True) for word in raw)
        return text[:length].decode("utf-8", "replace")

    # --- expected and found ----------------------------------------------------------------------

    def expected(self, code: int, value: int) -> str:
        if code in FREE_CODES and untagged(value)[0] == 0:
            return f"an allocated block of order {value}"
        if code == c.I_TAIL and untagged(value)[0] == 0:
            return "one head" if value == 1 else f"a tail of the block at pfn {value}"
        if code == c.I_LIST_LINKS and untagged(value)[0] == c.AT_LIST:
            return f"neighbours that link to it on {self.value(code, value)}"
        if code == c.I_UNMERGED:
            return f"one block of order {value + 1}"
        if code == c.I_FREE_HEAD and untagged(value)[0] == c.AT_ZONE:
            return f"a legal head in {self.value(code, value)}"
        if code == c.M_OBJECT_POINTER and value < 0:
            return "the address of an object"
        return _EXPECTED.get(code, "{}").format(self.value(code, value))

    def found(self, code: int, value: int) -> str:
        if code in FREE_CODES or code in (c.I_TAIL, c.X_WALKER):
            return "no such page" if value < 0 else state_text(value)
        if code == c.M_OBJECT_POINTER and value < 0:
            return "no object"
        if code in _ERROR_CODES and value in _ERRORS:
            return _ERRORS[value]
        return _FOUND.get(code, "{}").format(self.value(code, value))

    def value(self, code: int, value: int) -> str:
        """A number of a report, as its tag says, else as its code does."""
        tag, number = untagged(value)
        if tag and code not in _BYTE_CODES:
            return self._tagged(tag, number)
        if code in _STATE_CODES and value >= 1 << c.ORDER_SHIFT:
            return state_text(value)
        return f"{value:,}" if code in _COUNT_CODES else number_text(value)

    def _tagged(self, tag: int, number: int) -> str:
        if tag == c.AT_LIST:
            mt = migratetype_text(number & 0xFF).upper()
            return f"the free list of zone {number >> 16}, order {number >> 8 & 0xFF}, {mt}"
        if tag == c.AT_PCP:
            cpu, zone, index = number >> 16, number >> 8 & 0xFF, number & 0xFF
            lists = f"page list {index - 1}" if index else "the page lists"
            return f"{lists} of cpu {cpu}, zone {zone}"
        if tag == c.AT_CACHE:
            return self.cache(number)
        if tag == c.AT_WORD:
            return self.word(number)
        if tag == c.IS_FREE:
            return f"a free block in zone {number >> 8}, of order {number & 0xFF} or higher"
        if tag == c.IS_TYPE:
            return type_text(number)
        if tag == c.IS_MT:
            return migratetype_text(number).upper()
        return f"{'zone' if tag == c.AT_ZONE else 'cpu'} {number}"
