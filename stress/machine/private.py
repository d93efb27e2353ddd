"""What a CPU keeps to itself, as one number: the primitive that tells two moments of it apart.

Where it stands in its kernels and what their locals hold. Natively that is the stack of its fiber
with the registers saved on it; interpreted, the frames of its greenlet. Two numbers are equal if
the CPU would do the same from both moments on, given the same memory. They may differ although it
would, where something that is left on the stack differs; and numbers of the two engines have
nothing in common. So no scheduling decision may depend on them: only how far a search can be
trusted (PATIENT, parking.py), and whether a schedule that spins is told to have no end.

Owns nothing. May be asked of a CPU that is stopped at an access only.
"""

from __future__ import annotations

from typing import Any

from shmalloc.dialect import primitive


@primitive("int")
def private_state(ctl: Any, cpu: int) -> int:
    value: int = ctl.private_state(cpu)
    return value
