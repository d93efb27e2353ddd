"""The line that runs a test again, to be pasted into a shell at the place where pytest was started.

It repeats what decides which tests there are and what they do: the configuration file, plugins,
doctests, the number of repetitions. What the configuration file itself says, it says again.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path, PurePath

import pytest

FLAGS = ("--doctest-modules", "--noconftest", "--keep-duplicates")
ROOT = ("-c", "--config-file", "--rootdir")
VALUED = (
    *("-p", "-o", "--override-ini", "--confcutdir", "--import-mode", "--doctest-glob", "--count"),
    *("--shm-engine", "--shm-budget"),
    *ROOT,
)
# A file of such a name nearer to the test than the rootdir may be what pytest looks for.
CONFIGURATION = re.compile(r"\.?pytest\.(ini|toml)|pyproject\.toml|tox\.ini|setup\.(cfg|py)")


def command_for(config: pytest.Config, node: str, *options: str) -> str:
    """``pytest NODE OPTIONS``, quoted for a shell."""
    context = _context(config)
    if not any(word.partition("=")[0] in ROOT for word in context):
        context += _root(config, config.rootpath / node.partition("::")[0])
    return shlex.join([*_pytest(config), _from_here(config, node), *context, *options])


def _from_here(config: pytest.Config, node: str) -> str:
    """A node id begins at the rootdir, an argument at the working directory."""
    path, colons, rest = node.partition("::")
    return _relative(config, config.rootpath / path) + colons + rest


def _relative(config: pytest.Config, path: Path) -> str:
    return os.path.relpath(path, config.invocation_params.dir)


def _pytest(config: pytest.Config) -> list[str]:
    argv: list[str] = getattr(config, "workerinput", {}).get("mainargv", sys.argv)
    started = PurePath(argv[0] if argv else "")
    return ["python", "-m", "pytest"] if started.name == "__main__.py" else ["pytest"]


def _context(config: pytest.Config) -> list[str]:
    """Of what pytest was given, the options that decide which tests there are and what they do."""
    words: list[str] = []
    given = iter([str(word) for word in config.invocation_params.args])
    for word in given:
        name, equals, _ = word.partition("=")
        if word in FLAGS or (equals and name in VALUED):
            words.append(word)
        elif word in VALUED:
            words += [word, next(given, "")]
        elif word[:2] in VALUED:  # -pNAME
            words += [word[:2], word[2:]]
    return words


def _root(config: pytest.Config, path: Path) -> list[str]:
    """The option that leads to this rootdir, if pytest given ``path`` alone may choose another."""
    path = Path(os.path.normpath(path))
    inner = [folder for folder in path.parents if config.rootpath in folder.parents]
    names = (file.name for folder in inner if folder.is_dir() for file in folder.iterdir())
    if path.is_relative_to(config.rootpath) and not any(map(CONFIGURATION.fullmatch, names)):
        return []
    if config.inipath is not None:
        return ["-c", _relative(config, config.inipath)]
    return ["--rootdir", _relative(config, config.rootpath)]
