"""What is kept of an account, as its member may take it away (SEC-136): shapes, and their port.

Kept by `accounts/holdings.py` of `storage/postgres` and `storage/memory`. What is here is what a
member is given: everything that is kept under their id, of nobody else anything, and no secret.
Not among it are messages that a moderator removed (SEC-118), and what was said as the demo user:
that is no account's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, TypeAlias
from uuid import UUID

import msgspec

from actors.accounts.kept.devices.words import Trust
from actors.accounts.kept.risk.words import Outcome
from actors.accounts.members import Level, Role
from actors.persistence.errors import InvalidField
from actors.persistence.words import BIGINT_MAX, check_a, check_integer, check_text, check_uuid

# Rows read at once; a page of the longest messages is under a megabyte.
HELD_PAGE = 200
HELD_PAGE_MAX = 1000


class HeldProfile(msgspec.Struct, frozen=True):
    """Who it is. `password_changed_at` is None where that was not noted.

    `doubted_since` is since when somebody has said that what happens here was not them (AUTH-16).
    """

    user_id: UUID
    username: str
    email: str
    role: Role
    since: datetime
    password_changed_at: datetime | None
    email_verified_at: datetime | None = None
    doubted_since: datetime | None = None


class HeldSignIn(msgspec.Struct, frozen=True):
    """One sign-in that goes on, or was over and not removed yet.

    `address` is masked; `provider` and its session are None for one that began at none.
    """

    reference: UUID
    browser: str
    created_at: datetime
    seen_at: datetime
    address: str
    name: str
    method: str
    level: Level
    proven_at: datetime
    device: UUID | None
    is_limited: bool
    provider: str | None
    provider_session: str | None


class HeldDevice(msgspec.Struct, frozen=True):
    """A device that the account was entered from; what tells it is kept as a digest only."""

    id: UUID
    browser: str
    name: str
    trust: Trust
    logins: int
    passkey: UUID | None
    first_seen_at: datetime
    seen_at: datetime


class HeldLogin(msgspec.Struct, frozen=True):
    """A sign-in of the past, or an attempt. What it was judged by is told to nobody (AUTH-30)."""

    reference: UUID
    at: datetime
    outcome: Outcome
    method: str
    browser: str
    country: str
    latitude: float | None
    longitude: float | None


class HeldPasskey(msgspec.Struct, frozen=True):
    """A passkey, without its key. `flagged_at` is since when there may be a copy of it."""

    id: UUID
    name: str
    added_at: datetime
    used_at: datetime | None
    is_backed_up: bool
    flagged_at: datetime | None


class HeldApp(msgspec.Struct, frozen=True):
    """An app for codes, without its secret: since when there is one."""

    added_at: datetime


class HeldIdentity(msgspec.Struct, frozen=True):
    """An account at a provider that is linked; `subject` is what the provider calls its owner."""

    provider: str
    issuer: str
    subject: str
    linked_at: datetime
    used_at: datetime | None


class HeldAddressChange(msgspec.Struct, frozen=True):
    """Another address that was asked for; `made_at` is None while it is not confirmed."""

    former: str
    email: str
    asked_at: datetime
    made_at: datetime | None


class HeldToken(msgspec.Struct, frozen=True):
    """An API token, without what opens with it."""

    id: UUID
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None


class HeldMembership(msgspec.Struct, frozen=True):
    """A room of the chat that the account is a member of."""

    room: str
    role: str
    joined_at: datetime


class HeldAccount(msgspec.Struct, frozen=True):
    """What is small: it is read at once."""

    profile: HeldProfile
    sign_ins: tuple[HeldSignIn, ...]
    memberships: tuple[HeldMembership, ...]
    passkeys: tuple[HeldPasskey, ...] = ()
    app: HeldApp | None = None
    # How many; what is kept of a code is no use to anybody.
    recovery_codes_left: int = 0
    identities: tuple[HeldIdentity, ...] = ()
    # As many as `DEVICES_MAX` and `LOGINS_KEPT` say at most.
    devices: tuple[HeldDevice, ...] = ()
    logins: tuple[HeldLogin, ...] = ()
    address_changes: tuple[HeldAddressChange, ...] = ()
    api_tokens: tuple[HeldToken, ...] = ()


class HeldSession(msgspec.Struct, frozen=True):
    """A browser session that is over, on which the account was signed in, or signed in from it."""

    ended_at: datetime
    how: str


class HeldMessage(msgspec.Struct, frozen=True):
    """A message under the account's name: shown, or waiting for review.

    `text` is None where its text is not kept any more.
    """

    message_id: UUID
    room: str
    seq: int
    status: str
    client_id: str
    posted_at: datetime
    text: str | None


class HeldChatAct(msgspec.Struct, frozen=True):
    """What the account did in the chat, as the audit has it: also decisions about messages."""

    at: datetime
    action: str
    facts: Mapping[str, str | int | None]


class HeldAct(msgspec.Struct, frozen=True):
    """What was done with the account itself, or tried, as the audit has it."""

    at: datetime
    action: str
    success: bool


Held: TypeAlias = HeldSession | HeldMessage | HeldChatAct | HeldAct


class HeldPart(StrEnum):
    """What of an account may be long, and is read in pages."""

    SESSIONS = "sessions"
    MESSAGES = "messages"
    CHAT_ACTS = "chat_acts"
    ACTS = "acts"


@dataclass(frozen=True, slots=True)
class HeldPage:
    """Some rows of a part, and behind which the next page begins; None at the end."""

    rows: tuple[Held, ...]
    after: str | None


class Holdings(Protocol):
    """Reads what is kept of an account. Raises `StoreUnavailable` and its kin."""

    async def account(self, user_id: UUID) -> HeldAccount | None:
        """Call this for what is small; None when there is no such account, or not any more."""
        ...

    async def page(
        self, user_id: UUID, part: HeldPart, *, after: str = "", limit: int = HELD_PAGE
    ) -> HeldPage:
        """Call this for what is long, page by page; `after` is the one of the page before.

        Not one moment's: what is added or removed meanwhile is in it or is not. `InvalidField` for
        a `limit` outside 1 to 1000, and for an `after` that no page has given.
        """
        ...


def check_held(user_id: object, part: object, after: object, limit: object) -> None:
    """Call this with what is to be read; raises `InvalidField`."""
    check_uuid("user_id", user_id)
    check_a("part", part, HeldPart)
    check_text("after", after, 2048)
    check_integer("limit", limit, 1, HELD_PAGE_MAX)


# Between a room's name, which has none, and a client's id, which has no control character.
_BETWEEN = "\n"
_UNKNOWN_PLACE = "is no place that a page has given"


def message_place(room: str, client_id: str = "") -> str:
    """Call this for the place behind a message of a room, or at the beginning of a room."""
    return f"{room}{_BETWEEN}{client_id}"


def parse_message_place(after: str, rooms: Sequence[str]) -> tuple[str | None, str]:
    """Call this with a place among messages, and all rooms in their order; or `InvalidField`.

    Gives the room, None where there is none, and the client's id behind which to read on there.
    """
    if after == "":
        return (rooms[0] if rooms else None), ""
    room, between, client_id = after.partition(_BETWEEN)
    if not between or room not in rooms:
        raise InvalidField("after", _UNKNOWN_PLACE)
    return room, client_id


def parse_place(after: str) -> int:
    """Call this with a place among rows with numbers; or `InvalidField`."""
    if after == "":
        return 0
    if not (after.isascii() and after.isdigit() and len(after) <= 19 and int(after) <= BIGINT_MAX):
        raise InvalidField("after", _UNKNOWN_PLACE)
    return int(after)
