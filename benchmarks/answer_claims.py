"""What the sentences of docs/the-answer.md say about the figures, as tests of the figures.

Sentences say more than figures: that something is larger, that it does not matter. Each such
statement is a ``Claim`` with the condition that the figures must meet. The last block of the
document prints them, and benchmarks/answer.py ends with 1 if one fails: then a sentence is wrong,
and a person must write another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

Data = dict[str, Any]
SAME = 1.15  # ratios within this are called no difference
STRAYS = ("plain.links", "plain.any", "poison.links", "poison.any")


class Claim(NamedTuple):
    """A statement of the text, what is measured for it, and whether it holds."""

    text: str
    value: Callable[[Data], float]
    holds: Callable[[float], bool]


def elsewhere(made: Data) -> list[str]:
    """The stores that keep nothing in the page."""
    return [store for store in made["stores"] if store != "page"]


def ratio(name: str) -> Callable[[Data], float]:
    return lambda made: float(
        made["between"][name.format(n=made["scattered"], many=made["many"])]["ratio"]
    )


def figure(made: Data, name: str) -> float:
    """A figure in F."""
    return float(made["figures"][name.format(many=made["many"])]["ratio"])


def extra(made: Data, step: str) -> float:
    """F that a step of many pages takes longer with links in the page than in the descriptor."""
    name = f"step.{{many}}.{step}."
    return figure(made, name + "page") - figure(made, name + "descriptor")


def worst(name: str, hazard: str, value: str) -> Callable[[Data], float]:
    """The largest value of one outcome over the stores that ``name`` says."""

    def of(made: Data) -> float:
        stores = made["stores"] if name == "all" else elsewhere(made)
        return float(max(made["hazards"][store]["stray"][hazard][value] for store in stores))

    return of


CLAIMS = (
    Claim("hot pages: the place does not matter (page / descriptor)",
          ratio("pair.page/descriptor"), lambda x: 1 / SAME < x < SAME),
    Claim("scattered pages that are never used: links in the page take longer",
          ratio("scattered.{n}.untouched.page/descriptor"), lambda x: x > SAME),
    Claim("an owner that writes one line of pages that stay in a cache takes most of it away",
          lambda made: ratio("scattered.{n}.untouched.page/descriptor")(made)
          / ratio("scattered.{n}.touched.page/descriptor")(made), lambda x: x > SAME),
    Claim("then links in the page take less than half as long again",
          ratio("scattered.{n}.touched.page/descriptor"), lambda x: x < 1.5),
    Claim("and an owner that fills the page leaves as little",
          ratio("scattered.{n}.filled.page/descriptor"), lambda x: x < 1.5),
    Claim("pages that have left the caches when they are freed: the difference stays",
          ratio("scattered.{many}.touched.page/descriptor"), lambda x: x > 1.5),
    Claim("it is the free that takes longer there, more than the allocation",
          lambda made: extra(made, "free") - extra(made, "allocate"), lambda x: x > 0),
    Claim("fragmented memory makes the difference of unused pages no smaller",
          lambda made: ratio("fragmented.{n}.untouched.page/descriptor")(made)
          / ratio("scattered.{n}.untouched.page/descriptor")(made), lambda x: x > 1 / SAME),
    Claim("arrays are not ahead of links in descriptors (index / descriptor)",
          lambda made: figure(made, "scattered.{many}.touched.index")
          / figure(made, "scattered.{many}.touched.descriptor"), lambda x: x > 0.95),
    Claim("memory that was given out and never used is resident with links in the page only",
          lambda made: made["memory"]["page"]["given out MiB"]
          / max(made["memory"][store]["given out MiB"] for store in elsewhere(made)),
          lambda x: x > 10),
    Claim("no stray write makes the allocator give a page twice, on any store",
          lambda made: max(worst("all", key, "twice")(made) for key in STRAYS), lambda x: x == 0),
    Claim("one stray write takes at most one page out of service",
          lambda made: max(worst("all", key, "most_lost")(made) for key in STRAYS),
          lambda x: x <= 1),
    Claim("a stray write over a link is always reported with links in the page",
          lambda made: min(f["reported"] / f["writes"] for f in
                           [made["hazards"]["page"]["stray"]["plain.links"]]), lambda x: x == 1),
    Claim("elsewhere no stray write is seen without poison",
          worst("others", "plain.any", "reported"), lambda x: x == 0),
    Claim("an owner in each tail of a block of order 9 makes its pair more expensive",
          ratio("tails.9.owner/none"), lambda x: x > 2),
    Claim("up to order 3 it costs little",
          ratio("tails.3.owner/none"), lambda x: x < 1.5),
)  # fmt: skip
HUGE_CLAIM = Claim(
    "in huge pages a difference is left (page / descriptor, many pages, one line)",
    ratio("huge.{many}.touched.page/descriptor"), lambda x: x > 1.05,
)  # fmt: skip


def claims_of(made: Data) -> tuple[Claim, ...]:
    return CLAIMS if made["huge"]["way"] is None else (*CLAIMS, HUGE_CLAIM)


def broken_claims(made: Data) -> list[str]:
    """What the text says and the figures do not."""
    return [
        f"{claim.text}: {claim.value(made):.2f}"
        for claim in claims_of(made)
        if not claim.holds(claim.value(made))
    ]


def claims(made: Data) -> str:
    """The block: a row for each."""
    lines = ["| the text says | measured | holds |", "| --- | --- | --- |"]
    for claim in claims_of(made):
        value = claim.value(made)
        holds = "yes" if claim.holds(value) else "**no**"
        lines.append(f"| {claim.text} | {value:.2f} | {holds} |")
    return "\n".join(lines) + "\n"
