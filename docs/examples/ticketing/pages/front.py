"""What all pages share: the frame around them, who looks at them, and where they ask."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import ParamSpec
from urllib.parse import quote

import msgspec
from quart import Blueprint, make_response, redirect, request
from quart.typing import ResponseReturnValue

from actors.persistence import (
    ProjectionHalted,
    ProjectionTimeout,
    Rebuilding,
    ask_state,
    wait_until,
)
from actors.sagas import SagaId, SagaState
from docs.examples.ticketing.http.desk import Desk, desk_of
from docs.examples.ticketing.pages.words import Link, PlainPage
from docs.examples.ticketing.payments import Payment
from docs.examples.ticketing.reading import listing, sales
from docs.examples.ticketing.reading.rows import Rows
from docs.examples.ticketing.reservations import Reservation, Reserve
from docs.examples.ticketing.sections import Seating
from docs.examples.ticketing.shows import Plan, sections_of
from web.app import OwnSite
from web.server import ErrorAnswer, SignedIn, current_request_state

P = ParamSpec("P")
View = Callable[P, Awaitable[ResponseReturnValue]]

_FOLDER = Path(__file__).parent
FILES = _FOLDER / "static"
SIGN_IN = "/sign-in"
_LINKS = (("/", "What is on"), ("/tickets", "Tickets"), ("/organise", "Organise"))

# What the page says that a form leads to, by the word in its address.
SAID: Mapping[str, str] = {
    "passed": "The ticket is theirs now, and your code lets nobody in any more.",
    "kept": "It is kept as a draft. Publish it when its words are right.",
    "changed": "Changed.",
    "out": "You are signed out.",
}


def template(name: str) -> str:
    """Call this for the text of a template, as of a part that is live."""
    return (_FOLDER / "templates" / f"{name}.html").read_text(encoding="utf-8")


def page_template(name: str) -> str:
    """Call this for the text of a template in the frame of all pages."""
    return _FRAME.replace("<!-- page -->", template(name))


_FRAME = template("frame")
_PLAIN = page_template("plain")


class Front:
    """The pages of a site, in one frame, around its desk."""

    def __init__(self, site: OwnSite) -> None:
        self.site: OwnSite = site
        self.desk: Desk = desk_of(site)
        store = site.beside.projections
        self.events, self.sold = Rows(store, listing.NAME), Rows(store, sales.NAME)

    async def caught_up(self, rows: Rows, *categories: str) -> None:
        """Call this before a list is read for somebody: who comes from a form finds what it did.

        Not for ever: where rows are built anew, or their server is away, they are old.
        """
        store = self.site.store
        newest = await store.read_backwards(limit=1, categories=categories)
        if newest.events:
            with suppress(ProjectionTimeout, ProjectionHalted, Rebuilding):
                await wait_until(rows.store, rows.name, newest.events[0].cursor)

    async def page(
        self,
        template: str,
        title: str,
        *,
        panels: Collection[str] = (),
        status: int = 200,
        said: str = "",
        uses_camera: bool = False,
        **values: object,
    ) -> ResponseReturnValue:
        """Call this for an answer; without `said` it tells what the address says was done."""
        done = SAID.get(request.args.get("done", ""), "") if not said else ""
        who = maybe_who()
        return await self.site.page(
            template,
            panels=panels,
            status=status,
            uses_camera=uses_camera,
            title=title,
            links=[Link(path, text, request.path == path) for path, text in _LINKS],
            person=who.name if who is not None else "",
            said=said or done,
            is_good=bool(done),
            sent_at=self.desk.now().isoformat(),
            # What a stranger could make it show stands beside no secret but the token of forms,
            # which is another in each answer; the code of a ticket is on its own page alone.
            is_compressed="camera-code" not in template,
            **values,
        )

    async def plain(self, status: int, title: str, text: str) -> ResponseReturnValue:
        """Call this for a page that says one thing."""
        return await self.page(_PLAIN, title, status=status, page=PlainPage(status, title, text))

    async def nothing_here(self) -> ResponseReturnValue:
        return await self.plain(404, "Nothing here", "There is no such page, or it is not yours.")

    def new_id(self) -> str:
        return str(self.site.environment.ids.new_id())

    # What pages look at; of what is not there, or not theirs, the desk raises the answer.

    async def seatings(self, plan: Plan) -> Sequence[tuple[str, Seating]]:
        """Call this for the sections that were opened, in their order, as they are now."""
        found = list[tuple[str, Seating]]()
        for one in sections_of(plan):
            ref = self.desk.office.find().sections[f"{plan.show}-{one.name}"]
            _, state = await ask_state(ref)
            assert isinstance(state, Seating)
            if state.seats:
                found.append((one.name, state))
        return found

    async def payment(self, reservation: str) -> Payment:
        _, state = await ask_state(self.desk.office.find().payments[reservation])
        assert isinstance(state, Payment)
        return state

    async def status(self, reservation: str) -> str:
        return await self.desk.office.status(SagaId.of(Reservation.kind, reservation))


class PageRoutes:
    """Routes of pages: a no that the desk raises is a page in the frame, too."""

    def __init__(self, front: Front, name: str) -> None:
        self.blueprint = Blueprint(name, __name__)
        self._front = front

    def get(self, rule: str) -> Callable[[View[P]], View[P]]:
        """See `Blueprint.get`."""
        return lambda view: self.blueprint.get(rule)(self._told(view))

    def post(self, rule: str) -> Callable[[View[P]], View[P]]:
        """See `Blueprint.post`."""
        return lambda view: self.blueprint.post(rule)(self._told(view))

    def _told(self, view: View[P]) -> View[P]:
        @wraps(view)
        async def answered(*args: P.args, **kwargs: P.kwargs) -> ResponseReturnValue:
            try:
                return await view(*args, **kwargs)
            except ErrorAnswer as error:
                row = error.row
            if row.status == 404:
                return await self._front.nothing_here()
            told = await self._front.plain(row.status, row.title, row.text)
            response = await make_response(told)
            if row.retry_after_s is not None:
                response.headers["retry-after"] = str(row.retry_after_s)
            return response

        return answered


def asked_of(state: SagaState) -> Reserve:
    """Call this for what a reservation is for."""
    asked: Reserve = msgspec.convert(state.data, Reserve, str_keys=True)
    return asked


def maybe_who() -> SignedIn | None:
    return current_request_state().signed_in


def to_sign_in(back: str = "") -> ResponseReturnValue:
    """Call this where a guest asks for what only members have; they come back to it."""
    return redirect(f"{SIGN_IN}?next={quote(back or request.path, safe='/')}", 303)
