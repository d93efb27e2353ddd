"""``shmstress top`` on databases of strangers: told in one line, or shown and steering nothing.

Each case changes one thing in the database of a made-up soak by SQL.
"""

from __future__ import annotations

import json
import sqlite3
import unicodedata
from contextlib import closing

import pytest

from stress.cli import run as run_command
from stress.top.frame import WIDTH, frame
from stress.top.soak import DatabaseSource
from stress.top.source import json_text
from support.recorded import Made, make

STEERS = "char(27) || '[2J' || char(7) || char(10) || char(8238) || char(0) || '[bold]x'"
LEAST, MOST = -(2**63), 2**63 - 1
SHOWN = {
    "verdict": f"UPDATE runs SET verdict = {STEERS}",
    "kind of the run": f"UPDATE runs SET kind = {STEERS}",
    "seed": f"UPDATE runs SET seed = {STEERS}",
    "command": f"UPDATE runs SET command = {STEERS}",
    "duration": r"""UPDATE runs SET spec = '{"duration": "\u001b[2J\u0007\n\ud800"}'""",
    "duration of lists": """UPDATE runs SET spec = '{"duration": [1, [2]]}'""",
    "role": f"UPDATE processes SET role = {STEERS}",
    "round": f"UPDATE rounds SET kind = {STEERS}, verdict = {STEERS}, command = {STEERS}",
    "features": r"""UPDATE rounds SET features = '["\u001b[2J\n", "\ud800"]'""",
    "finding": f"UPDATE findings SET invariant = {STEERS}, site = {STEERS}",
    "long texts": "UPDATE findings SET site = hex(zeroblob(300000))",
    "no values": "UPDATE rounds SET verdict = NULL, seconds = NULL, operations = NULL",
    "rounds of another run": "UPDATE rounds SET run_id = 99",
    "time before all clocks": "UPDATE runs SET started_s = -1e300",
    "large counts": f"UPDATE samples SET operations = {MOST} - id, used_pages = {MOST},"
    f" managed_pages = 1, refused = {LEAST}, audits = -1, reports = {MOST}",
    "samples at one time": "UPDATE samples SET at_s = 1",
    "samples close together": "UPDATE samples SET at_s = id * 1e-300, operations = id << 58",
    "fragmentation": "UPDATE samples SET fragmentation = 1e300",
    "less than no pages": f"UPDATE samples SET managed_pages = -5, used_pages = {LEAST}",
    "large processes": f"UPDATE processes SET rss_bytes = {MOST}, private_bytes = {LEAST},"
    f" fds = {MOST}, threads = -1, cpu_s = 1e300, pid = {LEAST}",
    "states that are none": f"UPDATE samples SET ram_map = x'{'ff' * 1000}'",
    "large rounds": f"UPDATE rounds SET seconds = 1e300, operations = {MOST}, number = -id",
    "counts of findings": f"UPDATE findings SET count = {LEAST}, last_seen_s = -1e300",
}
REFUSED = {
    "time without end": "UPDATE runs SET started_s = 9e999",
    "bytes for a role": "UPDATE processes SET role = x'ff00'",
    "text for a map": "UPDATE samples SET ram_map = 'abc'",
    "list for an object": "UPDATE findings SET details = '[]'",
    "bytes for a command": "UPDATE rounds SET command = x'fffe'",
    "no UTF-8": "UPDATE rounds SET command = CAST(x'fffe' AS TEXT)",
    "infinite count": "UPDATE samples SET pcp_pages = '[1e999]'",
    "number of many bits": f"UPDATE samples SET pcp_pages = '[1{'0' * 30}]'",
    "number of many digits": f"UPDATE samples SET pcp_pages = '[1{'0' * 5000}]'",
    "account without a name": "UPDATE samples SET accounts = '[{}]'",
    "text for a count": "UPDATE samples SET operations = 'many'",
    "deep JSON": "UPDATE rounds SET result = replace(hex(zeroblob(100000)), '0', '[')",
}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "soak.db"
    make(path, Made(rounds=2, samples=4))
    return path


@pytest.fixture
def changed(original, tmp_path):
    """A copy of the database after a statement."""

    def copy(statement):
        path = tmp_path / "soak.db"
        path.write_bytes(original.read_bytes())
        with closing(sqlite3.connect(path)) as file:
            file.execute(statement)
            file.commit()
        return str(path)

    return copy


def no_number(name):
    raise AssertionError(f"{name} is no JSON")


@pytest.mark.parametrize("case", SHOWN)
def test_what_can_be_shown_steers_no_terminal_and_fits_it(changed, case):
    source = DatabaseSource(changed(SHOWN[case]))
    source.read()
    lines = [*frame(source.panels("number")).splitlines(), source.ended]
    steering = [one for line in lines for one in line if unicodedata.category(one)[0] == "C"]
    assert steering == [] and max(map(len, lines)) <= WIDTH
    assert json.loads(json_text(source), parse_constant=no_number)
    source.close()


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_row_of_ours_is_told_in_one_line(changed, case, capsys):
    assert run_command(["top", changed(REFUSED[case]), "--once"]) == 4
    assert capsys.readouterr().err.count("\n") == 1


def test_a_frame_is_drawn_without_a_sample(changed):
    source = DatabaseSource(changed("DELETE FROM samples"))
    source.read()
    assert "no sample yet" in frame(source.panels("number"))
    source.close()
