"""``TopApp``: a ``Source`` on a terminal, by textual: read again and again until a key ends it.

It owns the terminal while it runs. Reading happens in a thread, one at a time, so that keys answer
at once however large the segment is. When there is nothing new to read any more, the last panels
stay, and the first line says so.
"""

from __future__ import annotations

import asyncio
import signal
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.timer import Timer
from textual.widgets import Footer, Static

from shmalloc.errors import ShmallocError
from stress.top.source import Source
from stress.top.view import SORTS
from stress.verdict import Verdict

WIDE = 180  # columns from which on there are two columns of panels
INTERVALS_S = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
READ = "read"  # the group of the workers that read


class TopApp(App[None]):
    """Shows ``source`` every ``interval_s`` seconds, rows in the order ``sort``."""

    CSS = """
    #body { height: auto; }
    #left, #right { height: auto; width: 1fr; }
    .panel { height: auto; border: round $primary; padding: 0 1; }
    #line { height: 1; background: $boost; padding: 0 1; }
    .-one #body { layout: vertical; }
    """
    HORIZONTAL_BREAKPOINTS = [(0, "-one"), (WIDE, "-two")]  # noqa: RUF012
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("p,space", "pause", "pause"),
        Binding("s", "sort", "sort"),
        Binding("minus", "interval(-1)", "faster"),
        Binding("plus,equals_sign", "interval(1)", "slower"),
        Binding("r", "read", "read now"),
    ]

    def __init__(self, source: Source, interval_s: float = 1.0, sort: str = SORTS[0]) -> None:
        super().__init__()
        self.source = source
        self.interval_s = interval_s
        self.sort = sort
        self.paused = False
        self.trouble = ""
        self._has_read = False
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="line")
        with VerticalScroll(), Horizontal(id="body"):
            yield Vertical(id="left")
            yield Vertical(id="right")
        yield Footer()

    def on_mount(self) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP):  # the terminal is to be as it was before
            asyncio.get_running_loop().add_signal_handler(number, self._stop)
        self._show_line()
        self._restart_timer()
        self.action_read()

    async def on_unmount(self) -> None:
        await self.workers.wait_for_complete()  # a thread may be reading

    def _stop(self) -> None:
        self.exit(return_code=Verdict.INTERRUPTED.exit_code)

    # --- keys ------------------------------------------------------------------------------------

    def action_pause(self) -> None:
        """Stop reading, or go on."""
        self.paused = not self.paused
        self._show_line()

    def action_sort(self) -> None:
        """The next order of rows."""
        self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]
        self._show_line()
        if self._has_read:
            self._show()

    def action_interval(self, step: int) -> None:
        """Read more often, or less."""
        others = [one for one in INTERVALS_S if (one - self.interval_s) * step > 0]
        if others:
            self.interval_s = others[0] if step > 0 else others[-1]
        self._restart_timer()
        self._show_line()

    def action_read(self) -> None:
        """Read now, unless a thread is at it."""
        reading = any(worker.group == READ and not worker.is_finished for worker in self.workers)
        if not self.trouble and not reading:
            self.run_worker(self._read, group=READ, thread=True)

    # --- reading and showing ---------------------------------------------------------------------

    def _restart_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_interval(self.interval_s, self._tick)

    def _tick(self) -> None:
        if not self.paused and not self.source.ended:
            self.action_read()

    def _read(self) -> None:
        """In a thread."""
        try:
            self.source.read()
        except ShmallocError as error:
            self.call_from_thread(self._fail, str(error))
        else:
            self.call_from_thread(self._show)

    def _fail(self, text: str) -> None:
        self.trouble = text
        self._show_line()

    def _show(self) -> None:
        self._has_read = True
        panels = self.source.panels(self.sort)
        present = {panel.key for panel in panels}
        for old in self.query(".panel"):
            old.display = old.id in present
        for panel in panels:
            widget = self._widget(panel.key, panel.right)
            widget.border_title = panel.title.replace("[", "\\[")
            widget.update(panel.body)
        self._show_line()

    def _widget(self, key: str, right: bool) -> Static:
        found = self.query(f"#{key}")
        if found:
            return found.first(Static)
        made = Static(id=key, classes="panel", markup=False)
        self.query_one("#right" if right else "#left").mount(made)
        return made

    def _show_line(self) -> None:
        """The state of the view itself, above the panels."""
        ended = self.trouble or self.source.ended
        if ended:
            text = f"ENDED: {ended}; q quits"
        elif self.paused:
            text = "PAUSED; p goes on"
        else:
            text = f"every {self.interval_s:g} s"
        self.query_one("#line", Static).update(f"shmstress top   {text}   by {self.sort}")
