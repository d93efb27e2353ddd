"""Words of a command line as text that a shell reads, and back.

As shlex does it, but a word with control characters is ``$'\\x1b[2J'``, with escapes: a line that
is printed or kept does nothing to the terminal that shows it, and repeats what it names. Bytes of a
file's name that are no text (lone surrogates) are ``\\xNN`` as well. bash, zsh and ksh read that.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable

# One part of a word: escaped, in single quotes, in double quotes, a character behind a backslash,
# or plain. What is between words is white space.
_PART = re.compile(
    r"\$'(?P<escaped>(?:[^'\\]|\\.)*)'|'(?P<single>[^']*)'|\"(?P<double>(?:[^\"\\]|\\.)*)\""
    r"|\\(?P<one>.)|(?P<plain>[^\s'\"\\$]+|\$(?!'))|(?P<space>\s+)",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|(.))", re.DOTALL)


def quote(word: str) -> str:
    """``word`` as a shell reads it back, without a character that a terminal obeys."""
    if word.isprintable():
        return shlex.quote(word)
    return f"$'{''.join(map(_escaped, word))}'"


def _escaped(letter: str) -> str:
    if letter in "'\\":
        return f"\\{letter}"
    if letter.isprintable():
        return letter
    if "\udc80" <= letter <= "\udcff":  # a byte of a name
        return f"\\x{os.fsencode(letter)[0]:02x}"
    number = ord(letter)
    return f"\\x{number:02x}" if number < 0x80 else f"\\U{number:08x}"


def join(words: Iterable[str]) -> str:
    """The line of these words."""
    return " ".join(map(quote, words))


def split(line: str) -> list[str]:
    """The words of a line. Raises ``ValueError`` if a quotation does not end."""
    words: list[str] = []
    at, inside = 0, False
    while at < len(line):
        part = _PART.match(line, at)
        if part is None:
            raise ValueError("no closing quotation")
        at = part.end()
        if part["space"] is not None:
            inside = False
            continue
        if not inside:
            words.append("")
            inside = True
        words[-1] += _meant(part)
    return words


def _meant(part: re.Match[str]) -> str:
    if part["escaped"] is not None:
        return _ESCAPE.sub(_unescaped, part["escaped"])
    if part["double"] is not None:
        return re.sub(r'\\([\\"$`])', r"\1", part["double"])
    return next(text for text in (part["single"], part["one"], part["plain"]) if text is not None)


def _unescaped(match: re.Match[str]) -> str:
    byte, short, long, letter = match.groups()
    if byte is not None:
        return os.fsdecode(bytes([int(byte, 16)]))
    return letter if letter is not None else chr(int(short or long, 16))
