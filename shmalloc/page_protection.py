"""debug_pagealloc: a use after free faults where it happens, and is named.

Linux unmaps a free page from its only map of memory (CONFIG_DEBUG_PAGEALLOC). Here each process has
a map of its own, so what is possible is this:

- The process that frees a block takes its pages away from itself at once (PROT_NONE): the next
  touch, by its Python code or by a kernel on its behalf, is a SIGSEGV there.
- Another process still has them, until it calls ``Arena.protect_free``, which takes all blocks that
  are free at that moment away from the process that calls.
- A page that is allocated again, by whichever process, faults once more in a process that has it
  protected. The handler sees in its descriptor that it has an owner, gives it back to the process
  and lets the instruction go on. A stale protection therefore costs an access of ours one fault.
  A system call that is given such a page is no instruction of ours: it fails with EFAULT. Touch the
  pages that another process allocated, or that came by a call which is not ``alloc_pages``, before
  the system reads or writes them.

Of a page that has no owner the handler prints what it is, who of this process freed it, and the
stack without frames of this package, as page_owner shows it; then the process dies of the signal as
it would have without the handler. A handler may call Python here since the fault is an instruction
of ours that touches the segment: the interpreter was not in the middle of its own work.

Only whole pages of the system that lie inside of one block are protected (mmap.PAGESIZE). The
geometry refuses link store ``page``, whose lists run through free pages, and what else has kernels
touch pages without an owner: poison, zero, init_on_alloc, init_on_free.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import sys
import traceback
import weakref

from shmalloc import constants as c
from shmalloc.call_sites import frame_text, frames
from shmalloc.compiler.symbols import SigAction
from shmalloc.free_reporting import whole_system_pages
from shmalloc.reports import describe_page
from shmalloc.segment import Segment

_SA_SIGINFO, _SA_NODEFER = 4, 0x40000000
_ADDRESS_AT = 16  # of si_addr in siginfo_t
_PROT_NONE = 0
_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_libc = ctypes.CDLL(None, use_errno=True)
_alive: weakref.WeakSet[PageProtection] = weakref.WeakSet()
_before = SigAction()
_ended: list[bool] = []


class PageProtection:
    """The free pages of one mapped segment that this process may not touch."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        layout = segment.layout
        self._frames = int(segment.ram.array.ctypes.data) + layout.at["frames"] * 8
        self._bytes = segment.geometry.page_bytes
        self._places: dict[int, str] = {}  # pfn of a block that this process freed -> where
        self.given_back = 0  # pages that were touched after another process had allocated them
        self.left_out = 0  # blocks that were not protected: the process has too many areas
        _alive.add(self)

    def protect(self, pfn: int, order: int, place: str = "") -> None:
        """Take the pages of a block that was freed away from this process."""
        _install()
        self._places[pfn] = place or _caller()
        start, size = self._frames + pfn * self._bytes, self._bytes << order
        first, end = whole_system_pages(start, size, mmap.PAGESIZE)
        if end > first and not _mprotect(first, end - first, _PROT_NONE):
            self.left_out += 1

    def allow(self, pfn: int, order: int) -> None:
        """Give all pages of the system that a block lies in back to this process."""
        start, size = self._frames + pfn * self._bytes, self._bytes << order
        first = start // mmap.PAGESIZE * mmap.PAGESIZE
        end = -(-(start + size) // mmap.PAGESIZE) * mmap.PAGESIZE
        access = mmap.PROT_READ | mmap.PROT_WRITE
        if not _mprotect(first, end - first, access):  # all pages as one area always fit
            size = self._segment.geometry.pages * self._bytes
            _mprotect(self._frames, size, access)

    def protect_free(self) -> int:
        """Take all blocks that are free now away from this process; how many pages."""
        words, layout = self._segment.ram.array, self._segment.layout
        pfn, pages = 0, 0
        while pfn < self._segment.geometry.pages:
            word0 = int(words[layout.descriptor(pfn)])
            span = 1 << (word0 >> c.ORDER_SHIFT & c.ORDER_MASK)
            if word0 & c.TYPE_MASK == c.T_FREE:
                self.protect(pfn, span.bit_length() - 1, "another process, or before this one came")
                pages += span
            pfn += 1 if word0 & c.TYPE_MASK == c.T_TAIL else span
        return pages

    def resolves(self, address: int) -> bool:
        """Whether a fault at ``address`` may be tried again; if not, and it is ours, it was told.

        It may if the page has an owner: then only this process did not know. A page that is broken,
        offline or a hole has none, as one that is free has none.
        """
        pfn = (address - self._frames) // self._bytes
        if self._segment.closed or not 0 <= pfn < self._segment.geometry.pages:
            return False
        head, word0 = self._covering(pfn)
        if word0 & c.TYPE_MASK in (c.T_ALLOCATED, c.T_SLAB):
            self.allow(pfn, 0)
            self.given_back += 1
            return True
        self._tell(address, pfn, head)
        return False

    def _covering(self, pfn: int) -> tuple[int, int]:
        """First page and word 0 of the block that covers a page (kernels/descriptor.py)."""
        words, layout, head = self._segment.ram.array, self._segment.layout, pfn
        word0 = int(words[layout.descriptor(head)])
        while word0 & c.TYPE_MASK == c.T_TAIL and head:
            head &= head - 1
            word0 = int(words[layout.descriptor(head)])
        return head, word0

    def _tell(self, address: int, pfn: int, head: int) -> None:
        offset = address - self._frames - pfn * self._bytes
        freed = [at for at in (pfn, head) if at in self._places]
        by = self._places[freed[0]] if freed else "unknown"
        print(
            f"shmalloc: use after free in process {os.getpid()}: byte {offset:#x} of pfn {pfn} was"
            f" touched; {describe_page(self._segment, pfn)}; freed by: {by}",
            file=sys.stderr,
        )
        lines = [frame_text(code.co_qualname, code.co_filename, n) for code, n in frames()]
        print("touched by, innermost call first:", file=sys.stderr)
        print("\n".join(f"    {line}" for line in lines), file=sys.stderr, flush=True)


def _caller() -> str:
    """The line outside of this package that frees."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("shmalloc."):
        frame = frame.f_back
    return f"process {os.getpid()}, {frame.f_code.co_filename}:{frame.f_lineno}"


def _mprotect(address: int, size: int, access: int) -> bool:
    """False: the system allows the process no more areas (vm.max_map_count)."""
    if _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), access) == 0:
        return True
    error = ctypes.get_errno()
    if error != errno.ENOMEM:
        raise OSError(error, f"mprotect of {size} bytes: {os.strerror(error)}")
    return False


def _on_fault(number: int, info: int, context: int) -> None:
    retry = False
    try:
        address = ctypes.c_uint64.from_address(info + _ADDRESS_AT).value
        retry = any(protection.resolves(address) for protection in list(_alive))
    except BaseException:
        traceback.print_exc()
    finally:
        if not retry:
            # The instruction faults again, and what was there before handles it; that may be a
            # handler that in turn puts back ours: the second time the default ends the process.
            _libc.sigaction(number, ctypes.byref(SigAction() if _ended else _before), None)
            _ended.append(True)


_handler = _Handler(_on_fault)


def _install() -> None:
    """Make our handler the first one, if it is not: an image that was loaded since has its own."""
    address = ctypes.cast(_handler, ctypes.c_void_p).value
    now = SigAction()
    _libc.sigaction(signal.SIGSEGV, None, ctypes.byref(now))
    if now.handler != address:
        action = SigAction(handler=address, flags=_SA_SIGINFO | _SA_NODEFER)
        if _libc.sigaction(signal.SIGSEGV, ctypes.byref(action), ctypes.byref(_before)):
            raise OSError(ctypes.get_errno(), "sigaction(SIGSEGV)")
