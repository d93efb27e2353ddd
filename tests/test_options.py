"""What the commands share: settings from three places, completion, help in groups, durations."""

import json
import os
import re
import subprocess
import sys

import click
import pytest

from shmalloc.errors import MisuseError
from shmalloc.sizes import parse_duration
from stress import cli
from stress.commands import completion, doctor, litmus, mutants, run
from stress.options import Command, Names, Seed, Time, command, duration, engine, option
from stress.options import seed as seed_option
from stress.options.files import found
from support.runs import ROOT


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No settings file of this repository, no variable of this shell."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("SHMSTRESS_")]:
        monkeypatch.delenv(name)


# --- durations -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("333ms", 0.333), ("1.5h", 5400),
     ("2d", 172800), ("5min", 300), ("1H 30M", 5400), ("0.25", 0.25), (7, 7)],
)  # fmt: skip
def test_a_duration_has_many_forms(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize("text", ["", "soon", "5 parsecs", "1h30", "-5s", "0", "nan", "5mm", "5y"])
def test_what_is_no_duration_is_refused_with_the_forms(text):
    with pytest.raises(MisuseError, match=r"budget: .*use a"):
        parse_duration(text, "budget")


# --- a command of our own ------------------------------------------------------------------------
def probe():
    """A group with one command, ``probe``, and what it was given."""
    given = {}

    @click.group()
    def group():
        pass

    @command("probe")
    @click.argument("place", required=False)
    @option("--names", type=Names("name", ("ada", "bob"), several=True), group="People")
    @duration("Time", default="10s", unlimited=True)
    @seed_option(default=1)
    @engine("native")
    @option("--loud", is_flag=True)
    @option("--show", is_flag=True, setting=False)
    def probe(**values):
        given.update(values)

    group.add_command(probe)
    return group, given


def called(*arguments):
    group, given = probe()
    group.main(["probe", *arguments], standalone_mode=False)
    return given


def test_seconds_is_another_name_of_duration():
    assert called("--seconds", "5m")["seconds"] == called("--duration", "300")["seconds"] == 300


def test_a_duration_of_zero_is_no_limit():
    assert called("--duration", "0")["seconds"] is None


def test_a_seed_is_read_in_decimal_and_hexadecimal():
    assert called("--seed", "0x10")["seed"] == called("--seed", "16")["seed"] == 16


def test_the_variable_of_the_command_beats_that_of_all_commands(monkeypatch):
    monkeypatch.setenv("SHMSTRESS_SEED", "5")
    assert called()["seed"] == 5
    monkeypatch.setenv("SHMSTRESS_PROBE_SEED", "6")
    assert called()["seed"] == 6
    assert called("--seed", "7")["seed"] == 7


def test_a_variable_may_have_either_name_of_a_time(monkeypatch):
    monkeypatch.setenv("SHMSTRESS_SECONDS", "1m")
    assert called()["seconds"] == 60


def test_what_is_no_setting_has_no_variable(monkeypatch):
    monkeypatch.setenv("SHMSTRESS_SHOW", "1")
    assert called()["show"] is False


SETTINGS = 'seed = 3\nduration = "2m"\nnames = ["bob", "ada"]\nloud = true\n'
MEANT = {"seed": 3, "seconds": 120.0, "names": "bob,ada", "loud": True}


@pytest.mark.parametrize(
    ("name", "table"),
    [("shmstress.toml", "[probe]\n"), ("pyproject.toml", "[tool.shmstress.probe]\n")],
)
def test_a_file_of_the_directory_or_one_above_has_a_table_for_each_command(
    tmp_path, monkeypatch, name, table
):
    (tmp_path / name).write_text(table + SETTINGS)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert called().items() >= MEANT.items()


@pytest.mark.parametrize("table", ["", "[probe]\n"])
def test_a_file_that_is_named_may_leave_out_the_table(tmp_path, table):
    (tmp_path / "mine.toml").write_text(table + SETTINGS)
    assert called("--config", "mine.toml").items() >= MEANT.items()


def test_next_to_a_file_that_is_named_no_other_is_read(tmp_path, capsys):
    (tmp_path / "shmstress.toml").write_text('[run]\nduration = "3s"\nfaults = "kill"\n')
    (tmp_path / "saved.toml").write_text('workload = ["churn"]\nduration = "7s"\n')
    assert cli.run(["run", "saved.toml", "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert "--duration 7s" in output and "kill" not in output


def test_a_settings_file_is_utf_8_in_every_locale(tmp_path):
    (tmp_path / "shmstress.toml").write_text("# für uns\n[run]\nseed = 7\n", "utf-8")
    variables = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-m", "stress", "run", "--dry-run"],
        capture_output=True, text=True, check=False, env=variables,
    )  # fmt: skip
    assert "--seed 0x7" in found.stdout, found.stderr


def test_the_command_line_beats_the_environment_and_that_beats_the_file(tmp_path, monkeypatch):
    (tmp_path / "shmstress.toml").write_text('[probe]\nseed = 3\nduration = "3s"\nnames = "ada"\n')
    monkeypatch.setenv("SHMSTRESS_SEED", "2")
    monkeypatch.setenv("SHMSTRESS_DURATION", "2s")
    given = called("--seed", "1")
    assert (given["seed"], given["seconds"], given["names"]) == (1, 2, "ada")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[probe]\nsede = 1\n", "[probe], key: 'sede' is unknown; did you mean 'seed'?"),
        ("[porbe]\nseed = 1\n", "table: 'porbe' is unknown; did you mean 'probe'?"),
        ("seed = 1\n", "seed stands in no table"),
        ("[probe]\nseconds = 1\nduration = 2\n", "is given twice, under two names"),
        ("[probe]\nloud = 'yes'\n", "use true or false"),
        ("[probe]\nseed = {a = 1}\n", "use a text, a number or a list"),
        ("[probe]\nshow = true\n", "key: 'show' is unknown"),
        ("[probe\n", "settings file"),
        ("[probe]\nnames = ['ada', 'bbo']\n", "name: 'bbo' is unknown; did you mean 'bob'?"),
    ],
)
def test_a_mistake_in_a_file_is_one_line_with_its_place(tmp_path, text, told):
    (tmp_path / "shmstress.toml").write_text(text)
    with pytest.raises(MisuseError) as raised:
        called()
    assert told in str(raised.value) and "\n" not in str(raised.value).strip()


@pytest.mark.parametrize(
    ("command", "text"),
    [("explore", 'memory = "tsoo"'), ("run", 'ram = "5q"'), ("run", 'faults = "kill:every=3q"')],
)
def test_a_bad_value_of_a_file_is_told_with_the_file(tmp_path, capsys, command, text):
    (tmp_path / "shmstress.toml").write_text(f"[{command}]\n{text}\n")
    assert cli.run([command, "buddy-merge-take" if command == "explore" else "--dry-run"]) == 4
    error = capsys.readouterr().err
    assert f"(set in {tmp_path / 'shmstress.toml'}, [{command}])" in error


@pytest.mark.parametrize("variable", ["SHMSTRESS_DURATION", "SHMSTRESS_RUN_DURATION"])
def test_a_bad_value_of_the_environment_is_told_with_the_variable(monkeypatch, capsys, variable):
    monkeypatch.setenv(variable, "5q")
    assert cli.run(["run", "--dry-run"]) == 4
    assert f"(set by {variable})" in capsys.readouterr().err


def test_a_bad_value_that_was_typed_has_no_place(monkeypatch, capsys):
    monkeypatch.setenv("SHMSTRESS_DURATION", "5s")
    assert cli.run(["run", "--dry-run", "--duration", "5q"]) == 4
    assert "(set" not in capsys.readouterr().err


def test_the_search_for_a_file_ends_at_the_repository(tmp_path):
    (tmp_path / "shmstress.toml").write_text("[probe]\n")
    inside = tmp_path / "repository"
    (inside / ".git").mkdir(parents=True)
    assert [path.name for path, _ in found(tmp_path)] == ["shmstress.toml"] and found(inside) == []


def test_a_project_without_our_table_is_no_settings_file(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert found(tmp_path) == []


def test_a_run_takes_lists_and_tables_of_a_file(tmp_path, capsys):
    (tmp_path / "shmstress.toml").write_text(
        '[run]\nworkload = ["frag", "churn"]\nseed = 7\n[run.faults.kill]\nevery = "100ms"\n'
    )
    assert cli.run(["run", "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert "--workload frag,churn " in output and "--faults kill:every=0.1s" in output


# --- the commands --------------------------------------------------------------------------------
COMMANDS = [name.removesuffix("_") for name in cli.COMMANDS]


def loaded(name):
    return cli.shmstress.get_command(click.Context(cli.shmstress), name)


def leaves(name):
    """The command, or those of a group."""
    one = loaded(name)
    return list(one.commands.values()) if isinstance(one, click.Group) else [one]


@pytest.mark.parametrize("module", [doctor, litmus, mutants, run])
def test_every_setting_of_a_command_has_its_two_variables(module):
    assert isinstance(module.command, Command)
    for key, one in module.command.settable().items():
        name = key.replace("-", "_").upper()
        wanted = {f"SHMSTRESS_{module.command.name.upper()}_{name}", f"SHMSTRESS_{name}"}
        assert wanted <= set(one.envvar)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_stands_in_a_group_with_a_sentence(name):
    (text,) = (texts[name] for texts in cli.GROUPS.values() if name in texts)
    assert text.endswith(".")


def options_named(name):
    """Every option of that name, with the command that has it."""
    for one in COMMANDS:
        for param in (param for leaf in leaves(one) for param in leaf.params):
            if isinstance(param, click.Option) and f"--{name}" in param.opts:
                yield one, param


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_its_settings_from_three_places(name):
    for one in leaves(name):
        assert isinstance(one, Command)
        assert not one.settable() or any("--config" in param.opts for param in one.params)


@pytest.mark.parametrize(
    ("name", "kind", "least"), [("duration", Time, 5), ("seed", Seed, 4), ("engine", Names, 6)]
)
def test_one_thing_has_one_spelling_and_one_kind(name, kind, least):
    found = dict(options_named(name))
    assert len(found) >= least
    assert {one for one, param in found.items() if not isinstance(param.type, kind)} == set()


def test_a_time_has_both_names_everywhere():
    assert dict(options_named("seconds")) == dict(options_named("duration"))


@pytest.mark.parametrize("name", ["json", "junit", "html", "markdown"])
def test_a_result_goes_to_a_file_everywhere(name):
    files = {one: param.metavar for one, param in options_named(name) if one != "list"}
    assert files and set(files.values()) == {"FILE"}


PRIVATE = re.compile(
    r"\b(somebody|nobody|anybody|everybody|whoever|in vain|the own|so many|so long)\b", re.I
)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_is_in_plain_sentences(capsys, name):
    text = help_of(capsys, name)
    assert not PRIVATE.search(text)
    for param in (param for one in leaves(name) for param in one.params):
        if isinstance(param, click.Option) and not param.hidden:
            assert param.help and param.help[0].isupper() | (param.help.split()[0][-1] in ":,"), (
                f"{name} {param.opts}: {param.help!r}"
            )


def test_facts_of_this_machine_go_to_standard_output_or_to_a_file(tmp_path, capsys):
    assert cli.run(["doctor", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert cli.run(["doctor", "--json", "facts.json"]) == 0
    kept = json.loads((tmp_path / "facts.json").read_text())
    assert printed["problems"] == kept["problems"] == []


def test_the_file_of_settings_may_be_named_by_a_variable(tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text("[probe]\nseed = 9\n")
    monkeypatch.setenv("SHMSTRESS_CONFIG", "mine.toml")
    assert called()["seed"] == 9


def help_of(capsys, *words):
    assert cli.run([*words, "--help"]) == 0
    return capsys.readouterr().out


def test_the_help_of_a_command_names_variables_and_files(capsys):
    text = " ".join(help_of(capsys, "litmus").split())
    assert "SHMSTRESS_LITMUS_DURATION" in text and "[tool.shmstress.litmus]" in text


def test_the_help_shows_groups_and_no_aliases(capsys):
    text = help_of(capsys, "run")
    assert "\nMemory:\n" in text and "\nFaults and checks:\n" in text and "--seconds" not in text


def test_help_imports_no_command():
    code = (
        "import sys; from stress import cli; cli.run(['--help']);"
        "print([m for m in sys.modules if m.startswith(('stress.commands.', 'numpy', 'rich'))])"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert shown.stdout.splitlines()[-1] == "[]", shown.stderr


# --- completion: the protocol of click ---------------------------------------------------------
def completions(*words):
    """What a shell is offered for the last of ``words``."""
    line = " ".join(["shmstress", *words])
    answer = subprocess.run(
        [sys.executable, "-m", "stress"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "_SHMSTRESS_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words)),
        },
    )
    assert answer.stderr == ""
    return [one.partition(",")[2] for one in answer.stdout.splitlines() if one]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("mut",), ["mutants"]),
        (("mutants", "merge-any"), ["merge-any-order"]),
        (("mutants", "--engine", "n"), ["native"]),
        (("litmus", "two-word-"), ["two-word-torn"]),
        (("sweep", "page-"), ["page-wait"]),
        (("list", "inv"), ["invariants"]),
        (("run", "--workload", "chu"), ["churn"]),
        (("run", "--workload", "churn,fr"), ["churn,frag"]),
        (("run", "--link-store", "t"), ["table"]),
        (("run", "--progress", "al"), ["always"]),
        (("run", "--dur"), ["--duration"]),
        (("run", "--sec"), []),
        (("completion", "f"), ["fish"]),
        (("nonsense", "x"), []),
    ],
)
def test_a_shell_completes(words, wanted):
    assert completions(*words) == wanted


def test_a_completion_compiles_nothing_and_loads_no_compiler():
    code = (
        "import sys, click; from stress import cli; from click.shell_completion import"
        " BashComplete; items = BashComplete(cli.shmstress, {}, 'shmstress', 'X')"
        ".get_completions(['mutants'], 'merge-'); print(len(items));"
        "print([m for m in sys.modules if m.startswith(('llvmlite', 'numpy', 'rich'))])"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    count, imported = shown.stdout.splitlines()
    assert int(count) > 1 and imported == "[]", shown.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_asks_by_our_variable(shell, capsys):
    assert cli.run(["completion", shell]) == 0
    assert "_SHMSTRESS_COMPLETE" in capsys.readouterr().out


def test_the_script_for_bash_runs(tmp_path):
    script = tmp_path / "script"
    script.write_text(
        f'shmstress() {{ :; }}\neval "$({sys.executable} -m stress completion bash)"\n'
        "complete -p shmstress\n"
    )
    ran = subprocess.run(
        ["bash", str(script)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "-F _shmstress_completion shmstress" in ran.stdout


def test_the_help_of_completion_ends_with_the_lines_that_it_announces(capsys):
    assert cli.run(["completion", "--help"]) == 0
    announced, lines = capsys.readouterr().out.split("Put the line of your shell where it is read:")
    assert "-h, --help" in announced
    assert [line.strip() for line in lines.strip().splitlines()] == list(completion.HOW.values())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_loads_neither_a_compiler_nor_what_makes_pages(name):
    code = (
        f"import sys; from stress import cli; cli.run([{name!r}, '--help']);"
        "sys.exit(str([m for m in ('llvmlite', 'jinja2') if m in sys.modules]))"
    )
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False
    )
    assert child.stderr == "[]\n"


@pytest.mark.parametrize("text", ["tool = 3\n", "[tool]\nshmstress = 3\n"])
def test_a_project_whose_table_is_a_number_is_no_traceback(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text)
    if text.startswith("tool"):
        assert found(tmp_path) == []
    else:
        with pytest.raises(MisuseError, match=r"settings file: .*: 3; use names with values"):
            found(tmp_path)


def test_a_byte_order_mark_before_the_settings_is_no_mistake(tmp_path):
    (tmp_path / "shmstress.toml").write_text("[probe]\nseed = 7\n", "utf-8-sig")
    assert [tables for _, tables in found(tmp_path)] == [{"probe": {"seed": 7}}]


def test_half_a_schedule_is_refused_in_a_file_as_on_the_command_line(tmp_path, capsys):
    (tmp_path / "half.toml").write_text("[explore]\nschedules = 1.5\n")
    command = ["explore", "lock-try-try", "--config", str(tmp_path / "half.toml")]
    assert cli.run(command) == 4
    assert "[explore], schedules: 1.5; use a whole number" in capsys.readouterr().err


@pytest.mark.parametrize("pair", [("out", "out"), ("out", "./out"), ("-", "-")])
def test_two_results_do_not_go_to_one_file(tmp_path, monkeypatch, pair, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["explore", "lock-try-try", "--json", pair[0], "--html", pair[1]]) == 4
    assert "is the file of json, too; name another" in capsys.readouterr().err
