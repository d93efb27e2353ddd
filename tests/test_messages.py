"""What a reader is told of a request that cannot work: the place, the value, and the cure."""

from __future__ import annotations

import re
from contextlib import suppress

import numpy as np
import pytest

from shmalloc import Arena, Gfp, MisuseError, OutOfMemoryError, ZoneSpec
from shmalloc.geometry_rules import MOST_BYTES
from shmalloc.segment import Segment
from stress import cli
from stress.crash.operation import VARIANTS
from stress.geometry import OTHER_NAMES, GeometrySpec
from stress.programs import PROGRAMS
from stress.programs.worlds import UNFIT, WORLDS
from stress.quantities import exact_bytes
from stress.settings import names_of


def told(capsys, *arguments: str) -> str:
    """The one line of a usage error."""
    assert cli.run(list(arguments)) == 4
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    return err.removeprefix("shmstress: ").rstrip("\n")


# --- segments by name -----------------------------------------------------------------------------

READERS = ("buddyinfo", "pagetypeinfo", "slabinfo", "vmstat", "extfrag", "page_owner", "leaks")


@pytest.mark.parametrize("command", READERS)
@pytest.mark.parametrize("name", ["", "a/b", "ä", "x" * 201, "a b"])
def test_a_reader_is_told_what_names_a_segment(capsys, command, name):
    said = told(capsys, command, name)
    assert said.startswith(f"name: {name[:9]!r}"[:-1])
    assert "use the name of an arena that there is (Arena.name): 1 to 200 letters" in said


def test_who_makes_a_segment_may_leave_the_name_out():
    with pytest.raises(MisuseError, match=r"name: 'a/b'; use 1 to 200 .*, or None for a new name"):
        Arena.create("a/b", size="1MiB")


def test_a_mistyped_name_is_told_the_segment_that_there_is(capsys, arena):
    said = told(capsys, "buddyinfo", arena.name[:-1])
    assert f"did you mean {arena.name!r}? shmstress top lists those that there are" in said


def test_a_rate_of_one_is_every_allocation(capsys):
    with Arena.create(size="1MiB", cpus=1, page_owner="1/1", engine="interpreted") as made:
        assert cli.run(["page_owner", made.name]) == 0
    assert capsys.readouterr().err == "every allocation is sampled\n"


# --- programs in worlds ---------------------------------------------------------------------------

PLAIN = ("explore", "check", "crash")


@pytest.mark.parametrize("command", PLAIN)
def test_an_unknown_world_of_a_program_is_told_the_worlds(capsys, command):
    said = told(capsys, command, "buddy-merge-take+nonsense")
    assert said == (f"buddy-merge-take+WORLD: 'nonsense' is unknown; known are {', '.join(WORLDS)}")


@pytest.mark.parametrize("command", PLAIN)
def test_a_mistyped_world_of_a_glob_is_told_the_nearest(capsys, command):
    assert told(capsys, command, "buddy-*+poisn").startswith(
        "buddy-*+WORLD: 'poisn' is unknown; did you mean 'poison'?"
    )


def test_a_crash_case_of_an_operation_is_told_its_variants(capsys):
    said = told(capsys, "crash", "pages-order-0+nonsense")
    assert said.endswith(f"known are {', '.join(VARIANTS)}")


def test_a_world_of_no_program_is_told_of_the_program(capsys):
    said = told(capsys, "explore", "buddy-merge-tak+poison")
    assert "'buddy-merge-tak' is unknown; did you mean 'buddy-merge-take'?" in said


def test_a_part_is_checked_in_another_world():
    from stress.check.select import candidates

    chosen = candidates(["buddy+reserve"], crash=False)
    plain = {name for name in PROGRAMS if name.startswith("buddy-") and "+" not in name}
    assert set(chosen) == {f"{name}+reserve" for name in plain - set(UNFIT["reserve"])}


# --- sizes, zones and settings --------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--ram", "--zones"])
def test_memory_beyond_all_limits_is_told_the_limit(capsys, option):
    said = told(capsys, "run", option, "1EiB", "--dry-run")
    assert "1EiB" in said and said.endswith(f"; use at most {exact_bytes(MOST_BYTES)}")


@pytest.mark.parametrize("zones", ["a", "", "x@1", "-3"])
def test_what_is_no_zone_is_told_both_forms(capsys, zones):
    said = told(capsys, "run", "--zones", zones, "--dry-run")
    assert said == (
        f"zones: {zones!r}; use how many there are, 1 to 64, or their sizes and nodes, such as"
        " 64MiB@0,192MiB@1"
    )


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_a_setting_by_its_name_in_python_is_told_ours(capsys, name):
    said = told(capsys, "run", "--geometry", f"{name}=1", "--dry-run")
    assert said == f"geometry: {name!r} is unknown; did you mean {OTHER_NAMES[name]}?"


def test_the_help_of_a_run_names_every_setting_of_the_geometry(capsys):
    assert cli.run(["run", "--help"]) == 0
    text = "".join(capsys.readouterr().out.split())  # names are cut at their dashes
    assert [name for name in names_of(GeometrySpec) if name not in text] == []


def test_a_table_of_mutants_with_nothing_in_it_says_so(capsys, tmp_path):
    state = tmp_path / "state"
    code = cli.run(["mutants", "--systematic", "--table", "--state", str(state), "lock"])
    out, err = capsys.readouterr()
    assert code == 5 and "%" not in out and "none of them judged\nVACUOUS" in out
    assert f"state: {str(state)!r} holds no result for the mutants that were drawn" in err


# --- memory ---------------------------------------------------------------------------------------


@pytest.fixture
def arena():
    with Arena.create(size="1MiB", cpus=1, engine="interpreted") as made:
        yield made


@pytest.fixture
def reserved():
    """An arena of which only the reserve is left."""
    zones = (ZoneSpec(64),)
    with Arena.create(zones=zones, cpus=1, min_free_pages=16, engine="interpreted") as made:
        with suppress(OutOfMemoryError):
            while True:
                made.alloc_pages()
        yield made


SAID = "the minimum watermark of zone 0 keeps its last 16 pages, and 16 are free; free something"


@pytest.mark.parametrize(
    "ask",
    [
        lambda a: a.alloc_pages(),
        lambda a: a.alloc_pages_bulk(3),
        lambda a: a.alloc_pages(wait_s=0.01),
        lambda a: a.kmalloc(5000),
        lambda a: a.cache("new", 64).alloc(),
    ],
    ids=["page", "bulk", "wait", "kmalloc", "cache"],
)
def test_memory_that_only_the_minimum_keeps_is_told_so(reserved, ask):
    with pytest.raises(OutOfMemoryError, match=SAID):
        ask(reserved)


def test_an_array_that_only_the_minimum_keeps_out_is_told_so(reserved):
    with pytest.raises(OutOfMemoryError, match="the minimum watermark of zone 0 keeps its last 16"):
        reserved.zeros(512)


def test_the_flag_that_the_message_names_takes_of_the_reserve(reserved):
    assert reserved.alloc_pages(flags=Gfp.ATOMIC) >= 0


def test_memory_that_is_used_up_is_not_blamed_on_the_minimum(reserved):
    with pytest.raises(OutOfMemoryError) as caught:
        while True:
            reserved.alloc_pages(flags=Gfp.MEMALLOC)
    assert "watermark" not in str(caught.value)
    assert "no free memory of that kind: 0B free, the largest block has 0B" in str(caught.value)


@pytest.mark.parametrize("free", ["try_free_pages", "free_pages", "kfree", "usable_bytes"])
@pytest.mark.parametrize("value", ["3", 3.0, 1 << 70, True, np.float64(3)], ids=repr)
def test_what_was_never_given_is_not_taken_back(arena, free, value):
    with pytest.raises(MisuseError) as caught:
        getattr(arena, free)(value)
    what = "pfn" if free.endswith("pages") else "address"
    assert str(caught.value) == f"{what}: {value!r}; use the {what} that an allocation gave"


def test_no_block_of_a_try_is_not_freed(arena):
    with pytest.raises(MisuseError, match="it gave None if it found no memory, or did not wait"):
        arena.try_free_pages(None)


@pytest.mark.parametrize("values", [None, 5, "12"], ids=repr)
def test_many_are_freed_as_a_list(arena, values):
    with pytest.raises(MisuseError, match=re.escape(f"pfns: {values!r}; use a list of them")):
        arena.free_pages_bulk(values)


@pytest.mark.parametrize("seconds", ["a", -1, True, float("nan"), []], ids=repr)
def test_a_wait_for_memory_is_checked_before_there_is_none(arena, seconds):
    with pytest.raises(MisuseError, match=r"wait_s: .*; use seconds >= 0, or None not to wait"):
        arena.alloc_pages(wait_s=seconds)


def test_an_array_is_not_filled_with_what_its_dtype_cannot_hold(arena):
    with pytest.raises(MisuseError, match="value: 'a': invalid literal"):
        arena.full(3, "a", dtype="i4")


@pytest.mark.parametrize("call", ["offline", "online", "isolate", "unisolate"])
def test_a_range_of_pageblocks_is_told_their_size(arena, call):
    with pytest.raises(MisuseError, match="whole pageblocks: use multiples of 512 pages as start"):
        getattr(arena, call)(0, 10)


def test_a_range_of_pages_is_told_that_it_lies_in_one_zone():
    zones = [ZoneSpec(256)] * 2
    with (
        Arena.create(zones=zones, cpus=1, engine="interpreted") as made,
        pytest.raises(MisuseError) as caught,
    ):
        made.alloc_contig_range(250, 260)
    assert str(caught.value) == "alloc_contig_range(250, 260): the pages must lie in one zone"


def test_a_reclaimer_is_started_once():
    with Arena.create(size="1MiB", cpus=1) as made:
        with made.reclaimer() as reclaimer:
            with pytest.raises(MisuseError, match="it was started before; make another"):
                reclaimer.start()
            assert repr(reclaimer).startswith(f"<Reclaimer of {made.name}: running, ")
        with pytest.raises(MisuseError, match="it was started before; make another"):
            reclaimer.start()


@pytest.mark.parametrize("other", [None, "ZERO", 1.0], ids=repr)
def test_flags_are_combined_with_flags(other):
    with pytest.raises(MisuseError, match=r"flags: .* beside .*; use shmalloc\.Gfp"):
        Gfp.ZERO | other


@pytest.mark.parametrize("geometry", ["64MiB", None, 3], ids=repr)
def test_a_segment_is_made_of_a_geometry(geometry):
    with pytest.raises(MisuseError, match=r"geometry: .*; use a shmalloc\.Geometry"):
        Segment.create(geometry)
