"""What is compiled again after an edit: the images whose kernels can reach it, and no others."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

import shmalloc
from shmalloc.compiler import build, claims, digest, obtain, processor, store
from shmalloc.compiler.digest import key_of
from shmalloc.compiler.instances import Instance
from shmalloc.compiler.words import RAM
from shmalloc.engine.native import is_kept, warm_together
from shmalloc.kernels.audit import audit
from shmalloc.kernels.slots import publish, release_slot
from shmalloc.memory import Ram
from support.sources import module

# caller -> upper (a unit) -> lower (a unit); stranger knows none of them
UNITS = """
    from shmalloc.dialect import kernel, unit
    from shmalloc.words import load

    @unit
    def lower(mem, i):
        return {lower}

    @unit
    def upper(mem, i):
        return lower(mem, i) + {added}

    @kernel
    def caller(mem, i):
        return upper(mem, i) * 3

    @kernel
    def stranger(mem, i):
        return load(mem, i)
"""
RUN = """
    import sys
    import edited
    from shmalloc.engine import get_engine
    from shmalloc.memory import Ram
    kernel = getattr(edited, sys.argv[1])
    get_engine("native").warm([kernel])
    print(get_engine("native").call(kernel, Ram.of_words(2), 0))
"""


def environment(folder: Path) -> dict[str, str]:
    root = Path(shmalloc.__path__[0]).parent
    return os.environ | {
        "PYTHONPATH": f"{folder}{os.pathsep}{root}",
        "SHMALLOC_CACHE_DIR": str(folder / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def run_edited(folder: Path, lower: str, added: int, kernel: str = "caller") -> tuple[int, int]:
    """A kernel's result in a fresh process, and how many images were not on disk."""
    (folder / "edited.py").write_text(textwrap.dedent(UNITS).format(lower=lower, added=added))
    command = [sys.executable, "-c", textwrap.dedent(RUN), kernel]
    before = images(folder)
    done = subprocess.run(
        command, env=environment(folder), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # what takes less than a second is not worth a line
    return int(done.stdout), len(images(folder) - before)


def images(folder: Path) -> set[Path]:
    return set((folder / "cache").glob("*.image"))


def test_an_edit_below_a_kernel_makes_its_image_again(tmp_path: Path):
    assert run_edited(tmp_path, "load(mem, i) + 1", 1) == (6, 1)
    assert run_edited(tmp_path, "load(mem, i) + 1", 1) == (6, 0)
    assert run_edited(tmp_path, "load(mem, i) + 5", 1) == (18, 1)
    assert run_edited(tmp_path, "load(mem, i) + 5", 2) == (21, 1)
    assert run_edited(tmp_path, "load(mem, i) + 1", 1) == (6, 0)


def test_an_edit_leaves_images_alone_that_cannot_reach_it(tmp_path: Path):
    assert run_edited(tmp_path, "load(mem, i) + 1", 1, "stranger") == (0, 1)
    assert run_edited(tmp_path, "load(mem, i) + 5", 1, "stranger") == (0, 0)


def test_a_unit_that_returns_another_type_is_called_by_new_code(tmp_path: Path):
    run_edited(tmp_path, "load(mem, i) + 1", 1)
    assert run_edited(tmp_path, "load(mem, i) == 0", 1) == (6, 1)


def test_a_plan_is_one_image_for_every_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also if a part of it is loaded already; interpreted kernels are not in it."""
    monkeypatch.setenv("SHMALLOC_CACHE_DIR", str(tmp_path / "cache"))
    one = (("native", publish),)
    both = (*one, ("native", release_slot), ("interpreted", audit))
    warm_together(one)
    assert is_kept(one) and not is_kept(both)
    warm_together(both)
    assert is_kept(both[1::-1]) and len(images(tmp_path)) == 2


# --- keys ----------------------------------------------------------------------------------------
def key(*functions) -> str:
    return key_of([Instance(function, RAM, True) for function in functions])


def test_a_key_does_not_depend_on_the_order_of_a_plan():
    assert key(publish, audit) == key(audit, publish) != key(audit)


BEFORE = """
    X = 1
    from shmalloc.words import load as access
    def other():
        return 1
    @kernel
    def f(mem):
        return X
    @kernel
    def g(mem, i):
        return c.ZONE_SHIFT + access(mem, i)
    @kernel
    def k(mem, i):
        return f(mem) + g(mem, i)
"""


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("X = 1", "X = 2", False),
        ("X = 1", "X = True", False),
        ("load as access", "load_relaxed as access", False),
        ("return X\n", "return -X\n", False),
        ("@kernel\n    def f", "@unit\n    def f", False),
        ("f(mem) + g(mem, i)", "g(mem, i) + f(mem)", False),
        ("        return 1", "        return 2", True),
        ("X = 1", "X = 1  # one", True),
        ("return X\n", "return X  # one\n", True),
    ],
)
def test_what_decides_code_is_in_the_key(tmp_path: Path, old: str, new: str, same: bool):
    first = module(tmp_path, BEFORE, "keyed")
    assert old in BEFORE
    second = module(tmp_path, BEFORE.replace(old, new), "keyed")
    assert (key(first.k) == key(second.k)) is same


@pytest.mark.parametrize("swapped", [False, True])
def test_which_name_stands_for_which_kernel_is_in_the_key(tmp_path: Path, swapped: bool):
    """Bytecode and what is reached are the same in both."""
    text = """
        @kernel
        def f(mem):
            return 1
        @kernel
        def g(mem):
            return 2
        {}
        @kernel
        def k(mem):
            return first(mem) - second(mem)
    """
    first = module(tmp_path, text.format("first, second = f, g"), "keyed")
    names = "second, first" if swapped else "first, second"
    second = module(tmp_path, text.format(f"{names} = f, g"), "keyed")
    assert (key(first.k) != key(second.k)) is swapped


def test_a_constant_of_another_module_is_in_the_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    before = key(module(tmp_path, BEFORE, "keyed").k)
    monkeypatch.setattr("shmalloc.constants.ZONE_SHIFT", 77)
    assert key(module(tmp_path, BEFORE, "keyed").k) != before


@pytest.mark.parametrize(
    ("home", "name"), [(digest, "compiler"), (digest, "sources"), (processor, "digest")]
)
def test_compiler_and_processor_are_in_the_key(
    monkeypatch: pytest.MonkeyPatch, home: object, name: str
):
    before = key(publish)
    monkeypatch.setattr(home, name, lambda: "another")
    assert key(publish) != before


def test_the_sources_of_a_kind_of_memory_are_in_the_key(tmp_path: Path):
    """Else a new version of the explorer would run the images of the old one."""
    source = tmp_path / "kind.py"
    kind = replace(RAM, files=(str(source),))
    keys = set()
    for text in ("one", "another"):
        source.write_text(text)
        digest.forget()
        keys.add(digest.key_of([Instance(publish, kind, True)]))
    assert len(keys) == 2


# --- images --------------------------------------------------------------------------------------
SLOTS = [Instance(function, RAM, True) for function in (publish, release_slot)]


@pytest.fixture
def in_halves(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build, "WORTH_A_CHILD", 1)
    monkeypatch.setattr(build, "_may_fork", lambda: True)


def test_an_image_is_the_same_in_halves_and_whole(in_halves: None):
    """In one process, in two, from entries in another order."""
    alone = build.compile_image(SLOTS, processes=1)
    assert build.compile_image(SLOTS, processes=2) == alone
    assert build.compile_image(SLOTS[::-1]) == alone


def test_a_child_that_dies_leaves_its_half_to_the_parent(
    in_halves: None, monkeypatch: pytest.MonkeyPatch
):
    alone, parent = build.compile_image(SLOTS, processes=1), os.getpid()
    make = build._part

    def part(*given: object):
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return make(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(build, "_part", part)
    assert build.compile_image(SLOTS, processes=2) == alone


def test_an_interrupt_of_the_parent_leaves_no_child(
    in_halves: None, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(child: object):
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "_part", lambda *given: signal.pause())
    monkeypatch.setattr(build._Child, "result", interrupted)
    before = set(psutil.Process().children())
    with pytest.raises(KeyboardInterrupt):
        build.compile_image(SLOTS, processes=2)
    assert set(psutil.Process().children()) == before


def test_halves_give_the_results_of_one(in_halves: None, tmp_path: Path):
    """Also if kernels call each other across the halves."""
    names = [f"half_{k}" for k in range(3)]
    for k, name in enumerate(names):
        before = f"from {names[k - 1]} import step_{k - 1} as before" if k else "before = None"
        text = f"""
            {before}
            @unit
            def step_{k}(mem, i):
                {f"mem[i] += before(mem, i - 1) // {k}" if k else "mem[i] += 7"}
                return mem[i]
        """
        made = module(tmp_path, text, name)
    entries = [Instance(made.step_2, RAM, True)]
    found = []
    for limit in (100, 1):
        build.WORTH_A_CHILD = 10**9 if limit == 100 else 1  # restored by in_halves
        image = obtain.Image(build.compile_image(entries), f"halves-{limit}", obtain._imports)
        ram = Ram.of_words(8)
        record = image.record("half_2:step_2", made.step_2, ram, True)
        call = obtain.builtin(record)
        found.append((call(3), ram.array.tolist()))
    assert found[0] == found[1]


def test_an_image_runs_from_sealed_memory_and_no_file(tmp_path: Path):
    function = module(tmp_path, "@kernel\ndef k(mem):\n    return 1\n").k
    image = obtain.obtain([Instance(function, RAM, True)])
    (mapped,) = {
        line.split(maxsplit=5)[5]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if image.name in line
    }
    assert mapped.startswith(f"/memfd:{image.name}")
    with pytest.raises(PermissionError):
        os.pwrite(image._loaded.descriptor, b"x", 0)


def test_nothing_is_unpickled():
    """A file in the cache may come from any user that can write there."""
    sources = Path(store.__file__).parent.glob("*.py")
    text = "\n".join(
        line
        for path in sources
        for line in path.read_text().splitlines()
        if "import" in line or "eval(" in line or "exec(" in line
    )
    assert not any(
        word in text for word in ("pickle", "shelve", "marshal.load", " eval(", " exec(")
    )


# --- processes -----------------------------------------------------------------------------------
SCRIPT = """
    import sys
    import edited
    from shmalloc.engine import get_engine
    from shmalloc.memory import Ram
    print(get_engine("native").call(edited.caller, Ram.of_words(2), 0), "llvmlite" in sys.modules)
"""


def started(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT)]
    return subprocess.Popen(
        command, env=environment(folder), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.fixture
def edited(tmp_path: Path) -> Path:
    text = textwrap.dedent(UNITS).format(lower="load(mem, i) + 1", added=1)
    (tmp_path / "edited.py").write_text(text)
    return tmp_path


def test_two_processes_at_once_compile_once(edited: Path):
    both = [started(edited), started(edited)]
    told = [process.communicate(timeout=120) for process in both]
    assert sorted(out for out, _ in told) == ["6 False\n", "6 True\n"], told
    assert len(images(edited)) == 1


def test_a_damaged_image_is_made_again_with_one_line(edited: Path):
    assert started(edited).communicate(timeout=120)[0] == "6 True\n"
    (image,) = images(edited)
    whole = image.read_bytes()
    image.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    out, told = started(edited).communicate(timeout=120)
    assert out == "6 True\n" and told.count("\n") == 1 and "damaged" in told, told
    assert image.read_bytes() == whole
    assert started(edited).communicate(timeout=120) == ("6 False\n", "")


def test_a_fork_while_another_thread_compiles_inherits_no_lock(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(obtain, "_FORK_WAIT_S", 0.01)
    held, done = threading.Event(), threading.Event()

    def compile_for_long() -> None:
        claim = claims.Claim(str(tmp_path), "0" * 40)
        with obtain._lock:
            claim.take(lambda line: None, 60)
            held.set()
            done.wait(60)
            claim.release()

    thread = threading.Thread(target=compile_for_long)
    thread.start()
    try:
        assert held.wait(60)
        child = os.fork()
        if child == 0:
            free = obtain._lock.acquire(timeout=10) and not claims._held
            os._exit(0 if free else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        done.set()
        thread.join()


def test_a_kernel_that_was_refused_runs_once_it_is_mended(tmp_path):
    """A default argument is not in the bytecode: the repaired kernel has the same key."""
    script = tmp_path / "mended.py"
    text = (
        "from shmalloc import kernel, Ram\nfrom shmalloc.engine import get_engine\n@kernel\n"
        "def triple(mem, n{default}):\n    return 3 * n\n"
        "print(get_engine().call(triple, Ram.of_words(2), 5))\n"
    )
    answers = []
    for default in ("=1", ""):
        script.write_text(text.format(default=default))
        done = subprocess.run(
            [sys.executable, str(script)],
            env=os.environ | {"SHMALLOC_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        answers.append(done.stdout or done.stderr.splitlines()[-1])
    assert "default, keyword and starred arguments are not allowed" in answers[0]
    assert answers[1] == "15\n"
