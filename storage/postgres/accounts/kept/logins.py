"""Sign-ins and their risk, in PostgreSQL; the twin of the other engine's. Times are the server's.

`arrive` and `keep_login` are called in the transaction of a sign-in, with the row of the account's
credentials locked: of two at once the second sees the device and the login of the first.
"""

from dataclasses import dataclass
from uuid import UUID, uuid4

from actors.accounts.kept.audit import Act, Entry, Origin
from actors.accounts.kept.devices.fingerprint import known_by, lone_digest, of_account, packed
from actors.accounts.kept.devices.words import DEVICES_MAX, Trust, grown, shown_trust
from actors.accounts.kept.risk.port import (
    LOGINS_KEPT,
    PLACES_KEPT,
    Allowance,
    JudgedLogin,
    check_allow,
)
from actors.accounts.kept.risk.words import (
    FAILURES_WITHIN,
    PAST_LOGINS,
    Arrival,
    Judgement,
    KnownDevice,
    LoginHistory,
    Outcome,
    PastLogin,
    Proven,
)
from actors.persistence.beside_log.outbox import check_messages
from actors.persistence.event_store import check_limit
from actors.persistence.words import check_uuid
from storage.postgres.accounts.audit import NotedAct, begin, record
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.session import Connection, change_rows
from storage.postgres.outbox import add_new_messages

_HISTORY = """
SELECT u.username, u.email, u.created_at, clock_timestamp() AS now,
    has_second_factor(u.id) AS has_second,
    EXISTS (SELECT FROM passkeys p WHERE p.user_id = u.id) AS has_passkey,
    d.id AS device, d.trust, d.browser, d.logins, d.first_seen_at,
    d.passkey IS NOT NULL AS is_bound,
    (SELECT count(*) FROM audit_log a WHERE a.event_type = 'account' AND NOT a.success
        AND a.resource = u.id::text AND a.action = $3 AND a.error = 'wrong'
        AND a.at > clock_timestamp() - $4::interval) AS failures,
    ARRAY(SELECT ROW(l.at, l.network, l.country, l.latitude, l.longitude) FROM logins l
        WHERE l.user_id = $1 AND l.outcome IN ('entered', 'limited')
        ORDER BY l.at DESC LIMIT $5) AS past
FROM users u LEFT JOIN devices d ON d.user_id = u.id AND d.digest = $2
WHERE u.id = $1
"""
# Where something was shown: all devices of the account that showed something, too.
_SHOWN = """
SELECT digest, fingerprint FROM devices
WHERE user_id = $1 AND (fingerprint IS NOT NULL OR digest = $2) ORDER BY seen_at DESC
"""
# One of several at once uses it up: the credentials are locked.
_USE_ALLOWANCE = """
UPDATE login_allowances SET used_at = clock_timestamp() WHERE digest = (
    SELECT digest FROM login_allowances WHERE user_id = $1 AND bound = $2 AND used_at IS NULL
        AND expires_at > clock_timestamp() ORDER BY expires_at LIMIT 1)
"""
_ADD_LOGIN = """
WITH over AS (
    DELETE FROM logins WHERE id = ANY(ARRAY(
        (SELECT id FROM logins WHERE user_id = $2 ORDER BY at DESC OFFSET $14)
        UNION ALL SELECT id FROM (
            SELECT id, is_stripped FROM logins
            WHERE user_id = $2 AND outcome IN ('entered', 'limited') ORDER BY at DESC OFFSET $15
        ) beyond WHERE is_stripped)))
INSERT INTO logins (id, user_id, outcome, method, browser, network, country, latitude, longitude,
    score, level, factors, unobserved)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
"""
_USE_DEVICE = """
UPDATE devices SET trust = $2, logins = logins + 1, browser = $3, seen_at = clock_timestamp(),
    passkey = coalesce((SELECT id FROM passkeys WHERE credential_id = $4), passkey),
    digest = coalesce($5, digest), fingerprint = coalesce($6, fingerprint)
WHERE id = $1
"""
_ADD_DEVICE = """
WITH over AS (
    DELETE FROM devices WHERE id = ANY(ARRAY(
        SELECT id FROM devices WHERE user_id = $2
        ORDER BY trust = 'trusted' DESC, seen_at DESC OFFSET $6)))
INSERT INTO devices (id, user_id, digest, browser, trust, passkey, fingerprint)
VALUES ($1, $2, $3, $4, 'unknown', (SELECT id FROM passkeys WHERE credential_id = $5), $7)
"""
_FIND = """
SELECT id, user_id, at, outcome, method, browser, country, score, level, factors, unobserved
FROM logins WHERE id = $1
"""
# What a sign-in of now has in hand is left for the next time: nobody waits for the other.
_PURGE = """
WITH old AS MATERIALIZED (
    SELECT id, user_id, outcome, at FROM logins
    WHERE at <= clock_timestamp() - $1::interval AND NOT is_stripped
    ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED
), judged AS MATERIALIZED (
    SELECT id, outcome IN ('entered', 'limited') AND (
        SELECT count(*) FROM logins newer WHERE newer.user_id = old.user_id
            AND newer.outcome IN ('entered', 'limited') AND newer.at > old.at) < $3 AS is_needed
    FROM old
), gone AS (
    DELETE FROM logins WHERE id = ANY(ARRAY(SELECT id FROM judged WHERE NOT is_needed))
), stripped AS (
    UPDATE logins
    SET network = NULL, country = '', latitude = NULL, longitude = NULL, is_stripped = true
    WHERE id = ANY(ARRAY(SELECT id FROM judged WHERE is_needed))
)
SELECT count(*) FROM judged
"""
_LOCK = "SELECT 1 FROM credentials WHERE user_id = $1 FOR UPDATE"
# Each removes more than it adds when there is that much to remove, as with tickets for sockets. A
# used one stays for as long as its mail could be used again.
_ALLOW = """
WITH over AS (
    DELETE FROM login_allowances WHERE digest <> $1 AND digest = ANY(ARRAY(
        SELECT digest FROM login_allowances
        WHERE expires_at <= clock_timestamp() - interval '1 hour'
        ORDER BY expires_at LIMIT 10 FOR UPDATE SKIP LOCKED))
)
INSERT INTO login_allowances (digest, user_id, bound, expires_at)
SELECT $1, $2, $3, $4 WHERE $4 > clock_timestamp() ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A sign-in that was judged, and the device it comes from: None for one that keeps nothing."""

    judgement: Judgement
    device: UUID | None
    is_device_new: bool
    trust: Trust


class PostgresLogins:
    """The port `Logins` on a `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, login_id: UUID) -> JudgedLogin | None:
        """See `Logins.find`."""
        check_uuid("login_id", login_id)
        return await self._database.run(_find, login_id)

    async def allow(self, allowance: Allowance, origin: Origin) -> bool:
        """See `Logins.allow`."""
        check_allow(allowance, origin)
        return await self._database.transact(_allow, allowance, origin)

    async def purge(self, limit: int = 1000) -> int:
        """See `Logins.purge`."""
        check_limit(limit)
        return await self._database.run(_purge, limit)


async def arrive(
    connection: Connection, user_id: UUID, arrival: Arrival, proven: Proven
) -> Arrived:
    """Call this when all was proven, for what is to become of the sign-in; nothing is written.

    But an allowance: it is used up where the sign-in would be withheld without it.
    """
    digest = await _known_by(connection, user_id, arrival)
    past = 0 if arrival.judge is None else PAST_LOGINS
    row = await connection.fetchrow(
        _HISTORY, user_id, digest, Act.SIGN_IN.value, FAILURES_WITHIN, past
    )
    assert row is not None, "the credentials of an account are locked"
    known, trust = None, Trust.UNKNOWN
    if row["device"] is not None:
        trust = Trust(row["trust"])
        known = KnownDevice(shown_trust(trust, has_passkey=row["is_bound"]), row["browser"])
        trust = grown(trust, row["logins"] + 1, row["now"] - row["first_seen_at"])
    judgement = Judgement(Outcome.ENTERED)
    if arrival.judge is not None:
        history = LoginHistory(
            user_id,
            row["username"],
            row["email"],
            row["created_at"],
            row["now"],
            row["has_second"],
            row["has_passkey"],
            known,
            [PastLogin(*one) for one in row["past"]],
            row["failures"],
        )
        judgement = arrival.judge(arrival, history, proven)
        if not judgement.outcome.is_in and await _use_allowance(connection, user_id, arrival):
            judgement = arrival.judge(arrival, history, proven.allowed())
    tells_none = arrival.device is None and arrival.fingerprint is None
    device = row["device"] or (None if tells_none else uuid4())
    return Arrived(judgement, device, row["device"] is None, trust)


async def keep_login(
    connection: Connection,
    user_id: UUID,
    arrival: Arrival,
    arrived: Arrived,
    origin: Origin,
    credential_id: bytes | None,
) -> list[NotedAct]:
    """Call this behind `arrive` to write what it leaves; gives the acts that are to be noted."""
    judgement = arrived.judgement
    assessment = judgement.assessment
    await connection.execute(
        _ADD_LOGIN,
        arrival.reference,
        user_id,
        judgement.outcome.value,
        arrival.method,
        arrival.browser,
        arrival.network,
        arrival.place.country,
        arrival.place.latitude,
        arrival.place.longitude,
        None if assessment is None else assessment.score,
        "" if assessment is None else assessment.level.value,
        "" if assessment is None else assessment.in_words,
        None if judgement.unobserved is None else judgement.unobserved.value,
        LOGINS_KEPT - 1,
        PAST_LOGINS - judgement.outcome.is_in,
    )
    await add_new_messages(connection, check_messages(judgement.outbox))
    if not judgement.outcome.is_in or arrived.device is None:
        return []
    facts = {"device": str(arrived.device)}
    shown = arrival.fingerprint
    fingerprint = None if shown is None else packed(of_account(shown, user_id))
    if not arrived.is_device_new:
        await connection.execute(
            _USE_DEVICE,
            arrived.device,
            arrived.trust.value,
            arrival.browser,
            credential_id,
            arrival.device,
            fingerprint,
        )
        return [(Entry(Act.DEVICE_USE, user_id, origin), facts)]
    await connection.execute(
        _ADD_DEVICE,
        arrived.device,
        user_id,
        arrival.device or lone_digest(arrived.device),
        arrival.browser,
        credential_id,
        DEVICES_MAX - 1,
        fingerprint,
    )
    return [(Entry(Act.DEVICE_ADD, user_id, origin), facts)]


async def _known_by(connection: Connection, user_id: UUID, arrival: Arrival) -> bytes | None:
    if arrival.fingerprint is None:
        return arrival.device
    rows = await connection.fetch(_SHOWN, user_id, arrival.device)
    shown = of_account(arrival.fingerprint, user_id)
    return known_by(arrival.device, shown, [(digest, last) for digest, last in rows])


async def _use_allowance(connection: Connection, user_id: UUID, arrival: Arrival) -> bool:
    if arrival.bound is None:
        return False
    return bool(await change_rows(connection, _USE_ALLOWANCE, user_id, arrival.bound))


async def _find(connection: Connection, login_id: UUID) -> JudgedLogin | None:
    row = await connection.fetchrow(_FIND, login_id)
    if row is None:
        return None
    unobserved = row["unobserved"]
    return JudgedLogin(
        row["id"],
        row["user_id"],
        row["at"],
        Outcome(row["outcome"]),
        row["method"],
        row["browser"],
        row["country"],
        row["score"],
        row["level"],
        row["factors"],
        None if unobserved is None else Outcome(unobserved),
    )


async def _purge(connection: Connection, limit: int) -> int:
    count: int = await connection.fetchval(_PURGE, PLACES_KEPT, limit, PAST_LOGINS)
    return count


async def _allow(connection: Connection, allowance: Allowance, origin: Origin) -> bool:
    user_id = allowance.user_id
    await begin(connection, user_id)
    if await connection.fetchval(_LOCK, user_id) is None:
        return False
    added = await change_rows(
        connection, _ALLOW, allowance.digest, user_id, allowance.bound, allowance.until
    )
    if added:
        await record(connection, Entry(Act.ALLOW, user_id, origin))
    return bool(added)
