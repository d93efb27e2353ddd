"""Sphinx: the pages of this folder, and the public API from its docstrings (``tox -e docs``)."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

project = "shmalloc + stress"
copyright = "2026, the shmalloc authors"
version = release = PROJECT["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {version}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
# Unicode typographic quotes would change commands that readers copy.
smartquotes = False

README = (ROOT / "README.md").read_text().split("\n", 1)[1]  # index.md has its title
LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)([^)#]+)\)")


def _in_the_site(link: re.Match[str]) -> str:
    """A link of README as it is said on the first page; a file that no page shows is only named."""
    text, target = link.groups()
    page = target.removeprefix("docs/")
    if page == target:
        return text
    return f"[{text}]({page if page.endswith('.md') else f'{page}/index.md'})"


def _first_page(app: object, name: str, source: list[str]) -> None:
    if name == "index":
        source[0] = source[0].replace("(README)", LINK.sub(_in_the_site, README))


def setup(app: object) -> None:
    app.connect("source-read", _first_page)  # type: ignore[attr-defined]
