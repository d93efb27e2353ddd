"""``SHMALLOC_DUMP``: the compiled form of each kernel as text."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from shmalloc.compiler import obtain
from shmalloc.compiler.dump import ENV_DIRECTORY, ENV_DUMP
from shmalloc.compiler.instances import Instance
from shmalloc.compiler.words import RAM
from shmalloc.engine import get_engine
from shmalloc.errors import MisuseError
from shmalloc.memory import Ram
from support.sources import module

TEXT = """
    @unit
    def large(mem, i):
        return mem[i] * 3
    @kernel
    def größe(mem, i):
        return large(mem, i) + large(mem, i + 1)
    @kernel
    def wrong(mem, i):
        return i / 2
"""


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv(ENV_DIRECTORY, str(tmp_path / "dump"))
    return module(tmp_path, TEXT)


def dumped(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "dump").iterdir()}


def run(made: ModuleType) -> int:
    return get_engine("native").call(made.größe, Ram.of_words(2), 0)


@pytest.mark.parametrize(
    ("wanted", "endings"), [("ir", {".ll"}), ("asm", {".s"}), ("ir,asm", {".ll", ".s"})]
)
def test_each_kernel_has_a_file_of_each_form(
    made: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wanted: str,
    endings: set[str],
) -> None:
    monkeypatch.setenv(ENV_DUMP, wanted)
    assert run(made) == 0
    names = {f"{made.__name__}_{kernel}" for kernel in ("large", "größe")}
    assert set(dumped(tmp_path)) == {name + ending for name in names for ending in endings}


def test_ir_is_a_function_of_llvm(
    made: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV_DUMP, "ir")
    run(made)
    text = dumped(tmp_path)[f"{made.__name__}_large.ll"]
    assert text.startswith("define ") and text.endswith("}\n") and "mul i64" in text


def test_assembly_is_that_of_the_kernel_alone(
    made: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV_DUMP, "asm")
    run(made)
    text = dumped(tmp_path)[f"{made.__name__}_large.s"]
    assert text.count(".cfi_endproc") <= 1 and "ret" in text and "func_end" in text


def test_it_is_written_also_where_the_image_is_kept(
    made: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Instance(made.large, RAM, True)
    image = obtain.obtain([entry])
    monkeypatch.setattr(obtain, "_images", [])  # as in another process
    monkeypatch.setenv(ENV_DUMP, "ir")
    assert obtain.is_kept([entry]) and obtain.obtain([entry]).name == image.name
    assert set(dumped(tmp_path)) == {f"{made.__name__}_large.ll"}


@pytest.mark.parametrize("wanted", ["llvm", "IR", "ir,machine"])
def test_another_form_is_refused_with_those_that_there_are(
    made: ModuleType, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    monkeypatch.setenv(ENV_DUMP, wanted)
    with pytest.raises(MisuseError, match=r"SHMALLOC_DUMP: .*; use ir, asm or ir,asm"):
        run(made)


@pytest.mark.parametrize("wanted", ["", ","])
def test_nothing_is_written_where_nothing_is_wanted(
    made: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    monkeypatch.setenv(ENV_DUMP, wanted)
    run(made)
    assert not (tmp_path / "dump").exists() or dumped(tmp_path) == {}


def test_a_folder_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(ENV_DUMP, "ir")
    monkeypatch.setenv(ENV_DIRECTORY, str(tmp_path / "file" / "below"))
    made = module(tmp_path, "@kernel\ndef k(mem):\n    return 1\n")
    with pytest.raises(MisuseError, match=r"SHMALLOC_DUMP_DIR: .*below cannot be made \(Not a dir"):
        get_engine("native").bind(made.k)
