"""``shmstress completion``: the script that lets a shell complete commands, options and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from stress.options import Names
from stress.options import command as as_command

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_SHMSTRESS_COMPLETE"
HOW = {
    "bash": 'eval "$(shmstress completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(shmstress completion zsh)"    # in ~/.zshrc, after compinit',
    "fish": "shmstress completion fish > ~/.config/fish/completions/shmstress.fish",
}

EPILOG = "Put the line of your shell where it is read:\n\n\b\n" + "\n".join(HOW.values())


@as_command("completion", epilog=EPILOG)
@click.argument("shell", type=Names("shell", SHELLS))
def command(shell: str) -> int:
    """Print the script that completes shmstress in SHELL.

    The shell then completes commands, options and values: programs, workloads, mutants, litmus
    tests, operations, engines.
    """
    completer = get_completion_class(shell)
    assert completer is not None
    shmstress = click.get_current_context().find_root().command
    click.echo(completer(shmstress, {}, "shmstress", VARIABLE).source())
    return 0
