"""Other allocators in the bench: found or named with a cure, called as their interfaces say."""

import ctypes.util
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from shmalloc.errors import MisuseError
from stress.bench import boost, llfree, peers
from stress.bench.catalogue import PATTERNS
from stress.bench.jobs import make_jobs
from stress.bench.peers import Missing, Peer, find, found
from stress.bench.rounds import measure
from stress.bench.team import Team

STAND_IN = Path(__file__).parent / "support" / "llfree_stand_in.c"
C_COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
needs_c = pytest.mark.skipif(
    C_COMPILER is None or platform.machine() != llfree.MACHINE, reason="needs C on x86-64"
)


def run(patterns, workers, *wanted):
    """Slices of ``patterns`` by a peer; everything is given back. The jobs without a figure."""
    jobs = make_jobs([PATTERNS[name] for name in patterns], workers, wanted, full=False)
    jobs = [job for job in jobs if job.peer is not None]
    with Team(jobs) as team:
        assert team.refused == {}
        for job in team.jobs:
            for number in range(3):
                answers = team.slice(job, 40 // job.pattern.batch or 1, number)
                assert sum(answer.operations for answer in answers) > 0
        team.finish()
    return jobs


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    library = tmp_path_factory.mktemp("llfree") / "libllfree.so"
    command = [C_COMPILER, "-O2", "-shared", "-fPIC", "-o", str(library), str(STAND_IN)]
    subprocess.run(command, check=True)
    return library


@needs_c
def test_llfree_is_called_as_its_header_says(stand_in, tmp_path):
    """The stand-in ends the process at any argument that is wrong, so that a slice would fail."""
    peer = find("llfree", str(stand_in), tmp_path)
    names = ("repeat", "repeat-9", "mixed", "bulk", "rand", "remote-pages", "ublk")
    jobs = run(names, (1, 2), peer)
    assert {(job.pattern.name, job.memory) for job in jobs} == {(name, "shared") for name in names}


@needs_c
def test_llfree_that_refuses_is_left_out_and_told(tmp_path):
    """A library with the right names that answers nothing but errors."""
    source = tmp_path / "refuses.c"
    source.write_text(
        STAND_IN.read_text().replace(
            "*self = (state_t)", "return (result_t){{0}, 0, 3};\n (state_t)"
        )
    )
    library = tmp_path / "librefuses.so"
    subprocess.run([C_COMPILER, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    jobs = make_jobs(
        [PATTERNS["repeat"]], (1,), [find("llfree", str(library), tmp_path)], full=False
    )
    with Team(jobs) as team:
        rows, lost = measure(team, 1)
        team.finish()
    assert team.refused == {"llfree": "llfree_init refused with error 3"}
    assert "llfree" not in {row.who for row in rows} | {job.who for job in lost}


@needs_c
def test_llfree_is_asked_what_it_has_in_another_process(stand_in):
    """A library cannot be unloaded, and one that does not fit may not stay in this process."""
    assert llfree.problem_of(str(stand_in)) == ""
    assert str(stand_in) not in Path("/proc/self/maps").read_text()


@needs_c
def test_a_library_that_is_no_llfree_is_refused(tmp_path):
    library = tmp_path / "libother.so"
    command = [C_COMPILER, "-shared", "-o", str(library), "-x", "c", "/dev/null"]
    subprocess.run(command, check=True)
    with pytest.raises(MisuseError, match="undefined symbol: llfree_init"):
        find("llfree", str(library), tmp_path)


def test_glibc_is_always_there(tmp_path):
    peer = find("glibc", "", tmp_path)
    jobs = run(("object", "size-4096", "threadtest", "object-bulk", "larson"), (1,), peer)
    assert {job.memory for job in jobs} == {"private"}


def test_a_heap_of_boost_is_shared_by_two_workers(tmp_path):
    peer = find("boost", "", tmp_path)
    if isinstance(peer, Missing):
        pytest.skip(str(peer))
    jobs = run(("repeat", "object", "larson", "remote-objects", "xmalloc"), (1, 2), peer)
    assert {job.memory for job in jobs} == {"shared"}


def test_what_python_has_is_called(tmp_path):
    wanted = [find(name, "", tmp_path) for name in peers.PYTHON]
    jobs = run(("py-array-64B", "py-array-16MiB"), (1,), *wanted)
    assert {job.who for job in jobs} == set(peers.PYTHON)


# --- what is not here -----------------------------------------------------------------------------
def test_a_library_that_is_missing_is_named_with_its_package(monkeypatch, tmp_path):
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    made, missing = found(tuple(peers.LIBRARIES), tmp_path)
    assert made == [] and [one.name for one in missing] == list(peers.LIBRARIES)
    for one in missing:
        package = peers.LIBRARIES[one.name][3]
        assert f"{one.name} is not measured: install the Debian package {package}" in str(one)


def test_without_a_compiler_boost_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    told = find("boost", "", tmp_path)
    assert isinstance(told, Missing) and "libboost-dev and g++" in str(told)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("x.cpp:2: fatal error: boost/interprocess/managed_external_buffer.hpp: No such file or"
         " directory", "headers are not here; install the Debian packages libboost-dev and g++"),
        ("x.cpp:2: error: this is no C++", "cannot compile it: x.cpp:2: error: this is no C++"),
    ],
)  # fmt: skip
def test_what_the_compiler_says_is_told(said, told, monkeypatch, tmp_path):
    compiler = tmp_path / "c++"
    compiler.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setattr(boost, "COMPILERS", (str(compiler),))
    assert told in str(find("boost", "", tmp_path))


def test_llfree_without_a_file_says_how_to_name_it(tmp_path):
    assert "--peer llfree=libllfree.so" in str(find("llfree", "", tmp_path))


def test_llfree_is_called_on_the_machine_its_calls_are_written_for(monkeypatch, tmp_path):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert "its calls are written for x86_64" in str(find("llfree", "any.so", tmp_path))


def test_none_is_no_peer_at_all(tmp_path):
    assert found(("none",), tmp_path) == ([], [])


@needs_c
def test_all_and_one_file_are_all_with_that_file(stand_in, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: None)  # boost is not compiled for this
    made, missing = found(("all", f"llfree={stand_in}"), tmp_path)
    names = [one.name for one in (*made, *missing)]
    assert sorted(names) == sorted(peers.NAMES)
    assert "llfree" in [one.name for one in made]


def test_a_file_may_be_named_for_a_library(tmp_path):
    library = tmp_path / "libmine.so"
    library.touch()
    (made,), missing = found((f"jemalloc={library}",), tmp_path)
    assert missing == [] and made == Peer(
        "jemalloc", "malloc", "malloc", str(library), "malloc", "free"
    )


def test_a_library_that_cannot_be_loaded_is_told_and_left_out(tmp_path):
    library = tmp_path / "libmine.so"
    library.write_text("no library")
    (made,), _ = found((f"tcmalloc={library}",), tmp_path)
    with Team(make_jobs([PATTERNS["object"]], (1,), [made], full=False)) as team:
        rows, lost = measure(team, 1)
        team.finish()
    assert "libmine.so" in team.refused["tcmalloc"]
    assert "tcmalloc" not in {row.who for row in rows} | {job.who for job in lost}
