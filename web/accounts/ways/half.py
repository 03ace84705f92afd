"""What a client program is told whose sign-in needs a second factor (SEC-85, AUTH-9).

Whichever way gave the first one, the answer is alike: 403 `STEP_UP_REQUIRED`, with a ticket that
stands for that factor and what can be the second. `passkeys/second_api.py` takes both.
"""

from collections.abc import Sequence
from uuid import UUID

import msgspec
from quart import Response

from actors.accounts import Method
from web.accounts.entering import AccountServices
from web.accounts.second import open_half
from web.api import ok, step_up
from web.server import RequestState
from web.server.edge.tickets import TICKET_KEPT

LEVEL = "MULTIFACTOR"


class AskedSecond(msgspec.Struct, frozen=True):
    """The first factor was right. `ticket` and one of `methods` sign in, for `expires_in` s."""

    code: str
    message: str
    ticket: str
    methods: Sequence[Method]
    expires_in: int


async def ask_for_second(accounts: AccountServices, state: RequestState, ticket: str) -> Response:
    """Call this to answer a program that gave one factor of two."""
    half = open_half(accounts, state, ticket)
    row = step_up(LEVEL).row
    asked = AskedSecond(
        row.code,
        row.text,
        ticket,
        await second_methods(accounts, half.user_id),
        round(TICKET_KEPT.total_seconds()),
    )
    answer = ok(asked, status=row.status)
    for name, value in row.headers:
        answer.headers[name.decode()] = value.decode()
    return answer


async def second_methods(accounts: AccountServices, user_id: UUID) -> list[Method]:
    """Call this for what an account has that can be the second factor, and is switched on.

    An app that was added is taken whether or not others can be added.
    """
    held, methods = await accounts.factors.held(user_id), accounts.methods
    found = [Method.PASSKEY] if held.passkeys_count and methods.has(Method.PASSKEY) else []
    found += [Method.TOTP] if held.totp is not None else []
    has_codes = held.has_second and held.codes_left and methods.has(Method.RECOVERY_CODE)
    return found + ([Method.RECOVERY_CODE] if has_codes else [])
