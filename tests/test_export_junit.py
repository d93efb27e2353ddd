"""``--junit``: judged by the rules of the Jenkins xUnit schema, and read back by junitparser."""

import re
from datetime import datetime
from xml.etree import ElementTree

import junitparser
import pytest
from msgspec.structs import replace

from shmalloc.invariants import TABLE
from stress.report.checked import CHECKED_WHEN
from stress.report.junit import junit
from stress.report.suite import Case, Start
from stress.report.suites.run import suite_of
from stress.verdict import Verdict
from support.suites import AGAIN, START, hostile, one_of_each, result_with, suite, tail

PAST = ("cpu 1: allocated pfn 5, order 0, for owner 7", "cpu 2: freed pfn 5, order 0")
# What junit-10.xsd of the Jenkins xUnit plugin allows: attributes (* is required), then children.
SCHEMA = {
    "testsuites": ("name time tests failures errors", "testsuite"),
    "testsuite": (
        "name* tests* failures* errors* group time skipped timestamp hostname id package file log"
        " url",
        "testsuite properties testcase system-out system-err",
    ),
    "properties": ("", "property"),
    "property": ("name* value*", ""),
    "testcase": (
        "name* time classname group",
        "skipped error failure rerunFailure rerunError flakyFailure flakyError system-out"
        " system-err",
    ),
    "failure": ("type message", ""),
    "error": ("type message", ""),
    "skipped": ("type message", ""),
    "system-out": ("", ""),
    "system-err": ("", ""),
}
SUREFIRE_TIME = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]*)?")


def complaints(element):
    """Where ``element`` breaks a rule of the schema."""
    attributes, children = (text.split() for text in SCHEMA[element.tag])
    known = {name.rstrip("*") for name in attributes}
    required = {name.rstrip("*") for name in attributes if name.endswith("*")}
    found = [f"{element.tag} has {name}" for name in set(element.keys()) - known]
    found += [f"{element.tag} lacks {name}" for name in required - set(element.keys())]
    found += [f"{one.tag} in {element.tag}" for one in element if one.tag not in children]
    if element.tag.startswith("testsuite") and not SUREFIRE_TIME.fullmatch(element.get("time", "")):
        found.append(f"time {element.get('time')}")
    return found + [said for one in element if one.tag in SCHEMA for said in complaints(one)]


def read(made):
    return junitparser.JUnitXml.fromstring(junit(made).encode("utf-8"))


@pytest.fixture(scope="module")
def read_back():
    (found,) = read(one_of_each())
    return found


@pytest.mark.parametrize("make", [one_of_each, hostile, suite])
def test_a_document_keeps_the_schema_of_jenkins(make):
    assert complaints(ElementTree.fromstring(junit(make()).encode("utf-8"))) == []


def test_failures_errors_and_skipped_cases_are_counted_apart(read_back):
    counts = read_back.tests, read_back.failures, read_back.errors, read_back.skipped
    assert counts == (6, 1, 2, 2)


def test_the_root_counts_like_its_suite(read_back):
    root = read(one_of_each())
    assert (root.tests, root.failures, root.errors, root.time) == (6, 1, 2, read_back.time)


def test_when_where_and_how_long_are_those_of_the_command(read_back):
    assert datetime.fromisoformat(read_back.timestamp).timestamp() == int(START.time_s)
    assert (read_back.hostname, read_back.time) == ("builder-7", 12.346)


def test_seed_and_spec_are_properties(read_back):
    assert {one.name: one.value for one in read_back.properties()} == {
        "seed": "0x2a",
        "spec": AGAIN,
    }


def test_jenkins_shows_command_and_group_as_package_and_class(read_back):
    assert [case.classname for case in read_back][:3] == [
        "shmstress.run.workload", "shmstress.run.workload", "shmstress.run.invariant",
    ]  # fmt: skip


def test_a_failure_has_its_line_its_words_and_how_to_repeat_it(read_back):
    (failed,) = (case for case in read_back if case.is_failure)
    (result,) = failed.result
    assert (failed.name, result.message, result.type) == ("I_TAIL", "at pfn 5", "FAILED")
    assert result.text == "at pfn 5\nand 2 more" and AGAIN in failed.system_out


def test_what_was_interrupted_is_an_error_and_says_so(read_back):
    assert {one.type for case in read_back if case.is_error for one in case.result} == {
        "ERROR",
        "INTERRUPTED",
    }


def test_characters_that_xml_cannot_carry_are_left_out():
    (failed, _) = next(iter(read(hostile())))
    assert "]]>" in failed.name and "\x1b" not in failed.name and "\ufffe" not in failed.name
    assert failed.result[0].text.count("<script>") == 1


def test_a_message_is_one_line_of_a_readable_length():
    (case,) = next(iter(read(suite(Case("a", "b", Verdict.FAILED, 0.0, "word\n" * 999)))))
    assert len(case.result[0].message) <= 500 and "\n" not in case.result[0].message


# --- a run ---------------------------------------------------------------------------------------
def cases_of(result):
    return {case.name: case for suite in read(suite_of(result, Start.now())) for case in suite}


def test_a_run_has_a_case_for_each_workload_and_each_invariant():
    found = cases_of(result_with())
    assert {"processes", "churn", "I_TAIL", "M_DOUBLE_FREE", "X_WALKER"} <= found.keys()


def test_a_violated_invariant_fails_once_with_its_sentence_and_its_history():
    case = cases_of(result_with(tail(5, PAST), tail(6), tail(7)))["I_TAIL"]
    (failure,) = case.result
    assert failure.message.startswith("I_TAIL: every page is covered by exactly one head")
    assert failure.text.count("I_TAIL") == 1 and "and 2 more like it" in failure.text
    assert PAST[0] in failure.text


def test_an_invariant_that_nothing_checked_is_skipped():
    result = result_with()
    assert cases_of(result)["I_TAIL"].is_skipped
    result.audits = 1
    assert cases_of(result)["I_TAIL"].is_passed


def test_a_workload_that_did_nothing_is_skipped():
    assert cases_of(result_with())["churn"].is_skipped


def test_a_worker_that_died_fails_the_processes_and_no_invariant():
    result = result_with()
    result.troubles.append((Verdict.FAILED, "worker 3 was killed by SIGSEGV\nits last words"))
    found = cases_of(result)
    assert [name for name, case in found.items() if case.is_failure] == ["processes"]
    assert found["processes"].result[0].message == "worker 3 was killed by SIGSEGV"


def test_a_run_s_texts_are_cleaned():
    result = result_with()
    result.spec = replace(result.spec, trace="a\x1b\ud800\ufffeb\U0001f40dc")
    result.troubles.append((Verdict.ERROR, "d\x08\udcffe"))
    text = junit(suite_of(result, Start.now()))
    assert r"a\x1b\U0000d800" in text
    assert "eb\U0001f40dc" in text and "de" in text
    assert not set("\x1b\x08\ud800\ufffe\udcff") & set(text)


def test_of_every_checker_in_the_table_it_is_known_when_it_takes_part():
    checkers = {name for row in TABLE.values() for name in row.checkers}
    assert checkers == CHECKED_WHEN.keys()
