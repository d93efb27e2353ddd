"""The table of verdicts in docs/explorer.md: a wrong answer is counted, and the page has none."""

from __future__ import annotations

import re

import pytest

from support import verdicts
from support.verdicts import BEGIN, END, FAMILIES, RIGHT, Tally, judged, refreshed, table
from test_examples import ROOT

PAGE = (ROOT / "docs" / "explorer.md").read_text("utf-8")


def test_the_page_has_every_family_and_no_wrong_verdict():
    part = PAGE[PAGE.index(BEGIN) : PAGE.index(END)]
    rows = re.findall(r"^\| (.+?) \| ([\d,]+) \| ([\d,]+) \| (\d+) \|$", part, re.MULTILINE)
    assert [title for title, *_ in rows] == list(FAMILIES)
    assert all(programs == right and wrong == "0" for _, programs, right, wrong in rows)


def test_an_answer_that_differs_is_wrong_and_told():
    tally = Tally()
    tally.count(judged("one", "failed", "failed"))
    tally.count(judged("other", "passed-budget", "failed"))
    assert tally == Tally(2, 1, ["other: passed-budget instead of failed"])
    assert "| some | 2 | 1 | 1 |" in table({"some": tally})


def test_the_families_that_take_a_second_have_the_verdicts_of_the_literature():
    for family in (verdicts.litmus_tests, verdicts.counted_families):
        assert [answer for answer in family(1) if answer[1] != RIGHT] == []


def test_a_page_without_the_marks_is_refused():
    with pytest.raises(ValueError, match="no place for the table"):
        refreshed("# The explorer", "| table |")
