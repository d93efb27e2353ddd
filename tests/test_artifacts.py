"""The image of a segment that a failure leaves: whole, or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stress.report import artifacts


def sparse(path: Path) -> Path:
    """A file with data at its end, behind a hole."""
    with path.open("wb") as file:
        file.seek(1 << 20)
        file.write(b"end")
    return path


def test_a_copy_has_the_data_and_the_holes_of_its_source(tmp_path: Path) -> None:
    source, target = sparse(tmp_path / "a"), tmp_path / "b"
    artifacts.copy_sparse(source, target)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks <= source.stat().st_blocks


def test_a_copy_that_fails_leaves_no_part_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "planted")

    source = sparse(tmp_path / "a")
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="planted"):
        artifacts.copy_sparse(source, tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
