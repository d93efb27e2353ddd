"""A ``Suite`` as KTAP, the format in which tests of the Linux kernel report (version 1).

Each group of cases is a test with nested subtests, two spaces further in, with its own version line
and plan. A group fails if one of its cases fails and is skipped if all are. Diagnostic lines stand
before the result that they explain. Nothing in a name or a message can be taken for another line or
for a directive: ``#`` is left out, and what is said of a failure is further in than any keyword.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from stress.report.suite import Case, Suite, printable

VERSION = "KTAP version 1"
INDENT = "  "
_MESSAGE = 200  # characters behind a directive


def ktap(suite: Suite) -> str:
    """The document, ending with a newline."""
    return "".join(f"{line}\n" for line in _lines(suite))


def _lines(suite: Suite) -> Iterator[str]:
    groups = suite.groups()
    yield VERSION
    yield f"1..{len(groups)}"
    for name, value in suite.properties.items():
        yield from _said(f"{name}: {value}")
    for number, (group, cases) in enumerate(groups.items(), 1):
        group = _group_name(group, cases)
        yield from (f"{INDENT}{line}" for line in _group_lines(group, cases))
        yield _result(number, group, _is_ok(cases), _group_directive(cases))
    yield from _said(suite.headline)
    for again in suite.again:
        yield from _said(f"to try again, run: {again}")


def _group_lines(group: str, cases: Sequence[Case]) -> Iterator[str]:
    yield VERSION
    yield f"# Subtest: {_name(group)}"  # as KUnit names it; a diagnostic line for other readers
    yield f"1..{len(cases)}"
    for number, case in enumerate(cases, 1):
        if case.failed or case.in_error:
            yield from _said(case.text or case.message)
            if case.again:
                yield from _said(f"to try again, run: {case.again}")
        yield _result(number, case.name, _is_ok([case]), _directive(case))


def _group_name(group: str, cases: Sequence[Case]) -> str:
    """A name that none of its cases has: kunit.py takes such a case for the end of the group."""
    names = {_name(case.name) for case in cases}
    return f"{_name(group)} (group)" if _name(group) in names else group


def _is_ok(cases: Iterable[Case]) -> bool:
    return not any(case.failed or case.in_error for case in cases)


def _result(number: int, name: str, ok: bool, directive: str) -> str:
    behind = f" # {directive}" if directive else ""
    return f"{'ok' if ok else 'not ok'} {number} {_name(name)}{behind}"


def _directive(case: Case) -> str:
    said = _name(case.message or case.verdict.meaning)[:_MESSAGE].rstrip()
    if case.skipped:
        return f"SKIP {said}"
    if case.in_error:
        return f"ERROR {case.verdict.name}: {said}"
    return said if case.failed else ""


def _group_directive(cases: Sequence[Case]) -> str:
    return "SKIP nothing in it was tested" if all(case.skipped for case in cases) else ""


def _name(text: str) -> str:
    """A description: words without ``#``, in one line; never empty."""
    return " ".join(printable(text).replace("#", "").split()) or "unnamed"


def _said(text: str) -> Iterator[str]:
    """Diagnostic lines. Three spaces: a reader takes ``# Subtest:`` with one for a heading."""
    for line in printable(text).splitlines():
        yield f"#   {line}".rstrip()
