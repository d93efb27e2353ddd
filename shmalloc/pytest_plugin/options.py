"""The options of the pytest plugin, and what they come to: ``Settings``.

Each option has a counterpart in the configuration file, ``shm_seed`` for ``--shm-seed``; the
command line comes first. All names begin with ``--shm-`` or ``shm_``, so that they meet no others.

pytest imports this file in every project, so it imports nothing of ours: a text that must be read
by one of our parsers loads it then.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pytest

FOLDER = ".shmalloc"  # of kept failures, below the rootdir
MARKS = {  # and what ``pytest --markers`` says of them
    "explore": "explore(strategy, memory, seconds, schedules, ...): explore the Program that the"
    " test returns; arguments of stress.explore (shmalloc)",
    "stress": "stress(workload, workers, seconds, ram, faults, ...): run what the test returns in"
    " worker processes; options of shmstress run (shmalloc)",
}
ENGINES = ("native", "interpreted")
SESSION_SEED_BITS = 32  # short enough to type from a log
SEED_BITS = 62
NO_FOLDER = "none"
_SWITCHES = {
    "strict": "Fail tests that tested nothing, instead of skipping them.",
    "oversubscribe": "Let native runs of different tests and sessions run at the same time.",
}


class Budget(NamedTuple):
    """What ``--shm-budget`` makes of the seconds and schedules that a test asks for."""

    factor: float = 1.0
    seconds: float | None = None
    text: str = ""

    @property
    def is_nothing(self) -> bool:
        return self.factor == 0 or self.seconds == 0

    def seconds_of(self, wanted: float | None) -> float | None:
        """Seconds for a test that wants so many; None is without a limit."""
        if self.seconds is not None:
            return self.seconds
        return None if wanted is None else wanted * self.factor

    def schedules_of(self, wanted: int | None) -> int | None:
        """The same for a number of schedules, which an absolute time leaves alone."""
        return None if not wanted else max(1, round(wanted * self.factor))


class Settings(NamedTuple):
    """All options of one session, read once."""

    seed: int
    budget: Budget = Budget()
    replay: str | None = None
    engine: str | None = None  # of the command line: it wins over a test
    usual_engine: str = "native"  # of tests that name none
    folder: Path | None = None  # of kept failures
    fixed: bool = False
    strict: bool = False
    oversubscribe: bool = False
    marks: tuple[str, ...] = tuple(MARKS)


def add_options(parser: pytest.Parser) -> None:
    """Declare the options and their counterparts in the configuration file."""
    group = parser.getgroup("shmalloc", "shmalloc: schedules explored, workloads run")
    add = group.addoption
    add("--shm-seed", metavar="N", help="Seed of the session, decimal or 0x; a fresh one if unset.")
    add(
        "--shm-budget",
        metavar="FACTOR|TIME",
        help="Scale the time of all tests, such as 10x, or set it, such as 2s.",
    )
    add("--shm-engine", choices=ENGINES, help="Engine that runs the kernels of all tests.")
    add(
        "--shm-db",
        metavar="DIR",
        help=f"Where failing schedules are kept: {FOLDER} in the rootdir if unset; none: nowhere.",
    )
    for name, text in _SWITCHES.items():
        add(f"--shm-{name}", action="store_true", default=None, help=text)
        parser.addini(f"shm_{name}", text, type="bool", default=False)
    add("--shm-replay", metavar="TOKEN", help="Run the schedule of TOKEN instead of exploring.")
    add(
        "--shm-fixed",
        action="store_true",
        help="Run only the tests that have a kept failure, and list those that turned green.",
    )
    for name in ("seed", "budget", "engine", "db"):
        parser.addini(f"shm_{name}", f"Default of --shm-{name}.", default="")
    parser.addini(
        "shm_marks",
        "The marks that this plugin acts on; leave out one that means something else to you.",
        type="args",
        default=list(MARKS),
    )


def settings_of(config: pytest.Config, seed: int | None = None) -> Settings:
    """The settings of a session; ``seed``: that of the controller, in a worker of xdist.

    Raises ``pytest.UsageError`` for a value that cannot be read.
    """
    engine = _text(config, "engine")
    if engine and engine not in ENGINES:
        raise pytest.UsageError(f"shm_engine: {engine!r}; use {' or '.join(ENGINES)}")
    return Settings(
        seed=_seed(_text(config, "seed")) if seed is None else seed,
        budget=_budget(_text(config, "budget")),
        replay=_token(config.getoption("shm_replay")),
        engine=config.getoption("shm_engine"),
        usual_engine=engine or "native",
        folder=_folder(config, _text(config, "db")),
        fixed=_fixed(config.getoption("shm_fixed")),
        strict=_switch(config, "strict"),
        oversubscribe=_switch(config, "oversubscribe"),
        marks=_marks(config.getini("shm_marks")),
    )


def _text(config: pytest.Config, name: str) -> str:
    given = config.getoption(f"shm_{name}")
    return str(config.getini(f"shm_{name}") if given is None else given)


def _switch(config: pytest.Config, name: str) -> bool:
    return bool(config.getoption(f"shm_{name}") or config.getini(f"shm_{name}"))


def _folder(config: pytest.Config, text: str) -> Path | None:
    """An option's folder is relative to the working directory, that of a file to the file's."""
    if text == NO_FOLDER:
        return None
    if config.getoption("shm_db") is not None:
        if not text:
            raise pytest.UsageError(f"--shm-db: ''; use a folder, or {NO_FOLDER}")
        return config.invocation_params.dir / Path(text).expanduser()
    return config.rootpath / Path(text or FOLDER).expanduser()


def _seed(text: str) -> int:
    if not text:
        return int.from_bytes(os.urandom(SESSION_SEED_BITS // 8), "little") or 1
    try:
        seed = int(text, 0)
    except ValueError:
        seed = -1
    if not 0 <= seed < 1 << SEED_BITS:
        raise pytest.UsageError(f"--shm-seed: {text!r}; use 0 to 2**{SEED_BITS} - 1, 0x allowed")
    return seed


def _budget(text: str) -> Budget:
    if not text:
        return Budget()
    number = text[:-1] if text[-1] in "xs" else text
    if "0" in number and not number.replace(".", "", 1).strip("0"):  # no time at all
        return Budget(factor=0.0, text=text)
    try:
        if text.endswith("x"):
            factor = float(number)
            if not 0 < factor < float("inf"):
                raise ValueError(text)
            return Budget(factor=factor, text=text)
        return Budget(seconds=_parsed_duration(text), text=text)
    except ValueError as error:
        form = "use a factor such as 10x or 0.5x, or a time such as 2s"
        raise pytest.UsageError(f"--shm-budget: {text!r}; {form}") from error


def _parsed_duration(text: str) -> float:
    from shmalloc.sizes import parse_duration

    return parse_duration(text)


def _marks(names: list[str]) -> tuple[str, ...]:
    for name in names:
        if name not in MARKS:
            raise pytest.UsageError(f"shm_marks: {name!r}; use some of {', '.join(MARKS)}")
    return tuple(names)


def _token(text: str | None) -> str | None:
    if text is None:
        return None
    from shmalloc.errors import MisuseError
    from shmalloc.pytest_plugin.loading import of_stress

    _require_stress("--shm-replay")
    try:
        return str(of_stress("explorer.token").Token.parse(text))
    except MisuseError as error:
        raise pytest.UsageError(f"--shm-replay: {error}") from error


def _fixed(given: bool) -> bool:
    if given:
        _require_stress("--shm-fixed")
    return given


def _require_stress(option: str) -> None:
    """Import ours before a test file can bring another one: this option is for us."""
    from shmalloc.pytest_plugin.loading import of_stress, what_hides_stress

    problem = what_hides_stress()
    if problem is not None:
        raise pytest.UsageError(f"{option}: {problem}")
    of_stress("seeds")
