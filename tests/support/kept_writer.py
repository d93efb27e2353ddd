"""A process that keeps and drops a failure again and again: a session beside another."""

from __future__ import annotations

from pathlib import Path

from stress.pytest_plugin.kept import Failure, Kept


def failure(token: str = "shm1/counter/sc/p1/100/check/1/0123456789ab/-") -> Failure:
    return Failure("counter", "sc", token, "counter: check 1", 1.0, 2.0)


def write_often(folder: Path, token: str) -> None:
    kept = Kept(folder, print)
    for _ in range(200):
        kept.keep("node", [failure(token)])
        assert [one.token[:5] for one in kept.of("node")] in ([], ["shm1/"]), "half of a file"
        kept.keep("node", [])
