"""``--sarif``: judged by a schema and by rules that were written from the standard."""

import copy
import json
import subprocess
from pathlib import Path

import jsonschema
import pytest

from shmalloc.errors import Violation
from stress import cli
from stress.records.finding import fingerprint_of
from stress.report.reporters import place_of
from stress.report.sarif import sarif
from stress.report.suite import Case, Start
from stress.report.suites.account import finding_of
from stress.report.suites.run import suite_of
from stress.verdict import Verdict
from support import failures, sarif_rules
from support.suites import finding, hostile, one_of_each, result_with, suite

ROOT = Path(__file__).resolve().parent.parent
HERE = "tests/support/failures.py"


def run_of(made):
    return sarif_rules.check(json.loads(sarif(made)))


def result_of(failure):
    (result,) = run_of(suite(findings=[finding_of(failure)]))["results"]
    return result


def lines_of(places):
    """(file, the text of the line, what is said of it) of each location."""
    found = []
    for one in places:
        place = one["physicalLocation"]
        file = ROOT / place["artifactLocation"]["uri"]
        line = file.read_text().splitlines()[place["region"]["startLine"] - 1].strip()
        assert place["region"]["snippet"]["text"] == line
        found.append((str(file.relative_to(ROOT)), line, one.get("message", {}).get("text", "")))
    return found


@pytest.mark.parametrize("make", [one_of_each, hostile, suite])
def test_a_log_keeps_the_rules_of_the_standard(make):
    run_of(make())


@pytest.mark.parametrize("make", failures.ALL)
def test_every_kind_of_failure_has_a_line_in_the_source(make):
    result = result_of(make())
    ((file, _, _),) = lines_of(result["locations"])
    assert file == HERE and result["codeFlows"]


def test_both_accesses_of_a_race_are_told_with_their_lines():
    result = result_of(failures.race())
    assert result["ruleId"] == "race"
    assert lines_of(result["relatedLocations"]) == [
        (HERE, failures.READ_WRITE, "step 0, cpu 0: read [0] = 0"),
        (HERE, failures.READ_WRITE, "step 2, cpu 1: write [0] <- 1"),
    ]


def test_the_schedule_is_a_flow_with_a_thread_for_each_cpu():
    (flow,) = result_of(failures.failed_check())["codeFlows"]
    order = {
        thread["id"]: [(one["executionOrder"], one["importance"]) for one in thread["locations"]]
        for thread in flow["threadFlows"]
    }
    assert order == {
        "cpu 0": [(0, "essential"), (3, "important")],
        "cpu 1": [(1, "important"), (2, "essential")],
    }


def test_a_step_says_what_it_did_and_how_deep_in_calls():
    (flow,) = result_of(failures.deadlock())["codeFlows"]
    first = flow["threadFlows"][0]["locations"][0]
    assert first["location"]["message"]["text"] == "cpu 0: cas [2] ok" and "nestingLevel" in first


def test_an_access_outside_memory_is_at_its_own_line():
    ((_, line, _),) = lines_of(result_of(failures.out_of_range())["locations"])
    assert line == "mem[99] = 5"


def test_a_deadlock_tells_who_waits_where():
    told = [said for _, _, said in lines_of(result_of(failures.deadlock())["relatedLocations"])]
    assert any("cpu 0 spins on" in said for said in told)
    assert any("cpu 1 waits for" in said for said in told)


def test_a_finding_without_a_line_is_a_notification():
    run = run_of(suite(findings=[finding("the words")]))
    (note,) = run["invocations"][0]["toolExecutionNotifications"]
    assert run["results"] == [] and "the words" in note["message"]["text"]


@pytest.mark.parametrize(
    ("verdict", "successful", "level"),
    [
        (Verdict.PASSED, True, None),
        (Verdict.VACUOUS, True, "warning"),
        (Verdict.ERROR, False, "error"),
    ],
)
def test_a_log_says_how_the_command_ended(verdict, successful, level):
    case = Case("workload", "churn", verdict, message="why")
    (call,) = run_of(suite(case, verdict=verdict))["invocations"]
    assert (call["executionSuccessful"], call["exitCode"]) == (successful, verdict.exit_code)
    notes = call["toolExecutionNotifications"]
    assert [note["level"] for note in notes] == ([level] if level else [])


# --- a run ---------------------------------------------------------------------------------------
SEEN = Violation("I_FREE_HEAD", "pfn 5", "a", "b", kernel="buddy.take_block")


def test_a_violation_of_a_run_is_at_the_line_of_the_kernel_that_reported_it():
    run = run_of(suite_of(result_with(SEEN), Start.now()))
    (result,) = run["results"]
    ((file, line, _),) = lines_of(result["locations"])
    assert file == "shmalloc/kernels/buddy.py" and "c.I_FREE_HEAD" in line
    assert list(result["partialFingerprints"].values()) == [fingerprint_of(SEEN)]


def test_the_rule_of_an_invariant_says_what_must_hold_and_who_checks_it():
    run = run_of(suite_of(result_with(SEEN), Start.now()))
    (rule,) = run["tool"]["driver"]["rules"]
    assert rule["id"] == "I_FREE_HEAD" and "aligned" in rule["shortDescription"]["text"]
    assert "audit" in rule["help"]["text"]


def test_a_violation_of_no_kernel_has_no_place():
    assert place_of(Violation("I_TAIL", "pfn 5", "a", "b")) is None


# --- files ---------------------------------------------------------------------------------------
SOURCE = """from shmalloc import kernel
from stress import Program

@kernel
def count(mem, cpu):
    mem[0] = mem[0] + 1

lost = Program("lost update", 2, [count, count])
"""


def explored(capsys, name):
    code = cli.run(["explore", name, "--engine", "interpreted", "--sarif", "-"])
    assert code == 1
    return sarif_rules.check(json.loads(capsys.readouterr().out))


def test_files_are_named_from_the_root_of_their_repository(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "races of mine"
    folder.mkdir()
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (folder / "mine.py").write_text(SOURCE)
    monkeypatch.chdir(folder)
    (result,) = explored(capsys, "mine.py:lost")["results"]
    file = result["locations"][0]["physicalLocation"]["artifactLocation"]
    assert file == {"uri": "races%20of%20mine/mine.py", "uriBaseId": "%SRCROOT%"}


def test_a_file_of_no_repository_keeps_its_whole_path(tmp_path, capsys, monkeypatch):
    there, here = tmp_path / "there", tmp_path / "here"
    for folder in (there, here):
        folder.mkdir()
    (there / "mine.py").write_text(SOURCE)
    monkeypatch.chdir(here)
    (result,) = explored(capsys, "../there/mine.py:lost")["results"]
    file = result["locations"][0]["physicalLocation"]["artifactLocation"]
    assert file == {"uri": (there / "mine.py").as_uri()}


# --- the rules themselves ------------------------------------------------------------------------
def changed(change):
    log = json.loads(sarif(suite(findings=[finding_of(failures.race())])))
    wrong = copy.deepcopy(log)
    change(wrong["runs"][0])
    return wrong


@pytest.mark.parametrize(
    "change",
    [
        lambda run: run.pop("tool"),
        lambda run: run["results"][0].pop("message"),
        lambda run: run["results"][0].update(ruleIndex=7),
        lambda run: run["results"][0].update(extra=1),
        lambda run: run["invocations"][0].pop("executionSuccessful"),
        lambda run: run["results"][0]["codeFlows"][0].update(threadFlows=[]),
    ],
)
def test_the_rules_find_what_is_wrong(change):
    with pytest.raises((jsonschema.ValidationError, AssertionError, IndexError)):
        sarif_rules.check(changed(change))
