"""Results for other tools, end to end: the options of all commands, and what they write."""

import json

import junitparser
import pytest

import stress.commands.explore
from stress import cli
from stress.report.exports import Exports
from support import ktap_grammar
from support.runs import shmstress
from support.sources import LOST_UPDATE
from support.suites import one_of_each


@pytest.fixture
def program(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(LOST_UPDATE.replace('"lost"', '"lost update"'))
    return tmp_path


EXPLORE = ("explore", "mine.py:lost", "--engine", "interpreted", "--no-races")


def test_an_exploration_is_read_by_the_tools_of_others(program, capsys):
    code = cli.run([*EXPLORE, "--junit", "a.xml", "--ktap", "a.ktap", "--markdown", "a.md"])
    token = capsys.readouterr().out.split("shmstress replay ")[1].split()[-1]
    (suite,) = junitparser.JUnitXml.fromfile("a.xml")
    ((group,), _) = ktap_grammar.parse((program / "a.ktap").read_text())
    assert code == suite.failures == 1 and not group.children[0].ok
    assert token in [one.value for one in suite.properties()]
    assert "### shmstress explore: FAILED" in (program / "a.md").read_text()


def test_all_formats_have_the_numbers_of_the_json_document(program, capsys):
    cli.run([*EXPLORE, "--json", "a.json", "--markdown", "-"])
    document = json.loads((program / "a.json").read_text())
    row = f"| lost update | sc | auto | failed | {document['schedules']} | {document['classes']} |"
    assert row in capsys.readouterr().out


def test_how_to_repeat_it_is_the_command_without_the_places_of_its_results(program, capsys):
    cli.run([*EXPLORE, "--ktap", "-", "--html", "a.html"])
    line = "to try again, run: shmstress explore --no-races --engine interpreted mine.py:lost"
    assert f"#   {line}\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["junit", "ktap", "markdown"])
def test_on_standard_output_a_document_is_alone(program, capsys, name):
    assert cli.run([*EXPLORE, f"--{name}", "-"]) == 1
    captured = capsys.readouterr()
    begins = {"junit": "<?xml", "ktap": "KTAP version 1\n", "markdown": "<!-- shmstress"}
    assert captured.out.startswith(begins[name]) and "to see it again" in captured.err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--junit", "-", "--ktap", "-"), "ktap: - is the file of junit, too; name another"),
        (("--markdown", "a", "--json", "a"), "markdown: a is the file of json, too"),
        (("--ktap", "nowhere/a"), "ktap: nowhere/a cannot be written"),
        (("--junit", "."), "junit: . is a directory"),
    ],
)
@pytest.mark.parametrize("command", ["explore", "check", "crash", "run", "mutants"])
def test_places_are_refused_before_the_work_begins(program, capsys, command, options, told):
    named = {"explore": ["mine.py"], "check": ["mine.py"]}.get(command, [])
    assert cli.run([command, *named, *options]) == 4
    assert told in capsys.readouterr().err


def test_an_interrupt_loses_nothing_of_what_was_found(program, capsys, monkeypatch):
    explore_one = stress.commands.explore.explore

    def explore_the_first(found, **how):
        if found.name != "lost update":
            raise KeyboardInterrupt
        return explore_one(found, **how)

    monkeypatch.setattr("stress.commands.explore.explore", explore_the_first)
    targets = ("mine.py:lost", "buddy-alloc-alloc", "--engine", "interpreted", "--no-races")
    assert cli.run(["explore", *targets, "--ktap", "a.ktap", "--json", "a.json"]) == 1
    ((group,), _) = ktap_grammar.parse((program / "a.ktap").read_text())
    assert [(one.name, one.directive) for one in group.children] == [
        ("lost update", ""),
        ("buddy-alloc-alloc", "ERROR"),
    ]
    assert json.loads((program / "a.json").read_text())["exit_code"] == 1


def test_a_full_disk_hides_no_verdict(program, capsys):
    assert cli.run(["check", "mine.py", "--duration", "5s", "--ktap", "/dev/full"]) == 1
    captured = capsys.readouterr()
    assert "FAILED in " in captured.out and "No space left on device" in captured.err


def test_a_suite_is_made_only_if_a_format_is_wanted():
    Exports({"junit": None, "markdown": None}).write(lambda: pytest.fail("it was made"))


def test_a_run_is_read_by_the_tools_of_others(tmp_path):
    run = shmstress(
        "run", "--workload", "churn", "--workers", "2", "--ram", "32MiB", "--duration", "1s",
        "--ktap", "-", "--junit", str(tmp_path / "a.xml"),
    )  # fmt: skip
    groups, _ = ktap_grammar.parse(run.stdout)
    (suite,) = junitparser.JUnitXml.fromfile(str(tmp_path / "a.xml"))
    cases = {case.name: case.is_passed for case in suite}
    assert [one.name for one in groups] == ["run", "workload", "invariant"]
    assert cases["processes"] and cases["churn"] and cases["I_TAIL"] and not suite.failures
    assert cases["X_WALKER"] is False  # the pfn walker took no part: skipped


def test_a_file_that_was_written_is_named(tmp_path, capsys):
    Exports({"ktap": str(tmp_path / "a.ktap"), "junit": "-"}).write(one_of_each)
    assert capsys.readouterr().err == f"wrote {tmp_path / 'a.ktap'}\n"


def test_the_exports_are_written_where_they_are_wanted(tmp_path):
    path = tmp_path / "a.ktap"
    Exports({"ktap": str(path)}).write(one_of_each)
    assert path.read_text().startswith("KTAP version 1\n")
