"""Where a command writes its ``Suite``: one file for each format that was asked for.

``-`` is standard output; then what people read goes to standard error. The file that
``$GITHUB_STEP_SUMMARY`` names belongs to all steps of a job, so Markdown is added to its end; any
other file is replaced. Each writer is imported when it is needed.

What cannot be written is told in a line each; the other files are written nevertheless, and a
violation keeps its exit code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from shmalloc.errors import MisuseError
from stress.report.places import STDOUT, require_places, write_to
from stress.report.suite import Suite
from stress.surroundings import unfit, writing
from stress.verdict import EXIT_USAGE, Verdict, code_after_loss

STEP_SUMMARY = "GITHUB_STEP_SUMMARY"
PERFETTO = "perfetto"


class Exports:
    """The paths of one command by format, such as ``junit``.

    ``others``: paths that the command writes by itself, such as ``json``. Raises ``MisuseError``
    where one of them cannot be written, or two are the same.
    """

    def __init__(self, paths: Mapping[str, str | None], **others: str | None) -> None:
        self._paths = {name: path for name, path in paths.items() if path is not None}
        self._others = others
        self._loss: int | None = None
        require_places(**others, **self._paths)

    @property
    def aside(self) -> bool:
        """Whether standard output is a document, so that text belongs on standard error."""
        return STDOUT in self._paths.values() or STDOUT in self._others.values()

    def __bool__(self) -> bool:
        """Whether a format is wanted."""
        return bool(self._paths)

    def put(self, path: str, text: str) -> None:
        """``write_to`` that names the file, or its error: other files may still be written."""
        with self.tried():
            write_to(path, text)
            if path != STDOUT:
                print(f"wrote {path}", file=sys.stderr)

    def page(self, path: str | None, make: Callable[[], str] | None) -> None:
        """``put`` what ``make`` gives, the page of a failure; None: nothing failed."""
        self._put_failure("html", path, make)

    def _put_failure(self, format: str, path: str | None, make: Callable[[], str] | None) -> None:
        if path is not None and make is not None:
            self.put(path, make())
        elif path is not None:
            print(f"{format}: nothing failed; {path} is not written", file=sys.stderr)

    @contextmanager
    def tried(self) -> Iterator[None]:
        """Within, something is written; that it cannot be is one line, and a part of the code."""
        try:
            yield
        except MisuseError as error:
            print(f"shmstress: {error}", file=sys.stderr)
            self._loss = EXIT_USAGE
        except OSError as error:
            reason = unfit(error)
            if reason is None or isinstance(error, BrokenPipeError):
                raise
            print(f"shmstress: {reason}", file=sys.stderr)
            self._loss = Verdict.UNFIT.exit_code

    def exit_code(self, verdict: Verdict) -> int:
        """Of a command that has come to ``verdict`` and has written its files."""
        code = verdict.exit_code
        return code if self._loss is None else code_after_loss(code, self._loss)

    def write(self, make: Callable[[], Suite], trace: Callable[[], str] | None = None) -> None:
        """Write what was asked for; ``make`` and ``trace`` are called only if they are needed.

        ``trace`` gives the text of ``perfetto``; None: nothing failed, so there is no schedule.
        """
        wanted = {name: path for name, path in self._paths.items() if name != PERFETTO}
        suite = make() if wanted else None
        for name, path in wanted.items():
            assert suite is not None
            text = written(name, suite)
            if name == "markdown" and _is_summary(path):
                with self.tried():
                    _add(path, text)
            else:
                self.put(path, text)
        self._put_failure(PERFETTO, self._paths.get(PERFETTO), trace)


def written(name: str, suite: Suite) -> str:
    """``suite`` in the format of this name."""
    if name == "junit":
        from stress.report.junit import junit

        return junit(suite)
    if name == "ktap":
        from stress.report.ktap import ktap

        return ktap(suite)
    if name == "markdown":
        from stress.report.markdown import markdown

        return markdown(suite)
    if name == "sarif":
        from stress.report.sarif import sarif

        return sarif(suite)
    raise ValueError(f"format: {name!r}; use junit, ktap, markdown or sarif")


def _is_summary(path: str) -> bool:
    given = os.environ.get(STEP_SUMMARY)
    return bool(given) and path != STDOUT and Path(path).resolve() == Path(str(given)).resolve()


def _add(path: str, text: str) -> None:
    with writing(path), Path(path).open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(f"{text}\n")
