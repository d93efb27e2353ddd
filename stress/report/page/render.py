"""The page: pictures are drawn, the template lays everything out, the style and the script go in.

The page is one file and needs no other: no server, no network, no font. It can be read without its
script, which only reads values out of the pictures, hides lines and copies commands.

Rules:
- the template engine escapes every text of a database; none goes into a script, style or picture
- the content security policy names the scripts of the page by their digest: this one, and that of
  the explorer's pages. A script that came into the page by a hole in the rule above would not run
- a page of a finding is in a frame of its own origin, which can reach neither this page nor the
  network
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from shmalloc import __version__
from stress.report.page import words
from stress.report.page.charts import Drawn, draw_chart, draw_latencies, most_called
from stress.report.page.comparing import bars, bounds_text, conclusion
from stress.report.page.grids import NO_VALUE, STATE_COLOURS, draw_grid, has_gaps, scale_of
from stress.report.page.model import Report
from stress.verdict import Verdict

LATENCY_COLUMNS = ("Calls", "p50", "p90", "p99", "p99.9", "Longest")
KNOWN_VERDICTS = {verdict.name for verdict in Verdict} | {"LOST"}
THINNING = (
    "Pictures show the first, least, greatest and last sample of each of their columns; nothing is"
    " averaged. Tables are of all samples."
)
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def render(report: Report) -> str:
    """``report`` as the text of a page."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(
        states=STATE_COLOURS,
        known_verdicts=KNOWN_VERDICTS,
        latency_columns=LATENCY_COLUMNS,
        version=__version__,
        thinning=THINNING,
        markup=Markup,
        ratio=words.ratio,
        scale_of=scale_of,
        has_gaps=has_gaps,
        no_value=NO_VALUE,
        bounds=bounds_text,
        conclusion=conclusion,
    )
    script, both = _file("page.js"), report.comparison
    return environment.from_string(_file("page.html.j2")).render(
        report=report,
        verdict_class=report.verdict.name.lower() if report.verdict else "",
        sections=sections_of(report),
        drawn=pictures_of(report),
        latencies_left_out=len(report.latencies) - len(most_called(report.latencies)),
        compared_rows=list(zip(both.pairs, bars(both), strict=True)) if both else [],
        style=Markup(_file("page.css")),
        script=Markup(script),
        scripts=" ".join(f"'sha256-{_digest(text)}'" for text in (script, *_explorer_scripts())),
    )


def sections_of(report: Report) -> list[tuple[str, str]]:
    """The sections that the page has, for its navigation: id and name."""
    optional = [
        ("comparison", "Comparison", report.comparison),
        ("rate", "Rate", report.rate),
        ("memory", "Memory", report.memory),
        ("descriptors", "Descriptors", report.descriptors),
        ("latency", "Latency", report.latencies),
        ("fragmentation", "Fragmentation", report.fragmentation),
        ("free-blocks", "Free blocks", report.free_blocks),
        ("ram-map", "Map of the RAM", report.ram_map),
        ("marks", "Marks", report.marks),
        ("rounds", "Rounds", report.rounds),
        ("features", "Features", report.features),
        ("environment", "Environment", report.environment),
    ]
    always = [("what", "What ran"), ("findings", "Findings")]
    return always + [(key, name) for key, name, there in optional if there]


def pictures_of(report: Report) -> Mapping[str, Drawn]:
    """Each picture of the page by the key of what it shows."""
    charts = [report.rate, report.memory, report.descriptors, report.fragmentation]
    drawn = {chart.key: draw_chart(chart) for chart in charts if chart is not None}
    grids = [grid for grid in (report.free_blocks, report.ram_map) if grid is not None]
    drawn |= {grid.key: draw_grid(grid) for grid in grids}
    if report.latencies:
        drawn["latency"] = draw_latencies(report.latencies)
    return drawn


def _file(name: str, package: str = "stress.report.page") -> str:
    return resources.files(package).joinpath(name).read_text("utf-8")


@cache
def _explorer_scripts() -> tuple[str, ...]:
    """The script of the explorer's pages, which stand in frames of this page."""
    return tuple(_SCRIPT.findall(_file("page.html.j2", "stress.explorer.report")))


def _digest(script: str) -> str:
    return b64encode(hashlib.sha256(script.encode()).digest()).decode()
