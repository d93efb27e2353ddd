"""What the documents promise: their language, their links, their place in the site."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("benchmarks/*.md")])
SOURCES = sorted(
    p
    for folder in ("shmalloc", "stress", "tests", "examples", "benchmarks")
    for p in (ROOT / folder).rglob("*.py")
)
# Words that turn a process, a kernel or a limit into a person or a riddle.
PRIVATE_ENGLISH = re.compile(
    r"\b(somebody|nobody|anybody|everybody|whoever|in vain|the own)\b", re.IGNORECASE
)
QUOTES_THEM = {"tests/test_docs.py", "tests/test_options.py"}  # they look for these words
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)(?:#[^)]*)?\)")


def name_of(path):
    return str(path.relative_to(ROOT))


def test_no_file_uses_a_private_word():
    assert [
        (name_of(path), number, line)
        for path in DOCS + SOURCES
        if name_of(path) not in QUOTES_THEM and PRIVATE_ENGLISH.search(path.read_text())
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if PRIVATE_ENGLISH.search(line)
    ] == []


def test_every_link_of_a_document_leads_to_a_file():
    links = [(path, link) for path in DOCS for link in LINK.findall(path.read_text())]
    assert [(path, link) for path, link in links if not (path.parent / link).exists()] == []


def test_every_document_has_a_place_in_the_site():
    index = (ROOT / "docs" / "index.md").read_text()
    pages = [p.stem for p in (ROOT / "docs").glob("*.md") if p.stem != "index"]
    assert [page for page in pages if not re.search(rf"^{page}$", index, re.MULTILINE)] == []


def test_the_glossary_defines_thirty_words():
    text = (ROOT / "docs" / "glossary.md").read_text()
    terms = re.findall(r"^(\w[\w ]*)\n: ", text, re.MULTILINE)
    assert len(terms) >= 30 and len(terms) == len(set(terms))


def test_every_dependency_has_its_range_and_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    decision = (ROOT / "docs" / "decisions" / "0001-dependencies.md").read_text()
    rows = dict(re.findall(r"^\| ([\w-]+) \| (>\S+) \| .+ \|$", decision, re.MULTILINE))
    wanted = [re.match(r"([\w-]+)(.*)", text) for text in project["dependencies"]]
    assert {one[1]: one[2] for one in wanted} == rows


def test_every_dependency_has_a_lower_and_an_upper_bound():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [text for group in project["optional-dependencies"].values() for text in group]
    bounds = re.compile(r"[\w-]+>=[\d.]+(,!=[\d.]+)*,<[\d.]+")
    assert [t for t in (*project["dependencies"], *extras) if not bounds.fullmatch(t)] == []
