"""Tokens: a failing schedule in one line that a shell takes unquoted.

::

    shm1/examples/lost_update.py:program/sc/y/10000/check/1/5f0c2a91d3e4/s.0-1,0.1-1
    |    |                               |  | |     |     | |            directives, and choices
    |    |                               |  | |     |     | |            such as 0.3=2 (steer.py)
    |    where the program is found      |  | |     |     | digest of kernels and initial memory
    |    (address.py; quoted as in URLs) |  | |     |     code
    version                              |  | |     kind of the failure
                                         |  | step limit
                                         |  fairness: y (yield), or p and the free spins
                                         memory model

``digest.py`` says what the digest covers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from shmalloc.errors import MisuseError
from stress.explorer.digest import DIGEST_DIGITS
from stress.explorer.report.trace import KINDS
from stress.machine.models import MODELS

VERSION = "shm1"
START = "s"
NO_DIRECTIVES = "-"
CURE = f"use the line that a failure prints, it starts with {VERSION}/"
_NUMBER = "[0-9]{1,40}"
_ONE = f"({START}|{_NUMBER})[.]({_NUMBER})-({_NUMBER})"
_ANY = f"(?:(?:{START}|{_NUMBER})[.]{_NUMBER}-{_NUMBER}|{_NUMBER}[.]{_NUMBER}={_NUMBER})"
_CHOICE = f"({_NUMBER})[.]({_NUMBER})=({_NUMBER})"
_DIRECTIVE = re.compile(_ONE)
_CHOSEN = re.compile(_CHOICE)
_TOKEN = re.compile(
    f"{VERSION}/(.*)/([^/]+)/(?:y|p({_NUMBER}))/(0*[1-9][0-9]{{,15}})/([^/]+)/(-?{_NUMBER})"
    f"/([0-9a-f]{{{DIGEST_DIGITS}}})/({NO_DIRECTIVES}|{_ANY}(?:,{_ANY})*)"
)


@dataclass(frozen=True)
class Directive:
    """When ``actor`` (None: the start) has made ``count`` steps, ``following`` makes the next."""

    actor: int | None
    count: int
    following: int

    def __str__(self) -> str:
        actor = START if self.actor is None else self.actor
        return f"{actor}.{self.count}-{self.following}"


@dataclass(frozen=True)
class Choice:
    """When ``actor`` has made ``count`` steps, its next one has the outcome ``value``."""

    actor: int
    count: int
    value: int

    def __str__(self) -> str:
        return f"{self.actor}.{self.count}={self.value}"


Directives = tuple[Directive | Choice, ...]


@dataclass(frozen=True)
class Token:
    """A schedule and everything needed to repeat it, except the program itself."""

    target: str
    memory: str
    parking: bool
    free_spins: int
    step_limit: int
    kind: str
    code: int
    digest: str
    directives: Directives

    def __str__(self) -> str:
        fairness = f"p{self.free_spins}" if self.parking else "y"
        schedule = ",".join(map(str, self.directives)) or NO_DIRECTIVES
        target = quote(self.target, safe=":./", errors="surrogateescape")
        fields = (
            VERSION,
            target,
            self.memory,
            fairness,
            self.step_limit,
            self.kind,
            self.code,
            self.digest,
            schedule,
        )
        return "/".join(map(str, fields))

    @classmethod
    def parse(cls, text: str) -> Token:
        """Raises ``MisuseError`` for an invalid token."""
        match = _TOKEN.fullmatch(text.strip())
        if match is None:
            raise MisuseError(f"token: {text!r}; {CURE}")
        target, memory, spins, limit, kind, code, digest, schedule = match.groups()
        if memory not in MODELS:
            raise MisuseError(f"token: memory {memory!r}; use {', '.join(MODELS)}")
        if kind not in KINDS:
            raise MisuseError(f"token: kind {kind!r}; use one of {', '.join(KINDS)}")
        directives = _directives(schedule)
        if len(directives) > int(limit):
            raise MisuseError(f"token: {len(directives)} directives for {limit} steps; {CURE}")
        return cls(
            unquote(target, errors="surrogateescape"),
            memory,
            spins is not None,
            int(spins or 0),
            int(limit),
            kind,
            int(code),
            digest,
            directives,
        )


def _directives(text: str) -> Directives:
    """Those of a text that has the form of some."""
    parts = [] if text == NO_DIRECTIVES else text.split(",")
    found: list[Directive | Choice] = []
    for part in parts:
        chosen = _CHOSEN.fullmatch(part)
        if chosen:
            found.append(Choice(*map(int, chosen.groups())))
            continue
        match = _DIRECTIVE.fullmatch(part)
        assert match is not None, "the pattern of a token has seen it"
        actor, count, following = match.groups()
        found.append(Directive(None if actor == START else int(actor), int(count), int(following)))
    return tuple(found)
