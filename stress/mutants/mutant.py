"""``Mutant``: one way to break our own kernels, as data.

A mutant is a patch and everything that people want to know about it. The patch is text that must
be found exactly once in its file, so that a mutant cannot rot silently when the kernel changes: it
stops to apply, and a test says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shmalloc.errors import MisuseError

BUDGET_S = 60.0
JITTER = ("--jitter", "on")  # of a run: for windows a few instructions wide
OFTEN = ("--audit-every", "250ms")  # a range is held for milliseconds
# Why no run can see a mutant, where several have the same reason:
LOOKS_AGAIN = "a sleeper wakes every 50 ms natively and looks again"
SIGN = "+"  # before a world: buddy-merge-take+poison (programs/worlds.py)
CRASH = "crash"  # crash:NAME is a case of stress/crash


class MutantError(Exception):
    """A patch that does not fit the kernels any more."""


@dataclass(frozen=True)
class Mutant:
    """One defect, planted.

    ``file``: of the kernel, from the root of the packages. ``edits``: pairs of the exact old text
    and the new one; each old text occurs once. ``story``: what goes wrong, in which interleaving.
    ``invariant``: the name in docs/invariants.md of what is broken first. ``programs``: names of
    explorer programs that should find it, or a part ("buddy": all of ``buddy-...``); with
    ``crash:`` before it a case of stress/crash, where CPUs die.
    ``workloads``: of ``shmstress run``, that should find it natively, with ``run_options`` where
    it needs some; none where no run can, and ``unseen`` says why. ``patient``: the run's copy
    sleeps without a time limit, so that a lost wake-up is no delay but a worker who hangs.
    ``precedent``, ``commit``: the bug of Linux that it repeats, if it does. ``equivalent``: why
    nothing can tell it from the original; empty where something must.
    """

    name: str
    file: str
    edits: tuple[tuple[str, str], ...]
    story: str
    invariant: str
    programs: tuple[str, ...]
    workloads: tuple[str, ...] = ()
    run_options: tuple[str, ...] = ()
    patient: bool = False
    unseen: str = ""
    precedent: str = ""
    commit: str = ""
    budget_s: float = BUDGET_S
    equivalent: str = ""

    def patched(self, source: str) -> str:
        """``source`` of the file with the defect in it.

        Raises ``MutantError`` unless every old text is there exactly once.
        """
        for old, new in self.edits:
            found = source.count(old)
            if found != 1:
                raise MutantError(
                    f"mutant {self.name}: {self.file} has {found} times what is to be replaced,"
                    f" which begins {old.strip().splitlines()[0]!r}: bring the patch up to date"
                )
            source = source.replace(old, new)
        return source

    def plant(self, root: Path) -> None:
        """Patch the file below ``root``, where the packages are."""
        path = root / self.file
        rewrite(path, self.patched(path.read_text("utf-8")))


def rewrite(path: Path, text: str) -> None:
    """Make ``text`` the source at ``path``, and forget its bytecode: that is told from a changed
    source by its time, to the second, and by its size."""
    for stale in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
        stale.unlink()
    path.write_text(text, "utf-8")


def is_crash(program: str) -> bool:
    """Whether the name is that of a case in which CPUs die."""
    return program.startswith(f"{CRASH}:")


def programs_of(names: tuple[str, ...], known: tuple[str, ...]) -> list[str]:
    """The programs that ``names`` mean: themselves, or all of a part.

    Raises ``MisuseError`` where a name means none.
    """
    chosen: list[str] = []
    for name in names:
        plain = name.partition(SIGN)[0]  # without the worlds that it is wanted in
        meant = [name] if plain in known else [one for one in known if one.startswith(f"{name}-")]
        if not meant:
            raise MisuseError(
                f"program: {name!r} is neither a program nor a part; known are {', '.join(known)}"
            )
        chosen += [one for one in meant if one not in chosen]
    return chosen
