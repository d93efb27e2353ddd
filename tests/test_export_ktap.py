"""``--ktap``: judged by a strict parser that was written from the kernel's description of KTAP."""

import pytest

from stress.report.ktap import ktap
from stress.report.suite import Case
from stress.verdict import Verdict
from support import ktap_grammar
from support.ktap_grammar import GrammarError
from support.suites import hostile, one_of_each, suite


def by_name(results):
    return {one.name: one for one in results}


@pytest.fixture(scope="module")
def groups():
    return by_name(ktap_grammar.parse(ktap(one_of_each()))[0])


def test_each_group_is_a_test_with_subtests(groups):
    assert [*groups] == ["workload", "invariant", "skipped"]
    assert [one.name for one in groups["workload"].children] == ["churn", "handoff"]


def test_what_tested_nothing_is_skipped_and_says_why(groups):
    handoff = by_name(groups["workload"].children)["handoff"]
    assert (handoff.ok, handoff.directive) == (True, "SKIP")
    assert handoff.said == "marks never reached: remote-free"


def test_a_group_fails_with_one_of_its_cases_and_is_skipped_with_all(groups):
    assert [one.ok for one in groups.values()] == [True, False, True]
    assert [one.directive for one in groups.values()] == ["", "", "SKIP"]


def test_a_failure_is_explained_before_its_result(groups):
    failed = by_name(groups["invariant"].children)["I_TAIL"]
    assert not failed.ok and failed.said == "at pfn 5"
    assert [line.strip() for line in failed.diagnostics][:2] == ["at pfn 5", "and 2 more"]
    assert "--seed 0x2a" in failed.diagnostics[-1]


def test_what_neither_passed_nor_failed_is_an_error(groups):
    children = by_name(groups["invariant"].children)
    assert {children[name].directive for name in ("I_SLAB", "I_SHEAF")} == {"ERROR"}


def test_a_case_does_not_have_the_name_of_its_group():
    (group,), _ = ktap_grammar.parse(ktap(suite(Case("sc", "sc", Verdict.PASSED))))
    assert (group.name, group.children[0].name) == ("sc (group)", "sc")


def test_how_to_repeat_it_comes_last():
    _, behind = ktap_grammar.parse(ktap(one_of_each()))
    assert behind[-1].endswith("shmstress run --workload churn --seed 0x2a")


def test_no_text_is_taken_for_a_line_of_the_format():
    (group,), _ = ktap_grammar.parse(ktap(hostile()))
    failed, skipped = group.children
    assert (failed.ok, skipped.directive, failed.directive) == (False, "SKIP", "")


def test_a_suite_without_cases_has_an_empty_plan():
    assert ktap_grammar.parse(ktap(suite()))[0] == []


def test_a_name_that_is_empty_or_a_sign_still_has_words():
    (group,), _ = ktap_grammar.parse(ktap(suite(Case("#", "", Verdict.PASSED))))
    assert (group.name, group.children[0].name) == ("unnamed (group)", "unnamed")


@pytest.mark.parametrize(
    "wrong",
    [
        "KTAP version 1\n1..2\nok 1 a\n",
        "KTAP version 1\n1..1\nok 2 a\n",
        "KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  not ok 1 b\nok 1 a\n",
        "KTAP version 1\n1..1\nok 1 a # ERROR b\n",
        "KTAP version 1\n1..1\nyes 1 a\n",
        "1..1\nok 1 a\n",
    ],
)
def test_the_parser_refuses_what_the_format_does_not_allow(wrong):
    with pytest.raises(GrammarError):
        ktap_grammar.parse(wrong)
