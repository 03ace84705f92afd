"""A member adds and removes second factors; each change is fresh, audited and mailed (AUTH-9).

What is shown once, a secret and the recovery codes, is in one answer and kept nowhere in the clear.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote
from uuid import UUID

import msgspec

from actors.accounts import Member, Method
from actors.accounts.kept.factors import (
    DIGITS,
    STEP_S,
    NewTotp,
    new_recovery_codes,
    new_totp_secret,
    parse_recovery_code,
    parse_totp,
    recovery_digest,
    secret_text,
    step_of_code,
)
from web.accounts.entering import AccountServices, NotEntered, origin_of, renew, tell
from web.accounts.identity import new_token
from web.accounts.own.managing import alert
from web.accounts.second import FIELD
from web.mail.templates import AlertKind
from web.server import RequestState

ISSUER = "greenroom"
_WRONG = "This is not what the app shows now; type its newest six digits."
_AGAIN = "This took too long; begin again."
_CHANGED = "This was changed meanwhile, elsewhere; nothing was done."


class Offer(msgspec.Struct, frozen=True):
    """A secret that an app is to take, until its first code is shown."""

    user_id: UUID
    secret: bytes


@dataclass(frozen=True, slots=True)
class Offered:
    """A secret to be shown, and the ticket by which its first code is judged."""

    secret: bytes
    link: str
    ticket: str


def otpauth_uri(secret: bytes, account: str) -> str:
    """Call this for the link that an app on the same device opens."""
    label = f"{quote(ISSUER, safe='')}:{quote(account, safe='@')}"
    return (
        f"otpauth://totp/{label}?secret={secret_text(secret)}&issuer={quote(ISSUER, safe='')}"
        f"&algorithm=SHA1&digits={DIGITS}&period={STEP_S}"
    )


def offer_totp(
    services: AccountServices,
    member: Member,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> Offered:
    """Call this for the secret of a new app; nothing is kept until its first code was typed."""
    return _offered(services, member, new_totp_secret(random_bytes))


def offer_again(services: AccountServices, member: Member, ticket: str) -> Offered:
    """Call this to show what was offered before; raises `NotEntered` for one that is over."""
    offer = services.tickets.open(Offer, ticket, str(member.reference))
    if offer is None or offer.user_id != member.user_id:
        raise NotEntered(409, {"": _AGAIN})
    return _offered(services, member, offer.secret, ticket)


def _offered(
    services: AccountServices, member: Member, secret: bytes, ticket: str | None = None
) -> Offered:
    if ticket is None:
        ticket = services.tickets.make(Offer(member.user_id, secret), str(member.reference))
    return Offered(secret, otpauth_uri(secret, member.email), ticket)


async def add_totp(
    services: AccountServices, state: RequestState, member: Member, offered: Offered, typed: str
) -> tuple[str, ...]:
    """Call this with the first code of an app; gives the recovery codes, none where there are some.

    The sign-in is of two factors then, under a new token. Raises `NotEntered`.
    """
    code = parse_totp(typed)
    step = None if code is None else step_of_code(offered.secret, code, services.now(), 0)
    if step is None:
        raise NotEntered(422, {FIELD: _WRONG})
    codes = await first_codes(services, member)
    token, digest = new_token()
    new = NewTotp(
        member.user_id,
        offered.secret,
        step,
        member.reference,
        digest,
        digests_of(codes),
        alert(services, member, AlertKind.FACTOR_ADDED, digest),
    )
    if not await services.factors.add_totp(new, origin_of(state, method="totp")):
        raise NotEntered(409, {"": _CHANGED})
    services.mails.wake()
    tell(state, "accounts.factor_add", "accepted", "totp", user_id=str(member.user_id))
    renew(services, state, token)
    return codes


async def remove_totp(services: AccountServices, state: RequestState, member: Member) -> None:
    """Call this to remove the app of a member; raises `NotEntered` 409 when there is none."""
    mail = alert(services, member, AlertKind.FACTOR_REMOVED, new_token()[1])
    origin = origin_of(state, method="totp")
    if not await services.factors.remove_totp(member.user_id, member.reference, origin, mail):
        raise NotEntered(409, {"": _CHANGED})
    services.mails.wake()
    tell(state, "accounts.factor_remove", "accepted", "totp", user_id=str(member.user_id))


async def renew_codes(
    services: AccountServices, state: RequestState, member: Member
) -> tuple[str, ...]:
    """Call this for a new set of recovery codes; the former is void. Raises `NotEntered` 409."""
    codes = new_recovery_codes(secrets.token_bytes)
    mail = alert(services, member, AlertKind.RECOVERY_CODES_MADE, new_token()[1])
    origin = origin_of(state, method="recovery_code")
    is_made = await services.factors.renew_codes(
        member.user_id, member.reference, digests_of(codes), origin, mail
    )
    if not is_made:
        raise NotEntered(409, {"": _CHANGED})
    services.mails.wake()
    tell(state, "accounts.recovery_codes", "accepted", "recovery_code", user_id=str(member.user_id))
    return codes


async def first_codes(services: AccountServices, member: Member) -> tuple[str, ...]:
    """Call this for the codes that come with a factor; none where there are some.

    None either where they are switched off.
    """
    if not services.methods.has(Method.RECOVERY_CODE):
        return ()
    held = await services.factors.held(member.user_id)
    return () if held.codes_left else new_recovery_codes(secrets.token_bytes)


def digests_of(codes: Sequence[str]) -> list[bytes]:
    """Call this with codes as they are shown for what is kept of them."""
    plain = [parse_recovery_code(code) for code in codes]
    return [recovery_digest(code) for code in plain if code is not None]
