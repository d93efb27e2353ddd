"""Compiled for aarch64 here, run by an emulator, compared with what kernels mean.

Not collected by itself: ``tox -e arm`` names this file. It needs qemu-user 8.2 or later in the
path, or named by SHMALLOC_QEMU_AARCH64. An emulator on x86 shows function, not Arm's weak order.
"""

from __future__ import annotations

import random
from pathlib import Path
from types import FunctionType

import pytest

from shmalloc.compiler.instances import Instance
from shmalloc.compiler.words import RAM
from shmalloc.dialect import is_kernel
from support import agreement, emulated, random_kernels, word_kernels
from support.emulated import Call, Program
from support.machine_code import LSE, LSE2, N1, V1
from support.register_programs import fault_program, fiber_program

pytestmark = pytest.mark.skipif(emulated.emulator() is None, reason="qemu-user is not installed")
MACHINES = {
    "lse": (LSE, "neoverse-n1"),
    "lse2": (LSE2, "neoverse-v1"),
    "n1": (N1, "neoverse-n1"),
    "v1": (V1, "neoverse-v1"),
}
PROGRAMS, ATTEMPTS = 150, 5
UNEQUAL = ("now", "relax")  # what differs from engine to engine, or gives nothing to compare


def compared(
    kernels: list[FunctionType], calls: list[Call], machine: str, folder: Path
) -> list[str]:
    """Where the emulated program and the interpreted engine differ."""
    target, cpu = MACHINES[machine]
    entries = [Instance(kernel, RAM, True) for kernel in kernels]
    found = Program(entries, calls, target).outcomes(folder, cpu)
    meant = agreement.engine_runs("interpreted", kernels)
    differences = []
    for call, (outcome, after) in zip(calls, found, strict=True):
        kernel = kernels[call.entry]
        wanted, left = meant[kernel](list(call.words), list(call.arguments))
        if not (agreement.same(outcome, wanted) and after == left):
            differences.append(f"{kernel.__name__}{call.arguments}: {outcome}, meant {wanted}")
    return differences


@pytest.mark.parametrize("machine", MACHINES)
def test_random_programs_mean_the_same_on_arm(
    machine: str, tmp_path: Path, rng: random.Random
) -> None:
    seed = rng.getrandbits(32)
    text = random_kernels.module_text(seed, PROGRAMS)
    module = agreement.load_module(tmp_path, f"on_arm_{machine}_{seed}", text)
    kernels = [getattr(module, f"program_{k}") for k in range(PROGRAMS)]
    calls = []
    for k, kernel in enumerate(kernels):
        takes = kernel.__code__.co_argcount - 1
        for attempt in range(ATTEMPTS):
            given = random_kernels.arguments_of(seed, k, takes, attempt)
            calls.append(Call(k, random_kernels.words_of(seed, k, attempt), given))
    assert compared(kernels, calls, machine, tmp_path) == []


@pytest.mark.parametrize("machine", MACHINES)
def test_every_word_means_the_same_on_arm(machine: str, tmp_path: Path, rng: random.Random) -> None:
    kernels = [
        kernel
        for name, kernel in vars(word_kernels).items()
        if is_kernel(kernel) and name.removeprefix("k_") not in UNEQUAL
    ]
    calls = []
    for k, kernel in enumerate(kernels):
        for _ in range(40):
            words = [rng.randrange(3) for _ in range(emulated.WORDS)]
            rest = [rng.randrange(3) for _ in range(kernel.__code__.co_argcount - 2)]
            index = rng.choice([rng.randrange(emulated.WORDS), rng.randrange(-20, 40), 1 << 62])
            calls.append(Call(k, words, [index, *rest][: kernel.__code__.co_argcount - 1]))
    assert compared(kernels, calls, machine, tmp_path) == []


def test_what_the_program_writes_is_what_the_kernel_gave(tmp_path: Path) -> None:
    words = list(range(emulated.WORDS))
    program = Program([Instance(word_kernels.k_getitem, RAM, True)], [Call(0, words, [3])], LSE)
    assert program.outcomes(tmp_path, "neoverse-n1") == [(("result", 3), words)]


# --- registers -----------------------------------------------------------------------------------
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("program", [fiber_program, fault_program])
def test_registers_outlive_a_switch_and_a_fault(program, machine: str, tmp_path: Path) -> None:
    target, cpu = MACHINES[machine]
    done = emulated.run(emulated.linked(program(), target), tmp_path, cpu)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("pair", ["x19, x20", "x27, x28", "d8, d9", "d12, d13", "d14, d15"])
@pytest.mark.parametrize("program", [fiber_program, fault_program])
def test_a_register_that_is_forgotten_is_noticed(program, pair: str, tmp_path: Path) -> None:
    done = emulated.run(emulated.linked(program(forgets=pair), LSE), tmp_path, "neoverse-n1")
    assert done.returncode != 0
