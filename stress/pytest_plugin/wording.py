"""The line that runs a test again, to be pasted into a shell at the place where pytest was started.

It names what the session was told and what decides which tests there are: the configuration file,
the rootdir, the number of repetitions, and this plugin, if no entry point brings it.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import PurePath

import pytest

PLUGIN = "shmalloc.pytest_plugin"


def command_for(config: pytest.Config, node: str, *options: str) -> str:
    """``pytest NODE OPTIONS``, quoted for a shell."""
    return shlex.join([*_pytest(config), _from_here(config, node), *_context(config), *options])


def _from_here(config: pytest.Config, node: str) -> str:
    """A node id begins at the rootdir, an argument at the working directory."""
    path, colons, rest = node.partition("::")
    return os.path.relpath(config.rootpath / path, config.invocation_params.dir) + colons + rest


def _pytest(config: pytest.Config) -> list[str]:
    argv: list[str] = getattr(config, "workerinput", {}).get("mainargv", sys.argv)
    started = PurePath(argv[0] if argv else "")
    return ["python", "-m", "pytest"] if started.name == "__main__.py" else ["pytest"]


def _context(config: pytest.Config) -> list[str]:
    words: list[str] = []
    if PLUGIN in (config.getoption("plugins") or ()):
        words += ["-p", PLUGIN]
    for option, flag in (("inifilename", "-c"), ("rootdir", "--rootdir")):
        if config.getoption(option, None):
            words += [flag, str(config.getoption(option))]
    count = config.getoption("count", 1)  # of pytest-repeat: its tests have the number in their id
    return [*words, f"--count={count}"] if isinstance(count, int) and count > 1 else words
