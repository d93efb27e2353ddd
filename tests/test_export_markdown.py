"""``--markdown``: read by a parser of Markdown that shares no code with the writer."""

import re

import pytest
from markdown_it import MarkdownIt

from stress.report.exports import Exports
from stress.report.markdown import LIMIT_BYTES, markdown
from stress.report.suite import Case, Table
from stress.verdict import Verdict
from support.suites import AGAIN, HOSTILE, finding, hostile, one_of_each, suite

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def tokens(text):
    """All tokens, those inside of a line too."""
    for token in PARSER.parse(text):
        yield token
        yield from token.children or ()


def contents(text, kind):
    return [token.content for token in tokens(text) if token.type == kind]


def rows(text):
    """The cells of all rows of tables, as a viewer shows them."""
    found = []
    parsed = PARSER.parse(text)
    for at, token in enumerate(parsed):
        if token.type == "tr_open":
            found.append([])
        elif token.type in ("td_open", "th_open"):
            children = parsed[at + 1].children or ()
            found[-1].append("".join(child.content for child in children))
    return found


def test_the_verdict_comes_first():
    assert contents(markdown(one_of_each()), "inline")[0] == "shmstress run: FAILED"


def test_the_table_has_a_row_for_each_workload():
    assert rows(markdown(one_of_each())) == [["workload", "ops"], ["churn", "1,234"]]


def test_the_words_of_a_finding_are_folded_away():
    text = markdown(one_of_each())
    html = "".join(contents(text, "html_block"))
    assert html.count("<details>") == html.count("</details>") == 1
    assert "what was seen\n" in contents(text, "fence")


def test_how_to_repeat_it_is_a_block_of_its_own():
    assert contents(markdown(one_of_each()), "fence")[-1] == f"{AGAIN}\n"


@pytest.mark.parametrize("kind", ["html_inline", "link_open", "strong_open", "em_open", "image"])
def test_no_text_of_a_run_becomes_markup(kind):
    assert [token for token in tokens(markdown(hostile())) if token.type == kind] == []


def test_no_text_of_a_run_stands_outside_of_code():
    plain = "".join(contents(markdown(hostile()), "text"))
    assert not re.search(r"[@#<>`\\]|octocat|http", plain)


def test_the_only_html_is_ours():
    html = "".join(contents(markdown(hostile()), "html_block"))
    tags = set(re.findall(r"</?([a-z]+)", html))
    assert tags == {"details", "summary", "code"} and "<!-- shmstress run -->" in html


def test_a_cell_with_bars_and_backslashes_is_one_cell():
    table = Table("T", ("a", "b"), [("x|y", "1"), ("x\\|y", "2"), ("`|`", "3"), ("|", "4")])
    found = rows(markdown(suite(tables=[table])))
    assert found[1:] == [["x|y", "1"], ["x\\ |y", "2"], ["`|`", "3"], ["|", "4"]]


def test_a_block_is_longer_fenced_than_anything_in_it():
    text = markdown(suite(findings=[finding("a\n`````\nb")]))
    assert "a\n`````\nb\n" in contents(text, "fence")


def large(count, lines):
    many = [finding(f"{HOSTILE}\n" * lines, headline=f"number {n}") for n in range(count)]
    table = Table("T", ("name", "n"), [(f"w {n}", f"{n}") for n in range(3_000)], ("n",))
    return suite(findings=many, tables=[table])


@pytest.mark.parametrize("limit", [4_000, LIMIT_BYTES])
@pytest.mark.parametrize(("count", "lines"), [(1, 5_000), (900, 3)])
def test_a_comment_keeps_to_its_limit_and_says_what_is_left_out(limit, count, lines):
    text = markdown(large(count, lines), limit)
    assert len(text.encode("utf-8")) <= limit
    assert re.search(r"\*Cut to [\d,]+ bytes\. Left out: .*row.*\*\n$", text)


def test_what_is_left_out_is_counted():
    text = markdown(large(900, 3))
    shown = len([row for row in rows(text) if row[0] != "name"]), text.count("<summary>")
    left = {noun: int(n.replace(",", "")) for n, noun in re.findall(r"([\d,]+) (row|find)", text)}
    assert (shown[0] + left["row"], shown[1] + left["find"]) == (3_000, 900)


def test_a_cut_comment_still_says_how_to_repeat_it_and_closes_what_it_opened():
    text = markdown(large(1, 5_000))
    assert contents(text, "fence")[-1] == f"{AGAIN}\n"
    assert text.count("<details>") == text.count("</details>") == 1


def test_a_comment_that_fits_says_nothing_of_a_cut():
    assert "Left out" not in markdown(one_of_each())


# --- files ---------------------------------------------------------------------------------------
def passed():
    return suite(Case("workload", "churn", Verdict.PASSED), verdict=Verdict.PASSED)


def test_a_step_summary_is_added_to_and_any_other_file_is_replaced(tmp_path, monkeypatch):
    summary, other = tmp_path / "summary.md", tmp_path / "other.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    for path in (summary, other):
        path.write_text("of the step before\n")
        Exports({"markdown": str(path)}).write(passed)
    assert summary.read_text().startswith("of the step before\n<!-- shmstress run -->")
    assert other.read_text().startswith("<!-- shmstress run -->")
