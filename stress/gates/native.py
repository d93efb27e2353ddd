"""``GateRam``, compiled: the segment as kernels see it whose processes are held at gates.

One more kind of memory, beside ``Ram`` and ``JitterRam``: its hooks are those of state.py. Nothing
of it is in code that was compiled over another kind.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from shmalloc.compiler import runtime, words
from shmalloc.compiler.code import Code
from shmalloc.compiler.kinds import Kind, Meaning, Registers
from shmalloc.compiler.runtime import EXTRA
from shmalloc.engine.hooks import hooked_meanings
from shmalloc.engine.native import Native
from shmalloc.memory import Ram
from stress.gates import state as gate_state
from stress.jitter.native import FILES as JITTER_FILES
from stress.jitter.native import get_word, nap, no_fault, set_word

SECONDS_OF_A_SLEEP = 3600  # the model's ends by a wake alone
_TIMESPEC = 2  # of a place (compiler/runtime.py)
FILES = (__file__, gate_state.__file__, *JITTER_FILES)
MEANINGS: dict[str, Meaning] = {
    "getitem": get_word,
    "setitem": set_word,
    "nap": nap,
    "clock": words.clock,
    "relax": words.pause,
}
STATE = Kind("gate_state", ("base",), MEANINGS, no_fault, files=FILES)


def _gate_of(code: Code, memory: Registers, arguments: list[str]) -> list[str]:
    return [memory["gate"]]


def _gates() -> Kind:
    fields = ("base", "words", "call", "gate")
    kind = Kind("gate", fields, {}, runtime.fault, {"gate_of": STATE}, FILES)
    bare = words.BARE
    kind.meanings.update(hooked_meanings(kind, gate_state.before, gate_state.after, bare))
    kind.meanings.update({"gate_of": _gate_of, "sleep": bare["wait"]})
    kind.meanings["wait"] = gate_state.gated_wait
    kind.meanings["choose"] = gate_state.gated_choose
    kind.meanings["now"] = gate_state.gated_now
    return kind


GATES = _gates()


class GateRam(Ram):
    """Words whose kernels stop at gates. ``block``: the gate words of this process."""

    kind = "gate"

    def __init__(self, buffer: Any, block: np.ndarray) -> None:
        super().__init__(buffer)
        self._block = block
        self._place[EXTRA] = block.ctypes.data
        self._place[_TIMESPEC] = SECONDS_OF_A_SLEEP


class GateEngine(Native):
    """Kernels compiled over ``GateRam``."""

    name = "gate"

    def __init__(self) -> None:
        super().__init__(GATES)
