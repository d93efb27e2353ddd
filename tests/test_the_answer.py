"""docs/the-answer.md: its generated parts follow from the kept figures, its sentences from claims.

Nothing is measured here. That the benchmark measures is seen where it runs (``tox -e answer``).
"""

import copy
import json
import mmap
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = str(ROOT / "benchmarks")
DOCUMENT = (ROOT / "docs" / "the-answer.md").read_text()
KEPT = ROOT / "docs" / "pictures" / "the-answer.json"
# A number with a unit of something measured. Sizes that are chosen (4 KiB) and widths are not.
FIGURE = re.compile(r"\d[\d.,]*\s?(?:ns|us|ms|s|F|x|%|times)\b")
EARLIER = "2.4 to 4 times"  # what another version of the page said


@pytest.fixture(scope="module")
def page():
    """The modules of benchmarks/ that make the page."""
    sys.path.insert(0, BENCHMARKS)
    try:
        import answer_claims
        import answer_counters
        import answer_page
        import answer_worlds
    finally:
        sys.path.remove(BENCHMARKS)
    answer_page.modules = (answer_claims, answer_counters, answer_worlds)
    return answer_page


@pytest.fixture
def made():
    return json.loads(KEPT.read_text())


def test_the_generated_parts_follow_from_the_kept_figures(page, made):
    assert page.rebuilt(DOCUMENT, made) == DOCUMENT


def test_another_measurement_changes_the_document_and_nothing_by_hand(page, made):
    other = copy.deepcopy(made)
    for figure in (*other["figures"].values(), *other["between"].values()):
        figure["ratio"] *= 1.5
    rebuilt = page.rebuilt(DOCUMENT, other)
    assert rebuilt != DOCUMENT
    assert page.by_hand(rebuilt) == page.by_hand(DOCUMENT)


def test_no_sentence_has_a_figure_of_its_own(page):
    text = page.by_hand(DOCUMENT).replace(EARLIER, "")
    assert FIGURE.findall(text) == []


def test_a_figure_in_a_sentence_is_seen():
    assert FIGURE.findall("It takes 31 ns, or 1.2 times as long: 4%") == ["31 ns", "1.2 times"]


def test_every_quote_is_measured(page, made):
    quoted = {name for name, _ in page.QUOTE.findall(DOCUMENT)}
    assert len(quoted) > 5 and quoted - set(page.quotes(made)) == set()


def test_what_the_sentences_say_holds(page, made):
    claims, _, _ = page.modules
    assert claims.broken_claims(made) == []


def test_a_claim_that_does_not_hold_is_named(page, made):
    claims, _, _ = page.modules
    made["hazards"]["descriptor"]["stray"]["plain.any"]["twice"] = 1
    assert any("twice" in problem for problem in claims.broken_claims(made))


def test_every_hazard_was_tried_on_every_store_that_has_a_column(made):
    tried = [set(made["hazards"][store]) for store in made["stores"]]
    assert set(made["stores"]) >= {"page", "descriptor", "table"}
    assert all(hazards == tried[0] for hazards in tried) and len(tried[0]) == 5


def test_a_document_without_a_block_is_refused(page, made):
    with pytest.raises(ValueError, match="no generated part"):
        page.rebuilt("nothing", made)


def test_a_counter_of_the_system_counts(page):
    _, counters, _ = page.modules
    if counters.refusal(counters.PAGE_FAULTS):
        pytest.skip("this system lets no process open a counter")
    fresh = mmap.mmap(-1, 64 * mmap.PAGESIZE)  # what malloc gives may have been touched before
    assert counters.counted(counters.PAGE_FAULTS, lambda: fresh.write(b"x" * len(fresh))) > 0


def test_huge_memory_is_read_from_the_mapping_of_that_address(page):
    _, _, worlds = page.modules
    smaps = (
        "7f0000000000-7f0000400000 rw-s 00000000 00:01 2  /memfd:answer (deleted)\n"
        "ShmemPmdMapped:     4096 kB\n"
        "7f0000400000-7f0000800000 rw-s 00000000 00:01 3  /memfd:answer (deleted)\n"
        "ShmemPmdMapped:     2048 kB\n"
    )
    assert worlds.huge_bytes_at(0x7F0000000000, smaps) == 4096 << 10
    assert worlds.huge_bytes_at(0x7F0000400000, smaps) == 2048 << 10
