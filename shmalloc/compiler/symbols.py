"""Names of functions in the memory of an image, and the signal handler that reads them.

A crash in compiled code cannot be reported by Python: the handler may only write(2). So the
linker puts the names where a handler finds them, if an object refers to ``FUNCTIONS``:

    uint32 rows, 0, 0, 0
    int32 start, uint32 bytes, uint32 name, uint32 bytes of the name     for each, by address
    the names

``start`` and ``name`` count from the table itself: it needs no relocation and no page of its own.

``crash_ir`` is the text of a handler that prints, for an instruction that lies in its image,

    SIGSEGV in kernel shmalloc.kernels.buddy.merge +0x42, address 0x10

then restores the previous action and returns, so that the instruction faults again: the previous
handler, the default action or ``faulthandler``, sees the same fault and ends the process. For code
elsewhere, including other images, it prints nothing and does the rest. So handlers of many images
are a chain, in which the last one installed comes first.

``install`` is called after ``faulthandler.enable()``: that handler passes a fault on by raise(),
which hides the kernel. A child that is forked keeps what is installed. The handler runs on the
alternate stack of its thread if there is one; this file makes none. Handler and libc agree on
struct sigaction, siginfo_t and ucontext_t of Linux, which glibc and musl share.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable, Sequence
from signal import SIGBUS, SIGFPE, SIGILL, SIGSEGV
from typing import TYPE_CHECKING, Final

from shmalloc.errors import EngineError

if TYPE_CHECKING:
    from shmalloc.compiler.load import Loaded

FUNCTIONS: Final = "shmalloc.functions"
SECTION: Final = ".shm.functions"
HANDLER: Final = "shmalloc.crash.handler"
CALLS: Final = "shmalloc.crash.calls"
BEFORE: Final = "shmalloc.crash.before"
SIGNALS: Final = (SIGSEGV, SIGBUS, SIGILL, SIGFPE)

_HEAD: Final = struct.Struct("<IIII")
_ROW: Final = struct.Struct("<iIII")
_ACTION_BYTES: Final = 160  # struct sigaction has 152
_SA_SIGINFO, _SA_ONSTACK = 4, 0x08000000
# Where ucontext_t holds the address of the instruction, in bytes.
_COUNTER_AT: Final = {"x86_64": 168, "aarch64": 440}
_installed: set[int] = set()  # bases of images


def table_size(names: Sequence[str]) -> int:
    """Bytes of the table of functions with these names."""
    return _HEAD.size + _ROW.size * len(names) + sum(len(name.encode()) for name in names)


def table(functions: Iterable[tuple[int, int, str]], at: int) -> bytes:
    """The table that lies at address ``at``, of functions given by (address, bytes, name)."""
    rows = sorted(functions)
    name_at = _HEAD.size + _ROW.size * len(rows)
    parts, names = [_HEAD.pack(len(rows), 0, 0, 0)], []
    for address, size, name in rows:
        text = name.encode()
        parts.append(_ROW.pack(address - at, size, name_at, len(text)))
        names.append(text)
        name_at += len(text)
    return b"".join(parts + names)


def crash_ir(machine: str) -> str:
    """LLVM IR of the handler and its data; ``machine`` is "x86_64" or "aarch64".

    It defines ``HANDLER``, ``CALLS`` (pointers to writev, sigaction and raise) and ``BEFORE`` (one
    struct sigaction for each signal). Raises EngineError for another machine.
    """
    if machine not in _COUNTER_AT:
        raise EngineError(f"crash reports know x86_64 and aarch64, not {machine}")
    return _CRASH_IR.replace("COUNTER_AT", str(_COUNTER_AT[machine]))


class SigAction(ctypes.Structure):
    """struct sigaction of Linux, as glibc and musl have it."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def install(image: Loaded) -> None:
    """Let faults in ``image`` be named on standard error, once for an image and process.

    Raises LookupError if the image was linked without ``crash_ir``, OSError if sigaction fails.
    """
    if image.base in _installed:
        return  # a second time it would be its own predecessor
    libc = ctypes.CDLL(None, use_errno=True)
    calls = (libc.writev, libc.sigaction, getattr(libc, "raise"))
    image.fill(CALLS, [ctypes.cast(call, ctypes.c_void_p).value or 0 for call in calls])
    before = image.address(BEFORE)
    action = SigAction(handler=image.address(HANDLER), flags=_SA_SIGINFO | _SA_ONSTACK)
    for signal in SIGNALS:
        old = ctypes.c_void_p(before + _ACTION_BYTES * signal)
        if libc.sigaction(int(signal), ctypes.byref(action), old):
            raise OSError(ctypes.get_errno(), f"sigaction({signal.name})")
    _installed.add(image.base)


_CRASH_IR: Final = r"""
@shmalloc.functions = external hidden constant [0 x { i32, i32, i32, i32 }]
@shmalloc.crash.calls = dso_local global [3 x ptr] zeroinitializer
@shmalloc.crash.before = dso_local global [65 x [160 x i8]] zeroinitializer
@shmalloc.crash.segv = private constant [18 x i8] c"SIGSEGV in kernel "
@shmalloc.crash.bus = private constant [17 x i8] c"SIGBUS in kernel "
@shmalloc.crash.ill = private constant [17 x i8] c"SIGILL in kernel "
@shmalloc.crash.fpe = private constant [17 x i8] c"SIGFPE in kernel "
@shmalloc.crash.plus = private constant [4 x i8] c" +0x"
@shmalloc.crash.at = private constant [12 x i8] c", address 0x"
@shmalloc.crash.end = private constant [1 x i8] c"\0A"

; {text, bytes} number %k of what writev writes
define internal void @shmalloc.crash.part(ptr %parts, i64 %k, ptr %text, i64 %bytes) nounwind {
  %part = getelementptr { ptr, i64 }, ptr %parts, i64 %k
  store ptr %text, ptr %part
  %size = getelementptr { ptr, i64 }, ptr %parts, i64 %k, i32 1
  store i64 %bytes, ptr %size
  ret void
}

; the digits of %value, written so that they end at %digits + 16, as part number %k
define internal void @shmalloc.crash.hex(ptr %parts, i64 %k, ptr %digits, i64 %value) nounwind {
entry:
  br label %digit
digit:
  %left = phi i64 [ %value, %entry ], [ %rest, %digit ]
  %count = phi i64 [ 0, %entry ], [ %more, %digit ]
  %more = add i64 %count, 1
  %place = sub i64 16, %more
  %to = getelementptr i8, ptr %digits, i64 %place
  %low = and i64 %left, 15
  %decimal = icmp ult i64 %low, 10
  %zero = select i1 %decimal, i64 48, i64 87
  %letter = add i64 %low, %zero
  %byte = trunc i64 %letter to i8
  store i8 %byte, ptr %to
  %rest = lshr i64 %left, 4
  %done = icmp eq i64 %rest, 0
  br i1 %done, label %written, label %digit
written:
  call void @shmalloc.crash.part(ptr %parts, i64 %k, ptr %to, i64 %more)
  ret void
}

define dso_local void @shmalloc.crash.handler(i32 %signal, ptr %info, ptr %context) nounwind {
entry:
  %parts = alloca [7 x { ptr, i64 }]
  %digits = alloca [32 x i8]
  %counter.at = getelementptr i8, ptr %context, i64 COUNTER_AT
  %counter = load i64, ptr %counter.at
  %table = ptrtoint ptr @shmalloc.functions to i64
  %distance = sub i64 %counter, %table
  %rows = load i32, ptr @shmalloc.functions
  br label %next
next:
  %row = phi i32 [ 0, %entry ], [ %following, %look ]
  %following = add i32 %row, 1
  %over = icmp eq i32 %row, %rows
  br i1 %over, label %restore, label %look
look:
  %at = getelementptr { i32, i32, i32, i32 }, ptr @shmalloc.functions, i32 %following
  %start32 = load i32, ptr %at
  %start = sext i32 %start32 to i64
  %size.at = getelementptr i32, ptr %at, i64 1
  %size32 = load i32, ptr %size.at
  %size = zext i32 %size32 to i64
  %offset = sub i64 %distance, %start
  %inside = icmp ult i64 %offset, %size
  br i1 %inside, label %found, label %next
found:
  %segv = icmp eq i32 %signal, 11
  %bus = icmp eq i32 %signal, 7
  %ill = icmp eq i32 %signal, 4
  %other = select i1 %ill, ptr @shmalloc.crash.ill, ptr @shmalloc.crash.fpe
  %others = select i1 %bus, ptr @shmalloc.crash.bus, ptr %other
  %head = select i1 %segv, ptr @shmalloc.crash.segv, ptr %others
  %head.size = select i1 %segv, i64 18, i64 17
  call void @shmalloc.crash.part(ptr %parts, i64 0, ptr %head, i64 %head.size)
  %name.at = getelementptr i32, ptr %at, i64 2
  %name32 = load i32, ptr %name.at
  %name64 = zext i32 %name32 to i64
  %name = getelementptr i8, ptr @shmalloc.functions, i64 %name64
  %name.size.at = getelementptr i32, ptr %at, i64 3
  %name.size32 = load i32, ptr %name.size.at
  %name.size = zext i32 %name.size32 to i64
  call void @shmalloc.crash.part(ptr %parts, i64 1, ptr %name, i64 %name.size)
  call void @shmalloc.crash.part(ptr %parts, i64 2, ptr @shmalloc.crash.plus, i64 4)
  call void @shmalloc.crash.hex(ptr %parts, i64 3, ptr %digits, i64 %offset)
  call void @shmalloc.crash.part(ptr %parts, i64 4, ptr @shmalloc.crash.at, i64 12)
  %address.at = getelementptr i8, ptr %info, i64 16
  %address = load i64, ptr %address.at
  %digits.2 = getelementptr i8, ptr %digits, i64 16
  call void @shmalloc.crash.hex(ptr %parts, i64 5, ptr %digits.2, i64 %address)
  call void @shmalloc.crash.part(ptr %parts, i64 6, ptr @shmalloc.crash.end, i64 1)
  %writev = load ptr, ptr @shmalloc.crash.calls
  %wrote = call i64 %writev(i32 2, ptr %parts, i32 7)
  br label %restore
restore:
  %signal64 = zext i32 %signal to i64
  %before = getelementptr [160 x i8], ptr @shmalloc.crash.before, i64 %signal64
  %sigaction = load ptr, ptr getelementptr (ptr, ptr @shmalloc.crash.calls, i64 1)
  %failed = call i32 %sigaction(i32 %signal, ptr %before, ptr null)
  %code.at = getelementptr i8, ptr %info, i64 8
  %code = load i32, ptr %code.at
  %sent = icmp sle i32 %code, 0 ; by a process: returning would not repeat it
  br i1 %sent, label %again, label %return
again:
  %raise = load ptr, ptr getelementptr (ptr, ptr @shmalloc.crash.calls, i64 2)
  %raised = call i32 %raise(i32 %signal)
  br label %return
return:
  ret void
}
"""
