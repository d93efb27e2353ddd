"""What ``shmstress top`` can show: a ``Source`` that is read again and again, and its panels.

``read`` may take a while, so a view calls it from a thread; everything else arranges what the last
``read`` found. A source is used by one thread at a time.
"""

from __future__ import annotations

import json
from typing import Protocol

from stress.top.document import HEAD, document_of
from stress.top.panel import Panel
from stress.top.panels import panels
from stress.top.reading import Observer, Picture, rates
from stress.top.view import View


class Source(Protocol):
    """Something that is watched."""

    @property
    def ended(self) -> str:
        """Why there is nothing new to read any more; "" while there may be."""

    def read(self) -> None:
        """Look at it. Raises ``ShmallocError`` if that is no longer possible."""

    def panels(self, sort: str) -> list[Panel]:
        """What the last ``read`` found, for people."""

    def document(self) -> dict[str, object]:
        """The same as data."""

    def close(self) -> None: ...


class SegmentSource:
    """A segment in /dev/shm. Raises ``SegmentError`` if there is none of that name."""

    def __init__(self, name: str) -> None:
        self._observer = Observer(name)
        self._before: Picture | None = None
        self._now: Picture | None = None

    @property
    def ended(self) -> str:
        return "the segment was removed" if self._now is not None and self._now.removed else ""

    def read(self) -> None:
        self._before, self._now = self._now, self._observer.look()

    def panels(self, sort: str) -> list[Panel]:
        return panels(self._view(sort))

    def document(self) -> dict[str, object]:
        return document_of(self._view("number"))

    def close(self) -> None:
        self._observer.close()

    def _view(self, sort: str) -> View:
        assert self._now is not None, "read first"
        return View(self._now, rates(self._now, self._before), sort)


def json_text(source: Source) -> str:
    """One JSON document, ending with a newline."""
    return json.dumps({**HEAD, **source.document()}, indent=2) + "\n"
