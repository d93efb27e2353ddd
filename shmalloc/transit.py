"""Arrays on their way to another process: tickets.

What multiprocessing and loky send (queues, pipes, pools, executors, joblib's workers) carries a
ticket in place of the data: a reference in the sender's table, so the array lives while it is in
transit. The first load gives the loader a reference and ends the ticket; later loads of the same
bytes add references while the array lives. When the sender has ended, its tickets are orphans: they
are given back when memory is needed or ``recover`` is called, but not before ``TICKET_GRACE_S``
after their end was noticed. ``send`` and ``open`` do the same for bytes that a program sends by
itself.

A ticket of a living sender whose bytes are lost (dumped and thrown away, or in a queue that is not
read) keeps its array until the sender ends: no process can know that bytes are lost. ``leaks``
shows them, ``recover(transit_older_than=...)`` ends them by hand.

``pickle.dumps``, ``copy`` and files get a copy of the data: a ticket on a disk would be dead
tomorrow.
"""

from __future__ import annotations

import io
import pickle
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from multiprocessing.reduction import ForkingPickler
from types import ModuleType
from typing import Any, ClassVar, cast

from numpy.typing import NDArray

from shmalloc import constants as c
from shmalloc.array_header import FIXED_WORDS, Plan, described, planned
from shmalloc.array_words import all_pages_of, freed, may_be_array, tickets
from shmalloc.arrays import ArrayOperations
from shmalloc.checked import checked_bool
from shmalloc.errors import MisuseError
from shmalloc.kernels.array_recovery import reap_ticket, reap_tickets
from shmalloc.kernels.shared_arrays import load_array, send_array
from shmalloc.references import Ref
from shmalloc.shared_array import SharedArray, holder_of

# Segment, record of the ticket, its number, pfn, generation, first byte within the pages.
TICKET = struct.Struct("<QQQIQQ")
TICKET_GRACE_S = 60.0
_FLAGS = struct.Struct("<BB")  # writeable, dimensions with strides (NO_STRIDES: contiguous)
_NO_STRIDES = 255
_OFFSET = struct.Struct("<Q")
_LOKY = ("joblib.externals.loky.backend.reduction", "loky.backend.reduction")


@dataclass(frozen=True)
class Leak:
    """An array in transit. ``claim``, ``pid``: its sender; ``sender_ended``: it is an orphan.

    ``age_s``: since it was sent, of an orphan since its sender's end was noticed.
    """

    claim: int
    pid: int
    age_s: float
    sender_ended: bool
    nbytes: int


class TransitOperations(ArrayOperations):
    """Arrays sent and received."""

    ticket_grace_s: float = TICKET_GRACE_S
    load_ticket: ClassVar[Callable[..., SharedArray]]  # what a pickle calls where it is read

    def _bind(self) -> None:
        super()._bind()
        self._do_send_array = self.builtin(send_array, reads=True)
        self._do_load_array = self.builtin(load_array, reads=True)

    def send(self, array: NDArray[Any]) -> bytes:
        """Bytes for another process, which gets the array by ``open``: once more reference, until
        then in transit. The array may be dropped here meanwhile. A view is sent as a view.

        Raises ``MisuseError`` if it does not lie in this arena.
        """
        self.check_open()
        ref = self._ref_of(array)
        return self._ticket(ref, array) + _told_of(array)

    def open(self, sent: bytes, readonly: bool = False) -> SharedArray:
        """The array that ``send`` sent. Raises ``MisuseError`` if it is gone.

        What was read-only where it was sent is read-only here, too: see ``array``.
        """
        if not isinstance(sent, bytes) or len(sent) < TICKET.size + _FLAGS.size + FIXED_WORDS * 8:
            raise MisuseError("sent: use the bytes that Arena.send gave")
        readonly = checked_bool("readonly", readonly)
        plan, strides, writeable = _view_told(sent[TICKET.size :])
        return self._load(sent[: TICKET.size], plan, strides, readonly or not writeable)

    def describe_view(self, array: NDArray[Any]) -> tuple[Ref, bytes]:
        """Our reference to an array of this arena, and what tells it or a view of it to
        ``open_described``. For who keeps a reference besides (structures/dicts.py).

        Raises ``MisuseError`` if it does not lie in this arena.
        """
        self.check_open()
        ref = self._ref_of(array)
        first = self._begin_of(ref, array)
        told = _told_of(array)
        start = ref.data << 3
        whole = _told_whole(bytes(self._bytes[start:first]))
        return ref, b"" if told == whole else _OFFSET.pack(first - start) + told

    def open_described(self, pfn: int, generation: int, told: bytes) -> SharedArray:
        """A new reference to the array at ``pfn``, or to a view of it that ``describe_view`` told.

        Raises ``MisuseError`` if it is gone.
        """
        self.check_open()
        self.segment.check_file()
        if not may_be_array(self.segment, pfn, generation):
            raise freed()
        view, writeable = None, True
        if told:
            (offset,) = _OFFSET.unpack_from(told)
            plan, strides, writeable = _view_told(told[_OFFSET.size :])
            view = plan, (self.segment.layout.frame(pfn) << 3) + offset, strides

        def take() -> tuple[int, int, int]:
            return cast(tuple[int, int, int], self._do_open_array(self.cpu, pfn, generation))

        return self._open(take, pfn, view, not writeable)

    def _ref_of(self, array: Any) -> Ref:
        ref = holder_of(array)
        if ref is None or ref.arena is not self:
            raise MisuseError("array: it does not lie in this arena; use arena.asarray(it) first")
        return ref

    def _begin_of(self, ref: Ref, array: NDArray[Any]) -> int:
        """The byte of the segment where ``array`` begins. One without bytes has no address of its
        own: numpy gives it that of its buffer, or any."""
        if array.nbytes == 0:
            return ref.data * 8
        return self.segment.byte_at(int(array.__array_interface__["data"][0]))

    def _ticket(self, ref: Ref, array: NDArray[Any]) -> bytes:
        """A ticket for a view that begins where ``array`` does."""
        ram, layout = self.segment.ram, self.segment.layout
        entry = self._entry_of(ref)
        offset = self._begin_of(ref, array) - ref.data * 8
        with self._lock:
            record, number = self._do_send_array(self.claim, ref.slot, _now_ms())
        if record < 0:
            raise self.refused(record, "send of an array")
        pfn = (entry - layout.at["arrays"]) // c.AR_STRIDE
        generation = ram[entry] >> c.AR_GENERATION_SHIFT
        return TICKET.pack(self.segment.id, record, number, pfn, generation, offset)

    def _load(
        self, ticket: bytes, plan: Plan, strides: tuple[int, ...] | None, readonly: bool
    ) -> SharedArray:
        """The array of a ticket, which may be forged, as ``plan`` and ``strides`` say."""
        segment_id, record, number, pfn, generation, offset = TICKET.unpack(ticket)
        self.check_open()
        self.segment.check_file()
        if segment_id != self.segment.id:
            raise MisuseError(f"sent: from another segment than {self.name!r}")
        if record >> 62 or number >> 62 or offset >> 62:
            raise MisuseError("sent: no ticket has such numbers")
        if not may_be_array(self.segment, pfn, generation) or (
            strides and len(strides) != len(plan.shape)
        ):
            raise MisuseError("sent: no array is there")
        if strides is not None and any(abs(step) >> 62 for step in strides):
            raise MisuseError("sent: no array has such strides")

        def take() -> tuple[int, int, int]:
            taken = self._do_load_array(self.claim, record, number, pfn, generation)
            return cast(tuple[int, int, int], taken)

        first = (self.segment.layout.frame(pfn) << 3) + offset
        return self._open(take, pfn, (plan, first, strides), readonly)

    def _take_back(self, ticket: bytes) -> None:
        """End a ticket whose bytes no process was given; nothing if it was loaded all the same."""
        _, record, number, pfn, _, _ = TICKET.unpack(ticket)
        with self._lock:
            if not self.segment.closed:
                self.run(reap_ticket, record, pfn, number)

    def leaks(self) -> list[Leak]:
        """Arrays that were sent and not received yet, the oldest first."""
        self.check_open()
        now, found = _now_ms(), []
        for claim, at, _ in tickets(self.segment):
            ram, layout = self.segment.ram, self.segment.layout
            since = ram[at + c.RE_NAME]
            ended = ram[at] & c.RE_STATE_MASK == c.RE_ORPHAN
            pfn = ram[at] >> c.RE_PFN_SHIFT
            pages = all_pages_of(self.segment, pfn)
            age = (now - since) / 1000 if since else 0.0
            pid = ram[layout.cpu(claim) + c.C_PID]
            found.append(Leak(claim, 0 if ended else pid, age, ended, pages * self._page_bytes))
        return sorted(found, key=lambda leak: -leak.age_s)

    def _recover_for_memory(self) -> None:
        super()._recover_for_memory()
        self._reap_orphans()

    def _reap_orphans(self) -> int:
        """Give back what was sent by processes that ended, and not loaded in time; how many."""
        now, grace = _now_ms(), int(self.ticket_grace_s * 1000)
        claims = {claim for claim, _, _ in tickets(self.segment)}
        with self._lock:
            return sum(self.run(reap_tickets, claim, now, grace) for claim in claims)

    def _reap_older(self, than_s: float) -> int:
        """Give back what is in transit for longer, whether or not its sender lives; how many."""
        now, reaped = _now_ms(), 0
        with self._lock:
            for _, at, number in tickets(self.segment):
                if now - self.segment.ram[at + c.RE_NAME] >= than_s * 1000:
                    pfn = self.segment.ram[at] >> c.RE_PFN_SHIFT
                    reaped += self.run(reap_ticket, at, pfn, number)
        return reaped


def _told_of(array: NDArray[Any]) -> bytes:
    """What tells a view, but for its first byte: flags, strides, and the header of its shape."""
    plan = planned(array.dtype, array.shape, "F" if array.flags.fnc else "C")
    strides = _strides_of(array)
    count = _NO_STRIDES if strides is None else len(strides)
    return _FLAGS.pack(array.flags.writeable, count) + _packed(strides or ()) + plan.header


def _told_whole(header: bytes) -> bytes:
    """The same of a whole array that may be written to."""
    return _FLAGS.pack(True, _NO_STRIDES) + header


def _view_told(told: bytes) -> tuple[Plan, tuple[int, ...] | None, bool]:
    """Plan, strides and whether it may be written to. Raises ``MisuseError`` if it is cut off."""
    writeable, count = _FLAGS.unpack_from(told)
    dimensions = 0 if count == _NO_STRIDES else count
    at = _FLAGS.size
    if (len(told) - at) % 8 or len(told) < at + dimensions * 8 + FIXED_WORDS * 8:
        raise MisuseError("sent: the bytes are cut off")
    strides = struct.unpack_from(f"<{dimensions}q", told, at)
    plan = described(told[at + dimensions * 8 :])
    return plan, None if count == _NO_STRIDES else strides, bool(writeable)


def _now_ms() -> int:
    """A clock that all processes of the machine share; never 0."""
    return time.monotonic_ns() // 1_000_000 + 1


def _strides_of(array: NDArray[Any]) -> tuple[int, ...] | None:
    """None: they follow from shape and order."""
    return None if array.flags.c_contiguous or array.flags.f_contiguous else array.strides


def _packed(strides: tuple[int, ...]) -> bytes:
    return struct.pack(f"<{len(strides)}q", *strides)


def segment_of(ticket: bytes) -> int:
    """Id of the segment that a ticket is for."""
    if not isinstance(ticket, bytes) or len(ticket) != TICKET.size:
        raise MisuseError(f"ticket: {ticket!r}; use what multiprocessing received")
    found: int = TICKET.unpack(ticket)[0]
    return found


# --- picklers ------------------------------------------------------------------------------------
def reduce_by_ticket(array: SharedArray) -> Any:
    """For picklers between processes. A private copy goes by value."""
    ref = holder_of(array)
    if ref is None or ref.arena.segment.released or not isinstance(ref.arena, TransitOperations):
        return array.__reduce_ex__(pickle.DEFAULT_PROTOCOL)
    order = "F" if array.flags.fnc else "C"
    kind = array.dtype
    said = kind.str if kind.isbuiltin == 1 else kind
    ticket = ref.arena._ticket(ref, array)
    return type(ref.arena).load_ticket, (
        ticket,
        said,
        array.shape,
        _strides_of(array),
        order,
        array.flags.writeable,
    )


class Outgoing:
    """A message for another process as bytes, and its tickets, if it is not sent after all."""

    def __init__(self, message: Any) -> None:
        self._tickets: list[tuple[TransitOperations, bytes]] = []
        written = io.BytesIO()
        pickler: Any = ForkingPickler(written, pickle.HIGHEST_PROTOCOL)
        pickler.dispatch_table[SharedArray] = self._reduce  # its own table
        try:
            pickler.dump(message)
        except BaseException:
            self.take_back()
            raise
        self.data = written.getbuffer()

    def _reduce(self, array: SharedArray) -> Any:
        reduced = reduce_by_ticket(array)
        arena = getattr(holder_of(array), "arena", None)
        if isinstance(arena, TransitOperations) and reduced[0] is arena.load_ticket:
            self._tickets.append((arena, reduced[1][0]))
        return reduced

    def take_back(self) -> None:
        """End its tickets: no process was given the bytes."""
        while self._tickets:
            arena, ticket = self._tickets.pop()
            arena._take_back(ticket)


class _AfterImport(MetaPathFinder, Loader):
    """Registers with loky's pickler as soon as a program imports it."""

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name not in _LOKY:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            self._found[name] = spec.loader
            spec.loader = self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        created: ModuleType | None = self._found[spec.name].create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        self._found[module.__name__].exec_module(module)
        module.register(SharedArray, reduce_by_ticket)


def _register() -> None:
    ForkingPickler.register(SharedArray, reduce_by_ticket)
    for name in _LOKY:
        if name in sys.modules:
            sys.modules[name].register(SharedArray, reduce_by_ticket)
    sys.meta_path.insert(0, _AfterImport())


_register()
