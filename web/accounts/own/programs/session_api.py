"""A member's own sign-ins for client programs, at the addresses of `/api/v1/auth`.

A sign-in is named by its `session_id`, which opens nothing. The token that opens it comes with a
cookie or as `Authorization: Bearer`.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from quart import Blueprint, Response, request

from actors.accounts import SIGN_IN_KEPT, Level, Member, SignIn
from web.accounts.entering import AccountServices, log_out
from web.accounts.identity import member_of
from web.accounts.own.managing import end_sign_ins
from web.api import not_found, ok, unauthorized
from web.routing import paths
from web.server import RequestState, current_request_state

OUT = "Signed out."
OUT_EVERYWHERE = "Signed out everywhere."
OTHERS_OUT = "All other sessions have ended."
ONE_OUT = "The session has ended."
_ENDED = "This session has ended meanwhile; nothing was done."


class OwnSession(msgspec.Struct, frozen=True):
    """The sign-in that asks; `expires_at` is the latest, without a request it ends sooner."""

    session_id: UUID
    email: str
    expires_at: datetime
    last_active: datetime
    auth_level: Level


class ListedSession(msgspec.Struct, frozen=True):
    """One of a member's sign-ins; `first_address` is masked, `name` is its owner's or empty."""

    session_id: UUID
    browser: str
    name: str
    first_address: str
    created_at: datetime
    last_active: datetime
    expires_at: datetime
    is_this: bool


def session_api_routes(mine: AccountServices) -> Blueprint:
    """Call this to get the routes."""
    routes = Blueprint("session_api", __name__)

    @routes.get(paths.API_SESSION)
    async def own() -> Response:
        member = _member()
        one = next((one for one in await _listed(mine, member) if one.is_this), None)
        if one is None:
            raise unauthorized(_ENDED)
        return ok(
            OwnSession(one.session_id, member.email, one.expires_at, one.last_active, member.level)
        )

    @routes.post(paths.API_LOGOUT)
    async def out() -> Response:
        await log_out(mine, current_request_state(), request.headers.get("user-agent", ""))
        return ok({"message": OUT})

    @routes.post(paths.API_LOGOUT_ALL)
    async def out_everywhere() -> Response:
        # The others first: cut in between, whoever asked is still in and can ask again.
        state = current_request_state()
        await _end_others(mine, state)
        await log_out(mine, state, request.headers.get("user-agent", ""))
        return ok({"message": OUT_EVERYWHERE})

    _add_listed(routes, mine)
    return routes


def _add_listed(routes: Blueprint, mine: AccountServices) -> None:
    @routes.get(paths.API_SESSIONS)
    async def listed() -> Response:
        return ok({"sessions": await _listed(mine, _member())})

    @routes.delete(paths.API_SESSIONS)
    async def end_others() -> Response:
        await _end_others(mine, current_request_state())
        return ok({"message": OTHERS_OUT})

    @routes.get(paths.API_SESSION_ONE)
    async def one(session: str) -> Response:
        for found in await _listed(mine, _member()):
            if str(found.session_id) == session.lower():
                return ok(found)
        raise not_found("session", session)

    @routes.delete(paths.API_SESSION_ONE)
    async def end_one(session: str) -> Response:
        member, state = _member(), current_request_state()
        if session.lower() == str(member.reference):
            await log_out(mine, state, request.headers.get("user-agent", ""))
            return ok({"message": OUT})
        if not await end_sign_ins(mine, state, member, session):
            raise not_found("session", session)
        return ok({"message": ONE_OUT})


async def _end_others(mine: AccountServices, state: RequestState) -> None:
    if not await end_sign_ins(mine, state, _member(), None):
        raise unauthorized(_ENDED)


async def _listed(mine: AccountServices, member: Member) -> Sequence[ListedSession]:
    return [_shown(one, member) for one in await mine.accounts.sign_ins(member.user_id)]


def _shown(one: SignIn, member: Member) -> ListedSession:
    return ListedSession(
        session_id=one.reference,
        browser=one.browser,
        name=one.name,
        first_address=one.address,
        created_at=one.created_at,
        last_active=one.seen_at,
        expires_at=one.created_at + SIGN_IN_KEPT,
        is_this=one.reference == member.reference,
    )


def _member() -> Member:
    member = member_of(request.scope)
    if member is None:
        raise unauthorized("this needs a sign-in")
    return member
