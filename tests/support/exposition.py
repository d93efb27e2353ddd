"""The rules of Prometheus' text format, checked line by line, without prometheus_client.

After https://prometheus.io/docs/instrumenting/exposition_formats/ and the naming rules of
https://prometheus.io/docs/practices/naming/. ``problems_of`` says what a page breaks.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)?\}})? (\S+)(?: -?\d+)?")
COMMENT = re.compile(rf"# (HELP|TYPE) ({NAME}) (.+)")
KINDS = {"counter", "gauge", "histogram", "summary", "untyped"}
NOT_BASE = re.compile(r"_(milliseconds|ms|us|ns|minutes|hours|kb|kib|mb|mib|pages|percent)(_|$)")

Labels = frozenset[tuple[str, str]]


@dataclass
class Family:
    """One metric: its type, its help, its samples by name and labels."""

    kind: str = ""
    help: str = ""
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)


@dataclass
class Page:
    """A page read: families by name, and what was wrong with its lines."""

    families: dict[str, Family] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def value(self, name: str, **labels: str) -> float:
        """The value of one sample; ``KeyError`` if there is none."""
        key = (name, frozenset(labels.items()))
        for family in self.families.values():
            if key in family.samples:
                return family.samples[key]
        raise KeyError(key)

    def labels(self) -> dict[str, set[str]]:
        """Names of samples, and the names of the labels that they have."""
        found: dict[str, set[str]] = {}
        for family in self.families.values():
            for name, labels in family.samples:
                found.setdefault(name, set()).update(label for label, _ in labels)
        return found

    def values(self, name: str, label: str) -> set[str]:
        """The values that a label of a metric has."""
        return {
            value
            for family in self.families.values()
            for sample, labels in family.samples
            for key, value in labels
            if sample == name and key == label
        }


def read(text: str) -> Page:
    """The page of a text. Problems of its lines are noted, not raised."""
    page, current = Page(), ""
    if not text.endswith("\n"):
        page.problems.append("the last line has no end")
    for line in text.splitlines():
        comment, sample = COMMENT.fullmatch(line), SAMPLE.fullmatch(line)
        if comment:
            kind, name, rest = comment.groups()
            if name != current and name in page.families:
                page.problems.append(f"{name}: its lines are not together")
            current = name
            family = page.families.setdefault(name, Family())
            setattr(family, kind.lower().replace("type", "kind"), rest)
        elif sample:
            _add(page, current, sample)
        elif line and not line.startswith("#"):
            page.problems.append(f"no sample: {line}")
    return page


def _add(page: Page, current: str, sample: re.Match[str]) -> None:
    name, labels, value = sample.groups()
    family = page.families.get(current)
    if family is None or not name.startswith(current):
        page.problems.append(f"{name}: a sample before its HELP and TYPE")
        return
    pairs = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or "")
    key = (name, frozenset(pairs))
    if len(dict(pairs)) != len(pairs) or key in family.samples:
        page.problems.append(f"{name}: twice {labels}")
    family.samples[key] = float(value)


def problems_of(page: Page) -> list[str]:
    """What the page breaks of the format and of the naming rules."""
    found = list(page.problems)
    for name, family in page.families.items():
        if family.kind not in KINDS or not family.help:
            found.append(f"{name}: type {family.kind!r}, help {family.help!r}")
        if (family.kind == "counter") != name.endswith("_total"):
            found.append(f"{name}: a {family.kind} of that name")
        if NOT_BASE.search(name) or name != name.lower():
            found.append(f"{name}: not in base units, or not in small letters")
        if any(value < 0 for value in family.samples.values()) and family.kind == "counter":
            found.append(f"{name}: a counter below zero")
        if family.kind == "histogram":
            found += _problems_of_histogram(name, family)
    return found


def _problems_of_histogram(name: str, family: Family) -> list[str]:
    """Buckets rise with their bounds, the last is the count, and there is a sum."""
    series: dict[Labels, dict[float, float]] = {}
    for (sample, labels), value in family.samples.items():
        bounds = [bound for label, bound in labels if label == "le"]
        if sample == f"{name}_bucket" and bounds:
            rest = frozenset(pair for pair in labels if pair[0] != "le")
            series.setdefault(rest, {})[float(bounds[0])] = value
    found = []
    for labels, buckets in series.items():
        counts = [buckets[bound] for bound in sorted(buckets)]
        if counts != sorted(counts) or math.inf not in buckets:
            found.append(f"{name}: buckets of {set(labels)} do not rise to +Inf")
        if family.samples.get((f"{name}_count", labels)) != counts[-1]:
            found.append(f"{name}: the count of {set(labels)} is not its last bucket")
        if (f"{name}_sum", labels) not in family.samples:
            found.append(f"{name}: no sum of {set(labels)}")
    return found
