"""A worker with a read-only arena, for every start method: a spawned child imports it by name."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from shmalloc import Arena, MisuseError


def refusals(reader: Arena, pfn: int) -> dict[str, str]:
    """What a read-only arena says to each request that would change the memory."""
    requests: dict[str, Callable[[], object]] = {
        "zeros": lambda: reader.zeros(3),
        "array": lambda: reader.array([1, 2]),
        "large": lambda: reader.empty(1 << 18),
        "alloc_pages": reader.alloc_pages,
        "free_pages": lambda: reader.free_pages(pfn),
        "free_pages_bulk": lambda: reader.free_pages_bulk([pfn]),
        "alloc_contig_range": lambda: reader.alloc_contig_range(8, 16),
        "kmalloc": lambda: reader.kmalloc(8),
        "cache": lambda: reader.cache("some", 8),
        "destroy": lambda: reader.open_cache("known").destroy(),
        "lock": reader.lock,
        "queue": lambda: reader.queue(3),
        "recover": reader.recover,
        "drain": reader.drain,
        "unplug": lambda: reader.unplug(7),
        "unlink": reader.unlink,
    }
    said = {}
    for name, request in requests.items():
        try:
            said[name] = repr(request())
        except MisuseError as error:
            said[name] = str(error)
    return said


def work(reader: Arena, given: Any, sealed: Any, pipe: Connection, pfn: int) -> None:
    """A worker that reads: the facts that it tells of, before and after the parent drops."""
    said = refusals(reader, pfn)
    opened = reader.open(pipe.recv())
    told: dict[str, Any] = {
        "readonly": reader.readonly,
        "accepted": [name for name, text in said.items() if "only; attach without" not in text],
        "values": opened.tolist(),
        "writeable": [opened.flags.writeable, sealed.flags.writeable],
        "page": reader.page(pfn).readonly,
        "free": reader.statistics().free_pages > 0,
        "found": reader.validate() == [],
        "again": pickle.loads(pickle.dumps(reader)) is reader,
    }
    pipe.send((told, given))
    pipe.recv()  # the parent has dropped its arrays and written over what is free
    pipe.send((opened.tolist(), sealed.tolist()))
