"""The nouns of passkeys: what is kept of one, what a browser answers, and challenges."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from actors.accounts.kept.factors.port import (
    SIGN_COUNT_MAX,
    check_codes,
    check_credential_id,
)
from actors.accounts.ports import check_digest
from actors.accounts.ways.left import NOTHING_OFFERED, OfferedWays
from actors.persistence.beside_log.outbox import check_messages
from actors.persistence.errors import InvalidField
from actors.persistence.words import (
    OutboxMessage,
    check_a,
    check_bytes,
    check_integer,
    check_text,
    check_uuid,
)

# SEC-100: twice what nobody guesses.
CHALLENGE_BYTES = 32
# Long enough to look for a key in a drawer.
CHALLENGE_KEPT = timedelta(minutes=5)
# A public key in COSE form: one of RSA with 4096 bits takes 540.
PUBLIC_KEY_BYTES_MAX = 1024
# A person has some devices and a spare key; each sign-in with an address sends all their ids.
PASSKEYS_PER_USER_MAX = 10
# It fits on one line of a list, as the name of a sign-in does.
PASSKEY_NAME_MAX = 40
# Client data is some hundred bytes; an attestation with its certificates some thousand.
ANSWER_BYTES_MAX = 16 * 1024


class Ceremony(StrEnum):
    """What a challenge is for; it is good for nothing else (SEC-100)."""

    REGISTER = "register"
    SIGN_IN = "sign_in"
    # Behind another factor, or by who is signed in.
    PROVE = "prove"


class Added(StrEnum):
    """What became of a passkey that was to be added."""

    DONE = "done"
    # Its id is one that is kept already, of whomever (SEC-104).
    KNOWN = "known"
    TOO_MANY = "too_many"
    # The sign-in is over.
    OVER = "over"


class Removed(StrEnum):
    """What became of a passkey that was to be removed."""

    DONE = "done"
    UNKNOWN = "unknown"
    # Without it nobody could sign in any more (SEC-107).
    LAST = "last"
    # The sign-in is over.
    OVER = "over"


@dataclass(frozen=True, slots=True)
class NewChallenge:
    """A challenge to be kept, by its digest: for what, and bound to which browser.

    `user_id` is whose passkey may answer it; None for anybody's.
    """

    digest: bytes = field(repr=False)
    ceremony: Ceremony
    bound: bytes = field(repr=False)
    user_id: UUID | None = None

    def __post_init__(self) -> None:
        check_digest(self.digest)
        check_a("ceremony", self.ceremony, Ceremony)
        check_digest(self.bound)
        if self.user_id is not None:
            check_uuid("user_id", self.user_id)


@dataclass(frozen=True, slots=True)
class ChallengeClaim:
    """A challenge that somebody answers, with the passkey they say it is, None for a new one."""

    digest: bytes = field(repr=False)
    ceremony: Ceremony
    bound: bytes = field(repr=False)
    credential_id: bytes | None = None

    def __post_init__(self) -> None:
        check_digest(self.digest)
        check_a("ceremony", self.ceremony, Ceremony)
        check_digest(self.bound)
        if self.credential_id is not None:
            check_credential_id(self.credential_id)


@dataclass(frozen=True, slots=True)
class Passkey:
    """A passkey that is kept. `id` is what pages name it by; `flagged_at`: its counter fell."""

    id: UUID
    user_id: UUID
    credential_id: bytes
    public_key: bytes = field(repr=False)
    sign_count: int
    is_backup_eligible: bool
    is_backed_up: bool
    is_attested: bool
    name: str
    added_at: datetime
    used_at: datetime | None = None
    flagged_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """A challenge that was used up: whose passkey may answer it, and the one that was named."""

    user_id: UUID | None
    passkey: Passkey | None


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A key that a device made, as its answer has it. `authenticator_data` is read by `checks`."""

    credential_id: bytes
    public_key: bytes = field(repr=False)
    authenticator_data: bytes = field(repr=False)
    is_attested: bool = False


@dataclass(frozen=True, slots=True)
class MadeAnswer:
    """What a browser answers when a device has made a key."""

    credential_id: bytes
    client_data: bytes = field(repr=False)
    attestation: bytes = field(repr=False)

    def __post_init__(self) -> None:
        check_credential_id(self.credential_id)
        _check_part("client_data", self.client_data)
        _check_part("attestation", self.attestation)


@dataclass(frozen=True, slots=True)
class UseAnswer:
    """What a browser answers when a device has signed a challenge."""

    credential_id: bytes
    client_data: bytes = field(repr=False)
    authenticator_data: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    user_handle: bytes | None = None

    def __post_init__(self) -> None:
        check_credential_id(self.credential_id)
        _check_part("client_data", self.client_data)
        _check_part("authenticator_data", self.authenticator_data)
        _check_part("signature", self.signature)
        if self.user_handle is not None:
            check_bytes("user_handle", self.user_handle, 64)


@dataclass(frozen=True, slots=True)
class NewPasskey:
    """A passkey to be added. The sign-in `reference` goes on under the token of `digest`.

    With `ends_others` all other sign-ins end (SEC-17). `codes` are digests of a new set of
    recovery codes, empty to keep those there are. `outbox` leaves with it.
    """

    id: UUID
    user_id: UUID
    credential_id: bytes
    public_key: bytes = field(repr=False)
    reference: UUID
    digest: bytes = field(repr=False)
    sign_count: int = 0
    is_backup_eligible: bool = False
    is_backed_up: bool = False
    is_attested: bool = False
    name: str = ""
    ends_others: bool = True
    codes: Sequence[bytes] = field(default=(), repr=False)
    outbox: Sequence[OutboxMessage] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        for name in ("id", "user_id", "reference"):
            check_uuid(name, getattr(self, name))
        check_credential_id(self.credential_id)
        check_bytes("public_key", self.public_key, PUBLIC_KEY_BYTES_MAX)
        if not self.public_key:
            raise InvalidField("public_key", "is empty")
        check_digest(self.digest)
        check_integer("sign_count", self.sign_count, 0, SIGN_COUNT_MAX)
        for name in ("is_backup_eligible", "is_backed_up", "is_attested", "ends_others"):
            check_a(name, getattr(self, name), bool)
        if self.is_backed_up and not self.is_backup_eligible:
            raise InvalidField("is_backed_up", "is of a key that can be backed up")
        check_passkey_name(self.name)
        check_codes(self.codes)
        check_messages(self.outbox)


@dataclass(frozen=True, slots=True)
class Removal:
    """A passkey to be removed, by its owner; the rest as for `NewPasskey`.

    `offered` are the other ways there are, so that the last one stays.
    """

    id: UUID
    user_id: UUID
    reference: UUID
    digest: bytes = field(repr=False)
    offered: OfferedWays = NOTHING_OFFERED
    ends_others: bool = True
    outbox: Sequence[OutboxMessage] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        for name in ("id", "user_id", "reference"):
            check_uuid(name, getattr(self, name))
        check_digest(self.digest)
        check_a("offered", self.offered, OfferedWays)
        check_a("ends_others", self.ends_others, bool)
        check_messages(self.outbox)


def check_passkey_name(name: object) -> str:
    """Call this with what a member calls a passkey; gives its one form, or `InvalidField`."""
    check_text("name", name)
    text = " ".join(str(name).split())
    if len(text) > PASSKEY_NAME_MAX or not text.isprintable():
        raise InvalidField("name", f"has up to {PASSKEY_NAME_MAX} characters that can be seen")
    return text


def _check_part(name: str, value: object) -> None:
    check_bytes(name, value, ANSWER_BYTES_MAX)
    if not value:
        raise InvalidField(name, "is empty")
