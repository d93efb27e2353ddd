"""Damaged and hostile traces and texts: each is read, or refused in one line, in little memory.

    PYTHONPATH=tests python -m support.fuzz_traces [--seconds 60] [--seed N] [--keep DIR]

A child process under a limit of address space runs ``shmstress trace show`` and ``trace import`` on
each file. A finding is any other end than exit code 0 or 4 (a traceback, MemoryError, a death, a
hang), an error of more than one line, and an accepted trace that does not load again. The file of a
finding is kept. Ends with 1 if there was one.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import lzma
import random
import secrets
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from support import trace_texts
from support.archives import archive, arrays, header, npy, with_header
from support.bounded import Bounded
from support.trace_texts import LAYOUTS, Event

LITTLE = 160 << 20
EDGES = (b"\xff" * 4, bytes(4), b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\x01\0\0\0")
SHAPES = ("(1<<40,)", "(9999999999999,)", "(-1,)", "(64,64)", "(6.4,)", "(True,)", "(0,)", "()",
          "(9223372036854775807,)", "(99999999999999999999999,)", "(" * 200 + "64" + ")" * 200,
          "(16777216,)", "(64,),", "[64]", "(None,)", "'64'")  # fmt: skip
DESCRS = ("'|O'", "'|O8'", "'<U999999999'", "'<U99999999'", "'<M8[s]'", "'>i8'", "'<c16'", "'?'",
          "[('a','<i8',(3,))]", "'|V4'", "('<i8', (3,))", "{}", "'|S0'", "'<U0'")  # fmt: skip
TYPES = ("f8", "i8", "u8", "S3", "U4", "M8[s]", "c16", "?", ">i8", "V4")
WORDS = (
    "(null)", "(nil)", "(____ptrval____)", "ptr=", "pfn=-1", "pfn=0x", "order=11", "order=-1",
    "bytes_alloc=0", "bytes_alloc=99999999999999999999", "migratetype=7", "[99999]", "[-1]",
    "CPU:1 [LOST 17 EVENTS]", "CPU:99999999999 [LOST 99999999999999999999999 EVENTS]", "\x1b[2J",
    "# shmstress: the buffer of CPU 0 was full, 9 events were dropped", "kfree: ptr=1", "/* ",
    " */", "99999999999999999999.999999:", "0.0:", "name=" + " " * 500, "\u0663", "\ufeff", "\0",
    "\r", " " * 3000, "a 1 64", "f 1", "+ 0x10 0x20", "op,id,bytes\n", "9" * 5000,
    "0x" + "f" * 5000,
)  # fmt: skip
Made = tuple[str, bytes, tuple[str, ...]]  # name of the file, content, words of the command


@dataclass
class Outcome:
    """What was run, and what was found."""

    files: int
    ends: Counter[str]
    findings: list[str]
    peak_bytes: int


# --- archives -------------------------------------------------------------------------------------


def damaged(rng: random.Random, data: bytes) -> bytes:
    """``data`` with a few bytes changed, taken out, put in or cut off."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if not found:
            break
        at = rng.randrange(len(found))
        how = rng.randrange(6)
        if how == 0:
            found[at] = rng.randrange(256)
        elif how == 1:
            found[at] ^= 1 << rng.randrange(8)
        elif how == 2:
            del found[at : at + rng.randrange(1, 40)]
        elif how == 3:
            found[at:at] = rng.randbytes(rng.randrange(1, 20))
        elif how == 4:
            del found[at:]
        else:
            found[at : at + 4] = rng.choice(EDGES)
    return bytes(found)


def built(rng: random.Random) -> bytes:
    """A well-formed archive of arrays whose numbers, types, headers or members are wrong."""
    members: dict[str, bytes] = {}
    for name, array in arrays().items():
        one = array.copy()
        if name != "caches" and rng.random() < 0.4:
            for _ in range(rng.randrange(1, 4)):
                top = int(np.iinfo(one.dtype).max)
                value = (
                    rng.choice((0, 1, 2, 3, 4, top)) if rng.random() < 0.5 else rng.randrange(top)
                )
                one[rng.randrange(len(one))] = value
        if name != "caches" and rng.random() < 0.05:
            one = one.astype(rng.choice(TYPES))
        if rng.random() < 0.05:
            one = one.reshape(rng.choice(((1, -1), (-1, 1)))) if rng.random() < 0.5 else one[:1]
        data = npy(one)
        if rng.random() < 0.15:
            data = with_header(data, _header(rng), rng.choice((1, 1, 2, 3)))
        if rng.random() < 0.05:
            data = damaged(rng, data)
        members[rng.choice(("kind", "../x", "a\0b", "")) if rng.random() < 0.01 else name] = data
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
    return archive(members, rng.choice(methods))


def _header(rng: random.Random) -> str:
    text = header()
    if rng.random() < 0.6:
        text = header(shape=rng.choice(SHAPES))
    elif rng.random() < 0.6:
        text = header(rng.choice(DESCRS))
    if rng.random() < 0.3:
        at = rng.randrange(len(text))
        text = text[:at] + chr(rng.randrange(256)) + text[at + 1 :]
    return text


def npz(rng: random.Random) -> Made:
    whole = archive({name: npy(array) for name, array in arrays().items()})
    data = damaged(rng, whole) if rng.random() < 0.5 else built(rng)
    return "t.npz", data, ("trace", "show", "{file}")


# --- texts ----------------------------------------------------------------------------------------


def happened(rng: random.Random) -> list[Event]:
    found, time_ns = [], rng.randrange(10**12)
    for _ in range(rng.randrange(1, 40)):
        time_ns += rng.randrange(3000)
        kind = rng.randrange(trace_texts.KFREE + 1)
        is_page = kind <= trace_texts.PAGE_FREE
        key = rng.randrange(4) * 1024 + (1 if is_page else 0xFFFF888000000000)
        size = rng.randrange(3) if is_page else rng.choice((8, 96, 4096))
        where = time_ns, rng.randrange(3), rng.randrange(9999)
        found.append(Event(kind, *where, rng.choice(("make", "a b", "x-1")), key, size, 0, "filp"))
    return found


def heap(rng: random.Random) -> list[str]:
    lines = [str(rng.randrange(10**6)) for _ in range(rng.choice((0, 4)))]
    for _ in range(rng.randrange(1, 60)):
        op, key = rng.choice("aarf"), rng.randrange(9)
        lines.append(f"f {key}" if op == "f" else f"{op} {key} {rng.choice((0, 1, 99, 10**7))}")
    return lines


def table(rng: random.Random) -> list[str]:
    lines = ["time_ns,cpu,op,id,bytes,order,cache"]
    for _ in range(rng.randrange(1, 40)):
        op = rng.choice(("alloc", "free", "kfree", "mm_page_alloc"))
        size, order = rng.choice((("64", ""), ("", "3"), ("1", "1"), ("", "")))
        lines.append(
            f"{rng.randrange(9999)},{rng.randrange(70)},{op},{rng.randrange(9)},{size},{order},"
        )
    return lines


def text(rng: random.Random) -> Made:
    """A text of some format with words, bytes and lines changed, and perhaps compressed."""
    layout = rng.choice(LAYOUTS)
    lines = rng.choice(
        (lambda: layout.text(happened(rng)), lambda: heap(rng), lambda: table(rng))
    )()
    for _ in range(rng.choice((0, 1, 2, 5))):
        at = rng.randrange(len(lines))
        words = lines[at].split(" ")
        words[rng.randrange(len(words))] = rng.choice(WORDS)
        lines[at] = " ".join(words)
    rng.shuffle(lines) if rng.random() < 0.1 else None
    data = rng.choice(("\n", "\n", "\n", "\r\n", "\r")).join(lines).encode("utf-8", "replace")
    data = damaged(rng, data) if rng.random() < 0.5 else data
    if rng.random() < 0.2:
        data = rng.choice((gzip.compress, bz2.compress, lzma.compress))(data)
        data = damaged(rng, data) if rng.random() < 0.5 else data
    formats = (
        "auto",
        "auto",
        "auto",
        layout.format,
        "csv",
        "rep",
        "perf",
        "mtrace",
        "function_graph",
    )
    words = ("trace", "import", "{file}", "--out", "{out}", "--format", rng.choice(formats))
    return "t.txt", data, words


KINDS: tuple[Callable[[random.Random], Made], ...] = (npz, text)


def cases(seed: int) -> Iterator[Made]:
    """Files without end; the n-th is the same for the same seed."""
    number = 0
    while True:
        rng = random.Random(f"{seed} {number}")
        yield rng.choice(KINDS)(rng)
        number += 1


def fuzz(seed: int, directory: Path, enough: Callable[[int], bool]) -> Outcome:
    """Run cases until ``enough(number)``; files of findings stay in ``directory``."""
    outcome = Outcome(0, Counter(), [], 0)
    out = directory / "out.npz"
    with Bounded(LITTLE) as child:
        for number, (name, data, words) in enumerate(cases(seed)):
            if enough(number):
                return outcome
            path = directory / name
            path.write_bytes(data)
            places = {"{file}": str(path), "{out}": str(out)}
            code, output, error = child.run(*(places.get(word, word) for word in words))
            outcome.files += 1
            outcome.ends[f"{words[1]} {code}"] += 1
            problem = _problem(code, output, error)
            if not problem and code == 0 and words[1] == "import":
                problem = _problem(*child.run("trace", "show", str(out)))
            if problem:
                kept = path.rename(directory / f"finding-{seed}-{number}-{name}")
                outcome.findings.append(f"{problem}: {kept} ({' '.join(words)})")
            outcome.peak_bytes = child.peak_bytes
    raise AssertionError("cases do not end")


def _problem(code: int, output: str, error: str) -> str:
    """What is wrong with an answer of the command, if anything is."""
    if code == 0:
        return "" if output and not error else f"exit code 0, but {error[:200]!r} is told"
    if code != 4:
        return f"exit code {code}: {error[-300:]!r}"
    lines = error.count("\n")
    return "" if lines == 1 and not output and error.endswith("\n") else f"{lines} lines: {error!r}"


def main() -> int:
    parser = argparse.ArgumentParser(description="damaged traces and texts")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--keep", type=Path, help="directory for the files of findings")
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    end = time.monotonic() + chosen.seconds
    directory = chosen.keep or Path(tempfile.mkdtemp(prefix="shmalloc-fuzz-traces-"))
    outcome = fuzz(chosen.seed, directory, lambda number: time.monotonic() >= end)
    for finding in outcome.findings:
        print(finding)
    ends = ", ".join(f"{count:,} of {end}" for end, count in sorted(outcome.ends.items()))
    print(f"{outcome.files:,} files ({ends}), peak {outcome.peak_bytes >> 20} MiB,"
          f" {len(outcome.findings)} findings")  # fmt: skip
    return 1 if outcome.findings else 0


if __name__ == "__main__":
    sys.exit(main())
