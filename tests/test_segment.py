"""Segments: made, attached, refused, and never left behind, however their owner ends."""

from __future__ import annotations

import errno
import json
import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import shmalloc
from shmalloc import cgroup, leftovers, physical
from shmalloc import constants as c
from shmalloc.engine import Engine
from shmalloc.errors import EnvironmentUnfitError, MisuseError, NotReadyError, SegmentError
from shmalloc.layout import Geometry, ZoneSpec
from shmalloc.processes import own_identity, owner_alive, pid_namespace, start_ticks
from shmalloc.segment import Segment
from shmalloc.segment_file import build_digest, shared_sources

SMALL = Geometry(zones=(ZoneSpec(pages=64),), page_bytes=64, cpus=2, max_order=3, pageblock_order=2)
SHM = Path("/dev/shm")


@pytest.fixture
def segment() -> Iterator[Segment]:
    with Segment.create(SMALL, engine="interpreted") as made:
        yield made


def write_word(name: str, index: int, value: int) -> None:
    with (SHM / name).open("r+b") as file:
        file.seek(index * 8)
        file.write(value.to_bytes(8, "little", signed=True))


# --- life ---------------------------------------------------------------------------------------


def test_a_new_segment_is_a_file_of_its_layout_size(segment: Segment) -> None:
    assert (SHM / segment.name).stat().st_size == segment.layout.bytes


def test_a_generated_name_carries_pid_and_start_time(segment: Segment) -> None:
    match = leftovers.GENERATED.fullmatch(segment.name)
    assert match is not None
    assert (int(match[1]), int(match[2])) == own_identity()


def test_creation_boots_on_each_engine(engine: Engine) -> None:
    with Segment.create(SMALL, engine=engine.name) as made:
        assert made.ram[c.H_MAGIC] == c.MAGIC


def test_leaving_the_block_removes_the_segment() -> None:
    with Segment.create(SMALL, engine="interpreted") as made:
        assert (SHM / made.name).exists()
    assert not (SHM / made.name).exists()


def test_an_exception_in_the_block_removes_the_segment() -> None:
    with pytest.raises(KeyError), Segment.create(SMALL, engine="interpreted") as made:
        raise KeyError
    assert not (SHM / made.name).exists()


def test_a_failed_creation_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr("shmalloc.segment.write_image", fail)
    with pytest.raises(RuntimeError, match="planted"):
        Segment.create(SMALL, name="shmalloc-test-failed", engine="interpreted")
    assert not (SHM / "shmalloc-test-failed").exists()


def test_an_attached_segment_sees_the_owners_words(segment: Segment) -> None:
    other = Segment.attach(segment.name)
    segment.ram[segment.layout.frame(3)] = 4711
    assert other.ram[other.layout.frame(3)] == 4711
    other.close()


def test_an_attached_segment_has_the_same_geometry_and_id(segment: Segment) -> None:
    with Segment.attach(segment.name) as other:
        assert (other.geometry, other.id) == (segment.geometry, segment.id)


def test_closing_an_attached_segment_does_not_remove_it(segment: Segment) -> None:
    with Segment.attach(segment.name) as other:
        assert not other.owner
    assert (SHM / segment.name).exists()


def test_closing_twice_is_harmless(segment: Segment) -> None:
    with Segment.attach(segment.name) as other:
        other.close()
    assert other.closed


def test_a_view_keeps_its_mapping_after_close(segment: Segment) -> None:
    other = Segment.attach(segment.name)
    view = other.ram.array[other.layout.frame(0) :]
    other.close()
    segment.ram[segment.layout.frame(0)] = 99
    assert view[0] == 99


def test_closing_gives_the_file_handle_back_although_a_view_lives(segment: Segment) -> None:
    before = len(os.listdir("/proc/self/fd"))
    other = Segment.attach(segment.name)
    view = other.ram.array[:4]
    other.close()
    # the mmap object duplicates the handle and keeps that copy for as long as the view lives
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    del view
    assert len(os.listdir("/proc/self/fd")) == before


def test_words_are_16_byte_aligned(segment: Segment) -> None:
    assert segment.ram.base % 16 == 0


# --- size and speed -----------------------------------------------------------------------------


def test_a_4_gib_segment_touches_less_than_one_percent() -> None:
    geometry = Geometry(zones=(ZoneSpec(pages=1 << 20),))
    try:
        physical.require_capacity(5 << 30)
    except EnvironmentUnfitError as error:
        pytest.skip(str(error))
    with Segment.create(geometry) as made:
        touched = (SHM / made.name).stat().st_blocks * 512
        assert touched < made.layout.bytes // 100


Statvfs = namedtuple("Statvfs", "f_bavail f_frsize")


def test_a_full_dev_shm_is_told_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: Statvfs(1, 4096))
    with pytest.raises(EnvironmentUnfitError) as caught:
        Segment.create(SMALL, engine="interpreted")
    assert not [name for name in os.listdir(SHM) if name.startswith(f"shm-{os.getpid()}-")]
    needed = "asked for", "/dev/shm has 4KiB free", "use a smaller size"
    assert all(words in str(caught.value) for words in needed)


def test_too_little_memory_is_told_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(physical, "available_memory", lambda: 1024)
    with pytest.raises(EnvironmentUnfitError, match="memory has 1KiB free"):
        Segment.create(SMALL, engine="interpreted")


def test_the_memory_of_the_control_group_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "memory_left", lambda: 3000)
    assert physical.available_memory() == 3000


def test_prealloc_takes_every_page_at_once() -> None:
    with Segment.create(SMALL, prealloc=True, engine="interpreted") as made:
        assert (SHM / made.name).stat().st_blocks * 512 >= made.layout.bytes


def test_a_limit_of_address_space_is_told_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOMEM, "planted")

    monkeypatch.setattr(physical.Mapping, "_map", no_space)
    with pytest.raises(EnvironmentUnfitError, match=r"address space.*ulimit -v"):
        Segment.create(SMALL, name="shmalloc-test-limit", engine="interpreted")


def test_prealloc_without_room_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(handle: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "planted")

    monkeypatch.setattr(os, "posix_fallocate", no_space)
    with pytest.raises(EnvironmentUnfitError, match="asked for"):
        Segment.create(SMALL, name="shmalloc-test-full", prealloc=True, engine="interpreted")
    assert not (SHM / "shmalloc-test-full").exists()


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["", "a/b", "x" * 201, "a b", 7])
def test_a_bad_name_is_refused(bad: object) -> None:
    with pytest.raises(MisuseError, match="name: "):
        Segment.create(SMALL, name=bad, engine="interpreted")  # type: ignore[arg-type]


def test_a_name_that_exists_is_refused(segment: Segment) -> None:
    with pytest.raises(SegmentError, match="exists"):
        Segment.create(SMALL, name=segment.name, engine="interpreted")


def test_a_missing_segment_is_refused() -> None:
    with pytest.raises(SegmentError, match="no segment 'shmalloc-test-none'"):
        Segment.attach("shmalloc-test-none")


def test_a_foreign_file_is_refused(segment: Segment) -> None:
    write_word(segment.name, c.H_MAGIC, 12345)
    with pytest.raises(SegmentError, match="is foreign"):
        Segment.attach(segment.name)


@pytest.mark.parametrize(
    "name", [None, f"shmalloc-test-half-{os.getpid()}"], ids=["no name", "a name"]
)
def test_a_half_made_segment_is_refused(name: str | None) -> None:
    """Also one with a name of its own: by its owner's words, or, before they are there, its age."""
    with Segment.create(SMALL, name=name, engine="interpreted") as segment:
        write_word(segment.name, c.H_MAGIC, 0)
        with pytest.raises(NotReadyError, match="is not ready: its owner is still making it"):
            Segment.attach(segment.name)
        (SHM / segment.name).write_bytes(b"")
        with pytest.raises(NotReadyError, match="is not ready"):
            Segment.attach(segment.name)
        if name is not None:
            os.utime(SHM / name, (0, 0))
            with pytest.raises(SegmentError, match="is foreign"):
                Segment.attach(name)


def test_a_segment_whose_owner_died_while_making_it_is_told_so() -> None:
    for name in ("shm-4000000-1-00000000deadbeef", f"shmalloc-test-dead-{os.getpid()}"):
        words = [0] * c.HEADER_WORDS
        words[c.H_OWNER_NAMESPACE] = pid_namespace()
        words[c.H_OWNER_PID], words[c.H_OWNER_START] = 4_000_000, 1  # a pid that no system gives
        try:
            (SHM / name).write_bytes(struct.pack(f"{len(words)}q", *words))
            with pytest.raises(SegmentError, match="will never be ready: its owner died"):
                Segment.attach(name)
        finally:
            (SHM / name).unlink()


def test_another_layout_version_is_refused(segment: Segment) -> None:
    write_word(segment.name, c.H_VERSION, c.LAYOUT_VERSION + 1)
    with pytest.raises(SegmentError, match="layout version"):
        Segment.attach(segment.name)


def test_a_truncated_segment_is_refused(segment: Segment) -> None:
    os.truncate(SHM / segment.name, segment.layout.bytes - 8)
    with pytest.raises(SegmentError, match="is truncated"):
        Segment.attach(segment.name)


def test_a_segment_of_another_build_is_refused(segment: Segment) -> None:
    write_word(segment.name, c.H_DIGEST, build_digest(SMALL) ^ 1)
    with pytest.raises(SegmentError, match="another build"):
        Segment.attach(segment.name)


def test_an_overwritten_geometry_is_refused(segment: Segment) -> None:
    write_word(segment.name, segment.layout.at["geometry"] + 1, 0x7B7B7B7B)
    with pytest.raises(SegmentError, match="unreadable geometry"):
        Segment.attach(segment.name)


def test_a_pipe_and_a_directory_are_refused_without_waiting(
    planted: Callable[[str, dict[int, int]], str],
) -> None:
    name = planted(f"shmalloc-test-{os.getpid()}-pipe", {})
    (SHM / name).unlink()
    os.mkfifo(SHM / name)
    with pytest.raises(SegmentError, match="is foreign"):
        Segment.attach(name)
    with pytest.raises(SegmentError, match="is foreign"):
        Segment.attach(".")


def write_geometry(segment: Segment, text: bytes) -> None:
    """Another geometry, of the right digest where it is one."""
    at = segment.layout.at["geometry"]
    write_word(segment.name, at, len(text))
    for i, word in enumerate(struct.iter_unpack("<q", text.ljust(-(-len(text) // 8) * 8))):
        write_word(segment.name, at + 1 + i, word[0])
    with suppress(ValueError, TypeError):
        write_word(segment.name, c.H_DIGEST, build_digest(Geometry.from_json(text.decode())))


@pytest.mark.parametrize(
    "change",
    [
        {"scratch_words": -4096},
        {"scratch_words": "many"},
        {"caches": None},
        {"cpus": 2.0},
        {"work_words": 1 << 40},
        {"zones": []},
        {"zones": [{"pages": 4, "node": 0, "holes": [7]}]},
        {"link_store": []},
    ],
)
def test_a_geometry_that_is_none_is_refused(segment: Segment, change: dict[str, object]) -> None:
    values = json.loads(SMALL.to_json())
    write_geometry(segment, json.dumps({**values, **change}).encode())
    with pytest.raises(SegmentError, match="unreadable geometry"):
        Segment.attach(segment.name)


@pytest.mark.parametrize("length", [-1, 1 << 40, (1 << 63) - 1])
def test_the_length_of_a_geometry_is_bounded(segment: Segment, length: int) -> None:
    write_word(segment.name, segment.layout.at["geometry"], length)
    with pytest.raises(SegmentError, match="unreadable geometry"):
        Segment.attach(segment.name)


def test_a_geometry_of_brackets_is_refused(segment: Segment) -> None:
    with (SHM / segment.name).open("ab") as file:
        file.write(b"[" * 100_000)
    write_word(segment.name, c.H_GEOMETRY, segment.layout.words - 1)
    write_word(segment.name, segment.layout.words - 1, 100_000)
    with pytest.raises(SegmentError, match="unreadable geometry"):
        Segment.attach(segment.name)


def test_the_digest_is_of_every_kernel() -> None:
    names = {path.name for path in shared_sources(Path(shmalloc.__file__).parent)}
    assert {"buddy.py", "sheaf.py", "constants.py"} <= names


def test_the_digest_depends_on_the_geometry() -> None:
    assert build_digest(SMALL) != build_digest(Geometry(zones=SMALL.zones, page_bytes=64))


# --- the end of the owner -----------------------------------------------------------------------

OWNER = textwrap.dedent("""
    import os, signal, sys
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it,
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup this one
    from shmalloc.layout import Geometry, ZoneSpec
    from shmalloc.segment import Segment
    geometry = Geometry(zones=(ZoneSpec(pages=64),), page_bytes=64, cpus=2, max_order=3,
                        pageblock_order=2)
    made = Segment.create(geometry, engine="interpreted")
    print(made.name, flush=True)
    sys.stdin.readline()
""")


def start_owner(end: str = "") -> tuple[subprocess.Popen[str], str]:
    """A process that makes a segment, says its name, waits for a line, and then does ``end``."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER + textwrap.dedent(end)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    name = process.stdout.readline().strip()
    assert name and (SHM / name).exists(), process.communicate()
    return process, name


@pytest.mark.parametrize(
    ("end", "status"),
    [
        pytest.param("", 0, id="normal end"),
        pytest.param("1 / 0", 1, id="exception"),
        pytest.param("sys.exit(3)", 3, id="sys.exit"),
        pytest.param("view = made.ram.array[5:]", 0, id="end with a live view"),
    ],
)
def test_the_owner_removes_its_segment_when_it_ends(end: str, status: int) -> None:
    process, name = start_owner(end)
    _, errors = process.communicate("\n", timeout=60)
    assert process.returncode == status, errors
    assert not (SHM / name).exists()
    assert errors == "" or status == 1  # the traceback of the exception alone


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_owner_removes_its_segment_when_a_signal_ends_it(number: signal.Signals) -> None:
    process, name = start_owner()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -number, errors
    assert not (SHM / name).exists()


def test_a_users_handler_of_sigterm_is_left_alone() -> None:
    process, name = start_owner("""
        made.unlink()
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(42))
        made = Segment.create(geometry, name=made.name, engine="interpreted")
        os.kill(os.getpid(), signal.SIGTERM)
    """)
    process.communicate("\n", timeout=60)
    assert process.returncode == 42
    assert not (SHM / name).exists()


def test_the_default_action_of_sigterm_returns_with_the_last_segment() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Segment.create(SMALL, engine="interpreted"):
        pass
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_segment_that_another_process_made_under_its_name_stays() -> None:
    name = f"shmalloc-test-replaced-{os.getpid()}"
    with Segment.create(SMALL, name=name, engine="interpreted"):
        (SHM / name).unlink()
        later = Segment.create(SMALL, name=name, engine="interpreted")
    assert (SHM / name).exists()
    leftovers.remove_owned()  # this process is the later one's owner still
    assert not (SHM / name).exists()
    later.close()


def test_a_forked_child_does_not_remove_its_parents_segment(segment: Segment) -> None:
    child = os.fork()
    if child == 0:
        leftovers.remove_owned()
        os._exit(0)
    os.waitpid(child, 0)
    assert (SHM / segment.name).exists()


def test_an_attached_process_does_not_remove_the_segment_when_it_ends(segment: Segment) -> None:
    program = (
        "import sys\nfrom shmalloc.segment import Segment\nother = Segment.attach(sys.argv[1])\n"
        "print(other.geometry.pages)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, segment.name], capture_output=True, text=True, timeout=60
    )
    assert (ended.stdout, ended.stderr) == ("64\n", "")
    assert (SHM / segment.name).exists()


def killed_owner() -> str:
    process, name = start_owner()
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    return name


def test_the_next_creation_sweeps_what_a_killed_owner_left() -> None:
    name = killed_owner()
    assert (SHM / name).exists()
    with Segment.create(SMALL, engine="interpreted"):
        assert not (SHM / name).exists()


def gone_after_a_sweep(name: str) -> bool:
    """Every creation of a segment sweeps too, so another test may be faster than this one."""
    leftovers.sweep()
    return not (SHM / name).exists()


def test_a_living_owners_segment_is_not_swept(segment: Segment) -> None:
    assert segment.name not in leftovers.sweep()
    assert (SHM / segment.name).exists()


def test_a_stopped_owner_is_alive() -> None:
    process, name = start_owner()
    try:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        assert name not in leftovers.sweep()
    finally:
        process.kill()
        process.communicate(timeout=60)
    assert gone_after_a_sweep(name)


def test_a_zombie_owner_is_dead() -> None:
    process, name = start_owner()
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert gone_after_a_sweep(name)
    process.communicate(timeout=60)


def test_an_owner_of_the_same_pid_but_another_start_time_is_dead() -> None:
    pid, start = own_identity()
    assert owner_alive(pid, start)
    assert not owner_alive(pid, start - 1)


def test_a_process_that_does_not_exist_has_no_start_time() -> None:
    assert start_ticks(1 << 22) is None
    assert not owner_alive(0, 0)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, dict[int, int]], str]]:
    """Puts a file with the given header words into /dev/shm; removes it if the test did not."""
    names = []
    monkeypatch.setattr(leftovers, "pid_namespace", lambda: OWN_NAMESPACE)

    def plant(name: str, words: dict[int, int]) -> str:
        (SHM / name).write_bytes(b"\0" * 4096)
        names.append(name)
        for index, value in words.items():
            write_word(name, index, value)
        return name

    yield plant
    for name in names:
        physical.remove(name)


# Leftovers of a namespace that only this process takes for its own: no other test sweeps them.
OWN_NAMESPACE = 10_000_000_000 + os.getpid()
DEAD = {c.H_OWNER_PID: 1 << 22, c.H_OWNER_START: 17, c.H_OWNER_NAMESPACE: OWN_NAMESPACE}
DEAD_NAME = f"shm-{1 << 22}-17-{os.getpid():016x}"  # this process's own


def test_a_sweep_says_what_it_removed(planted: Callable[[str, dict[int, int]], str]) -> None:
    name = planted(DEAD_NAME, {c.H_MAGIC: c.MAGIC, **DEAD})
    assert name in leftovers.sweep()
    assert name not in leftovers.sweep()


def test_a_users_name_is_swept_too(planted: Callable[[str, dict[int, int]], str]) -> None:
    name = planted("shmalloc-test-named", {c.H_MAGIC: c.MAGIC, **DEAD})
    assert name in leftovers.sweep()


def test_a_foreign_file_with_a_name_like_ours_is_not_swept(
    planted: Callable[[str, dict[int, int]], str],
) -> None:
    name = planted(DEAD_NAME, {c.H_MAGIC: 99, **DEAD})
    assert name not in leftovers.sweep()


def test_a_segment_of_another_pid_namespace_is_not_swept(
    planted: Callable[[str, dict[int, int]], str],
) -> None:
    words = {c.H_MAGIC: c.MAGIC, **DEAD, c.H_OWNER_NAMESPACE: OWN_NAMESPACE + 1}
    name = planted("shmalloc-test-elsewhere", words)
    assert name not in leftovers.sweep()


def test_a_half_made_leftover_is_swept(planted: Callable[[str, dict[int, int]], str]) -> None:
    name = planted(DEAD_NAME, DEAD)
    assert name in leftovers.sweep()


def test_a_half_made_file_that_is_not_named_like_ours_is_not_swept(
    planted: Callable[[str, dict[int, int]], str],
) -> None:
    name = planted("shmalloc-test-zero", DEAD)
    assert name not in leftovers.sweep()


def test_an_untouched_file_is_swept_only_when_it_is_old(
    planted: Callable[[str, dict[int, int]], str],
) -> None:
    name = planted(DEAD_NAME, {})
    assert name not in leftovers.sweep()
    old = time.time() - leftovers.UNTOUCHED_S - 1
    os.utime(SHM / name, (old, old))
    assert gone_after_a_sweep(name)


def test_a_link_is_not_followed_by_a_sweep(segment: Segment, tmp_path: Path) -> None:
    link = SHM / "shmalloc-test-link"
    link.symlink_to(SHM / segment.name)
    try:
        assert link.name not in leftovers.sweep()
    finally:
        link.unlink()
