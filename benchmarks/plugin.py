"""What the pytest plugin costs a project that does not use it: ``pytest --collect-only``.

``python benchmarks/plugin.py``: a project of 500 tests that knows nothing of us is collected in new
processes, in turn with the plugin and with ``-p no:shmalloc``. Shown are the median of the
differences of neighbours and the difference of the fastest ones, in wall and CPU time, and what the
plugin imported. Exit code 1 if the median of the CPU time exceeds its goal, or if numpy, llvmlite,
greenlet or stress was imported.

The plugin must be installed (its entry point), as ``tox -e bench-plugin`` does. Bytecode is written
into a folder of the benchmark's own, as an installed package has it.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GOAL_MS = 30.0
ROUNDS = 30
TESTS = 500
FORBIDDEN = ("numpy", "llvmlite", "greenlet", "stress")
# Collects in this process, then says what is loaded.
COLLECT = """
import sys, pytest
code = pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", *sys.argv[1:]])
loaded = sorted({name.partition(".")[0] for name in sys.modules})
print("loaded:", *loaded)
sys.exit(code)
"""


def project(folder: Path) -> None:
    """Five files of a hundred tests each, some with fixtures and marks of their own."""
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    slow: takes long\n")
    for number in range(5):
        tests = "\n".join(
            f"@pytest.mark.slow\ndef test_{n}(tmp_path):\n    pass\n" for n in range(TESTS // 5)
        )
        (folder / f"test_{number}.py").write_text(f"import pytest\n\n{tests}")


def collect(folder: Path, *options: str) -> tuple[float, float, list[str]]:
    """Wall and CPU milliseconds of one collection, and the packages it loaded."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment.pop("PYTEST_ADDOPTS", None)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", COLLECT, *options],
        cwd=folder, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall * 1e3, cpu * 1e3, done.stdout.rpartition("loaded:")[2].split()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project(folder)
        base = ("-p", "no:shmalloc")
        loaded = set(collect(folder)[2]) - set(collect(folder, *base)[2])  # warms up, too
        pairs = [(collect(folder), collect(folder, *base)) for _ in range(rounds)]
    if "shmalloc" not in loaded:
        print("the plugin is not installed here: pip install shmalloc", file=sys.stderr)
        return 1
    for number, what in enumerate(("wall", "CPU")):
        costs = [ours[number] - theirs[number] for ours, theirs in pairs]
        alone = statistics.median(theirs[number] for _, theirs in pairs)
        cost = statistics.median(costs)
        fastest = min(ours[number] for ours, _ in pairs) - min(base[number] for _, base in pairs)
        print(f"{what}: {cost:+.1f} ms on {alone:.0f} ms, fastest {fastest:+.1f} ms")
    found = sorted(loaded & set(FORBIDDEN))
    print(f"loaded by the plugin: {', '.join(sorted(loaded))}")
    return 1 if found or cost > GOAL_MS else 0


if __name__ == "__main__":
    sys.exit(main())
