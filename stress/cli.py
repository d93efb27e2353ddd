"""``shmstress``: the command line. Each subcommand is a file in ``stress/commands``.

Results go to standard output, progress and errors to standard error. Every setting can be given as
an option, in the environment or in a file, in this order (stress/options/command.py).

Exit codes: 0 passed, 1 violation, 2 interrupted, 3 harness error, 4 usage, 5 nothing ran or
vacuous, 7 this machine cannot run it.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence

import click

from shmalloc.errors import CorruptionError, EnvironmentUnfitError, MisuseError
from stress import __version__, commands
from stress.options.command import WIDTH, Group, NothingNamed
from stress.quantities import nearest
from stress.signals import Interrupted, obeyed
from stress.surroundings import chain, flush_streams, plain, prepare_streams, unfit
from stress.verdict import EXIT_USAGE, Verdict, code_after_loss

COMMANDS = tuple(module.name for module in pkgutil.iter_modules(commands.__path__))
# What each is for, in the order of the help. Importing a command to ask it would cost a second.
GROUPS: dict[str, dict[str, str]] = {
    "Find failures": {
        "check": "Check the programs that a change can have broken.",
        "explore": "Try the schedules of programs until one fails.",
        "replay": "Run a failing schedule again, line by line.",
        "bisect": "Find the commit that brought a failing schedule.",
        "explain": "Find a schedule that explains a failure of real processes.",
        "crash": "Kill a process before each of its writes and check that others recover.",
        "run": "Run workloads in many processes and check them with oracles and audits.",
        "soak": "Run rounds of all of these for hours, and record what is found.",
        "sweep": "Let the N-th allocation of each operation fail, for every N.",
    },
    "Look at results": {
        "history": "List the runs and the findings of a database (--db).",
        "show": "Show one finding of a database, or set its status.",
        "report": "Write a page about a recorded run, soak or hunt, or compare two.",
        "top": "Watch a segment that others work on, or a soak.",
    },
    "Look at a segment as at Linux": {
        "buddyinfo": "Print its free blocks by order.",
        "pagetypeinfo": "Print its free blocks and pageblocks by migratetype.",
        "slabinfo": "Print its caches.",
        "vmstat": "Print its counters.",
        "extfrag": "Print how fragmented its free memory is, by order.",
        "page_owner": "Print who allocated its pages and objects, with call stacks.",
        "leaks": "Print what is still allocated, by call site.",
    },
    "Test shmstress and the machine": {
        "bench": "Measure what operations cost, here and in other allocators.",
        "mutants": "Plant known bugs in the kernels and see whether they are found.",
        "litmus": "Compare the memory order of this machine with the model.",
        "doctor": "Check whether this machine can run shmstress.",
    },
    "More": {
        "list": "List workloads, marks, invariants and programs by name.",
        "record": "Record the allocations of Linux while a command runs.",
        "trace": "Import recorded allocations of other tools, and show what a trace has.",
        "completion": "Print the script that completes shmstress in a shell.",
    },
}
OTHER = "Other commands"


class _Commands(Group):
    """Finds a subcommand in ``stress/commands/<name>.py`` and imports nothing else."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name.removesuffix("_") for name in COMMANDS]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            if ctx.resilient_parsing:  # a shell completes a line that is not finished
                return None
            raise nearest(name, self.list_commands(ctx), "command")
        module = name if name in COMMANDS else f"{name}_"
        command: click.Command = importlib.import_module(f"stress.commands.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for group, texts in groups(self.list_commands(ctx)).items():
            with formatter.section(group):
                formatter.write_dl(list(texts.items()))

    def shell_complete(
        self, ctx: click.Context, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        from click.shell_completion import CompletionItem

        return [
            CompletionItem(name, help=text)
            for texts in groups(self.list_commands(ctx)).values()
            for name, text in texts.items()
            if name.startswith(incomplete)
        ] + click.Command.shell_complete(self, ctx, incomplete)


def groups(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """``names`` with their sentences, group by group; a name that no group has comes last."""
    found = {
        group: {name: text for name, text in texts.items() if name in names}
        for group, texts in GROUPS.items()
    }
    known = {name for texts in GROUPS.values() for name in texts}
    rest = {name: "" for name in names if name not in known}
    return {**found, **({OTHER: rest} if rest else {})}


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH},
)
@click.version_option(__version__, prog_name="shmstress")
def shmstress() -> None:
    """Find races and corruption in shared-memory allocators and algorithms.

    Begin with shmstress doctor, then shmstress run. Each command tells more: shmstress run --help.

    Exit codes: 0 passed, 1 a violation was found, 2 interrupted, 3 the tool itself failed, 4 wrong
    usage, 5 nothing was tested, 7 this machine cannot run the command.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script: runs a command and exits with its code."""
    # We multiply no matrices. Its threads cost time, and where none can be started it sends SIGINT.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    code = 0
    try:
        with obeyed():
            prepare_streams()
            code = run(arguments)
        flush_streams()
    except EnvironmentUnfitError as error:
        if code != Verdict.UNFIT.exit_code:  # else that is told already
            _say(f"shmstress: {error}")
        code = code_after_loss(code, Verdict.UNFIT.exit_code)
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    try:
        code = shmstress.main(arguments, prog_name="shmstress", standalone_mode=False)
    except click.ClickException as error:
        _say(_usage(error))
        return EXIT_USAGE
    except MisuseError as error:
        _say(f"shmstress: {error}")
        return EXIT_USAGE
    except EnvironmentUnfitError as error:
        _say(f"shmstress: {error}")
        return Verdict.UNFIT.exit_code
    except CorruptionError as error:
        _say(f"shmstress: {error}")
        return Verdict.FAILED.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        if isinstance(error.__cause__, EOFError):  # click takes that for a Ctrl-D
            return _unexpected(error.__cause__)
        by = next((f" by {e.signal_name}" for e in chain(error) if isinstance(e, Interrupted)), "")
        _say(f"shmstress: interrupted{by}")
        return Verdict.INTERRUPTED.exit_code
    except Exception as error:
        return _unexpected(error)
    return code if isinstance(code, int) else 0


def _unexpected(error: Exception) -> int:
    """A limit of the machine is told in a sentence; anything else is a defect, told in full."""
    reason = unfit(error)
    if reason is not None:
        _say(f"shmstress: {reason}")
        return Verdict.UNFIT.exit_code
    traceback.print_exc()
    _say("shmstress: this is a defect of the tool; please report it with the lines above")
    return Verdict.ERROR.exit_code


def _say(text: str) -> None:
    click.echo(plain(text), err=True)


def _usage(error: click.ClickException) -> str:
    """One line with the command and where to read more; the help where no command is named."""
    if isinstance(error, NothingNamed):
        return error.format_message()
    ctx = getattr(error, "ctx", None)
    path = ctx.command_path if ctx is not None else "shmstress"
    message = error.format_message().rstrip(".?")
    ending = "?" if error.format_message().endswith("?") else "."
    return f"{path}: {message}{ending} See {path} --help."
