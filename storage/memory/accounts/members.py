"""Accounts and their sign-ins in memory; the twin of `storage/postgres/accounts/members.py`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import trio

from actors.accounts.kept.addresses import REVERT_KEPT
from actors.accounts.kept.audit import Act, Entry, Origin
from actors.accounts.kept.factors import PasskeyProof
from actors.accounts.kept.risk.words import LIMITED_FOR, Outcome, Proven, Withheld
from actors.accounts.members import (
    DELETED_NAME,
    FORGOTTEN_BY,
    NOWHERE,
    SEEN_EVERY,
    SIGN_IN_IDLE,
    SIGN_IN_KEPT,
    SIGN_INS_PER_USER_MAX,
    Credentials,
    Level,
    Member,
    NewAccount,
    NewPassword,
    NewSignIn,
    Operator,
    Role,
    SignIn,
    StepUp,
    Swept,
    Taken,
    check_hash,
    check_revoke,
    check_role,
    check_sign_in_name,
    is_taken_away,
)
from actors.accounts.ports import HowEnded, check_digest, check_session, check_users
from actors.accounts.words import SessionId
from actors.chat import user_subject
from actors.persistence.beside_log.outbox import check_messages
from actors.persistence.event_store import check_limit
from actors.persistence.words import check_a, check_text, check_uuid
from storage.memory.accounts.audit import record
from storage.memory.accounts.kept.logins import Arrived, arrive, keep_login
from storage.memory.accounts.kept.tokens import end_tokens, sweep_tokens
from storage.memory.accounts.proving import (
    at_provider,
    has_second,
    is_alive,
    is_open_there,
    use_proof,
)
from storage.memory.database import SessionEndRow, SignInRow, UserRow
from storage.memory.subject_keys import forget_subject
from storage.memory.twin import Twin


class MemoryAccounts(Twin):
    """The port `Accounts` on a `MemoryDatabase`."""

    async def register(
        self, account: NewAccount, sign_in: NewSignIn, origin: Origin = NOWHERE
    ) -> Taken | None:
        """See `Accounts.register`."""
        check_a("origin", origin, Origin)
        check_a("account", account, NewAccount)
        check_a("sign_in", sign_in, NewSignIn)
        await self.pass_faults()
        database = self.database
        for user in database.users.values():
            if user.username == account.username:
                return Taken.USERNAME
        if self.is_taken(account.email):
            return Taken.EMAIL
        self.make_account(account)
        arrived = None
        if sign_in.arrival is not None:
            # Whoever makes an account is its owner: there is nothing to judge.
            here = replace(sign_in.arrival, judge=None)
            arrived = arrive(database, account.user_id, here, Proven())
        self._add_sign_in(account.user_id, sign_in, origin, arrived)
        record(database, Entry(Act.REGISTER, account.user_id, origin))
        self._keep(account.user_id, sign_in, arrived, origin)
        return None

    async def credentials(self, email: str) -> Credentials | None:
        """See `Accounts.credentials`."""
        check_text("email", email, 1024)
        await self.pass_faults()
        found = (id_ for id_, user in self.database.users.items() if user.email == email)
        return self._credentials(next(found, None))

    async def credentials_of(self, user_id: UUID) -> Credentials | None:
        """See `Accounts.credentials_of`."""
        check_uuid("user_id", user_id)
        await self.pass_faults()
        return self._credentials(user_id)

    async def renew_hash(self, user_id: UUID, former: str, renewed: str) -> None:
        """See `Accounts.renew_hash`."""
        check_uuid("user_id", user_id)
        check_hash(former)
        check_hash(renewed)
        await self.pass_faults()
        user = self.database.users.get(user_id)
        if user is not None and user.password_hash == former:
            user.password_hash = renewed

    async def sign_in(
        self, user_id: UUID, password_hash: str, sign_in: NewSignIn, origin: Origin = NOWHERE
    ) -> int | Withheld | None:
        """See `Accounts.sign_in`."""
        check_a("origin", origin, Origin)
        check_uuid("user_id", user_id)
        check_hash(password_hash)
        check_a("sign_in", sign_in, NewSignIn)
        await self.pass_faults()
        kept = self._credentials(user_id)
        if kept is None or kept.password_hash != password_hash:
            return None
        if not is_open_there(self.database, user_id, sign_in.at_provider):
            return None
        if not use_proof(
            self.database,
            user_id,
            sign_in.proof,
            origin,
            by_mailbox=sign_in.by_mailbox,
            tell_stopped=sign_in.tell_stopped,
        ):
            return None
        self.database.add_messages(check_messages(sign_in.outbox))
        return self.admit(user_id, sign_in, origin)

    def make_account(self, account: NewAccount) -> None:
        """Call this in an act to make an account."""
        database = self.database
        database.users[account.user_id] = UserRow(
            account.username,
            account.email,
            Role.USER.value,
            database.now(),
            account.password_hash,
        )
        database.user_names[account.user_id] = account.username

    def admit(
        self, user_id: UUID, sign_in: NewSignIn, origin: Origin, key: PasskeyProof | None = None
    ) -> int | Withheld:
        """Call this in an act of somebody who proved who they are; how many sign-ins it ended.

        Or its risk asks for more, and nobody is signed in. `key` signs in alone.
        """
        arrived, facts = None, {"reference": str(sign_in.reference)}
        if sign_in.arrival is not None:
            arrived = arrive(self.database, user_id, sign_in.arrival, sign_in.proven(key))
            facts |= arrived.judgement.facts
        if arrived is not None and not arrived.judgement.outcome.is_in:
            record(self.database, Entry(Act.SIGN_IN, user_id, origin, "risk"), facts)
            self._keep(user_id, sign_in, arrived, origin)
            return Withheld(arrived.judgement.outcome)
        self._add_sign_in(user_id, sign_in, origin, arrived)
        others = [
            row
            for row in self.database.sign_ins.values()
            if row.user_id == user_id and row.reference != sign_in.reference
        ]
        others.sort(key=lambda row: (row.seen_at, row.created_at), reverse=True)
        over = {row.reference for row in others[SIGN_INS_PER_USER_MAX - 1 :]}
        ended = self._end(lambda row: row.reference in over)
        record(self.database, Entry(Act.SIGN_IN, user_id, origin), facts)
        self._keep(user_id, sign_in, arrived, origin, key)
        if ended:
            entry = Entry(Act.END_SIGN_IN, user_id, origin)
            record(self.database, entry, {"because": "too_many"})
        return ended

    def _keep(
        self,
        user_id: UUID,
        sign_in: NewSignIn,
        arrived: Arrived | None,
        origin: Origin,
        key: PasskeyProof | None = None,
    ) -> None:
        by = key or sign_in.proof
        used = by.credential_id if isinstance(by, PasskeyProof) else None
        if sign_in.arrival is not None and arrived is not None:
            keep_login(self.database, user_id, sign_in.arrival, arrived, origin, used)

    def end_of_device(self, user_id: UUID, device: UUID) -> int:
        """Call this in an act to end what is signed in on a device; how many ended."""
        return self._end(lambda row: (row.user_id, row.device) == (user_id, device))

    def is_alive(self, user_id: UUID, reference: UUID) -> bool:
        """Call this in an act for whether a sign-in is one of its account, and not over."""
        row = self._row(user_id, reference)
        return row is not None and not self._is_over(row)

    def end_others_of(self, user_id: UUID, reference: UUID) -> None:
        """Call this in an act after which no other sign-in of an account is good (SEC-17)."""
        user, row = self.database.users[user_id], self._row(user_id, reference)
        user.epoch += 1
        if row is not None:
            row.epoch = user.epoch
        self._end_others(user_id, reference)
        end_tokens(self.database, [user_id], "factors")

    def is_taken(self, email: str, user_id: UUID | None = None) -> bool:
        """Call this in an act for whether an address is somebody's, or kept for another account."""
        if any(user.email == email for user in self.database.users.values()):
            return True
        now = self.database.now()
        return any(
            row.former == email
            and row.user_id != user_id
            and row.made_at is not None
            and now - row.made_at < REVERT_KEPT
            for row in self.database.address_changes.values()
        )

    def end_all_of(self, user_id: UUID) -> int:
        """Call this in an act after which no sign-in of an account is good; how many ended."""
        self.database.users[user_id].epoch += 1
        end_tokens(self.database, [user_id], "doubt")
        return self._end(lambda row: row.user_id == user_id)

    def forget_passkeys(self, user_id: UUID) -> None:
        """Call this when an account is gone."""
        passkeys = self.database.passkeys
        for one in [one for one, row in passkeys.items() if row.user_id == user_id]:
            del passkeys[one]

    def _forget_devices(self, user_id: UUID) -> None:
        database = self.database
        for device in [one for one, row in database.devices.items() if row.user_id == user_id]:
            del database.devices[device]
        for login in [one for one, row in database.logins.items() if row.login.user_id == user_id]:
            del database.logins[login]
        for mail in [one for one, row in database.allowances.items() if row.user_id == user_id]:
            del database.allowances[mail]

    async def who(self, digest: bytes) -> Member | None:
        """See `Accounts.who`."""
        check_digest(digest)
        await self.pass_faults()
        row, now = self.database.sign_ins.get(digest), self.database.now()
        if row is None or self._is_over(row):
            return None
        if now - row.seen_at >= SEEN_EVERY:
            row.seen_at = now
        user = self.database.users[row.user_id]
        return Member(
            row.user_id,
            user.username,
            user.email,
            Role(user.role),
            user.created_at,
            row.reference,
            SessionId(row.session_id),
            row.level,
            now - row.proven_at,
            has_second(self.database, row.user_id),
            row.is_limited
            and row.level < Level.MULTI_FACTOR
            and now - row.created_at < LIMITED_FOR,
            timedelta(0)
            if user.guarded_until is None
            else max(timedelta(0), user.guarded_until - now),
        )

    async def who_lately(self, digest: bytes) -> Member | None:
        """See `Accounts.who_lately`."""
        return await self.who(digest)

    async def sign_out(self, session_id: SessionId, origin: Origin = NOWHERE) -> None:
        """See `Accounts.sign_out`."""
        check_a("origin", origin, Origin)
        check_session(session_id)
        await self.pass_faults()
        rows = self.database.sign_ins.values()
        user_id = next((row.user_id for row in rows if row.session_id == session_id), None)
        self._end(lambda row: row.session_id == session_id)
        if user_id is not None:
            record(self.database, Entry(Act.SIGN_OUT, user_id, origin))

    async def sign_ins(self, user_id: UUID) -> Sequence[SignIn]:
        """See `Accounts.sign_ins`."""
        check_uuid("user_id", user_id)
        return await self.all_sign_ins(user_id, limit=SIGN_INS_PER_USER_MAX)

    async def all_sign_ins(
        self, user_id: UUID | None = None, *, limit: int = 1000
    ) -> Sequence[SignIn]:
        """See `Accounts.all_sign_ins`."""
        if user_id is not None:
            check_uuid("user_id", user_id)
        check_limit(limit)
        await self.pass_faults()
        # Turned round: of two in one moment the later one comes first, too.
        rows = [
            row
            for row in reversed(self.database.sign_ins.values())
            if user_id in (None, row.user_id) and not self._is_over(row)
        ]
        rows.sort(key=lambda row: row.created_at, reverse=True)
        return [
            SignIn(
                row.reference,
                row.browser,
                row.created_at,
                row.seen_at,
                row.address,
                row.name,
                row.user_id,
                self.database.users[row.user_id].username,
            )
            for row in rows[:limit]
        ]

    async def name_sign_in(self, user_id: UUID, reference: UUID, name: str) -> bool:
        """See `Accounts.name_sign_in`."""
        check_uuid("user_id", user_id)
        check_uuid("reference", reference)
        given = check_sign_in_name(name)
        await self.pass_faults()
        row = self._row(user_id, reference)
        if row is not None:
            row.name = given
        return row is not None

    async def step_up(self, step: StepUp, origin: Origin = NOWHERE) -> bool:
        """See `Accounts.step_up`."""
        check_a("origin", origin, Origin)
        check_a("step", step, StepUp)
        await self.pass_faults()
        user, row = self.database.users.get(step.user_id), self._row(step.user_id, step.reference)
        if user is None or row is None or row.epoch != user.epoch:
            return False
        if step.former_hash not in (None, user.password_hash):
            return False
        tell = step.tell_stopped
        if not use_proof(self.database, step.user_id, step.proof, origin, tell_stopped=tell):
            return False
        self._renew(row, step.digest)
        row.level = max(row.level, step.level)
        self.database.add_messages(check_messages(step.outbox))
        record(self.database, Entry(Act.STEP_UP, step.user_id, origin))
        return True

    async def revoke(
        self,
        *,
        reference: UUID | None = None,
        user_id: UUID | None = None,
        by: Operator | None = None,
        origin: Origin = NOWHERE,
    ) -> int:
        """See `Accounts.revoke`."""
        check_revoke(reference, user_id, by, origin)
        await self.pass_faults()
        if by is not None and not self._operates(by):
            return 0

        def is_meant(row: SignInRow) -> bool:
            return reference in (None, row.reference) and user_id in (None, row.user_id)

        of_users: dict[UUID, int] = {}
        for row in filter(is_meant, self.database.sign_ins.values()):
            of_users[row.user_id] = of_users.get(row.user_id, 0) + 1
        count = self._end(is_meant)
        for user, ended in of_users.items():
            facts = {"because": "operator", "count": str(ended)}
            entry = Entry(Act.END_SIGN_IN, user, origin, by=None if by is None else by.user_id)
            record(self.database, entry, facts)
        if reference is None:
            who = None if by is None else by.user_id
            users = [one for one in self.database.users if user_id in (None, one)]
            count += end_tokens(self.database, users, "operator", origin, who)
        return count

    def _operates(self, by: Operator) -> bool:
        user = self.database.users.get(by.user_id)
        is_admin = user is not None and user.role == Role.ADMIN.value
        return is_admin and is_alive(self.database, by.user_id, by.reference)

    async def end_sign_in(
        self, user_id: UUID, reference: UUID, origin: Origin = NOWHERE, *, by: UUID
    ) -> bool:
        """See `Accounts.end_sign_in`."""
        check_a("origin", origin, Origin)
        check_uuid("user_id", user_id)
        check_uuid("reference", reference)
        check_uuid("by", by)
        await self.pass_faults()
        if not is_alive(self.database, user_id, by):
            return False
        count = self._end(lambda row: (row.user_id, row.reference) == (user_id, reference))
        return bool(self._ended_by_owner(user_id, count, origin))

    async def end_others(
        self, user_id: UUID, reference: UUID, origin: Origin = NOWHERE
    ) -> int | None:
        """See `Accounts.end_others`."""
        check_a("origin", origin, Origin)
        check_uuid("user_id", user_id)
        check_uuid("reference", reference)
        await self.pass_faults()
        if not is_alive(self.database, user_id, reference):
            return None
        return self._ended_by_owner(user_id, self._end_others(user_id, reference), origin)

    async def change_password(self, change: NewPassword, origin: Origin = NOWHERE) -> bool:
        """See `Accounts.change_password`."""
        check_a("origin", origin, Origin)
        check_a("change", change, NewPassword)
        await self.pass_faults()
        user = self.database.users.get(change.user_id)
        row = self._row(change.user_id, change.reference)
        if user is None or user.password_hash != change.former_hash:
            return False
        if row is None or row.epoch != user.epoch:
            return False
        user.password_hash = change.password_hash
        user.epoch += change.ends_others
        self._renew(row, change.digest)
        row.epoch = user.epoch
        if change.ends_others:
            self._end_others(change.user_id, change.reference)
            end_tokens(self.database, [change.user_id], "password", origin)
        self.database.add_messages(change.outbox)
        record(self.database, Entry(Act.PASSWORD, change.user_id, origin))
        return True

    async def delete(
        self, user_id: UUID, former_hash: str, origin: Origin = NOWHERE, *, by: UUID | None
    ) -> bool:
        """See `Accounts.delete`."""
        check_a("origin", origin, Origin)
        check_uuid("user_id", user_id)
        check_hash(former_hash)
        if by is not None:
            check_uuid("by", by)
        await self.pass_faults()
        user = self.database.users.get(user_id)
        if user is None or user.password_hash != former_hash:
            return False
        if by is not None and not is_alive(self.database, user_id, by):
            return False
        self._end(lambda row: row.user_id == user_id)
        end_tokens(self.database, [user_id], "deletion", origin)
        for end in self.database.session_ends.values():
            end.members.discard(user_id)
        del self.database.users[user_id]
        self.database.factors.pop(user_id, None)
        identities = self.database.identities
        for one in [one for one, row in identities.items() if row.user_id == user_id]:
            del identities[one]
        self.forget_passkeys(user_id)
        self._forget_devices(user_id)
        changes = self.database.address_changes
        for change in [one for one, kept in changes.items() if kept.user_id == user_id]:
            del changes[change]
        recoveries = self.database.recoveries
        for recovery in [one for one, kept in recoveries.items() if kept.user_id == user_id]:
            del recoveries[recovery]
        self.database.user_names[user_id] = DELETED_NAME
        record(self.database, Entry(Act.DELETE, user_id, origin))
        forget_subject(self.database, user_subject(user_id), FORGOTTEN_BY)
        return True

    async def grant(self, username: str, role: Role) -> Role | None:
        """See `Accounts.grant`."""
        check_text("username", username, 1024)
        check_role(role)
        await self.pass_faults()
        users = self.database.users.items()
        found = next((id_ for id_, user in users if user.username == username), None)
        if found is None:
            return None
        user = self.database.users[found]
        before, user.role = Role(user.role), role.value
        if before is not role:
            entry = Entry(Act.ROLE, found, NOWHERE)
            record(self.database, entry, {"before": before.value, "role": role.value})
        if is_taken_away(before, role):
            self._end(lambda row: row.user_id == found)
            end_tokens(self.database, [found], "role")
        self._ring()
        return before

    async def named(self, username: str) -> tuple[UUID, Role] | None:
        """See `Accounts.named`."""
        check_text("username", username, 1024)
        await self.pass_faults()
        users = self.database.users.items()
        return next(
            ((user_id, Role(user.role)) for user_id, user in users if user.username == username),
            None,
        )

    async def roles(self, user_ids: Sequence[UUID]) -> Mapping[UUID, Role]:
        """See `Accounts.roles`."""
        asked = set(check_users(user_ids))
        await self.pass_faults()
        users = self.database.users.items()
        return {id_: Role(user.role) for id_, user in users if id_ in asked}

    async def sweep(self, limit: int = 1000) -> Swept:
        """See `Accounts.sweep`."""
        check_limit(limit)
        await self.pass_faults()
        rows = self.database.sign_ins.values()
        over = [row.reference for row in rows if self._left(row) <= timedelta(0)][:limit]
        count = self._end(lambda row: row.reference in over)
        left = [self._left(row).total_seconds() for row in rows]
        tokens, next_token = sweep_tokens(self.database, limit)
        waits = [max(0.0, one) for one in (*left, next_token) if one is not None]
        return Swept(count, min(waits, default=None), tokens)

    def _credentials(self, user_id: UUID | None) -> Credentials | None:
        user = None if user_id is None else self.database.users.get(user_id)
        if user_id is None or user is None or user.password_hash is None:
            return None
        has = has_second(self.database, user_id)
        return Credentials(user_id, user.username, user.email, user.password_hash, has)

    def _row(self, user_id: UUID, reference: UUID) -> SignInRow | None:
        rows = self.database.sign_ins.values()
        return next(
            (row for row in rows if (row.user_id, row.reference) == (user_id, reference)), None
        )

    def _renew(self, row: SignInRow, digest: bytes) -> None:
        sign_ins = self.database.sign_ins
        former = next(key for key, value in sign_ins.items() if value is row)
        sign_ins[digest] = sign_ins.pop(former)
        row.proven_at = self.database.now()

    def _ended_by_owner(self, user_id: UUID, count: int, origin: Origin) -> int:
        if count:
            facts = {"because": "owner", "count": str(count)}
            record(self.database, Entry(Act.END_SIGN_IN, user_id, origin), facts)
        return count

    def _is_over(self, row: SignInRow) -> bool:
        user = self.database.users.get(row.user_id)
        return user is None or user.epoch != row.epoch or self._left(row) <= timedelta(0)

    def _add_sign_in(
        self, user_id: UUID, sign_in: NewSignIn, origin: Origin, arrived: Arrived | None
    ) -> None:
        database, now = self.database, self.database.now()
        if sign_in.former is not None:
            former = sign_in.former
            self._end(lambda row: row.session_id == former)
            end = database.session_ends.setdefault(former, SessionEndRow(HowEnded.ENDED, now))
            end.members.add(user_id)
            self._ring()
        database.sign_ins[sign_in.digest] = SignInRow(
            sign_in.reference,
            user_id,
            sign_in.session_id,
            sign_in.browser,
            now,
            now,
            now,
            origin.address,
            origin.method,
            sign_in.level,
            database.users[user_id].epoch,
            at_provider=at_provider(database, user_id, sign_in.at_provider),
            device=None if arrived is None or arrived.device is None else arrived.device.id,
            is_limited=arrived is not None and arrived.judgement.outcome is Outcome.LIMITED,
        )

    def end_where(self, is_over: Callable[[SignInRow], bool]) -> int:
        """Call this in an act to end sign-ins; how many."""
        return self._end(is_over)

    def _end_others(self, user_id: UUID, reference: UUID) -> int:
        return self._end(lambda row: row.user_id == user_id and row.reference != reference)

    def _end(self, is_over: Callable[[SignInRow], bool]) -> int:
        database, now = self.database, self.database.now()
        over = [digest for digest, row in database.sign_ins.items() if is_over(row)]
        for digest in over:
            row = database.sign_ins.pop(digest)
            end = database.session_ends.setdefault(
                row.session_id, SessionEndRow(HowEnded.ENDED, now)
            )
            end.members.add(row.user_id)
        if over:
            self._ring()
        return len(over)

    def _left(self, row: SignInRow) -> timedelta:
        return min(row.seen_at + SIGN_IN_IDLE, row.created_at + SIGN_IN_KEPT) - self.database.now()

    def _ring(self) -> None:
        self.database.sessions_changed.set()
        self.database.sessions_changed = trio.Event()
