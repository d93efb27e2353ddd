"""Sizes and durations as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmalloc.errors import MisuseError
from shmalloc.sizes import format_bytes, parse_bytes, parse_duration


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1", 1),
        ("4096", 4096),
        ("64KiB", 65536),
        ("64 kib", 65536),
        ("64K", 65536),
        ("64kB", 65536),
        ("1MiB", 1 << 20),
        ("1.5GiB", 3 << 29),
        ("2T", 2 << 40),
        ("7B", 7),
    ],
)
def test_a_size_is_read_in_binary_units(text: str, count: int) -> None:
    assert parse_bytes(text) == count


def test_an_int_is_a_size_in_bytes() -> None:
    assert parse_bytes(8192) == 8192


@pytest.mark.parametrize(
    "bad",
    ["", "MiB", "-1", "0", "1XiB", "1.1B", "0.3KiB", "\u0663MiB", 0, -5, 1.5, True, None, b"1"],
)
def test_a_bad_size_is_refused_and_names_argument_and_value(bad: object) -> None:
    with pytest.raises(MisuseError, match="ram: ") as caught:
        parse_bytes(bad, "ram")  # type: ignore[arg-type]
    assert str(bad) in str(caught.value)


@given(st.integers(0, 1023), st.sampled_from(["KiB", "MiB", "GiB", "TiB"]))
def test_a_whole_size_is_formatted_as_it_is_read(count: int, unit: str) -> None:
    text = f"{count + 1}{unit}"
    assert parse_bytes(format_bytes(parse_bytes(text))) == parse_bytes(text)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0B"), (1023, "1023B"), (1536, "1.5KiB"), (-2048, "-2KiB")]
)
def test_small_and_negative_sizes_are_formatted(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20s", 20),
        ("5m", 300),
        ("2h", 7200),
        ("250ms", 0.25),
        ("1.5 min", 90),
        ("3", 3),
        (4.5, 4.5),
    ],
)
def test_a_duration_is_read_in_seconds(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("bad", ["", "s", "-1s", "0s", "5 weeks", 0, -1, True, None, float("nan")])
def test_a_bad_duration_is_refused_and_names_the_argument(bad: object) -> None:
    with pytest.raises(MisuseError, match="timeout: "):
        parse_duration(bad, "timeout")  # type: ignore[arg-type]
