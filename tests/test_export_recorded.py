"""``shmstress report DB --junit/--ktap/--markdown/--sarif``: a recorded soak for other tools."""

import json

import junitparser
import pytest
from markdown_it import MarkdownIt

from stress import cli
from stress.records.failures import finding_of_failure
from stress.records.reader import Reader
from stress.records.writer import Records, Work
from support import failures, ktap_grammar, sarif_rules
from support.recorded import HOSTILE, Made, make


@pytest.fixture
def soak(tmp_path, monkeypatch):
    """A soak of three rounds with a violation and a race in the first."""
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "soak.db", Made(rounds=3, samples=2, verdict="FAILED"))
    return tmp_path / "soak.db"


def report(capsys, *options):
    assert cli.run(["report", "soak.db", *options]) == 0
    return capsys.readouterr().out


def groups(capsys):
    found, _ = ktap_grammar.parse(report(capsys, "--ktap", "-"))
    return {group.name: {one.name: one for one in group.children} for group in found}


def test_a_soak_is_read_by_the_tools_of_others(soak, capsys):
    options = ("--junit", "a.xml", "--ktap", "a.ktap", "--markdown", "a.md", "--sarif", "a.sarif")
    report(capsys, *options)
    (suite,) = junitparser.JUnitXml.fromfile("a.xml")
    run = sarif_rules.check(json.loads((soak.parent / "a.sarif").read_text()))
    assert suite.name == "shmstress soak" and suite.failures == 2  # I_TAIL and race
    assert run["invocations"][0]["exitCode"] == 1
    assert "### shmstress soak: FAILED" in (soak.parent / "a.md").read_text()


def test_a_case_stands_for_each_round_workload_and_invariant(soak, capsys):
    found = groups(capsys)
    assert [*found["round"]] == ["1 run", "2 run", "3 run"]
    assert found["workload"].keys() == {"churn", "frag"}
    assert not found["invariant"]["I_TAIL"].ok and not found["invariant"]["race"].ok


def test_an_invariant_that_no_round_checked_is_skipped(soak, capsys):
    found = groups(capsys)["invariant"]
    assert found["X_DOUBLE_ALLOC"].ok and found["X_DOUBLE_ALLOC"].directive == ""
    assert found["X_WALKER"].directive == "SKIP"


def test_what_is_ignored_fails_nothing_and_is_counted(soak, capsys):
    with Records(soak) as records, Reader(soak) as reader:
        for one in reader.findings():
            records.set_status(one.fingerprint, "ignored")
        names = [one.fingerprint for one in reader.findings()]
    text = report(capsys, "--markdown", "-")
    assert "2 findings that are ignored" in text and all(name in text for name in names)
    assert all(one.ok for one in groups(capsys)["invariant"].values())


def test_the_numbers_are_those_of_the_database(soak, capsys):
    text = report(capsys, "--markdown", "-")
    with Reader(soak) as reader:
        for one in reader.rounds():
            row = f"| {one.number} | run | PASSED | {one.seconds:,.1f} | {one.operations:,} |"
            assert row in text.splitlines()
        (tail,) = (one for one in reader.findings() if one.invariant == "I_TAIL")
    assert f"| {tail.count:,} | open |" in text


@pytest.fixture
def three_runs(tmp_path, monkeypatch):
    """Three runs of one database that saw one race; the rounds of the second have nothing else."""
    monkeypatch.chdir(tmp_path)
    work = Work("explore", "shmstress explore lost-update")
    with Records(tmp_path / "soak.db") as records:
        for _ in range(3):
            run = records.begin_run(work)
            round_id = records.begin_round(run, work)
            name = records.finding(round_id, finding_of_failure(failures.race()))
            records.end_round(round_id, "FAILED", 1.0, 3)
            records.end_run(run, "FAILED")
    return name


@pytest.mark.parametrize("run", ["1", "2", "3"])
def test_each_run_that_saw_a_finding_reports_it(three_runs, capsys, run):
    text = report(capsys, "--run", run, "--markdown", "-")
    assert "1 open finding" in text and three_runs in text
    log = sarif_rules.check(json.loads(report(capsys, "--run", run, "--sarif", "-")))
    assert [one["partialFingerprints"]["shmstress/v1"] for one in log["results"]] == [three_runs]


@pytest.mark.parametrize("run", ["1", "2", "3"])
def test_the_round_of_each_run_says_what_it_saw(three_runs, capsys, run):
    report(capsys, "--run", run, "--junit", "a.xml")
    (suite,) = junitparser.JUnitXml.fromfile("a.xml")
    (case,) = (one for one in suite if one.name == "1 explore")
    assert three_runs in case.result[0].message


def test_a_run_that_never_ended_is_an_error_of_its_last_round(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with Records(tmp_path / "soak.db") as records:
        run = records.begin_run(Work("soak", "shmstress soak"))
        records.begin_round(run, Work("run", "shmstress run"))
    found = groups(capsys)["round"]["1 run"]
    assert (found.ok, found.directive) == (False, "ERROR") and "lost" in found.said
    assert "the run is lost" in report(capsys, "--markdown", "-")


def test_a_recorded_race_has_both_of_its_lines_and_its_fingerprint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with Records(tmp_path / "soak.db") as records:
        run = records.begin_run(Work("explore", "shmstress explore lost-update"))
        round_id = records.begin_round(run, Work("explore", "shmstress explore lost-update"))
        name = records.finding(round_id, finding_of_failure(failures.race()))
        records.end_round(round_id, "FAILED", 1.0, 3)
        records.end_run(run, "FAILED")
    log = sarif_rules.check(json.loads(report(capsys, "--sarif", "-")))
    (result,) = log["results"]
    told = [one["message"]["text"] for one in result["relatedLocations"]]
    assert told == ["step 0, cpu 0: read [0] = 0", "step 2, cpu 1: write [0] <- 1"]
    assert result["partialFingerprints"] == {"shmstress/v1": name}
    file = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert file.endswith("tests/support/failures.py")


def test_what_a_database_holds_is_text(soak, capsys):
    text = report(capsys, "--markdown", "-")
    parsed = MarkdownIt("commonmark").enable("table").parse(text)
    html = [one.content for one in parsed if one.type == "html_block"]
    html += [c.content for one in parsed for c in one.children or () if c.type == "html_inline"]
    assert HOSTILE in text and not any("<script" in one or "<img" in one for one in html)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "say what to write"),
        (("--junit", "-", "--ktap", "-"), "ktap: - is the file of junit, too"),
        (("--sarif", "soak.db"), "sarif: soak.db is the database"),
        (("--ktap", "-", "--run", "9"), "run: 9 is not in"),
    ],
)
def test_mistakes_are_told_in_one_line(soak, capsys, options, told):
    assert cli.run(["report", "soak.db", *options]) == 4
    assert told in capsys.readouterr().err
