"""Which directories the store of images trusts, and what it does if it trusts none."""

import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest

from shmalloc.compiler import directory
from shmalloc.compiler.directory import UntrustedError, trusted
from support.storing import KEY, OTHER_USER, Child, children

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
FETCH = "say(store.fetch(KEY, build, tell)[:5].decode())\n"


@pytest.fixture
def public():
    """A directory that other users can enter, in the sticky temporary one."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def refused(path: Path, *words: str) -> None:
    with pytest.raises(UntrustedError) as caught:
        trusted(str(path), make=True)
    assert all(word in str(caught.value) for word in words), caught.value


def test_the_usual_directory_is_what_the_environment_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/here")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("SHMALLOC_CACHE_DIR", raising=False)
    assert directory.cache_root() == Path("/here/.cache/shmalloc")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative: to be ignored")
    assert directory.cache_root() == Path("/here/.cache/shmalloc")
    monkeypatch.setenv("XDG_CACHE_HOME", "/there")
    assert directory.cache_root() == Path("/there/shmalloc")
    monkeypatch.setenv("SHMALLOC_CACHE_DIR", "/chosen")
    assert directory.cache_root() == Path("/chosen")


def test_what_is_missing_is_made_for_us_alone(tmp_path: Path):
    trusted(str(tmp_path / "a/b"), make=True)
    assert [stat.S_IMODE((tmp_path / p).stat().st_mode) for p in ("a", "a/b")] == [0o700, 0o700]


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path, mode: int):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(mode)
    refused(tmp_path / "open", str(tmp_path / "open"), f"{mode:04o}")


def test_a_directory_below_one_that_others_may_write_to_is_refused(tmp_path: Path):
    (tmp_path / "open/ours").mkdir(parents=True)
    (tmp_path / "open").chmod(0o777)
    refused(tmp_path / "open/ours", "others may write")


def test_our_directory_in_a_sticky_one_is_trusted(tmp_path: Path):
    (tmp_path / "sticky").mkdir()
    (tmp_path / "sticky").chmod(0o1777)
    assert trusted(str(tmp_path / "sticky/ours"), make=True) == str(tmp_path / "sticky/ours")


def test_a_link_in_a_sticky_directory_is_refused(tmp_path: Path):
    (tmp_path / "sticky").mkdir()
    (tmp_path / "sticky").chmod(0o1777)
    (tmp_path / "ours").mkdir(mode=0o700)
    (tmp_path / "sticky/link").symlink_to(tmp_path / "ours")
    refused(tmp_path / "sticky/link", "symbolic link")


@pytest.mark.parametrize("target", ["{}/ours", "ours", "../{name}/ours", "./x/../ours"])
def test_a_link_that_only_we_can_change_is_followed(tmp_path: Path, target: str):
    (tmp_path / "x").mkdir()
    (tmp_path / "link").symlink_to(target.format(tmp_path, name=tmp_path.name))
    assert trusted(str(tmp_path / "link/deeper"), make=True) == str(tmp_path / "ours/deeper")


def test_the_target_of_a_link_is_checked_as_well(tmp_path: Path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path / "open")
    refused(tmp_path / "link", "others may write")


def test_links_in_a_circle_are_refused(tmp_path: Path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    refused(tmp_path / "a", "too many")


def test_a_file_is_no_directory(tmp_path: Path):
    (tmp_path / "file").touch()
    refused(tmp_path / "file", "is not a directory")


def test_a_user_without_a_home_has_no_usual_directory():
    refused(Path("~/.cache/shmalloc"), "no absolute path")


def test_control_characters_of_a_path_are_escaped(tmp_path: Path):
    (tmp_path / "a\x1b[2J\udc80").touch()
    refused(tmp_path / "a\x1b[2J\udc80", r"a\x1b[2J\udc80 is not a directory")


@as_root
@pytest.mark.parametrize("below", ["", "shmalloc"])
def test_the_directory_of_another_user_is_refused(tmp_path: Path, below: str):
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", OTHER_USER, OTHER_USER)
    refused(tmp_path / "theirs" / below, f"belongs to user {OTHER_USER}")


@as_root
def test_what_another_user_planted_in_advance_is_never_used(public: Path):
    """The port of tmp_cache.sh: an attacker owns the directory and plants a valid image in it."""
    public.chmod(0o1777)
    plant = (
        "os.mkdir(os.environ['PLACE'], 0o777)\n"
        "imagefile.write_image(os.environ['PLACE'], KEY, b'planted')\n"
    )
    place = public / "shmalloc-0"
    Child(plant, user=OTHER_USER, PLACE=place).rest()
    told, *rest = Child(FETCH, SHMALLOC_CACHE_DIR=place).rest()
    assert f"{place} belongs to user {OTHER_USER}" in told
    assert rest == ["building", "built"]


@as_root
def test_a_shared_directory_of_root_is_read_by_others(public: Path):
    Child(FETCH, SHMALLOC_CACHE_DIR=public).rest()
    assert Child(FETCH, user=OTHER_USER, SHMALLOC_CACHE_DIR=public).rest() == ["built"]


@as_root
def test_what_a_shared_directory_lacks_goes_to_a_private_one(public: Path):
    code = FETCH * 2 + "say(directory.private())\n"
    told, *rest, private = Child(code, user=OTHER_USER, SHMALLOC_CACHE_DIR=public).rest()
    assert told.startswith(f"told: you may not write to {public};") and private in told
    assert rest == ["building", "built", "built"]
    assert list(public.iterdir()) == [] and not Path(private).exists()


@as_root
def test_root_of_a_user_is_trusted_and_another_users_file_in_it_is_not(public: Path):
    Child(FETCH, SHMALLOC_CACHE_DIR=public).rest()
    os.chown(public / f"{KEY}.image", OTHER_USER, OTHER_USER)
    told, *rest = Child(FETCH, SHMALLOC_CACHE_DIR=public).rest()
    assert f"{public}/{KEY}.image belongs to user {OTHER_USER}" in told
    assert rest == ["building", "built"]


def test_instead_of_an_untrusted_directory_a_private_one_is_used_with_one_line(tmp_path: Path):
    tmp_path.chmod(0o777)
    code = FETCH * 2 + (
        "private = directory.private()\nsay(private)\n"
        "say(oct(os.stat(private).st_mode & 0o7777))\nsay(sorted(os.listdir(private)))\n"
    )
    told, *rest, private, mode, files = Child(code, SHMALLOC_CACHE_DIR=tmp_path).rest()
    assert told.startswith(f"told: others may write to {tmp_path} (mode 0777); ")
    assert private in told
    assert rest == ["building", "built", "built"]
    assert (mode, files) == ("0o700", str([f"{KEY}.image", "lock"]))
    assert not Path(private).exists(), "its maker removes it at its exit"
    assert list(tmp_path.iterdir()) == []


def test_descendants_use_the_private_directory_and_leave_it(tmp_path: Path):
    tmp_path.chmod(0o777)
    code = (
        "if 'child' not in os.environ:\n"
        "    import subprocess\n"
        "    store.fetch(KEY, build, tell)\n"
        "    say(os.environ['SHMALLOC_PRIVATE_CACHE'])\n"
        "    if os.fork() == 0:\n"
        "        sys.exit()\n"
        "    os.wait()\n"
        "    subprocess.run(sys.orig_argv, env=os.environ | {'child': '1'}, check=True)\n"
        "    say(os.path.exists(directory.private()))\n"
        "else:\n"
        "    say(directory.private())\n"
        "    store.fetch(KEY, build, tell)\n"
    )
    first, building, private, same, again, exists = Child(code, SHMALLOC_CACHE_DIR=tmp_path).rest()
    assert (building, same, exists) == ("building", private, "True")
    assert first == again, "each process says where its images are"
    assert not Path(private).exists()


def test_a_private_directory_that_went_with_its_maker_is_not_made_again(tmp_path: Path):
    gone = tmp_path / "gone"
    code = "directory.private() and say(directory.private() != os.environ['GONE'])\n"
    assert Child(code, GONE=gone, SHMALLOC_PRIVATE_CACHE=gone).rest() == ["True"]
    assert not gone.exists()


def test_without_any_directory_images_are_built_and_not_kept(tmp_path: Path):
    tmp_path.chmod(0o777)
    code = "tempfile.mkdtemp = lambda **_: exec('raise OSError')\n" + FETCH * 2
    told, *rest = Child(code, SHMALLOC_CACHE_DIR=tmp_path).rest()
    assert "cannot be kept, as no temporary directory can be trusted" in told
    assert rest == ["building", "built"] * 2


def test_a_temporary_directory_that_others_can_change_is_not_used(tmp_path: Path):
    tmp_path.chmod(0o777)
    child = Child("say(directory.private())\n", TMPDIR=tmp_path)
    with children(child):
        assert not Path(child.line()).is_relative_to(tmp_path)
        child.rest()
    assert list(tmp_path.iterdir()) == []
