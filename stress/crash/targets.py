"""Cases by name: of the allocator, or of any module or file; the same forms as for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from stress.crash.adapt import left_out
from stress.crash.allocator import allocator_case, case_names, has_case, variants_of
from stress.crash.case import CrashCase
from stress.explorer.loading import here
from stress.explorer.targets import Kind, load
from stress.programs import PROGRAMS

CASE = Kind(CrashCase, "case", case_names, allocator_case, has_case, variants_of)


def load_cases(
    targets: Iterable[str], folders: Sequence[Path] | None = None
) -> dict[str, CrashCase]:
    """The cases that ``targets`` name, searched in ``folders``: the working directory.

    Raises ``MisuseError``, which names the nearest one.
    """
    targets = list(targets)
    for target in targets:
        if target in PROGRAMS and left_out(target):
            allocator_case(target)  # says why there is none
    return load(CASE, targets, here() if folders is None else folders)
