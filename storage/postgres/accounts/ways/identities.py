"""Identities at providers, in PostgreSQL; the twin of the other engine's. Times are the server's.

Whoever changes one has the row of its account's credentials locked, as for all that signs in. What
a provider gave is sealed with the key of its user, and opens beside its own identity only.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from actors.accounts.kept.audit import Act, Entry, Origin, user_stream
from actors.accounts.members import NO_PASSWORD, NOWHERE, AtProvider, NewAccount, NewSignIn
from actors.accounts.ways.left import is_way_left
from actors.accounts.ways.links import Entered, Newcomer, entered
from actors.accounts.ways.provider.identities import (
    ENDED_SESSION_KEPT,
    REFRESH_KEPT,
    RENEW_AGAIN,
    RENEW_AGAIN_MAX,
    RENEW_BEFORE,
    RENEW_EVERY,
    USED_STATE_KEPT,
    AddressTaken,
    LinkedIdentity,
    Linking,
    NewIdentity,
    Renewal,
    SessionOver,
    Unlinking,
    check_claim,
    check_enter,
    check_state,
    said_digest,
)
from actors.accounts.ways.provider.words import (
    Identity,
    ProviderTokens,
    SaidLogout,
    Shown,
    check_provider_name,
)
from actors.chat import user_subject
from actors.persistence import SealedFields
from actors.persistence.words import check_a, check_uuid
from actors.runtime import Secret
from storage.errors import StatementRefused, SubjectForgotten
from storage.keyring import SubjectKeyring
from storage.postgres.accounts.audit import begin, record
from storage.postgres.accounts.members import admit, end_references, make_account
from storage.postgres.accounts.proving import (
    begun_in,
    is_alive,
    is_doubted,
    is_open_there,
    kept_ways,
    lock_session,
    use_proof,
)
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.notices import SESSIONS
from storage.postgres.connecting.session import Connection, change_rows
from storage.postgres.events.appending import wait_in_line
from storage.postgres.outbox import add_new_messages

# As with links: an identity, a name or an address may be taken while a newcomer is made.
_TRIES_MAX = 3
_TAKEN = frozenset({"users_username_key", "users_email_key", "provider_identities_pkey"})
_TWICE = "provider_identities_user_key"

# Each removes more than it adds when there is that much to remove, as with tickets for sockets.
_USE_STATE = """
WITH over AS (
    DELETE FROM used_states WHERE digest <> $1 AND digest = ANY(ARRAY(
        SELECT digest FROM used_states WHERE expires_at <= clock_timestamp()
        ORDER BY expires_at LIMIT 10 FOR UPDATE SKIP LOCKED))
)
INSERT INTO used_states (digest, expires_at) VALUES ($1, clock_timestamp() + $2::interval)
ON CONFLICT DO NOTHING
"""
_USE_ONCE = """
INSERT INTO used_states (digest, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING true
"""
_WHOSE = "SELECT user_id FROM provider_identities WHERE issuer = $1 AND subject = $2"
# A former address is kept for its account (AUTH-11).
_IS_TAKEN = """
SELECT EXISTS (SELECT 1 FROM users WHERE email = $1) OR is_address_kept($1, NULL)
"""
_LOCK = """
SELECT u.username, u.email FROM credentials c JOIN users u ON u.id = c.user_id
WHERE c.user_id = $1 FOR UPDATE OF c
"""
# When what is sealed is renewed; `until` is when it is over, null for what is not to be renewed.
_RENEW_AT = """
CASE WHEN {until}::timestamptz IS NULL THEN NULL ELSE greatest(
    clock_timestamp() + {every}::interval,
    {until} - least({before}::interval, ({until} - clock_timestamp()) / 2)) END
"""
_USE = f"""
UPDATE provider_identities SET used_at = clock_timestamp(), sealed = $4, renewals_begun = 0,
    renew_at = {_RENEW_AT.format(until="$5", every="$6", before="$7")}
WHERE issuer = $1 AND subject = $2 AND user_id = $3
"""  # noqa: S608  (texts of this file)
_FREE_NAME = """
SELECT n FROM unnest($1::text[]) WITH ORDINALITY AS g (n, i)
WHERE NOT EXISTS (SELECT FROM users WHERE username = n) ORDER BY i LIMIT 1
"""
_VERIFY = "UPDATE users SET email_verified_at = clock_timestamp() WHERE id = $1"
_ADD = f"""
INSERT INTO provider_identities (issuer, subject, user_id, provider, sealed, renew_at)
VALUES ($1, $2, $3, $4, $5, {_RENEW_AT.format(until="$6", every="$7", before="$8")})
"""  # noqa: S608  (texts of this file)
_OF_USER = """
SELECT issuer, subject, provider, linked_at, used_at, sealed IS NULL AS is_refused
FROM provider_identities WHERE user_id = $1 ORDER BY linked_at, provider
"""
_SEALED = """
SELECT issuer, subject, sealed, clock_timestamp() AS now FROM provider_identities
WHERE user_id = $1 AND provider = $2
"""
_RENEW = f"""
UPDATE provider_identities SET sealed = $4, renewals_begun = 0,
    renew_at = {_RENEW_AT.format(until="$5", every="$6", before="$7")}
WHERE user_id = $1 AND provider = $2 AND sealed = $3
"""  # noqa: S608  (texts of this file)
# Each claim waits longer for the next, so that one who dies with it is no reason to ask at once.
_CLAIM = """
UPDATE provider_identities i SET renewals_begun = renewals_begun + 1,
    renew_at = clock_timestamp() + least($4::interval, $3::interval * 2 ^ least(renewals_begun, 20))
FROM (SELECT issuer, subject FROM provider_identities
    WHERE renew_at <= clock_timestamp() AND provider = ANY($1)
    ORDER BY renew_at LIMIT $2 FOR UPDATE SKIP LOCKED) due
WHERE (i.issuer, i.subject) = (due.issuer, due.subject) RETURNING i.user_id, i.provider
"""
_DROP = """
UPDATE provider_identities SET sealed = NULL, renew_at = NULL, renewals_begun = 0
WHERE user_id = $1 AND provider = $2 AND sealed = $3
"""
_PROVIDER_OF = "SELECT provider, session FROM provider_sign_ins WHERE sign_in = $1"
_FIELD = "tokens"


class _Kept(msgspec.Struct, array_like=True):
    """Tokens, as they are sealed."""

    access: str
    access_until: datetime | None
    refresh: str | None
    refresh_since: datetime | None
    # Rows from before have neither.
    id_token: str | None = None
    id_session: str = ""


def sealing_place(user_id: UUID, identity: Identity) -> str:
    """Call this for where tokens open, and nowhere else (SEC-96)."""
    return msgspec.json.encode(
        ["provider", str(user_id), identity.issuer, identity.subject]
    ).decode()


class PostgresIdentities:
    """The port `Identities` on a `Database`; tokens are sealed with the keys of a keyring."""

    def __init__(self, database: Database, keyring: SubjectKeyring) -> None:
        self._database, self._keyring = database, keyring

    async def use_state(self, digest: bytes) -> bool:
        """See `Identities.use_state`."""
        check_state(digest)
        return bool(await self._database.run(change_rows, _USE_STATE, digest, USED_STATE_KEPT))

    async def enter(
        self,
        provider: str,
        shown: Shown,
        newcomer: Newcomer,
        sign_in: NewSignIn,
        origin: Origin = NOWHERE,
    ) -> Entered | AddressTaken | SessionOver | None:
        """See `Identities.enter`."""
        check_a("origin", origin, Origin)
        check_enter(provider, shown, newcomer, sign_in)
        for tries_left in reversed(range(_TRIES_MAX)):
            whose = await self._database.run(_whose, shown)
            if isinstance(whose, AddressTaken):
                return whose
            user_id = whose or newcomer.user_id
            try:
                sealed = await self._sealed(user_id, shown.identity, shown.tokens)
                came = await self._database.transact(
                    _enter,
                    whose,
                    NewIdentity(user_id, sign_in.reference, provider, shown),
                    newcomer,
                    sign_in,
                    sealed,
                    origin,
                    channel=SESSIONS,
                )
            except StatementRefused as error:
                if error.constraint not in _TAKEN or not tries_left:
                    raise
            except SubjectForgotten:
                pass  # whose it was is being deleted: then it is nobody's
            else:
                if came is not None:
                    return came
        return None

    async def link(self, new: NewIdentity, origin: Origin) -> Linking:
        """See `Identities.link`."""
        check_a("new", new, NewIdentity)
        check_a("origin", origin, Origin)
        try:
            sealed = await self._sealed(new.user_id, new.shown.identity, new.shown.tokens)
            return await self._database.transact(_link, new, sealed, origin)
        except SubjectForgotten:
            return Linking.OVER
        except StatementRefused as error:
            if error.constraint == _TWICE:
                return Linking.TWICE
            if error.constraint in _TAKEN:
                return Linking.NOT_THEIRS
            raise

    async def unlink(self, unlinking: Unlinking, origin: Origin) -> Linking:
        """See `Identities.unlink`."""
        check_a("unlinking", unlinking, Unlinking)
        check_a("origin", origin, Origin)
        return await self._database.transact(_unlink, unlinking, origin)

    async def of_user(self, user_id: UUID) -> Sequence[LinkedIdentity]:
        """See `Identities.of_user`."""
        check_uuid("user_id", user_id)
        return await self._database.run(_of_user, user_id)

    async def tokens(self, user_id: UUID, provider: str) -> ProviderTokens | None:
        """See `Identities.tokens`."""
        found = await self._found(user_id, provider)
        if found is None:
            return None
        tokens, _, _, now = found
        since = tokens.refresh_since
        if since is not None and now - since >= REFRESH_KEPT:
            return replace(tokens, refresh=None, refresh_since=None)
        return tokens

    async def renew_tokens(
        self, user_id: UUID, provider: str, former: ProviderTokens, renewed: ProviderTokens
    ) -> bool:
        """See `Identities.renew_tokens`."""
        check_a("former", former, ProviderTokens)
        check_a("renewed", renewed, ProviderTokens)
        found = await self._found(user_id, provider)
        if found is None or found[0].access.reveal() != former.access.reveal():
            return False
        _, identity, before, _ = found
        sealed = await self._sealed(user_id, identity, renewed)
        return bool(
            await self._database.run(
                change_rows, _RENEW, user_id, provider, before, sealed, *_renewing(renewed)
            )
        )

    async def claim_renewals(self, providers: Sequence[str], limit: int) -> Sequence[Renewal]:
        """See `Identities.claim_renewals`."""
        return await self._database.run(_claim, check_claim(providers, limit), limit)

    async def drop_tokens(
        self, user_id: UUID, provider: str, former: ProviderTokens, origin: Origin
    ) -> bool:
        """See `Identities.drop_tokens`."""
        check_a("former", former, ProviderTokens)
        check_a("origin", origin, Origin)
        found = await self._found(user_id, provider)
        if found is None or found[0].access.reveal() != former.access.reveal():
            return False
        return await self._database.transact(_drop, user_id, provider, found[2], origin)

    async def provider_of(self, reference: UUID) -> AtProvider | None:
        """See `Identities.provider_of`."""
        check_uuid("reference", reference)
        return await self._database.run(_provider_of, reference)

    async def log_out(self, said: SaidLogout, origin: Origin) -> int | None:
        """See `Identities.log_out`."""
        check_a("said", said, SaidLogout)
        check_a("origin", origin, Origin)
        return await self._database.transact(_log_out, said, origin, channel=SESSIONS)

    async def _found(
        self, user_id: UUID, provider: str
    ) -> tuple[ProviderTokens, Identity, bytes, datetime] | None:
        check_uuid("user_id", user_id)
        check_provider_name(provider)
        row = await self._database.run(_sealed, user_id, provider)
        if row is None:
            return None
        identity, sealed, now = row
        if sealed is None:
            return None
        box = msgspec.json.decode(sealed, type=SealedFields)
        (opened,) = await self._keyring.open_fields([(sealing_place(user_id, identity), box)])
        text = opened.get(_FIELD)
        # One that was moved from another row does not open: as if there were none.
        return None if text is None else (_tokens_of(text), identity, sealed, now)

    async def _sealed(self, user_id: UUID, identity: Identity, tokens: ProviderTokens) -> bytes:
        kept = _Kept(
            tokens.access.reveal(),
            tokens.access_until,
            None if tokens.refresh is None else tokens.refresh.reveal(),
            tokens.refresh_since,
            None if tokens.id_token is None else tokens.id_token.reveal(),
            tokens.id_session,
        )
        box = await self._keyring.seal_fields(
            sealing_place(user_id, identity),
            [user_subject(user_id)],
            {_FIELD: msgspec.json.encode(kept)},
        )
        return msgspec.json.encode(box)


def _tokens_of(text: bytes) -> ProviderTokens:
    kept = msgspec.json.decode(text, type=_Kept)
    refresh = None if kept.refresh is None else Secret(kept.refresh)
    id_token = None if kept.id_token is None else Secret(kept.id_token)
    return ProviderTokens(
        *(Secret(kept.access), kept.access_until, refresh, kept.refresh_since),
        *(id_token, kept.id_session),
    )


def _renewing(tokens: ProviderTokens) -> tuple[datetime | None, timedelta, timedelta]:
    until = None if tokens.refresh is None else tokens.access_until
    return until, RENEW_EVERY, RENEW_BEFORE


async def _whose(connection: Connection, shown: Shown) -> UUID | AddressTaken | None:
    identity = shown.identity
    user_id: UUID | None = await connection.fetchval(_WHOSE, identity.issuer, identity.subject)
    if user_id is not None:
        return user_id
    is_taken = await connection.fetchval(_IS_TAKEN, shown.email)
    return AddressTaken() if is_taken else None


async def _enter(
    connection: Connection,
    whose: UUID | None,
    new: NewIdentity,
    newcomer: Newcomer,
    sign_in: NewSignIn,
    sealed: bytes,
    origin: Origin,
) -> Entered | AddressTaken | SessionOver | None:
    user_id, identity, renewing = new.user_id, new.shown.identity, _renewing(new.shown.tokens)
    await begin(connection, user_id)
    if whose is None:
        email = new.shown.email
        username = await connection.fetchval(_FREE_NAME, list(newcomer.usernames))
        if username is None:
            return None
        await make_account(connection, NewAccount(user_id, username, email, NO_PASSWORD))
        await connection.execute(_VERIFY, user_id)
        await connection.execute(
            _ADD, identity.issuer, identity.subject, user_id, new.provider, sealed, *renewing
        )
        for act in (Act.REGISTER, Act.VERIFY_EMAIL):
            await record(connection, Entry(act, user_id, origin))
        entry = Entry(Act.PROVIDER_LINK, user_id, origin)
        await record(connection, entry, {"provider": new.provider})
    else:
        row = await connection.fetchrow(_LOCK, user_id)
        if row is None:
            return None
        username, email = row["username"], row["email"]
    if await is_doubted(connection, user_id):
        return AddressTaken(email)
    used = await change_rows(
        connection, _USE, identity.issuer, identity.subject, user_id, sealed, *renewing
    )
    if not used:
        return None  # unlinked in this moment
    if not await is_open_there(connection, user_id, sign_in.at_provider):
        return SessionOver()
    if not await use_proof(connection, user_id, sign_in.proof, origin):
        return Entered(user_id, username, email, whose is None, 0, needs_second=True)
    ended = await admit(connection, user_id, sign_in, origin)
    return entered(user_id, username, email, ended, is_new=whose is None)


async def _link(connection: Connection, new: NewIdentity, sealed: bytes, origin: Origin) -> Linking:
    identity, user_id, renewing = new.shown.identity, new.user_id, _renewing(new.shown.tokens)
    await begin(connection, user_id)
    if not await is_alive(connection, user_id, new.reference):  # locks the credentials
        return Linking.OVER
    whose = await connection.fetchval(_WHOSE, identity.issuer, identity.subject)
    if whose is not None:
        if whose != user_id:
            return Linking.NOT_THEIRS
        given = (identity.issuer, identity.subject, user_id, sealed)
        await connection.execute(_USE, *given, *renewing)
        return Linking.DONE
    added = (identity.issuer, identity.subject, user_id, new.provider, sealed)
    await connection.execute(_ADD, *added, *renewing)
    await add_new_messages(connection, new.outbox)
    entry = Entry(Act.PROVIDER_LINK, user_id, origin)
    await record(connection, entry, {"provider": new.provider})
    return Linking.DONE


async def _unlink(connection: Connection, unlinking: Unlinking, origin: Origin) -> Linking:
    user_id, provider = unlinking.user_id, unlinking.provider
    await begin(connection, user_id)
    ways = await kept_ways(connection, user_id)
    if ways is None or provider not in ways.providers:
        return Linking.NOT_THEIRS
    left = replace(ways, providers=set(ways.providers) - {provider})
    if not is_way_left(left, unlinking.offered):
        return Linking.LAST_WAY
    if not await is_alive(connection, user_id, unlinking.reference):
        return Linking.OVER
    await connection.execute(
        "DELETE FROM provider_identities WHERE user_id = $1 AND provider = $2", user_id, provider
    )
    await add_new_messages(connection, unlinking.outbox)
    entry = Entry(Act.PROVIDER_UNLINK, user_id, origin)
    await record(connection, entry, {"provider": provider})
    return Linking.DONE


async def _claim(connection: Connection, providers: list[str], limit: int) -> list[Renewal]:
    rows = await connection.fetch(_CLAIM, providers, limit, RENEW_AGAIN, RENEW_AGAIN_MAX)
    return [Renewal(*row) for row in rows]


async def _drop(
    connection: Connection, user_id: UUID, provider: str, sealed: bytes, origin: Origin
) -> bool:
    await begin(connection, user_id)
    if not await change_rows(connection, _DROP, user_id, provider, sealed):
        return False
    entry = Entry(Act.PROVIDER_TOKENS, user_id, origin)
    await record(connection, entry, {"provider": provider, "because": "refused"})
    return True


async def _provider_of(connection: Connection, reference: UUID) -> AtProvider | None:
    row = await connection.fetchrow(_PROVIDER_OF, reference)
    return None if row is None else AtProvider(*row)


async def _log_out(connection: Connection, said: SaidLogout, origin: Origin) -> int | None:
    over = None
    if said.session is not None:
        over = await lock_session(connection, said.issuer, said.session)
    begun = await begun_in(connection, said)
    # Behind them: what ends is in no order of anybody's acts before they stand in line.
    await wait_in_line(
        connection, [user_stream(user) for user in sorted({one for _, one in begun})]
    )
    if not await connection.fetchval(_USE_ONCE, said_digest(said), said.until):
        return None
    if over is not None:
        await change_rows(connection, _USE_STATE, over, ENDED_SESSION_KEPT)
    ended = await end_references(connection, [reference for reference, _ in begun])
    for user, count in ended.items():
        facts = {"because": "provider", "count": str(count)}
        await record(connection, Entry(Act.END_SIGN_IN, user, origin), facts)
    return sum(ended.values())


async def _of_user(connection: Connection, user_id: UUID) -> list[LinkedIdentity]:
    return [
        LinkedIdentity(
            Identity(row["issuer"], row["subject"]),
            row["provider"],
            row["linked_at"],
            row["used_at"],
            row["is_refused"],
        )
        for row in await connection.fetch(_OF_USER, user_id)
    ]


async def _sealed(
    connection: Connection, user_id: UUID, provider: str
) -> tuple[Identity, bytes | None, datetime] | None:
    row = await connection.fetchrow(_SEALED, user_id, provider)
    if row is None:
        return None
    return Identity(row["issuer"], row["subject"]), row["sealed"], row["now"]
