"""The explorer's commands: explore, replay and list, their exit codes, files and usage errors."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stress import cli
from stress.explorer.result import VERDICTS
from stress.explorer.token import Token
from stress.programs import PROGRAMS
from support.runs import environment, shmstress

Call = Callable[..., tuple[int, str, str]]

SOURCE = """from shmalloc import kernel
from shmalloc.words import fetch_add, load, relax, store
from stress import Program

@kernel
def count(mem, cpu):
    value = load(mem, 0)
    store(mem, 0, value + 1)

@kernel
def count_at_once(mem, cpu):
    fetch_add(mem, 0, 1)

@kernel
def spin(mem, cpu):
    for _round in range(50):
        store(mem, 0, cpu)

@kernel
def counted(mem):
    return 0 if mem[0] == 2 else 3

lost = Program("lost update", 2, [count, count], check=counted, observe=[0])
fixed = Program("fixed", 2, [count_at_once, count_at_once], check=counted, observe=[0])
endless = Program("endless", 2, [spin, spin])
"""
UNSTEADY = """import itertools
from shmalloc import kernel
from shmalloc.dialect import primitive
from shmalloc.words import load
from stress import Program

CALLS = itertools.count()

@primitive("int")
def another(mem):
    return next(CALLS) % 4

@kernel
def unsteady(mem, cpu):
    return load(mem, another(mem))

program = Program("unsteady", 8, [unsteady, unsteady])
"""


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run one command line in this process: exit code, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.run(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with ``counting.py`` in it."""
    (tmp_path / "counting.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("explored_counting", "explored_unsteady", "explored_empty"):
        sys.modules.pop(name, None)


def explore(call: Call, program: str, *options: str) -> tuple[int, str, str]:
    return call("explore", f"counting.py:{program}", "--engine", "interpreted", *options)


def token_of(call: Call) -> str:
    explore(call, "lost", "--json", "result.json")
    return str(json.loads(Path("result.json").read_text())["failure"]["schedule"])


def debugged(token: str, *typed: str) -> str:
    """What ``shmstress replay`` prints when these lines are typed at its debugger."""
    done = subprocess.run(
        [sys.executable, "-m", "stress", "replay", token],
        input="\n".join([*typed, ""]),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


# --- exit codes ----------------------------------------------------------------------------------
def test_a_program_that_passes_exits_0(call, place):
    code, output, _ = explore(call, "fixed")
    assert code == 0 and output.startswith(
        "fixed (auto): passed-exhausted under sc: 2 CPUs, 2 words; 2 classes, "
    )


def test_a_program_that_fails_exits_1_and_shows_the_failure(call, place):
    code, output, _ = explore(call, "lost")
    assert code == 1 and "lost update: check 3" in output


def test_a_program_whose_schedules_are_cut_exits_5_and_names_the_option(call, place):
    code, output, _ = explore(call, "endless", "--step-limit", "20", "--schedules", "3")
    assert code == 5 and "raise --step-limit" in output


def test_a_schedule_that_does_not_repeat_exits_3_and_says_so(call, place):
    (place / "unsteady.py").write_text(UNSTEADY)
    code, output, _ = call("explore", "unsteady.py:program", "--engine", "interpreted")
    assert code == 3 and "note: a schedule that was run twice did not repeat" in output


def test_a_program_of_the_allocator_is_explored_by_its_name(call):
    code, output, _ = call("explore", "lock-try-try", "--engine", "interpreted")
    assert code == 0 and "lock-try-try (auto): passed-exhausted under sc: 2 CPUs, 1 lock;" in output


def test_a_module_is_found_in_the_working_directory(call, place, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    code, _, _ = call("explore", "counting:fixed", "--engine", "interpreted")
    sys.modules.pop("counting")
    assert code == 0


# --- usage errors --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("counting.py:losst",), "did you mean 'lost'"),
        (("counting",), "did you mean counting.py?"),
        (("missing.py:lost",), "missing.py does not exist"),
        (("missing_module:lost",), "'missing_module'"),
        (("empty.py:lost",), "empty.py has no Program at its top level"),
        (("lock-try-tri",), "did you mean 'lock-try-try'"),
        (("counting.py",), "name one of counting.py:lost, counting.py:fixed, "),
        ((), "PROGRAM"),
        (("counting.py:lost", "--strategy", "dpr"), "did you mean 'dpor'"),
        (("counting.py:lost", "--memory", "tos"), "did you mean 'tso'"),
        (("counting.py:lost", "--engine", "interpretd"), "did you mean 'interpreted'"),
        (("counting.py:lost", "--sede", "1"), "--seed"),
        (("counting.py:lost", "--seconds", "-5"), "duration: '-5'; use a form like"),
        (("counting.py:lost", "--seconds", "soon"), "'soon'"),
        (("counting.py:lost", "--seconds", "nan"), "duration: 'nan'; use a form like"),
        (("counting.py:lost", "--schedules", "0"), "schedules: 0; use at least 1"),
        (("counting.py:lost", "--workers", "0"), "workers: 0; use at least 1"),
        (("counting.py:lost", "--seed", "one"), "seed: 'one'; use a number"),
        (("counting.py:lost", "--seed", "-1"), "seed: '-1'; use a number"),
        (("counting.py:lost", "--depth", "0"), "depth: 0"),
        (("counting.py:lost", "--step-limit", "0"), "step_limit: 0; use 1 to 10,000,000"),
        (("counting.py:lost", "--vain-spins", "-1"), "free_spins: -1"),
        (("counting.py:lost", "--preemptions", "2"), "use strategy='dfs'"),
        (("counting.py:lost", "--strategy", "dfs", "--preemptions", "-1"), "preemptions: -1"),
        (("counting.py:lost", "--strategy", "dfs", "--delays", "-1"), "delays: -1"),
        (
            ("counting.py:lost", "--strategy", "dfs", "--delays", "1", "--preemptions", "1"),
            "preemptions, delays",
        ),
        (("counting.py:lost", "--strategy", "dpor", "--memory", "pso"), "dpor under pso"),
        (("counting.py:lost", "--json", "missing/result.json"), "result.json cannot be written"),
        (("counting.py:lost", "--html", "missing/page.html"), "page.html cannot be written"),
        (("counting.py:lost", "--json", "."), "is a directory"),
    ],
)
def test_a_usage_error_exits_4_and_names_the_cure(call, place, arguments, told):
    (place / "empty.py").write_text("program = 1\n")
    code, output, error = call("explore", *arguments)
    assert (code, output) == (4, "") and told in error


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nothing",), "neither a token (shm1/...) nor a file"),
        (("counting.py",), "no line of counting.py holds one"),
        (("shm1/x",), "use the line that a failure prints"),
        (("shm1/lost/sc/y/10/check/3/000000000000/-",), "program (or MODULE:PROGRAM): 'lost'"),
        (("shm1/counting.py:lots/sc/y/10/check/3/000000000000/-",), "did you mean 'lost'"),
        (("shm1/counting.py:lost/sc/y/10/check/3/000000000000/-", "--engine", "nativ"), "native"),
        ((), "TOKEN"),
    ],
)
def test_a_usage_error_of_replay_exits_4_and_names_the_cure(call, place, arguments, told):
    code, output, error = call("replay", *arguments)
    assert (code, output) == (4, "") and told in error


# --- results -------------------------------------------------------------------------------------
def test_the_json_document_holds_the_result(call, place):
    explore(call, "fixed", "--json", "result.json")
    document = json.loads((place / "result.json").read_text())
    assert document["verdict"] in VERDICTS
    facts = ("program", "verdict", "classes", "steps", "seed", "memory", "engine", "failure")
    assert [document[name] for name in facts] == [
        "fixed",
        "passed-exhausted",
        2,
        4,
        1,
        "sc",
        "interpreted",
        None,
    ]
    assert (document["observed"], document["outcomes"]) == ([0], [{"values": [2], "count": 2}])


def test_the_json_document_holds_the_failure_step_by_step(call, place):
    explore(call, "lost", "--json", "result.json")
    failure = json.loads((place / "result.json").read_text())["failure"]
    assert (failure["kind"], failure["code"], failure["preemptions"]) == ("check", 3, 1)
    assert sorted(step["op"] for step in failure["steps"]) == ["load", "load", "store", "store"]
    assert {step["at"].rpartition(":")[0] for step in failure["steps"]} == {
        str(place / "counting.py")
    }


def test_json_on_standard_output_is_nothing_but_json(call, place):
    code, output, error = explore(call, "lost", "--json", "-")
    assert code == 1 and json.loads(output)["verdict"] == "failed"
    assert "lost update: check 3" in error


def test_a_page_is_written_of_a_failure(call, place):
    explore(call, "lost", "--html", "page.html")
    page = (place / "page.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and "lost update" in page


def test_no_page_is_written_where_nothing_failed(call, place):
    explore(call, "fixed", "--html", "page.html")
    assert not (place / "page.html").exists()


def test_outcomes_are_shown_most_frequent_first(call, place):
    _, output, _ = explore(call, "lost", "--all-failures", "--strategy", "dfs", "--no-races")
    lines = [line.split() for line in output.splitlines()]
    assert lines.index(["4", "(1,)"]) < lines.index(["2", "(2,)"])
    assert "outcomes, by (word 0):" in output


def test_the_title_of_outcomes_names_words_and_returned_values(call, place):
    text = (
        (place / "counting.py")
        .read_text()
        .replace("observe=[0])", "observe=[('r', 1), 0], names={0: 'head'})")
    )
    (place / "counting.py").write_text(text)
    _, output, _ = explore(call, "fixed")
    assert "outcomes, by (what cpu 1 returned, head):" in output


def test_a_bound_of_pct_is_not_claimed_where_schedules_were_cut(call, place):
    limits = ("--step-limit", "10", "--schedules", "100")
    code, output, _ = explore(call, "endless", "--strategy", "pct", *limits)
    assert code == 5 and "guarantee" not in output


def test_cut_schedules_are_not_called_classes(call, place):
    _, output, _ = explore(call, "endless", "--step-limit", "10", "--schedules", "100")
    assert ": abandoned, 100 schedules, " in output


def test_a_look_at_the_current_path_is_called_a_low_estimate(call, place):
    _, output, _ = explore(call, "fixed", "--schedules", "1", "--engine", "interpreted")
    assert re.search(r"; 1 class of about \d+ or more, ", output)


def test_all_failures_are_counted_on_request(call, place):
    code, output, _ = explore(call, "lost", "--all-failures", "--strategy", "dfs")
    assert code == 1 and "4 schedules failed; this is the first:" in output


def test_a_bounded_search_prints_what_it_guarantees(call, place):
    options = ("--strategy", "dfs", "--preemptions", "0")
    code, output, _ = explore(call, "lost", *options)
    assert code == 0
    assert "guarantee: every schedule with at most 0 preemptions was run" in output


def test_a_number_of_seconds_or_a_duration_is_a_budget(call, place):
    for text in ("1", "0.5", "500ms", "1m", "0"):
        assert explore(call, "fixed", "--seconds", text)[0] == 0


# --- replay --------------------------------------------------------------------------------------
def test_the_line_in_the_report_is_a_command_that_shows_the_failure_again(call, place):
    _, report, _ = explore(call, "lost")
    command = shlex.split(report.rstrip().splitlines()[-1])
    assert command[:2] == ["shmstress", "replay"]
    code, output, _ = call(*command[1:])
    assert code == 1
    assert output.rstrip().endswith("reproduced: check 3")
    assert command[2] in output


def test_the_line_in_the_report_works_in_a_new_process(call, place):
    _, report, _ = explore(call, "lost")
    command = shlex.split(report.rstrip().splitlines()[-1])
    done = shmstress(*command[1:])
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.rstrip().endswith("reproduced: check 3")


def test_a_debugger_stops_at_a_breakpoint_of_a_replayed_kernel(call, place):
    token = token_of(call)
    mended = SOURCE.replace("    store(mem, 0, value", "    breakpoint()\n    store(mem, 0, value")
    (place / "counting.py").write_text(mended)
    done = debugged(token, "p 'at', cpu, value", "c", "p 'at', cpu, value", "c")
    assert done.index("('at', 0, 0)") < done.index("('at', 1, 0)")
    assert "reproduced: check 3" in done


@pytest.mark.parametrize("kind", ["report", "json"])
def test_a_token_is_found_in_a_file_that_explore_wrote(call, place, kind):
    _, report, _ = explore(call, "lost", "--json", "result.json")
    (place / "report.txt").write_text(report)
    name = {"report": "report.txt", "json": "result.json"}[kind]
    code, output, _ = call("replay", name)
    assert code == 1 and "reproduced: check 3" in output


def test_the_first_token_of_a_page_is_replayed(call, place):
    explore(call, "lost", "--html", "page.html")
    code, output, _ = call("replay", "page.html")
    assert code == 1 and "reproduced: check 3" in output


@pytest.mark.parametrize("engine", ["native", "interpreted"])
def test_a_replay_writes_a_page_on_request(call, place, engine):
    token = token_of(call)
    code, _, _ = call("replay", token, "--engine", engine, "--html", "page.html")
    assert code == 1 and token in (place / "page.html").read_text()


def test_a_replay_of_a_mended_kernel_exits_0_and_says_that_it_changed(call, place):
    token = token_of(call)
    mended = SOURCE.replace("[count, count]", "[count_at_once, count_at_once]")
    (place / "counting.py").write_text(mended)
    code, output, _ = call("replay", token)
    assert code == 0 and "the kernels have changed since this token was made" in output


def test_a_replay_that_does_not_fail_although_nothing_changed_exits_3(call, place):
    token = Token.parse(token_of(call))
    text = str(token).rpartition("/")[0] + "/-"
    code, output, _ = call("replay", text)
    assert code == 3 and "not reproduced: the token says check 3" in output


def test_a_token_of_a_program_elsewhere_is_replayed_with_its_new_place(call, place):
    token = token_of(call)
    (place / "counting.py").rename(place / "moved.py")
    code, output, _ = call("replay", token, "--program", "moved.py:lost")
    sys.modules.pop("explored_moved")
    assert code == 1 and "reproduced: check 3" in output


# --- list and help -------------------------------------------------------------------------------
@pytest.mark.parametrize("arguments", [("list", "--programs"), ("list", "programs")])
def test_list_names_every_program(call, arguments):
    code, output, _ = call(*arguments)
    assert code == 0 and output.splitlines() == list(PROGRAMS)


def test_list_tells_the_story_of_each_program_on_request(call):
    code, output, _ = call("list", "--programs", "-v")
    assert code == 0
    for name in ("lock-sleep-2", "lock-try-try"):
        assert f"{name}\n    {PROGRAMS[name]().story}\n" in output


@pytest.mark.parametrize("command", ["explore", "replay", "list"])
def test_help_fits_a_terminal(call, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, output, _ = call(command, "--help")
    assert code == 0 and output.startswith(f"Usage: shmstress {command} ")
    assert max(map(len, output.splitlines())) <= 80


@pytest.mark.parametrize("code", [0, 1, 3, 4, 5, 7])
def test_help_of_explore_names_every_exit_code(call, code):
    told = " ".join(call("explore", "--help")[1].split())
    assert f" {code} " in told.partition("Exit codes:")[2]
