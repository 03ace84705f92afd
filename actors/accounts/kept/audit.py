"""What was done with accounts, as it is kept: events of their users, rows of the audit (AUTH-41).

Rule 1: an act, its event on the stream `user-{id}` and its row are one transaction; an act that
        changed nothing leaves none, but a try to sign in leaves both (SEC-130, SEC-134).
Rule 2: none of them holds a name, a mail address, a token, or a whole address of a network: they
        outlive their user under a bare id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

import msgspec

from actors.persistence.errors import InvalidField
from actors.persistence.words import (
    BIGINT_MAX,
    NewEvent,
    StreamId,
    check_a,
    check_integer,
    check_text,
    check_texts,
    check_uuid,
)

# A page that somebody reads.
AUDIT_FOUND = 50
AUDIT_FOUND_MAX = 500


class Act(StrEnum):
    """What is done with an account; the value stands in the audit, and is searched for."""

    REGISTER = "account.register"
    # Somebody showed that they read what comes to their address.
    VERIFY_EMAIL = "account.email_verified"
    SIGN_IN = "account.sign_in"
    SIGN_OUT = "account.sign_out"
    # By its owner from elsewhere, by an operator, or as the sixth.
    END_SIGN_IN = "account.sign_in_end"
    STEP_UP = "account.step_up"
    PASSWORD = "account.password"  # noqa: S105 - a word
    FACTOR_ADD = "account.factor_add"
    FACTOR_REMOVE = "account.factor_remove"
    # A new set of recovery codes; the former is void.
    RECOVERY_CODES = "account.recovery_codes"
    PROVIDER_LINK = "account.provider_link"
    PROVIDER_UNLINK = "account.provider_unlink"
    # A provider takes no more what it gave to be asked with.
    PROVIDER_TOKENS = "account.provider_tokens"
    PASSKEY_ADD = "account.passkey_add"
    PASSKEY_USE = "account.passkey_use"
    PASSKEY_REMOVE = "account.passkey_remove"
    # A passkey told a counter from before: perhaps there are two of it. It was refused.
    COUNTER_FELL = "account.passkey_counter"
    # A device signed in for the first time, or again; its owner trusts it, or knows it no more.
    DEVICE_ADD = "account.device_add"
    DEVICE_USE = "account.device_use"
    DEVICE_TRUST = "account.device_trust"
    DEVICE_REVOKE = "account.device_revoke"
    TOKEN_ADD = "account.token_add"  # noqa: S105 - a word
    # By its owner, or with all that is open of the account.
    TOKEN_REVOKE = "account.token_revoke"  # noqa: S105 - a word
    # One more attempt was allowed of who was refused for their risk.
    ALLOW = "account.attempt_allow"
    # Somebody said of a change that it was not theirs.
    DISAVOW = "account.disavow"
    # Another address is wished for; it is made; its former owner took the account back.
    ADDRESS_ASK = "account.address_ask"
    ADDRESS = "account.address"
    ADDRESS_BACK = "account.address_back"
    # A recovery began; it was stopped; it was carried out.
    RECOVERY_START = "account.recovery_start"
    RECOVERY_STOP = "account.recovery_stop"
    RECOVERY = "account.recovery"
    ROLE = "account.role"
    DELETE = "account.delete"


class Operated(StrEnum):
    """What operators do with what is no account; the value stands in the audit as an act's."""

    # What is called outside was left alone, and is called again at once.
    OUTSIDE_RESET = "outside.reset"


# As services and their projections know them.
EVENT_TYPES: dict[Act, str] = {
    Act.REGISTER: "UserRegistered",
    Act.VERIFY_EMAIL: "EmailVerified",
    Act.SIGN_IN: "UserLoggedIn",
    Act.SIGN_OUT: "UserLoggedOut",
    Act.END_SIGN_IN: "UserLoggedOut",
    Act.STEP_UP: "LoginAttempted",
    Act.PASSWORD: "UserUpdated",
    Act.FACTOR_ADD: "SecondFactorAdded",
    Act.FACTOR_REMOVE: "SecondFactorRemoved",
    Act.RECOVERY_CODES: "SecondFactorAdded",
    Act.PROVIDER_LINK: "OAuthAccountLinked",
    Act.PROVIDER_UNLINK: "OAuthAccountUnlinked",
    Act.PROVIDER_TOKENS: "UserUpdated",
    Act.PASSKEY_ADD: "PasskeyRegistered",
    Act.PASSKEY_USE: "PasskeyUsed",
    Act.PASSKEY_REMOVE: "PasskeyRevoked",
    Act.COUNTER_FELL: "CounterRollbackDetected",
    Act.DEVICE_ADD: "DeviceRegistered",
    Act.DEVICE_USE: "DeviceAccessed",
    Act.DEVICE_TRUST: "DeviceTrustedByUser",
    Act.DEVICE_REVOKE: "DeviceRevoked",
    Act.TOKEN_ADD: "ApiTokenAdded",
    Act.TOKEN_REVOKE: "ApiTokenRevoked",
    Act.ALLOW: "UserUpdated",
    Act.DISAVOW: "UserUpdated",
    Act.ADDRESS_ASK: "UserUpdated",
    Act.ADDRESS: "UserUpdated",
    Act.ADDRESS_BACK: "UserUpdated",
    Act.RECOVERY_START: "UserUpdated",
    Act.RECOVERY_STOP: "UserUpdated",
    Act.RECOVERY: "UserUpdated",
    Act.ROLE: "UserUpdated",
    Act.DELETE: "UserDeleted",
}
REFUSED_EVENT = "LoginAttempted"
# Told as what it is, though it was refused.
_TOLD_AS_IT_IS = frozenset({Act.COUNTER_FELL})


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an act comes from: a masked address, a browser's family, and the ids of a request.

    All empty for what no request asked for. `method` is how somebody proved who they are.
    """

    address: str = ""
    browser: str = ""
    request_id: str = ""
    method: str = "password"

    def __post_init__(self) -> None:
        for name in ("address", "browser", "request_id", "method"):
            check_text(name, getattr(self, name))


@dataclass(frozen=True, slots=True)
class Entry:
    """One act to be kept, of a user, or of nobody that is known. `reason` says why it failed.

    `by` is who did it where that was somebody else: an operator.
    """

    act: Act
    user_id: UUID | None
    origin: Origin
    reason: str = ""
    by: UUID | None = None

    def __post_init__(self) -> None:
        check_a("act", self.act, Act)
        if self.user_id is not None:
            check_uuid("user_id", self.user_id)
        check_a("origin", self.origin, Origin)
        check_text("reason", self.reason)
        if self.by is not None:
            check_uuid("by", self.by)

    @property
    def actor(self) -> str | None:
        """Call this for who did it; None for what no request asked for."""
        if not self.origin.method:
            return None
        who = self.by or self.user_id
        return None if who is None else str(who)


# What an operator says of why they do it; a page asks for less.
WHY_BYTES_MAX = 4096
FACTS_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class Operation:
    """What an operator did with a thing that is no account, and `why`, in their own words.

    `facts` are further ones, such as what it was before: texts without secrets. Raises
    `InvalidField`.
    """

    act: Operated
    by: UUID
    thing: str
    origin: Origin
    why: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_a("act", self.act, Operated)
        check_uuid("by", self.by)
        check_text("thing", self.thing)
        check_a("origin", self.origin, Origin)
        check_text("why", self.why, WHY_BYTES_MAX)
        check_texts("facts", self.facts, FACTS_BYTES_MAX)

    def to_json(self) -> dict[str, str]:
        """Call this for what is kept beside the columns of a row."""
        return {**self.facts, "reason": self.why}


@dataclass(frozen=True, slots=True)
class Audited:
    """One row of the audit, of accounts, of operations or of commands.

    `reason` says why it failed, `why` what whoever did it gave as theirs.
    """

    id: int
    at: datetime
    kind: str
    actor: str | None
    action: str
    subject: str | None
    is_success: bool
    reason: str | None
    address: str | None
    browser: str | None
    request_id: str | None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which rows are wanted; None for any. `before` is the id of the last row of a page before.

    Of a `user_id` those it did and those done to it. Raises `InvalidField`.
    """

    user_id: UUID | None = None
    action: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    is_success: bool | None = None
    before: int | None = None
    limit: int = AUDIT_FOUND

    def __post_init__(self) -> None:
        if self.user_id is not None:
            check_uuid("user_id", self.user_id)
        if self.action is not None:
            check_text("action", self.action)
        for name, moment in (("since", self.since), ("until", self.until)):
            if moment is not None:
                check_a(name, moment, datetime)
                if moment.tzinfo is None:
                    raise InvalidField(name, "has no time zone")
        if self.is_success is not None:
            check_a("is_success", self.is_success, bool)
        if self.before is not None:
            check_integer("before", self.before, 1, BIGINT_MAX)
        check_integer("limit", self.limit, 1, AUDIT_FOUND_MAX)


class Audit(Protocol):
    """The audit of accounts. Raises `StoreUnavailable` and its kin.

    What changes an account writes its rows itself (`Accounts`); this is for the rest.
    """

    async def note(self, entry: Entry) -> None:
        """Call this for a try that changed nothing, known user or not: a row, and an event."""
        ...

    async def operated(self, operation: Operation) -> None:
        """Call this with what an operator does, before it is done: a row, and no event."""
        ...

    async def search(self, query: AuditQuery) -> Sequence[Audited]:
        """Call this for rows, the newest first."""
        ...


def user_stream(user_id: UUID) -> StreamId:
    """Call this for where the events of a user are."""
    return StreamId(f"user-{user_id}")


def event_of(event_id: UUID, entry: Entry, facts: dict[str, str] | None = None) -> NewEvent:
    """Call this for the event of an act, with further facts of it."""
    told = {
        "act": entry.act.value,
        "method": entry.origin.method,
        "address": entry.origin.address,
        "browser": entry.origin.browser,
        "outcome": "refused" if entry.reason else "accepted",
        "reason": entry.reason,
        "by": "" if entry.by is None else str(entry.by),
        **(facts or {}),
    }
    is_try = bool(entry.reason) and entry.act not in _TOLD_AS_IT_IS
    kind = REFUSED_EVENT if is_try else EVENT_TYPES[entry.act]
    data = msgspec.json.encode({name: value for name, value in told.items() if value})
    return NewEvent(event_id, kind, data, metadata={"request_id": entry.origin.request_id})
