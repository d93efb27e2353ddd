"""Every option of ``Arena.create``: what it may be, and what is said of what it may not be."""

from __future__ import annotations

import os
import re
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from shmalloc import Arena, Geometry, MisuseError, ZoneSpec
from shmalloc.arena_geometry import OTHER_NAMES, geometry_of
from shmalloc.geometry_rules import CHOICES, RANGES, SWITCHES
from shmalloc.segment import Segment

SMALL = {"size": "1MiB", "cpus": 1, "engine": "interpreted"}
ODD_SWITCHES = ("off", "on", 0, 1, None, 2.0, [], np.int64(1))
ODD_INTS = (-1, 1 << 70, "3", None, 1.5, True, np.float64(2), [4], b"1")


def refusal(**options: Any) -> str:
    """What ``Arena.create`` says, which may leave no file of ours behind."""
    with pytest.raises(MisuseError) as caught:
        Arena.create(**{**SMALL, **options})
    mine = [name for name in os.listdir("/dev/shm") if name.startswith(f"shm-{os.getpid()}-")]
    assert mine == []
    return str(caught.value)


def test_every_field_of_a_geometry_has_a_row():
    rows = [*CHOICES, *SWITCHES, *RANGES, "zones"]
    assert sorted(rows) == sorted(field.name for field in fields(Geometry))


@pytest.mark.parametrize("name", [*SWITCHES, "prealloc"])
@pytest.mark.parametrize("value", ODD_SWITCHES, ids=repr)
def test_a_switch_is_a_bool(name, value):
    assert refusal(**{name: value}) == f"{name}: {value!r}; use True or False"


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_of_numpy_is_a_plain_one_in_the_geometry(name):
    geometry = geometry_of("1MiB", 1, link_store="index", **{name: np.True_})
    assert getattr(geometry, name) is True


@pytest.mark.parametrize("name", sorted(set(RANGES) - {"page_owner"}))
@pytest.mark.parametrize("value", ODD_INTS, ids=repr)
def test_a_number_is_an_int_of_its_range(name, value):
    if name == "cpus" and value is None:
        pytest.skip("None means: chosen by the machine")
    least, most, _ = RANGES[name]
    said = refusal(**{name: value})
    assert said.startswith(f"{name}: {value!r}; use an int from {least} to {most}")


@pytest.mark.parametrize("name", sorted(set(RANGES) - {"page_owner"}))
def test_one_more_than_the_most_is_refused(name):
    most = RANGES[name][1]
    assert refusal(**{name: most + 1}).startswith(f"{name}: {most + 1}; use an int from ")


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("value", ["no", 3, None, ["page"], {}], ids=repr)
def test_a_choice_is_one_of_its_names(name, value):
    assert refusal(**{name: value}) == f"{name}: {value!r}; use one of {', '.join(CHOICES[name])}"


@pytest.mark.parametrize("value", ["x", 3, None, ["native"], True], ids=repr)
def test_an_engine_is_one_of_its_names(value):
    assert refusal(engine=value).startswith(f"engine: {value!r}; use 'native' or 'interpreted'")


@pytest.mark.parametrize("value", [0, -1, 65, 1 << 70, "a", "3", 1.5, True, b"2"], ids=repr)
def test_a_number_of_zones_is_one_to_64(value):
    said = f"zones: {value!r}; use how many there are, 1 to 64, or a list of ZoneSpec"
    assert refusal(zones=value) == said


ODD_ZONES = {
    "nothing": ([], "zones: []; use a list of 1 to 64 ZoneSpec"),
    "numbers": ([3], "zones: [3]; use a list of 1 to 64 ZoneSpec"),
    "names": ({"a": 1}, "zones: {'a': 1}; use a list of 1 to 64 ZoneSpec"),
    "too many": ([ZoneSpec(64)] * 65, "zones: 65; use 1 to 64"),
    "a text of pages": ([ZoneSpec("a")], "zones[0].pages: 'a'; use an int from 1 to "),
    "no pages": ([ZoneSpec(0)], "zones[0].pages: 0; use an int from 1 to "),
    "a text as node": ([ZoneSpec(8), ZoneSpec(8, "b")], "zones[1].node: 'b'; use an int from 0"),
    "node 64": ([ZoneSpec(8, 64)], "zones[0].node: 64; use an int from 0 to 63"),
    "a hole of one": ([ZoneSpec(8, 0, ((1,),))], "zones[0].holes: (1,); use pairs"),
    "a hole that is no pair": ([ZoneSpec(8, 0, (5,))], "zones[0].holes: 5; use pairs"),
    "holes that are no list": ([ZoneSpec(8, 0, 5)], "zones[0].holes: 5; use pairs"),
    "a hole at a text": ([ZoneSpec(8, 0, (("a", 2),))], "zones[0].holes: 'a'; use an int"),
    "a hole outside": (
        [ZoneSpec(8, 0, ((7, 2),))],
        "zones[0].holes: (7, 2) is not inside the zone",
    ),
}


@pytest.mark.parametrize("zones", ODD_ZONES)
def test_zones_are_checked_one_by_one(zones):
    given, said = ODD_ZONES[zones]
    assert refusal(zones=given, size=None).startswith(said)


def test_zones_have_sizes_of_their_own():
    assert "together with zones; leave it out" in refusal(zones=[ZoneSpec(64)])


@pytest.mark.parametrize("pages", [256, 1000, 1 << 31])
def test_a_minimum_leaves_something_to_allocate(pages):
    said = f"min_free_pages: {pages}; so many pages of each zone stay free, and the largest zone"
    assert refusal(min_free_pages=pages).startswith(said)


def test_the_largest_minimum_leaves_a_page():
    with Arena.create(**SMALL, min_free_pages=255) as arena:
        assert arena.alloc_pages() >= 0


@pytest.mark.parametrize("size", ["1EiB", "1PiB", "300GiB", 1 << 80], ids=repr)
def test_a_size_that_is_too_large_is_told_the_limit(size):
    assert refusal(size=size) == f"size: {size!r}; use at most 274,877,906,944 bytes, 256GiB"


def test_a_pageblock_is_no_larger_than_the_largest_block_unless_asked_for():
    assert geometry_of("1MiB", 1, max_order=3).pageblock_order == 3


@pytest.mark.parametrize("name", sorted(OTHER_NAMES))
def test_a_name_of_another_place_is_told_ours(name):
    assert f"{name}: there is no such option; did you mean {OTHER_NAMES[name]}? known are " in (
        refusal(**{name: 1})
    )


def test_what_stands_for_another_name_is_an_option():
    meant = {
        word for text in OTHER_NAMES.values() for word in re.findall(r"\b[a-z_]+(?==|$)", text)
    }
    assert meant <= {"size", *(field.name for field in fields(Geometry))}


def test_a_mistyped_option_is_told_the_nearest():
    assert "did you mean max_order?" in refusal(max_ordr=3)


def test_holes_that_do_not_fit_in_the_scratch_area_are_refused_before_a_file_is_made(monkeypatch):
    monkeypatch.setattr("shmalloc.segment._make", lambda *_: pytest.fail("a file was made"))
    holes = tuple((2 * at, 1) for at in range(8))
    geometry = Geometry(zones=(ZoneSpec(64, 0, holes),), cpus=1, scratch_words=8)
    with pytest.raises(MisuseError, match="8 runs of pages between holes; scratch_words=8"):
        Segment.create(geometry)


def test_prealloc_of_a_segment_is_a_bool():
    with pytest.raises(MisuseError, match="prealloc: 'off'; use True or False"):
        Segment.create(geometry_of("1MiB", 1), prealloc="off")


@pytest.fixture
def arena():
    with Arena.create(**SMALL) as made:
        yield made


SWITCHES_OF_CALLS = {
    "attach": lambda a: Arena.attach(a.name, engine="interpreted", readonly="off"),
    "array": lambda a: a.array([1], readonly="off"),
    "open_array": lambda a: a.open_array(a.ones(1).handle(), readonly="off"),
    "open": lambda a: a.open(a.send(a.ones(1)), readonly="off"),
    "cache shuffle": lambda a: a.cache("a", 64, shuffle="off"),
    "cache sheaves": lambda a: a.cache("a", 64, sheaves="off"),
    "shutdown": lambda a: a.queue(2).shutdown("off"),
}


@pytest.mark.parametrize("call", SWITCHES_OF_CALLS)
def test_a_switch_of_a_call_is_a_bool_too(arena, call):
    with pytest.raises(MisuseError, match=": 'off'; use True or False"):
        SWITCHES_OF_CALLS[call](arena)


@pytest.mark.parametrize("cpu", ["0", 1.0, True, -1, 1], ids=repr)
def test_the_cpu_of_an_attach_is_one_of_the_segment(arena, cpu):
    with pytest.raises(MisuseError, match=re.escape(f"cpu: {cpu!r}; this segment has CPU slots")):
        Arena.attach(arena.name, cpu=cpu, engine="interpreted")


@pytest.mark.parametrize("timeout", ["1", True, -1, []], ids=repr)
def test_the_timeout_of_an_attach_is_seconds(arena, timeout):
    with pytest.raises(MisuseError, match="timeout: "):
        Arena.attach(arena.name, timeout=timeout, engine="interpreted")


@pytest.mark.parametrize("debug", ["X", "FZ!", 3, None, True, b"F"], ids=repr)
def test_the_debug_letters_of_a_cache_are_known_ones(arena, debug):
    with pytest.raises(MisuseError, match=r"debug: .*; use a text of the letters FZPU, or none"):
        arena.cache("a", 64, debug=debug)
