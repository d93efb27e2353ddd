"""The arrays of a machine: made, viewed, written, sent, loaded, dropped, in any process.

Bytes that were sent may be loaded never, once, or often, and after their sender's end. After each
step every process reads what it holds, each array has as many references as the model, and what is
in transit is shown by ``leaks``.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, consumes, invariant, multiple, rule

from stress.hypothesis.model import Array, Holder, Ticket, references_in
from stress.hypothesis.process_rules import Process, ProcessRules

VALUES = st.lists(st.integers(-2, 2), max_size=20) | st.just([1] * 700)
WHICH = st.integers(0, 7)


class ArrayRules(ProcessRules):
    """``WHICH`` chooses among what a process holds."""

    tickets: Bundle[tuple[Ticket, bool]] = Bundle("tickets")  # and whether it is a pickle
    existing = ProcessRules.processes.filter(lambda process: process.exists)

    def _piece(self, process: Process, which: int, *, present: bool) -> tuple[Holder, int] | None:
        """One piece of what the process holds; ``present``: in the arena that it has open."""
        lives = [process.life] if present else process.lives
        pieces = [
            (holder, k) for holder in self.model.held_by(*lives) for k in range(len(holder.pieces))
        ]
        return pieces[which % len(pieces)] if pieces else None

    @rule(process=ProcessRules.active, values=VALUES, count=st.integers(1, 3))
    def array(self, process: Process, values: list[int], count: int) -> None:
        for _ in range(count):
            number = self.model.number()
            if process.tell("make_array", number, values):
                made = Array(number, list(values))
                self.model.holders.append(Holder(number, made, process.life, [0]))

    @rule(process=existing, which=WHICH, begin=st.integers(0, 5))
    def view(self, process: Process, which: int, begin: int) -> None:
        found = self._piece(process, which, present=False)
        if found is not None:
            holder, piece = found
            process.tell("view_array", holder.number, piece, begin)
            length = len(holder.array.values)
            holder.pieces.append(min(holder.pieces[piece] + begin, length))

    @rule(process=existing, which=WHICH, value=st.integers(-2, 2))
    def write(self, process: Process, which: int, value: int) -> None:
        """Others read it, also while their own arena is closed."""
        found = self._piece(process, which, present=False)
        if found is not None:
            holder, piece = found
            assert process.tell("write_array", holder.number, piece, value) == holder.writeable
            if holder.writeable:
                begin, values = holder.pieces[piece], holder.array.values
                values[begin:] = [value] * (len(values) - begin)

    @rule(process=existing, which=WHICH)
    def drop(self, process: Process, which: int) -> None:
        """One piece; with the last one the reference goes."""
        found = self._piece(process, which, present=False)
        if found is not None:
            holder, piece = found
            process.tell("drop_piece", holder.number, piece)
            self.model.dropped(holder, piece)

    @rule(target=tickets, process=ProcessRules.active, which=WHICH, pickled=st.booleans())
    def send(self, process: Process, which: int, pickled: bool) -> Any:
        found = self._piece(process, which, present=True)
        ticket = self._sent(process, *found, pickled) if found else None
        return (ticket, pickled) if ticket else multiple()

    def _sent(self, process: Process, holder: Holder, piece: int, pickled: bool) -> Ticket | None:
        sent = process.tell("send_array", holder.number, piece, pickled)
        if sent is None:
            return None
        begin = holder.pieces[piece]
        ticket = Ticket(holder.array, sent, process.life, begin, holder.writeable)
        self.model.tickets.append(ticket)
        return ticket

    @rule(
        target=tickets,
        process=consumes(ProcessRules.children),
        pickled=st.booleans(),
        killed=st.booleans(),
    )
    def produce(self, process: Process, pickled: bool, killed: bool) -> Any:
        """A child sends all that it has, and ends."""
        if not process.exists:
            return multiple()
        held = self.model.held_by(process.life) if process.active else []
        made = [self._sent(process, holder, 0, pickled) for holder in held]
        (self._is_killed if killed else self._ends)(process)
        return multiple(*((ticket, pickled) for ticket in made if ticket))

    @rule(process=ProcessRules.active, sent=tickets, readonly=st.booleans())
    def load(self, process: Process, sent: tuple[Ticket, bool], readonly: bool) -> None:
        """The first load ends the ticket; a later one adds a reference while the array lives."""
        (ticket, pickled), number = sent, self.model.number()
        answer = process.tell("load_array", number, ticket.sent, pickled, readonly)
        if self.model.references(ticket.array) == 0:
            assert answer == "gone", f"{ticket}: {answer}, though its array has no reference"
        elif answer != "no memory":
            assert answer == "loaded", f"{ticket}: {answer}"
            writeable = ticket.writeable and not (readonly and not pickled)
            held = Holder(number, ticket.array, process.life, [ticket.begin], writeable)
            self.model.holders.append(held)
            if ticket in self.model.tickets:
                self.model.tickets.remove(ticket)

    @rule(process=existing, which=WHICH)
    def count(self, process: Process, which: int) -> None:
        """A process asks how many references an array has."""
        found = self._piece(process, which, present=False)
        if found is not None:
            told = process.tell("references", found[0].number)
            wanted = self.model.references(found[0].array)
            assert told == wanted, f"{found[0]}: {told} references, not {wanted}"

    @rule(by_hand=st.booleans())
    def end_tickets(self, by_hand: bool) -> None:
        """The grace of what dead processes sent is over; ``by_hand``: all are ended."""
        assert self.arena is not None
        self.arena.ticket_grace_s = 0.0
        assert self.arena.recover(transit_older_than=0 if by_hand else None) == []
        self.arena.ticket_grace_s = 60.0
        self.model.tickets_ended(by_hand)

    # --- what must hold when no process works -----------------------------------------------------
    @invariant()
    def arrays_have_the_references_of_the_model(self) -> None:
        assert self.arena is not None
        found, wanted = references_in(self.arena), self.model.referenced()
        assert found == wanted, f"{{references: arrays}}: {dict(found)}, not {dict(wanted)}"

    @invariant()
    def every_process_reads_what_it_holds(self) -> None:
        for process in [self.own, *self.running]:
            assert process is not None
            held = self.model.held_by(*process.lives)
            wanted = {holder.number: holder.values() for holder in held}
            found = process.tell("read_arrays")
            assert found == wanted, f"{process} reads {found}, not {wanted}"

    @invariant()
    def what_is_in_transit_is_shown(self) -> None:
        assert self.arena is not None
        found = Counter(leak.sender_ended for leak in self.arena.leaks())
        wanted = Counter(ticket.sender.over for ticket in self.model.tickets)
        assert found == wanted, f"{{sender ended: tickets}}: {dict(found)}, not {dict(wanted)}"
