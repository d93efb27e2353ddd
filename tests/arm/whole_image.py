"""All kernels of the allocator, compiled for aarch64 and linked: a minute of work, on any machine.

Not collected by itself: ``tox -e arm`` names this file.
"""

from __future__ import annotations

import struct
from collections import Counter

import pytest

import stress.crash.runner  # names the drivers of its schedules
import stress.explorer.searches  # and those of the explorer
from shmalloc.compiler import build, codegen, elf, relocate, symbols
from shmalloc.compiler.image import unpacked
from shmalloc.compiler.instances import Instance, symbol_of
from shmalloc.compiler.link import link
from shmalloc.compiler.words import RAM
from shmalloc.engine import plans
from stress.machine.native_control import CONTROL
from support import arm_code, machine_code
from support.machine_code import LSE

assert stress.crash.runner and stress.explorer.searches
LEAST = 400  # kernels
LIBCALLS = ("__atomic", "__sync", "__aarch64", "memset", "memcpy")


@pytest.fixture(scope="module")
def entries() -> list[Instance]:
    kernels = plans._of_modules(plans._allocator_modules(), plans.arena()[0])
    return [Instance(kernel, RAM, True) for kernel in kernels]


@pytest.fixture(scope="module")
def image(entries: list[Instance]) -> bytes:
    description, shared = unpacked(build.compile_image(entries, LSE))
    assert description["target"] == [LSE.triple, LSE.cpu]
    return shared


def test_every_kernel_is_in_it(entries: list[Instance], image: bytes) -> None:
    found = arm_code.functions(image)
    assert len(entries) > LEAST
    assert {symbol_of(*entry) for entry in entries} <= set(found)
    assert symbols.HANDLER in found


def test_every_call_reaches_the_beginning_of_a_function(image: bytes) -> None:
    found = arm_code.all_functions(image)
    starts = {function.address for function in found}
    targets = [target for function in found for target in arm_code.calls(function)]
    assert len(targets) > 1000 and set(targets) <= starts


def test_every_address_in_two_halves_lies_in_the_image(image: bytes) -> None:
    found, end = arm_code.all_functions(image), elf.mapped_bytes(image, "image")
    reached = [half for function in found for half in arm_code.halves(function)]
    assert len(reached) > 100
    assert all(0 < at and at + size <= end and at % max(size, 1) == 0 for at, size in reached)


def test_what_dlopen_repeats_points_into_the_image(image: bytes) -> None:
    table = [s for s in elf._read_sections(image) if s.name == ".rela.dyn"]
    end = elf.mapped_bytes(image, "image")
    for section in table:
        data = image[section.offset : section.offset + section.size]
        for at, kind, target in struct.iter_unpack("<QQq", data):
            assert kind == relocate.BY_MACHINE[elf.EM_AARCH64].relative
            assert at + 8 <= end and 0 <= target < end


def test_no_function_of_a_compiler_is_called(image: bytes) -> None:
    assert not [n for n in LIBCALLS if n.encode() in image]


@pytest.mark.parametrize("group", range(len(plans._groups)))
def test_the_scheduler_and_its_strategies_link(group: int) -> None:
    drivers = [Instance(driver, CONTROL, True) for driver in plans._groups[group]]
    data = codegen.object_code(build.module_text(drivers, LSE), LSE)
    found = arm_code.functions(link([data], "drivers"))
    assert {symbol_of(*driver) for driver in drivers} | {"fiber.swap", "rt.enter"} <= set(found)


def test_all_kinds_of_relocations_are_known_ones(entries: list[Instance]) -> None:
    text = build.module_text(entries[:20], machine_code.V1)
    file = elf.read_object(codegen.object_code(text, machine_code.V1), "object")
    found: Counter[int] = Counter()
    for section in file.sections:
        if section.kind == elf.SHT_RELA:
            found.update(row[1] & 0xFFFFFFFF for row in elf.RELA.iter_unpack(file.content(section)))
    assert found[283] > 20 and set(found) <= set(relocate.BY_MACHINE[elf.EM_AARCH64].kinds)
