"""API tokens in PostgreSQL; the twin of `storage/memory/accounts/kept/tokens.py`.

Times are the server's. A token that ends leaves a row in `session_ends` in the same transaction,
as a sign-in does.
"""

from collections.abc import Sequence
from uuid import UUID

from actors.accounts.kept.audit import Act, Entry, Origin
from actors.accounts.kept.tokens import (
    TOKEN_KEPT,
    TOKENS_PER_USER_MAX,
    USED_EVERY,
    ApiToken,
    NewToken,
    NotAdded,
    Scope,
)
from actors.accounts.members import NOWHERE, Member, Role
from actors.accounts.ports import check_digest
from actors.accounts.ways.tokens import BY_OWNER, check_revoke
from actors.accounts.words import SessionId
from actors.persistence.beside_log.outbox import check_messages
from actors.persistence.words import check_a, check_uuid
from storage.postgres.accounts.audit import begin, record
from storage.postgres.accounts.proving import is_alive
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.notices import SESSIONS
from storage.postgres.connecting.session import Connection
from storage.postgres.outbox import add_new_messages

# Those that are over and not swept yet take no place.
_COUNT = "SELECT count(*) FROM api_tokens WHERE user_id = $1 AND expires_at > clock_timestamp()"
_ADD = """
INSERT INTO api_tokens (id, user_id, digest, session_id, name, scopes, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp() + $7::interval)
RETURNING id, name, scopes, created_at, expires_at, used_at
"""
_OF_USER = """
SELECT id, name, scopes, created_at, expires_at, used_at FROM api_tokens
WHERE user_id = $1 AND expires_at > clock_timestamp() ORDER BY created_at DESC, id
"""
# Of requests at once the first writes, and the others find that it did. The credentials: without
# them there is no account any more.
_WHO = """
WITH found AS (
    SELECT t.id, t.session_id, u.id AS user_id, u.username, u.email, u.created_at, t.scopes
    FROM api_tokens t JOIN users u ON u.id = t.user_id JOIN credentials c ON c.user_id = u.id
    WHERE t.digest = $1 AND t.expires_at > clock_timestamp()
), used AS (
    UPDATE api_tokens t SET used_at = clock_timestamp() FROM found
    WHERE t.id = found.id
        AND (t.used_at IS NULL OR t.used_at <= clock_timestamp() - $2::interval)
)
SELECT * FROM found
"""
# In the order of ids, as everybody who ends sessions: nobody waits in a circle.
_END = """
WITH gone AS (DELETE FROM api_tokens WHERE {which} RETURNING session_id, user_id), ended AS (
    INSERT INTO session_ends AS e (session_id, how, members)
    SELECT session_id, 'ended', ARRAY[user_id] FROM gone ORDER BY 1
    ON CONFLICT (session_id) DO UPDATE
        SET members = ARRAY(SELECT DISTINCT unnest(e.members || excluded.members)))
SELECT user_id, count(*) AS count FROM gone GROUP BY 1
"""
_OVER = """
id = ANY(ARRAY(SELECT id FROM api_tokens WHERE expires_at <= clock_timestamp()
    ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED))
"""
_NEXT_OVER = (
    "SELECT extract(epoch FROM min(expires_at) - clock_timestamp())::float8 FROM api_tokens"
)


class PostgresApiTokens:
    """The port `ApiTokens` on a `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, new: NewToken, origin: Origin) -> ApiToken | NotAdded:
        """See `ApiTokens.add`."""
        check_a("new", new, NewToken)
        check_a("origin", origin, Origin)
        return await self._database.transact(_add, new, origin)

    async def of_user(self, user_id: UUID) -> Sequence[ApiToken]:
        """See `ApiTokens.of_user`."""
        check_uuid("user_id", user_id)
        return await self._database.run(_of_user, user_id)

    async def revoke(
        self, user_id: UUID, id_: UUID, origin: Origin, *, because: str = BY_OWNER
    ) -> bool:
        """See `ApiTokens.revoke`."""
        check_revoke(user_id, id_, origin, because)
        return await self._database.transact(
            _revoke, user_id, id_, origin, because, channel=SESSIONS
        )

    async def who(self, digest: bytes) -> Member | None:
        """See `ApiTokens.who`."""
        check_digest(digest)
        return await self._database.run(_who, digest)


async def end_tokens(
    connection: Connection,
    user_ids: Sequence[UUID],
    because: str,
    origin: Origin = NOWHERE,
    by: UUID | None = None,
) -> int:
    """Call this in an act's transaction after which no token of these accounts is good; how many.

    `begin` was called for each of them.
    """
    rows = await connection.fetch(_END.format(which="user_id = ANY($1)"), list(user_ids))
    for row in rows:
        entry = Entry(Act.TOKEN_REVOKE, row["user_id"], origin, by=by)
        await record(connection, entry, {"because": because, "count": str(row["count"])})
    return sum(row["count"] for row in rows)


async def sweep_tokens(connection: Connection, limit: int) -> tuple[int, float | None]:
    """Call this to end tokens that are over; how many, and in how many seconds the next is."""
    rows = await connection.fetch(_END.format(which=_OVER), limit)
    left: float | None = await connection.fetchval(_NEXT_OVER)
    return sum(row["count"] for row in rows), left


async def _add(connection: Connection, new: NewToken, origin: Origin) -> ApiToken | NotAdded:
    await begin(connection, new.user_id)
    # Its lock lets those of one account stand in line, so that no two of them pass the number.
    if not await is_alive(connection, new.user_id, new.reference):
        return NotAdded.ENDED
    if await connection.fetchval(_COUNT, new.user_id) >= TOKENS_PER_USER_MAX:
        return NotAdded.TOO_MANY
    row = await connection.fetchrow(
        _ADD,
        new.id,
        new.user_id,
        new.digest,
        new.session_id,
        new.name,
        [one.value for one in new.scopes],
        TOKEN_KEPT,
    )
    assert row is not None
    await add_new_messages(connection, check_messages(new.outbox))
    facts = {"token": str(new.id), "scopes": " ".join(new.scopes)}
    await record(connection, Entry(Act.TOKEN_ADD, new.user_id, origin), facts)
    return _token(*row)


async def _of_user(connection: Connection, user_id: UUID) -> list[ApiToken]:
    return [_token(*row) for row in await connection.fetch(_OF_USER, user_id)]


def _token(id_: UUID, name: str, scopes: list[str], *times: object) -> ApiToken:
    return ApiToken(id_, name, tuple(map(Scope, scopes)), *times)  # type: ignore[arg-type]


async def _revoke(
    connection: Connection, user_id: UUID, id_: UUID, origin: Origin, because: str
) -> bool:
    await begin(connection, user_id)
    which = "user_id = $1 AND id = $2"
    if not await connection.fetch(_END.format(which=which), user_id, id_):
        return False
    facts = {"because": because, "token": str(id_)}
    await record(connection, Entry(Act.TOKEN_REVOKE, user_id, origin), facts)
    return True


async def _who(connection: Connection, digest: bytes) -> Member | None:
    row = await connection.fetchrow(_WHO, digest, USED_EVERY)
    if row is None:
        return None
    return Member(
        row["user_id"],
        row["username"],
        row["email"],
        Role.USER,  # what needs another is for sign-ins
        row["created_at"],
        row["id"],
        SessionId(row["session_id"]),
        scopes=frozenset(map(Scope, row["scopes"])),
    )
