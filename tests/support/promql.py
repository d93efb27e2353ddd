"""What a query in PromQL asks for, checked against a page of metrics: a small part of the language.

Functions, aggregations with ``by``, selectors with matchers, ranges, numbers, comparisons and the
variables of a dashboard. Everything else is a problem, so that no query passes unread.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from support.exposition import Page

OF_PROMETHEUS = {"instance", "job", "le"}  # labels that it adds to a series, and that of buckets
FUNCTIONS = {"sum", "max", "rate", "increase", "histogram_quantile", "time"}
VARIABLES = {"$instance", "$operation", "$__rate_interval"}
CLOSING = {")": "(", "}": "{", "]": "["}
TOKEN = re.compile(
    r"""(?P<name>[a-zA-Z_][a-zA-Z0-9_]*)
      | (?P<text>"[^"]*")
      | (?P<variable>\$\w+)
      | (?P<number>\d+(?:\.\d+)?[smhd]?)
      | (?P<other>=~|!~|!=|==|>=|<=|[-+*/%<>=(){}\[\],])
      | (?P<space>\s+)""",
    re.VERBOSE,
)


class Token(NamedTuple):
    """One word of a query. ``inside``: the innermost bracket that is open there."""

    kind: str
    text: str
    inside: str


def problems_of(query: str, page: Page) -> list[str]:
    """Metrics, labels, values, functions and variables of a query that the page does not have."""
    tokens, found = _tokens_of(query)
    metrics = [one.text for one in tokens if one.kind == "name" and "shmalloc_" in one.text]
    known = page.labels()
    found += [f"no metric {name}" for name in metrics if name not in known]
    labels = set().union(*(known.get(name, set()) for name in metrics)) | OF_PROMETHEUS
    for at, token in enumerate(tokens):
        if token.kind == "variable" and token.text not in VARIABLES:
            found.append(f"no variable {token.text}")
        if token.kind != "name" or token.text in metrics:
            continue
        if token.inside == "{":
            value = tokens[at + 2].text if at + 2 < len(tokens) else ""
            found += _problems_of_matcher(metrics, token.text, value, page)
        if token.inside in ("{", "by"):
            found += [] if token.text in labels else [f"no label {token.text}"]
        elif token.text not in FUNCTIONS | {"by"}:
            found.append(f"no function {token.text}")
    return found


def _problems_of_matcher(metrics: list[str], label: str, value: str, page: Page) -> list[str]:
    variables = re.findall(r"\$\w+", value)
    if variables:
        return [f"no variable {name}" for name in variables if name not in VARIABLES]
    known = set().union(*(page.values(name, label) for name in metrics))
    return [f"no value {one} of {label}" for one in value.strip('"').split("|") if one not in known]


def _tokens_of(query: str) -> tuple[list[Token], list[str]]:
    """The words of a query, and what is wrong with them."""
    tokens: list[Token] = []
    open_ones: list[str] = []
    at = 0
    while at < len(query):
        match = TOKEN.match(query, at)
        if match is None:
            return tokens, [f"no token at {query[at:]}"]
        at, text = match.end(), match.group()
        if match.lastgroup == "space":
            continue
        if text in CLOSING and (not open_ones or open_ones.pop() not in (CLOSING[text], "by")):
            return tokens, ["brackets do not match"]
        tokens.append(Token(str(match.lastgroup), text, open_ones[-1] if open_ones else ""))
        if text in CLOSING.values():
            after_by = len(tokens) > 1 and tokens[-2].text == "by"
            open_ones.append("by" if after_by else text)
    return tokens, ["brackets do not match"] if open_ones else []
