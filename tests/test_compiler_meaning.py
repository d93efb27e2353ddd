"""What kernels mean: one fact per test, its value worked out by hand, on both engines."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from shmalloc.dialect import is_kernel, kernel
from shmalloc.engine import Engine
from shmalloc.errors import ArithmeticFault, KernelFault, OutsideFault
from shmalloc.memory import Ram
from support import meaning_kernels as meaning
from support import memory_kernels as accesses

WORDS = 16
MIN, MAX = -0x8000_0000_0000_0000, 0x7FFF_FFFF_FFFF_FFFF

FACTS: dict[str, tuple[FunctionType, tuple[int, ...], Any]] = {
    # + - * wrap
    "max plus one is min": (meaning.add, (MAX, 1), MIN),
    "min plus minus one is max": (meaning.add, (MIN, -1), MAX),
    "min plus min is 0": (meaning.add, (MIN, MIN), 0),
    "max minus minus one is min": (meaning.subtract, (MAX, -1), MIN),
    "0 minus min is min": (meaning.subtract, (0, MIN), MIN),
    "2**32 squared is 0": (meaning.multiply, (1 << 32, 1 << 32), 0),
    "max squared is 1": (meaning.multiply, (MAX, MAX), 1),
    "min times -1 is min": (meaning.multiply, (MIN, -1), MIN),
    "a wrapped sum is masked": (meaning.mask_of_a_sum, (MAX, 2), 1),
    "a wrapped sum is compared": (meaning.sum_before_a_comparison, (MAX, 1), True),
    "a wrapped sum is shifted": (meaning.sum_before_a_shift, (MAX, 1), -0x4000_0000_0000_0000),
    "10**18 to the fifth, lowest 64 bits": (
        meaning.product_of_five,
        (10**18,),
        0,  # 10**90 has the factor 2**90
    ),
    "3**13 to the fifth, lowest 64 bits": (
        meaning.product_of_five,
        (1_594_323,),
        (3**65 + 2**63) % 2**64 - 2**63,
    ),
    "precedence is Python's": (meaning.precedence, (3, 5), 7),  # (13 & 7) | (8 ^ 10)
    # unary
    "minus min is min": (meaning.negate, (MIN,), MIN),
    "minus the constant min is min": (meaning.negate_the_least, (), MIN),
    "abs of min is min": (meaning.size, (MIN,), MIN),
    "abs of -5": (meaning.size, (-5,), 5),
    "not a bit of min is max": (meaning.invert, (MIN,), MAX),
    # // and % floor
    "7 // -2 rounds down": (meaning.divide, (7, -2), -4),
    "-7 // 2 rounds down": (meaning.divide, (-7, 2), -4),
    "-7 // -2 rounds down": (meaning.divide, (-7, -2), 3),
    "min // -1 wraps": (meaning.divide, (MIN, -1), MIN),
    "7 % -2 has the sign of -2": (meaning.remainder, (7, -2), -1),
    "-7 % 2 has the sign of 2": (meaning.remainder, (-7, 2), 1),
    "min % -1 is 0": (meaning.remainder, (MIN, -1), 0),
    "min % max": (meaning.remainder, (MIN, MAX), MAX - 1),
    "-9 // 8, by a constant": (meaning.divide_by_eight, (-9,), -2),
    "10 // -3, by a constant": (meaning.divide_by_minus_three, (10,), -4),
    "-9 % 8, by a constant": (meaning.remainder_of_eight, (-9,), 7),
    "9 % -5, by a constant": (meaning.remainder_of_minus_five, (9,), -1),
    # shifts
    "1 << 63 is min": (meaning.shift_left, (1, 63), MIN),
    "3 << 63 loses a bit": (meaning.shift_left, (3, 63), MIN),
    "-1 >> 63 keeps the sign": (meaning.shift_right, (-1, 63), -1),
    "min >> 62": (meaning.shift_right, (MIN, 62), -2),
    "a shift by 0": (meaning.shift_right, (-5, 0), -5),
    # truth and its values
    "and gives the last": (meaning.both, (3, 4), 4),
    "and gives the first that is 0": (meaning.both, (0, 4), 0),
    "or gives the first that is not 0": (meaning.either, (3, 4), 3),
    "or gives the last": (meaning.either, (0, 0), 0),
    "not gives a bool": (meaning.neither, (0, 0), True),
    "a bool and a number: False is 0": (meaning.true_and_number, (-1,), 0),
    "a bool and a number: the number": (meaning.true_and_number, (1,), 7),
    "a bool or a number: True is 1": (meaning.true_or_number, (1,), 1),
    "a bool & a bool is a bool": (meaning.true_and_true, (5,), True),
    "a bool + a bool is an int": (meaning.true_plus_true, (5,), 2),
    "~True is -2": (meaning.inverted_truth, (1,), -2),
    "-True is -1": (meaning.negated_truth, (1,), -1),
    "min of three": (meaning.least_of_three, (3, -4, 5), -4),
    "max of bools is a bool": (meaning.greatest_truth, (3,), True),
    "a condition is any number": (meaning.chosen, (-2,), 5),
    # results
    "True where others return numbers is 1": (meaning.mixed, (6,), 1),
    "a bool by way of a variable": (meaning.truth_in_a_variable, (6,), True),
    "a variable that held a number": (meaning.number_or_truth_in_a_variable, (6,), 1),
    "a = b = bool, and b holds numbers later": (meaning.truth_shared_with_a_number, (6,), True),
    "nothing is None": (meaning.nothing, (1,), None),
    "several results are ints": (meaning.three, (2,), (2, 1, -2)),
    "several results, unpacked": (meaning.passes_three_on, (2,), (-2, 1, 2)),
    "a bool as an argument is an int": (meaning.truth_as_an_argument, (4,), 2),
    "an argument True is 1": (meaning.add, (True, True), 2),
    # control
    "while True, left by a break": (meaning.until_found, (5,), 21),
    "range up to the end": (meaning.counted, (1, 4, 1), 111),
    "range down": (meaning.counted, (4, 1, -2), 11),
    "an empty range": (meaning.counted, (4, 4, 1), 0),
    "a range the wrong way": (meaning.counted, (1, 4, -1), 0),
    "a range that ends at max": (meaning.counted, (MAX - 3, MAX, 2), 11),
    "a range that ends at min": (meaning.counted, (MIN + 3, MIN, -2), 11),
    "a range over everything": (meaning.counted, (MIN, MAX, MAX), 111),
    "a range down over everything": (meaning.counted, (MAX, MIN, MIN), 11),  # max and -1
    "a negative constant step": (meaning.down_by_three, (9, 0), 18),
    "a loop variable belongs to its round": (meaning.clobbered, (4,), 60),
    "continue and an early return": (meaning.skips_and_leaves, (9,), 8),
    "a loop that ends": (meaning.skips_and_leaves, (4,), -1),
    "a constant of a module": (meaning.of_a_module, (), 4096),
    # memory
    "a bool in memory is 1": (accesses.write_a_truth, (1,), 2),
    "updates give what was there": (accesses.updates, (4,), 0 * 1000 + 4 * 100 + 5 * 10 + 4),
    "a mark counts one": (accesses.marked, (), 1),
    "cas says whether": (accesses.swapped, (0, 5), True),
    "cas that fails": (accesses.swapped, (1, 5), False),
    "a pair": (accesses.pair, (14,), 0),
    "cas2 that fails": (accesses.swap_pair, (14, 1, 2), False),
}

FAULTS: dict[str, tuple[FunctionType, tuple[int, ...], str, int | None]] = {
    "1 // 0": (meaning.divide, (1, 0), "division", None),
    "0 % 0": (meaning.remainder, (0, 0), "division", None),
    "by the constant 0": (meaning.divide_by_zero, (5,), "division", None),
    "<< 64": (meaning.shift_left, (1, 64), "shift", None),
    "<< -1": (meaning.shift_left, (0, -1), "shift", None),
    ">> min": (meaning.shift_right, (0, MIN), "shift", None),
    "mem[3] <<= 64": (accesses.shifted_word, (64,), "shift", None),
    "step 0": (meaning.counted, (1, 4, 0), "step", None),
    "step 0 of an empty range": (meaning.counted, (4, 4, 0), "step", None),
    "word -1": (accesses.read, (-1,), "outside", -1),
    "the word behind the last": (accesses.read, (WORDS,), "outside", WORDS),
    "word max": (accesses.loaded, (MAX,), "outside", MAX),
    "word min": (accesses.write_and_read, (MIN,), "outside", MIN),
    "an augmented word": (accesses.augmented_outside, (WORDS,), "outside", WORDS),
    "an odd pair": (accesses.pair, (3,), "odd pair", 3),
    "an odd pair outside": (accesses.pair, (WORDS + 1,), "outside", WORDS + 1),
    "a pair outside": (accesses.swap_pair, (WORDS, 0, 0), "outside", WORDS),
    "an odd pair swapped": (accesses.swap_pair, (1, 0, 0), "odd pair", 1),
    "the left operand comes first": (accesses.left_operand_first, (3,), "shift", None),
    "the dividend comes first": (accesses.divisor_last, (3,), "division", None),
    "in an expression over lines": (accesses.over_lines, (0, 1), "division", None),
}


def fault_line(kernel: FunctionType) -> int:
    lines, first = inspect.getsourcelines(kernel)
    return first + next(at for at, line in enumerate(lines) if line.endswith("# fault\n"))


def fault_of(engine: Engine, kernel: FunctionType, mem: Ram, *arguments: int) -> KernelFault:
    with pytest.raises(KernelFault) as caught:
        engine.call(kernel, mem, *arguments)
    return caught.value


@pytest.mark.parametrize("fact", FACTS)
def test_the_value_is(engine: Engine, fact: str) -> None:
    kernel, arguments, expected = FACTS[fact]
    found = engine.call(kernel, Ram.of_words(WORDS), *arguments)
    assert found == expected
    assert type(found) is type(expected)
    if isinstance(expected, tuple):
        assert [type(part) for part in found] == [int] * len(expected)


@pytest.mark.parametrize("fact", FAULTS)
def test_it_faults(engine: Engine, fact: str) -> None:
    kernel, arguments, kind, index = FAULTS[fact]
    fault = fault_of(engine, kernel, Ram.of_words(WORDS), *arguments)
    assert (fault.kind, fault.line) == (kind, fault_line(kernel))
    assert fault.kernel == f"{kernel.__module__}.{kernel.__name__}"
    assert fault.file == kernel.__code__.co_filename
    assert index is None or fault.index == index


@pytest.mark.parametrize("fact", FAULTS)
def test_a_fault_is_the_error_that_python_knows(engine: Engine, fact: str) -> None:
    kernel, arguments, kind, _ = FAULTS[fact]
    fault = fault_of(engine, kernel, Ram.of_words(WORDS), *arguments)
    if kind in ("outside", "odd pair"):
        assert isinstance(fault, OutsideFault) and isinstance(fault, IndexError)
    else:
        assert isinstance(fault, ArithmeticFault) and isinstance(fault, ArithmeticError)


def test_a_fault_names_the_innermost_kernel_and_the_cpu_of_the_entry(engine: Engine) -> None:
    fault = fault_of(engine, accesses.on_a_cpu, Ram.of_words(WORDS), 3, WORDS)
    assert fault.kernel == f"{accesses.__name__}.innermost"
    assert fault.line == fault_line(accesses.innermost)
    assert (fault.cpu, fault.index) == (3, WORDS + 1)


def test_a_kernel_without_memory_can_fault(engine: Engine) -> None:
    fault = fault_of(engine, accesses.through_one_without_memory, Ram.of_words(WORDS), 0)
    assert fault.kernel == f"{accesses.__name__}.without_memory"
    assert fault.cpu is None


def test_what_was_written_before_a_fault_stays_and_nothing_follows(engine: Engine) -> None:
    mem = Ram.of_words(WORDS)
    fault_of(engine, accesses.write_and_read, mem, WORDS)
    assert mem.array[:2].tolist() == [7, 0]


@pytest.mark.parametrize(
    ("kernel", "arguments", "order"),
    [
        (meaning.chain, (1, 2, 3), 123),
        (meaning.chain, (2, 1, 3), 21),  # the third operand is never evaluated
        (accesses.order_of_assignment, (), 34),
        (accesses.order_of_augmentation, (), 43),
    ],
)
def test_operands_are_evaluated_once_and_in_order(
    engine: Engine, kernel: FunctionType, arguments: tuple[int, ...], order: int
) -> None:
    mem = Ram.of_words(WORDS)
    engine.call(kernel, mem, *arguments)
    assert mem[0] == order


def test_an_augmented_word_that_is_outside_faults_before_its_operand(engine: Engine) -> None:
    mem = Ram.of_words(WORDS)
    fault_of(engine, accesses.augmented_outside, mem, WORDS)
    assert mem[0] == 0


def test_both_operands_are_evaluated_before_a_fault_of_the_operator(engine: Engine) -> None:
    mem = Ram.of_words(WORDS)
    fault_of(engine, accesses.divisor_last, mem, 3)
    assert mem[0] == 30


def test_the_last_round_of_a_range_leaves_its_variable(engine: Engine) -> None:
    mem = Ram.of_words(WORDS)
    engine.call(meaning.counted, mem, MIN, MAX, MAX)
    assert mem[2] == MAX - 1  # MIN + 2 * MAX


@pytest.mark.parametrize("kernel", [accesses.added, accesses.marked])
def test_counting_in_memory_wraps(engine: Engine, kernel: FunctionType) -> None:
    mem = Ram.of_words(WORDS)
    mem[0] = MAX
    arguments = (1,) if kernel is accesses.added else ()
    assert engine.call(kernel, mem, *arguments) == MIN


@pytest.mark.parametrize("value", [MAX + 1, MIN - 1, 1 << 70])
def test_an_argument_beyond_64_bits_is_refused(engine: Engine, value: int) -> None:
    with pytest.raises(OverflowError):
        engine.call(meaning.add, Ram.of_words(WORDS), value, 1)


@pytest.mark.parametrize("value", ["1", 1.0, None])
def test_an_argument_that_is_no_int_is_refused(engine: Engine, value: Any) -> None:
    with pytest.raises(TypeError):
        engine.call(meaning.add, Ram.of_words(WORDS), value, 1)


@pytest.mark.parametrize("arguments", [(), (1,), (1, 2, 3)])
def test_a_wrong_number_of_arguments_is_refused(engine: Engine, arguments: tuple[int, ...]) -> None:
    with pytest.raises(TypeError):
        engine.call(meaning.add, Ram.of_words(WORDS), *arguments)


def test_every_kernel_of_the_corners_is_called() -> None:
    source = Path(__file__).read_text()
    inner = {"stepped", "innermost", "between", "without_memory", "is_even"}
    for short, home in (("meaning", meaning), ("accesses", accesses)):
        kernels = {n for n, value in vars(home).items() if is_kernel(value)}
        called = set(re.findall(rf"\b{short}\.(\w+)", source))
        assert kernels - called - inner == set()


@kernel
def steps_by_plus_zero(mem):
    for at in range(5, 6, +0):
        mem[0] = at
    return 1


@kernel
def names_its_memory(mem):
    mem  # noqa: B018 - a statement without an effect
    return 7


def test_a_range_whose_step_is_a_constant_zero_in_disguise_faults(engine):
    with pytest.raises(ArithmeticFault, match="a range with step 0"):
        engine.call(steps_by_plus_zero, Ram.of_words(2))


def test_the_name_of_a_memory_alone_does_nothing(engine):
    assert engine.call(names_its_memory, Ram.of_words(2)) == 7
