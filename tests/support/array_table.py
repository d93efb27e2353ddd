"""The table of docs/arrays.md: what happens to arrays in transit. ``tox -e arena-situations``.

Each situation of array_situations.py under each way to start a process; prints Markdown.
"""

from __future__ import annotations

import multiprocessing

from support.array_situations import SITUATIONS, outcomes

METHODS = ("fork", "forkserver", "spawn")


def main() -> None:
    found = {method: outcomes(multiprocessing.get_context(method)) for method in METHODS}
    print("| situation |", " | ".join(METHODS), "|")
    print("|---|" + "---|" * len(METHODS))
    for play in SITUATIONS:
        what = (play.__doc__ or play.__name__.replace("_", " ")).strip().rstrip(".")
        cells = [
            f"{outcome}; {left} left"
            for outcome, left in (found[m][play.__name__] for m in METHODS)
        ]
        print(f"| {what} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
