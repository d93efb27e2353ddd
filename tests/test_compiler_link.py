"""The linker and the loader: objects of LLVM become code that this process calls and can name."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import random
import shutil
import struct
import subprocess
import sys
import textwrap
from functools import cache
from pathlib import Path

import llvmlite.binding as llvm
import pytest

from shmalloc.compiler import elf, load, symbols
from shmalloc.compiler.link import LinkError, link

llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
X86 = ("x86_64-unknown-linux-gnu", "x86-64-v2", "+cx16")
ARM = ("aarch64-unknown-linux-gnu", "generic", "+lse")
MACHINE = os.uname().machine
HERE = ARM if MACHINE == "aarch64" else X86
ROOT = Path(__file__).resolve().parent.parent

FIRST = """
@counter = global i64 0
@fixed = constant [4 x i64] [i64 3, i64 5, i64 7, i64 9]
@pointers = global [2 x ptr] [ptr @first, ptr @counter]
@imports = global [2 x ptr] zeroinitializer
@hidden = internal global i64 100
@byte = internal global i8 0
@half = internal global i16 0
@single = internal global i32 0
@wide = internal global <2 x i64> zeroinitializer
declare i64 @second(i64)

define internal i64 @local(i64 %x) noinline nounwind {
  %h = load volatile i64, ptr @hidden
  %r = add i64 %h, %x
  ret i64 %r
}
define i64 @first(i64 %x) nounwind {
  %c = load volatile i64, ptr @counter
  %more = add i64 %c, 1
  store volatile i64 %more, ptr @counter
  %at = getelementptr [4 x i64], ptr @fixed, i64 0, i64 %x
  %value = load i64, ptr %at
  %other = call i64 @second(i64 %value)
  %r = call i64 @local(i64 %other)
  ret i64 %r
}
define void @widths() nounwind {
  store volatile i8 1, ptr @byte
  store volatile i16 2, ptr @half
  store volatile i32 3, ptr @single
  store volatile <2 x i64> <i64 4, i64 5>, ptr @wide
  ret void
}
define i64 @forward(i64 %x) nounwind {
  %r = tail call i64 @second(i64 %x)
  ret i64 %r
}
"""
SECOND = """
@counter = external global i64
define i64 @second(i64 %x) nounwind {
  %c = load volatile i64, ptr @counter
  %r = mul i64 %x, %c
  ret i64 %r
}
"""
SPIN = """
@stop = global i64 0
@started = global i64 0
define i64 @"shmalloc.kernels.buddy:spin"() nounwind noinline uwtable {
entry:
  store volatile i64 1, ptr @started
  br label %loop
loop:
  %s = load volatile i64, ptr @stop
  %c = icmp eq i64 %s, 0
  br i1 %c, label %loop, label %out
out:
  ret i64 %s
}
"""
LINES = """
define i64 @lined(i64 %x) nounwind !dbg !4 {
  %r = add i64 %x, 1, !dbg !5
  ret i64 %r, !dbg !5
}
!llvm.dbg.cu = !{!0}
!llvm.module.flags = !{!2, !3}
!0 = distinct !DICompileUnit(language: DW_LANG_C, file: !1, isOptimized: true,
  emissionKind: LineTablesOnly)
!1 = !DIFile(filename: "kernels.py", directory: "src")
!2 = !{i32 7, !"Dwarf Version", i32 5}
!3 = !{i32 2, !"Debug Info Version", i32 3}
!4 = distinct !DISubprogram(name: "lined", file: !1, line: 40, type: !6, scopeLine: 40,
  spFlags: DISPFlagDefinition, unit: !0)
!5 = !DILocation(line: 42, scope: !4)
!6 = !DISubroutineType(types: !7)
!7 = !{}
"""


@cache
def compiled(ir: str, target: tuple[str, str, str] = HERE, reloc: str = "pic") -> bytes:
    module = llvm.parse_assembly(ir)
    module.triple = target[0]
    module.verify()
    machine = llvm.Target.from_triple(target[0]).create_target_machine(
        cpu=target[1], features=target[2], opt=2, reloc=reloc, codemodel="small"
    )
    return bytes(machine.emit_object(module))


def loaded_of(*texts: str) -> load.Loaded:
    return load.load(link([compiled(ir) for ir in texts], "test.so"), "test")


def called(image: load.Loaded, name: str, *arguments: int) -> int:
    function = image.library[name]
    function.argtypes, function.restype = [ctypes.c_int64] * len(arguments), ctypes.c_int64
    return int(function(*arguments))


def word(image: load.Loaded, name: str) -> ctypes.c_int64:
    return ctypes.c_int64.from_address(image.address(name))


def section_of(image: bytes, name: str) -> elf.Section:
    return next(s for s in elf._read_sections(image) if s.name == name)


# --- linking ------------------------------------------------------------------------------------


def test_two_objects_call_each_other() -> None:
    image = loaded_of(FIRST, SECOND)
    assert called(image, "first", 2) == 107


def test_the_order_of_objects_does_not_matter() -> None:
    image = loaded_of(SECOND, FIRST)
    assert called(image, "first", 2) == 107


def test_a_counter_of_zeros_is_shared_by_both_objects() -> None:
    image = loaded_of(FIRST, SECOND)
    assert [called(image, "first", 0) for _ in range(3)] == [103, 106, 109]


def test_a_constant_table_is_read() -> None:
    image = loaded_of(FIRST, SECOND)
    word(image, "counter").value = 9
    assert called(image, "first", 3) == 190


def test_pointers_in_data_are_absolute_addresses() -> None:
    image = loaded_of(FIRST, SECOND)
    held = (ctypes.c_uint64 * 2).from_address(image.address("pointers"))
    assert list(held) == [image.address("first"), image.address("counter")]


def test_a_weak_definition_gives_way_to_a_strong_one() -> None:
    weak = "define weak i64 @f() { ret i64 1 }\ndefine i64 @g() { %r = call i64 @f() ret i64 %r }"
    assert called(loaded_of(weak, "define i64 @f() { ret i64 2 }"), "g") == 2


def test_a_table_of_addresses_serves_what_no_lea_can() -> None:
    ir = """
    declare i64 @f(i64)
    define i64 @g(i64 %x) nounwind nonlazybind {
      %r = call i64 @f(i64 %x) nonlazybind
      %s = add i64 %r, 1
      ret i64 %s
    }"""
    other = "define i64 @f(i64 %x) nonlazybind { ret i64 %x }"
    assert called(loaded_of(ir.replace("@f(i64)", "@f(i64) nonlazybind"), other), "g", 5) == 6


def test_no_segment_is_writable_and_executable() -> None:
    image = link([compiled(FIRST), compiled(SECOND)], "test.so")
    rows = [elf.PROGRAM.unpack_from(image, 64 + 56 * k) for k in range(5)]
    assert [row[1] for row in rows if row[0] == elf.PT_LOAD] == [4, 5, 6]


def test_the_stack_is_not_executable() -> None:
    image = link([compiled(FIRST), compiled(SECOND)], "test.so")
    rows = [elf.PROGRAM.unpack_from(image, 64 + 56 * k) for k in range(5)]
    assert [row[1] for row in rows if row[0] == elf.PT_GNU_STACK] == [6]


def test_every_function_is_listed_with_its_size() -> None:
    image = link([compiled(FIRST), compiled(SECOND)], "test.so")
    listed = elf.read_functions(image, "test")
    assert {name for _, size, name in listed if size} == {
        "local",
        "first",
        "widths",
        "forward",
        "second",
    }


def test_linking_again_gives_the_same_bytes() -> None:
    objects = [compiled(FIRST), compiled(SECOND)]
    assert link(objects, "test.so") == link(objects, "test.so")


@pytest.mark.skipif(not shutil.which("readelf"), reason="readelf is not installed")
@pytest.mark.parametrize("target", [X86, ARM], ids=["x86-64", "aarch64"])
def test_readelf_has_nothing_to_complain_of(target: tuple[str, str, str], tmp_path: Path) -> None:
    image = link([compiled(FIRST + LINES, target), compiled(SECOND, target)], "test.so")
    (tmp_path / "test.so").write_bytes(image)
    command = ["readelf", "-aW", "--debug-dump=info", str(tmp_path / "test.so")]
    assert subprocess.run(command, capture_output=True, text=True).stderr == ""


@pytest.mark.skipif(not shutil.which("gdb"), reason="gdb is not installed")
@pytest.mark.parametrize("target", [X86, ARM], ids=["x86-64", "aarch64"])
def test_a_debugger_finds_the_line_of_a_function(
    target: tuple[str, str, str], tmp_path: Path
) -> None:
    image = link(
        [
            compiled(SECOND.replace("external global i64", "global i64 0"), target),
            compiled(LINES, target),
        ],
        "test.so",
    )
    (tmp_path / "test.so").write_bytes(image)
    command = ["gdb", "-nx", "-batch", "-ex", "info line lined", str(tmp_path / "test.so")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    assert 'of "src/kernels.py" starts at address' in said and "<lined>" in said


# --- aarch64, by its instructions ---------------------------------------------------------------


@pytest.fixture(scope="module")
def arm() -> bytes:
    return link([compiled(FIRST, ARM), compiled(SECOND, ARM)], "test.so")


def instructions(image: bytes, name: str) -> list[tuple[int, int]]:
    """(address, instruction) of a function."""
    address, size, _ = next(f for f in elf.read_functions(image, "arm") if f[2] == name)
    text = section_of(image, ".text")
    at = text.offset + address - text.address
    words = struct.unpack_from(f"<{size // 4}I", image, at)
    return [(address + 4 * k, value) for k, value in enumerate(words)]


def branch_targets(image: bytes, name: str) -> list[int]:
    found = []
    for address, value in instructions(image, name):
        if value >> 26 & 0x1F == 5:  # b and bl
            distance = value & 0x3FFFFFF
            found.append(address + 4 * (distance - (distance >> 25 << 26)))
    return found


def accesses(image: bytes, name: str) -> set[int]:
    """Addresses that loads and stores with an adrp before them reach in a function."""
    pages, found = {}, set()
    for address, value in instructions(image, name):
        if value & 0x9F000000 == 0x90000000:  # adrp
            distance = (value >> 5 & 0x7FFFF) << 2 | value >> 29 & 3
            pages[value & 31] = (address >> 12) + distance - (distance >> 20 << 21) << 12
        elif value & 0x3B000000 == 0x39000000 and value >> 5 & 31 in pages:  # ldr, str
            vector = value >> 26 & 1 and value >> 23 & 1
            scale = 4 if vector else value >> 30
            found.add(pages[value >> 5 & 31] + ((value >> 10 & 0xFFF) << scale))
    return found


def addresses(image: bytes) -> dict[str, int]:
    return {s.name: s.value for s in elf._read_symbols(image, elf._read_sections(image))}


def test_aarch64_segments_lie_on_pages_of_64_kib(arm: bytes) -> None:
    rows = [elf.PROGRAM.unpack_from(arm, 64 + 56 * k) for k in range(5)]
    assert [row[3] >> 16 for row in rows if row[0] == elf.PT_LOAD] == [0, 1, 2]


def test_aarch64_calls_reach_local_and_foreign_functions(arm: bytes) -> None:
    at = addresses(arm)
    assert branch_targets(arm, "first") == [at["second"], at["local"]]


def test_aarch64_tail_calls_reach_a_foreign_function(arm: bytes) -> None:
    assert branch_targets(arm, "forward") == [addresses(arm)["second"]]


def test_aarch64_stores_of_all_widths_reach_their_data(arm: bytes) -> None:
    at = addresses(arm)
    wanted = {at["byte"], at["half"], at["single"], at["wide"]}
    assert wanted <= accesses(arm, "widths")


def test_aarch64_globals_are_reached_through_the_table_of_addresses(arm: bytes) -> None:
    rela = section_of(arm, ".rela.dyn")
    rows = struct.iter_unpack("<QQq", arm[rela.offset : rela.offset + rela.size])
    slots = {at: target for at, _, target in rows}
    reached = {slots[at] for at in accesses(arm, "first") if at in slots}
    assert reached == {addresses(arm)["counter"], addresses(arm)["fixed"]}


# --- what is refused ----------------------------------------------------------------------------


def refused(*objects: bytes) -> str:
    with pytest.raises(LinkError) as info:
        link(objects, "test.so")
    assert "\n" not in str(info.value)
    return str(info.value)


def test_an_undefined_name_is_named() -> None:
    assert refused(compiled(FIRST)) == "test.so: defined nowhere: second"


def test_a_name_defined_twice_is_named() -> None:
    second = SECOND.replace("external global i64", "global i64 0")
    assert refused(compiled(FIRST), compiled(second)) == "test.so: defined twice: counter"


def test_objects_of_two_machines_do_not_mix() -> None:
    assert "is for aarch64, object 1 for x86-64" in refused(
        compiled(FIRST, X86), compiled(SECOND, ARM)
    )


def test_an_object_of_a_foreign_machine_is_refused() -> None:
    data = bytearray(compiled(FIRST))
    struct.pack_into("<H", data, 18, 243)
    assert "machine 243" in refused(bytes(data))


def test_no_object_at_all_is_refused() -> None:
    assert "no object" in refused()


def test_code_that_is_not_position_independent_is_refused() -> None:
    ir = "@t = internal global i64 0\ndefine ptr @f() { store i64 1, ptr @t ret ptr @t }"
    assert "compile with reloc=pic" in refused(compiled(ir, X86, "static"))


def test_thread_local_data_is_refused() -> None:
    ir = "@t = thread_local global i64 3\ndefine ptr @f() { ret ptr @t }"
    assert "thread-local" in refused(compiled(ir))


def test_constructors_are_refused() -> None:
    ir = """
    define internal void @c() { ret void }
    @llvm.global_ctors = appending global [1 x { i32, ptr, ptr }]
      [{ i32, ptr, ptr } { i32 1, ptr @c, ptr null }]"""
    assert "constructors" in refused(compiled(ir))


def test_garbage_is_refused() -> None:
    assert "no ELF64" in refused(b"not an object at all")


def test_an_image_is_no_object() -> None:
    assert "no relocatable object" in refused(link([compiled(SPIN)], "test.so"))


def test_an_object_cut_anywhere_is_refused() -> None:
    data = compiled(FIRST)
    for length in range(0, len(data), 37):
        refused(data[:length], compiled(SECOND))


def test_damaged_bytes_raise_nothing_but_a_link_error(rng: random.Random) -> None:
    for _ in range(300):
        data = bytearray(compiled(FIRST + LINES))
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            link([bytes(data), compiled(SECOND)], "test.so")
        except LinkError as error:
            assert "\n" not in str(error)


# --- loading ------------------------------------------------------------------------------------


def test_a_missing_symbol_is_a_lookup_error_that_names_it() -> None:
    with pytest.raises(LookupError, match="exports no absent"):
        loaded_of(FIRST, SECOND).address("absent")


def test_a_local_function_has_no_address_by_name() -> None:
    with pytest.raises(LookupError):
        loaded_of(FIRST, SECOND).address("local")


def test_a_table_is_filled_with_addresses() -> None:
    image = loaded_of(FIRST, SECOND)
    image.fill("imports", [1 << 63, 7])
    assert list((ctypes.c_uint64 * 2).from_address(image.address("imports"))) == [1 << 63, 7]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "dladdr1"), reason="this libc has no dladdr1")
def test_a_table_takes_no_more_than_it_holds() -> None:
    with pytest.raises(ValueError, match="16 bytes, not 24"):
        loaded_of(FIRST, SECOND).fill("imports", [1, 2, 3])


def test_an_address_is_named_with_its_offset() -> None:
    image = loaded_of(FIRST, SECOND)
    assert load.symbol_at(image.address("first") + 3) == ("first", 3)


def test_a_local_function_is_named_by_its_address() -> None:
    image = loaded_of(FIRST, SECOND)
    start = next(
        f[0]
        for f in elf.read_functions(link([compiled(FIRST), compiled(SECOND)], "test.so"), "test")
        if f[2] == "local"
    )
    assert load.symbol_at(image.base + start) == ("local", 0)


def test_an_address_elsewhere_has_no_name() -> None:
    loaded_of(FIRST, SECOND)
    assert load.symbol_at(id(None)) is None


def test_the_same_image_twice_has_its_data_twice() -> None:
    one, two = loaded_of(FIRST, SECOND), loaded_of(FIRST, SECOND)
    called(one, "first", 0)
    assert (word(one, "counter").value, word(two, "counter").value) == (1, 0)


def test_an_image_under_a_descriptor_that_was_closed_is_its_own() -> None:
    one = loaded_of(FIRST, SECOND)
    os.close(one.descriptor)
    two = loaded_of("define i64 @only() { ret i64 5 }")
    assert called(two, "only") == 5


def test_names_are_not_read_from_a_foreign_descriptor() -> None:
    one = loaded_of(FIRST, SECOND)
    os.close(one.descriptor)
    loaded_of("define i64 @only() { ret i64 5 }")
    assert load.symbol_at(one.address("first")) is None


def test_a_load_keeps_one_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        loaded_of(FIRST, SECOND)
    assert len(os.listdir("/proc/self/fd")) == before + 5


def test_a_loaded_image_cannot_be_written() -> None:
    image = loaded_of(FIRST, SECOND)
    with pytest.raises(OSError) as info:
        os.pwrite(image.descriptor, b"x", 0)
    assert info.value.errno == errno.EPERM


def test_a_loaded_image_is_sealed_for_good() -> None:
    image = loaded_of(FIRST, SECOND)
    assert fcntl.fcntl(image.descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SEAL


def test_a_program_that_is_executed_inherits_no_descriptor() -> None:
    image = loaded_of(FIRST, SECOND)
    assert fcntl.fcntl(image.descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def test_a_forked_child_calls_on() -> None:
    image = loaded_of(FIRST, SECOND)
    child = os.fork()
    if child == 0:
        os._exit(called(image, "first", 2))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 107


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(LinkError, match="damaged"):
        load.load(b"nothing", "test")


def test_an_image_of_another_machine_is_refused() -> None:
    foreign = X86 if HERE == ARM else ARM
    image = link([compiled(SPIN, foreign)], "test.so")
    with pytest.raises(load.LoadError, match="cannot be loaded"):
        load.load(image, "test")


def test_loading_imports_no_compiler() -> None:
    code = "import sys, shmalloc.compiler.load; print('llvmlite' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.strip() == "False"


# --- files for perf -----------------------------------------------------------------------------


def test_an_image_is_loaded_from_a_directory_on_demand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(load.ENV_DEBUG_IMAGES, str(tmp_path / "images"))
    image = loaded_of(FIRST, SECOND)
    assert image.path in Path("/proc/self/maps").read_text()


def test_the_directory_of_images_is_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(load.ENV_DEBUG_IMAGES, str(tmp_path / "images"))
    loaded_of(FIRST, SECOND)
    assert (tmp_path / "images").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("below", ["", "images", "a/b"])
def test_a_directory_that_others_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    tmp_path.chmod(0o777)
    monkeypatch.setenv(load.ENV_DEBUG_IMAGES, str(tmp_path / below))
    with pytest.raises(load.LoadError, match="others may write to"):
        loaded_of(FIRST, SECOND)


def test_the_same_image_twice_from_a_directory_has_its_data_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(load.ENV_DEBUG_IMAGES, str(tmp_path / "images"))
    one, two = loaded_of(FIRST, SECOND), loaded_of(FIRST, SECOND)
    called(one, "first", 0)
    assert word(two, "counter").value == 0


# --- gdb, crashes -------------------------------------------------------------------------------


def started(body: str, image: bytes, tmp_path: Path) -> subprocess.Popen[str]:
    """A process that loads ``image`` as ``image`` and runs ``body``."""
    (tmp_path / "image").write_bytes(image)
    code = "import ctypes, os, sys\nfrom pathlib import Path\n"
    code += "from shmalloc.compiler import load, symbols\n"
    code += "image = load.load(Path(sys.argv[1]).read_bytes(), 'test')\n" + textwrap.dedent(body)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "image")],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.skipif(not shutil.which("gdb"), reason="gdb is not installed")
def test_gdb_names_the_kernel_and_its_caller(tmp_path: Path) -> None:
    body = "print('up', flush=True)\nimage.library['shmalloc.kernels.buddy:spin']()"
    with started(body, link([compiled(SPIN)], "test.so"), tmp_path) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "up\n"
            command = ["gdb", "-nx", "-batch", "-ex", "bt", "-p", str(process.pid)]
            run = subprocess.run(command, capture_output=True, text=True, timeout=120)
        finally:
            process.kill()
    if "ptrace" in run.stderr:
        pytest.skip("this machine forbids ptrace")
    assert "shmalloc.kernels.buddy:spin" in run.stdout and "ffi" in run.stdout


CRASH = """
define internal i64 @"kernel.buddy:merge"(ptr %at) nounwind noinline {
  %v = load volatile i64, ptr %at
  ret i64 %v
}
define i64 @entry(ptr %at) nounwind {
  %v = call i64 @"kernel.buddy:merge"(ptr %at)
  %w = add i64 %v, 1
  ret i64 %w
}
"""


def crashed(body: str, tmp_path: Path, handler: bool = True) -> tuple[int, str]:
    """(exit code, standard error) of a process that runs ``body`` over an image that can crash."""
    texts = [CRASH, symbols.crash_ir(MACHINE)] if handler else [CRASH]
    image = link([compiled(ir) for ir in texts], "test.so")
    with started(body, image, tmp_path) as process:
        _, said = process.communicate(timeout=60)
    return process.returncode, said


def test_a_crash_names_the_kernel(tmp_path: Path) -> None:
    body = "symbols.install(image)\nimage.library.entry(ctypes.c_void_p(0x10))"
    assert "SIGSEGV in kernel kernel.buddy:merge +0x0, address 0x10\n" in crashed(body, tmp_path)[1]


def test_a_reported_crash_still_ends_the_process(tmp_path: Path) -> None:
    body = "symbols.install(image)\nimage.library.entry(ctypes.c_void_p(0x10))"
    assert crashed(body, tmp_path)[0] == -11


def test_faulthandler_still_shows_the_python_stack(tmp_path: Path) -> None:
    body = """
    import faulthandler
    faulthandler.enable()
    symbols.install(image)
    image.library.entry(ctypes.c_void_p(0x10))"""
    said = crashed(body, tmp_path)[1]
    assert said.index("SIGSEGV in kernel") < said.index("Fatal Python error: Segmentation fault")


def test_a_handler_installed_twice_reports_once(tmp_path: Path) -> None:
    body = "symbols.install(image)\n" * 2 + "image.library.entry(ctypes.c_void_p(0x10))"
    assert crashed(body, tmp_path)[1].count("SIGSEGV") == 1


def test_a_crash_elsewhere_is_not_blamed_on_a_kernel(tmp_path: Path) -> None:
    body = "symbols.install(image)\nctypes.string_at(0x10)"
    assert crashed(body, tmp_path) == (-11, "")


def test_a_signal_that_was_sent_still_ends_the_process(tmp_path: Path) -> None:
    body = "symbols.install(image)\nos.kill(os.getpid(), 11)\nprint('alive')"
    assert crashed(body, tmp_path)[0] == -11


def test_an_image_without_a_handler_is_refused(tmp_path: Path) -> None:
    assert "LookupError" in crashed("symbols.install(image)", tmp_path, handler=False)[1]


def test_the_handler_is_known_for_two_machines() -> None:
    sizes = [
        len(link([compiled(symbols.crash_ir(name), target)], "c.so"))
        for name, target in (("x86_64", X86), ("aarch64", ARM))
    ]
    assert min(sizes) > 1000
