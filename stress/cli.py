"""``shmstress``: the command line. Each subcommand is a file in ``stress/commands``.

Results go to standard output, progress and errors to standard error. Every option can be given as
an option, in the environment (``SHMSTRESS_`` and its name) or in a file, in this order.

Exit codes: 0 passed, 1 violation, 2 interrupted, 3 harness error, 4 usage, 5 nothing ran or
vacuous, 7 this machine cannot run it.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import traceback
from collections.abc import Sequence

import click

from shmalloc.errors import EnvironmentUnfitError, MisuseError
from stress import __version__, commands
from stress.quantities import nearest
from stress.verdict import EXIT_USAGE, Verdict

COMMANDS = tuple(module.name for module in pkgutil.iter_modules(commands.__path__))


class _Commands(click.Group):
    """Finds a subcommand in ``stress/commands/<name>.py`` and imports nothing else."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name.removesuffix("_") for name in COMMANDS]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            raise nearest(name, self.list_commands(ctx), "command")
        module = name if name in COMMANDS else f"{name}_"
        command: click.Command = importlib.import_module(f"stress.commands.{module}").command
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="shmstress")
def shmstress() -> None:
    """Stress a shared-memory allocator with real processes, and tell the truth about it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script: runs a command and exits with its code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    try:
        code = shmstress.main(arguments, prog_name="shmstress", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return EXIT_USAGE
    except MisuseError as error:
        click.echo(f"shmstress: {error}", err=True)
        return EXIT_USAGE
    except EnvironmentUnfitError as error:
        click.echo(f"shmstress: {error}", err=True)
        return Verdict.UNFIT.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("shmstress: interrupted", err=True)
        return Verdict.INTERRUPTED.exit_code
    except Exception:
        traceback.print_exc()
        return Verdict.ERROR.exit_code
    return code if isinstance(code, int) else 0
