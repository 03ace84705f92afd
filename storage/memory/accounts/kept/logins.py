"""Sign-ins and their risk, in memory; the twin of the other engine's."""

from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice
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
from actors.persistence.event_store import check_limit
from actors.persistence.words import check_uuid
from storage.memory.accounts.audit import record
from storage.memory.accounts.proving import has_second
from storage.memory.database import AllowanceRow, DeviceRow, LoginRow, MemoryDatabase
from storage.memory.twin import Twin

_USED_KEPT = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Arrived:
    """A sign-in that was judged, and the device it comes from: None for one that keeps nothing."""

    judgement: Judgement
    device: DeviceRow | None
    is_device_new: bool


class MemoryLogins(Twin):
    """The port `Logins` on a `MemoryDatabase`."""

    async def find(self, login_id: UUID) -> JudgedLogin | None:
        """See `Logins.find`."""
        check_uuid("login_id", login_id)
        await self.pass_faults()
        row = self.database.logins.get(login_id)
        return None if row is None else row.login

    async def allow(self, allowance: Allowance, origin: Origin) -> bool:
        """See `Logins.allow`."""
        check_allow(allowance, origin)
        await self.pass_faults()
        rows, now = self.database.allowances, self.database.now()
        for over in [one for one, row in rows.items() if row.until <= now - _USED_KEPT]:
            del rows[over]
        user = self.database.users.get(allowance.user_id)
        if user is None or user.password_hash is None or allowance.digest in rows:
            return False
        if allowance.until <= now:
            return False
        rows[allowance.digest] = AllowanceRow(allowance.user_id, allowance.bound, allowance.until)
        record(self.database, Entry(Act.ALLOW, allowance.user_id, origin))
        return True

    async def purge(self, limit: int = 1000) -> int:
        """See `Logins.purge`."""
        check_limit(limit)
        await self.pass_faults()
        rows, first = self.database.logins, self.database.now() - PLACES_KEPT
        old = [row for row in rows.values() if row.past.at <= first and not row.is_stripped]
        for row in old[:limit]:
            if row in _compared(self.database, row.login.user_id):
                past = PastLogin(row.past.at, None, "", None, None)
                login = replace(row.login, country="")
                rows[login.id] = replace(row, login=login, past=past, is_stripped=True)
            else:
                del rows[row.login.id]
        return min(len(old), limit)


def arrive(database: MemoryDatabase, user_id: UUID, arrival: Arrival, proven: Proven) -> Arrived:
    """Call this when all was proven, for what is to become of the sign-in; nothing is written.

    But an allowance: it is used up where the sign-in would be withheld without it.
    """
    user, now = database.users[user_id], database.now()
    device = _device(database, user_id, arrival)
    judgement = Judgement(Outcome.ENTERED)
    if arrival.judge is not None:
        history = LoginHistory(
            user_id,
            user.username,
            user.email,
            user.created_at,
            now,
            has_second(database, user_id),
            any(one.user_id == user_id for one in database.passkeys.values()),
            None if device is None else KnownDevice(trust_of(database, device), device.browser),
            _past(database, user_id),
            _failures(database, user_id),
        )
        judgement = arrival.judge(arrival, history, proven)
        if not judgement.outcome.is_in and _use_allowance(database, user_id, arrival):
            judgement = arrival.judge(arrival, history, proven.allowed())
    is_new = device is None
    if device is None and (arrival.device is not None or arrival.fingerprint is not None):
        id_ = uuid4()
        digest = arrival.device or lone_digest(id_)
        device = DeviceRow(id_, user_id, digest, arrival.browser, now, now)
    return Arrived(judgement, device, is_new)


def keep_login(
    database: MemoryDatabase,
    user_id: UUID,
    arrival: Arrival,
    arrived: Arrived,
    origin: Origin,
    credential_id: bytes | None,
) -> None:
    """Call this behind `arrive` to write what it leaves."""
    judgement, now = arrived.judgement, database.now()
    assessment = judgement.assessment
    login = JudgedLogin(
        arrival.reference,
        user_id,
        now,
        judgement.outcome,
        arrival.method,
        arrival.browser,
        arrival.place.country,
        None if assessment is None else assessment.score,
        "" if assessment is None else assessment.level.value,
        "" if assessment is None else assessment.in_words,
        judgement.unobserved,
    )
    past = PastLogin(
        now,
        arrival.network,
        arrival.place.country,
        arrival.place.latitude,
        arrival.place.longitude,
    )
    database.logins[login.id] = LoginRow(login, past)
    of_user = [one for one, row in database.logins.items() if row.login.user_id == user_id]
    needed = {row.login.id for row in _compared(database, user_id)}
    for one in of_user:
        if one in of_user[:-LOGINS_KEPT] or (
            database.logins[one].is_stripped and one not in needed
        ):
            del database.logins[one]
    database.add_messages(judgement.outbox)
    device = arrived.device
    if device is None or not judgement.outcome.is_in:
        return
    used = None if credential_id is None else database.passkeys.get(credential_id)
    device.passkey = device.passkey if used is None else used.id
    if arrived.is_device_new:
        _make_room(database, user_id)
        database.devices[device.id] = device
    else:
        device.logins += 1
        device.trust = grown(device.trust, device.logins, now - device.first_seen_at)
        device.browser, device.seen_at = arrival.browser, now
        device.digest = arrival.device or device.digest
    if arrival.fingerprint is not None:
        device.fingerprint = packed(of_account(arrival.fingerprint, user_id))
    act = Act.DEVICE_ADD if arrived.is_device_new else Act.DEVICE_USE
    record(database, Entry(act, user_id, origin), {"device": str(device.id)})


def trust_of(database: MemoryDatabase, device: DeviceRow) -> Trust:
    """Call this for what trust in a device counts."""
    is_bound = any(one.id == device.passkey for one in database.passkeys.values())
    return shown_trust(device.trust, has_passkey=is_bound)


def _device(database: MemoryDatabase, user_id: UUID, arrival: Arrival) -> DeviceRow | None:
    rows = [row for row in database.devices.values() if row.user_id == user_id]
    rows.sort(key=lambda row: row.seen_at, reverse=True)
    digest = arrival.device
    if arrival.fingerprint is not None:
        kept = [(row.digest, row.fingerprint) for row in rows]
        digest = known_by(digest, of_account(arrival.fingerprint, user_id), kept)
    return next((row for row in rows if row.digest == digest), None)


def _compared(database: MemoryDatabase, user_id: UUID) -> list[LoginRow]:
    rows = reversed(database.logins.values())
    found = (row for row in rows if row.login.user_id == user_id and row.login.outcome.is_in)
    return [*islice(found, PAST_LOGINS)]


def _past(database: MemoryDatabase, user_id: UUID) -> list[PastLogin]:
    return [row.past for row in _compared(database, user_id)]


def _failures(database: MemoryDatabase, user_id: UUID) -> int:
    since = database.now() - FAILURES_WITHIN
    return sum(
        row.subject == str(user_id)
        and row.action == Act.SIGN_IN.value
        and row.reason == "wrong"
        and row.at > since
        for row in database.audit
    )


def _use_allowance(database: MemoryDatabase, user_id: UUID, arrival: Arrival) -> bool:
    now = database.now()
    for row in database.allowances.values():
        is_theirs = (row.user_id, row.bound) == (user_id, arrival.bound)
        if is_theirs and not row.is_used and row.until > now:
            row.is_used = True
            return True
    return False


def _make_room(database: MemoryDatabase, user_id: UUID) -> None:
    rows = [row for row in database.devices.values() if row.user_id == user_id]
    rows.sort(key=lambda row: (row.trust is Trust.TRUSTED, row.seen_at), reverse=True)
    for over in rows[DEVICES_MAX - 1 :]:
        del database.devices[over.id]
