"""Kernels of one corner each: what test_compiler_meaning.py calls on both engines.

Arithmetic, truth, results and control; memory_kernels.py has what is about memory and faults.

A line that faults ends with ``# fault``: the tests read its number from here.
"""

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel, unit

INT_MIN = -0x8000_0000_0000_0000
STEP = -3
YES = True


# --- arithmetic ----------------------------------------------------------------------------------
@kernel
def add(mem, a, b):
    return a + b


@kernel
def subtract(mem, a, b):
    return a - b


@kernel
def multiply(mem, a, b):
    return a * b


@kernel
def divide(mem, a, b):
    return a // b  # fault


@kernel
def remainder(mem, a, b):
    return a % b  # fault


@kernel
def divide_by_eight(mem, a):
    return a // 8


@kernel
def divide_by_minus_three(mem, a):
    return a // -3


@kernel
def remainder_of_eight(mem, a):
    return a % 8


@kernel
def remainder_of_minus_five(mem, a):
    return a % -5


@kernel
def divide_by_zero(mem, a):
    return a // 0  # fault


@kernel
def shift_left(mem, a, n):
    return a << n  # fault


@kernel
def shift_right(mem, a, n):
    return a >> n  # fault


@kernel
def negate(mem, a):
    return -a


@kernel
def invert(mem, a):
    return ~a


@kernel
def size(mem, a):
    return abs(a)


@kernel
def negate_the_least(mem):
    return -INT_MIN


@kernel
def mask_of_a_sum(mem, a, b):
    return (a + b) & 0xFF


@kernel
def sum_before_a_comparison(mem, a, b):
    return a + b < 0


@kernel
def sum_before_a_shift(mem, a, b):
    return a + b >> 1


@kernel
def product_of_five(mem, a):
    return a * a * a * a * a


@kernel
def precedence(mem, a, b):
    return a + b * 2 & 7 | 8 ^ b << 1


# --- truth ---------------------------------------------------------------------------------------
@kernel
def both(mem, a, b):
    return a and b


@kernel
def either(mem, a, b):
    return a or b


@kernel
def neither(mem, a, b):
    return not (a or b)


@kernel
def true_and_number(mem, a):
    return a > 0 and 7


@kernel
def true_or_number(mem, a):
    return a > 0 or 7


@kernel
def true_and_true(mem, a):
    return (a > 0) & (a < 9)


@kernel
def true_plus_true(mem, a):
    return (a > 0) + (a > 1)


@kernel
def inverted_truth(mem, a):
    return ~(a > 0)


@kernel
def negated_truth(mem, a):
    return -(a > 0)


@kernel
def stepped(mem, i):
    mem[0] = mem[0] * 10 + i
    return i


@kernel
def chain(mem, a, b, z):
    return stepped(mem, a) < stepped(mem, b) < stepped(mem, z)


@kernel
def least_of_three(mem, a, b, z):
    return min(a, b, z)


@kernel
def greatest_truth(mem, a):
    return max(a > 0, a > 5)


@kernel
def chosen(mem, a):
    return 5 if a else 6


# --- results -------------------------------------------------------------------------------------
@kernel
def mixed(mem, a):
    if a > 5:
        return True
    return a


@kernel
def truth_in_a_variable(mem, a):
    found = False
    if a > 5:
        found = True
    return found


@kernel
def number_or_truth_in_a_variable(mem, a):
    found = a > 5
    if a == 3:
        found = 30
    return found


@kernel
def truth_shared_with_a_number(mem, a):
    first = second = a > 5
    second += 1
    return first


@kernel
def nothing(mem, a):
    if a:
        return
    mem[1] = 5


@kernel
def three(mem, a):
    return a, a > 1, -a


@kernel
def passes_three_on(mem, a):
    x, y, z = three(mem, a)
    return z, y, x


@unit
def is_even(a):
    return a % 2 == 0


@hot
def truth_as_an_argument(mem, a):
    return add(mem, is_even(a), 1)


# --- control -------------------------------------------------------------------------------------
@kernel
def until_found(mem, a):
    while True:
        x = a * 3
        a += 1
        if x > 20:
            break
    return x


@kernel
def counted(mem, start, stop, step):
    total = 0
    for i in range(start, stop, step):  # fault
        total = total * 10 + 1
        mem[2] = i
    return total


@kernel
def down_by_three(mem, start, stop):
    total = 0
    for i in range(start, stop, STEP):
        total += i
    return total


@kernel
def clobbered(mem, n):
    total = 0
    for i in range(n):
        i *= 10
        n = 0
        total += i
    return total


@kernel
def skips_and_leaves(mem, n):
    total = 0
    for i in range(n):
        if i == 2:
            continue
        if i == 5:
            return total
        total += i
    return -1


@kernel
def of_a_module(mem):
    return c.VERSION_MASK + YES
