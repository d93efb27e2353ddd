"""What the commands of ``shmstress`` share: one spelling, one type and one help for one thing.

::

    kinds     what a value may be (a time, a seed, one of these names), checked and completed
    command   a command whose options stand in groups, and come from the environment and from files
    files     those files: shmstress.toml, pyproject.toml, --config FILE
    shared    the options that several commands have: --duration, --seed, --json, --engine, ...
    again     the line that repeats the command that runs now

A command is written with ``@command(name)``, ``@option(...)`` and the options of ``shared``.
Importing this package imports click and nothing heavier: ``shmstress --help`` and the completion
of a shell wait for it. The names that a kind knows are looked up when they are needed.
"""

from __future__ import annotations

from stress.options.command import Command, Option, command, option
from stress.options.kinds import (
    BENCH_PATTERNS,
    CASES,
    LITMUS_TESTS,
    MEMORIES,
    MUTANTS,
    OPERATIONS,
    PROGRAMS,
    SEGMENTS,
    WORKLOADS,
    Names,
    Seed,
    Size,
    Time,
)
from stress.options.shared import (
    database,
    duration,
    engine,
    exports,
    html_file,
    ignore,
    json_file,
    keep,
    metrics,
    progress,
    seed,
    token_root,
)

__all__ = [
    "BENCH_PATTERNS",
    "CASES",
    "LITMUS_TESTS",
    "MEMORIES",
    "MUTANTS",
    "OPERATIONS",
    "PROGRAMS",
    "SEGMENTS",
    "WORKLOADS",
    "Command",
    "Names",
    "Option",
    "Seed",
    "Size",
    "Time",
    "command",
    "database",
    "duration",
    "engine",
    "exports",
    "html_file",
    "ignore",
    "json_file",
    "keep",
    "metrics",
    "option",
    "progress",
    "seed",
    "token_root",
]
