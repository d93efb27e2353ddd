"""Limits of oracles are times: the same with a counter of 25 MHz and with one of 3 GHz."""

import pytest

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.memory import Ram
from stress.oracles.clock import took_longer

TICKS_SINCE, LIMIT_NS = 64, 65  # words


@kernel
def too_long(mem) -> int:
    """Whether the ticks of a word, counted from the start of the counter, take longer."""
    return int(took_longer(mem, mem[TICKS_SINCE], mem[LIMIT_NS]))


class Counter(Ram):
    """A memory whose counter stands still."""

    ticks = 0

    def now(self) -> int:
        return self.ticks


@pytest.mark.parametrize(
    ("mhz", "limit_ns", "ticks", "discarded"),
    [
        (3000, 2_000, 6_000, False),
        (3000, 2_000, 6_001, True),
        (25, 2_000, 50, False),  # 80 us, if it were taken for a nanosecond's tick, would be 2,000
        (25, 2_000, 51, True),
        (25, 50_000, 1_251, True),
        (24, 10, 1, False),  # a whole tick may have been less
        (24, 10, 2, True),
        (0, 2_000, 2_000, False),  # not measured
        (0, 2_000, 2_001, True),
    ],
)
def test_a_limit_in_nanoseconds_is_that_many_ticks_of_the_counter(mhz, limit_ns, ticks, discarded):
    mem = Counter.of_words(128)
    mem.ticks = 5_000 + ticks
    mem[c.H_CLOCK_KHZ], mem[TICKS_SINCE], mem[LIMIT_NS] = mhz * 1000, 5_000, limit_ns
    assert too_long(mem) == discarded
