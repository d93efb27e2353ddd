"""The views of ``shmstress top``: they fit every terminal, say everything in words, answer keys."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from shmalloc import Arena
from shmalloc import constants as c
from shmalloc.errors import MisuseError, Violation
from stress.records.writer import Records, Work
from stress.run.accounts import Account
from stress.run.memory import Snapshot
from stress.run.process_use import ProcessUse
from stress.run.progress import Moment
from stress.top.app import TopApp
from stress.top.fitting import Column, Fitting
from stress.top.frame import frame
from stress.top.memory_map import fewer
from stress.top.panel import Panel
from stress.top.processes import short_command
from stress.top.soak import DatabaseSource
from stress.top.source import SegmentSource, Source

HOUR_S = 3600.0  # a view under test reads only when it is told to
PATIENCE_S = 120.0


@pytest.fixture
def arena() -> Iterator[Arena]:
    with Arena.create(size="2MiB", cpus=3, zones=2) as made:
        yield made


@pytest.fixture
def source(arena: Arena) -> Iterator[SegmentSource]:
    made = SegmentSource(arena.name)
    made.read()
    yield made
    made.close()


# --- frames --------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 132, 200])
def test_no_line_of_a_frame_is_wider_than_its_terminal(arena, source, width):
    arena.cache("a cache with a long name", 40).alloc()
    source.read()
    assert max(map(len, frame(source.panels("number"), width).splitlines())) <= width


def test_a_narrow_table_loses_columns_and_cuts_no_number():
    table = Fitting(
        Column("cpu", right=True), Column("pages", right=True), Column("beat", 1), Column("at", 2)
    )
    table.add("0", "123456", "77", "somewhere")
    shown = {width: text_at(table, width) for width in (40, 25, 14)}
    assert [name in shown[40] for name in ("cpu", "pages", "beat", "at")] == [True] * 4
    assert "somewhere" not in shown[25] and "77" in shown[25]
    assert "77" not in shown[14] and all("123456" in text for text in shown.values())


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("/v/bin/python3.12 /v/bin/shmstress run --db /a/b", "shmstress run --db /a/b"),
        ("/v/bin/python -m stress run", "python -m stress run"),
        ("/usr/bin/shmstress", "shmstress"),
        ("python", "python"),
        ("", ""),
    ],
)
def test_a_command_is_shown_without_the_folders_of_its_program(command, shown):
    assert short_command(command) == shown


def text_at(table: Fitting, width: int) -> str:
    return frame([Panel("key", "title", table.drawn(width))], width)


def test_free_blocks_are_lines_where_a_table_has_no_room(arena, source):
    wide, narrow = (frame(source.panels("number"), width) for width in (120, 50))
    assert "zone   node" in wide and "zone 0: " in narrow and "10:" in narrow


@pytest.mark.parametrize("width", [40, 100])
def test_a_terminal_without_unicode_gets_ascii(source, width):
    assert frame(source.panels("number"), width, ascii=True).isascii()


def test_the_pages_of_free_blocks_in_a_narrow_frame_add_up(arena, source):
    arena.alloc_pages(order=5)
    source.read()
    (panel,) = [panel for panel in source.panels("number") if panel.key == "zones"]
    for line in " ".join(frame([panel], 40).split()).split("zone ")[1:]:
        free = int(re.search(r"(\d+) of 256 pages free", line)[1])
        orders = re.findall(r"(\d+):(\d+)", line)
        assert free == sum(int(count) << int(order) for order, count in orders) > 0


@pytest.mark.parametrize(("sort", "first"), [("number", 0), ("fill", 2)])
def test_slots_are_sorted(arena, source, sort, first):
    with Arena.attach(arena.name, cpu=2) as other:
        other.free_pages(other.alloc_pages())
        source.read()
        text = frame(source.panels(sort), 100)
    rows = re.findall(r"^  (\d)\s+(?:\d+|-)\s+(?:running|sleeping|unused)", text, re.MULTILINE)
    assert rows[0] == str(first) and sorted(rows) == ["0", "1", "2"]


def test_counters_that_never_counted_are_named_together(arena, source):
    arena.alloc_pages()
    source.read()
    text = frame(source.panels("number"), 120)
    assert re.search(r"^ ?alloc +1 ", text, re.MULTILINE)
    assert "takeover" in text.partition("never: ")[2]


# --- on a terminal -------------------------------------------------------------------------------

Steps = Callable[[TopApp, object], Awaitable[None]]


def watch(source: Source, steps: Steps, size: tuple[int, int] = (110, 60)) -> TopApp:
    """Run the view, let it read once, do ``steps``."""
    app = TopApp(source, HOUR_S)

    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            await settle(app, pilot)
            await steps(app, pilot)

    asyncio.run(run())
    return app


async def settle(app: TopApp, pilot) -> None:
    """Wait until the threads have read and what they found is shown."""
    try:
        await asyncio.wait_for(app.workers.wait_for_complete(), PATIENCE_S)
    except TimeoutError:
        pytest.fail(f"waited {PATIENCE_S:g} s for a reading")
    await pilot.pause()


def text_of(app: TopApp) -> str:
    """What is on the screen, words with one blank between them."""
    parts = re.findall(r"<text[^>]*>(.*?)</text>", app.export_screenshot(), re.DOTALL)
    return " ".join(html.unescape(" ".join(parts)).split())


def test_the_view_shows_what_the_segment_holds(arena, source):
    cache = arena.cache("inode", 40)
    objects = [cache.alloc() for _ in range(9)]
    cache.free(objects.pop())

    async def steps(app, pilot):
        text = text_of(app)
        assert arena.name in text and "no violations" in text
        assert "0 inode 40 8 " in text  # bytes of an object, live objects
        assert "q quit p pause s sort - faster + slower r read now" in text

    watch(source, steps, (130, 70))


def test_q_ends_it(source):
    async def steps(app, pilot):
        await pilot.press("q")

    assert watch(source, steps).return_code == 0


def test_p_pauses_and_r_still_reads(arena, source):
    async def steps(app, pilot):
        await pilot.press("p")
        arena.alloc_pages(order=4)
        app._tick()
        await settle(app, pilot)
        assert "PAUSED" in text_of(app) and "memory" in text_of(app)
        assert " 0 of 512 pages used" in text_of(app)
        await pilot.press("r")
        await settle(app, pilot)
        assert " 16 of 512 pages used" in text_of(app)

    watch(source, steps)


def test_a_tick_reads(arena, source):
    async def steps(app, pilot):
        arena.alloc_pages(order=4)
        app._tick()
        await settle(app, pilot)
        assert " 16 of 512 pages used" in text_of(app)

    watch(source, steps)


def test_s_sorts_and_minus_and_plus_change_the_interval(source):
    async def steps(app, pilot):
        app.interval_s = 1.0
        await pilot.press("s", "minus", "minus")
        assert (app.sort, app.interval_s) == ("fill", 0.25)
        assert "CPU slots, by what is on their lists" in text_of(app)
        await pilot.press("s", "s", "plus")
        assert (app.sort, app.interval_s) == ("number", 0.5)

    watch(source, steps)


def test_the_interval_stays_within_its_limits(source):
    async def steps(app, pilot):
        await pilot.press(*["minus"] * 12)
        assert app.interval_s == 0.1
        await pilot.press(*["plus"] * 12)
        assert app.interval_s == 60.0

    watch(source, steps)


def test_the_removal_of_the_segment_is_told_and_ends_the_reading(arena, source):
    async def steps(app, pilot):
        arena.segment.unlink()
        await pilot.press("r")
        await settle(app, pilot)
        assert "ENDED: the segment was removed" in text_of(app)
        app._tick()
        assert not list(app.workers)

    watch(source, steps)


def test_a_segment_that_cannot_be_read_any_more_is_told(source, monkeypatch):
    def fail() -> None:
        raise MisuseError("it was truncated")

    async def steps(app, pilot):
        monkeypatch.setattr(source, "read", fail)
        await pilot.press("r")
        await settle(app, pilot)
        assert "ENDED: it was truncated; q quits" in text_of(app)

    watch(source, steps)


def test_a_violation_gets_a_panel_when_it_is_reported(arena, source):
    async def steps(app, pilot):
        assert "violations ─" not in text_of(app)
        arena.segment.ram[c.H_REPORT_COUNT] = 1
        await pilot.press("r")
        await settle(app, pilot)
        assert "1 violation" in text_of(app) and "a complete report" in text_of(app)

    watch(source, steps)


@pytest.mark.parametrize(("width", "layout"), [(50, "-one"), (110, "-one"), (200, "-two")])
def test_a_wide_terminal_has_two_columns_of_panels(source, width, layout):
    async def steps(app, pilot):
        assert app.screen.has_class(layout)
        left, right = app.query_one("#left").region, app.query_one("#right").region
        assert (left.right <= right.x) == (layout == "-two")

    watch(source, steps, (width, 40))


def test_a_resized_terminal_is_filled_anew(source):
    async def steps(app, pilot):
        await pilot.resize_terminal(48, 30)
        await pilot.pause()
        assert app.query_one("#zones").size.width <= 46 and "zone 0:" in text_of(app)

    watch(source, steps, (150, 60))


# --- a database ----------------------------------------------------------------------------------

WORK = Work("soak", "shmstress soak --seed 0x5", {}, seed=5)


def moment(second: float, operations: int) -> Moment:
    snapshot = Snapshot((0,) * c.EV_COUNT, (2, 1), (3,), 400, 0, 1000, 0)
    use = ProcessUse(77, "worker 3", 9 << 20, 2 << 20, 7 << 20, fds=11, threads=1, cpu_s=1.5)
    return Moment(
        second, 60.0, 1, snapshot, (Account("churn", operations),), 1000.0 + second, (use,), b"\1\3"
    )


@pytest.fixture
def soak(tmp_path: Path) -> Iterator[tuple[str, Records, int]]:
    """A soak at work: one round that passed, one that runs, with two samples."""
    path = str(tmp_path / "soak.db")
    with Records(path) as records:
        run = records.begin_run(WORK)
        first = records.begin_round(run, WORK)
        records.end_round(first, "PASSED", 2.0, 500)
        second = records.begin_round(run, Work("run", "shmstress run", {}), ("table", "poison"))
        records.sample(second, moment(1.0, 1000))
        records.sample(second, moment(3.0, 5000))
        yield path, records, second


def shown(source: Source, width: int = 100) -> str:
    source.read()
    return frame(source.panels("number"), width)


def test_the_newest_samples_of_a_soak_are_shown(soak):
    path, _, _ = soak
    text = shown(DatabaseSource(path))
    assert "running" in text and "rounds: 1 PASSED  1 running" in text
    assert re.search(r"operations +5k +2k/s", text)  # 4,000 in two seconds
    assert re.search(r"memory +60%", text)  # 1000 pages, 400 free, 3 listed: 597
    assert re.search(r"worker 3 +77 +2MiB +9MiB", text) and "features: table, poison" in text
    assert "·#" in text


@pytest.mark.parametrize(
    ("spec", "place", "meaning"),
    [
        ({"ram": "8MiB"}, "0 ·#", "1,024 pages a letter, of most:  · free  # allocated"),
        ({"ram": "8MiB", "geometry": "start-pfn=2048"}, "0 ·#", "2,048 pages a letter, of most:"),
        ({}, "0% ·#", "a letter is of most pages of its stretch:  · free  # allocated"),
    ],
)
def test_the_map_of_a_soak_has_its_pfns_and_its_legend(tmp_path, spec, place, meaning):
    path = str(tmp_path / "soak.db")
    with Records(path) as records:
        round_id = records.begin_round(records.begin_run(WORK), Work("run", "shmstress run", spec))
        records.sample(round_id, moment(1.0, 1000))
        text = shown(DatabaseSource(path))
    assert f" {place}" in text and meaning in text


def test_a_map_of_fewer_cells_has_the_states_of_most():
    free, used = bytes([c.T_FREE]), bytes([c.T_ALLOCATED])
    assert fewer(free * 3 + used * 5, 2) == free + used
    assert fewer(free * 3, 2) == free * 3 and fewer(b"", 2) == b""  # an odd number stays


def test_what_was_found_is_shown_once_with_its_count(soak):
    path, records, round_id = soak
    records.violations(round_id, [Violation("I_TAIL", "pfn 3", "1", "2")] * 9, "run")
    text = shown(DatabaseSource(path))
    (row,) = re.findall(r"^[0-9a-f]{12} +I_TAIL +1 .* open", text, re.MULTILINE)
    assert "findings: 1" in text and row


def test_a_soak_is_followed_from_round_to_round(soak):
    path, records, round_id = soak
    source = DatabaseSource(path)
    shown(source)
    records.end_round(round_id, "FAILED", 4.0, 6000)
    third = records.begin_round(1, WORK)
    records.sample(third, moment(1.0, 42))
    text = shown(source)
    assert "1 PASSED  1 FAILED  1 running" in text and re.search(r"operations +42 ", text)


def test_a_soak_that_ended_says_how(soak):
    path, records, round_id = soak
    records.end_round(round_id, "PASSED", 4.0, 6000)
    records.end_run(1, "PASSED")
    source = DatabaseSource(path)
    assert "ended: PASSED" in shown(source) and source.ended == "the soak is ended: PASSED"
    records.close()


def test_a_database_without_a_run_is_refused(tmp_path):
    with Records(tmp_path / "empty.db"):
        pass
    with pytest.raises(MisuseError, match="no run is recorded"):
        DatabaseSource(str(tmp_path / "empty.db")).read()


def test_a_soak_is_shown_on_a_terminal(soak):
    path, _, _ = soak
    source = DatabaseSource(path)

    async def steps(app, pilot):
        assert "worker 3" in text_of(app) and "the newest round" in text_of(app)

    watch(source, steps)
    source.close()
