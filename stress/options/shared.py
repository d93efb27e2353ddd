"""Options that several commands have. Each is a decorator; ``help`` says what it means there.

Every command that takes a time calls it ``--duration``; ``--seconds`` means the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from stress.metrics.places import LOOPBACK, Places
from stress.options.command import option
from stress.options.kinds import Names, Seed, Size, Time

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
ENGINES = ("native", "interpreted")
PROGRESS = ("auto", "always", "never")
RESULTS = "Results"
EXPORTS = {  # see docs/exports.md
    "junit": "Write the results to FILE as JUnit XML.",
    "ktap": "Write the results to FILE as KTAP, as tests of the Linux kernel do.",
    "markdown": "Write a comment for a pull request to FILE, as Markdown.",
    "sarif": "Write the findings to FILE as SARIF, for code scanning.",
    "perfetto": "Write the failing schedule, or the flight recording, to FILE for ui.perfetto.dev.",
}


def token_root() -> Decorator:
    """``--from``, as ``root``: where the path in a token starts."""
    return option(
        "--from",
        "root",
        metavar="ROOT",
        setting=False,
        help="The folder at which the path in the token starts.",
    )


def duration(
    help: str,
    default: str | None = None,
    unset: str = "",
    unlimited: bool = False,
    name: str = "seconds",
    group: str | None = None,
) -> Decorator:
    """``--duration``; the parameter is called ``name`` and gets seconds, None for no limit.

    ``unset``: what the help says about the default if there is no ``default``.
    """
    forms = "90s, 5m or 1h30m" + ("; 0 means no limit" if unlimited else "")
    return option(
        "--duration",
        name,
        aliases=("--seconds",),
        type=Time(unlimited),
        default=default,
        show_default=unset or default is not None,
        help=f"{help}, such as {forms}.",
        group=group,
    )


def seed(
    help: str = "Seed of all random choices", default: int | None = None, group: str | None = None
) -> Decorator:
    """``--seed``, an int; None if it is not given and has no default."""
    shown = True if default is not None else "a fresh one"
    return option(
        "--seed",
        type=Seed(),
        default=default,
        show_default=shown,
        group=group,
        help=f"{help}, decimal or 0x.",
    )


def engine(
    default: str,
    known: tuple[str, ...] = ENGINES,
    help: str = "Engine that runs the kernels.",
    group: str | None = None,
) -> Decorator:
    """``--engine``, one of ``known``."""
    return option(
        "--engine",
        type=Names("engine", known),
        default=default,
        show_default=True,
        help=help,
        group=group,
    )


def _file(name: str, help: str) -> Decorator:
    return option(f"--{name}", metavar="FILE", help=help, group=RESULTS)


def json_file(help: str = "Write the results to FILE as JSON; - is standard output.") -> Decorator:
    """``--json FILE``; ``-`` is standard output, and then people's text goes to standard error."""
    return _file("json", help)


def html_file(help: str = "Write the failure to FILE as a page.") -> Decorator:
    """``--html FILE``."""
    return _file("html", help)


def exports(*formats: str) -> Decorator:
    """An option for each of these formats; the parameter ``exports`` gets their paths by name.

    Hand it to ``stress.report.exports.Exports``.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def packed(**values: Any) -> Any:
            paths = {name: values.pop(name) for name in formats}
            return function(exports=paths, **values)

        for name in reversed(formats):
            _file(name, EXPORTS[name])(packed)
        return packed

    return decorate


def database(
    help: str = "Record the run in the database FILE as it happens; see docs/database.md.",
) -> Decorator:
    """``--db FILE``; the parameter is called ``db``. Hand it to ``stress.report.recording``."""
    return _file("db", help)


def keep(group: str | None = RESULTS) -> Decorator:
    """``--keep SIZE``, bytes; hand it to ``stress.records.writer.Records``."""
    return option(
        "--keep",
        type=Size(),
        metavar="SIZE",
        group=group,
        help="Thin out old rounds so that the database stays below SIZE, such as 2GiB.",
    )


def ignore(what: str = "findings", group: str | None = None) -> Decorator:
    """``--ignore FINGERPRINT``, several times or with commas; a tuple of texts.

    Make ``stress.records.fingerprint.Ignored`` of it.
    """
    return option(
        "--ignore",
        multiple=True,
        metavar="FINGERPRINT",
        callback=lambda ctx, param, given: tuple(
            name for text in given for name in text.replace(",", " ").split()
        ),
        group=group,
        help=f"Go past {what} with this fingerprint, which shmstress history shows; repeatable.",
    )


def metrics(group: str = "Metrics") -> Decorator:
    """``--metrics-port`` and its like; the parameter ``metrics`` gets a ``Places``.

    Hand it to ``stress.metrics.attach.attached``.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def packed(
            metrics_port: int | None, metrics_address: str, metrics_file: str | None, **values: Any
        ) -> Any:
            places = Places(metrics_port, metrics_address, metrics_file)
            return function(metrics=places, **values)

        made: Callable[..., Any] = packed
        for one in (
            option(
                "--metrics-file",
                metavar="FILE.prom",
                group=group,
                help="Write metrics to FILE once a second, for the textfile collector.",
            ),
            option(
                "--metrics-address",
                metavar="ADDRESS",
                default=LOOPBACK,
                show_default=True,
                group=group,
                help="Address of this machine that --metrics-port listens on.",
            ),
            option(
                "--metrics-port",
                type=click.IntRange(0, 65535),
                metavar="PORT",
                group=group,
                help="Serve metrics for Prometheus on PORT; 0 takes a free one and says which.",
            ),
        ):
            made = one(made)
        return made

    return decorate


def progress(
    help: str = "Show progress on standard error; auto: if that is a terminal.",
) -> Decorator:
    """``--progress auto|always|never``; hand the value to ``stress.progress.shown``."""
    return option(
        "--progress",
        type=Names("progress", PROGRESS),
        default="auto",
        show_default=True,
        help=help,
        group=RESULTS,
    )
