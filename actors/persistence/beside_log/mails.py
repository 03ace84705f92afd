"""What became of mails, and which addresses take none: the port of who sends them.

A mail waits in the outbox. Here stands what is known of it once a server was asked to take it, and
whose address was refused for good. Nobody's address is kept, but its digest.

Rule 1: `begin` is durable before the last byte of a mail may leave. A process that dies, or a
        server that does not answer, behind it leaves a count; of a mail no more than
        `LEFT_MAX` copies leave without an answer.
Rule 2: what is written here is fixed words and codes, never a text of a server or of a mail.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from actors.persistence.beside_log.outbox import SENT_KEPT
from actors.persistence.errors import InvalidField
from actors.persistence.words import (
    READ_LIMIT_MAX,
    check_a,
    check_bytes,
    check_integer,
    check_text,
    check_uuid,
)

# SHA-256 of an address in its one form.
ADDRESS_DIGEST_BYTES = 32
# As long as the outbox keeps what was sent: until then a mail may still be tried once more.
MAILS_KEPT = SENT_KEPT
# MAIL-5: the first, and at most one more.
LEFT_MAX = 2
# A mailbox that was closed may be opened again; a server that is asked daily counts it against us.
SUPPRESSED_FOR = timedelta(days=30)
# MAIL-7: how often somebody may have a sign-in link sent to such an address, by hand.
EXCEPTION_EVERY = timedelta(days=1)
# A reason is a code and a few words of ours.
REASON_CHARS_MAX = 200


class MailState(StrEnum):
    """Where a mail stands, once somebody was asked to take it."""

    SENDING = "sending"
    SENT = "sent"
    DEFERRED = "deferred"
    REFUSED = "refused"
    SUPPRESSED = "suppressed"
    EXPIRED = "expired"
    # It has left, and no answer came.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class MailRef:
    """Which mail: its message in the outbox, the digest of its recipient, its template."""

    message_id: UUID
    recipient: bytes
    template: str

    def __post_init__(self) -> None:
        check_uuid("message_id", self.message_id)
        check_address_digest(self.recipient)
        check_text("template", self.template)


@dataclass(frozen=True, slots=True)
class KnownMail:
    """A mail as it is shown. `left` is how many copies have left without an answer."""

    mail: MailRef
    state: MailState
    reason: str
    left: int
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Suppression:
    """An address that takes no mail until then, and why."""

    reason: str
    until: datetime


class MailStates(Protocol):
    """What became of mails. Every method raises `StoreUnavailable` and its kin."""

    async def begin(self, mail: MailRef, *, anew: bool = False) -> int:
        """Call this before the last byte leaves; how many copies may have left before this one.

        With `LEFT_MAX` or more nothing was noted: send nothing. `anew` forgets those before of a
        mail that was refused: it was given up, and somebody has it sent once more.
        """
        ...

    async def settle(
        self, mail: MailRef, state: MailState, reason: str = "", *, is_answered: bool = False
    ) -> None:
        """Call this when it is known what became of a mail.

        `is_answered`: the copy that the last `begin` spoke of is known to be taken or refused, and
        counts no more.
        """
        ...

    async def suppress(self, address: bytes, reason: str) -> None:
        """Call this for a digest whose address was refused for good; for 30 days from now."""
        ...

    async def maybe_suppression(self, address: bytes) -> Suppression | None:
        """Call this before a mail is sent; None for who takes mail."""
        ...

    async def take_exception(self, address: bytes) -> bool:
        """Call this for a mail that its reader asked for; True once a day for each address."""
        ...

    async def lift(self, address: bytes) -> bool:
        """Call this to send mail to an address again; False when nothing held it."""
        ...

    async def newest(
        self, limit: int = 50, *, recipient: bytes | None = None
    ) -> Sequence[KnownMail]:
        """Call this for what changed last, the newest first; with a digest only what went there."""
        ...

    async def purge(self, limit: int = 1000) -> int:
        """Call this to remove at most so many of what is over, of each sort."""
        ...


def check_address_digest(digest: object) -> None:
    """Call this with what stands for an address; raises `InvalidField`."""
    check_bytes("an address", digest, ADDRESS_DIGEST_BYTES)
    if isinstance(digest, bytes) and len(digest) != ADDRESS_DIGEST_BYTES:
        raise InvalidField("an address", f"is given as a digest of {ADDRESS_DIGEST_BYTES} bytes")


def check_mail(mail: object) -> None:
    """Call this with which mail is meant; raises `InvalidField`."""
    check_a("mail", mail, MailRef)


def check_settled(state: object, reason: object) -> None:
    """Call this with what became of a mail; raises `InvalidField`."""
    check_a("state", state, MailState)
    check_reason(reason)


def check_reason(reason: object) -> None:
    """Call this with why; raises `InvalidField`."""
    check_text("reason", reason, 4 * REASON_CHARS_MAX)


def check_shown(limit: object, recipient: object = None) -> None:
    """Call this with how many are asked for, and of whom; raises `InvalidField`."""
    check_integer("limit", limit, 1, READ_LIMIT_MAX)
    if recipient is not None:
        check_address_digest(recipient)
