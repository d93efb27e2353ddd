"""The runtime of compiled kernels: the frame of a call, the end of a faulty one, sleeping.

Python calls a kernel through a wrapper (wrappers.py), which lays out a *frame* on its own stack, so
that calls of several threads share nothing. Kernels get its address as ``call``::

    0  SP        stack pointer to go back to at a fault
    1  FAULT     what went wrong, 0: nothing, LISTENER: a listener left an exception
    2  INDEX     the word at stake       3  SITE   kernel number << 16 | line in it
    4  HELD      1 where the interpreter's lock is held
    5  PLACE     address of the memory's place    6  CODE   the kernel's machine code
    7  COUNT     arguments given
    8  RESULTS   8 words: results behind the first
    16 ARGUMENTS 16 words

More arguments or results make the frame longer: results overwrite arguments, which the kernel has
in registers by then.

A *place* belongs to one memory of this process, for as long as that lives::

    0  BASE      address of word 0       1  WORDS  how many, 0 once it is closed
    2  TIMESPEC  2 words: how long one futex sleep lasts
    4  TICKS     calls of ``notice``     5  RUNNING  calls that are in a kernel now; 1 << 32 more
                                                     if one of them runs alone (wrappers.py)
    6  EXTRA     2 words of the kind of memory      8  WANTED  1: a call waits to run alone

``rt.enter`` saves the registers that a function must keep and calls; a fault restores them and
returns from ``rt.enter``, as if the call had ended. Nothing in between needs a cleanup: kernels own
no memory but their stack. A lock that the kernel holds in the segment stays locked, as if the
process had been killed there.

``wait`` and ``give_way`` let other Python threads run meanwhile, if the caller holds the
interpreter's lock.
"""

from __future__ import annotations

from shmalloc.compiler import arm
from shmalloc.compiler.code import Code
from shmalloc.compiler.kinds import Registers

SP, FAULT, INDEX, SITE, HELD, PLACE, CODE, COUNT, RESULTS, ARGUMENTS = 0, 1, 2, 3, 4, 5, 6, 7, 8, 16
FRAME_WORDS = 32
PLACE_BASE, PLACE_WORDS, TIMESPEC, TICKS, RUNNING, EXTRA, WANTED = 0, 1, 2, 4, 5, 6, 8
PLACE_SIZE = 10

WRONG_COUNT = -1  # in FAULT: COUNT says how many arguments there were
LISTENER = -2  # in FAULT: an exception waits to be raised, see notice.py
CROWDED = -3  # in FAULT: the kernel was not entered, as another call runs alone
A_CALL, ALONE = 1, (1 << 32) + 1  # what a call adds to RUNNING
OUTSIDE, ODD_PAIR, DIVISION, SHIFT, STEP = 1, 2, 3, 4, 5
EXPECTATION = 6  # INDEX is its code
CHOICE = 7
NO_BARRIER = 8  # the system refused a heavy fence
FAULTS = {
    OUTSIDE: "outside",
    ODD_PAIR: "odd pair",
    DIVISION: "division",
    SHIFT: "shift",
    STEP: "step",
    EXPECTATION: "expectation",
    CHOICE: "choice",
    NO_BARRIER: "membarrier refused",
}

FAULT_NUMBERS = {name: number for number, name in FAULTS.items()}

# Filled by the loader (load.py): what an image needs from its process, by address.
IMPORTS = (
    "syscall", "sched_yield", "notice", "PyLong_AsLongLong", "PyLong_FromLongLong",
    "PyErr_Occurred", "PyEval_SaveThread", "PyEval_RestoreThread", "PyBool_FromLong",
    "PyTuple_New", "PyTuple_SetItem", "PyObject_CallFunctionObjArgs", "Py_IncRef", "Py_DecRef",
    "handler", "None", "getpid", "kill", "nanosleep", "PyGILState_Ensure", "PyGILState_Release",
    "PyErr_Fetch", "PyErr_NormalizeException", "PyException_SetTraceback", "PyDict_SetItem", "kept",
)  # fmt: skip
FUTEX = {"x86_64": 202, "aarch64": 98}
MEMBARRIER = {"x86_64": 324, "aarch64": 283}
GLOBAL_EXPEDITED = 1 << 1  # a command of membarrier(2)
NOTICE_EVERY = 256  # calls of ``notice``, each behind a yield of the processor


def fault(code: Code, memory: Registers, what: int, index: str) -> None:
    """End the call: the frame says what happened and where. Does not return."""
    given = f"ptr {memory['call']}, i64 {what}, i64 {index}, i64 {code.site()}"
    code.do(f"call void @rt.fault({given})")
    code.end("unreachable")


def imported(name: str) -> str:
    """IR that loads the address of an imported function."""
    at = f"getelementptr (ptr, ptr @imports, i64 {IMPORTS.index(name)})"
    return f"load ptr, ptr {at}, align 8, !invariant.load !1"


_X86_ENTER = """pushq %rbp
pushq %rbx
pushq %r12
pushq %r13
pushq %r14
pushq %r15
subq $$8, %rsp
movq %rsp, (%rsi)
movq %rdi, %rax
movq %rsi, %rdi
callq *%rax
"""
_X86_LEAVE = """addq $$8, %rsp
popq %r15
popq %r14
popq %r13
popq %r12
popq %rbx
popq %rbp
retq
"""
_ARM_SAVED = tuple(
    (f"{kind}{first}", f"{kind}{first + 1}", offset)
    for kind, first, offset in (
        ("x", 19, 0),
        ("x", 21, 16),
        ("x", 23, 32),
        ("x", 25, 48),
        ("x", 27, 64),
        ("x", 29, 80),
        ("d", 8, 96),
        ("d", 10, 112),
        ("d", 12, 128),
        ("d", 14, 144),
    )
)
_ARM_ENTER = (
    "sub sp, sp, #160\n"
    + "".join(f"stp {a}, {b}, [sp, #{at}]\n" for a, b, at in _ARM_SAVED)
    + "mov x9, sp\nstr x9, [x1]\nmov x9, x0\nmov x0, x1\nblr x9\n"
)
_ARM_LEAVE = (
    "".join(f"ldp {a}, {b}, [sp, #{at}]\n" for a, b, at in _ARM_SAVED) + "add sp, sp, #160\nret\n"
)
_ENTER = {"x86_64": _X86_ENTER + _X86_LEAVE, "aarch64": _ARM_ENTER + _ARM_LEAVE}
_BACK = {
    "x86_64": "movq (%rdi), %rsp\nxorl %eax, %eax\n" + _X86_LEAVE,
    "aarch64": "ldr x9, [x0]\nmov sp, x9\nmov x0, #0\n" + _ARM_LEAVE,
}


def assembly(text: str) -> str:
    """Inline assembly as IR; it may read and write anything."""
    escaped = text.strip().replace("\n", "\\0A").replace('"', '\\"')
    return f'call void asm sideeffect "{escaped}", "~{{memory}}"()'


def naked(target: str, head: str, text: str, linkage: str = "internal") -> str:
    """An IR function that is nothing but the assembly ``text``.

    For aarch64 the text becomes words in front of the body, which LLVM writes as they are (arm.py
    says why). The body is empty assembly, which needs no assembler, but says that memory changes.
    """
    attributes, body = "naked noinline nounwind", assembly(text)
    if target == "aarch64":
        words = arm.assembled(text)
        values = ", ".join(f"i32 {word}" for word in words)
        attributes += f" align 4 prologue [{len(words)} x i32] [{values}]"
        body = assembly("")
    return f"define {linkage} {head} {attributes} {{\n  {body}\n  unreachable\n}}\n"


def declarations(target: str) -> str:
    """What every module declares or defines for itself: intrinsics, metadata."""
    pause = {
        "x86_64": "declare void @llvm.x86.sse2.pause()",
        "aarch64": "declare void @llvm.aarch64.hint(i32)",
    }[target]
    return f"""{pause}
declare i64 @llvm.readcyclecounter()
declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)
declare i64 @llvm.abs.i64(i64, i1)
declare void @llvm.trap()
"""


def shared_declarations() -> str:
    """The runtime as a module sees it that does not hold it."""
    return f"""@imports = external hidden global [{len(IMPORTS)} x ptr], align 16
declare hidden i64 @rt.enter(ptr, ptr)
declare hidden void @rt.fault(ptr, i64, i64, i64) cold noreturn nounwind
declare hidden void @rt.wait(ptr, ptr, i64, i64) nounwind
declare hidden void @rt.wake(ptr, ptr, i64, i64) nounwind
declare hidden void @rt.notice(ptr, ptr, i64) nounwind
declare hidden void @rt.give_way(ptr) nounwind
declare hidden i64 @rt.heavy_fence() nounwind
"""


def definitions(target: str) -> str:
    """The runtime itself, once in each image."""
    enter = naked(target, "i64 @rt.enter(ptr %thunk, ptr %frame)", _ENTER[target], "hidden")
    back = naked(target, "void @rt.back(ptr %frame)", _BACK[target])
    fields = "".join(
        _field("frame", at, name)
        for at, name in ((FAULT, "what"), (INDEX, "index"), (SITE, "site"))
    )
    return f"""@imports = hidden global [{len(IMPORTS)} x ptr] zeroinitializer, align 16
@shm.imports = alias [{len(IMPORTS)} x ptr], ptr @imports
{enter}{back}
{_function("void @rt.fault(ptr %frame, i64 %what, i64 %index, i64 %site) cold noreturn")} {{
{fields}  call void @rt.back(ptr %frame)
  unreachable
}}
{_sleeping(target)}"""


def _function(head: str) -> str:
    """The head of a runtime function, which is never inlined."""
    return f"define hidden {head} noinline nounwind"


def _field(base: str, at: int, value: str) -> str:
    pointer = f"%{base}.{at}"
    return (
        f"  {pointer} = getelementptr i64, ptr %{base}, i64 {at}\n"
        f"  store i64 %{value}, ptr {pointer}, align 8\n"
    )


def _without_lock(name: str, call: str) -> str:
    """``call`` with the interpreter's lock released meanwhile, if it is held."""
    return f"""  %at.{name} = getelementptr i64, ptr %frame, i64 {HELD}
  %held.{name} = load i64, ptr %at.{name}, align 8
  %is.{name} = icmp ne i64 %held.{name}, 0
  br i1 %is.{name}, label %save.{name}, label %call.{name}
save.{name}:
  %fs.{name} = {imported("PyEval_SaveThread")}
  %state.{name} = call ptr %fs.{name}()
  br label %call.{name}
call.{name}:
  %kept.{name} = phi ptr [ null, %entry ], [ %state.{name}, %save.{name} ]
{call}
  br i1 %is.{name}, label %take.{name}, label %go.{name}
take.{name}:
  %fr.{name} = {imported("PyEval_RestoreThread")}
  call void %fr.{name}(ptr %kept.{name})
  br label %go.{name}
go.{name}:
"""


def _called(name: str, given: str, result: str = "") -> str:
    """A call of the function ``name`` of the interpreter."""
    variable = "%fn." + name
    to = f"{result} = call ptr" if result else "call void"
    return f"  {variable} = {imported(name)}\n  {to} {variable}({given})\n"


def _telling() -> str:
    """Call Python's ``notice`` (notice.py), and keep what it raises.

    Not by a callback of ctypes: that drops an exception, with a line on standard error. A signal
    ends the sleep, and the first thing that the interpreter does in ``notice`` is to run the
    handler: before any ``try`` of it, so it is here that Ctrl-C is caught.
    """
    from_int = imported("PyLong_FromLongLong")
    drops = "".join(f"  call void %drop(ptr {name})\n" for name in ("%told", "%number", "%key"))
    error = "ptr %type.at, ptr %value.at, ptr %trace.at"
    loads = "".join(
        f"  %{at} = load ptr, ptr %{at}.at, align 8\n" for at in ("type", "value", "trace")
    )
    return f"""{_function("void @rt.tell(ptr %frame, i64 %i)")} {{
  %type.at = alloca ptr, align 8
  %value.at = alloca ptr, align 8
  %trace.at = alloca ptr, align 8
  %fn.ensure = {imported("PyGILState_Ensure")}
  %state = call i32 %fn.ensure()
  %fn.int = {from_int}
  %address = ptrtoint ptr %frame to i64
  %key = call ptr %fn.int(i64 %address)
  %number = call ptr %fn.int(i64 %i)
  %notice = {imported("notice")}
  %fn.call = {imported("PyObject_CallFunctionObjArgs")}
  %told = call ptr (ptr, ...) %fn.call(ptr %notice, ptr %key, ptr %number, ptr null)
  %raised = icmp eq ptr %told, null
  %drop = {imported("Py_DecRef")}
  br i1 %raised, label %keep, label %end
keep:
{_called("PyErr_Fetch", error)}{_called("PyErr_NormalizeException", error)}{loads}\
  %fn.trace = {imported("PyException_SetTraceback")}
  %has.trace = icmp ne ptr %trace, null
  br i1 %has.trace, label %trace.it, label %kept.it
trace.it:
  %traced = call i32 %fn.trace(ptr %value, ptr %trace)
  br label %kept.it
kept.it:
  %kept = {imported("kept")}
  %fn.set = {imported("PyDict_SetItem")}
  %set = call i32 %fn.set(ptr %kept, ptr %key, ptr %value)
  %what = add i64 0, {LISTENER}
{_field("frame", FAULT, "what")}  call void %drop(ptr %type)
  call void %drop(ptr %value)
  call void %drop(ptr %trace)
  br label %end
end:
{drops}  %fn.release = {imported("PyGILState_Release")}
  call void %fn.release(i32 %state)
  ret void
}}
"""


def _sleeping(target: str) -> str:
    futex = FUTEX[target]
    sleep = (
        f"  %f = {imported('syscall')}\n"
        f"  %r = call i64 (i64, ...) %f(i64 {futex}, ptr %word, i64 0, i64 %low, ptr %time, i64 0,"
        " i64 0)"
    )
    yield_ = f"  %f = {imported('sched_yield')}\n  %r = call i32 %f()"
    place = (
        f"  %pp = getelementptr i64, ptr %frame, i64 {PLACE}\n  %p = load ptr, ptr %pp, align 8\n"
    )
    return f"""{_telling()}{_function("void @rt.wait(ptr %frame, ptr %word, i64 %i, i64 %old)")} {{
entry:
{place}  %time = getelementptr i64, ptr %p, i64 {TIMESPEC}
  %low = and i64 %old, 4294967295
{_without_lock("w", sleep)}  %failed = icmp ne i64 %r, 0
  br i1 %failed, label %look, label %done
look:
  %now = load atomic i64, ptr %word monotonic, align 8
  %same = icmp eq i64 %now, %old
  br i1 %same, label %tell, label %done
tell:
  call void @rt.tell(ptr %frame, i64 %i)
  br label %done
done:
  ret void
}}
define hidden void @rt.wake(ptr %frame, ptr %word, i64 %i, i64 %count) noinline nounwind {{
  %f = {imported("syscall")}
  %r = call i64 (i64, ...) %f(i64 {futex}, ptr %word, i64 1, i64 %count, i64 0, i64 0, i64 0)
  ret void
}}
define hidden i64 @rt.heavy_fence() noinline nounwind {{
  %f = {imported("syscall")}
  %r = call i64 (i64, ...) %f(i64 {MEMBARRIER[target]}, i64 {GLOBAL_EXPEDITED}, i64 0, i64 0)
  ret i64 %r
}}
define hidden void @rt.give_way(ptr %frame) noinline nounwind {{
entry:
{_without_lock("y", yield_)}  ret void
}}
define hidden void @rt.notice(ptr %frame, ptr %word, i64 %i) noinline nounwind {{
{place}  %t = getelementptr i64, ptr %p, i64 {TICKS}
  %c = load i64, ptr %t, align 8
  %c1 = add i64 %c, 1
  store i64 %c1, ptr %t, align 8
  %m = and i64 %c1, {NOTICE_EVERY - 1}
  %z = icmp eq i64 %m, 0
  br i1 %z, label %tell, label %done
tell:
  call void @rt.tell(ptr %frame, i64 %i)
  br label %done
done:
  ret void
}}
"""
