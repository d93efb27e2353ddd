"""``shmstress bisect``: the commit that brought a failure."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shmalloc.errors import MisuseError
from stress.commands.replay import find_token, folders_of, root_beside
from stress.options import command as as_command
from stress.options import duration, json_file, option, token_root

if TYPE_CHECKING:
    from stress.bisect.walk import Judged

SEARCH = "5s"


def _relative(folders: list[Path], top: Path) -> list[Path]:
    """The folders that lie in the repository, from its top."""
    resolved = [folder.resolve() for folder in folders]
    return [folder.relative_to(top) for folder in resolved if folder.is_relative_to(top)]


def _kept(program: str) -> str:
    """``FILE.py:NAME`` with the whole path of the file."""
    file, colon, name = program.rpartition(":")
    if not colon or not Path(file).is_file():
        raise MisuseError(f"program: {program!r} is no FILE.py:NAME with a file that is here")
    return f"{Path(file).resolve()}:{name}"


@as_command("bisect")
@click.argument("token", metavar="TOKEN|FILE")
@option(
    "--good",
    metavar="REV",
    required=True,
    setting=False,
    help="A commit, branch or tag at which the token passes.",
)
@option("--bad", metavar="REV", default="HEAD", setting=False, help="One at which it fails.")
@token_root()
@option(
    "--program",
    metavar="FILE.py:NAME",
    setting=False,
    help="A program to judge every commit by: this file as it is now, not that of the commit.",
)
@duration("Time to search other schedules at a commit where that of TOKEN passes", default=SEARCH)
@json_file("Write the result to FILE as JSON; - is standard output.")
def command(
    token: str,
    good: str,
    bad: str,
    root: str | None,
    program: str | None,
    seconds: float,
    json: str | None,
) -> int:
    """Find the commit that brought the failure of TOKEN, or of the first token in FILE.

    git bisects in a worktree of its own; your checkout stays as it is. At each commit the program
    of TOKEN is loaded from there, with the kernels of that commit, and its schedule is replayed. If
    it passes, other schedules are searched for the same failure, since a schedule counts steps, and
    another version may take more of them. Commits with the same kernels are judged once; those
    without the program, or whose API is another, are skipped. If --good is the later commit, the
    one is found that mended the failure. With --program a new program judges
    commits that are older than it.

    Exit codes: 0 the commit was found, 4 usage, 5 it may be one of several that were skipped.
    """
    from stress.bisect.checkout import checkout_of
    from stress.bisect.report import document_of, line_of, text_of, verdict_of
    from stress.bisect.walk import Walk
    from stress.check.changes import checkout_of as top_of
    from stress.explorer.token import Token
    from stress.report.exports import Exports

    files = Exports({}, json=json)
    found = find_token(token)
    parsed = Token.parse(found)
    folders = folders_of(root or root_beside(token, found))
    top = top_of(folders[0])
    if top is None:
        raise MisuseError(f"bisect: {folders[0]} is in no git checkout; name one with --from ROOT")
    target = parsed.target if program is None else _kept(program)

    def tell(one: Judged) -> None:
        click.echo(line_of(one), err=True)

    with checkout_of(top.resolve()) as checkout:
        inside = _relative(folders, top.resolve())
        walk = Walk(checkout, str(parsed), target, inside, seconds, tell)
        made = walk.run(good, bad)
    click.echo(text_of(made), nl=False, err=files.aside)
    if json is not None:
        files.put(json, json_module.dumps(document_of(made), indent=2) + "\n")
    return files.exit_code(verdict_of(made))
