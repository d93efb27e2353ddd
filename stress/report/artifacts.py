"""``--out DIR``: everything about one run in one directory, named by time and seed.

The directory and the spec are written before the first worker starts, so that a crash of the
harness itself leaves them::

    DIR/<utc>-<seed>/  spec.toml  environment.json  worker-N.log
                       records.db                            as it happens (stress/records)
                       run.json  violations.jsonl            at the end
                       segment.bin                           after a failure, sparse
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from shmalloc.physical import path_of
from stress.report.environment import environment
from stress.report.places import write_to
from stress.run.result import RunResult
from stress.spec import RunSpec
from stress.surroundings import writing

_CHUNK_BYTES = 1 << 20
SEGMENT = "segment.bin"


class Artifacts:
    """Writes the files of one run."""

    def __init__(self, parent: str, spec: RunSpec) -> None:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        self.directory = _fresh(Path(parent), f"{stamp}-{spec.seed:#x}")
        write_to(str(self.directory / "spec.toml"), spec.toml())
        about = json.dumps(environment(), indent=2) + "\n"
        write_to(str(self.directory / "environment.json"), about)

    def worker_log(self, cpu: int) -> Path:
        return self.directory / f"worker-{cpu}.log"

    def save_segment(self, name: str) -> None:
        """A post-mortem image of the segment; holes stay holes."""
        with writing(self.directory):
            copy_sparse(path_of(name), self.directory / SEGMENT)

    def save_result(self, result: RunResult, document: str) -> None:
        lines = (json.dumps(violation.as_dict()) + "\n" for violation in result.violations)
        with writing(self.directory):
            write_to(str(self.directory / "run.json"), document)
            write_to(str(self.directory / "violations.jsonl"), "".join(lines))


def _fresh(parent: Path, name: str) -> Path:
    """A directory that did not exist: two runs of one second and seed get a number behind."""
    for number in range(1, 1000):
        path = parent / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return path
    raise FileExistsError(f"out: {parent / name} and 998 more exist; use another directory")


def copy_sparse(source: Path, target: Path) -> None:
    """Copy the data of a sparse file, not its holes. ``target`` appears when it is whole."""
    part = target.with_name(f".{target.name}.part")
    try:
        with source.open("rb") as reader, part.open("xb") as writer:
            size = os.fstat(reader.fileno()).st_size
            writer.truncate(size)
            at = 0
            while (extent := _data_after(reader.fileno(), at)) is not None:
                start, at = extent
                _copy_range(reader.fileno(), writer.fileno(), start, at)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _data_after(file: int, at: int) -> tuple[int, int] | None:
    """The next extent of data at or behind ``at``; None where only a hole follows."""
    try:
        start = os.lseek(file, at, os.SEEK_DATA)
    except OSError:  # ENXIO: nothing but a hole up to the end
        return None
    return start, os.lseek(file, start, os.SEEK_HOLE)


def _copy_range(reader: int, writer: int, start: int, end: int) -> None:
    at = start
    while at < end:
        data = os.pread(reader, min(_CHUNK_BYTES, end - at), at)
        os.pwrite(writer, data, at)
        at += len(data)
