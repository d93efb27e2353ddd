"""The live view of a soak on a terminal, drawn by rich on standard error four times a second.

::

  soak ███████░░░░░░░░░░░░░░░░░  12m 5s of 8h, until 14:32   34 rounds, 1 finding
    run 24 passed 1 failed, explore 6 passed, crash 3 passed
  round 35 (run): churn, frag, fault:kill, delays, several-zones              12.3s of 20s
    1.2M operations per second, 12,345 of 65,536 pages in use, 3 audits
    fragmentation ▁▁▂▃▅▇ 0.42
    private memory: soak 61MiB, controller 80MiB, forkserver 55MiB, 4 workers 12MiB each at most
  !!! 56f3069b858a I_UNMERGED: ... 12 rounds

A frame is made of the sample that was recorded last, so it shows what the database has. Lines are
cropped at the edge of the terminal. Findings and what is done about them stay above the frame.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.text import Text

from stress.progress import Step
from stress.quantities import counted, exact_bytes, short
from stress.report.cells import bar, levels, one_line
from stress.run.process_use import ProcessUse
from stress.run.progress import Moment
from stress.soak.draw import Round
from stress.soak.messages import Outcome
from stress.soak.spec import KINDS
from stress.soak.standing import Standing
from stress.soak.view import LineView
from stress.verdict import Verdict

DRAW_EVERY_S = 0.25
BAR_CELLS = 24
SPARKS = 60  # samples in the line of fragmentation
SHOWN_FINDINGS = 6
_MIB = 1 << 20


class LiveView(LineView):
    """``always``: draws even if standard error is no terminal."""

    def __init__(self, always: bool = False) -> None:
        screen = Console(stderr=True, force_terminal=True if always else None, force_jupyter=False)
        super().__init__(lambda text: screen.print(Text(str(text).rstrip("\n"))))
        self._live = Live(console=screen, auto_refresh=False, transient=True)
        self._due_s = 0.0
        self.frame: Frame | None = None

    def begin(self, duration_s: float, standing: Standing, clock: Callable[[], float]) -> None:
        self.frame = Frame(duration_s, standing, clock)
        self._live.start()

    def round(self, begun: Round) -> None:
        super().round(begun)
        if self.frame is not None:
            self.frame.begin(f"round {begun.number} ({begun.kind}): {begun.words}")

    def doing(self, what: str) -> None:
        if self.frame is not None:
            self.frame.begin(what)

    def ended(self, done: Round, outcome: Outcome) -> None:
        if outcome.verdict is not Verdict.PASSED:  # the others are counted in the frame
            super().ended(done, outcome)

    def moment(self, moment: Moment) -> None:
        if self.frame is not None:
            self.frame.take(moment)

    def step(self, step: Step) -> None:
        if self.frame is not None:
            self.frame.going = step

    def finding(self, fingerprint: str, text: str) -> None:
        super().finding(fingerprint, text)
        if self.frame is not None:
            self.frame.findings[fingerprint] = text

    def tick(self) -> None:
        now_s = time.monotonic()
        if self.frame is not None and now_s >= self._due_s:
            self._due_s = now_s + DRAW_EVERY_S
            self._live.update(self.frame, refresh=True)

    def end(self) -> None:
        self._live.stop()


class Frame:
    """What is known at this moment, drawn when rich asks."""

    def __init__(self, duration_s: float, standing: Standing, clock: Callable[[], float]) -> None:
        self._duration_s = duration_s
        self._standing = standing
        self._clock = clock
        self.findings: dict[str, str] = {}
        self.begin("starting")

    def begin(self, what: str) -> None:
        """Something else is done from now on."""
        self._what = what
        self.going: Step | None = None
        self._now: Moment | None = None
        self._before: Moment | None = None
        self._fragmentation: deque[float] = deque(maxlen=SPARKS)

    def take(self, moment: Moment) -> None:
        self._before, self._now = self._now, moment
        self._fragmentation.append(moment.fragmentation)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        ascii = options.ascii_only
        lines = [self._headline(ascii), *self._counts(), self._doing(), *self._sample(ascii)]
        lines += self._found()
        yield Group(*map(one_line, lines))

    def _headline(self, ascii: bool) -> Text:
        spent_s = self._clock()
        share = min(1.0, spent_s / self._duration_s)
        end = time.localtime(time.time() + max(0.0, self._duration_s - spent_s))
        text = Text(f"soak {bar(share, BAR_CELLS, ascii)} {share:4.0%}")
        text.append(f" {rough(spent_s)} of {rough(self._duration_s)}, until {_clock(end)}")
        text.append(f"  {counted(self._standing.total, 'round')}, ")
        found = len({*self._standing.found, *self._standing.again})
        return text.append(
            counted(found, "finding") if found else "no findings", "bold red" if found else "green"
        )

    def _counts(self) -> Iterator[Text]:
        parts = []
        for kind in KINDS:
            verdicts = [
                f"{self._standing.rounds[kind, verdict.name]:,} {verdict.name.lower()}"
                for verdict in Verdict
                if self._standing.rounds[kind, verdict.name]
            ]
            parts += [f"{kind} {' '.join(verdicts)}"] if verdicts else []
        if parts:
            yield Text(f"  {', '.join(parts)}", "dim")

    def _doing(self) -> Text:
        text = Text(self._what)
        if self._now is not None:
            text.append(f"  {self._now.elapsed_s:.0f}s of {self._now.duration_s:g}s", "dim")
        elif self.going is not None:
            text.append(f"  {self.going}", "dim")
        return text

    def _sample(self, ascii: bool) -> Iterator[Text]:
        now = self._now
        if now is None:
            return
        rate = self._rate(now)
        per_second = "" if rate is None else f"{short(rate)} operations per second, "
        used, managed = now.used_pages, now.snapshot.managed_pages
        audits = counted(now.audits, "audit")
        yield Text(f"  {per_second}{used:,} of {managed:,} pages in use, {audits}")
        sparks = levels(self._fragmentation, most=1.0, ascii=ascii)
        yield Text(f"  fragmentation {sparks} {now.fragmentation:.2f}")
        if now.processes:
            yield Text(f"  private memory: {', '.join(memory_by_role(now.processes))}")

    def _rate(self, now: Moment) -> float | None:
        before = self._before
        if before is None or now.elapsed_s <= before.elapsed_s:
            return None
        return max(0.0, (now.operations - before.operations) / (now.elapsed_s - before.elapsed_s))

    def _found(self) -> Iterator[Text]:
        for name, text in list(self.findings.items())[-SHOWN_FINDINGS:]:
            times = self._standing.found[name]
            yield Text(f"!!! {name} {counted(times, 'round')}: {text}", "red")


def memory_by_role(processes: tuple[ProcessUse, ...]) -> Iterator[str]:
    """``soak 61MiB, controller 80MiB, 4 workers 12MiB each at most``."""
    most: dict[str, int] = {}
    count: Counter[str] = Counter()
    for use in processes:
        role = use.role.rstrip("0123456789 ")
        count[role] += 1
        most[role] = max(most.get(role, 0), use.private_bytes)
    for role, size in most.items():
        shown = exact_bytes(max(1, round(size / _MIB)) * _MIB)
        if count[role] > 1:
            yield f"{count[role]} {role}s {shown} each at most"
        else:
            yield f"{role} {shown}"


def rough(seconds: float) -> str:
    """``45s``, ``12m 5s``, ``7h 59m``: two units at most."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60}s" if whole % 60 else f"{whole // 60}m"
    return f"{whole // 3600}h {whole % 3600 // 60}m" if whole % 3600 // 60 else f"{whole // 3600}h"


def _clock(when: time.struct_time) -> str:
    """The hour, with the day if it is another one."""
    today = time.localtime()[:3] == when[:3]
    return time.strftime("%H:%M" if today else "%a %H:%M", when)
