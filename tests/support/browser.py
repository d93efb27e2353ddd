"""Pages in headless Chromium, and pages as trees without it.

The tests with a browser load a page from a file and read the document as it is after the scripts.
Keys and clicks are sent by a second script, put at the end of the page. Without Chromium they are
skipped.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
LOAD_TIMEOUT_S = 120
VOID = {"meta", "link", "br", "img", "input", "hr", "base", "source", "embed"}
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


class Element:
    def __init__(self, tag, attributes, parent):
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.children, self.texts = [], []
        if parent is not None:
            parent.children.append(self)

    def all(self, tag=None, **wanted):
        """Every element below with this tag and these attributes; a class is one of its classes."""
        found = []
        for child in self.children:
            if tag in (None, child.tag) and all(child.has(k, v) for k, v in wanted.items()):
                found.append(child)
            found += child.all(tag, **wanted)
        return found

    def has(self, name, value):
        own = self.attributes.get(name.rstrip("_").replace("_", "-"))
        return own is not None and (value in own.split() if name == "class_" else own == value)

    def text(self):
        parts = [part if isinstance(part, str) else part.text() for part in self.texts]
        return re.sub(r"\s+", " ", "".join(parts)).strip()


class Document(HTMLParser):
    """A page as a tree. Raises if an element is closed that is not open."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.root = self.open = Element("", {}, None)
        self.feed(page)
        self.close()
        assert self.open is self.root

    def handle_starttag(self, tag, attrs):
        element = Element(tag, {name: value or "" for name, value in attrs}, self.open)
        self.open.texts.append(element)
        if tag not in VOID:
            self.open = element

    def handle_startendtag(self, tag, attrs):
        self.open.texts.append(
            Element(tag, {name: value or "" for name, value in attrs}, self.open)
        )

    def handle_endtag(self, tag):
        assert tag == self.open.tag
        self.open = self.open.parent

    def handle_data(self, data):
        self.open.texts.append(data)


class Browser:
    """Headless Chromium that loads a page once and reports the result."""

    def __init__(self, place):
        self.place = place

    def load(self, page, fragment="", script="", width=1400):
        """The document after the scripts, and what was written to the console."""
        path = self.place / "page.html"
        path.write_text(page.replace("</body>", f"<script>{script}</script></body>"))
        done = subprocess.run(
            [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--no-first-run", f"--user-data-dir={self.place / 'profile'}",
             f"--window-size={width},900", "--enable-logging=stderr", "--dump-dom",
             f"{path.as_uri()}{fragment}"],
            capture_output=True, text=True, timeout=LOAD_TIMEOUT_S, check=True,
        )  # fmt: skip
        console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        return Document(done.stdout).root, console


def body_of(root):
    return root.all("body")[0].attributes
