"""The mail that brings a ticket to who has it: its code in letters, and as a picture for a camera.

Rule 1: one mail for each owner that a ticket gets. Its key is the ticket and the owner's number, so
        it is sent once, however often the outbox says so and whichever process hears it.
Rule 2: whoever passed it on before their mail was written gets none: that code lets nobody in.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from actors.accounts import Accounts
from actors.persistence import AggregateRef, ask_state
from docs.examples.ticketing.codes import KeyRing
from docs.examples.ticketing.shows import Plan, Show
from docs.examples.ticketing.tickets import Handover, Ticket
from web.mail.mails import Mails
from web.mail.templates import TICKET
from web.mail.templates import Ticket as TicketMail
from web.mail.words import Picture
from web.views import picture_of, svg_of

# With what stands before it, it is a subject that readers of mail show.
TITLE_CHARS_MAX = 150


class TicketMails:
    """Writes the mail of a ticket into the outbox; `links_to` begins the address of its page."""

    def __init__(
        self,
        mails: Mails,
        accounts: Accounts,
        keys: KeyRing,
        links_to: Callable[[], str],
        find_ticket: Callable[[str], AggregateRef],
        find_show: Callable[[str], AggregateRef],
    ) -> None:
        self._mails, self._accounts, self._keys = mails, accounts, keys
        self._links_to, self._find_ticket, self._find_show = links_to, find_ticket, find_show

    async def send(self, told: Handover) -> None:
        """Call this with what the outbox brings; again is harmless. Raises as asks and stores."""
        if not self._mails.is_on:
            return  # Drawing its picture is most of the work.
        _, ticket = await ask_state(self._find_ticket(told.ticket))
        assert isinstance(ticket, Ticket)
        issued, claims = ticket.issued, ticket.claims
        if issued is None or claims is None or ticket.issue != told.issue or ticket.is_void:
            return
        whose = await self._accounts.credentials_of(UUID(ticket.owner))
        if whose is None:
            return  # Their account is gone, and so is their address.
        _, show = await ask_state(self._find_show(issued.show))
        assert isinstance(show, Show)
        assert show.plan is not None
        code = self._keys.code(claims)
        said = TicketMail(
            whose.username,
            _line(show.plan.title),
            _place(show.plan, issued.section, issued.seat),
            show.plan.starts_at,
            code,
            f"{self._links_to()}/tickets/{told.ticket}",
        )
        picture = Picture(f"ticket-{issued.seat.replace(' ', '-')}", svg_of(picture_of(code)))
        key = f"ticket {told.ticket} {told.issue}"
        await self._mails.send(whose.email, TICKET, said, key, pictures=[picture])


def _place(plan: Plan, section: str, seat: str) -> str:
    return f"{_line(plan.venue_name)}: {section}, seat {seat}"


def _line(text: str) -> str:
    """What an organiser wrote as one line without signs that a header could not have."""
    shown = "".join(sign if sign.isprintable() else " " for sign in text)
    line = " ".join(shown.split())
    return line if len(line) <= TITLE_CHARS_MAX else f"{line[: TITLE_CHARS_MAX - 1]}…"
