"""A command line of ``shmstress`` as data: command, targets, options in their order.

Only lines that shmstress itself prints are read: an option is followed by its value, unless it is
one of ``SWITCHES``; ``--no-NAME`` is the switch NAME turned off. What the values mean is not known
here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shmalloc.errors import MisuseError
from stress import shell

PROGRAM = "shmstress"
COMMANDS = ("run", "explore", "replay", "crash")  # what the process of a round performs
SWITCHES = frozenset(("paths", "prealloc", "races", "resume", "full", "sites", "list"))
SWITCHES |= frozenset(
    ("all-failures", "dry-run", "original", "symmetry", "systematic", "table", "native", "real")
)
SWITCHES |= frozenset(("growth",))
Value = str | bool


@dataclass(frozen=True)
class Line:
    """``shmstress COMMAND TARGET... --name value --switch --no-switch``."""

    command: str
    targets: tuple[str, ...] = ()
    options: Mapping[str, Value] = field(default_factory=dict)

    def __str__(self) -> str:
        words = [PROGRAM, self.command, *self.targets]
        for name, value in self.options.items():
            if isinstance(value, bool):
                words.append(f"--{name}" if value else f"--no-{name}")
            else:
                words += [f"--{name}", value]
        return shell.join(words)

    @classmethod
    def parse(cls, text: str) -> Line:
        """Raises ``MisuseError`` for a text that is no line of ours."""
        try:
            words = shell.split(text)
        except ValueError as error:
            raise MisuseError(f"command line: {text!r}: {error}") from error
        if len(words) < 2 or words[0] != PROGRAM or words[1].startswith("-"):
            raise MisuseError(f"command line: {text!r}; it has to begin with {PROGRAM} COMMAND")
        targets: list[str] = []
        options: dict[str, Value] = {}
        rest = words[:1:-1]  # the next word is the last one
        while rest:
            word = rest.pop()
            if not word.startswith("--"):
                targets.append(word)
            elif word.startswith("--no-"):
                options[word.removeprefix("--no-")] = False
            elif word[2:] in SWITCHES or not rest or rest[-1].startswith("--"):
                options[word[2:]] = True
            else:
                options[word[2:]] = rest.pop()
        return cls(words[1], tuple(targets), options)
