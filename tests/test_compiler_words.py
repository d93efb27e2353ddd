"""Every word is the instruction that it claims to be, on x86-64 and aarch64, on any machine.

One kernel for each word is compiled for each processor, and what it touches memory with is compared
as a whole: nothing may be missing, and nothing else be there. Each claim has a control: a kernel of
which it must not hold.
"""

from __future__ import annotations

import re
from functools import cache
from types import FunctionType

import pytest

from shmalloc import words as words_module
from shmalloc.compiler import codegen
from shmalloc.compiler.codegen import Target
from shmalloc.compiler.instances import symbol_of
from shmalloc.compiler.words import RAM
from shmalloc.dialect import is_kernel
from stress.jitter.native import STATE
from support import machine_code, word_kernels
from support.machine_code import ARM, LSE, X86, X86_V2, Line, code_of, guards, kernel_code, touched

TARGETS = {**X86, **ARM}
HOST = codegen.host()
KERNELS = {n.removeprefix("k_"): k for n, k in vars(word_kernels).items() if is_kernel(k)}
PAIRS = ("cas2", "load2")
CALLING = ("wait", "wake", "notice")
ADDRESSED = (
    "getitem", "setitem", "fixed", "load", "load_relaxed", "store", "store_relaxed", "mark", "cas",
    "exchange", "fetch_add", "fetch_or", "fetch_and", *PAIRS, *CALLING,
)  # fmt: skip

# What a word touches memory with: M is a word of memory, r a register.
CALLS = {word: [f"call rt.{word}"] for word in (*CALLING, "give_way", "heavy_fence")}
CALLS["light_fence"] = []
X86_WORDS: dict[str, list[str]] = {
    "getitem": ["movq M, r"], "fixed": ["movq M, r"], "load": ["movq M, r"],
    "load_relaxed": ["movq M, r"], "setitem": ["movq r, M"], "store": ["movq r, M"],
    "store_relaxed": ["movq r, M"], "mark": ["incq M"], "cas": ["lock cmpxchgq r, M"],
    "exchange": ["xchgq r, M"], "fetch_add": ["lock xaddq r, M"],
    "fetch_or": ["movq M, r", "lock cmpxchgq r, M"],
    "fetch_and": ["movq M, r", "lock cmpxchgq r, M"], "cas2": ["lock cmpxchg16b M"],
    "load2": ["lock cmpxchg16b M"], "fence": ["fence"], "relax": ["pause"],
    "now": ["rdtsc"], "expect": [], **CALLS,
}  # fmt: skip
ARM_WORDS: dict[str, list[str]] = {
    "getitem": ["ldr r, M"], "fixed": ["ldr r, M"], "load": ["ldar r, M"],
    "load_relaxed": ["ldr r, M"], "setitem": ["str r, M"], "store": ["stlr r, M"],
    "store_relaxed": ["str r, M"], "mark": ["ldr r, M", "str r, M"], "cas": ["casal r, r, M"],
    "exchange": ["swpal r, r, M"], "fetch_add": ["ldaddal r, r, M"],
    "fetch_or": ["ldsetal r, r, M"], "fetch_and": ["ldclral r, r, M"],
    "cas2": ["caspal r, r, r, r, M"], "load2": ["caspa r, r, r, r, M"], "fence": ["dmb ish"],
    "relax": ["yield"], "now": ["mrs r, CNTVCT_EL0"], "expect": [], **CALLS,
}  # fmt: skip
ONE_ACCESS = {"load2": ["ldp r, r, M", "dmb ishld"]}  # since LSE2
NEWER_LOAD = {"load": ["ldapr r, M"]}  # acquire without the order of ldar against stlr
EXPECTED = {
    "v2": X86_WORDS,
    "v3": X86_WORDS | {"load2": ["vmovdqa M, r"]},
    "lse": ARM_WORDS,
    "lse2": ARM_WORDS | ONE_ACCESS,
    "n1": ARM_WORDS | NEWER_LOAD,
    "v1": ARM_WORDS | NEWER_LOAD | ONE_ACCESS,
}


def is_word(value: object) -> bool:
    return isinstance(value, FunctionType) and value.__module__ == words_module.__name__


@cache
def text_for(target: Target) -> str:
    return machine_code.assembly(KERNELS.values(), target)


def code_for(word: str, processor: str) -> list[Line]:
    return code_of(text_for(TARGETS[processor]), symbol_of(KERNELS[word], RAM))


def test_every_word_has_a_kernel_and_an_expectation():
    named = {name for name, value in vars(words_module).items() if is_word(value)}
    meant = set(RAM.meanings)
    assert meant == named | {"getitem", "setitem"} == set(X86_WORDS) == set(ARM_WORDS)
    assert meant <= KERNELS.keys()


@pytest.mark.parametrize("processor", TARGETS)
@pytest.mark.parametrize("word", X86_WORDS)
def test_a_word_is_its_instruction_and_nothing_else(word: str, processor: str):
    assert touched(code_for(word, processor)) == EXPECTED[processor][word]


@pytest.mark.parametrize(
    ("word", "impostor", "processors"),
    [
        ("load2", "two_loads", TARGETS),
        ("load2", "two_relaxed_loads", TARGETS),
        ("cas2", "two_swaps", TARGETS),
        ("load", "load_relaxed", ARM),
        ("load", "store", TARGETS),
        ("store", "store_relaxed", ARM),
        ("store", "exchange", TARGETS),
        ("fence", "relax", TARGETS),
        ("fence", "light_fence", TARGETS),
        ("heavy_fence", "fence", TARGETS),
        ("fetch_or", "fetch_add", TARGETS),
        ("fetch_and", "fetch_or", ARM),
        ("cas", "cas2", TARGETS),
        ("wait", "wake", TARGETS),
        ("mark", "fetch_add", TARGETS),
    ],
)
def test_a_wrong_word_is_told_from_the_right_one(
    word: str, impostor: str, processors: dict[str, Target]
):
    for processor in processors:
        assert touched(code_for(impostor, processor)) != EXPECTED[processor][word]


def test_what_a_prologue_does_is_not_taken_for_an_access():
    """Once, ``ldp`` of saved registers made every kernel look like an atomic read of a pair."""
    saved = [
        "stp x29, x30, [sp, #-16]!",
        "pushq %rbx",
        "movq 16(%rsp), %rax",
        "ldp x29, x30, [sp], #16",
        "ret",
    ]
    assert touched(Line("", code) for code in saved) == []


@pytest.mark.parametrize("word", X86_WORDS)
def test_this_processor_has_the_same_words(word: str):
    processors = X86 if HOST.architecture == "x86_64" else ARM
    found = touched(code_of(text_for(HOST), symbol_of(KERNELS[word], RAM)))
    assert found in [EXPECTED[processor][word] for processor in processors]


# --- checks and faults ---------------------------------------------------------------------------
def checks_before_access(code: list[Line]) -> int:
    """How many branches to a fault there are before anything is touched."""
    return sum(1 for k in guards(code) if k < machine_code.first_access(code))


@pytest.mark.parametrize("processor", TARGETS)
@pytest.mark.parametrize("word", ADDRESSED)
def test_the_index_is_checked_before_the_access(word: str, processor: str):
    code = code_for(word, processor)
    assert checks_before_access(code) == len(guards(code)) == (2 if word in PAIRS else 1)


@pytest.mark.parametrize("processor", TARGETS)
def test_each_of_two_accesses_has_a_check_of_its_own(processor: str):
    assert len(guards(code_for("two_loads", processor))) == 2


@pytest.mark.parametrize("processor", TARGETS)
def test_an_unchecked_access_is_told_from_a_checked_one(processor: str):
    """The state of the jitter is read without a check."""
    assert guards(kernel_code(KERNELS["getitem"], TARGETS[processor], STATE)) == []


@pytest.mark.parametrize("processor", TARGETS)
def test_a_check_after_the_access_is_told_from_one_before(processor: str):
    code = code_for("exchange", processor)
    at, guard = machine_code.first_access(code), guards(code)[0]
    late = [*code[:guard], code[at], code[guard], *code[guard + 1 : at], *code[at + 1 :]]
    assert checks_before_access(late) == 0


@pytest.mark.parametrize("processor", TARGETS)
@pytest.mark.parametrize("word", ADDRESSED)
def test_the_path_to_a_fault_lies_behind_the_function(word: str, processor: str):
    assert machine_code.is_outlined(code_for(word, processor))


@pytest.mark.parametrize("processor", TARGETS)
def test_a_fault_in_the_way_is_told_from_one_out_of_it(processor: str):
    code = code_for("load", processor)
    start = next(k for k, line in enumerate(code) if line.label)
    in_the_way = [*code[: start - 1], *code[start:], code[start - 1]]
    assert not machine_code.is_outlined(in_the_way)


@pytest.mark.parametrize("processor", TARGETS)
def test_a_path_that_returns_is_no_fault(processor: str):
    """The branch that repeats or ends a loop leads to no fault."""
    code = code_for("two_swaps", processor)
    branches = [k for k, line in enumerate(code) if machine_code.BRANCH.match(line.code)]
    assert len(branches) - len(guards(code)) == 1  # the first swap was lost


# --- what is called ------------------------------------------------------------------------------
@pytest.mark.parametrize("processor", TARGETS)
def test_no_function_of_a_compiler_is_called(processor: str):
    assert not libcalls(text_for(TARGETS[processor]))


def libcalls(text: str) -> list[str]:
    return [n for n in ("__atomic", "__sync", "__aarch64", "memset", "memcpy") if n in text]


@pytest.mark.parametrize(
    "unfit",
    [
        Target(LSE.triple, "generic", "+outline-atomics"),
        Target(X86_V2.triple, "x86-64", "-cx16"),
    ],
    ids=["aarch64", "x86-64"],
)
def test_a_function_of_a_compiler_is_noticed(unfit: Target):
    assert libcalls(machine_code.assembly([KERNELS["cas2"]], unfit))


def test_without_lse_a_swap_is_a_loop_and_that_is_noticed():
    code = kernel_code(KERNELS["cas"], Target(LSE.triple, "generic", ""))
    assert touched(code) == ["ldaxr r, M", "stlxr r, r, M"]


@pytest.mark.parametrize("processor", TARGETS)
@pytest.mark.parametrize("word", ["wait", "wake"])
def test_to_sleep_and_to_wake_is_a_futex_by_the_table_of_imports(word: str, processor: str):
    target = TARGETS[processor]
    text = "\n".join(line.code for line in code_of(text_for(target), f"rt.{word}"))
    assert {"x86_64": "movl $202, %edi", "aarch64": "mov w0, #98"}[target.architecture] in text
    assert "imports" in text and re.search(r"^(callq|jmpq) \*|^bl?r x", text, re.MULTILINE)
    assert not re.search(r"^(syscall|svc)", text, re.MULTILINE)


@pytest.mark.parametrize("processor", TARGETS)
def test_a_word_inlined_twice_is_two_accesses(processor: str):
    found = touched(code_for("two_loads", processor))
    assert found == 2 * EXPECTED[processor]["load"]
