"""What is kept of an account, in PostgreSQL; the twin of `storage/memory/accounts/holdings.py`.

Each page is one statement by an index, and begins behind the last row of the page before: no
connection is held while its reader is slow.
"""

from collections.abc import Sequence
from uuid import UUID

import asyncpg
import msgspec

from actors.accounts.holdings import (
    HELD_PAGE,
    Held,
    HeldAccount,
    HeldAct,
    HeldAddressChange,
    HeldApp,
    HeldChatAct,
    HeldDevice,
    HeldIdentity,
    HeldLogin,
    HeldMembership,
    HeldMessage,
    HeldPage,
    HeldPart,
    HeldPasskey,
    HeldProfile,
    HeldSession,
    HeldSignIn,
    HeldToken,
    check_held,
    message_place,
    parse_message_place,
    parse_place,
)
from actors.accounts.kept.devices.words import Trust
from actors.accounts.kept.risk.words import Outcome
from actors.accounts.members import Level, Role
from actors.chat import DEMO_USER_ID
from actors.chat.stored import sealed_text, text_of
from actors.persistence import ERASED, Keyring
from actors.persistence.words import check_uuid
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.session import Connection

_PROFILE = """
SELECT u.id, u.username, u.email, u.role, u.created_at, c.changed_at, u.email_verified_at,
    c.doubted_since
FROM users u LEFT JOIN credentials c ON c.user_id = u.id WHERE u.id = $1 AND u.deleted_at IS NULL
"""
_SIGN_INS = """
SELECT s.id, s.browser, s.created_at, s.seen_at, s.address, s.name, s.method, s.level, s.proven_at,
    s.device, s.is_limited, p.provider, p.session
FROM sign_ins s LEFT JOIN provider_sign_ins p ON p.sign_in = s.id
WHERE s.user_id = $1 ORDER BY s.created_at, s.id
"""
_DEVICES = """
SELECT id, browser, name, trust, logins, passkey, first_seen_at, seen_at FROM devices
WHERE user_id = $1 ORDER BY first_seen_at, id
"""
_LOGINS = """
SELECT id, at, outcome, method, browser, country, latitude, longitude FROM logins
WHERE user_id = $1 ORDER BY at, id
"""
_ADDRESS_CHANGES = """
SELECT former, email, asked_at, made_at FROM address_changes
WHERE user_id = $1 ORDER BY asked_at, id
"""
_MEMBERSHIPS = """
SELECT r.name, m.role, m.joined_at
FROM chat_room_memberships m JOIN chat_rooms r ON r.id = m.room_id
WHERE m.user_id = $1 ORDER BY r.name
"""
_PASSKEYS = """
SELECT id, name, added_at, used_at, is_backed_up, flagged_at FROM passkeys
WHERE user_id = $1 ORDER BY added_at, id
"""
_FACTORS = """
SELECT (SELECT added_at FROM totp_factors WHERE user_id = $1) AS added_at,
    (SELECT count(*) FROM recovery_codes WHERE user_id = $1) AS codes_left
"""
_IDENTITIES = """
SELECT provider, issuer, subject, linked_at, used_at FROM provider_identities
WHERE user_id = $1 ORDER BY linked_at, provider
"""
_TOKENS = """
SELECT id, name, scopes, created_at, expires_at, used_at FROM api_tokens
WHERE user_id = $1 ORDER BY created_at, id
"""
_SESSIONS = """
SELECT session_id AS place, ended_at, how FROM session_ends
WHERE members @> ARRAY[$1::uuid] AND session_id > $2 ORDER BY session_id LIMIT $3
"""
# By the index that keeps a client's id once: an author's messages of a room lie together there.
_MESSAGES = """
SELECT m.client_id, m.room_id, m.id, m.seq, m.status, m.created_at, m.body, m.event_id, m.sealed
FROM chat_messages m
WHERE m.room_id = (SELECT id FROM chat_rooms WHERE name = $1)
    AND m.author_key = 'user:' || $2::uuid::text AND m.client_id > $3 AND m.status <> 'removed'
ORDER BY m.client_id LIMIT $4
"""
_CHAT_ACTS = """
SELECT id AS place, created_at AS at, action, metadata::text AS metadata FROM chat_audit_log
WHERE actor_user_id = $1 AND actor_user_id <> '00000000-0000-7000-8000-00000000d3b0' AND id > $2
ORDER BY id LIMIT $3
"""
_ACTS = """
SELECT id AS place, at, action, success FROM audit_log
WHERE event_type = 'account' AND resource = $1::uuid::text AND id > $2 ORDER BY id LIMIT $3
"""


class PostgresHoldings:
    """The port `Holdings` on a `Database`."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database, self._keyring = database, keyring

    async def account(self, user_id: UUID) -> HeldAccount | None:
        """See `Holdings.account`."""
        check_uuid("user_id", user_id)
        return await self._database.run(_account, user_id)

    async def page(
        self, user_id: UUID, part: HeldPart, *, after: str = "", limit: int = HELD_PAGE
    ) -> HeldPage:
        """See `Holdings.page`."""
        check_held(user_id, part, after, limit)
        if part is HeldPart.MESSAGES:
            return await self._messages(user_id, after, limit)
        if part is HeldPart.SESSIONS:
            rows = await self._database.run(_fetch, _SESSIONS, user_id, after, limit)
            return _page([HeldSession(row["ended_at"], row["how"]) for row in rows], rows, limit)
        first = parse_place(after)
        if part is HeldPart.ACTS:
            rows = await self._database.run(_fetch, _ACTS, user_id, first, limit)
            return _page([HeldAct(*row[1:]) for row in rows], rows, limit)
        rows = await self._database.run(_fetch, _CHAT_ACTS, user_id, first, limit)
        acts = [HeldChatAct(row["at"], row["action"], _facts(row)) for row in rows]
        return _page(acts, rows, limit)

    async def _messages(self, user_id: UUID, after: str, limit: int) -> HeldPage:
        rooms = await self._database.run(_fetch, "SELECT name FROM chat_rooms ORDER BY name")
        names = [row["name"] for row in rooms]
        room, client_id = parse_message_place(after, names)
        if room is None:
            return HeldPage((), None)
        rows = await self._database.run(_fetch, _MESSAGES, room, user_id, client_id, limit)
        messages = await self._opened(room, rows)
        if len(rows) == limit:
            return HeldPage(messages, message_place(room, rows[-1]["client_id"]))
        behind = names[names.index(room) + 1 :]
        return HeldPage(messages, message_place(behind[0]) if behind else None)

    async def _opened(self, room: str, rows: Sequence[asyncpg.Record]) -> tuple[HeldMessage, ...]:
        sealed = [
            sealed_text(row["room_id"], row["event_id"], row["sealed"], row["created_at"])
            for row in rows
            if row["sealed"] is not None
        ]
        opened = iter(await self._keyring.open(sealed) if sealed else ())
        texts = [row["body"] if row["sealed"] is None else text_of(next(opened)) for row in rows]
        return tuple(
            HeldMessage(
                row["id"],
                room,
                row["seq"],
                row["status"],
                row["client_id"],
                row["created_at"],
                None if text is ERASED else text,
            )
            for row, text in zip(rows, texts, strict=True)
        )


async def _account(connection: Connection, user_id: UUID) -> HeldAccount | None:
    row = await connection.fetchrow(_PROFILE, user_id)
    if row is None or user_id == DEMO_USER_ID:
        return None
    role = Role(row["role"])
    names = row["username"], row["email"], role, row["created_at"], row["changed_at"]
    doubts = row["email_verified_at"], row["doubted_since"]
    sign_ins = await connection.fetch(_SIGN_INS, user_id)
    memberships = await connection.fetch(_MEMBERSHIPS, user_id)
    passkeys = await connection.fetch(_PASSKEYS, user_id)
    identities = await connection.fetch(_IDENTITIES, user_id)
    devices = await connection.fetch(_DEVICES, user_id)
    logins = await connection.fetch(_LOGINS, user_id)
    changes = await connection.fetch(_ADDRESS_CHANGES, user_id)
    tokens = await connection.fetch(_TOKENS, user_id)
    factors = await connection.fetchrow(_FACTORS, user_id)
    assert factors is not None
    since = factors["added_at"]
    return HeldAccount(
        HeldProfile(user_id, *names, *doubts),
        tuple(map(_sign_in, sign_ins)),
        tuple(HeldMembership(*one) for one in memberships),
        tuple(HeldPasskey(*one) for one in passkeys),
        None if since is None else HeldApp(since),
        factors["codes_left"],
        tuple(HeldIdentity(*one) for one in identities),
        tuple(map(_device, devices)),
        tuple(map(_login, logins)),
        tuple(HeldAddressChange(*one) for one in changes),
        tuple(HeldToken(id_, name, tuple(scopes), *at) for id_, name, scopes, *at in tokens),
    )


def _sign_in(row: asyncpg.Record) -> HeldSignIn:
    facts = {**row, "reference": row["id"], "level": Level(row["level"])}
    facts["provider_session"] = facts.pop("session")
    del facts["id"]
    return HeldSignIn(**facts)


def _device(row: asyncpg.Record) -> HeldDevice:
    return HeldDevice(**{**row, "trust": Trust(row["trust"])})


def _login(row: asyncpg.Record) -> HeldLogin:
    facts = {**row, "reference": row["id"], "outcome": Outcome(row["outcome"])}
    del facts["id"]
    return HeldLogin(**facts)


async def _fetch(connection: Connection, statement: str, *args: object) -> list[asyncpg.Record]:
    return await connection.fetch(statement, *args)


def _page(held: Sequence[Held], rows: Sequence[asyncpg.Record], limit: int) -> HeldPage:
    after = str(rows[-1]["place"]) if len(rows) == limit else None
    return HeldPage(tuple(held), after)


def _facts(row: asyncpg.Record) -> dict[str, str | int | None]:
    return msgspec.json.decode(row["metadata"], type=dict[str, str | int | None])
