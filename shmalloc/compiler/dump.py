"""``SHMALLOC_DUMP=ir|asm``: the compiled form of each kernel, as text to read.

    SHMALLOC_DUMP=ir        optimized LLVM IR, KERNEL.ll
    SHMALLOC_DUMP=asm       assembly, KERNEL.s
    SHMALLOC_DUMP=ir,asm    both
    SHMALLOC_DUMP_DIR=DIR   where; default: shmalloc-dump in the working directory

One file for each kernel that is a function of its own; a kernel that is inlined everywhere is part
of its callers. Images are compiled for this even if the cache has them; the cached bytes run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from shmalloc.compiler import codegen
from shmalloc.compiler.build import module_text
from shmalloc.compiler.instances import Instance
from shmalloc.errors import MisuseError

ENV_DUMP, ENV_DIRECTORY = "SHMALLOC_DUMP", "SHMALLOC_DUMP_DIR"
ENDINGS = {"ir": ".ll", "asm": ".s"}
_BEGINS = {
    "ir": re.compile(r'define [^@]*@"?([^"(]+)"?\('),
    "asm": re.compile(r'"?([^"\s.:#][^":#]*(?::[^":#]+)?)"?:'),
}
_ENDS = {"ir": re.compile(r"\}"), "asm": re.compile(r"\.Lfunc_end\d+:")}


def _put(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise MisuseError(
            f"{ENV_DIRECTORY}: {path} cannot be written ({error.strerror}); name a folder that you"
            " may write to"
        ) from None


def wanted() -> list[str]:
    """The forms that $SHMALLOC_DUMP asks for. Raises ``MisuseError`` for an unknown one."""
    found = [form for form in os.environ.get(ENV_DUMP, "").split(",") if form]
    for form in found:
        if form not in ENDINGS:
            raise MisuseError(f"{ENV_DUMP}: {form!r}; use ir, asm or ir,asm")
    return found


def write(entries: Sequence[Instance], tell: Callable[[str], None]) -> None:
    """Write the kernels of an image into files, in every wanted form."""
    forms = wanted()
    directory = Path(os.environ.get(ENV_DIRECTORY, "shmalloc-dump"))
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MisuseError(
            f"{ENV_DIRECTORY}: {directory} cannot be made ({error.strerror}); name a folder that"
            " you may write to"
        ) from None
    target = codegen.host()
    text = module_text(entries, target)
    makers = {"ir": codegen.optimized_ir, "asm": codegen.assembly_code}
    for form in forms:
        count = 0
        for name, body in functions_of(makers[form](text, target), form):
            if ":" not in name:
                continue  # a wrapper, or of the runtime
            path = directory / (re.sub(r"[^\w.-]", "_", name) + ENDINGS[form])
            _put(path, body + "\n")
            count += 1
        tell(f"wrote {form} of {count} kernels to {directory}")


def functions_of(text: str, form: str) -> Iterator[tuple[str, str]]:
    """(symbol, text) of each function in a module's IR or assembly."""
    name = ""
    lines: list[str] = []
    for line in text.splitlines():
        begins = None if name else _BEGINS[form].match(line)
        if begins:
            name, lines = _unescaped(begins[1]), []
        if name:
            lines.append(line)
            if _ENDS[form].match(line):
                yield name, "\n".join(lines)
                name = ""


def _unescaped(name: str) -> str:
    """A name as it is in Python: LLVM writes letters beyond ASCII as bytes, \\C3\\B6."""
    plain = re.sub(rb"\\([0-9A-F]{2})", lambda m: bytes.fromhex(m[1].decode()), name.encode())
    return plain.decode(errors="replace")
