"""API tokens as nouns: what a program of a member may do without them being there (SEC-87).

Rule 1: a token is shown once, when it is made; what is kept of it is its SHA-256.
Rule 2: it does what its scopes name and nothing else, and proves nobody afresh.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from actors.accounts.ports import check_digest, check_session
from actors.accounts.words import SessionId
from actors.persistence.beside_log.outbox import check_messages
from actors.persistence.errors import InvalidField
from actors.persistence.words import (
    OutboxMessage,
    check_a,
    check_list,
    check_text,
    check_uuid,
)

# SEC-87: one that is forgotten somewhere is no use to whoever finds it a season later.
TOKEN_KEPT = timedelta(days=90)
# Of an account: one for each program of somebody with many, and a list that is read at once.
TOKENS_PER_USER_MAX = 20
# Fits on one line of a list.
TOKEN_NAME_MAX = 40
# A request within a minute of another writes nothing.
USED_EVERY = timedelta(minutes=1)


class Scope(StrEnum):
    """What a token may do. A route that names none of them is for sign-ins only."""

    # Reads what is kept of the account: sign-ins, devices, passkeys, tokens.
    ACCOUNT_READ = "account:read"
    # Opens streams and sockets, and hears there what its owner may.
    CHAT_READ = "chat:read"
    # Posts on a socket in its owner's name.
    CHAT_WRITE = "chat:write"


class NotAdded(StrEnum):
    """Why no token was made."""

    # The sign-in that asked is over.
    ENDED = "ended"
    TOO_MANY = "too_many"


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token to be made, asked for by the sign-in `reference`.

    `session_id` is the browser session that stands for it: what it opens ends with that.
    """

    id: UUID
    user_id: UUID
    reference: UUID
    digest: bytes = field(repr=False)
    session_id: SessionId
    name: str
    scopes: tuple[Scope, ...]
    # Written in the same transaction, where it is made: its owner hears of it.
    outbox: Sequence[OutboxMessage] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        check_messages(self.outbox)
        check_uuid("id", self.id)
        check_uuid("user_id", self.user_id)
        check_uuid("reference", self.reference)
        check_digest(self.digest)
        check_session(self.session_id)
        if check_token_name(self.name) != self.name:
            raise InvalidField("name", "begins or ends with a blank")
        if check_scopes(self.scopes) != self.scopes:
            raise InvalidField("scopes", "are not in their order, each once")


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token, as its owner sees it; `used_at` is None until it is used."""

    id: UUID
    name: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None


def check_token_name(name: object) -> str:
    """Call this with what an owner calls a token; raises `InvalidField`."""
    check_text("name", name)
    text = str(name).strip()
    if not 1 <= len(text) <= TOKEN_NAME_MAX or not text.isprintable():
        raise InvalidField("name", f"has 1 to {TOKEN_NAME_MAX} characters that can be seen")
    return text


def check_scopes(scopes: Sequence[object]) -> tuple[Scope, ...]:
    """Call this with scopes, for them in their order, each once; raises `InvalidField`."""
    check_list("scopes", scopes)
    for one in scopes:
        check_a("scopes", one, Scope)
    found = tuple(scope for scope in Scope if scope in scopes)
    if not found:
        raise InvalidField("scopes", "are none: such a token opens nothing")
    return found
