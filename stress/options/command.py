"""A command of ``shmstress``: options in groups, from the environment and from files as well.

An option ``--step-limit`` of ``explore`` is read from the command line, else from the environment
variable ``SHMSTRESS_EXPLORE_STEP_LIMIT``, else from ``SHMSTRESS_STEP_LIMIT`` (that one is for all
commands), else from a settings file (files.py). Options with ``setting=False`` say what to do
rather than how, such as ``--list``; they are taken from the command line only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from shmalloc.errors import MisuseError
from stress.options import files

TextOf = Callable[[str, Any], str | bool]
OPTIONS = "Options"
GENERAL = "General"
WIDTH = 100


class Option(click.Option):
    """An option with ``aliases`` that are accepted and not shown, in a ``group`` of the help."""

    def __init__(
        self,
        declared: Sequence[str],
        aliases: Iterable[str] = (),
        group: str | None = None,
        setting: bool = True,
        **more: Any,
    ) -> None:
        self.aliases = tuple(aliases)
        self.group = group or OPTIONS
        self.setting = setting
        super().__init__([*declared, *self.aliases], **more)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        every, self.opts = self.opts, self.shown
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = every

    @property
    def shown(self) -> list[str]:
        return [name for name in self.opts if name not in self.aliases]

    @property
    def key(self) -> str:
        """Its name in the help."""
        return self.shown[0].removeprefix("--")

    @property
    def keys(self) -> list[str]:
        """Its names in a settings file."""
        return [name.removeprefix("--") for name in self.opts if name.startswith("--")]


class NothingNamed(click.UsageError):
    """A group was called without one of its commands; the message is the help."""


class Group(click.Group):
    """A group that says the same with every version of click if no command of it is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            raise NothingNamed(ctx.get_help(), ctx)
        return super().parse_args(ctx, args)


class Command(click.Command):
    """Adds ``--config`` and the variables of the environment; writes its help in groups.

    ``text_of``: turns a value of a file, a table or a list too, into the text of that option.
    """

    def __init__(
        self,
        name: str,
        *,
        params: list[click.Parameter] | None = None,
        text_of: TextOf | None = None,
        **more: Any,
    ) -> None:
        super().__init__(name, params=list(params or []), **more)
        self.text_of = text_of
        if self.settable():
            self.params.append(_config())
        for param in self.params:
            if isinstance(param, Option) and param.setting and param.envvar is None:
                param.envvar = [*_variables(name, param.keys), *_variables("", param.keys)]

    def settable(self) -> dict[str, Option]:
        """The options that a settings file may hold, by each of their names there."""
        return {
            key: param
            for param in self.params
            if isinstance(param, Option) and param.setting and param.name != "config"
            for key in param.keys
        }

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except MisuseError as error:
            raise self._placed(ctx, error) from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MisuseError as error:
            raise self._placed(ctx, error) from error

    def _placed(self, ctx: click.Context, error: MisuseError) -> MisuseError:
        """The error with the variable or the file that its value is from; typed ones are seen."""
        key = str(error).partition(":")[0].partition(".")[0]  # of faults.kill.every: faults
        option = self.settable().get(key)
        if option is None or option.name is None or type(error) is not MisuseError:
            return error
        source = ctx.get_parameter_source(option.name)
        if source is ParameterSource.ENVIRONMENT:
            variables = option.envvar if isinstance(option.envvar, list) else []
            place = next((one for one in variables if os.environ.get(one)), "the environment")
            return MisuseError(f"{error} (set by {place})")
        if source is ParameterSource.DEFAULT_MAP and files.PLACE in ctx.meta:
            return MisuseError(f"{error} (set in {ctx.meta[files.PLACE]})")
        return error

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                group = getattr(param, "group", GENERAL)  # --help is one of click's
                groups.setdefault(group, []).append(record)
        for group in sorted(groups, key=lambda name: name == GENERAL):  # that one comes last
            with formatter.section(group):
                formatter.write_dl(groups[group])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        example = next((one.key for one in self.settable().values()), None)
        if example is None:
            return
        variable = _variables(self.name or "", [example])[0]
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(
                f"Every option that is a setting can also come from the environment ({variable}, or"
                f" {_variables('', [example])[0]} for all commands) or from a file: the table"
                f" [{self.name}] of the nearest shmstress.toml or of FILE, or"
                f" [tool.shmstress.{self.name}] in pyproject.toml. The command line comes first,"
                " then the environment, then the file."
            )

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        hidden = {
            alias for param in self.params if isinstance(param, Option) for alias in param.aliases
        }
        return [one for one in super().shell_complete(ctx, incomplete) if one.value not in hidden]


def _config() -> Option:
    return Option(
        ["--config"],
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        group=GENERAL,
        callback=files.read,
        help="Read settings from FILE, see below.",
    )


def _variables(command: str, keys: Iterable[str]) -> list[str]:
    """The names of environment variables for these keys, in the order in which they are tried."""
    parts = ("SHMSTRESS", command) if command else ("SHMSTRESS",)
    return ["_".join((*parts, key)).replace("-", "_").upper() for key in keys]


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def command(name: str, **more: Any) -> Callable[[Callable[..., Any]], Command]:
    """Make a function the command ``name``; it returns its exit code."""
    more.setdefault("context_settings", {}).setdefault("max_content_width", WIDTH)
    return click.command(name, cls=Command, **more)


def option(*declared: str, aliases: Iterable[str] = (), **more: Any) -> Decorator:
    """``click.option`` with aliases and a group; ``setting=False``: from the command line only."""
    return click.option(*declared, cls=Option, aliases=aliases, **more)
