"""The generated part of a page of the documents: between two lines, brought up to date in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

END = "<!-- end of the generated part -->"


def refreshed(page: str, begin: str, markdown: str) -> str:
    """``page`` with ``markdown`` between the lines ``begin`` and END. Raises ``ValueError``
    without them."""
    before, _, rest = page.partition(begin)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"the page has no generated part: it needs the lines {begin} and {END}")
    return f"{before}{begin}\n\n{markdown}\n{END}{after}"


def refresh(paths: Iterable[str], renew: Callable[[str], str]) -> None:
    """Bring the generated part of each page up to date by ``renew``."""
    for path in map(Path, paths):
        path.write_text(renew(path.read_text("utf-8")), "utf-8")
