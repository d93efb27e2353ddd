"""The files of the image store: what is trusted, what is built again, what cannot be kept."""

import os
import random
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

from shmalloc.compiler import imagefile, store
from shmalloc.compiler.imagefile import HEADER, read_image
from shmalloc.errors import EngineError, EnvironmentUnfitError
from support.storing import KEY, OTHER_KEY, Child, children

PAYLOAD = random.Random(1).randbytes(5000)


class Use:
    """A store in ``root`` whose builds are counted and whose lines are kept."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = store.Store(root)
        self.builds = 0
        self.told: list[str] = []

    def build(self) -> bytes:
        self.builds += 1
        return PAYLOAD

    def fetch(self, key: str = KEY) -> bytes:
        return self.store.fetch(key, self.build, self.told.append)

    def path(self, key: str = KEY) -> Path:
        return self.root / f"{key}.image"

    def heals(self, *words: str) -> None:
        """The next fetch builds again, with one line that names the file; a further one reads."""
        self.builds, self.told[:] = 0, []
        assert self.fetch() == PAYLOAD
        assert self.builds == 1
        assert len(self.told) == 1 and all(w in self.told[0] for w in (str(self.path()), *words)), (
            self.told
        )
        assert self.fetch() == PAYLOAD
        assert (self.builds, len(self.told)) == (1, 1)


@pytest.fixture
def use(tmp_path: Path) -> Use:
    return Use(tmp_path / "store")


def test_an_image_is_built_once_and_then_read(use: Use):
    assert [use.fetch(), use.fetch()] == [PAYLOAD, PAYLOAD]
    assert (use.builds, use.told) == (1, [])


def test_the_module_uses_the_usual_directory(use: Use, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SHMALLOC_CACHE_DIR", str(use.root))
    assert store.fetch(KEY, use.build, use.told.append) == PAYLOAD
    assert use.fetch() == PAYLOAD and use.builds == 1


def test_peek_finds_what_put_has_kept_and_builds_nothing(use: Use):
    assert use.store.peek(KEY) is None
    assert use.store.put(KEY, b"other", use.told.append)
    assert use.store.peek(KEY) == b"other" and use.told == []


def test_an_empty_image_is_one(use: Use):
    use.store.put(KEY, b"", use.told.append)
    assert use.fetch() == b"" and use.builds == 0


@pytest.mark.parametrize("key", ["", "abc", "../../../etc/passwd", "A" * 64, "a" * 129])
def test_a_key_that_is_no_digest_is_refused(use: Use, key: str):
    with pytest.raises(EngineError, match="hexadecimal"):
        use.fetch(key)
    assert not use.root.exists()


def test_truncated_at_any_length_it_is_built_anew(use: Use, rng: random.Random):
    use.fetch()
    whole = use.path().read_bytes()
    for length in [0, HEADER.size, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(17))]:
        print(f"truncated to {length} bytes")
        use.path().write_bytes(whole[:length])
        use.heals("truncated")


def test_with_any_bit_flipped_it_is_built_anew(use: Use):
    use.store.put(KEY, b"small", use.told.append)
    whole = use.path().read_bytes()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        use.path().write_bytes(damaged)
        with pytest.raises(imagefile.DamagedImageError, match=KEY):
            read_image(str(use.root), KEY)
    use.path().write_bytes(whole)
    assert use.fetch() == b"small"


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def of_an_old_format(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8] += 1
    path.write_bytes(data)


def of_another_key(path: Path) -> None:
    imagefile.write_image(str(path.parent), OTHER_KEY, PAYLOAD)
    (path.parent / f"{OTHER_KEY}.image").rename(path)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link(path: Path) -> None:
    path.rename(path.with_name("target"))
    path.symlink_to("target")


def writable_by_others(path: Path) -> None:
    path.chmod(0o666)


def larger_than_any_image(path: Path) -> None:
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (zeroed, "is no image"),
        (longer, "damaged"),
        (of_an_old_format, "format 2"),
        (of_another_key, "another key"),
        (fifo, "is no file"),
        (link, "symbolic link"),
        (writable_by_others, "mode 0666"),
        (larger_than_any_image, "too large"),
    ],
)
def test_what_is_no_image_is_replaced_with_one_line(use: Use, damage, word: str):
    use.fetch()
    damage(use.path())
    use.heals(word)


def test_a_directory_in_its_place_stays_and_costs_a_build_and_a_line_each_time(use: Use):
    use.path().mkdir(parents=True)
    use.root.chmod(0o700)
    for count in (1, 2):
        assert use.fetch() == PAYLOAD
        assert (use.builds, len(use.told)) == (count, count)
    assert f"{use.path()} is a directory" in use.told[0] and "not keeping" in use.told[0]


def test_deleted_between_two_uses_it_is_made_again(use: Use):
    use.fetch()
    shutil.rmtree(use.root)
    use.fetch()
    assert (use.builds, use.told, use.path().exists()) == (2, [], True)


def test_deleted_while_an_image_is_built_the_image_is_used(use: Use):
    def build() -> bytes:
        shutil.rmtree(use.root)
        return PAYLOAD

    assert use.store.fetch(KEY, build, use.told.append) == PAYLOAD
    assert len(use.told) == 1 and "No such file or directory" in use.told[0]


def test_an_image_that_exceeds_a_limit_of_the_process_is_used(use: Use):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        assert use.fetch() == PAYLOAD
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(use.told) == 1 and "File too large" in use.told[0]
    assert os.listdir(use.root) == ["lock"]


@pytest.fixture
def disk(tmp_path: Path):
    """A file system of its own, of 16 kB; only children use it, as a claim keeps a file open."""
    folder = tmp_path / "disk"
    folder.mkdir(mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k,mode=700", "none", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a file system: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_on_a_full_disk_the_image_is_used(disk: Path):
    (disk / "ballast").write_bytes(bytes(16384 - 4096))
    code = "say(len(store.fetch(KEY, lambda: bytes(5000), tell)))\n"
    told, size = Child(code, SHMALLOC_CACHE_DIR=disk).rest()
    assert f"{KEY}.image cannot be written: No space left on device" in told and size == "5000"
    assert sorted(os.listdir(disk)) == ["ballast", "lock"]


def test_a_read_only_disk_is_read_and_the_rest_is_private(disk: Path):
    code = "for key in (KEY, OTHER_KEY, OTHER_KEY): say(store.fetch(key, build, tell)[:5])\n"
    assert Child("store.fetch(KEY, build, tell)\n", SHMALLOC_CACHE_DIR=disk).rest() == ["building"]
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    hit, told, *rest = Child(code, SHMALLOC_CACHE_DIR=disk).rest()
    assert (hit, rest) == ("b'built'", ["building", "b'built'", "b'built'"])
    assert told.startswith(f"told: you may not write to {disk};")


def test_interrupted_while_writing_it_leaves_nothing(use: Use, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(imagefile.os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            use.fetch()
    assert os.listdir(use.root) == ["lock"]
    assert use.fetch() == PAYLOAD


def test_killed_while_writing_its_remainder_goes_with_a_later_image(use: Use):
    use.fetch()
    old, new = use.root / ".a.1-2.new", use.root / ".b.1-2.new"
    old.touch()
    new.touch()
    os.utime(old, (1, 1))
    use.fetch(OTHER_KEY)
    assert (old.exists(), new.exists()) == (False, True)


def keys(count: int) -> list[str]:
    return [f"{number:064x}" for number in range(count)]


def test_the_least_recently_used_images_make_room(use: Use, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SHMALLOC_CACHE_MB", str(3.5 * (len(PAYLOAD) + HEADER.size) / 1e6))
    first = keys(4)
    for age, key in enumerate(first[:3]):
        use.fetch(key)
        os.utime(use.path(key), (1e9 - age, 1e9 - age))
    use.fetch(first[2])  # the oldest one is used now
    use.fetch(first[3])
    assert [use.path(key).exists() for key in first] == [True, False, True, True]
    assert use.told == []


def test_the_image_that_was_just_written_stays(use: Use, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SHMALLOC_CACHE_MB", "0")
    for key in keys(3):
        use.fetch(key)
    assert [p.name for p in use.root.glob("*.image")] == [f"{keys(3)[2]}.image"]


def test_what_is_removed_under_a_reader_is_read_to_its_end(use: Use, monkeypatch):
    use.fetch()
    read = os.read

    def removing(descriptor: int, count: int) -> bytes:
        use.path().unlink(missing_ok=True)
        return read(descriptor, min(count, 100))

    monkeypatch.setattr(imagefile.os, "read", removing)
    assert read_image(str(use.root), KEY) == PAYLOAD
    assert not use.path().exists()


def test_readers_and_writers_beside_pruning_see_whole_images(use: Use):
    """Three processes fetch ten images where two have room; each checks each byte."""
    code = (
        "for round in range(60):\n"
        "    for number in range(10):\n"
        "        size = 1000 * number\n"
        "        key = f'{number:064x}'\n"
        "        got = store.fetch(key, lambda: bytes([number]) * size, tell)\n"
        "        assert got == bytes([number]) * size, (number, len(got))\n"
    )
    workers = [Child(code, SHMALLOC_CACHE_DIR=use.root, SHMALLOC_CACHE_MB="0.01") for _ in "123"]
    with children(*workers):
        assert [worker.rest() for worker in workers] == [[], [], []]
    assert sum(path.stat().st_size for path in use.root.glob("*.image")) < 20000
    assert not list(use.root.glob(".*"))


@pytest.mark.parametrize("name", ["SHMALLOC_CACHE_MB", "SHMALLOC_COMPILE_WAIT_S"])
@pytest.mark.parametrize("text", ["much", "-1", "nan", "inf"])
def test_a_number_that_is_none_is_told_before_the_build(use: Use, monkeypatch, name, text):
    monkeypatch.setenv(name, text)
    with pytest.raises(EnvironmentUnfitError, match=f"{name} is '{text}'"):
        use.fetch()
    assert use.builds == 0


def test_the_store_imports_nothing_slow():
    slow = {"pathlib", "tempfile", "threading", "shutil", "subprocess", "typing", "contextlib"}
    code = (
        "import sys, types\n"
        "for name in ('shmalloc', 'shmalloc.compiler', 'shmalloc.errors'):\n"
        "    sys.modules[name] = module = types.ModuleType(name)\n"
        "    module.__path__ = [sys.argv[1]]\n"
        "module.EngineError = module.EnvironmentUnfitError = Exception\n"
        "sys.modules['shmalloc.compiler'].__path__ = [sys.argv[1] + '/compiler']\n"
        "import os, hashlib\n"
        "before = set(sys.modules)\n"
        "import shmalloc.compiler.store\n"
        "print(*(set(sys.modules) - before))\n"
    )
    package = str(Path(store.__file__).parent.parent)
    # -S: what a site's .pth files import is not the store's
    out = subprocess.check_output([os.sys.executable, "-S", "-c", code, package], text=True)
    assert "shmalloc.compiler.store" in out.split() and slow.isdisjoint(out.split())
