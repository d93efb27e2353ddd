"""The page of a failure: what it says without a browser, and what its script does in one."""

from __future__ import annotations

import re
from dataclasses import replace
from html import escape

import pytest

from stress.explorer.report import wording
from stress.explorer.report.failure import Blocked
from stress.explorer.report.html import MOST_ROWS
from support import failures
from support.browser import Browser, Document, body_of, needs_browser

scenarios = pytest.mark.parametrize(
    "scenario", failures.ALL, ids=lambda scenario: scenario.__name__
)


def parsed(failure):
    return Document(failure.html()).root


def rows_of(root):
    return root.all("table", id="steps")[0].all("tbody")[0].all("tr")


def self_waiting():
    failure = failures.deadlock()
    alone = (Blocked(1, 2, 1, False, None),)
    return replace(failure, trace=replace(failure.trace, blocked=alone))


# --- without a browser ---------------------------------------------------------------------------
@scenarios
def test_a_page_needs_nothing_but_itself(scenario):
    page = scenario().html()
    root = Document(page).root
    used = [
        e.attributes.get(name) for e in root.all() for name in ("src", "href", "data", "action")
    ]
    assert all(use.startswith("#") for use in used if use is not None)
    assert not root.all("link") and not root.all("iframe") and not root.all("img")
    styles = " ".join(
        [e.text() for e in root.all("style")]
        + [e.attributes.get(name, "") for e in root.all() for name in ("style", "marker-end")]
    )
    assert "@import" not in styles
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", styles))
    assert not re.search(r"https?://", page)


@scenarios
def test_every_step_is_in_the_text_of_the_page_in_the_lane_of_its_cpu(scenario):
    failure = scenario()
    rows = {row.attributes["data-key"]: row for row in rows_of(parsed(failure))}
    for step in failure.trace.steps:
        lanes = rows[str(step.index)].all("td", class_="lane")
        said = re.sub(r"\s", "", lanes[step.cpu].text())
        assert said.startswith(str(wording.words_of(step)).replace(" ", ""))
        assert [lane.text() for lane in lanes if lane is not lanes[step.cpu]] == [""] * (
            failure.trace.cpus - 1
        )


def test_a_step_has_its_calls_with_file_line_function_and_the_lines_around():
    root = parsed(failures.deadlock())
    detail = root.all("article", id="step=3")[0]
    inner, outer = (
        failures.site_of(failures.lock, "cas(mem, i"),
        failures.site_of(failures.two_then_four, "lock(mem, 4"),
    )
    assert f"failures.py:{inner.line} in lock" in detail.text()
    assert f"failures.py:{outer.line} in two_then_four" in detail.text()
    here = detail.all("span", class_="here")
    assert [line.text() for line in here] == [f"{inner.line} while not cas(mem, i, 0, cpu + 1):"]
    assert "def lock(mem, i, cpu):" in detail.text() and "relax(mem)" in detail.text()


@scenarios
def test_every_link_leads_to_a_part_of_the_page(scenario):
    root = parsed(scenario())
    ids = [e.attributes["id"] for e in root.all() if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    links = [e.attributes["href"] for e in root.all("a")]
    assert links and {link.removeprefix("#") for link in links} <= set(ids)


def test_names_source_and_cause_are_text_whatever_is_in_them():
    failure = failures.out_of_range()
    root = parsed(failure)
    assert root.all("h1")[0].text() == "<b>beyond</b> & more: memory"
    assert root.all("title")[0].text() == "<b>beyond</b> & more: memory"
    assert root.all("p", class_="cause")[0].text() == "cpu 0 writes <word 99> of 16 & dies."
    line = 'if 1 < 2 and mem[0] >= 0:  # a line with <b>markup</b> & "quotes" in it'
    box = rows_of(root)[0].all("div", class_="box")[0]
    assert box.attributes["title"].endswith(line)
    assert re.sub(r"\s+", " ", line) in box.text()
    assert root.all("b") == [] and root.all("word") == []


def test_a_token_cannot_leave_its_place():
    token = "'</code><script>document.title = 'gone'</script>\""
    root = parsed(replace(failures.race(), schedule=token))
    assert repr(token) in root.all("code", id="token")[0].text()
    assert len(root.all("script")) == 1


def test_facts_of_the_search_are_in_the_head_of_the_page():
    facts = parsed(failures.store_buffering()).all("ul", class_="facts")[0].text()
    for fact in (*failures.store_buffering().facts, "memory model tso", "6 steps"):
        assert fact in facts


@scenarios
def test_there_is_an_arrow_for_every_switch_and_one_for_the_pair(scenario):
    failure = scenario()
    arrows = parsed(failure).all("svg", class_="arrows")[0]
    steps = failure.trace.steps
    preempted = sum(step.preempted for step in steps)
    assert len(arrows.all("g", class_="preempt")) == preempted
    assert len(arrows.all("g", class_="switch")) == sum(s.switched for s in steps) - preempted
    assert len(arrows.all("g", class_="conflict")) == (failure.trace.conflict is not None)


def test_the_arrow_of_the_pair_goes_from_the_earlier_step_to_the_later():
    root = parsed(failures.torn())  # from cpu 1 at step 1 to cpu 0 at step 2
    down, across, into = root.all("g", class_="conflict")[0].all("line")
    assert (across.attributes["x1"], across.attributes["x2"]) == ("50.0%", "0.0%")
    assert float(down.attributes["y1"]) < float(into.attributes["y2"])


def test_exactly_the_two_steps_of_the_pair_are_marked():
    for scenario in (failures.race, failures.torn, failures.store_buffering):
        failure = scenario()
        marked = [
            r.attributes["data-key"]
            for r in rows_of(parsed(failure))
            if r.has("class_", "conflict")
        ]
        assert marked == [str(index) for index in failure.trace.conflict]


@pytest.mark.parametrize(
    ("scenario", "words"),
    [
        (failures.deadlock, ["cpu 0", "word 4", "cpu 1", "word 2"]),
        (self_waiting, ["cpu 1", "word 2"]),
    ],
)
def test_the_cycle_of_a_deadlock_is_drawn_and_told(scenario, words):
    failure = scenario()
    root = parsed(failure)
    drawing = root.all("svg", class_="cycle")[0]
    assert [text.text() for text in drawing.all("text")] == words
    assert len(drawing.all("circle")) == len(wording.cycle_of(failure.trace.blocked))
    sentence = wording.waiting_lines(failure.trace.blocked)[0]
    assert sentence in [item.text() for item in root.all("li")]


def test_without_a_wait_nothing_is_drawn():
    assert parsed(failures.race()).all("svg", class_="cycle") == []


def test_a_step_of_a_pair_belongs_to_both_of_its_words():
    rows = rows_of(parsed(failures.torn()))
    assert [row.attributes["data-words"] for row in rows] == ["6", "6 7", "7"]


def test_a_long_trace_is_folded_and_says_how_many_steps_are_missing():
    failure = failures.long_run(2500)
    root = parsed(failure)
    rows = rows_of(root)
    keys = [row.attributes["data-key"] for row in rows if not row.has("class_", "gap")]
    assert len(rows) <= MOST_ROWS
    missing = f"{5000 - len(keys):,} of 5,000 steps are left out"
    assert root.all("p", id="left-out")[0].text().startswith(missing)
    assert {"1250", "3750", "2499", "2500", "4999"} <= set(keys)


def test_a_trace_that_fits_is_shown_whole():
    root = parsed(failures.long_run(400))
    assert len(rows_of(root)) == 800 and root.all("p", id="left-out") == []


# --- in a browser --------------------------------------------------------------------------------
@pytest.fixture
def browser(tmp_path):
    return Browser(tmp_path)


def shown(root):
    """The headings of the details that can be seen."""
    return [a.all("h3")[0].text() for a in root.all("article", class_="shown")]


def press(*keys):
    return "".join(
        f"document.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}'}}));" for key in keys
    )


@needs_browser
@scenarios
def test_the_script_runs_without_a_word_on_the_console(browser, scenario):
    failure = scenario()
    root, console = browser.load(failure.html())
    assert console == []
    assert body_of(root)["data-ready"] == "yes"
    assert len(root.all("th", class_="lane")) == failure.trace.cpus
    assert len(shown(root)) == 1


@needs_browser
def test_an_error_on_the_console_would_be_seen(browser):
    _, console = browser.load(failures.race().html(), script="noSuchFunction();")
    assert any("noSuchFunction" in line for line in console)


@needs_browser
def test_a_step_in_the_address_is_the_one_that_is_shown(browser):
    root, _ = browser.load(failures.failed_check().html(), "#step=3")
    assert body_of(root)["data-step"] == "3"
    assert shown(root) == ["step 3, cpu 0: write [0] <- 1"]
    assert [r.attributes["data-key"] for r in rows_of(root) if r.has("class_", "current")] == ["3"]


@needs_browser
@pytest.mark.parametrize(
    ("scenario", "first"),
    [(failures.torn, "1"), (failures.out_of_range, "failed"), (failures.deadlock, "stuck-0")],
)
def test_without_one_in_the_address_the_page_opens_where_it_went_wrong(browser, scenario, first):
    root, _ = browser.load(scenario().html(), "#step=99")
    assert body_of(root)["data-step"] == first


@needs_browser
def test_keys_move_through_the_steps(browser):
    moves = [
        ("ArrowDown", "1"), ("ArrowRight", "2"), ("ArrowUp", "1"), ("ArrowLeft", "0"),
        ("ArrowUp", "0"), ("End", "3"), ("ArrowDown", "3"), ("Home", "0"),
        ("s", "1"), ("s", "3"), ("c", "0"), ("c", "2"), ("x", "2"),
    ]  # fmt: skip
    note = "document.body.dataset.went += ' ' + document.body.dataset.step;"
    script = "document.body.dataset.went = '';" + "".join(press(key) + note for key, _ in moves)
    root, console = browser.load(failures.failed_check().html(), "#step=0", script)
    assert console == []
    assert body_of(root)["data-went"].split() == [step for _, step in moves]
    assert shown(root) == ["step 2, cpu 1: write [0] <- 1"]


@needs_browser
def test_keys_with_a_modifier_belong_to_the_browser(browser):
    held = "document.dispatchEvent(new KeyboardEvent('keydown', {key: 'End', ctrlKey: true}));"
    root, _ = browser.load(failures.failed_check().html(), "#step=0", held)
    assert body_of(root)["data-step"] == "0"


@needs_browser
def test_a_click_on_a_word_highlights_every_access_to_it_and_escape_ends_that(browser):
    click = "document.querySelector('#steps button[data-word=\"0\"]').click();"
    page = failures.store_buffering().html()
    root, console = browser.load(page, script=click)
    assert console == []
    assert [r.attributes["data-key"] for r in rows_of(root) if r.has("class_", "hit")] == [
        "0",
        "3",
        "4",
    ]
    assert root.all("div", id="lanes")[0].has("class_", "filtering")
    pressed = root.all("button", aria_pressed="true")
    assert [button.attributes["data-word"] for button in pressed] == ["0"]

    root, _ = browser.load(page, script=click + press("Escape"))
    assert not [row for row in rows_of(root) if row.has("class_", "hit")]
    assert not root.all("div", id="lanes")[0].has("class_", "filtering")


@needs_browser
def test_a_click_on_a_step_shows_it(browser):
    click = "document.querySelector('tr[data-key=\"2\"] .src').click();"
    root, _ = browser.load(failures.failed_check().html(), script=click)
    assert shown(root) == ["step 2, cpu 1: write [0] <- 1"]


@needs_browser
def test_the_selected_step_is_scrolled_into_the_lanes_and_the_page_stays_at_its_head(browser):
    measure = """
      const row = document.querySelector("tr.current").getBoundingClientRect();
      const lanes = document.querySelector(".scroller").getBoundingClientRect();
      document.body.dataset.inside = String(row.top > lanes.top && row.bottom < lanes.bottom);
      addEventListener("load", () => { document.body.dataset.top = String(scrollY); });
    """
    root, _ = browser.load(failures.long_run(600).html(), "#step=900", measure)
    assert body_of(root)["data-inside"] == "true"
    assert body_of(root)["data-top"] == "0"


@needs_browser
def test_dots_and_arrows_meet(browser):
    """The arrows are placed by arithmetic and the rows by the browser: both must agree."""
    measure = """
      const middle = (e) => { const r = e.getBoundingClientRect();
        return [r.left + r.width / 2, r.top + r.height / 2]; };
      const dots = [...document.querySelectorAll(".dot")].map(middle);
      const tips = [...document.querySelectorAll(".arrows g:not(.conflict)")].map((g) => {
        const r = g.lastElementChild.getBoundingClientRect();
        return [r.left + r.width / 2, r.bottom]; });
      const apart = tips.map(
        ([x, y]) => Math.min(...dots.map(([u, v]) => Math.hypot(x - u, y - v))));
      document.body.dataset.apart = String(Math.max(...apart));
    """
    root, _ = browser.load(failures.long_run(5, cpus=8).html(), script=measure)
    assert float(body_of(root)["data-apart"]) < 8


# --- at the width of a telephone ------------------------------------------------------------------
NARROW = 400  # headless Chromium makes a page at least 500 wide, so the page is put in a frame
MEASURE = """
const frame = document.createElement("iframe");
frame.style.cssText = "width: 400px; height: 800px; border: 0";
frame.srcdoc = document.body.dataset.inner;
frame.addEventListener("load", () => {
  const inner = frame.contentDocument;
  const seen = (element) => element.getClientRects().length > 0;
  const boxes = [...inner.querySelectorAll("#steps .box")];
  const data = document.body.dataset;
  data.width = frame.contentWindow.innerWidth;
  data.content = inner.documentElement.scrollWidth;
  data.widest = Math.max(...boxes.map((box) => box.getBoundingClientRect().right));
  data.narrowest = Math.min(...boxes.map((box) => box.getBoundingClientRect().width));
  const said = (box) => getComputedStyle(box, "::before").content.match(/cpu (\\d+)/)?.[1];
  data.lanes = boxes.map(said).join();
  data.empty = [...inner.querySelectorAll("td.lane.other, .arrows")].filter(seen).length;
  data.heads = [...inner.querySelectorAll("thead th.lane")].filter(seen).map((h) => h.textContent);
});
document.body.append(frame);
"""


@needs_browser
@pytest.mark.parametrize("scenario", [failures.torn, failures.deadlock, failures.store_buffering])
def test_a_narrow_page_has_one_column_that_names_the_lane_of_each_step(browser, scenario):
    failure = scenario()
    outer = f'<html><body data-inner="{escape(failure.html())}"></body></html>'
    root, console = browser.load(outer, script=MEASURE)
    assert console == []  # a page in a frame has no address to write a step into
    data = body_of(root)
    assert int(data["data-width"]) == NARROW
    assert int(data["data-content"]) <= NARROW  # nothing to scroll sideways
    assert float(data["data-widest"]) <= NARROW and float(data["data-narrowest"]) > NARROW / 2
    assert data["data-empty"] == "0"
    assert data["data-heads"].split(",") == failure.lanes  # the legend
    rows = [*failure.trace.steps, *failure.trace.blocked]
    assert data["data-lanes"].split(",") == [str(row.cpu) for row in rows]


@needs_browser
def test_a_wide_page_has_a_lane_for_each_cpu(browser):
    outer = f'<html><body data-inner="{escape(failures.torn().html())}"></body></html>'
    root, _ = browser.load(outer, script=MEASURE.replace("400px", "1200px"))
    assert int(body_of(root)["data-empty"]) > 0
