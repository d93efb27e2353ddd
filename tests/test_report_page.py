"""``shmstress report --html``: the page of a recorded run, with and without a browser.

The numbers of the page are compared with what SQLite says (support/recorded_numbers.py).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
from contextlib import closing, suppress
from dataclasses import replace
from html import escape

import pytest

from shmalloc.errors import MisuseError
from stress.cli import run as run_command
from stress.records.reader import Reader
from stress.records.rows import RoundRow
from stress.records.writer import Records, Work
from stress.report.page.comparing import conclusion, cut_of
from stress.report.page.facts import settings_of, spec_words, what_it_is
from stress.report.page.gather import report_of
from stress.report.page.sides import by_setting, with_other
from stress.report.sources import run_of
from stress.report.suites.recorded import suite_of
from stress.verdict import Verdict
from support.browser import Browser, Document, body_of, needs_browser
from support.recorded import HOSTILE, Made, make
from support.recorded_numbers import Numbers

WIDTHS = (400, 800, 1440)
FAMILIES = {
    "runs", "rounds", "findings", "rate", "memory", "descriptors", "fragmentation", "latency",
    "free-blocks", "ram-map", "marks", "features",
}  # fmt: skip
SOAK = Made(workloads=("churn", HOSTILE), link_stores=("page", "table"), verdict="FAILED")


def written(path, *options):
    """The page of the database at ``path``."""
    page = path.with_name("page.html")
    assert run_command(["report", str(path), "--html", str(page), *options]) == 0
    return page.read_text("utf-8")


def refusal(capsys, *arguments):
    """The one line with which the command is refused as a wrong usage."""
    assert run_command(["report", *map(str, arguments)]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    path = tmp_path_factory.mktemp("recorded") / "soak.db"
    make(path, SOAK)
    return path


@pytest.fixture(scope="module")
def page(database):
    return written(database, "--by", "link-store")


@pytest.fixture(scope="module")
def root(page):
    return Document(page).root


def numbers_of(root):
    """The numbers of the page by key."""
    marked = [one.attributes for one in root.all("data") if "data-key" in one.attributes]
    return {one["data-key"]: float(one["value"]) for one in marked}


# --- what it says --------------------------------------------------------------------------------
def test_every_number_of_the_page_is_in_the_database(database, root):
    numbers = numbers_of(root)
    oracle = Numbers(database, 1)
    assert {key.partition("/")[0] for key in numbers} == FAMILIES
    wrong = {
        key: (value, oracle.value_of(key))
        for key, value in numbers.items()
        if value != pytest.approx(oracle.value_of(key), rel=1e-12)
    }
    assert wrong == {}


def test_the_verdict_comes_first_and_the_sections_follow_in_order(root):
    heading = root.all("h1")[0].text()
    assert heading.startswith("FAILED 2 open findings in ")
    sections = [one.attributes["id"] for one in root.all("section")]
    assert sections == [
        "what", "findings", "comparison", "rate", "memory", "descriptors", "latency",
        "fragmentation", "free-blocks", "ram-map", "marks", "rounds", "features", "environment",
    ]  # fmt: skip
    links = [one.attributes["href"] for one in root.all("nav")[0].all("a")]
    assert links == [f"#{name}" for name in sections]


def test_a_finding_has_its_count_the_line_that_repeats_it_and_its_page(root):
    tail, race = root.all("article", class_="finding")
    assert "Seen 2 times" in tail.text() and "shmstress run --seed 0x2a" in tail.text()
    (frame,) = race.all("iframe")
    assert frame.attributes["sandbox"] == "allow-scripts"
    assert "The steps, first to last" in frame.attributes["srcdoc"]


def sentence_of(path):
    with Reader(path) as reader:
        return report_of(reader, run_of(reader, None), path.name).sentence


def test_a_run_that_did_not_end_has_no_verdict(tmp_path):
    path = tmp_path / "lost.db"
    make(path, Made(rounds=1, samples=3), finish=False)
    assert sentence_of(path).startswith("Its process died before the end. 2 open findings in 3 s")
    with Reader(path) as reader:
        assert report_of(reader, run_of(reader, None), "x").verdict is None


def test_a_run_that_goes_on_says_so(tmp_path):
    path = tmp_path / "runs.db"
    with Records(path) as records:
        records.begin_run(Work("run", "shmstress run"))
        assert sentence_of(path).startswith("It is still running. No open finding in ")


def test_the_last_run_is_shown_unless_another_is_asked_for(tmp_path):
    path = tmp_path / "two.db"
    make(path, Made(rounds=1, samples=3, seed=0xAAA))
    make(path, Made(rounds=1, samples=3, seed=0xBBB))
    with Reader(path) as reader:
        assert run_of(reader, None).seed == "0xbbb"
        assert run_of(reader, 1).seed == "0xaaa"


def test_each_run_of_three_shows_the_findings_that_it_saw(tmp_path):
    path = tmp_path / "three.db"
    for seed in range(3):
        make(path, Made(rounds=1, samples=2, seed=seed))
    with Reader(path) as reader:
        shown = [report_of(reader, run, "x").findings for run in reader.runs()]
    assert [sorted(one.invariant for one in found) for found in shown] == [["I_TAIL", "race"]] * 3


def test_the_settings_of_a_round_are_those_of_its_command_where_its_spec_has_none():
    line = (
        "shmstress run --workload churn,frag --workers 3 --prealloc --link-store table --seed 0x1"
    )
    row = RoundRow(
        1, 1, 1, "run", line, {"at_s": 3.0}, [], None, 0, 0, 0, "ended", None, 0, {}, {}, {}, 0
    )
    settings = settings_of(row)
    assert settings == {"workload": "churn,frag", "workers": "3", "prealloc": True,
                        "link-store": "table", "seed": "0x1"}  # fmt: skip
    assert spec_words(settings) == "churn, frag by 3 workers; link store table, seed 0x1; prealloc"
    explored = replace(row, command="shmstress explore buddy-merge --memory tso", spec={"a": None})
    assert what_it_is(explored) == "buddy-merge: memory tso"


# --- comparison ----------------------------------------------------------------------------------
def by_link_store(path):
    with Reader(path) as reader:
        both = by_setting(reader, path.name, None, "link-store")
    return {pair.name: pair for pair in both.pairs}


def against(path, other):
    with Reader(path) as reader:
        both = with_other(reader, path.name, None, 1, str(other))
    return {pair.name: pair for pair in both.pairs}


def test_link_stores_of_one_database_are_compared_round_by_round(tmp_path):
    path = tmp_path / "both.db"
    make(path, Made(rounds=10, link_stores=("page", "table"), slower=1.5))
    pairs = by_link_store(path)
    rate = pairs["churn, rate of a worker"]
    assert rate.low < 1 / 1.5 < rate.high and rate.low < rate.ratio < rate.high < 0.8
    assert conclusion(rate) == "B is smaller"
    assert conclusion(pairs["alloc_pages, p50"]) == "B is larger"


def test_the_medians_of_a_comparison_are_those_of_the_rounds(tmp_path):
    path = tmp_path / "both.db"
    make(path, Made(rounds=6, samples=5, link_stores=("page", "table")))
    pair = by_link_store(path)["frag, rate of a worker"]
    query = "SELECT result FROM rounds WHERE json_extract(spec, '$.link-store') = ?"
    for store, side in (("page", pair.left), ("table", pair.right)):
        rates = sorted(
            workload["ops"] / workload["seconds"]
            for (text,) in sqlite3.connect(path).execute(query, (store,))
            for workload in json.loads(text)["workloads"]
            if workload["name"] == "frag"
        )
        assert side == (3, rates[1], rates[0], rates[2])


def test_equal_rounds_show_no_difference_and_few_rounds_say_nothing(tmp_path):
    one, other, few = (tmp_path / f"{name}.db" for name in ("one", "other", "few"))
    for path, rounds in ((one, 4), (other, 4), (few, 3)):
        make(path, Made(rounds=rounds, samples=5))
    assert {conclusion(pair) for pair in against(one, other).values()} == {"none shown"}
    assert {conclusion(pair) for pair in against(few, few).values()} == {"too few rounds to say"}


@pytest.mark.parametrize(
    ("left", "right", "cut"),
    [(3, 3, None), (4, 4, 0), (5, 5, 2), (5, 6, 3), (8, 8, 13), (10, 10, 23), (20, 20, 127)],
)
def test_bounds_are_those_of_the_table_of_mann_and_whitney(left, right, cut):
    """The critical values of U for 0.05, two-sided, as printed in textbooks."""
    assert cut_of(left, right) == cut_of(right, left) == cut


def test_the_page_shows_the_comparison(root):
    rows = root.all("section", id="comparison")[0].all("tr")[1:]
    (churn,) = [row for row in rows if row.attributes["data-figure"].startswith("churn, ")]
    assert len(churn.all("data")) == 3 and "too few rounds to say" in churn.text()


# --- attacks -------------------------------------------------------------------------------------
def test_the_page_needs_nothing_but_itself(page, root):
    assert not root.all("link") and not root.all("img")
    places = [
        one.attributes.get(name, "#")
        for one in root.all()
        for name in ("href", "src", "xlink:href")
    ]
    assert all(place.startswith(("#", "data:image/png")) for place in places)
    outside = {one for one in re.findall(r"https?://[^\s\"'<)]*", page) if "www.w3.org" not in one}
    assert outside == set()


def test_hostile_texts_stay_text(page, root):
    scripts = [one for one in root.all("script") if "type" not in one.attributes]
    assert len(scripts) == 1 and not root.all("img")
    assert "document.title='gone'" not in "".join(one.text() for one in root.all("script"))
    assert HOSTILE in [one.text() for one in root.all("span")]


def test_ids_are_unique(root):
    ids = [one.attributes["id"] for one in root.all() if "id" in one.attributes]
    assert len(ids) == len(set(ids))


# --- misuse --------------------------------------------------------------------------------------
def test_what_is_no_database_is_refused_in_one_line(tmp_path, capsys):
    (text := tmp_path / "text.db").write_text("not a database " * 100)
    assert str(text) in refusal(capsys, text, "--html", "-")
    assert "no records.db" in refusal(capsys, tmp_path, "--html", "-")
    assert "gone.db" in refusal(capsys, tmp_path / "gone.db", "--html", "-")


def test_the_page_does_not_overwrite_the_database(database, tmp_path, capsys):
    (link := tmp_path / "same.html").symlink_to(database)
    before = database.read_bytes()
    assert "is the database" in refusal(capsys, database, "--html", link)
    assert database.read_bytes() == before


def test_a_named_pipe_is_refused_without_waiting(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    assert "pipe" in refusal(capsys, tmp_path / "pipe", "--html", "-")


STRANGE = {
    "samples.accounts": ["[]", "[1]", "5", '[{"name": 1}]', '[{"name": "x", "operations": "y"}]'],
    "samples.free_by_order": ["{}", '["x"]', "[[1]]", "[]"],
    "samples.events": ["[]", '{"a": 1.5}', '{"a": 18446744073709551616}'],
    "samples.time_s": [None, 9e999, -1e300, "x"],
    "samples.at_s": [9e999, -1e300, b"1"],
    "samples.fragmentation": ["x", 9e999],
    "samples.ram_map": [b"", b"\xff" * 4000],
    "processes.role": ["", None, 7, "worker 9" * 50],
    "processes.private_bytes": ["x", -1, 9e999],
    "rounds.marks": ["[]", '{"a": "b"}', "null"],
    "rounds.result": [
        "[]", '{"workloads": [{}]}', '{"workloads": 7}', '{"workloads": [{"name": "a"}]}',
        '{"audits": "x"}', '{"events": [1]}', '{"workloads": [{"name": "a", "seconds": 1e999}]}',
    ],
    "rounds.features": ["5", "[[]]"],
    "rounds.spec": ['{"ram": []}', "[]", '{"workload": 7, "workers": "²", "zones": {}}'],
    "rounds.command": ["'", "\0"],
    "latencies.operation": [b"\xff", 7],
    "latencies.histogram": [
        "{}", '{"max_ns": -1, "buckets": [[-5, -5]]}', '{"max_ns": 1}',
        '{"max_ns": 1, "buckets": 1}',
        '{"max_ns": 1, "buckets": [[9223372036854775807, 9223372036854775807]]}',
    ],
    "artifacts.content": [7, "text", b"[]", b"\xff", b'{"steps": [1]}', b'{"conflict": [99, -1]}'],
    "artifacts.media_type": ["application/json", b"x"],
    "findings.report": [7, "x" * 100_000],
    "runs.machine": ["[]", '{"cores": "x"}', '{"memory_bytes": {}}'],
    "runs.summary": ["[]", '{"clock_s": "x"}', '{"clock_s": -1}', '{"clock_s": 1e999}'],
    "runs.started_s": [None, 1e300, "x"],
}  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "small.db"
    make(path, Made(rounds=1, samples=4))
    return path


def with_strange(small, path, column, value):
    """A copy of the database at ``path`` with ``value`` in every row of the column."""
    shutil.copy(small, path)
    table, _, name = column.partition(".")
    with closing(sqlite3.connect(path)) as connection:
        with suppress(sqlite3.IntegrityError):  # NOT NULL
            connection.execute(f"UPDATE {table} SET {name} = ?", (value,))
        connection.commit()
    return path


@pytest.mark.parametrize("column", STRANGE)
def test_a_strange_value_is_read_or_told_in_one_line(small, tmp_path, column):
    for value in STRANGE[column]:
        path = with_strange(small, tmp_path / "strange.db", column, value)
        with Reader(path) as reader:
            try:
                report_of(reader, run_of(reader, None), path.name)
                suite_of(reader, run_of(reader, None))
                by_setting(reader, path.name, None, "link-store=page,page")
            except MisuseError as error:
                assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize(
    ("column", "value", "code"),
    [
        ("samples.time_s", -1e300, 0),
        ("samples.time_s", 9e999, 4),
        ("samples.ram_map", b"\xff" * 4000, 0),
        ("samples.free_by_order", "[]", 0),
        ("processes.private_bytes", -1, 0),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_strange_value_makes_no_picture_fail(small, tmp_path, capsys, column, value, code):
    path = with_strange(small, tmp_path / "strange.db", column, value)
    assert run_command(["report", str(path), "--html", "-"]) == code
    assert len(capsys.readouterr().err.splitlines()) == (code != 0)


def test_an_error_of_the_page_itself_is_told_as_a_defect(small, monkeypatch, capsys):
    def broken(*_):
        raise KeyError("a name that no row has to have")

    monkeypatch.setattr("stress.report.page.gather._marks", broken)
    assert run_command(["report", str(small), "--html", "-"]) == Verdict.ERROR.exit_code
    assert "this is a defect of the tool" in capsys.readouterr().err


def test_without_matplotlib_it_says_what_to_install(small, capsys, monkeypatch):
    monkeypatch.setattr("stress.commands.report.find_spec", lambda name: None)
    assert run_command(["report", str(small), "--html", "-"]) == 7
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install 'shmalloc[report]'" in line


def test_a_report_is_told_what_to_write(database, capsys):
    assert "--html FILE" in refusal(capsys, database)


def test_a_setting_with_one_value_cannot_be_compared_by(database, capsys):
    line = refusal(capsys, database, "--html", "-", "--by", "ram")
    assert "values of ram" in line and "256MiB" in line


# --- in a browser --------------------------------------------------------------------------------
MEASURE = """
const page = document.body.dataset.inner;
const found = {};
for (const width of WIDTHS) {
  const frame = document.createElement("iframe");
  frame.style.cssText = `width: ${width}px; height: 900px; border: 0`;
  frame.srcdoc = page;
  frame.addEventListener("load", () => {
    const inner = frame.contentDocument;
    const root = inner.documentElement;
    const seen = (one) => one.getClientRects().length > 0;
    const marked = [...inner.querySelectorAll("data[data-key]")];
    found[width] = {
      width: frame.contentWindow.innerWidth, content: root.scrollWidth, title: inner.title,
      ready: inner.body.dataset.ready,
      numbers: Object.fromEntries(marked.map((one) => [one.dataset.key, Number(one.value)])),
      texts: Object.fromEntries(marked.map((one) => [one.dataset.key, one.textContent])),
      drawings: [...inner.querySelectorAll(".picture .wide, .picture .narrow")].filter(seen)
        .map((one) => one.className),
      spilled: [...inner.querySelectorAll(".picture text")].filter(seen)
        .filter((one) => one.getBoundingClientRect().right > width + 1)
        .map((one) => one.textContent),
    };
    INSIDE
    document.body.dataset.found = JSON.stringify(found);
  });
  document.body.append(frame);
}
"""


def measured(browser, page, widths=WIDTHS, inside=""):
    """What the page is in frames of these widths; ``inside``: more script, for each of them."""
    script = MEASURE.replace("WIDTHS", json.dumps(widths)).replace("INSIDE", inside)
    outer = f'<html><body data-inner="{escape(page)}"></body></html>'
    root, console = browser.load(outer, script=script)
    return json.loads(body_of(root)["data-found"]), console


@pytest.fixture
def browser(tmp_path):
    return Browser(tmp_path)


@needs_browser
def test_the_page_fits_every_width_and_shows_the_numbers_of_the_database(browser, page, database):
    found, console = measured(browser, page)
    assert console == []
    oracle = Numbers(database, 1)
    for width in WIDTHS:
        one = found[str(width)]
        assert one["ready"] == "yes" and one["title"].startswith("shmstress soak")
        assert one["width"] == width and one["content"] <= width  # nothing to scroll sideways
        assert one["spilled"] == []
        assert set(one["drawings"]) == {"narrow" if width == 400 else "wide"}
        wrong = {k: v for k, v in one["numbers"].items() if v != pytest.approx(oracle.value_of(k))}
        assert len(one["numbers"]) > 100 and wrong == {}


READ = """
const picture = inner.querySelector("#picture-rate");
picture.focus();
const press = (key) => picture.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
press("End");
found.when = inner.querySelector("#rate .when").textContent;
found.told = [...inner.querySelectorAll("#rate .legend output")].map((one) => one.textContent);
inner.querySelector("#rate .legend button").click();
found.hidden = inner.querySelectorAll("#rate .picture .hidden").length;
"""


@needs_browser
def test_keys_read_values_out_of_a_picture_and_a_click_hides_a_line(browser, page, root):
    found, console = measured(browser, page, (800,), READ)
    assert console == []
    assert found["when"] == "0:01:02 to 0:01:04 since the start"
    rows = root.all("section", id="rate")[0].all("tbody")[0].all("tr")
    last = [row.all("td")[-1].text() for row in rows]
    assert len(last) == 2
    assert [text.split(" to ")[-1] for text in found["told"]] == last
    assert found["hidden"] == 2  # one line, in the wide drawing and in the narrow one


@needs_browser
def test_a_page_of_a_finding_runs_in_its_frame_and_a_hostile_one_cannot_leave_it(browser, tmp_path):
    path = tmp_path / "soak.db"
    make(path, Made(rounds=1, samples=3))
    evil = "<script>parent.document.title = top.document.title = 'gone'</script>"
    connection = sqlite3.connect(path)
    connection.execute("UPDATE artifacts SET content = ?", (evil.encode(),))
    connection.commit()
    open_all = "for (const one of inner.querySelectorAll('details')) one.open = true;"
    found, console = measured(browser, written(path), (800,), open_all)
    assert found["800"]["title"].startswith("shmstress soak")
    assert console and all("Content Security Policy" in line for line in console)


@needs_browser
def test_the_page_of_a_finding_works_in_its_frame(browser, page):
    open_all = "for (const one of inner.querySelectorAll('details')) one.open = true;"
    show = "inner.querySelector('iframe').scrollIntoView();"
    found, console = measured(browser, page, (800,), open_all + show)
    assert console == [] and found["800"]["content"] <= 800
