"""``Account``: a failed run, in the form that the printers of this folder take.

text.py, html.py and document.py print any account; failure.py makes one of what the explorer found.
Another caller (crash mode: CPUs that stop for ever) makes a subclass, or builds one from its
program, a trace (``explain.steps_of``; markers for events that are no steps) and a cause. It
overrides what it words differently: ``headline``, ``lanes``, ``facts``, and ``again``, the lines
that repeat the run. Nothing in this folder imports the makers of accounts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from stress.explorer.report.naming import Naming
from stress.explorer.report.trace import Trace
from stress.machine.program import Program, title_of

CODED = ("check", "invariant", "expectation")  # kinds with a code of the user


@dataclass(frozen=True, eq=False, kw_only=True)
class Account:
    """``kind``, ``code``: how it ended, one of trace.KINDS with the code of a check, or a user's
    own word. ``cause``: one sentence or more.
    """

    program: Program
    kind: str
    code: int
    trace: Trace
    cause: str
    memory_model: str = "sc"

    @property
    def headline(self) -> str:
        """``buddy-churn-3: check 6 I_TAIL``."""
        name = self.naming.short_code(self.code) if self.kind in CODED else ""
        code = f" {self.code}" if self.code and self.kind != "arithmetic" else ""
        return f"{self.program.name}: {self.kind}{code}{f' {name}' if name else ''}"

    @property
    def lanes(self) -> list[str]:
        """A title for the lane of each CPU."""
        return [f"cpu {cpu} {title_of(self.program, cpu)}" for cpu in range(self.trace.cpus)]

    @property
    def facts(self) -> list[str]:
        """How the failure was found: a few words for each fact."""
        return []

    @property
    def again_title(self) -> str:
        """The heading of ``again``."""
        return "to see it again:"

    @property
    def again(self) -> list[str]:
        """Lines that repeat the run, each to be copied in one piece; empty if there is none."""
        return []

    @cached_property
    def naming(self) -> Naming:
        return Naming(self.program)
