"""The line that repeats a command, whatever its settings came from: options, environment, files.

Where results go is left out: the line is read on another machine.
"""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from stress import shell
from stress.options.command import GENERAL, Option
from stress.options.kinds import Time
from stress.options.shared import RESULTS
from stress.quantities import exact_duration

_NOT_SAID = (ParameterSource.DEFAULT, None)


def command_line(*only: str) -> str:
    """``shmstress explore lost-update --memory tso``: of the command that runs now.

    ``only``: arguments in place of those that were given, for a part of the command.
    """
    ctx = click.get_current_context()
    words = ["shmstress", str(ctx.command.name)]
    arguments: list[str] = []
    for param in ctx.command.params:
        value = ctx.params.get(str(param.name))
        if isinstance(param, click.Argument):
            arguments += [str(one) for one in (value if isinstance(value, tuple) else (value,))]
        elif isinstance(param, Option) and param.group not in (RESULTS, GENERAL):
            if ctx.get_parameter_source(str(param.name)) not in _NOT_SAID:
                words += _option(param, value)
    return shell.join([*words, *(only or arguments)])


def _option(param: Option, value: Any) -> list[str]:
    """An option as it is typed."""
    if param.is_flag:
        off = param.secondary_opts
        return [param.shown[0]] if value else [off[0]] if off else []
    if param.multiple:
        return [word for one in value for word in (param.shown[0], str(one))]
    if isinstance(param.type, Time):
        return [param.shown[0], "0" if value is None else exact_duration(value)]
    return [] if value is None else [param.shown[0], str(value)]
