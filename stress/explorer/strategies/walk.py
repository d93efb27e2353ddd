"""The loop of the random strategies, made once for each of them.

``walk(ctl, seed, count)`` runs the schedules of ``count`` consecutive seeds. A schedule depends on
its seed, on what earlier ones measured (pct, surw), and on nothing else. A strategy is a module
with three functions in the dialect of kernels, ``start``, ``choose`` and ``after``;
``random_walk.py`` says when each is called. It keeps what it needs in the words of the block from
STRATEGY_OWN on, in PRIORITIES and in the area TREE (table.py).

The loop takes its strategy from its globals, as every kernel does: ``driver_of`` makes the same
function with the three functions of another module in them. So the compiler inlines them, and no
step has to look the strategy up.
"""

from __future__ import annotations

from functools import cache
from types import FunctionType, ModuleType

from shmalloc.engine import ops
from shmalloc.engine.control import scheduler
from shmalloc.units import Control
from stress.explorer.strategies.loop import finish
from stress.explorer.strategies.pending import pending_at, pending_op
from stress.explorer.strategies.random_walk import after, choose, start
from stress.machine import block as cb
from stress.machine.choices import decide, values_of
from stress.machine.schedule import begin, draw, mix, settle, step_or_settle
from stress.machine.visibility import gather

PARTS = ("start", "choose", "after")


@scheduler
def walk(ctl: Control, seed: int, count: int) -> int:
    """Run ``count`` schedules from ``seed`` on; returns the number before a stop."""
    for k in range(count):
        ctl[cb.RANDOM] = mix(seed + k)
        begin(ctl)
        start(ctl)
        while ctl[cb.OUTCOME] == cb.RUNNING:
            choices = gather(ctl)
            if choices == 0:
                settle(ctl)
            else:
                actor = choose(ctl, choices)
                op = pending_op(ctl, actor)
                at = pending_at(ctl, actor)
                if op == ops.OP_CHOOSE or op == ops.OP_WAIT or op == ops.OP_WAKE:
                    values = values_of(ctl, actor)
                    if values > 1:
                        decide(ctl, actor, draw(ctl, values))
                step_or_settle(ctl, actor)
                if ctl[cb.OUTCOME] == cb.RUNNING:
                    after(ctl, actor, op, at, choices)
        if finish(ctl) == 1:
            return k
    return count


@cache
def driver_of(strategy: ModuleType) -> FunctionType:
    """``walk`` with the functions of ``strategy``; the same function for the same module."""
    parts = {name: getattr(strategy, name) for name in PARTS}
    made = FunctionType(walk.__code__, {**walk.__globals__, **parts}, walk.__name__)
    made.__module__ = strategy.__name__
    made.__qualname__ = walk.__qualname__
    made.__doc__ = walk.__doc__
    return scheduler(made)
