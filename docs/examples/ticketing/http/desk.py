"""What routes, sockets and pages share: who asks, which office they ask, and how a no is told.

Each function of the plan is handed the site; `desk_of` gives the one desk there is of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID

import trio

from actors.accounts import Limit
from actors.persistence import AggregateActor, AggregateRef, Idempotent, ask_state
from actors.runtime import NoProc
from actors.sagas import SagaId, SagaState, UnknownSaga
from docs.examples.ticketing import payments, sections, shows, tickets
from docs.examples.ticketing.gateway import Charged, Declined
from docs.examples.ticketing.http.bank import Charge, Charges, StoredGateway
from docs.examples.ticketing.http.bank import Command as BankCommand
from docs.examples.ticketing.http.bank import Happened as BankHappened
from docs.examples.ticketing.http.hooks import COURIER, Courier, Deliver
from docs.examples.ticketing.http.mailing import TicketMails
from docs.examples.ticketing.http.options import Options, read_options
from docs.examples.ticketing.office import ACTORS_MAX, BoxOffice, Office, Ports
from docs.examples.ticketing.reading import halls
from docs.examples.ticketing.reading.rows import Rows
from docs.examples.ticketing.reservations import Reservation
from docs.examples.ticketing.shows import Show, sections_of
from supervision import Supervisor, dynamic_method, handle_of
from web.accounts.identity import Identity, SignInCookie
from web.api import Refusals, keep_within, not_found, unauthorized
from web.app import OwnSite
from web.server import Answer, SignedIn, current_request_state
from web.server.bounded import BoundedMap

OFFICE, BANK = "office", "bank"
ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
# An attempt holds seats for minutes, so who tries all day holds a hall without paying.
ATTEMPTS_A_MINUTE = 10
# A charge is asked for a few times in a row, and then never.
IDLE_S = 30.0
SHOWS_KNOWN = 1000
# Each is a saga of ten appends; of a hundred for one seat ninety-nine were for nothing.
AT_DOOR_MAX = 8

SHOW_REFUSALS = Refusals(
    {
        shows.INVALID: Answer.VALIDATION,
        shows.UNKNOWN: Answer.NOT_FOUND,
        shows.FOREIGN: Answer.FORBIDDEN,
        shows.STATUS: Answer.CONFLICT,
    }
)
PAYMENT_REFUSALS = Refusals({payments.UNKNOWN: Answer.NOT_FOUND, payments.OVER: Answer.CONFLICT})
TICKET_REFUSALS = Refusals(
    {
        tickets.UNKNOWN: Answer.NOT_FOUND,
        tickets.OVER: Answer.CONFLICT,
        tickets.USED: Answer.CONFLICT,
        tickets.INVALID: Answer.VALIDATION,
    }
)
RESERVATION_REFUSALS = Refusals({"over": Answer.CONFLICT, sections.TAKEN: Answer.CONFLICT})


class Bank(Supervisor, intensity=10, period=5.0):
    """The charges of the simulated gateway, and the sign-in links that are under way."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    @dynamic_method(key="name", restart="transient", max_children=ACTORS_MAX)
    def charges(self, name: str) -> AggregateActor[Charge, BankCommand, BankHappened]:
        site = self.desk.site
        return AggregateActor(
            Charges(),
            name,
            site.store,
            site.environment,
            is_shared=self.desk.is_shared,
            idle_s=IDLE_S,
        )


class Desk:
    """The office of a site as those outside of the tree reach it."""

    def __init__(self, site: OwnSite, environment: Mapping[str, str] = os.environ) -> None:
        self.site = site
        self.options: Options = read_options(environment, site.settings, site.ring)
        # In PostgreSQL another process may sell the same seats.
        self.is_shared = site.kept.drive is not None
        self.gateway = StoredGateway(self._charge, self._send_hooks)
        env = site.environment
        self.office = Office(
            Ports(
                site.store,
                site.beside,
                env,
                str(env.ids.new_id()),
                self.gateway,
                is_shared=self.is_shared,
                to_owner=self._mails(site).send,
            ),
            # At each use: an office that was restarted is another.
            lambda: handle_of(BoxOffice, site.ref(OFFICE, BoxOffice)),
        )
        self.seats = Rows(site.beside.projections, halls.NAME)
        # What a plan names stays as it is; only texts and times of an event change.
        self._doors: BoundedMap[str, trio.CapacityLimiter] = BoundedMap(SHOWS_KNOWN)
        self._sections: BoundedMap[str, frozenset[str]] = BoundedMap(SHOWS_KNOWN)
        self.cookie = SignInCookie(is_https=site.settings.is_https)
        members = site.members
        self.identity = Identity(members.accounts, members.tokens, self.cookie)

    def _mails(self, site: OwnSite) -> TicketMails:
        assert site.mail is not None, "the plan sends mail"
        return TicketMails(
            site.mail.mails,
            site.members.accounts,
            self.options.tickets,
            lambda: site.url,
            lambda ticket: self.office.find().tickets[ticket],
            lambda show: self.office.find().shows[show],
        )

    def _charge(self, name: str) -> AggregateRef:
        return handle_of(Bank, self.site.ref(BANK, Bank)).charges[name]

    def _send_hooks(self, name: str, said: Charged | Declined) -> None:
        if self.options.sends_hooks:
            with suppress(NoProc):
                self.site.ref(COURIER, Courier).tell(Deliver(name, said))

    def new_id(self, key: Idempotent | None) -> str:
        """A fresh id; the same again for the same key."""
        if key is None:
            return str(self.site.environment.ids.new_id())
        seed = f"{key.scope}\0{key.key}".encode()
        return str(UUID(bytes=sha256(seed).digest()[:16], version=4))

    def now(self) -> datetime:
        return self.site.environment.clock.now()

    def show(self, event_id: str) -> AggregateRef:
        """The actor of an event; raises the answer 404 for what cannot be the id of one."""
        if ID.fullmatch(event_id) is None:
            raise not_found("Event", event_id)
        return self.office.find().shows[event_id]

    async def look_at_show(self, event_id: str) -> Show:
        """An event as it is now; raises the answer 404."""
        _, show = await ask_state(self.show(event_id))
        assert isinstance(show, Show)
        if show.plan is None:
            raise not_found("Event", event_id)
        return show

    def door(self, event_id: str, section: str) -> trio.CapacityLimiter:
        """What lets a few reservations of a section begin at a time, in this process."""
        name = f"{event_id} {section}"
        found = self._doors.get(name)
        if found is None:
            found = trio.CapacityLimiter(AT_DOOR_MAX)
            self._doors.put(name, found)
        return found

    async def sections(self, event_id: str) -> frozenset[str]:
        """The names of an event's sections; raises the answer 404."""
        known = self._sections.get(event_id)
        if known is None:
            plan = (await self.look_at_show(event_id)).plan
            assert plan is not None
            known = frozenset(one.name for one in sections_of(plan))
            self._sections.put(event_id, known)
        return known

    async def look_at_reservation(self, reservation: str) -> SagaState:
        """A reservation of who asks, or any to an admin; raises the answer 404."""
        who = signed_in()
        if ID.fullmatch(reservation) is not None:
            try:
                state = await self.office.sagas.query(SagaId.of(Reservation.kind, reservation))
            except UnknownSaga:
                pass
            else:
                if state.data.get("customer") == str(who.user_id) or is_admin(who):
                    return state
        raise not_found("Reservation", reservation)

    async def look_at_payment(self, payment_id: str) -> payments.Payment:
        """A payment of who asks, or any to an admin; raises the answer 404."""
        who = signed_in()
        if ID.fullmatch(payment_id) is not None:
            _, found = await ask_state(self.office.find().payments[payment_id])
            assert isinstance(found, payments.Payment)
            opened = found.opened
            if opened is not None and (opened.customer == str(who.user_id) or is_admin(who)):
                return found
        raise not_found("Payment", payment_id)

    async def count_attempt(self, what: str) -> None:
        """Call this before an attempt of who asks; raises the answer 429."""
        who = signed_in().user_id
        limit = Limit(f"ticketing {what} {who}", ATTEMPTS_A_MINUTE, timedelta(minutes=1))
        state = current_request_state()
        state.rate_limits += await keep_within(self.site.members.limiter, what, limit)


def desk_of(site: OwnSite) -> Desk:
    """Call this for the desk of a site; raises `CannotStart` for options that are wrong."""
    return site.once(Desk)


def signed_in() -> SignedIn:
    """Call this for who asks; raises the answer 401 for a guest."""
    found = current_request_state().signed_in
    if found is None:
        raise unauthorized("Sign in first.")
    return found


def is_admin(who: SignedIn) -> bool:
    return who.role == "admin"
