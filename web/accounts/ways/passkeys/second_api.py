"""The second step of a sign-in for client programs, at `/api/v1/auth/second`.

Its ticket came with the answer to the first (`web.accounts.ways.half`). A code goes with it as it
is; for a passkey `passkey/login/begin` gives the challenge, with the same ticket.
"""

from typing import Literal

import msgspec
from quart import Blueprint, Response

from actors.accounts import SIGN_IN_KEPT, Method
from web.accounts.routes import REFUSED, refused, user_agent
from web.accounts.second import Admitted, enter_with_second
from web.accounts.ways.passkeys.answers import UseCredential
from web.accounts.ways.passkeys.passkey_api import answer_of
from web.accounts.ways.passkeys.passkeys import PasskeyServices, enter_with_key
from web.accounts.ways.risk.shown import Shown, take_shown
from web.api import body, ok, validation
from web.routing import paths
from web.server import FieldProblem, current_request_state


class SecondStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ticket of a first factor, and one proof of a second: a code, or a passkey's answer."""

    ticket: str
    code: str | None = None
    credential: UseCredential | None = None
    transport: Literal["body", "cookie"] = "body"
    fingerprint: Shown | None = None


def second_api_routes(mine: PasskeyServices) -> Blueprint:
    """Call this to get the route."""
    routes = Blueprint("second_api", __name__)

    @routes.post(paths.API_SECOND)
    async def second() -> Response:
        asked = await body(SecondStep, lenient="browsers add fields of their own")
        by_cookie = asked.transport == "cookie"
        take_shown(mine.accounts, current_request_state(), asked.fingerprint)
        try:
            found = await _entered(mine, asked, by_cookie=by_cookie)
        except REFUSED as error:
            raise answer_of(refused(error)) from error
        return ok({
            "session_id": str(found.reference),
            **({} if by_cookie else {"session_token": found.token.reveal()}),
            "email": found.email,
            "expires_at": mine.accounts.now() + SIGN_IN_KEPT,
        })  # fmt: skip

    return routes


async def _entered(mine: PasskeyServices, asked: SecondStep, *, by_cookie: bool) -> Admitted:
    state, ticket = current_request_state(), asked.ticket
    if (asked.code is None) == (asked.credential is None):
        raise validation("give one proof", [FieldProblem("body", "has a code or a credential")])
    if asked.code is not None:
        return await enter_with_second(
            mine.accounts, state, ticket, asked.code, user_agent(), by_cookie=by_cookie
        )
    assert asked.credential is not None
    mine.accounts.methods.check(Method.PASSKEY)
    return await enter_with_key(
        mine, state, ticket, asked.credential.answer, user_agent(), by_cookie=by_cookie
    )
