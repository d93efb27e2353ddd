"""``shmstress bench``: what an operation costs, here and in other allocators."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stress import progress as watching
from stress.options import BENCH_PATTERNS, exports, json_file, option, progress
from stress.options import command as as_command
from stress.verdict import Verdict

if TYPE_CHECKING:
    from stress.bench.result import Result
    from stress.bench.session import Wanted
    from stress.report.exports import Exports

MOST_WORKERS = 31


@as_command("bench")
@click.argument("names", nargs=-1, metavar="[PATTERN]...", type=BENCH_PATTERNS)
@option(
    "--workers",
    metavar="LIST",
    help="Numbers of worker processes, such as 1,2,4,8. [default: 1,2; with --full 1,2,4,8]",
)
@option(
    "--peer",
    "peers",
    multiple=True,
    metavar="NAME[=LIBRARY]",
    help="Measure this other allocator as well, from that library if one is named; repeatable."
    " all: all that are installed, none: none. [default: all]",
)
@option(
    "--rounds",
    type=click.IntRange(1),
    default=21,
    show_default=True,
    help="Slices that each row rests on.",
)
@option("--full", is_flag=True, help="Measure every pattern on every link store, and what grows.")
@option("--growth", is_flag=True, help="Measure how cost grows: memory, workers, fragmentation.")
@json_file()
@exports("markdown")
@option("--plot", metavar="FILE", help="Draw the figures into FILE, .svg or .png.")
@option("--write", metavar="FILE", help="Bring the page FILE and its pictures up to date.")
@option("--list", "listing", is_flag=True, setting=False, help="List the patterns and stop.")
@progress()
def command(
    names: tuple[str, ...],
    workers: str | None,
    peers: tuple[str, ...],
    rounds: int,
    full: bool,
    growth: bool,
    json: str | None,
    exports: dict[str, str | None],
    plot: str | None,
    write: str | None,
    listing: bool,
    progress: str,
) -> int:
    """Measure what operations cost in our allocator and in others, in the same loops.

    By default every PATTERN is measured with one and two workers. Slices of 1-2 ms are taken in
    turn; a slice in which a worker lost its core is dropped and counted. Beside each figure stands
    F: the cost of two uncontended two-word swaps on the same core in the same slice.

    Exit codes: 0 measured, 2 interrupted, 3 a worker died or something was left allocated, 4 usage,
    7 this machine cannot run it.
    """
    from stress.bench import report
    from stress.bench.catalogue import chosen, parse_counts
    from stress.bench.session import Wanted
    from stress.report.exports import Exports

    patterns = chosen(names, full)
    if listing:
        click.echo(report.listing().text().lstrip())
        return Verdict.PASSED.exit_code
    counts = parse_counts(workers or ("1,2,4,8" if full else "1,2"), MOST_WORKERS)
    files = Exports({}, json=json, markdown=exports["markdown"], plot=plot, write=write)
    page = _require_pictures(plot, write)
    grown = growth or (full and not names)
    wanted = Wanted([] if growth and not names else patterns, counts, peers, rounds, full, grown)
    result = _measured(wanted, progress)
    if result is None:
        return files.exit_code(Verdict.ERROR)
    click.echo(report.text(result), err=files.aside)
    if json is not None:
        files.put(json, report.document(result))
    if exports["markdown"] is not None:
        files.put(exports["markdown"], report.markdown(result))
    _draw(files, result, plot, write, page)
    return files.exit_code(Verdict.PASSED)


def _require_pictures(plot: str | None, write: str | None) -> str:
    """The text of the page that is to be renewed. Raises ``MisuseError`` for a picture or a page
    that cannot be made, ``EnvironmentUnfitError`` without matplotlib."""
    from importlib.util import find_spec

    from shmalloc.errors import EnvironmentUnfitError, MisuseError
    from stress.bench.page import require_page
    from stress.report.places import require_file

    if plot is not None:
        require_file("plot", plot)
        if not plot.endswith((".svg", ".png")):
            raise MisuseError(f"plot: {plot!r}; name a file that ends with .svg or .png")
    page = "" if write is None else require_page(write)
    if (plot or write) and find_spec("matplotlib") is None:
        raise EnvironmentUnfitError(
            "plot: pictures need matplotlib; pip install 'shmalloc[report]'"
        )
    return page


def _draw(files: Exports, result: Result, plot: str | None, write: str | None, page: str) -> None:
    """Write the picture that was asked for, and the page with its own."""
    if plot is None and write is None:
        return
    from stress.bench.page import PICTURES, pictures, renewed
    from stress.bench.plot import drawn
    from stress.report.places import write_bytes_to

    wanted = {} if plot is None else {Path(plot): result}
    if write is not None:
        place = Path(write)
        files.put(write, renewed(page, result, place.stem))
        folder = place.parent / PICTURES
        folder.mkdir(exist_ok=True)
        wanted |= {folder / name: part for name, part in pictures(result, place.stem).items()}
    for path, part in wanted.items():
        with files.tried():
            write_bytes_to(str(path), drawn(part, path.suffix))


def _measured(wanted: Wanted, progress: str) -> Result | None:
    """The result; None, after it was said why, if a worker died."""
    from stress.bench.session import perform
    from stress.bench.team import BenchError

    with watching.shown(progress) as tell:
        try:
            return perform(wanted, tell)
        except BenchError as error:
            click.echo(f"shmstress: {error}", err=True)
            return None
