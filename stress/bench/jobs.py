"""Jobs: one pattern, one allocator and so many workers are a row, and a slice in every round.

Data it owns: what a job is, as it is sent to the workers. Making the list is here; running one is
in runners.py. Each pattern has a segment of its own, because what one leaves behind (whose lists
hold neighbouring pages, say) would be seen in the figure of another. Jobs of one pattern and
allocator share the words of a worker, so that what they hold between slices is there once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stress.bench.catalogue import PAGE, PRIVATE, STORES, Pattern
from stress.bench.peers import Peer

OURS = "shmalloc"
MIB = 1 << 20
LEAST_RAM = 256 * MIB
RAM_A_WORKER = 64 * MIB
SHARED, PRIVATE_HEAP = "shared", "private"


@dataclass(frozen=True)
class Place:
    """A segment of the pattern ``of``. ``keep``: all memory is allocated in single pages first, and
    all but every ``keep``-th freed again; 0: it is fresh."""

    ram_bytes: int
    link_store: str = PAGE
    keep: int = 0
    of: str = ""


@dataclass(frozen=True)
class Job:
    """``who``: the name of the allocator in a report. ``place``: of ours. ``peer``: of others, of
    which each pattern has an ``area`` of shared words."""

    number: int
    pattern: Pattern
    who: str
    workers: int
    area: int = 0
    place: Place | None = None
    peer: Peer | None = None

    @property
    def memory(self) -> str:
        """Whether what is allocated can be used and freed by other processes."""
        return SHARED if self.peer is None or self.peer.shared else PRIVATE_HEAP

    def __str__(self) -> str:
        return f"{self.pattern.name} of {self.who}, workers: {self.workers}"


def ram_bytes(workers: int) -> int:
    """The memory of a segment for so many workers at most."""
    return max(LEAST_RAM, workers * RAM_A_WORKER)


def name_of(place: Place) -> str:
    """Ours, with what is not as usual."""
    return OURS if place.link_store == PAGE else f"{OURS} ({place.link_store})"


def make_jobs(
    patterns: Iterable[Pattern], counts: Sequence[int], peers: Sequence[Peer], full: bool
) -> list[Job]:
    """A job for each pattern, allocator and number of workers that go together."""
    made: list[Job] = []
    ram = ram_bytes(max(counts))
    for pattern in patterns:
        stores = STORES if full and pattern.all_stores else pattern.stores
        for place in (Place(ram, store, of=pattern.name) for store in stores):
            for workers in filter(pattern.fits, _counts(pattern, counts)):
                made.append(Job(len(made), pattern, name_of(place), workers, place=place))
        for peer in peers:
            if peer.kind in pattern.peers:
                area = _areas(made)
                for workers in _of_peer(pattern, peer, counts):
                    made.append(Job(len(made), pattern, peer.name, workers, area, peer=peer))
    return made


def _areas(made: list[Job]) -> int:
    return max((job.area + 1 for job in made), default=0)


def _counts(pattern: Pattern, counts: Sequence[int]) -> Sequence[int]:
    """From Python only as many as there are without a crowd are of use: one and two."""
    return counts if pattern.timed != "Python" else [n for n in counts if n <= 2]


def _of_peer(pattern: Pattern, peer: Peer, counts: Sequence[int]) -> list[int]:
    """Blocks that another worker frees need a heap that is shared."""
    if pattern.least > 1 and not peer.shared:
        return []
    if peer.kind == PRIVATE or pattern.loop == "kmalloc-replace":
        return [n for n in counts if n == 1]
    return list(filter(pattern.fits, counts))
