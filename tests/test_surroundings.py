"""An unfit machine, a reader that closes: a sentence, the right code, no traceback."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys

import pytest

from shmalloc.errors import EnvironmentUnfitError
from stress import cli, surroundings
from stress.commands import doctor
from support.runs import ROOT, hear_ctrl_c

RUN = ("run", "--duration", "1s", "--ram", "16MiB", "--workload", "churn", "--progress", "never")
LISTING = ("list", "invariants")


def shell(script, *arguments):
    """Run ``script`` of sh, in which "$@" is the command."""
    command = ["sh", "-c", script, "sh", sys.executable, "-m", "stress", *arguments]
    path = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **path})


def told(ran, sentence):
    assert ran.returncode == 7, ran.stderr
    assert sentence in ran.stderr and "Traceback" not in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_standard_output_that_is_closed():
    told(shell('"$@" >&-', *LISTING), "standard output is closed")


def test_both_outputs_closed():
    assert shell('"$@" >&- 2>&-', *LISTING).returncode == 7


def test_a_closed_standard_input_is_no_matter():
    ran = shell('"$@" <&-', *LISTING)
    assert ran.returncode == 0 and ran.stderr == ""


def test_a_full_disk():
    ran = shell('"$@" >/dev/full', *LISTING)
    told(ran, "No space left on device; make room there")


def test_a_standard_error_without_room_changes_no_exit_code():
    assert shell('"$@" 2>/dev/full', *LISTING).returncode == 0
    assert shell('"$@" 2>/dev/full', "nonsense").returncode == 4


@pytest.mark.parametrize("redirection", ["", "2>&1"])
def test_a_reader_that_goes_away_leaves_the_exit_code(redirection):
    ran = shell(f'{{ "$@" {redirection}; echo "code $?" >&3; }} 3>&2 | true', *LISTING)
    assert ran.stderr == "code 0\n"


@pytest.fixture
def lost(tmp_path):
    """A directory with a program that fails."""
    (tmp_path / "lost.py").write_text(
        "from shmalloc import kernel, words\nfrom stress import Program\n\n\n"
        "@kernel\ndef add(mem, cpu):\n    words.store(mem, 0, words.load(mem, 0) + 1)\n\n\n"
        "@kernel\ndef check(mem):\n    return 0 if words.load(mem, 0) == 2 else 1\n\n\n"
        "program = Program(name='lost', words=2, threads=(add, add), check=check)\n"
    )
    return tmp_path


def test_a_reader_that_goes_away_leaves_the_exit_code_of_a_failure(lost):
    ran = shell(
        f'cd {lost}; {{ "$@"; echo "code $?" >&3; }} 3>&2 | true',
        "explore",
        "lost.py:program",
        "--engine",
        "interpreted",
    )
    assert ran.stderr.splitlines()[-1] == "code 1" and "BrokenPipe" not in ran.stderr


def test_a_letter_that_the_output_cannot_carry_is_written_as_its_number():
    code = "from stress.surroundings import prepare_streams; prepare_streams(); print('l\\u00f6st')"
    variables = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=variables)
    assert done.stdout == b"l\\xf6st\n", done.stderr


def test_a_page_is_utf_8_in_every_locale(tmp_path):
    code = "from stress.report.places import write_to; write_to('page', 'l\\u00f6st')"
    variables = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-X", "utf8=0", "-c", code], cwd=tmp_path, env=variables)
    assert (tmp_path / "page").read_bytes() == "löst".encode()


def test_a_working_directory_that_is_gone(tmp_path):
    place = tmp_path / "gone"
    place.mkdir()
    ran = shell(f'cd {place}; rmdir {place}; "$@"', "litmus", "sb", "--json", "here.json")
    told(ran, "the working directory no longer exists")


@pytest.mark.parametrize("arguments", [("--help",), ("sweep", "page"), LISTING])
def test_a_command_that_needs_no_working_directory_works_without(tmp_path, arguments):
    place = tmp_path / "gone"
    place.mkdir()
    assert shell(f'cd {place}; rmdir {place}; "$@"', *arguments).returncode == 0


def test_too_few_open_files():
    told(shell('ulimit -n 16; "$@"', *RUN, "--workers", "6"), "6 workers need 48 open files")


def test_files_that_may_not_grow():
    ran = shell('ulimit -f 0; "$@" 2>&1 | cat >&2', "sweep", "page")
    assert ran.stderr.splitlines()[-1].endswith("or raise the limit (ulimit -f)")
    assert "Traceback" not in ran.stderr


def test_files_that_may_not_grow_exit_7():
    assert shell('ulimit -f 0; "$@" >/dev/null 2>&1', "sweep", "page").returncode == 7


def test_a_low_limit_of_processes_is_told_before_the_start(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (3, 3))
    monkeypatch.setattr(os, "getuid", lambda: 65534)
    with pytest.raises(EnvironmentUnfitError, match=r"6 workers need 8 processes, .*ulimit -u"):
        surroundings.require_processes(8, "6 workers")


@pytest.mark.parametrize("limit", [(-1, -1), (100_000, 100_000)])
def test_no_limit_of_processes_counts_nothing(monkeypatch, limit):
    monkeypatch.setattr(os, "getuid", lambda: 65534)
    monkeypatch.setattr(resource, "getrlimit", lambda which: limit)
    surroundings.require_processes(1 << 40, "6 workers")


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("unshare"), reason="needs a mount")
@pytest.mark.parametrize(
    ("mount", "sentence"),
    [
        ("mount -t tmpfs -o ro none /dev/shm", "/dev/shm: Read-only file system; remount it"),
        (
            "mount -t tmpfs none /dev; mknod /dev/null c 1 3; mknod /dev/urandom c 1 9",
            "/dev/shm does not exist; mount a tmpfs there",
        ),
    ],
)
def test_shared_memory_that_is_read_only_or_missing(mount, sentence):
    unshared = subprocess.run(["unshare", "-m", "true"], capture_output=True)
    if unshared.returncode:
        pytest.skip("no mount namespaces here")
    script = f'exec unshare -m sh -c \'{mount}; exec "$@"\' sh "$@"'
    told(shell(script, "sweep", "page"), sentence)


def test_doctor_names_a_shared_memory_that_is_read_only(monkeypatch):
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    assert "not writable" in doctor.find_problems({"shm_free_bytes": 1 << 40})[0]


def test_without_a_home_there_is_a_place_for_compiled_kernels():
    ran = shell('env -u HOME -u XDG_CACHE_HOME -u SHMALLOC_CACHE_DIR "$@"', "doctor")
    assert ran.returncode == 0 and "kernel_cache" in ran.stdout


def test_a_cache_that_cannot_be_written_costs_time_only(lost):
    ran = shell(f'cd {lost}; SHMALLOC_CACHE_DIR=/proc/none "$@"', "explore", "lost.py:program")
    assert ran.returncode == 1 and "Traceback" not in ran.stderr
    assert "/proc/none" in ran.stderr


# --- errors that reach the top -------------------------------------------------------------------
def chained(cause, error):
    try:
        try:
            raise cause
        except type(cause):
            raise error from None
    except type(error) as raised:
        return raised


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.EMFILE, "x", "some.py"), "Too many open files; raise the limit of open"),
        (BlockingIOError(errno.EAGAIN, "x"), "Resource temporarily unavailable; raise the limit"),
        (RuntimeError("can't start new thread"), "no thread can be started; raise the limit"),
        (MemoryError(), "out of memory; free memory"),
        (PermissionError(errno.EACCES, "x", "/there"), "/there: Permission denied; change the"),
        (shutil.Error([("a", "b", "[Errno 28] No space left on device")]), "No space left on"),
        (chained(OSError(errno.EFBIG, "x"), ValueError("image")), "File too large; raise"),
    ],
)
def test_a_limit_of_the_machine_is_told_in_a_sentence(monkeypatch, capsys, error, sentence):
    def fail():
        raise error

    monkeypatch.setattr(doctor, "environment", fail)
    assert cli.run(["doctor"]) == 7
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"shmstress: {sentence}")


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyError("x"), EOFError()])
def test_a_defect_is_told_in_full(monkeypatch, capsys, error):
    def fail():
        raise error

    monkeypatch.setattr(doctor, "environment", fail)
    assert cli.run(["doctor"]) == 3
    shown = capsys.readouterr().err
    assert type(error).__name__ in shown and "please report it" in shown.splitlines()[-1]


def test_ctrl_c_is_exit_code_2():
    program = (
        "import signal, stress.commands.doctor as d; from stress import cli\n"
        "def wait():\n"
        "    print('ready', flush=True)\n"
        "    while True: signal.sigtimedwait([], 0.05)\n"  # also if it came before the wait
        "d.environment = wait; cli.main(['doctor'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,
    ) as child:
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate()
    assert child.returncode == 2 and errors.strip() == "shmstress: interrupted by SIGINT"
