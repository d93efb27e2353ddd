"""The command line: exit codes, usage errors with their cure, options, environment, files."""

import subprocess
import sys
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmalloc.errors import MisuseError
from shmalloc.invariants import TABLE
from shmalloc.sizes import parse_bytes, parse_duration
from stress import cli
from stress.commands import doctor
from stress.quantities import exact_bytes, exact_duration, parse_workers
from stress.spec import RunSpec, Zone
from stress.workloads import DEFAULT_WORKLOADS, WORKLOADS
from support.runs import environment, shmstress


@pytest.fixture
def call(capsys, monkeypatch):
    """Run one command line in this process: (exit code, standard output, standard error)."""

    def run(*arguments, **variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        code = cli.run(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def dry_run(call, *arguments, **variables):
    code, output, error = call("run", "--dry-run", *arguments, **variables)
    assert code == 0, error
    return output


def test_the_module_is_the_command():
    run = shmstress("--version")
    assert run.returncode == 0 and run.stdout.startswith("shmstress, version ")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("rum",), "did you mean 'run'"),
        (("run", "--workload", "chrun"), "did you mean 'churn'"),
        (("run", "--link-store", "pages"), "did you mean 'page'"),
        (("run", "--engine", "nativ"), "did you mean 'native'"),
        (("run", "--progress", "allways"), "did you mean 'always'"),
        (("run", "--wrkload", "churn"), "--workload"),
        (("run", "--workers", "0"), "workers: '0'; use auto"),
        (("run", "--workers", "many"), "workers: 'many'; use auto"),
        (("run", "--duration", "soon"), "'soon'"),
        (("run", "--seed", "-1"), "seed: '-1'"),
        (("run", "--ram", "5"), "whole 4096-byte pages"),
        (("run", "--zones", "1MiB@64"), "zones: node '64'"),
        (("run", "--zones", "65"), "zones: 65; use 1 to 64"),
        (("run", "--zones", "1MiB", "--ram", "2MiB"), "make them agree"),
        (("run", "--engine", "interpreted", "--workers", "2"), "use 1 worker"),
        (("run", "--trace", "x.npz"), "--workload trace and --trace FILE together"),
        (("run", "missing.toml"), "missing.toml"),
        (("list", "worklods"), "did you mean 'workloads'"),
        (("run", "--json", "missing/run.json"), "json: missing/run.json cannot be written"),
        (("run", "--junit", "."), "junit: . is a directory"),
    ],
)
def test_a_usage_error_exits_4_and_names_the_cure(call, arguments, told):
    code, _, error = call(*arguments)
    assert code == 4 and told in error


@pytest.mark.parametrize("words", [(), ("trace",)])
def test_no_command_is_answered_by_the_help_alone(call, words):
    code, output, error = call(*words)
    assert (code, output) == (4, "") and error == call(*words, "--help")[1]


def test_an_unknown_key_in_a_file_is_a_usage_error(call, tmp_path):
    (tmp_path / "s.toml").write_text('worklod = "churn"\n')
    code, _, error = call("run", str(tmp_path / "s.toml"), "--dry-run")
    assert code == 4 and "did you mean 'workload'" in error


def test_an_option_beats_the_environment_and_that_beats_a_file(call, tmp_path):
    file = tmp_path / "s.toml"
    file.write_text('workload = "frag"\nworkers = "3"\nseed = "3"\n')
    output = dry_run(call, str(file), "--seed", "1", SHMSTRESS_SEED="2", SHMSTRESS_WORKERS="2")
    settings = tomllib.loads(output)
    assert (settings["seed"], settings["workers"], settings["workload"]) == ("0x1", "2", ["frag"])


def test_a_dry_run_starts_nothing_and_names_all_workloads(call):
    assert f"--workload {','.join(DEFAULT_WORKLOADS)} " in dry_run(call)


RICH = (
    "--workload", "frag,churn", "--workers", "5", "--zones", "3MiB@1,5000KiB", "--link-store",
    "table", "--duration", "90.25s", "--seed", "0xabc", "--audit-every", "333ms",
    "--hang-timeout", "3s", "--prealloc",
)  # fmt: skip


def test_the_toml_of_a_dry_run_gives_the_same_spec(call, tmp_path):
    output = dry_run(call, *RICH)
    (tmp_path / "s.toml").write_text(output)
    assert dry_run(call, str(tmp_path / "s.toml")) == output


def test_the_command_line_of_a_dry_run_gives_the_same_spec(call):
    output = dry_run(call, *RICH)
    words = output.splitlines()[0].removeprefix("# shmstress run ").split()
    assert dry_run(call, *words) == output


def test_the_command_line_says_off_where_a_settings_file_says_on(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = dry_run(call).splitlines()[0].removeprefix("# shmstress run ")
    settings = 'faults = "kill"\njitter = "on"\nflight = 64\nprealloc = true\n'
    (tmp_path / "shmstress.toml").write_text(f"[run]\n{settings}")
    assert words not in dry_run(call)
    assert words in dry_run(call, *words.split())


def test_equal_zones_share_the_memory_to_the_page(call):
    settings = tomllib.loads(dry_run(call, "--ram", "10MiB", "--zones", "3"))
    assert sum(parse_bytes(z.partition("@")[0]) for z in settings["zones"]) == 10 << 20


def test_list_names_every_workload_with_its_story(call):
    code, output, _ = call("list")
    assert code == 0 and [line.split()[0] for line in output.splitlines()] == list(WORKLOADS)


@pytest.mark.parametrize("words", [("list", "--invariants"), ("list", "invariants")])
def test_list_invariants_says_of_every_number_what_must_hold(call, words):
    code, output, _ = call(*words)
    cells = [line.split() for line in output.splitlines()]
    named = {cell[1]: int(cell[0]) for cell in cells if cell and cell[0].isdigit()}
    assert code == 0 and named == {row.name: row.number for row in TABLE.values()}
    assert "every page is covered by exactly" in output and "merge-tails-first" in output


def test_doctor_finds_this_machine_fit(call):
    code, output, _ = call("doctor")
    assert code == 0 and "this machine can run it" in output


def test_doctor_names_a_small_shared_memory_with_its_cure():
    (problem,) = doctor.find_problems({"shm_free_bytes": 1 << 20})
    assert "1MiB free" in problem and "enlarge it" in problem


def test_an_error_of_the_harness_exits_3(call, monkeypatch):
    monkeypatch.setattr(doctor, "environment", lambda: 1 // 0)
    code, _, error = call("doctor")
    assert code == 3 and "ZeroDivisionError" in error


@given(st.integers(1, 1 << 45))
def test_sizes_of_a_spec_parse_back_exactly(size):
    assert parse_bytes(exact_bytes(size)) == size


@given(st.floats(0.001, 1e6))
def test_durations_of_a_spec_parse_back_exactly(seconds):
    assert parse_duration(exact_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "workers"), [("auto", 24), ("50%", 4), ("1%", 1), ("300%", 24), ("7", 7)]
)
def test_workers_are_a_number_a_share_or_three_a_core(text, workers):
    assert parse_workers(text, cores=8, per_core=3, limit=64, reason="") == workers


def test_auto_never_asks_for_more_workers_than_there_are_slots():
    assert parse_workers("auto", cores=100, per_core=3, limit=64, reason="") == 64


def test_a_share_that_is_no_number_is_refused():
    with pytest.raises(MisuseError, match="nan%"):
        parse_workers("nan%", cores=8, per_core=3, limit=64, reason="")


def test_a_spec_says_how_much_memory_it_takes():
    assert RunSpec(("churn",), 1, (Zone(3 << 20), Zone(5 << 20, 1))).as_dict()["ram"] == "8MiB"


# These three ask the parts that they work with for their options and defaults.
HEAVY = {"crash", "explore", "run"}
HELP = """
import sys
from stress import cli
words = sys.argv[1:]
assert cli.run([*words, "--help"]) == 0
print(sorted({"numpy", "llvmlite", "greenlet", "rich", "msgspec"} & sys.modules.keys()))
"""


@pytest.mark.parametrize(
    "words", [*sorted({name.removesuffix("_") for name in cli.COMMANDS} - HEAVY), "trace import"]
)
def test_help_imports_nothing_heavy(words):
    command = [sys.executable, "-c", HELP, *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr
