"""Links that sign in, in PostgreSQL; the twin of the other engine's. Times are the server's."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from actors.accounts.kept.audit import Act, Entry, Origin
from actors.accounts.members import NO_PASSWORD, NOWHERE, NewAccount, NewSignIn
from actors.accounts.ways.links import (
    LINK_KEPT,
    WRONG_CODES_MAX,
    Entered,
    LinkClaim,
    Newcomer,
    NewLink,
    check_link,
    check_redeem,
    entered,
)
from actors.persistence.beside_log.outbox import check_messages
from actors.persistence.words import OutboxMessage, check_a
from storage.errors import StatementRefused
from storage.postgres.accounts.audit import begin, record
from storage.postgres.accounts.members import admit, make_account
from storage.postgres.accounts.proving import use_proof
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.notices import SESSIONS
from storage.postgres.connecting.session import Connection
from storage.postgres.outbox import add_new_messages

# A name or an address may be taken while a newcomer is made: then all is looked at once more. By
# the third time somebody has it.
_TRIES_MAX = 3
_TAKEN = frozenset({"users_username_key", "users_email_key"})

# Each removes more than it adds when there is that much to remove, as with tickets for sockets.
_ISSUE = """
WITH over AS (
    DELETE FROM sign_in_links WHERE mailbox <> $1 AND mailbox = ANY(ARRAY(
        SELECT mailbox FROM sign_in_links WHERE expires_at <= clock_timestamp()
        ORDER BY expires_at LIMIT 10 FOR UPDATE SKIP LOCKED))
)
INSERT INTO sign_in_links (mailbox, digest, email, flow, code, expires_at)
VALUES ($1, $2, $3, $4, $5, clock_timestamp() + $6::interval)
ON CONFLICT (mailbox) DO UPDATE SET digest = excluded.digest, email = excluded.email,
    flow = excluded.flow, code = excluded.code, wrong_codes = 0, expires_at = excluded.expires_at
"""
_WHOSE = """
SELECT l.email, u.id FROM sign_in_links l
    LEFT JOIN users u ON u.email = l.email AND u.deleted_at IS NULL
WHERE l.digest = $1 AND l.expires_at > clock_timestamp()
"""
# What is compared are digests of 256 bits: how far two are alike tells nothing of what they are of.
_TAKE = """
DELETE FROM sign_in_links WHERE digest = $1 AND expires_at > clock_timestamp()
    AND (flow IS NULL OR flow = $2 OR code = $3)
RETURNING email
"""
_WRONG = "UPDATE sign_in_links SET wrong_codes = wrong_codes + 1 WHERE digest = $1"
_SPENT = "DELETE FROM sign_in_links WHERE digest = $1 AND wrong_codes >= $2"
# Behind it stands whoever changes more than one thing of the account.
_LOCK = """
SELECT u.username FROM users u JOIN credentials c ON c.user_id = u.id
WHERE u.id = $1 AND u.email = $2 AND u.deleted_at IS NULL FOR UPDATE OF c
"""
_FREE_NAME = """
SELECT n FROM unnest($1::text[]) WITH ORDINALITY AS g (n, i)
WHERE NOT EXISTS (SELECT FROM users WHERE username = n) ORDER BY i LIMIT 1
"""
_VERIFY = """
UPDATE users SET email_verified_at = clock_timestamp()
WHERE id = $1 AND email_verified_at IS NULL RETURNING 1
"""


class PostgresSignInLinks:
    """The port `SignInLinks` on a `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def issue(self, link: NewLink, outbox: Sequence[OutboxMessage]) -> None:
        """See `SignInLinks.issue`."""
        check_link(link)
        await self._database.transact(_issue, link, check_messages(outbox))

    async def redeem(
        self,
        claim: LinkClaim,
        newcomer: Newcomer,
        sign_in: NewSignIn,
        origin: Origin = NOWHERE,
    ) -> Entered | None:
        """See `SignInLinks.redeem`."""
        check_a("origin", origin, Origin)
        check_redeem(claim, newcomer, sign_in)
        for tries_left in reversed(range(_TRIES_MAX)):
            try:
                return await self._database.transact(
                    _redeem, claim, newcomer, sign_in, origin, channel=SESSIONS
                )
            except StatementRefused as error:
                if error.constraint not in _TAKEN or not tries_left:
                    raise
        raise AssertionError("the last try answers or raises")


async def _issue(connection: Connection, link: NewLink, outbox: Sequence[OutboxMessage]) -> None:
    await connection.execute(
        _ISSUE, link.mailbox, link.digest, link.email, link.flow, link.code, LINK_KEPT
    )
    await add_new_messages(connection, outbox)


async def _redeem(
    connection: Connection,
    claim: LinkClaim,
    newcomer: Newcomer,
    sign_in: NewSignIn,
    origin: Origin,
) -> Entered | None:
    whose = await connection.fetchrow(_WHOSE, claim.digest)
    if whose is None:
        return None
    user_id: UUID = whose["id"] or newcomer.user_id
    # Before anything is written, so that the events of the act ascend in all orders.
    await begin(connection, user_id)
    email = await connection.fetchval(_TAKE, claim.digest, claim.flow, claim.code)
    if email is None:
        if claim.code is not None:
            await connection.execute(_WRONG, claim.digest)
            await connection.execute(_SPENT, claim.digest, WRONG_CODES_MAX)
        return None
    is_new = whose["id"] is None
    if is_new:
        if await connection.fetchval("SELECT is_address_kept($1, NULL)", email):
            return None
        username = await connection.fetchval(_FREE_NAME, list(newcomer.usernames))
        if username is None:
            return None
        await make_account(connection, NewAccount(user_id, username, email, NO_PASSWORD))
        await record(connection, Entry(Act.REGISTER, user_id, origin))
    else:
        username = await connection.fetchval(_LOCK, user_id, email)
        if username is None:
            return None  # deleted, or of another address, in this moment
    if await connection.fetchval(_VERIFY, user_id):
        await record(connection, Entry(Act.VERIFY_EMAIL, user_id, origin))
    if not await use_proof(connection, user_id, sign_in.proof, origin, by_mailbox=True):
        return Entered(user_id, username, email, is_new, 0, needs_second=True)
    ended = await admit(connection, user_id, replace(sign_in, by_mailbox=True), origin)
    return entered(user_id, username, email, ended, is_new=is_new)
