"""A ``Suite`` as Markdown: a comment of at most 65,536 bytes for GitHub, GitLab or a step summary.

The verdict first, then the tables, the findings with their words folded away, and how to repeat
it. What comes from a run (names, values, paths) may contain anything, so it only ever stands in a
code span, in a fenced block or escaped in ``<code>``: there GitHub sees no mention, no link, no
HTML and no end of a table cell. What does not fit is left out, and the last line says how much.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stress.quantities import counted
from stress.report.suite import Finding, Suite, Table, printable

LIMIT_BYTES = 65_536  # of a comment on GitHub; a character takes one byte or more
_NOTE_BYTES = 400  # kept for the line that says what was left out
_TABLES_SHARE = 0.5
_LEAST_BYTES = 400  # a finding with less room is not begun
_PLAIN = re.compile(r"(?:[\w ,.()%-]|: )*", re.ASCII)  # no markup, but for underscores at word ends
_MARKED = re.compile(r"(?i)(?<![a-z0-9])_|_(?![a-z0-9])|www\.")


def markdown(suite: Suite, limit: int = LIMIT_BYTES) -> str:
    """The comment, ending with a newline; at most ``limit`` bytes, at least 2,000."""
    room = _Room(limit - _NOTE_BYTES)
    parts = [room.take(_head(suite))]
    again = room.take(_again(suite, room.left // 4))  # before the rest: it is never left out
    tables_end = int(room.left * (1 - _TABLES_SHARE)) if suite.findings else 0
    left_out: Counter[str] = Counter()
    for table in suite.tables:
        parts.append(_table(table, room, tables_end, left_out))
    parts += _findings(suite, room, left_out)
    parts += [_notes(suite, room), again]
    if left_out:
        said = ", ".join(counted(count, noun) for noun, count in left_out.items())
        parts.append(f"*Cut to {limit:,} bytes. Left out: {said}.*\n")
    return "\n".join(part for part in parts if part)


@dataclass
class _Room:
    """How many bytes are left."""

    left: int

    def take(self, text: str) -> str:
        self.left -= _size(text) + 1
        return text


def _size(text: str) -> int:
    return len(text.encode("utf-8"))


# --- text that came from a run -------------------------------------------------------------------
def code(text: str) -> str:
    """A code span; empty for no text."""
    line = " ".join(printable(text).split())
    if not line:
        return ""
    ticks = "`" * (1 + _longest_run(line))
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{ticks}{space}{line}{space}{ticks}"


def cell(text: str) -> str:
    """Plain words as they are; else a code span, in which ``|`` is escaped: it ends a cell."""
    if _PLAIN.fullmatch(text) and not _MARKED.search(text):
        return text
    return re.sub(r"(\\*)\|", lambda bar: f"{bar[1]}{' ' if bar[1] else ''}\\|", code(text))


def fence(text: str, language: str = "text") -> str:
    """A fenced block that nothing in ``text`` ends."""
    body = printable(text).rstrip("\n")
    ticks = "`" * max(3, 1 + _longest_run(body))
    return f"{ticks}{language}\n{body}\n{ticks}\n"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


def _clipped(text: str, size: int) -> str:
    """The first ``size`` bytes of ``text``, in whole characters."""
    return text.encode("utf-8", "replace")[: max(0, size)].decode("utf-8", "ignore")


# --- parts ---------------------------------------------------------------------------------------
def _head(suite: Suite) -> str:
    marker = f"<!-- {suite.name} -->"  # by which a bot finds its comment again
    title = f"### {suite.name}: {suite.verdict.name}"
    return f"{marker}\n{title}\n\n{suite.verdict.meaning.capitalize()}.\n\n{_line(suite)}\n"


def _line(suite: Suite) -> str:
    return code(_clipped(printable(suite.headline), 1_000))


def _again(suite: Suite, most: int) -> str:
    if not suite.again:
        return ""
    text = printable("\n".join(suite.again))
    if _size(text) > most:
        text = f"{_clipped(text, most)}...  # cut"
    return f"To try again, run:\n\n{fence(text, 'sh')}"


def _table(table: Table, room: _Room, end: int, left_out: Counter[str]) -> str:
    """The rows that fit while ``end`` bytes remain."""
    rule = ["---:" if name in table.right else "---" for name in table.columns]
    names = [cell(name.rstrip("*")) for name in table.columns]  # a star leads to a note
    head = [f"#### {table.title}\n", _row(names), _row(rule)]
    if not table.rows or room.left - sum(map(_size, head)) < end:
        return ""
    lines = [room.take(line) for line in head]
    for number, cells in enumerate(table.rows):
        line = _row([cell(one) for one in cells])
        if room.left - _size(line) - 1 < end:
            left_out["row"] += len(table.rows) - number
            break
        lines.append(room.take(line))
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _findings(suite: Suite, room: _Room, left_out: Counter[str]) -> list[str]:
    parts = []
    findings, said = suite.findings, set(suite.again)
    for number, finding in enumerate(findings):
        finding = replace(finding, again="") if finding.again in said else finding
        if room.left < _LEAST_BYTES:
            left_out["finding"] += len(findings) - number
            break
        parts.append(room.take(_finding(finding, room.left, left_out)))
    return parts


def _finding(finding: Finding, most: int, left_out: Counter[str]) -> str:
    summary = html.escape(" ".join(printable(_clipped(finding.headline, 200)).split()))
    head = f"<details><summary><code>{summary}</code></summary>\n\n"
    head += f"{code(_clipped(f'{finding.rule.name}: {finding.rule.sentence}', 300))}\n\n"
    tail = f"\n{fence(finding.again, 'sh')}" if finding.again else ""
    tail = tail if _size(head + tail) < most // 2 else ""
    tail += "\n</details>\n"
    room = most - _size(head) - _size(tail)
    block = fence(finding.text)
    if _size(block) > room:
        block, lines = _cut_block(finding.text, room)
        left_out["line"] += lines
    return f"{head}{block}{tail}"


def _cut_block(text: str, room: int) -> tuple[str, int]:
    """A block of at most ``room`` bytes, and how many lines are not in it."""
    lines = printable(text).splitlines()
    around = _size(fence("")) + 2 * _longest_run(text) + 1
    kept: list[str] = []
    used = around
    for line in lines:
        used += _size(line) + 1
        if used > room:
            break
        kept.append(line)
    return fence("\n".join(kept)), len(lines) - len(kept)


def _notes(suite: Suite, room: _Room) -> str:
    notes = "".join(f"- {code(_clipped(note, 300))}\n" for note in suite.notes)
    return room.take(notes) if _size(notes) < room.left else ""
