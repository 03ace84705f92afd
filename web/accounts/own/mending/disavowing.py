"""What "this was not me" in a mail carries, and what it does (AUTH-16).

Rule 1: the mail carries a ticket of ours that says whose account and which moment; nothing is kept
        of it until it is used, and then its digest, so that it is good once.
Rule 2: opening it shows a button and looks nothing up; only what that sends acts, so that a program
        that reads mails for somebody does nothing.
"""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID

import msgspec

from actors.accounts import Act, Credentials, Entry, Limited, Method, Origin
from actors.accounts.kept.disavowals import DISAVOWAL_KEPT, Disavowal, disavow_limit
from actors.accounts.ways.links import mailbox_of
from actors.persistence import OutboxMessage
from web.accounts.entering import (
    AccountServices,
    NotEntered,
    in_words,
    leave,
    log,
    origin_of,
    tell,
)
from web.api import count
from web.mail.templates import AlertKind, SecurityAlert
from web.mail.words import BadMail
from web.routing import paths
from web.routing.quota import address_key
from web.server import RequestState

# Of two mails of one moment each is good.
NONCE_BYTES = 16
WRONG = (
    "This does nothing any more: it was used, or its seven days are over. Sign in and look at your "
    "account; if you cannot, ask for a link to your address."
)


class NotMe(msgspec.Struct, frozen=True, array_like=True):
    """What the ticket says; `told_at` in seconds since 1970.

    It is good while the account has the address it went to: whoever had that before, or took it for
    a while, has a link of their own (`addresses.py`), or no say any more.
    """

    user_id: UUID
    told_at: int
    nonce: str
    mailbox: str


def not_me_link(services: AccountServices, user_id: UUID, email: str, told_at: datetime) -> str:
    """Call this for the link of a mail that tells of a change; "" while the site has no address."""
    if not services.origin:
        return ""
    nonce = secrets.token_urlsafe(NONCE_BYTES)
    said = NotMe(user_id, int(told_at.timestamp()), nonce, mailbox_of(email).hex())
    ticket = services.tickets.make(said, "", DISAVOWAL_KEPT)
    return f"{services.origin}{paths.NOT_ME}?token={ticket}"


def digest_of(said: NotMe) -> bytes:
    """Call this for what a used one is known by.

    Of what it says, not of its letters: the same ticket can be written in more ways than one.
    """
    return sha256(f"not me:{said.user_id}:{said.told_at}:{said.nonce}".encode()).digest()


def needs_mailbox(services: AccountServices) -> bool:
    """Call this for whether a doubted account opens by a link only: where links are sent."""
    return services.methods.has(Method.MAGIC_LINK)


async def disavow(
    services: AccountServices, state: RequestState, token: str, user_agent: str
) -> None:
    """Call this when somebody says that a change was not theirs; raises `NotEntered`.

    401 for one that is used, over or unknown, with one text; 429. Also `StoreUnavailable` and its
    kin: then nothing is done, and it is good as before.
    """
    limit = disavow_limit(address_key(state.address))
    match await count(services.limiter, state, "not-me", limit):
        case Limited(wait):
            tell(state, "accounts.disavow", "refused", "", reason="too_many")
            raise NotEntered(429, {"": "Too many tries; " + in_words(wait)}, wait)
    said = services.tickets.open(NotMe, token, "")
    # Who did it nobody knows: whoever has the mail.
    origin = origin_of(state, user_agent, "")
    ended = None if said is None else await _disavow(services, said, origin)
    if said is None or ended is None:
        await services.audit.note(Entry(Act.DISAVOW, None, origin, "link"))
        tell(state, "accounts.disavow", "refused", "", reason="link")
        raise NotEntered(401, {"": WRONG})
    await services.limiter.give_back(limit)
    services.mails.wake()
    tell(state, "accounts.disavow", "accepted", "", user_id=str(said.user_id), ended=ended)
    if state.signed_in is not None and state.signed_in.user_id == said.user_id:
        leave(services, state)


async def _disavow(services: AccountServices, said: NotMe, origin: Origin) -> int | None:
    whose = await services.accounts.credentials_of(said.user_id)
    if whose is None or mailbox_of(whose.email).hex() != said.mailbox:
        return None
    digest = digest_of(said)
    given = Disavowal(
        said.user_id,
        digest,
        datetime.fromtimestamp(said.told_at, UTC),
        needs_mailbox(services),
        _told(services, whose, digest),
        services.tell_stopped,
    )
    return await services.disavowals.disavow(given, origin)


def _told(services: AccountServices, whose: Credentials, digest: bytes) -> Sequence[OutboxMessage]:
    context = SecurityAlert(whose.username, AlertKind.DISAVOWED, services.now())
    try:
        return services.mails.security_alert(whose.email, context, f"disavowed:{digest.hex()}")
    except BadMail as error:
        log.warning("accounts.not_told", user_id=str(whose.user_id), field=error.field)
        return ()
