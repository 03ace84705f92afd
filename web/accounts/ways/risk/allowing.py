"""What the owner of an account allows by the link of a mail: one more attempt (3.3, AUTH-30).

Rule 1: the mail carries a ticket of ours that says whose account, and from where the attempt came;
        nothing is kept of it until it is used, and then its digest, so that it is good once.
Rule 2: opening it shows a button; only what that sends allows anything.
Rule 3: what is allowed is an attempt from there, for ten minutes, with all that was asked before:
        nobody is signed in by it.
"""

import secrets
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID

import msgspec

from actors.accounts import Act, Entry, Limited
from actors.accounts.kept.risk.port import Allowance, allow_limit
from actors.accounts.kept.risk.words import ALLOWED_FOR, Arrival
from actors.accounts.ways.links import mailbox_of
from web.accounts.entering import AccountServices, NotEntered, in_words, origin_of, tell
from web.api import count
from web.routing import paths
from web.routing.quota import address_key
from web.server import RequestState

NONCE_BYTES = 16
WRONG = (
    "This does nothing any more: it was used, or its ten minutes are over. Sign in once more; "
    "another mail comes then."
)


class Allow(msgspec.Struct, frozen=True, array_like=True):
    """What the ticket says; `until` in seconds since 1970, `bound` in hexadecimal digits.

    It is good while the account has the address it went to.
    """

    user_id: UUID
    bound: str
    until: int
    nonce: str
    mailbox: str


def allow_link(
    services: AccountServices, user_id: UUID, email: str, arrival: Arrival, now: datetime
) -> str:
    """Call this for the link of a mail that tells of an attempt; "" where there can be none."""
    if not services.origin or arrival.bound is None:
        return ""
    nonce = secrets.token_urlsafe(NONCE_BYTES)
    until = int((now + ALLOWED_FOR).timestamp())
    said = Allow(user_id, arrival.bound.hex(), until, nonce, mailbox_of(email).hex())
    ticket = services.tickets.make(said, "", ALLOWED_FOR)
    return f"{services.origin}{paths.ALLOW}?token={ticket}"


async def allow(
    services: AccountServices, state: RequestState, token: str, user_agent: str
) -> None:
    """Call this when the owner of an account says that an attempt was theirs.

    Raises `NotEntered`: 401 for a link that is used, over or unknown, with one text; 429. Also
    `StoreUnavailable` and its kin: then nothing is done, and it is good as before.
    """
    limit = allow_limit(address_key(state.address))
    match await count(services.limiter, state, "attempt-allow", limit):
        case Limited(wait):
            tell(state, "accounts.attempt_allow", "refused", "", reason="too_many")
            raise NotEntered(429, {"": "Too many tries; " + in_words(wait)}, wait)
    said = services.tickets.open(Allow, token, "")
    # Who did it nobody knows: whoever has the mail.
    origin = origin_of(state, user_agent, "")
    is_allowed = False
    if said is not None:
        whose = await services.accounts.credentials_of(said.user_id)
        if whose is not None and mailbox_of(whose.email).hex() == said.mailbox:
            is_allowed = await services.logins.allow(_allowance(said), origin)
    if said is None or not is_allowed:
        await services.audit.note(Entry(Act.ALLOW, None, origin, "link"))
        tell(state, "accounts.attempt_allow", "refused", "", reason="link")
        raise NotEntered(401, {"": WRONG})
    await services.limiter.give_back(limit)
    tell(state, "accounts.attempt_allow", "accepted", "", user_id=str(said.user_id))


def _allowance(said: Allow) -> Allowance:
    # Of what it says, not of its letters: the same ticket can be written in more ways than one.
    digest = sha256(f"allow:{said.user_id}:{said.until}:{said.nonce}".encode()).digest()
    until = datetime.fromtimestamp(said.until, UTC)
    return Allowance(said.user_id, digest, bytes.fromhex(said.bound), until)
