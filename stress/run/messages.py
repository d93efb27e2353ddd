"""What controller and workers say to each other, one pipe a worker.

::

    controller -> worker   Go(workload) | Light(writes) | Park | Finish(workload) | Leave
    worker -> controller   Ready | Parked | Finished | Broken

A spare worker has no slot yet: it has loaded everything, says Idle, and waits for the slot of one
that died::

    controller -> spare    Take(cpu, core, log) | Leave
    spare -> controller    Idle, then Ready, or Refused if the slot is unplugged

A worker that reads the end of the pipe has lost its controller and leaves. The pipe is outside of
the segment on purpose: an allocator that scribbles over its own memory cannot forge a message.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Go:
    """Run this workload until the next message."""

    workload: str


@dataclass(frozen=True)
class Light:
    """While at work: die by SIGKILL immediately before the ``writes``-th write from now."""

    writes: int


@dataclass(frozen=True)
class Park:
    """Stop working, put the fuse out, answer ``Parked``; H_STOP makes running kernels return."""


@dataclass(frozen=True)
class Finish:
    """Give back everything that the workload holds, and answer ``Finished``."""

    workload: str


@dataclass(frozen=True)
class Leave:
    """End the process."""


@dataclass(frozen=True)
class Take:
    """Be the worker of this CPU slot, on this core, with this log."""

    cpu: int
    core: int | None
    log: str | None


@dataclass(frozen=True)
class Idle:
    """A spare worker is attached and its kernels are loaded."""


@dataclass(frozen=True)
class Refused:
    """A spare worker could not have the slot."""

    why: str


@dataclass(frozen=True)
class Ready:
    """The worker is attached and its kernels are loaded."""

    pid: int


@dataclass(frozen=True)
class Parked:
    """What was done since ``Go``. ``code`` is negative if the workload could not continue."""

    workload: str
    ops: int
    batches: int
    seconds: float
    longest_batch_s: float
    code: int


@dataclass(frozen=True)
class Finished:
    workload: str
    given_back: int


@dataclass(frozen=True)
class Broken:
    """The worker cannot go on: the kind of a kernel's fault (errors.py), None for our own error."""

    fault: str | None
    text: str
    kernel: str = ""  # that made the fault


Command = Go | Light | Park | Finish | Leave | Take
Answer = Ready | Parked | Finished | Broken | Idle | Refused
