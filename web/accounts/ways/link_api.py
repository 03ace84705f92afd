"""Links for client programs, at the addresses of `/api/v1/auth`."""

from dataclasses import dataclass
from typing import Literal

import msgspec
from quart import Blueprint, Response, request

from actors.accounts import SIGN_IN_KEPT, Method
from web.accounts.entering import NotEntered
from web.accounts.routes import REFUSED, redirect, refused, user_agent
from web.accounts.ways.half import ask_for_second
from web.accounts.ways.links import WRONG, LinkServices, Opening, ask_for_link, open_link
from web.accounts.ways.risk.shown import Shown, take_shown
from web.api import body, forbidden, ok, too_many, unauthorized, unavailable, validation
from web.routing import paths
from web.server import ErrorAnswer, FieldProblem, current_request_state, read_cookies

SENT = "Magic link sent. Check your email."


class AskForLink(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who wants a link."""

    email: str


class OpenLink(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A link to be opened; `transport` says whether its session comes in the answer or a cookie."""

    token: str
    transport: Literal["body", "cookie"] = "body"
    fingerprint: Shown | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """What is told whoever asks, whatever the address is."""

    message: str
    email: str


def link_api_routes(mine: LinkServices) -> Blueprint:
    """Call this to get the routes."""
    routes = Blueprint("link_api", __name__)
    mine.accounts.methods.keep_switched(routes, Method.MAGIC_LINK)

    @routes.post(paths.LINK_SEND)
    async def send() -> Response:
        asked = await body(AskForLink)
        try:
            email = await ask_for_link(
                mine, current_request_state(), asked.email, None, paths.LINK_VERIFY
            )
        except REFUSED as error:
            raise _answer_of(refused(error)) from error
        return ok(Sent(SENT, email))

    @routes.get(paths.LINK_VERIFY)
    async def show() -> Response:
        # What is in a mail is opened by a person: the page with the button.
        query = request.query_string.decode("latin-1")
        return redirect(f"{paths.LOGIN_LINK_OPEN}?{query}")

    @routes.post(paths.LINK_VERIFY)
    async def verify() -> Response:
        asked, state = await body(OpenLink), current_request_state()
        take_shown(mine.accounts, state, asked.fingerprint)
        nonce = mine.cookie.read(read_cookies(request.scope["headers"]))
        by_cookie = asked.transport == "cookie"
        try:
            opened = await open_link(
                mine, state, Opening(asked.token, nonce), user_agent(), by_cookie=by_cookie
            )
        except REFUSED as error:
            raise _answer_of(refused(error)) from error
        if opened.half is not None:
            return await ask_for_second(mine.accounts, state, opened.half)
        return ok(
            {
                "session_id": str(opened.reference),
                **({} if by_cookie else {"session_token": opened.token.reveal()}),
                "email": opened.entered.email,
                "expires_at": mine.accounts.now() + SIGN_IN_KEPT,
            }
        )

    return routes


def _answer_of(problem: NotEntered) -> ErrorAnswer:
    if problem.status == 422:
        found = [FieldProblem(name or "body", text) for name, text in problem.problems.items()]
        return validation("a field breaks its rule", found)
    if problem.status == 429:
        return too_many(problem.retry_after or 1.0)
    if problem.status == 403:
        return forbidden(problem.problems.get("", ""))
    if problem.status == 503:
        return unavailable(problem.problems.get("", ""))
    return unauthorized(WRONG)
