"""docs/database.md: its queries and its example run on a database as commands write it."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from stress import cli
from stress.records import schema
from support.recorded import a_moment
from support.runs import ROOT

PAGE = (ROOT / "docs/database.md").read_text("utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
LOST_UPDATE = str(ROOT / "examples/lost_update.py")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the first command of the page writes, and a run with a sample."""
    from stress.records.work import Work
    from stress.records.writer import Records

    path = tmp_path_factory.mktemp("docs") / "hunt.db"
    cli.run(["explore", f"{LOST_UPDATE}:program", "--no-races", "--engine", "interpreted",
             "--db", str(path)])  # fmt: skip
    with Records(path) as records:
        run = records.begin_run(Work("run", "shmstress run"))
        round_id = records.begin_round(run, Work("run", "shmstress run"))
        records.sample(round_id, a_moment())
        records.end_round(round_id, "PASSED", 2.0, 1000)
    return path


@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
def test_a_query_of_the_page_finds_something(database: Path, query: str) -> None:
    with closing(sqlite3.connect(database)) as plain:
        assert plain.execute(query).fetchall()


def test_the_finding_of_the_example_is_that_of_the_page(database: Path) -> None:
    with closing(sqlite3.connect(database)) as plain:
        ((name, site),) = plain.execute("SELECT fingerprint, site FROM findings")
    assert PAGE.count(name) == 3 and PAGE.count(site) == 2


def test_the_page_has_every_table() -> None:
    tables = re.findall(r"CREATE TABLE (\w+)", "".join(schema.TABLES))
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.partition("## Tables")[2], re.MULTILINE)
    assert sorted(rows) == sorted(tables)


def test_every_column_that_the_page_names_exists(database: Path) -> None:
    with closing(sqlite3.connect(database)) as plain:
        for table, notes in re.findall(r"^\| `(\w+)` \| [^|]* \| (.*) \|$", PAGE, re.MULTILINE):
            known = {row[1] for row in plain.execute(f"PRAGMA table_info({table})")}
            assert {*re.findall(r"`(\w+)`", notes)} <= known, table
