"""Images that are prebuilt and shipped: if one fits, nothing is compiled.

``make`` writes them, for this version of Python (the key of an image holds bytecode) and for any
x86-64 processor since 2009 that has cmpxchg16b. A wheel carries them in ``shmalloc/prebuilt``
(``tox -e prebuilt``). They are found as others are: by a key of everything that they are made from.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from shmalloc.compiler import digest, imagefile, processor
from shmalloc.compiler.instances import Instance
from shmalloc.errors import EngineError

DIRECTORY = Path(__file__).parent.parent / "prebuilt"
BASELINE = "x86_64-unknown-linux-gnu x86-64-v2 +cx16"
_NEEDED = frozenset({"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"})


@cache
def fits() -> bool:
    """Whether there are such images, and this processor can run them."""
    return DIRECTORY.is_dir() and processor.features() >= _NEEDED


def find(entries: Sequence[Instance]) -> bytes | None:
    """The image of ``entries``, if it was shipped and is whole."""
    if not fits():
        return None
    key = digest.key_of(entries, BASELINE)
    try:
        return imagefile.read_image(str(DIRECTORY), key)
    except EngineError:
        return None  # then it is compiled, as if it had not been shipped


def make(directory: Path, entries: Sequence[Instance]) -> None:
    """Compile a plan for the baseline into ``directory``."""
    from shmalloc.compiler import build, codegen

    directory.mkdir(parents=True, exist_ok=True)
    image = build.compile_image(entries, codegen.BASELINE)
    imagefile.write_image(str(directory), digest.key_of(entries, BASELINE), image)
