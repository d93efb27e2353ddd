"""``shmstress replay``: repeat a failing schedule, line by line."""

from __future__ import annotations

import re
import shlex
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shmalloc.errors import MisuseError
from stress.options import PROGRAMS as PROGRAM_NAMES
from stress.options import command as as_command
from stress.options import duration, exports, html_file, option, token_root
from stress.options import engine as engine_option
from stress.verdict import Verdict

if TYPE_CHECKING:
    from stress.machine.program import Program
    from stress.report.exports import Exports


REPEAT_S = 10.0


def root_beside(text: str, token: str) -> str | None:
    """The root that the line with ``token`` in the file ``text`` names, if it is here."""
    from stress.explorer.token import VERSION  # numpy: not for --help

    if text.startswith(f"{VERSION}/"):
        return None
    for line in Path(text).read_text("utf-8", errors="replace").splitlines():
        before, found, _ = line.partition(token)
        _, option, root = before.partition(" --from ")
        if found and option:
            with suppress(ValueError):  # a quotation that does not end: not our line
                return next((one for one in shlex.split(root) if Path(one).is_dir()), None)
    return None


def find_token(text: str) -> str:
    """``text`` itself if it is a token, else the first one in the file of that name."""
    from stress.explorer.token import VERSION  # numpy: not for --help

    if text.startswith(f"{VERSION}/"):
        return text
    path = Path(text)
    if not path.is_file():
        raise MisuseError(f"token: {text!r} is neither a token ({VERSION}/...) nor a file with one")
    found = re.search(
        rf"\b{VERSION}/[\w%:,./~-]+", path.read_text("utf-8", errors="replace"), re.ASCII
    )
    if found is None:
        raise MisuseError(f"token: no line of {text} holds one; it starts with {VERSION}/")
    return found[0]


def folders_of(root: str | None) -> list[Path]:
    """Where to search the path of a token: in ``root`` if it is named, else near this folder."""
    from stress.explorer.loading import around

    if root is None:
        return around()
    if not Path(root).is_dir():
        raise MisuseError(f"from: {root} is not a directory; name the one that was printed")
    return [Path(root).absolute()]


def _program(target: str, root: str | None, named: str | None) -> Program:
    from stress.explorer.targets import load_program
    from stress.programs import PROGRAMS

    if named is not None:
        return load_program(named)
    if ":" not in target and target not in PROGRAMS:
        raise MisuseError(
            f"program (or MODULE:PROGRAM): {target!r} was built where no command finds it; name it"
            " with --program, or call stress.replay(program, TOKEN) where it is built"
        )
    folders = folders_of(root)
    file = target.rpartition(":")[0]
    if Path(file).is_absolute() or ".." in Path(file).parts:
        raise MisuseError(
            f"token: {target!r} leaves the folder that its path starts at; name the program with"
            " --program if you trust it"
        )
    if file.endswith(".py") and not any((folder / file).is_file() for folder in folders):
        where = root or "the working directory or a folder above it"
        raise MisuseError(
            f"token: {file} is not in {where}; name the folder that holds it: --from ROOT"
        )
    return load_program(target, folders)


def _natively(
    program: Program, token: str, repeat: int | None, seconds: float, files: Exports
) -> int:
    """Make it happen; FAILED if it did."""
    from stress.gates.report import lines_of
    from stress.gates.verdict import realize
    from stress.gates.wild import play

    made = realize(program, token)
    for line in lines_of(made):
        click.echo(line, err=files.aside)
    if repeat is not None:
        click.echo(play(program, repeat, seconds), err=files.aside)
    if made.happened:
        return files.exit_code(Verdict.FAILED)
    return (Verdict.VACUOUS if made.plan.unforced else Verdict.ERROR).exit_code


@as_command("replay")
@click.argument("token", metavar="TOKEN|FILE")
@token_root()
@option(
    "--program",
    metavar="PROGRAM",
    type=PROGRAM_NAMES,
    setting=False,
    help="The program, if the token does not say where it is.",
)
@engine_option("interpreted")
@option(
    "--native",
    is_flag=True,
    help="Make the schedule happen in real processes, held at gates, and audit their memory.",
)
@option(
    "--repeat",
    type=click.IntRange(1),
    default=None,
    metavar="N",
    help="With --native: also run N times without gates, and count how often it happens.",
)
@duration("Time for --repeat", unset="10s")
@option("--paths", is_flag=True, help="Show the calls that led to each step.")
@html_file()
@exports("perfetto")
def command(
    token: str,
    root: str | None,
    program: str | None,
    engine: str,
    native: bool,
    repeat: int | None,
    seconds: float | None,
    paths: bool,
    html: str | None,
    exports: dict[str, str | None],
) -> int:
    """Run the schedule of TOKEN, or of the first token in FILE, once more and show each step.

    Kernels run in plain Python, so that breakpoint() in a kernel works. With --native they run
    compiled, a process for each CPU, and each process is held where the schedule leaves it; the
    check of the program then judges the real memory.

    Exit codes: 1 it fails again; 0 it does not fail, and the kernels have changed; 3 it does not
    fail, although nothing has changed; 4 usage; 5 gates cannot make the schedule happen.
    """
    from stress.explorer.replay import replay
    from stress.explorer.token import Token
    from stress.report.exports import Exports
    from stress.report.perfetto import perfetto

    if repeat is not None and not native:
        raise MisuseError("repeat: it counts runs in real processes; add --native")
    files = Exports(exports, html=html)
    found = find_token(token)
    parsed = Token.parse(found)
    chosen = _program(parsed.target, root or root_beside(token, found), program)
    if native:
        return _natively(chosen, str(parsed), repeat, seconds or REPEAT_S, files)
    again = replay(chosen, str(parsed), engine)
    click.echo(again.report(paths=paths), err=files.aside)
    if again.failure is None:
        files.page(html, None)
        return (Verdict.PASSED if again.changed else Verdict.ERROR).exit_code
    files.page(html, again.failure.html)
    if exports["perfetto"] is not None:
        files.put(exports["perfetto"], perfetto(again.failure))
    return files.exit_code(Verdict.FAILED)
