"""A file that cannot be written: every command that writes one says so in one line.

The options are found by asking each command, so a new one is tried here, too, or named as an input.
"""

import io
import os
import resource
from pathlib import Path

import click
import pytest

from stress import cli
from stress.cli import COMMANDS, shmstress
from stress.report.places import DIRECTORIES, write_to
from stress.surroundings import writing
from support.sources import LOST_UPDATE

INPUTS = {"config", "trace", "from", "db of history", "db of show", "program of bisect"}
# What else a command must be given so that it looks at its outputs.
ARGUMENTS = {
    "bisect": ["shm1/mine.py:lost/sc/p1/10000/check/3/000000000000/-", "--good", "HEAD"],
    "check": ["mine.py"],
    "crash": ["pages-order-0"],
    "explore": ["mine.py:lost"],
    "explain": ["some.json"],
    "history": ["some.db"],
    "mutants": ["merge-any-order"],
    "record": ["true"],
    "replay": ["shm1/mine.py:lost/sc/p1/10000/check/3/000000000000/-"],
    "report": ["some.db"],
    "show": ["0123", "--db", "some.db"],
    "soak": ["--duration", "10m"],
    "trace import": ["t.rep"],
}
FULL = "shmstress: /dev/full: No space left on device; make room there"
EXPLORE = ("explore", "--engine", "interpreted")


def outputs():
    """(command, option) for each option that names a file or a directory to be written."""
    context = click.Context(shmstress)
    found = []
    for name in shmstress.list_commands(context):
        command = shmstress.get_command(context, name)
        group = isinstance(command, click.Group)
        for one in command.commands.values() if group else [command]:
            words = f"{name} {one.name}" if group else name
            found += [
                (words, option.opts[0])
                for option in one.params
                if isinstance(option, click.Option)
                and str(option.metavar).startswith(("FILE", "DIR", "[FILE"))
                and not {option.name, f"{option.name} of {words}"} & INPUTS
            ]
    return found


def name(word):
    return word.replace(" ", "-")


OUTPUTS = outputs()


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(LOST_UPDATE)
    (tmp_path / "t.rep").write_text("a 0 64\nf 0\n")
    (tmp_path / "a_file.prom").write_text("kept")
    return tmp_path


def refused(command, option, path, capsys):
    """What a command says of an output that it refuses, before it does anything else."""
    extra = ["--artifact", "any"] if option == "--output" else []
    words = [*command.split(), *extra, option, path, *ARGUMENTS.get(command, [])]
    code = cli.run(words)
    told = capsys.readouterr()
    assert (code, told.out, told.err.count("\n")) == (4, "", 1), told.err
    return told.err


def test_the_commands_that_write_files_are_found():
    assert len(OUTPUTS) > 40 and {command for command, _ in OUTPUTS} >= {
        "run", "soak", "check", "crash", "explore", "mutants", "replay", "report", "litmus", "top",
        "doctor", "history", "show", "record", "trace import",
    }  # fmt: skip
    assert len(COMMANDS) > 15


@pytest.mark.parametrize(("command", "option"), OUTPUTS, ids=name)
@pytest.mark.parametrize("path", ["/proc/x.prom", "a_file.prom/x.prom"], ids=["proc", "below-file"])
def test_a_place_where_no_file_can_be_made_is_one_line(command, option, path, place, capsys):
    told = refused(command, option, path, capsys)
    assert f"{option[2:]}: {path} cannot be written" in told
    assert (place / "a_file.prom").read_text() == "kept"


FILES = [(command, option) for command, option in OUTPUTS if option[2:] not in DIRECTORIES]


@pytest.mark.parametrize(("command", "option"), FILES, ids=name)
def test_a_directory_is_one_line(command, option, place, capsys):
    (place / "a.prom").mkdir()
    assert f"{option[2:]}: a.prom is a directory" in refused(command, option, "a.prom", capsys)


@pytest.mark.parametrize(
    "words",
    [
        ("explore", "mine.py:lost", "--engine", "interpreted", "--json"),
        ("explore", "mine.py:lost", "--engine", "interpreted", "--html"),
        ("explore", "mine.py:lost", "--engine", "interpreted", "--perfetto"),
        ("doctor", "--json"),
        ("trace", "import", "t.rep", "--out"),
    ],
    ids=lambda words: f"{words[0]} {words[-1]}",
)
def test_a_full_disk_names_the_file_and_hides_no_violation(words, place, capsys):
    assert cli.run([*words, "/dev/full"]) == (1 if "mine.py:lost" in words else 7)
    assert FULL in capsys.readouterr().err.splitlines()


def test_a_full_disk_is_a_limit_of_the_machine_where_nothing_failed(place, capsys):
    assert cli.run([*EXPLORE, "lock-try-try", "--json", "/dev/full"]) == 7
    told = capsys.readouterr()
    assert told.err.splitlines() == [FULL] and "passed-exhausted" in told.out


def test_a_file_that_cannot_be_written_takes_no_other_with_it(place, capsys):
    files = ("--json", "/dev/full", "--html", "f.html", "--junit", "f.xml")
    assert cli.run([*EXPLORE, "mine.py:lost", *files]) == 1
    told = capsys.readouterr()
    assert told.err.splitlines() == [FULL, "wrote f.html", "wrote f.xml"]
    assert "lost: race" in told.out
    assert Path("f.html").stat().st_size and Path("f.xml").stat().st_size


def test_a_place_that_is_gone_at_the_end_hides_no_violation(place, monkeypatch, capsys):
    from stress.commands import explore

    Path("results").mkdir()
    made = explore.summary
    monkeypatch.setattr(explore, "summary", lambda *a: [*made(*a), str(Path("results").rmdir())])
    assert cli.run([*EXPLORE, "mine.py:lost", "--json", "results/a.json"]) == 1
    assert "results/a.json cannot be written" in capsys.readouterr().err


def test_a_file_is_replaced_as_a_whole_or_not_at_all(place):
    """A limit of file sizes stands for a full disk."""
    Path("kept.json").write_text("the old one")
    Path("kept.json").chmod(0o640)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        with pytest.raises(OSError, match="File too large"):
            write_to("kept.json", "x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert Path("kept.json").read_text() == "the old one" and not list(place.glob(".kept*"))
    write_to("kept.json", "the new one")
    assert Path("kept.json").read_text() == "the new one"
    assert Path("kept.json").stat().st_mode & 0o777 == 0o640


def test_a_link_leads_to_the_same_file_afterwards(place):
    Path("there").mkdir()
    Path("link.json").symlink_to("there/a.json")
    for text in ("made", "made again"):
        write_to("link.json", text)
        assert Path("link.json").is_symlink() and Path("there/a.json").read_text() == text


def test_a_pipe_is_written_where_it_is(place):
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_to("pipe", "read")
    assert os.read(reader, 9) == b"read"
    os.close(reader)


@pytest.mark.parametrize("command", ["trace import", "record"])
def test_a_trace_is_not_written_to_standard_output(command, place, capsys):
    assert "out: - is standard output" in refused(command, "--out", "-", capsys)
    assert not Path("-").exists()


def test_a_reader_that_went_away_is_no_fault_of_the_file():
    with pytest.raises(BrokenPipeError), writing("x"):
        raise BrokenPipeError


def test_an_error_that_is_none_of_a_file_stays_what_it_is():
    with pytest.raises(io.UnsupportedOperation), writing("x"):
        io.BytesIO().fileno()
