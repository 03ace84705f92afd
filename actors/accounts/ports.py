"""What the store knows of browser sessions: which of them ended, and tickets for one socket each.

Two ports, kept by `storage/postgres/accounts/sessions.py` and its twin in `storage/memory`; both
pass `storage.testing.SessionsSuite`. Every method raises `StoreUnavailable` and its kin when the
store is away, and `InvalidField` for nonsense, before any I/O.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from actors.accounts.words import SessionId
from actors.persistence.errors import InvalidField
from actors.persistence.words import check_a, check_bytes, check_list, check_text, check_uuid

# SEC-42: what lies between asking for a ticket and opening the socket is one round trip.
TICKET_KEPT = timedelta(seconds=30)
# SHA-256 of a ticket; the ticket itself is kept nowhere.
DIGEST_BYTES = 32
# A cookie that is older than this is no use to whoever kept it: accounts ask for a new sign-in.
ENDS_KEPT = timedelta(days=30)
# Sessions asked about in one statement.
ASKED_MAX = 1000


class HowEnded(StrEnum):
    """Why a session is over: its person left or was signed out, or may not come back."""

    ENDED = "ended"
    BANNED = "banned"


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """A browser session is over: nothing of it may stay open."""

    session_id: SessionId
    how: HowEnded


class SessionEnds(Protocol):
    """Which browser sessions are over. Whoever ends one calls `end` and nothing else.

    Every process of the database hears of it (`SessionEndWatch`). A session whose actor is
    passivated goes on; it is none of this.
    """

    async def end(self, sessions: Sequence[SessionId], how: HowEnded = HowEnded.ENDED) -> None:
        """Call this to end sessions for good, at most 1,000 at once; harmless to repeat.

        Kept for 30 days. Of two ways to end the graver stays: a ban.
        """
        ...

    async def ended(self, sessions: Sequence[SessionId]) -> Mapping[SessionId, HowEnded]:
        """Call this to ask which of at most 1,000 sessions are over; the others are left out."""
        ...

    def rings(self, every_s: float) -> AsyncGenerator[None, None]:
        """Call this to be woken: at once, then when a session ended, or after so many seconds.

        A ring may be lost, and several may come as one: look what is over each time. Leave it by
        closing (`aclosing`). Ends by cancellation only.
        """
        ...

    async def purge(self, limit: int = 1000) -> int:
        """Call this to remove at most so many that ended over 30 days ago; returns how many."""
        ...


class SocketTickets(Protocol):
    """Tickets by which a client program without a cookie opens one socket (SEC-42)."""

    async def issue(self, digest: bytes, session_id: SessionId) -> None:
        """Call this to let `session_id` open a socket within 30 s with what has this digest.

        Also removes some tickets that are over, so that what is kept is bounded by how often this
        is called.
        """
        ...

    async def take(self, digest: bytes) -> SessionId | None:
        """Call this to use a ticket up: whose it is, or None for one that is over, used or unknown.

        Of any number of calls at once, in any processes, one gets it. Cancelled, it may be used up.
        """
        ...


def check_sessions(sessions: Sequence[SessionId]) -> list[SessionId]:
    """Call this with ids of sessions; raises `InvalidField`."""
    given = [check_session(session) for session in check_list("sessions", sessions)]
    if len(given) > ASKED_MAX:
        raise InvalidField("sessions", f"are {len(given)}, the limit is {ASKED_MAX}")
    return given


def check_users(user_ids: Sequence[UUID]) -> list[UUID]:
    """Call this with ids of members; raises `InvalidField`."""
    check_list("user_ids", user_ids)
    given = list(user_ids)
    for one in given:
        check_uuid("user_ids", one)
    if len(given) > ASKED_MAX:
        raise InvalidField("user_ids", f"are {len(given)}, the limit is {ASKED_MAX}")
    return given


def check_session(session: object) -> SessionId:
    """Call this with the id of a session; raises `InvalidField`."""
    if not check_text("a session", session):
        raise InvalidField("a session", "is empty")
    return SessionId(str(session))


def check_how(how: object) -> None:
    """Call this with how a session ended; raises `InvalidField`."""
    check_a("how", how, HowEnded)


def check_digest(digest: object) -> None:
    """Call this with the digest of a ticket; raises `InvalidField`."""
    check_bytes("digest", digest, DIGEST_BYTES)
    if isinstance(digest, bytes) and len(digest) != DIGEST_BYTES:
        raise InvalidField("digest", f"takes {DIGEST_BYTES} bytes")
