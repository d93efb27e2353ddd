"""Which process builds an image that several want: processes, threads, forks, dying holders."""

import errno
import fcntl
import os
import signal
import threading
from pathlib import Path

import pytest

from shmalloc.compiler import claims, store
from support.storing import KEY, PATIENCE_S, Child, children, until

FETCH = "say('got ' + store.fetch(KEY, build, tell)[:5].decode())\n"
FETCH_SLOWLY = "say('got ' + store.fetch(KEY, build_when_allowed, tell)[:5].decode())\n"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, Path]:
    return {"SHMALLOC_CACHE_DIR": tmp_path / "store"}


def test_eight_processes_build_one_image_once(env):
    workers = [Child("sys.stdin.readline()\n" + FETCH, **env) for _ in range(8)]
    with children(*workers):
        for worker in workers:
            worker.allow()
        lines = [line for worker in workers for line in worker.rest()]
    assert lines.count("building") == 1
    assert lines.count("got built") == 8


@pytest.fixture
def builder(env):
    """A process that builds KEY until it is allowed to end."""
    child = Child(FETCH_SLOWLY, **env)
    with children(child):
        child.expect("building")
        yield child


def test_a_waiter_says_for_whom_and_gets_that_image(env, builder):
    waiter = Child(FETCH, **env)
    with children(waiter):
        told = waiter.expect("told: waiting for process")
        name = Path(f"/proc/{builder.pid}/comm").read_text().strip()
        assert told.endswith(f"{builder.pid} ({name}), which is compiling these kernels")
        builder.allow()
        assert (builder.rest(), waiter.rest()) == (["got built"], ["got built"])


def test_a_builder_that_is_killed_is_followed_by_a_waiter(env, builder):
    waiter = Child(FETCH, **env)
    with children(waiter):
        waiter.expect("told: waiting")
        builder.kill()
        assert waiter.rest() == ["building", "got built"]


def test_a_builder_that_fails_is_followed_by_a_waiter(env):
    code = "def fail():\n    build_when_allowed()\n    raise ValueError\n"
    code += "try:\n    store.fetch(KEY, fail, tell)\nexcept ValueError:\n    sys.stdin.readline()\n"
    failing = Child(code, **env)
    with children(failing):
        failing.expect("building")
        waiter = Child(FETCH, **env)
        with children(waiter):
            waiter.expect("told: waiting")
            failing.allow()
            assert waiter.rest() == ["building", "got built"]


def test_a_builder_that_becomes_another_program_holds_nothing(env):
    code = (
        "def replaced():\n"
        "    say('building')\n"
        "    sys.stdin.readline()\n"
        "    os.execvp('cat', ['cat'])\n"
        "store.fetch(KEY, replaced, tell)\n"
    )
    builder = Child(code, **env)
    with children(builder):
        builder.expect("building")
        waiter = Child(FETCH, **env)
        with children(waiter):
            waiter.expect("told: waiting")
            builder.allow()
            assert waiter.rest() == ["building", "got built"]
        assert builder.process.poll() is None, "the other program still runs"


def test_a_wait_has_an_end(env, builder):
    waiter = Child(FETCH, **env, SHMALLOC_COMPILE_WAIT_S="0.7")
    with children(waiter):
        waiter.expect("told: waiting")
        told = waiter.expect(f"told: process {builder.pid} ")
        assert told.endswith("for more than 0.7 s; compiling them here as well")
        assert waiter.rest() == ["building", "got built"]


def test_without_patience_there_is_no_wait(env, builder):
    lines = Child(FETCH, **env, SHMALLOC_COMPILE_WAIT_S="0").rest()
    assert lines[0].endswith("more than 0 s; compiling them here as well")
    assert lines[1:] == ["building", "got built"]


def test_another_key_is_not_waited_for(env, builder):
    assert Child(FETCH.replace("KEY", "OTHER_KEY"), **env).rest() == ["building", "got built"]


FORK_WHILE_BUILDING = """
built = threading.Event()
def in_thread():
    store.fetch(KEY, build_when_allowed, tell)
    built.set()
thread = threading.Thread(target=in_thread)
thread.start()
while not claims._held:
    time.sleep(0.001)
child = os.fork()
if child == 0:
    {child}
    os._exit(0)
say(f"forked {{child}}")
thread.join()
say("built")
{parent}
"""


def test_a_child_of_a_process_that_builds_keeps_no_process_waiting(env):
    """The port of fork_lock.py: the parent is gone, its child lives on."""
    code = FORK_WHILE_BUILDING.format(child="signal.pause()", parent="")
    parent = Child(code, **env, SHMALLOC_COMPILE_WAIT_S="1000")
    with children(parent):
        forked = forked_by(parent)
        try:
            parent.process.kill()  # while it builds, so that nothing was kept
            parent.process.wait()
            assert Child(FETCH, **env).rest() == ["building", "got built"]
            assert state(forked) == "S", "the child outlives all of this"
        finally:
            os.kill(forked, signal.SIGKILL)


def test_a_child_of_a_process_that_builds_waits_for_its_parent(env):
    child = "say('child ' + store.fetch(KEY, build, tell)[:5].decode())"
    parent = Child(FORK_WHILE_BUILDING.format(child=child, parent="os.wait()"), **env)
    with children(parent):
        forked_by(parent)
        parent.expect(f"told: waiting for process {parent.pid} ")
        parent.allow()
        assert sorted(parent.rest()) == ["built", "child built"]


def test_the_end_of_a_child_does_not_end_its_parents_claim(env):
    """It closes its copy of the lock file's descriptor, as every ending process does."""
    parent = Child(FORK_WHILE_BUILDING.format(child="pass", parent=""), **env)
    with children(parent):
        forked = forked_by(parent)
        until(lambda: state(forked) in ("", "Z"), "the forked child has ended")
        waiter = Child(FETCH, **env)
        with children(waiter):
            waiter.expect(f"told: waiting for process {parent.pid} ")
            parent.allow()
            assert (parent.rest(), waiter.rest()) == (["built"], ["got built"])


def forked_by(parent: Child) -> int:
    """The child of a process that runs FORK_WHILE_BUILDING, once it builds and has forked."""
    lines = sorted(parent.line("building, and forked") for _ in range(2))
    assert lines[0] == "building", lines
    return int(lines[1].removeprefix("forked "))


def state(pid: int) -> str:
    """A letter, Z for a zombie; nothing once the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return ""


class Threads:
    """A store that threads of this process use; ``build`` waits until it is allowed to end."""

    def __init__(self, root: Path) -> None:
        self.store = store.Store(root)
        self.started = threading.Event()
        self.allowed = threading.Event()
        self.told: list[str] = []
        self.builds = 0

    def build(self) -> bytes:
        self.builds += 1
        self.started.set()
        assert self.allowed.wait(PATIENCE_S), "the build was not allowed to end"
        return b"built"

    def start(self) -> threading.Thread:
        def run() -> None:
            assert self.store.fetch(KEY, self.build, self.told.append) == b"built"

        thread = threading.Thread(target=run)
        thread.start()
        return thread


@pytest.fixture
def threads(tmp_path: Path) -> Threads:
    return Threads(tmp_path / "store")


def end(*all_threads: threading.Thread) -> None:
    for thread in all_threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), f"{thread.name} did not end"


def test_two_threads_build_one_image_once(threads: Threads):
    first = threads.start()
    assert threads.started.wait(PATIENCE_S), "the first thread never built"
    second = threads.start()
    until(lambda: bool(threads.told), "the second thread says that it waits")
    threads.allowed.set()
    end(first, second)
    assert threads.builds == 1
    assert threads.told == [
        "waiting for another thread of this process, which is compiling these kernels"
    ]


def test_many_threads_at_first_use_build_once_and_open_the_lock_once(threads: Threads):
    all_threads = [threads.start() for _ in range(16)]
    threads.allowed.set()
    end(*all_threads)
    assert threads.builds == 1
    assert open_locks(threads.store.root) == 1 and not claims._held


def open_locks(root: str) -> int:
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue  # the descriptor of this listing itself
    return links.count(f"{root}/lock")


def test_nested_builds_in_opposite_order_both_end(env):
    code = (
        "def outer():\n"
        "    say('building')\n"
        "    sys.stdin.readline()\n"
        "    return store.fetch({}, lambda: b'inner', tell)\n"
        "say('got ' + store.fetch({}, outer, tell).decode())\n"
    )
    one, two = (
        Child(code.format("KEY", "OTHER_KEY"), **env),
        Child(code.format("OTHER_KEY", "KEY"), **env),
    )
    with children(one, two):
        for child in (one, two):
            child.expect("building")
        for child in (one, two):
            child.allow()
        assert (one.rest(), two.rest()) == (["got inner"], ["got inner"])


def test_a_build_within_the_build_of_the_same_key_does_not_wait_for_itself(threads: Threads):
    threads.allowed.set()

    def outer() -> bytes:
        return threads.store.fetch(KEY, threads.build, threads.told.append)

    assert threads.store.fetch(KEY, outer, threads.told.append) == b"built"
    assert threads.told == []


def test_a_signal_handler_may_fetch_what_its_thread_builds(env):
    code = (
        "def handle(*_):\n"
        "    say('handler ' + store.fetch(KEY, lambda: b'handled', tell).decode())\n"
        "signal.signal(signal.SIGUSR1, handle)\n" + FETCH_SLOWLY
    )
    builder = Child(code, **env)
    with children(builder):
        builder.expect("building")
        os.kill(builder.pid, signal.SIGUSR1)
        builder.expect("handler handled")
        builder.allow()
        assert builder.rest() == ["got built"]


def test_interrupted_while_it_waits_it_holds_nothing(env, builder):
    # A background job of a shell ignores SIGINT, and its children inherit that.
    code = "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "try:\n    store.fetch(KEY, build, tell)\nexcept KeyboardInterrupt:\n"
    waiter = Child(code + "    say(f'interrupted {claims._held}')\n", **env)
    with children(waiter):
        waiter.expect("told: waiting")
        os.kill(waiter.pid, signal.SIGINT)
        assert waiter.rest() == ["interrupted {}"]


def test_a_lock_file_that_is_deleted_and_made_again_excludes_again(env):
    code = FETCH.replace("KEY", "OTHER_KEY") + "os.unlink(os.environ['LOCK'])\n" + FETCH_SLOWLY
    builder = Child(code, **env, LOCK=env["SHMALLOC_CACHE_DIR"] / "lock")
    with children(builder):
        for line in ("building", "got built", "building"):
            builder.expect(line)
        waiter = Child(FETCH, **env)
        with children(waiter):
            waiter.expect(f"told: waiting for process {builder.pid} ")
            builder.allow()
            assert waiter.rest() == ["got built"]


def test_a_descriptor_that_the_program_closed_is_not_taken_for_the_lock(env):
    """Daemons close all descriptors; the number is a stranger's file then."""
    code = FETCH.replace("KEY", "OTHER_KEY") + (
        "os.closerange(3, 100)\n"
        "strangers = [open(os.environ['OTHER'], 'w') for _ in range(5)]\n" + FETCH_SLOWLY
    )
    other = env["SHMALLOC_CACHE_DIR"].with_name("other")
    builder = Child(code, **env, OTHER=other)
    with children(builder):
        for line in ("building", "got built", "building"):
            builder.expect(line)
        with other.open("w") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        builder.allow()
        assert builder.rest() == ["got built"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_files_cannot_be_locked_images_are_built_all_the_same(threads, monkeypatch, number):
    def unsupported(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    threads.allowed.set()
    monkeypatch.setattr(claims.fcntl, "lockf", unsupported)
    end(threads.start())
    assert (threads.builds, threads.told) == (1, [])


@pytest.mark.parametrize("kind", ["directory", "fifo", "link"])
def test_a_lock_that_is_no_file_keeps_no_process_from_building(threads: Threads, tmp_path, kind):
    lock = tmp_path / "store/lock"
    lock.parent.mkdir(mode=0o700)
    {
        "directory": lock.mkdir,
        "fifo": lambda: os.mkfifo(lock),
        "link": lambda: lock.symlink_to("x"),
    }[kind]()
    threads.allowed.set()
    end(threads.start())
    assert (threads.builds, threads.told) == (1, [])
    assert not (tmp_path / "store/x").exists()


def test_one_lock_file_serves_all_keys(threads: Threads, tmp_path: Path):
    for number in range(20):
        threads.store.fetch(f"{number:064x}", lambda: b"built", threads.told.append)
    assert len(os.listdir(tmp_path / "store")) == 21
    assert not claims._held
