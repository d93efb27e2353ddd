"""Violations of a run as text and JSON: in groups, with one history for each thing."""

import json

from shmalloc.errors import Violation
from stress.report.document import json_document
from stress.report.violations import grouped, violation_lines
from support.suites import result_with, tail

PAST = ("cpu 1: allocated pfn 5, order 0, for owner 7", "cpu 2: freed pfn 5, order 0")


def test_violations_that_differ_in_numbers_alone_are_one_group():
    (group,) = grouped([tail(5), tail(6, found="TAIL v0"), tail(9)])
    assert (group.count, group.first.where) == (3, "pfn 5")
    assert group.more() == "and 2 more like it, at pfn 6, pfn 9"


def test_the_history_of_a_group_is_the_first_that_there_is():
    lines = list(violation_lines([tail(4), tail(5, PAST)], 2))
    assert lines[2].strip() == "history of pfn 5:" and PAST[0] in lines[3]


def test_violations_of_another_kind_of_page_are_a_group_of_their_own():
    assert len(grouped([tail(5), tail(6, found="FREE order 0 zone 0 MOVABLE v3")])) == 2


def test_a_violation_is_a_sentence_that_says_what_must_hold_where_and_what_was_found():
    (line,) = violation_lines([tail(5)], 1)
    assert line == (
        "!!! I_TAIL: every page is covered by exactly one head: at pfn 5, expected one head,"
        " found TAIL v3 (reported by claim 0)"
    )


def test_no_history_is_shown_twice():
    other = Violation("X_LOST_OWNER", "pfn 5", "owner 7", "0", PAST)
    lines = list(violation_lines([tail(5, PAST), other], 2))
    assert [sum(past in line for line in lines) for past in PAST] == [1, 1]
    assert lines[-1].strip() == "history of pfn 5: as above"


def test_only_the_first_groups_are_shown_and_the_rest_is_counted():
    many = [Violation("I_TAIL", "pfn 5", "one head", "x" * n) for n in range(1, 13)]
    lines = list(violation_lines(many, 20))
    assert lines[-2:] == [
        "!!! and 2 more of other kinds",
        "!!! and 8 more that were counted, not kept",
    ]


def test_json_has_every_violation_with_its_number_and_sentence_and_the_groups():
    (result,) = json.loads(json_document(result_with(tail(5, PAST), tail(6))))["results"]
    assert [found["where"] for found in result["violations"]] == ["pfn 5", "pfn 6"]
    assert {found["number"] for found in result["violations"]} == {6}
    (group,) = result["violation_groups"]
    assert (group["count"], group["places"]) == (2, ["pfn 5", "pfn 6"])
    assert group["sentence"] == "every page is covered by exactly one head"
    assert group["history"] == list(PAST)
