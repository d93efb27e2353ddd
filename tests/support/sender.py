"""A child that allocates and passes everything on, until it is killed.

    python sender.py NAME

Each line: a page's pfn, an object's address, and the life that passes them on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from shmalloc import Arena

ROOT = Path(__file__).parents[2]


def start(name: str) -> subprocess.Popen[str]:
    """Start the child; its standard output is the pipe through which it passes things on."""
    return subprocess.Popen(
        [sys.executable, __file__, name],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def main(name: str) -> None:
    with Arena.attach(name) as arena:
        cache = arena.open_cache("passed on")
        while True:
            print(arena.alloc_pages(), cache.alloc(), arena.life, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
