"""``--keep``: the file stays below a size; what goes first is what is missed least."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from shmalloc.errors import MisuseError
from stress.records.finding import Attachment, Finding
from stress.records.reader import Reader
from stress.records.rows import RoundRow
from stress.records.work import Work
from stress.records.writer import Records
from support.recorded import a_moment

LIMIT_BYTES = 1 << 20
ROUNDS, SAMPLES, PAGE_BYTES = 60, 12, 30_000
BAD = 5  # the round that found something
WORK = Work("run", "shmstress run")


def filled(records: Records, rounds: int, sizes: list[int] | None = None) -> int:
    """A run of some rounds, one of which has a finding with a page. Returns its id."""
    run = records.begin_run(WORK)
    for number in range(1, rounds + 1):
        round_id = records.begin_round(run, WORK)
        for second in range(1, SAMPLES + 1):
            records.sample(round_id, a_moment(second))
        with records.together():
            if number == BAD:
                records.finding(round_id, found())
            result = {"text": random.Random(number).randbytes(4000).hex()}
            records.end_round(round_id, "FAILED" if number == BAD else "PASSED", 1.0, 1, result)
        if sizes is not None:
            sizes.append(sum(one.stat().st_size for one in records.path.parent.iterdir()))
    return run


def found() -> Finding:
    page = Attachment("page.html", os.urandom(PAGE_BYTES), "text/html")
    return Finding("schedule", "race", "push", "two writes", "replay x", attachments=[page])


class Kept:
    """What is left of a run that wrote several times the limit."""

    def __init__(self, folder: Path) -> None:
        self.sizes: list[int] = []
        with Records(folder / "runs.db", keep_bytes=LIMIT_BYTES) as records:
            self.run = filled(records, ROUNDS, self.sizes)
            self.over = records.over_limit
        self.reader = Reader(folder / "runs.db")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    kept = Kept(tmp_path_factory.mktemp("keep"))
    yield kept
    kept.reader.close()


@pytest.fixture(scope="module")
def whole_bytes(tmp_path_factory: pytest.TempPathFactory) -> int:
    path = tmp_path_factory.mktemp("whole") / "runs.db"
    with Records(path) as records:
        filled(records, ROUNDS)
    return path.stat().st_size


def rounds_by_number(kept: Kept) -> dict[int, RoundRow]:
    return {one.number: one for one in kept.reader.rounds(kept.run)}


def test_the_files_never_grow_past_the_limit(kept: Kept, whole_bytes: int) -> None:
    assert whole_bytes > 1.3 * LIMIT_BYTES, "the limit was not tested"
    assert max(kept.sizes) <= LIMIT_BYTES and not kept.over


def test_the_file_itself_has_shrunk(kept: Kept) -> None:
    falls = sum(later < earlier for earlier, later in zip(kept.sizes, kept.sizes[1:], strict=False))
    assert falls >= 1


def test_a_finding_keeps_all_of_its_first_sighting(kept: Kept) -> None:
    (finding,) = kept.reader.findings()
    (page,) = kept.reader.artifacts(fingerprint=finding.fingerprint)
    assert len(kept.reader.content(page.id)) == PAGE_BYTES
    assert kept.reader.round(finding.first_round_id).number == BAD


def test_old_rounds_are_thinned_before_new_ones(kept: Kept) -> None:
    thinned = [one.thinned for one in rounds_by_number(kept).values() if one.number != BAD]
    assert thinned == sorted(thinned, reverse=True)
    assert thinned[0] > 0 and thinned[-1] == 0


def test_the_last_rounds_have_all_of_their_samples(kept: Kept) -> None:
    last = kept.reader.rounds(kept.run)[-1]
    assert len(kept.reader.samples(round_id=last.id)) == SAMPLES


def test_no_round_is_counted_that_was_not_run(kept: Kept) -> None:
    run = kept.reader.run(kept.run)
    assert len(kept.reader.rounds(kept.run)) + run.dropped_rounds == ROUNDS


def test_rows_of_passed_rounds_go_when_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    long = Work("run", "shmstress run " + "x" * 16_000)
    with Records(path, keep_bytes=LIMIT_BYTES) as records:
        run = records.begin_run(WORK)
        for _ in range(120):
            records.end_round(records.begin_round(run, long), "PASSED", 1.0, 1)
    with Reader(path) as reader:
        dropped = reader.run(run).dropped_rounds
        assert dropped > 0 and dropped + len(reader.rounds(run)) == 120


def test_the_numbers_of_rounds_go_on_when_their_rows_are_gone(tmp_path: Path) -> None:
    page = Attachment("page.html", os.urandom(2 * LIMIT_BYTES), "text/html")
    finding = Finding("schedule", "race", "push", "two writes", "c", attachments=[page])
    with Records(tmp_path / "runs.db", keep_bytes=LIMIT_BYTES) as records:
        runs = [records.begin_run(WORK) for _ in range(2)]
        for _ in range(5):
            for run in runs:
                records.end_round(records.begin_round(run, WORK), "PASSED")
        other = records.begin_run(WORK)
        round_id = records.begin_round(other, WORK)
        records.finding(round_id, finding)
        records.end_round(round_id, "FAILED")
        with Reader(records.path) as reader:
            dropped = [row.dropped_rounds for row in reader.runs()]
        assert dropped == [4, 4, 0]
        assert [records.next_number(run) for run in runs] == [6, 6]


def test_findings_may_be_more_than_the_limit(tmp_path: Path) -> None:
    page = Attachment("page.html", os.urandom(2 * LIMIT_BYTES), "text/html")
    finding = Finding("schedule", "race", "push", "two writes", "c", attachments=[page])
    with Records(tmp_path / "runs.db", keep_bytes=LIMIT_BYTES) as records:
        round_id = records.begin_round(records.begin_run(WORK), WORK)
        with records.together():
            records.finding(round_id, finding)
            records.end_round(round_id, "FAILED")
        assert records.over_limit
        with Reader(records.path) as reader:
            assert len(reader.artifacts()) == 1


def test_one_long_round_is_bounded_while_it_runs(tmp_path: Path) -> None:
    with Records(tmp_path / "runs.db", keep_bytes=LIMIT_BYTES) as records:
        round_id = records.begin_round(records.begin_run(WORK), WORK)
        sizes = []
        for second in range(1, 900):
            records.sample(round_id, a_moment(second))
            sizes.append(sum(one.stat().st_size for one in tmp_path.iterdir()))
        assert max(sizes) <= LIMIT_BYTES
        with Reader(records.path) as reader:
            times = [one.time_s for one in reader.samples(round_id=round_id)]
            assert times[-1] == 899 and times[0] < 200 and len(times) < 899


def test_a_thinned_sample_has_the_map_of_its_time(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with Records(path) as records:
        round_id = records.begin_round(records.begin_run(WORK), WORK)
        for second in range(1, 25):
            records.sample(round_id, a_moment(second), new_map=second % 5 == 1)
        maps = {one.time_s: one.ram_map for one in _samples(path)}
        from stress.records.keep import Keeper

        Keeper(records._file, LIMIT_BYTES)._thin_samples(round_id)
    for one in _samples(path):
        newest = max(time_s for time_s, ram_map in maps.items() if ram_map and time_s <= one.time_s)
        assert one.ram_map == maps[newest]


def _samples(path: Path) -> list:
    with Reader(path) as reader:
        return reader.samples()


def test_a_limit_without_room_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match="keep: 10KiB; use at least 1MiB"):
        Records(tmp_path / "runs.db", keep_bytes=10 << 10)
