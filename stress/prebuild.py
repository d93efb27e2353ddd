"""``python -m stress.prebuild DIRECTORY``: compile beforehand what most people would compile.

The kernels of an ``Arena``, of every native run, and the scheduler with the explorer's strategies,
for the processors that ``shmalloc.compiler.prebuilt`` names; ``tox -e prebuilt`` makes a wheel of
them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from shmalloc.compiler import prebuilt
from shmalloc.compiler.instances import Instance
from shmalloc.compiler.words import RAM
from shmalloc.engine import plans
from stress.explorer.searches import driver_of
from stress.machine.native_control import CONTROL
from stress.run.kernels import whole_plan


def main(directory: str) -> None:
    """Write the images into ``directory``."""
    for entries in (
        [Instance(kernel, RAM, True) for kernel in plans.arena()],
        [Instance(kernel, RAM, True) for _, kernel in whole_plan()],
        [Instance(driver, CONTROL, True) for driver in plans.drivers_with(driver_of("random"))],
    ):
        prebuilt.make(Path(directory), entries)


if __name__ == "__main__":
    main(*sys.argv[1:])
