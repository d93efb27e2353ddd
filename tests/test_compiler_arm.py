"""Code for aarch64, made on any machine: our own assembly, and images of kernels, linked."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from shmalloc.compiler import arm, build, codegen, elf, relocate, runtime
from shmalloc.compiler.instances import Instance
from shmalloc.compiler.kinds import Kind
from shmalloc.compiler.link import link
from shmalloc.compiler.words import RAM
from shmalloc.engine import plans
from shmalloc.errors import EngineError
from stress.jitter.native import JITTER
from stress.machine import fibers
from stress.machine.native_checks import TRACKED, WATCHED
from stress.machine.native_memory import MODEL
from support import arm_code
from support.machine_code import LSE, V1, code_of

PIECES = {
    "rt.enter": runtime._ENTER["aarch64"],
    "rt.back": runtime._BACK["aarch64"],
    "fiber.swap": fibers._SWAPS["aarch64"],
    "fiber.trampoline": fibers._TRAMPOLINES["aarch64"],
}
# By hand from the Arm Architecture Reference Manual, bit for bit.
KNOWN = {
    "ret": 0xD65F03C0, "blr x9": 0xD63F0120, "blr x20": 0xD63F0280, "brk #1": 0xD4200020,
    "sub sp, sp, #160": 0xD10283FF, "add sp, sp, #160": 0x910283FF, "mov x9, sp": 0x910003E9,
    "mov sp, x9": 0x9100013F, "mov sp, x1": 0x9100003F, "mov x0, x19": 0xAA1303E0,
    "mov x9, x0": 0xAA0003E9, "mov x0, #0": 0xD2800000, "str x9, [x0]": 0xF9000009,
    "str x9, [x1]": 0xF9000029, "ldr x9, [x0]": 0xF9400009, "stp x19, x20, [sp, #0]": 0xA90053F3,
    "stp x29, x30, [sp, #80]": 0xA9057BFD, "ldp x21, x22, [sp, #16]": 0xA9415BF5,
    "stp d8, d9, [sp, #96]": 0x6D0627E8, "ldp d14, d15, [sp, #144]": 0x6D493FEE,
}  # fmt: skip


# --- our own assembly ----------------------------------------------------------------------------
@pytest.mark.parametrize("line", KNOWN)
def test_an_instruction_has_the_word_of_the_manual(line: str):
    assert arm.word_of(line) == KNOWN[line]


def by_gnu(text: str, folder: Path) -> list[int]:
    (folder / "text.s").write_text(text + "\n")
    at = folder / "text.o"
    subprocess.run(["aarch64-linux-gnu-as", "-o", at, folder / "text.s"], check=True)
    data = at.read_bytes()
    section = next(s for s in elf.read_object(data, "text.o").sections if s.name == ".text")
    code = data[section.offset : section.offset + section.size]
    return [int.from_bytes(code[k : k + 4], "little") for k in range(0, len(code), 4)]


def by_llvm(text: str, folder: Path) -> list[int]:
    command = ["llvm-mc", "-triple=aarch64", "-show-encoding"]
    said = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    codes = [line.partition("encoding: [")[2] for line in said.splitlines() if "encoding" in line]
    octets = [[int(byte, 16) for byte in code.rstrip("]").split(",")] for code in codes]
    return [int.from_bytes(bytes(word), "little") for word in octets]


@pytest.mark.parametrize(
    ("assembler", "program"), [(by_gnu, "aarch64-linux-gnu-as"), (by_llvm, "llvm-mc")]
)
def test_an_assembler_makes_the_same_words(assembler, program: str, tmp_path: Path):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    for text in (*PIECES.values(), *KNOWN):
        assert assembler(text.strip(), tmp_path) == arm.assembled(text), text


@pytest.mark.parametrize(
    "line",
    [
        "ldp x19, x20, [sp, #4]",
        "ldp x19, x20, [sp, #512]",
        "stp x31, x0, [sp, #0]",
        "add sp, sp, #4096",
        "mov x0, #65536",
        "svc #0",
        "ret x3",
        "",
        "mov x0, sp, #1",
    ],
)
def test_what_cannot_be_encoded_is_refused(line: str):
    with pytest.raises(EngineError, match="aarch64"):
        arm.word_of(line)


def registers(text: str, name: str) -> list[str]:
    lines = (line for line in text.splitlines() if line.startswith(name))
    return sorted(line.partition(" ")[2] for line in lines)


@pytest.mark.parametrize("piece", ["rt.enter", "fiber.swap"])
def test_what_is_saved_is_restored_and_that_is_what_a_function_must_keep(piece: str):
    saved = registers(PIECES[piece], "stp")
    assert saved == registers(PIECES[piece], "ldp") == registers(PIECES["rt.back"], "ldp")
    names = {name for pair in saved for name in pair.split(", ")[:2]}
    assert names == {f"x{n}" for n in range(19, 31)} | {f"d{n}" for n in range(8, 16)}


SWAPPED = """
define i64 @changed(ptr %cell, ptr %slot) nounwind {
  store i64 1, ptr %cell
  call void @fiber.swap(ptr %slot, i64 0)
  %r = load i64, ptr %cell
  ret i64 %r
}
"""


def test_llvm_knows_that_the_other_stack_may_change_memory():
    """The words in front of a function say nothing to LLVM: its body must."""

    def loads(ir: str) -> int:
        code = code_of(codegen.assembly_code(ir, LSE), "changed")
        return sum(line.code.startswith("ldr x0, [x") for line in code)

    swap, effects = fibers.swap_text("aarch64"), runtime.assembly("")
    assert effects in swap
    assert loads(swap + SWAPPED) == 1 and loads(swap.replace(effects, "") + SWAPPED) == 0


# --- images --------------------------------------------------------------------------------------
def objects_of(kind: Kind, module: str, target: codegen.Target = LSE) -> bytes:
    """Object code of the kernels of a module of the allocator."""
    home = f"{plans.ALLOCATOR}.{module}"
    known = plans._of_modules([home], plans.arena()[0])
    entries = [Instance(f, kind, True) for f in known if f.__module__ == home]
    assert len(entries) > 5
    return codegen.object_code(build.module_text(entries, target), target)


@pytest.fixture(scope="module")
def buddy() -> bytes:
    return objects_of(RAM, "buddy")


def kinds_of(data: bytes) -> Counter[int]:
    """Relocations of the sections that are mapped."""
    file = elf.read_object(data, "object")
    found: Counter[int] = Counter()
    for section in file.sections:
        if section.kind == elf.SHT_RELA and file.sections[section.info].flags & elf.SHF_ALLOC:
            rows = elf.RELA.iter_unpack(file.content(section))
            found.update(info & 0xFFFFFFFF for _, info, _ in rows)
    return found


def test_an_image_has_calls_and_addresses_in_two_halves(buddy: bytes):
    assert {275, 277, 283, 286} <= set(kinds_of(buddy))  # adrp, add, bl, ldr
    assert set(kinds_of(buddy)) <= set(relocate.BY_MACHINE[elf.EM_AARCH64].kinds)


@pytest.mark.parametrize("kind", [MODEL, TRACKED, WATCHED, JITTER], ids=repr)
def test_every_kind_of_memory_links(kind: Kind):
    found = arm_code.functions(link([objects_of(kind, "lock", V1)], "test.so"))
    assert sum(name.startswith(f"{kind.name}/") for name in found) > 5


def test_every_call_reaches_the_beginning_of_a_function(buddy: bytes):
    found = arm_code.all_functions(link([buddy], "test.so"))
    starts = {function.address for function in found}
    targets = [target for function in found for target in arm_code.calls(function)]
    assert len(targets) > 100 and set(targets) <= starts


def test_every_address_in_two_halves_lies_in_the_image(buddy: bytes):
    image = link([buddy], "test.so")
    found = arm_code.all_functions(image)
    reached = [half for function in found for half in arm_code.halves(function)]
    end = elf.mapped_bytes(image, "test.so")
    assert len(reached) > 20
    assert all(0 < at and at + size <= end and at % max(size, 1) == 0 for at, size in reached)


def test_sleeping_code_reads_the_table_of_imports(buddy: bytes):
    image = link([buddy], "test.so")
    reached = {at for at, _ in arm_code.halves(arm_code.functions(image)["rt.wake"])}
    imports = arm_code.addresses(image)["imports"]
    assert imports + 8 * runtime.IMPORTS.index("syscall") in reached


def test_our_own_assembly_is_in_the_image_as_it_is():
    image = link([objects_of(MODEL, "lock")], "test.so")
    found = arm_code.functions(image)
    for name in ("rt.enter", "rt.back", "fiber.swap"):
        assert list(found[name].words) == arm.assembled(PIECES[name])
