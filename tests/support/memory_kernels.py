"""Kernels of one corner each that touch memory or fault where it is not their first line.

``meaning_kernels.py`` has the others; a line that faults ends with ``# fault`` here, too.
"""

from shmalloc.dialect import hot, kernel, unit
from shmalloc.words import (
    cas,
    cas2,
    exchange,
    fetch_add,
    fetch_and,
    fetch_or,
    fixed,
    load,
    load2,
    mark,
    store,
)
from support.meaning_kernels import stepped


# --- memory --------------------------------------------------------------------------------------
@kernel
def read(mem, i):
    return mem[i]  # fault


@kernel
def loaded(mem, i):
    return load(mem, i)  # fault


@kernel
def write_and_read(mem, i):
    mem[0] = 7
    store(mem, i, 8)  # fault
    mem[1] = 9


@kernel
def write_a_truth(mem, a):
    mem[3] = a > 0
    store(mem, 4, a > 0)
    return mem[3] + mem[4]


@kernel
def order_of_assignment(mem):
    mem[stepped(mem, 4)] = stepped(mem, 3)


@kernel
def order_of_augmentation(mem):
    mem[stepped(mem, 4)] += stepped(mem, 3)


@kernel
def augmented_outside(mem, i):
    mem[i] += stepped(mem, 1)  # fault


@kernel
def shifted_word(mem, n):
    mem[3] <<= n  # fault
    return mem[3]


@kernel
def pair(mem, i):
    x, y = load2(mem, i)  # fault
    return x - y


@kernel
def swap_pair(mem, i, a, b):
    return cas2(mem, i, a, b, b, a)  # fault


@kernel
def updates(mem, a):
    first = fetch_add(mem, 0, a)
    second = fetch_or(mem, 0, 1)
    third = fetch_and(mem, 0, 6)
    fourth = exchange(mem, 0, 50)
    return first * 1000 + second * 100 + third * 10 + fourth


@kernel
def added(mem, a):
    fetch_add(mem, 0, a)
    return mem[0]


@kernel
def marked(mem):
    mark(mem, 0)
    return fixed(mem, 0)


@kernel
def swapped(mem, old, new):
    return cas(mem, 0, old, new)


# --- where a fault is ----------------------------------------------------------------------------
@hot
def innermost(mem, i):
    return mem[i]  # fault


@unit
def between(mem, i):
    return innermost(mem, i + 1)


@kernel
def on_a_cpu(mem, cpu, i):
    cpu += 100
    return between(mem, i)


@kernel
def without_memory(a, b):
    return a // b  # fault


@kernel
def through_one_without_memory(mem, a):
    return without_memory(a, a)


@kernel
def over_lines(mem, a, b):
    return (
        a  # the line of the operator that faults counts, which is that of its left operand
        + mem[a]
        + b // a  # fault
    )


@kernel
def left_operand_first(mem, a):
    return stepped(mem, a) << stepped(mem, 70)  # fault


@kernel
def divisor_last(mem, a):
    return stepped(mem, a) // stepped(mem, 0)  # fault
