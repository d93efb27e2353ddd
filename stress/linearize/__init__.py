"""Linearizability: is there an order of these overlapping calls that a sequential model allows?

``from stress.linearize import Operation, Model, check``; docs/linearizability.md. The files::

    history    Operation, and Recorder, which stamps the calls of Python threads
    model      Model: a specification as pure functions; OneOf, by_key, keyed
    models     register, queue, stack, set, lock
    allocator  the model of a page allocator
    orders     which operation may come next: by real time, or by program order only
    checker    check: the search
    result     verdicts
    report     a result in words, with a timeline
    recorded   histories that kernels wrote (stress/oracles/histories.py), from any engine

Everything here is plain Python over finished histories; no compiler is imported.
"""

from __future__ import annotations

from stress.linearize.checker import check
from stress.linearize.history import ANY, Operation, Recorder
from stress.linearize.model import Model, OneOf, by_key, keyed
from stress.linearize.part import Part
from stress.linearize.result import Check

__all__ = [
    "ANY", "Check", "Model", "OneOf", "Operation", "Part", "Recorder", "by_key", "check", "keyed",
]  # fmt: skip
