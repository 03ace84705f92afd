"""The calls of administration that wait for an answer.

A caller opens a ticket, is parked, and goes on when the machine's answer was carried out.
Rule: a ticket is answered exactly once; what is open when the supervisor ends is `NoProc`.
"""

from __future__ import annotations

import trio

from actors.runtime.delivery.envelope import Party, held_up
from supervision.deciding.slots import Call


class Ticket(Call):
    """A call of administration that waits for its answer."""

    __slots__ = ("by", "error", "is_answered", "task", "value")

    def __init__(self) -> None:
        # Whose handler or hook waits for the answer, if it is one.
        self.by = held_up()
        self.task: trio.lowlevel.Task | None = None
        self.is_answered = False
        self.value: object = None
        self.error: Exception | None = None

    def leave(self) -> None:
        """Nobody waits for the answer any more."""
        if self.by is not None:
            self.by.waiting_on = None

    def answer(self, value: object, error: Exception | None = None) -> None:
        """Answer, once; the caller goes on in its next turn."""
        self.leave()
        self.is_answered, self.value, self.error = True, value, error
        if self.task is not None:
            task, self.task = self.task, None
            trio.lowlevel.reschedule(task)


class Tickets:
    """The open calls of one incarnation of a supervisor."""

    def __init__(self) -> None:
        self._open: set[Ticket] = set()

    def __repr__(self) -> str:
        return f"<Tickets: {len(self._open)} open>"

    def open(self) -> Ticket:
        """The ticket of a new call."""
        ticket = Ticket()
        self._open.add(ticket)
        return ticket

    def wait_for(self, ticket: Ticket, child: Party) -> None:
        """A call waits for the start of `child`: if that asks who waits, neither would go on."""
        if ticket.by is not None and ticket in self._open:
            ticket.by.waiting_on = child

    def answer(self, call: Call, value: object, error: Exception | None = None) -> None:
        """Answer a call; one that was withdrawn is not told any more."""
        assert isinstance(call, Ticket)
        if call in self._open:
            self._open.discard(call)
            call.answer(value, error)

    def refuse_all(self, error: Exception) -> None:
        """Nobody will answer any more."""
        for ticket in list(self._open):
            self.answer(ticket, None, error)

    async def wait_answer(self, ticket: Ticket) -> object:
        """Wait for an answer; withdrawn when cancelled, always a checkpoint."""
        if ticket.is_answered:
            # Shielded: it is done, and its caller must not hear of a cancellation instead.
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            ticket.task = trio.lowlevel.current_task()

            def abort(_: object) -> trio.lowlevel.Abort:
                # Only the answer is given up: what the call began goes on, as it would if its
                # caller had died. The machine's answer then finds no open ticket.
                ticket.task = None
                ticket.leave()
                self._open.discard(ticket)
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        if ticket.error is not None:
            raise ticket.error
        return ticket.value
