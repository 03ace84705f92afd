"""Sign-in by a link in a mail, as programs ask for it: `/auth/magic-link/...`.

Links, limits and sessions are those of `actors.accounts`; no flow ties a link to a browser here.
"""

from __future__ import annotations

import secrets
from typing import Literal

import msgspec
from quart import Blueprint, Response

from actors.accounts import SIGN_IN_KEPT, Allowed, Limit, NewSignIn, SessionId, browser_family
from actors.accounts.ways.links import (
    LINK_KEPT,
    LinkClaim,
    Newcomer,
    NewLink,
    digest_of,
    mailbox_limit,
    mailbox_of,
    newcomer_names,
    redeem_limit,
    send_limit,
)
from docs.examples.ticketing.http.desk import Desk, desk_of
from web.accounts.identity import new_token
from web.api import body, keep_within, ok, unauthorized, user_agent, validation
from web.app import OwnSite
from web.mail.templates import MagicLink
from web.mail.words import BadMail, parse_address
from web.routing.quota import address_key
from web.server import FieldProblem, current_request_state

ASK, VERIFY = "/auth/magic-link/request", "/auth/magic-link/verify"
SENT = "Magic link sent. Check your email."
# Where the link of a mail leads, for people: one of the pages.
OPEN = "/sign-in/open"
WRONG = "Invalid or expired link"
TOKEN_BYTES = 32


class AskBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    email: str


class VerifyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`transport` says whether the session comes in the answer or a cookie."""

    token: str
    transport: Literal["body", "cookie"] = "body"


def signing_routes(site: OwnSite) -> Blueprint:
    """Call this for the routes by which somebody becomes a user."""
    routes, desk = Blueprint("signing", __name__), desk_of(site)

    @routes.post(ASK)
    async def ask() -> Response:
        asked = await body(AskBody)
        try:
            email = parse_address(asked.email)
        except BadMail as error:
            problem = "is no address that mail can go to"
            raise validation(f"email: {problem}", [FieldProblem("email", problem)]) from error
        token = await send_link(desk, email)
        told = {"message": SENT, "email": email}
        if desk.options.tells_links:
            told["magic_link_token"] = token
        return ok(told)

    @routes.post(VERIFY)
    async def verify() -> Response:
        asked = await body(VerifyBody)
        return await enter(desk, asked.token, by_cookie=asked.transport == "cookie")

    @routes.post("/auth/logout")
    async def leave() -> Response:
        await end(desk)
        return ok({"message": "Signed out."})

    return routes


async def keep_to(desk: Desk, name: str, limit: Limit) -> None:
    """Count a try; raises the answer 429. Of a test all come from one address."""
    if desk.options.tells_links:
        return
    state = current_request_state()
    state.rate_limits += await keep_within(desk.site.members.limiter, name, limit)


async def end(desk: Desk) -> None:
    """End the sign-in of who asks; harmless for a guest."""
    state = current_request_state()
    if state.signed_in is not None:
        await desk.site.members.accounts.sign_out(SessionId(state.visitor.text))
    state.set_cookies.append(desk.cookie.expire())


async def send_link(desk: Desk, email: str, after: str = "/") -> str:
    """Keep a link and queue its mail; whatever the address, the answer is the same.

    Behind the link's page its reader goes on to `after`, a page of this site.
    """
    members, state = desk.site.members, current_request_state()
    await keep_to(desk, "link-ask", send_limit(address_key(state.address)))
    token, mailbox = secrets.token_urlsafe(TOKEN_BYTES), mailbox_of(email)
    verdict = await members.limiter.hit(mailbox_limit(mailbox))
    if isinstance(verdict, Allowed) or desk.options.tells_links:
        link = NewLink(digest_of(token), mailbox, email)
        opens = f"{desk.site.url}{OPEN}?token={token}&next={after}"
        mail = desk.site.mail
        assert mail is not None
        told = MagicLink(email, opens, desk.now() + LINK_KEPT, is_bound=False)
        await members.links.issue(
            link, mail.mails.magic_link(email, told, f"link:{link.digest.hex()}")
        )
        mail.mails.wake()
    return token


async def enter(desk: Desk, token: str, *, by_cookie: bool) -> Response:
    """Use a link up: its owner is signed in, and becomes a user at the first time."""
    state, ids = current_request_state(), desk.site.environment.ids
    await keep_to(desk, "link-open", redeem_limit(address_key(state.address)))
    if not token.isascii() or len(token) > 100:
        raise unauthorized(WRONG)
    session, digest = new_token()
    sign_in = NewSignIn(
        ids.new_id(), digest, SessionId(str(ids.new_id())), browser_family(user_agent())
    )
    newcomer = Newcomer(ids.new_id(), newcomer_names(secrets.randbelow))
    found = await desk.site.members.links.redeem(LinkClaim(digest_of(token)), newcomer, sign_in)
    if found is None or found.needs_second or found.withheld is not None:
        raise unauthorized(WRONG)
    told: dict[str, object] = {
        "session_id": str(sign_in.reference),
        "session_token": session,
        "email": found.email,
        "user_id": str(found.user_id),
        "expires_at": desk.now() + SIGN_IN_KEPT,
    }
    if by_cookie:
        del told["session_token"]
        state.set_cookies.append(desk.cookie.set(session))
    return ok(told)
