"""Seeds: derivation by name, and a generator that is the same compiled and interpreted."""

from hypothesis import given
from hypothesis import strategies as st

from shmalloc.dialect import kernel
from shmalloc.memory import Ram
from stress import seeds
from stress.seeds import STATE_MASK, below, derive, next_random

PERIOD = (1 << 62) - 1
PERIOD_FACTORS = (3, 715827883, 2147483647)


@kernel
def draw_many(mem, count, limit):
    """Fold ``count`` numbers below ``limit`` and the raw bits into word 1."""
    for _ in range(count):
        bits = next_random(mem, 0)
        mem[1] = (mem[1] * 31 + below(mem, bits, limit) + (bits & 0xFFFF)) & 0xFFFFFFFF
    return mem[1]


def state_after(state, steps=1):
    mem = Ram.of_words(2)
    mem[0] = state
    for _ in range(steps):
        next_random(mem, 0)
    return mem[0]


def test_the_generator_gives_known_numbers_on_every_engine(engine):
    mem = Ram.of_words(2)
    mem[0] = derive(1, "known")
    assert engine.call(draw_many, mem, 10_000, 1000) == 1579504489
    assert mem[0] == 3147398482312567497


@given(st.integers(1, STATE_MASK))
def test_no_state_leaves_62_bits_or_becomes_zero(state):
    assert 0 < state_after(state) <= STATE_MASK


@given(st.integers(0, STATE_MASK), st.integers(1, (1 << 31) - 1))
def test_below_stays_below(bits, limit):
    assert 0 <= below(None, bits, limit) < limit


def test_below_reaches_both_ends():
    mem = Ram.of_words(2)
    mem[0] = 1
    assert {below(mem, next_random(mem, 0), 8) for _ in range(500)} == set(range(8))


def test_the_period_is_maximal():
    """The step is linear over bits, so its order is that of its matrix: exactly 2**62 - 1."""
    columns = [state_after(1 << bit) for bit in range(62)]
    identity = [1 << bit for bit in range(62)]
    assert power(columns, PERIOD) == identity
    assert all(power(columns, PERIOD // factor) != identity for factor in PERIOD_FACTORS)


def apply(matrix, vector):
    result = 0
    for bit, column in enumerate(matrix):
        if vector >> bit & 1:
            result ^= column
    return result


def power(matrix, exponent):
    result = [1 << bit for bit in range(62)]
    while exponent:
        if exponent & 1:
            result = [apply(matrix, column) for column in result]
        matrix = [apply(matrix, column) for column in matrix]
        exponent >>= 1
    return result


def test_the_same_seed_and_name_give_the_same_start():
    assert derive(7, "worker 0") == derive(7, "worker 0")


def test_another_name_or_seed_gives_another_start():
    names = [f"worker {i}" for i in range(100)]
    assert len({derive(seed, name) for seed in range(10) for name in names}) == 1000


@given(st.integers(0, STATE_MASK), st.text(max_size=20))
def test_a_start_is_never_zero_and_fits_a_word(seed, name):
    assert 0 < derive(seed, name) <= STATE_MASK


def test_splitmix64_gives_the_reference_numbers():
    """First outputs of the reference implementation for the seed 0."""
    assert seeds.splitmix64(0) == 0xE220A8397B1DCDAF
