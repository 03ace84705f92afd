"""API tokens in memory; the twin of `storage/postgres/accounts/kept/tokens.py`."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import UUID

import trio

from actors.accounts.kept.audit import Act, Entry, Origin
from actors.accounts.kept.tokens import (
    TOKEN_KEPT,
    TOKENS_PER_USER_MAX,
    USED_EVERY,
    ApiToken,
    NewToken,
    NotAdded,
)
from actors.accounts.members import NOWHERE, Member, Role
from actors.accounts.ports import HowEnded, check_digest
from actors.accounts.ways.tokens import BY_OWNER, check_revoke
from actors.accounts.words import SessionId
from actors.persistence.beside_log.outbox import check_messages
from actors.persistence.words import check_a, check_uuid
from storage.memory.accounts.audit import record
from storage.memory.accounts.proving import is_alive
from storage.memory.database import MemoryDatabase, SessionEndRow, TokenRow
from storage.memory.twin import Twin


class MemoryApiTokens(Twin):
    """The port `ApiTokens` on a `MemoryDatabase`."""

    async def add(self, new: NewToken, origin: Origin) -> ApiToken | NotAdded:
        """See `ApiTokens.add`."""
        check_a("new", new, NewToken)
        check_a("origin", origin, Origin)
        await self.pass_faults()
        database, now = self.database, self.database.now()
        if not is_alive(database, new.user_id, new.reference):
            return NotAdded.ENDED
        if len(self._of_user(new.user_id)) >= TOKENS_PER_USER_MAX:
            return NotAdded.TOO_MANY
        row = TokenRow(
            new.id, new.user_id, new.session_id, new.name, new.scopes, now, now + TOKEN_KEPT
        )
        database.api_tokens[new.digest] = row
        database.add_messages(check_messages(new.outbox))
        facts = {"token": str(new.id), "scopes": " ".join(new.scopes)}
        record(database, Entry(Act.TOKEN_ADD, new.user_id, origin), facts)
        return _token(row)

    async def of_user(self, user_id: UUID) -> Sequence[ApiToken]:
        """See `ApiTokens.of_user`."""
        check_uuid("user_id", user_id)
        await self.pass_faults()
        # Turned round: of two in one moment the later one comes first, too.
        rows = [*reversed(self._of_user(user_id))]
        rows.sort(key=lambda row: row.created_at, reverse=True)
        return [_token(row) for row in rows]

    async def revoke(
        self, user_id: UUID, id_: UUID, origin: Origin, *, because: str = BY_OWNER
    ) -> bool:
        """See `ApiTokens.revoke`."""
        check_revoke(user_id, id_, origin, because)
        await self.pass_faults()
        if not _end(self.database, lambda row: (row.user_id, row.id) == (user_id, id_)):
            return False
        facts = {"because": because, "token": str(id_)}
        record(self.database, Entry(Act.TOKEN_REVOKE, user_id, origin), facts)
        return True

    async def who(self, digest: bytes) -> Member | None:
        """See `ApiTokens.who`."""
        check_digest(digest)
        await self.pass_faults()
        row, now = self.database.api_tokens.get(digest), self.database.now()
        user = None if row is None else self.database.users.get(row.user_id)
        if row is None or user is None or row.expires_at <= now:
            return None
        if row.used_at is None or now - row.used_at >= USED_EVERY:
            row.used_at = now
        return Member(
            row.user_id,
            user.username,
            user.email,
            Role.USER,  # what needs another is for sign-ins
            user.created_at,
            row.id,
            SessionId(row.session_id),
            scopes=frozenset(row.scopes),
        )

    def _of_user(self, user_id: UUID) -> list[TokenRow]:
        now, rows = self.database.now(), self.database.api_tokens.values()
        return [row for row in rows if row.user_id == user_id and row.expires_at > now]


def end_tokens(
    database: MemoryDatabase,
    user_ids: Sequence[UUID],
    because: str,
    origin: Origin = NOWHERE,
    by: UUID | None = None,
) -> int:
    """Call this in an act after which no token of these accounts is good; how many."""
    count = 0
    for user_id in user_ids:
        ended = _end(database, lambda row, user_id=user_id: row.user_id == user_id)  # type: ignore[misc]
        if ended:
            entry = Entry(Act.TOKEN_REVOKE, user_id, origin, by=by)
            record(database, entry, {"because": because, "count": str(ended)})
        count += ended
    return count


def sweep_tokens(database: MemoryDatabase, limit: int) -> tuple[int, float | None]:
    """Call this to end tokens that are over; how many, and in how many seconds the next is."""
    now, rows = database.now(), database.api_tokens.values()
    over = {row.id for row in [row for row in rows if row.expires_at <= now][:limit]}
    count = _end(database, lambda row: row.id in over)
    left: list[timedelta] = [row.expires_at - now for row in rows]
    return count, min(left).total_seconds() if left else None


def _token(row: TokenRow) -> ApiToken:
    return ApiToken(row.id, row.name, row.scopes, row.created_at, row.expires_at, row.used_at)


def _end(database: MemoryDatabase, is_over: Callable[[TokenRow], bool]) -> int:
    over = [digest for digest, row in database.api_tokens.items() if is_over(row)]
    for digest in over:
        row = database.api_tokens.pop(digest)
        end = database.session_ends.setdefault(
            row.session_id, SessionEndRow(HowEnded.ENDED, database.now())
        )
        end.members.add(row.user_id)
    if over:
        database.sessions_changed.set()
        database.sessions_changed = trio.Event()
    return len(over)
