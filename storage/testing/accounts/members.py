"""Accounts, sign-ins and counted tries, as tests. Fixture `kept`, empty."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from uuid import UUID, uuid4

import pytest
import trio

from actors.accounts import (
    ASKED_MAX,
    FRESH_FOR,
    SIGN_IN_IDLE,
    SIGN_IN_KEPT,
    SIGN_INS_PER_USER_MAX,
    Accounts,
    Act,
    Allowed,
    Audit,
    AuditQuery,
    Entry,
    HowEnded,
    Level,
    Limit,
    Limited,
    NewAccount,
    NewPassword,
    NewSignIn,
    Origin,
    RateLimiter,
    Role,
    SessionEnds,
    SessionId,
    Shape,
    StepUp,
    Taken,
    Verdict,
    login_limits,
    user_stream,
)
from actors.accounts.kept.addresses import Addresses
from actors.accounts.kept.audit import Operated, Operation
from actors.accounts.kept.devices.port import Devices
from actors.accounts.kept.disavowals import Disavowals
from actors.accounts.kept.factors import CodeProof, Factors, NewTotp, Proof, TotpProof
from actors.accounts.kept.recoveries import Recoveries
from actors.accounts.kept.risk.port import Logins
from actors.accounts.members import Operator
from actors.accounts.ways.links import SignInLinks
from actors.accounts.ways.passkeys import Passkeys
from actors.accounts.ways.provider.identities import Identities
from actors.accounts.ways.tokens import ApiTokens
from actors.chat import user_subject
from actors.persistence import EventStore, Outbox, OutboxMessage, SubjectKeys
from actors.runtime import Secret
from actors.testing import FixedClock
from storage.errors import InvalidField
from storage.keyring import SubjectKeyring
from storage.memory import (
    MemoryAccounts,
    MemoryAddresses,
    MemoryApiTokens,
    MemoryAudit,
    MemoryDatabase,
    MemoryDevices,
    MemoryDisavowals,
    MemoryEventStore,
    MemoryFactors,
    MemoryIdentities,
    MemoryLogins,
    MemoryOutbox,
    MemoryPasskeys,
    MemoryRateLimiter,
    MemoryRecoveries,
    MemorySessionEnds,
    MemorySignInLinks,
    MemorySubjectKeys,
)
from storage.postgres import (
    Connection,
    Database,
    PostgresAccounts,
    PostgresAddresses,
    PostgresApiTokens,
    PostgresAudit,
    PostgresDevices,
    PostgresDisavowals,
    PostgresEventStore,
    PostgresFactors,
    PostgresIdentities,
    PostgresLogins,
    PostgresOutbox,
    PostgresPasskeys,
    PostgresRateLimiter,
    PostgresRecoveries,
    PostgresSessionEnds,
    PostgresSignInLinks,
    PostgresSubjectKeys,
)

HASH, OTHER_HASH = "$argon2id$one", "$argon2id$two"
SECOND = timedelta(seconds=1)
# As near as these come to the end of anything: a real store's clock goes on by itself, and on a
# starved core what is asked of it takes seconds.
MINUTE, MS = timedelta(minutes=1), timedelta(milliseconds=1)


# Makes rows older, a table at a time.
_AGE = """
UPDATE sign_ins SET seen_at = seen_at - $1::interval, proven_at = proven_at - $1::interval,
    created_at = created_at - $1::interval;
UPDATE attempts SET expires_at = expires_at - $1::interval,
    tried_at = ARRAY(SELECT t - $1::interval FROM unnest(tried_at) t);
UPDATE sign_in_links SET expires_at = expires_at - $1::interval;
UPDATE provider_identities SET renew_at = renew_at - $1::interval;
UPDATE used_states SET expires_at = expires_at - $1::interval;
UPDATE address_changes SET asked_at = asked_at - $1::interval, made_at = made_at - $1::interval;
UPDATE devices SET first_seen_at = first_seen_at - $1::interval, seen_at = seen_at - $1::interval;
UPDATE api_tokens SET created_at = created_at - $1::interval, used_at = used_at - $1::interval,
    expires_at = expires_at - $1::interval;
UPDATE logins SET at = at - $1::interval;
UPDATE login_allowances SET expires_at = expires_at - $1::interval;
UPDATE recoveries SET started_at = started_at - $1::interval,
    ready_at = ready_at - $1::interval, told_at = told_at - $1::interval;
UPDATE credentials SET guarded_until = guarded_until - $1::interval;
UPDATE used_disavowals SET expires_at = expires_at - $1::interval;
UPDATE passkey_challenges SET expires_at = expires_at - $1::interval
"""


@dataclass(frozen=True)
class KeptAccounts:
    """The ports of one database; `pass_time` lets it be later there."""

    accounts: Accounts
    limiter: RateLimiter
    ends: SessionEnds
    keys: SubjectKeys
    outbox: Outbox
    audit: Audit
    events: EventStore
    links: SignInLinks
    pass_time: Callable[[timedelta], Awaitable[None]]
    # From then on it passes only by `pass_time`, for the limiter.
    stop_time: Callable[[], None]
    factors: Factors
    identities: Identities
    passkeys: Passkeys
    disavowals: Disavowals
    addresses: Addresses
    devices: Devices
    logins: Logins
    recoveries: Recoveries
    tokens: ApiTokens
    # Whether the limiter's store forgets by itself what is over, so that a purge finds nothing.
    forgets_by_itself: bool = False

    async def register(self, name: str = "ada") -> NewAccount:
        """Register somebody whose sign-in is of the session of that name."""
        account = NewAccount(uuid4(), name, f"{name}@example.org", HASH)
        assert await self.accounts.register(account, sign_in_of(name)) is None
        return account

    async def sessions_over(self, *names: str) -> set[str]:
        """Tell which of these sessions are over."""
        return set(await self.ends.ended([SessionId(name) for name in names]))


def accounts_in_memory() -> KeptAccounts:
    """Call this for the twins on one new database."""
    clock = FixedClock()
    database = MemoryDatabase(now=clock.now)

    async def pass_time(so_long: timedelta) -> None:
        clock.advance(so_long)

    return KeptAccounts(
        MemoryAccounts(database),
        MemoryRateLimiter(database),
        MemorySessionEnds(database),
        MemorySubjectKeys(database),
        MemoryOutbox(database),
        MemoryAudit(database),
        MemoryEventStore(database),
        MemorySignInLinks(database),
        pass_time,
        lambda: None,
        MemoryFactors(database),
        MemoryIdentities(database),
        MemoryPasskeys(database),
        MemoryDisavowals(database),
        MemoryAddresses(database),
        MemoryDevices(database),
        MemoryLogins(database),
        MemoryRecoveries(database),
        MemoryApiTokens(database),
    )


def accounts_in_postgres(database: Database) -> KeptAccounts:
    """Call this for the adapters; time passes by making rows older."""
    stopped: list[datetime] = []

    async def pass_time(so_long: timedelta) -> None:
        async def work(connection: Connection) -> None:
            for statement in _AGE.split(";"):
                await connection.execute(statement, so_long)

        await database.run(work)

    keys = PostgresSubjectKeys(database)
    keyring = SubjectKeyring(keys, Secret(b"m" * 32))
    return KeptAccounts(
        PostgresAccounts(database),
        PostgresRateLimiter(database, lambda: stopped[0] if stopped else None),
        PostgresSessionEnds(database),
        keys,
        PostgresOutbox(database),
        PostgresAudit(database),
        PostgresEventStore(database),
        PostgresSignInLinks(database),
        pass_time,
        lambda: stopped.append(datetime.now(UTC)),
        PostgresFactors(database, keyring),
        PostgresIdentities(database, keyring),
        PostgresPasskeys(database),
        PostgresDisavowals(database),
        PostgresAddresses(database),
        PostgresDevices(database),
        PostgresLogins(database),
        PostgresRecoveries(database),
        PostgresApiTokens(database),
    )


def digest_of(session: str) -> bytes:
    """Call this for the digest of the token of that session's sign-in."""
    return sha256(session.encode()).digest()


def sign_in_of(session: str, former: str | None = None) -> NewSignIn:
    """Call this for a sign-in that goes with a session."""
    return NewSignIn(
        uuid4(),
        digest_of(session),
        SessionId(session),
        "Firefox on Linux",
        None if former is None else SessionId(former),
    )


class AccountsSuite:
    """An account is made once; a sign-in ends with its session, its time, or its account."""

    async def test_who_registered_is_signed_in(self, kept: KeptAccounts) -> None:
        # SITE-33, SITE-37
        ada = await kept.register()
        member = await kept.accounts.who(digest_of("ada"))
        assert member is not None
        assert (member.user_id, member.username, member.email) == (ada.user_id, "ada", ada.email)
        assert (member.role, member.session_id) == (Role.USER, "ada")
        found = await kept.accounts.credentials(ada.email)
        assert found is not None
        assert found.password_hash == HASH
        assert await kept.accounts.credentials_of(ada.user_id) == found
        assert await kept.accounts.credentials("nobody@example.org") is None
        assert await kept.accounts.who(digest_of("invented")) is None

    async def test_nobody_signs_in_as_the_demo_user(self, kept: KeptAccounts) -> None:
        # SEC-78, SITE-80
        assert await kept.accounts.credentials("demo.bot@example.com") is None

    async def test_of_fifty_at_once_one_gets_the_address(self, kept: KeptAccounts) -> None:
        # SEC-79, SEC-115: the table's own constraint says who
        told: list[Taken | None] = []

        async def register(number: int) -> None:
            account = NewAccount(uuid4(), f"ada{number}", "ada@example.org", HASH)
            told.append(await kept.accounts.register(account, sign_in_of(f"s{number}")))

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(register, number)
        assert sorted(told, key=str) == [None, *[Taken.EMAIL] * 49]

    async def test_of_twenty_at_once_one_gets_the_name(self, kept: KeptAccounts) -> None:
        # SEC-115, SITE-33
        told: list[Taken | None] = []

        async def register(number: int) -> None:
            account = NewAccount(uuid4(), "ada", f"ada{number}@example.org", HASH)
            told.append(await kept.accounts.register(account, sign_in_of(f"s{number}")))

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(register, number)
        assert sorted(told, key=str) == [None, *[Taken.USERNAME] * 19]
        account = NewAccount(uuid4(), "bob", "ada@example.org", HASH)
        await kept.accounts.register(account, sign_in_of("first"))
        account = NewAccount(uuid4(), "eve", "ada@example.org", HASH)
        assert await kept.accounts.register(account, sign_in_of("second")) is Taken.EMAIL
        assert await kept.accounts.who(digest_of("second")) is None

    async def test_a_sign_in_ends_what_the_browser_had_before(self, kept: KeptAccounts) -> None:
        # SITE-34, SEC-13
        ada = await kept.register()
        assert await kept.accounts.sign_in(ada.user_id, HASH, sign_in_of("new", "ada")) == 0
        assert await kept.accounts.who(digest_of("ada")) is None
        assert await kept.accounts.sign_in(ada.user_id, HASH, sign_in_of("newer", "a guest")) == 0
        assert await kept.sessions_over("ada", "new", "a guest") == {"ada", "a guest"}
        assert await kept.accounts.sign_in(uuid4(), HASH, sign_in_of("nobody")) is None

    async def test_parallel_logins_leave_five(self, kept: KeptAccounts) -> None:
        # SEC-19
        ada = await kept.register()
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(
                    kept.accounts.sign_in, ada.user_id, HASH, sign_in_of(f"session {number}")
                )
        assert len(await kept.accounts.sign_ins(ada.user_id)) == SIGN_INS_PER_USER_MAX
        names = ["ada", *(f"session {number}" for number in range(20))]
        assert len(await kept.sessions_over(*names)) == 21 - SIGN_INS_PER_USER_MAX

    async def test_a_request_within_a_week_keeps_a_sign_in(self, kept: KeptAccounts) -> None:
        # SITE-39, SEC-14
        await kept.register()
        for _ in range(4):
            await kept.pass_time(SIGN_IN_IDLE - MINUTE)
            assert await kept.accounts.who(digest_of("ada")) is not None
        await kept.pass_time(SIGN_IN_KEPT - 4 * SIGN_IN_IDLE + 2 * MINUTE)
        assert await kept.accounts.who(digest_of("ada")) is not None
        await kept.pass_time(3 * MINUTE)
        assert await kept.accounts.who(digest_of("ada")) is None

    async def test_without_a_request_it_is_over_and_swept(self, kept: KeptAccounts) -> None:
        # SITE-39, SITE-40
        ada = await kept.register()
        await kept.pass_time(SIGN_IN_IDLE - 10 * MINUTE)
        swept = await kept.accounts.sweep()
        assert swept.count == 0
        assert swept.next_in_s is not None
        assert 540 < swept.next_in_s <= 600
        assert await kept.sessions_over("ada") == set()
        await kept.pass_time(10 * MINUTE)
        assert await kept.accounts.who(digest_of("ada")) is None
        assert await kept.accounts.sign_ins(ada.user_id) == []
        assert (await kept.accounts.sweep()).count == 1
        assert await kept.sessions_over("ada") == {"ada"}
        assert (await kept.accounts.sweep()).next_in_s is None

    async def test_a_visit_is_noted_once_a_minute(self, kept: KeptAccounts) -> None:
        # SITE-39
        ada = await kept.register()
        (before,) = await kept.accounts.sign_ins(ada.user_id)
        await kept.accounts.who(digest_of("ada"))
        assert await kept.accounts.sign_ins(ada.user_id) == [before]
        await kept.pass_time(timedelta(minutes=2))
        await kept.accounts.who(digest_of("ada"))
        (after,) = await kept.accounts.sign_ins(ada.user_id)
        assert after.seen_at - after.created_at >= timedelta(minutes=2)

    async def test_sign_ins_are_ended_by_their_owner_only(self, kept: KeptAccounts) -> None:
        # SITE-45, SEC-19
        ada, bob = await kept.register(), await kept.register("bob")
        for name in ("second", "third"):
            assert await kept.accounts.sign_in(ada.user_id, HASH, sign_in_of(name)) == 0
        third, second, first = await kept.accounts.sign_ins(ada.user_id)
        (bobs,) = await kept.accounts.sign_ins(bob.user_id)
        end, asks = kept.accounts.end_sign_in, third.reference
        assert not await end(bob.user_id, third.reference, by=bobs.reference)
        assert not await end(ada.user_id, uuid4(), by=asks)
        assert await end(ada.user_id, second.reference, by=asks)
        assert not await end(ada.user_id, second.reference, by=asks)
        assert await kept.accounts.end_others(ada.user_id, third.reference) == 1
        assert await kept.accounts.sign_ins(ada.user_id) == [third]
        assert await kept.sessions_over("ada", "second", "third", "bob") == {"ada", "second"}
        assert first.reference != third.reference

    async def test_signing_out_ends_one(self, kept: KeptAccounts) -> None:
        # SITE-40
        ada = await kept.register()
        await kept.accounts.sign_in(ada.user_id, HASH, sign_in_of("other"))
        await kept.accounts.sign_out(SessionId("ada"))
        await kept.accounts.sign_out(SessionId("ada"))
        await kept.accounts.sign_out(SessionId("a guest"))
        assert await kept.accounts.who(digest_of("ada")) is None
        assert await kept.accounts.who(digest_of("other")) is not None
        assert await kept.sessions_over("ada", "a guest", "other") == {"ada"}

    async def test_a_new_password_gives_a_new_token(self, kept: KeptAccounts) -> None:
        # SITE-46, SEC-17
        ada = await kept.register()
        await kept.accounts.sign_in(ada.user_id, HASH, sign_in_of("other"))
        _, own = await kept.accounts.sign_ins(ada.user_id)
        change = NewPassword(ada.user_id, HASH, OTHER_HASH, own.reference, digest_of("renewed"))
        assert await kept.accounts.change_password(change)
        assert await kept.accounts.who(digest_of("ada")) is None
        assert await kept.accounts.who(digest_of("other")) is None
        member = await kept.accounts.who(digest_of("renewed"))
        assert member is not None
        assert member.session_id == "ada"
        assert await kept.sessions_over("ada", "other") == {"other"}
        # Of two changes from one password the second finds another.
        assert not await kept.accounts.change_password(change)
        await kept.accounts.sign_in(ada.user_id, OTHER_HASH, sign_in_of("kept"))
        again = NewPassword(
            ada.user_id, OTHER_HASH, HASH, own.reference, digest_of("again"), ends_others=False
        )
        assert await kept.accounts.change_password(again)
        assert await kept.accounts.who(digest_of("kept")) is not None

    async def test_what_leaves_with_a_new_password_leaves_with_it_or_not_at_all(
        self, kept: KeptAccounts
    ) -> None:
        # MAIL-1, SEC-73
        ada = await kept.register()
        member = await kept.accounts.who(digest_of("ada"))
        assert member is not None
        mail = OutboxMessage(uuid4(), "mail", "mail", "k", b"changed")
        wrong, right = (
            NewPassword(
                ada.user_id, former, OTHER_HASH, member.reference, digest_of("new"), outbox=[mail]
            )
            for former in (OTHER_HASH, HASH)
        )
        assert not await kept.accounts.change_password(wrong)
        assert (await kept.outbox.stats()).pending == 0
        assert await kept.accounts.change_password(right)
        (waiting,) = await kept.outbox.waiting()
        assert (waiting.kind, waiting.key) == ("mail", "k")

    async def test_a_password_that_was_changed_meanwhile_opens_nothing(
        self, kept: KeptAccounts
    ) -> None:
        # SEC-17: it was the right one when it was compared
        ada = await kept.register()
        member = await kept.accounts.who(digest_of("ada"))
        assert member is not None
        change = NewPassword(
            ada.user_id, HASH, OTHER_HASH, member.reference, digest_of("new"), ends_others=True
        )
        assert await kept.accounts.change_password(change)
        late = await kept.accounts.sign_in(ada.user_id, HASH, sign_in_of("late", "a guest"))
        assert late is None
        assert await kept.accounts.who(digest_of("late")) is None
        assert await kept.sessions_over("late", "a guest") == set()
        assert await kept.accounts.sign_in(ada.user_id, OTHER_HASH, sign_in_of("right")) == 0

    async def test_a_hash_is_renewed_unless_it_changed(self, kept: KeptAccounts) -> None:
        # SITE-36
        ada = await kept.register()
        await kept.accounts.renew_hash(ada.user_id, OTHER_HASH, "$argon2id$never")
        await kept.accounts.renew_hash(ada.user_id, HASH, OTHER_HASH)
        found = await kept.accounts.credentials(ada.email)
        assert found is not None
        assert found.password_hash == OTHER_HASH

    async def test_a_deleted_account_is_gone_and_free(self, kept: KeptAccounts) -> None:
        # SITE-47, SEC-16
        ada = await kept.register()
        assert not await kept.accounts.delete(ada.user_id, OTHER_HASH, by=None)
        assert (await kept.keys.forgets())[0] == 0
        assert await kept.accounts.delete(ada.user_id, HASH, by=None)
        assert not await kept.accounts.delete(ada.user_id, HASH, by=None)
        # What shows the name, in whatever process, reads it again.
        assert await kept.keys.forgets(0) == (1, [user_subject(ada.user_id)])
        assert await kept.accounts.credentials(ada.email) is None
        assert await kept.accounts.who(digest_of("ada")) is None
        assert await kept.accounts.grant("ada", Role.MODERATOR) is None
        assert await kept.sessions_over("ada") == {"ada"}
        again = NewAccount(uuid4(), "ada", ada.email, HASH)
        assert await kept.accounts.register(again, sign_in_of("again")) is None

    async def test_a_sixth_ends_one_and_is_told(self, kept: KeptAccounts) -> None:
        # SEC-19, AUTH-20
        ada = await kept.register()
        told = [
            await kept.accounts.sign_in(ada.user_id, HASH, sign_in_of(f"s{number}"))
            for number in range(6)
        ]
        assert told == [0, 0, 0, 0, 1, 1]

    async def test_a_sign_in_has_its_first_address_and_a_name(self, kept: KeptAccounts) -> None:
        # SEC-19, AUTH-21
        ada, bob = await kept.register(), await kept.register("bob")
        for name, address in (("first", "192.0.2.*"), ("second", "")):
            origin = Origin(address, "Firefox", "r-1")
            await kept.accounts.sign_in(ada.user_id, HASH, sign_in_of(name), origin)
        second, first, own = await kept.accounts.sign_ins(ada.user_id)
        assert [one.address for one in (own, first, second)] == ["", "192.0.2.*", ""]
        assert await kept.accounts.name_sign_in(ada.user_id, first.reference, "  the  old laptop ")
        assert not await kept.accounts.name_sign_in(bob.user_id, first.reference, "mine")
        assert not await kept.accounts.name_sign_in(ada.user_id, uuid4(), "mine")
        for wrong in ("x" * 41, "a\u202eb", "a\0", None):
            with pytest.raises(InvalidField):
                await kept.accounts.name_sign_in(ada.user_id, first.reference, wrong)  # type: ignore[arg-type]
        names = [one.name for one in await kept.accounts.sign_ins(ada.user_id)]
        assert names == ["", "the old laptop", ""]

    async def test_a_proof_is_fresh_for_ten_minutes_and_gives_a_new_token(
        self, kept: KeptAccounts
    ) -> None:
        # SEC-13, SEC-20, AUTH-21, AUTH-22
        ada = await kept.register()
        await kept.pass_time(FRESH_FOR - MINUTE)
        member = await kept.accounts.who(digest_of("ada"))
        assert member is not None
        assert (member.is_fresh, member.level) == (True, Level.BASIC)
        await kept.pass_time(2 * MINUTE)
        member = await kept.accounts.who(digest_of("ada"))
        assert member is not None
        assert not member.is_fresh
        step = partial(StepUp, ada.user_id, member.reference)
        assert not await kept.accounts.step_up(step(digest_of("x"), former_hash=OTHER_HASH))
        assert not await kept.accounts.step_up(StepUp(ada.user_id, uuid4(), digest_of("x")))
        assert await kept.accounts.who(digest_of("x")) is None
        assert await kept.accounts.step_up(step(digest_of("new"), Level.MULTI_FACTOR, HASH))
        assert await kept.accounts.who(digest_of("ada")) is None
        member = await kept.accounts.who(digest_of("new"))
        assert member is not None
        assert (member.is_fresh, member.level) == (True, Level.MULTI_FACTOR)
        assert member.session_id == "ada"
        assert await kept.accounts.step_up(step(digest_of("newer"), Level.BASIC))
        member = await kept.accounts.who(digest_of("newer"))
        assert member is not None
        assert member.level is Level.MULTI_FACTOR, "a level is never lowered"
        await kept.pass_time(-timedelta(hours=1))  # a clock that was wrong
        member = await kept.accounts.who(digest_of("newer"))
        assert member is not None
        assert not member.is_fresh

    async def test_an_operator_ends_one_those_of_one_or_all(self, kept: KeptAccounts) -> None:
        # SEC-18
        ada, bob = await kept.register(), await kept.register("bob")
        await kept.register("eve")
        await kept.accounts.sign_in(ada.user_id, HASH, sign_in_of("other"))
        assert len(await kept.accounts.all_sign_ins()) == 4
        assert len(await kept.accounts.all_sign_ins(limit=2)) == 2
        (of_bob,) = await kept.accounts.all_sign_ins(bob.user_id)
        assert of_bob.user_id == bob.user_id
        assert await kept.accounts.revoke(reference=uuid4()) == 0
        assert await kept.accounts.revoke(reference=of_bob.reference) == 1
        assert await kept.accounts.revoke(reference=of_bob.reference) == 0
        assert await kept.accounts.revoke(user_id=ada.user_id) == 2
        assert await kept.sessions_over("ada", "other", "bob", "eve") == {"ada", "other", "bob"}
        assert await kept.accounts.revoke() == 1
        assert await kept.accounts.all_sign_ins() == []
        assert await kept.sessions_over("eve") == {"eve"}

    async def test_two_hundred_at_once_are_never_taken_for_each_other(
        self, kept: KeptAccounts
    ) -> None:
        # SEC-23
        people = {name: await kept.register(name) for name in (f"u{i}" for i in range(200))}
        wrong: list[str] = []

        async def sign_in_and_look(name: str, number: int) -> None:
            session = f"{name}-{number}"
            await kept.accounts.sign_in(people[name].user_id, HASH, sign_in_of(session, name))
            member = await kept.accounts.who(digest_of(session))
            if member is None or (member.username, member.session_id) != (name, session):
                wrong.append(session)

        async with trio.open_nursery() as nursery:
            for name in people:
                nursery.start_soon(sign_in_and_look, name, 0)
        for _ in range(20):
            async with trio.open_nursery() as nursery:
                for name in people:
                    nursery.start_soon(_look, kept, name, wrong)
        assert wrong == []

    async def test_each_act_leaves_its_event_and_its_row(self, kept: KeptAccounts) -> None:
        # AUTH-41, SEC-130, SEC-134
        origin = Origin("192.0.2.*", "Firefox on Linux", "request-7")
        account = NewAccount(uuid4(), "ada", "ada@example.org", HASH)
        await kept.accounts.register(account, sign_in_of("ada"), origin)
        user = account.user_id
        await kept.pass_time(SECOND)
        for number in range(5):
            await kept.accounts.sign_in(user, HASH, sign_in_of(f"s{number}"), origin)
        await kept.audit.note(Entry(Act.SIGN_IN, user, origin, "wrong"))
        await kept.audit.note(Entry(Act.SIGN_IN, None, origin, "wrong"))
        newest = (await kept.accounts.sign_ins(user))[0]
        asking = await kept.accounts.who(digest_of("s3"))
        assert asking is not None
        await kept.accounts.step_up(StepUp(user, newest.reference, digest_of("n")), origin)
        await kept.accounts.end_sign_in(user, newest.reference, origin, by=asking.reference)
        await kept.accounts.sign_out(SessionId("s1"), origin)
        await kept.accounts.grant("ada", Role.MODERATOR)
        await kept.accounts.grant("ada", Role.MODERATOR)
        change = NewPassword(user, HASH, OTHER_HASH, asking.reference, digest_of("p"))
        await kept.accounts.change_password(change, origin)
        await kept.accounts.revoke(user_id=user)
        await kept.accounts.delete(user, OTHER_HASH, origin, by=None)
        kinds = [one.type async for one in kept.events.load(user_stream(user))]
        logged = ["UserLoggedIn"] * 5
        assert kinds == [
            "UserRegistered", *logged, "UserLoggedOut", "LoginAttempted", "LoginAttempted",
            "UserLoggedOut", "UserLoggedOut", "UserUpdated", "UserUpdated", "UserLoggedOut",
            "UserDeleted",
        ]  # fmt: skip
        rows = await kept.audit.search(AuditQuery(user_id=user))
        assert len(rows) == len(kinds)
        ids = [row.id for row in rows]
        assert ids == sorted(ids, reverse=True)
        refused = await kept.audit.search(AuditQuery(is_success=False))
        assert [(row.subject, row.reason) for row in refused] == [
            (None, "wrong"), (str(user), "wrong"),
        ]  # fmt: skip
        assert {(row.address, row.request_id) for row in refused} == {("192.0.2.*", "request-7")}
        for entry in rows:
            # It is drawn, and may happen to hold the name.
            said = str(entry).replace(str(user), "")
            assert "ada" not in said

    async def test_an_audit_is_searched_by_user_act_time_and_success(
        self, kept: KeptAccounts
    ) -> None:
        # AUTH-42
        ada, bob = await kept.register(), await kept.register("bob")
        await kept.audit.note(Entry(Act.SIGN_IN, bob.user_id, Origin(), "wrong"))
        everything = await kept.audit.search(AuditQuery())
        assert [row.action for row in everything] == [
            "account.sign_in", "account.register", "account.register",
        ]  # fmt: skip
        newest, _, oldest = everything
        for query, found in (
            (AuditQuery(user_id=ada.user_id), [oldest]),
            (AuditQuery(action="account.sign_in"), [newest]),
            (AuditQuery(is_success=False), [newest]),
            (AuditQuery(is_success=True, limit=1), [everything[1]]),
            (AuditQuery(before=newest.id, user_id=bob.user_id), [everything[1]]),
            (AuditQuery(since=newest.at), [row for row in everything if row.at >= newest.at]),
            (AuditQuery(until=oldest.at), []),
            (AuditQuery(user_id=uuid4()), []),
        ):
            assert await kept.audit.search(query) == found, query
        for wrong in ({"limit": 0}, {"before": 0}, {"since": datetime(2026, 1, 1)}, {"limit": 501}):  # noqa: DTZ001
            with pytest.raises(InvalidField):
                AuditQuery(**wrong)

    async def test_what_operators_do_with_other_things_stands_among_it(
        self, kept: KeptAccounts
    ) -> None:
        # AUTH-42, RES-3
        by, origin = uuid4(), Origin("192.0.2.*", "Firefox", "request-9", method="operator")
        done = Operation(
            Operated.OUTSIDE_RESET, by, "gateway", origin, 'they are "back"', {"a": "b"}
        )
        await kept.audit.operated(done)
        await kept.audit.operated(Operation(Operated.OUTSIDE_RESET, by, "mail", Origin()))
        mail, gateway = await kept.audit.search(AuditQuery(user_id=by))
        assert (gateway.kind, gateway.action, gateway.actor, gateway.subject) == (
            "operation", "outside.reset", str(by), "gateway",
        )  # fmt: skip
        assert (gateway.is_success, gateway.why) == (True, 'they are "back"')
        assert (gateway.address, gateway.browser, gateway.request_id) == (
            "192.0.2.*", "Firefox", "request-9",
        )  # fmt: skip
        assert (mail.subject, mail.why, mail.reason, mail.address) == ("mail", None, None, None)
        assert await kept.audit.search(AuditQuery(action="outside.reset", limit=1)) == [mail]
        for wrong in ({"why": "\x00"}, {"why": "x" * 5000}, {"facts": {"a": "\ud800"}}):
            with pytest.raises(InvalidField):
                Operation(Operated.OUTSIDE_RESET, by, "mail", origin, **wrong)

    async def test_an_operator_ends_what_is_anybodys(self, kept: KeptAccounts) -> None:
        # SEC-18, SEC-20, SEC-134: and it stands in the audit who it was
        ada, bob = await kept.register(), await kept.register("bob")
        await kept.accounts.sign_in(ada.user_id, HASH, sign_in_of("other"))
        (own,) = await kept.accounts.sign_ins(bob.user_id)
        by, origin = Operator(bob.user_id, own.reference), Origin("192.0.2.*", method="operator")
        assert own.username == "bob"
        assert await kept.accounts.revoke(user_id=ada.user_id, by=by, origin=origin) == 0, "no role"
        await kept.accounts.grant("bob", Role.ADMIN)
        newest, _ = await kept.accounts.sign_ins(ada.user_id)
        end = partial(kept.accounts.revoke, by=by, origin=origin)
        assert await end(reference=uuid4()) == 0
        assert await end(reference=newest.reference) == 1
        assert await end(user_id=ada.user_id) == 1
        rows = await kept.audit.search(
            AuditQuery(user_id=ada.user_id, action="account.sign_in_end")
        )
        assert [(row.actor, row.address) for row in rows] == [(str(bob.user_id), "192.0.2.*")] * 2
        assert await kept.audit.search(AuditQuery(user_id=bob.user_id, limit=2)) == rows
        await kept.register("eve")
        assert await end() == 2, "their own too"
        await kept.register("joe")
        assert await end() == 0, "their sign-in is over"
        assert await kept.accounts.who(digest_of("joe")) is not None

    async def test_what_was_said_lately_ends_with_what_it_was_said_of(
        self, kept: KeptAccounts
    ) -> None:
        # PERF-40, SEC-13, SEC-44, SITE-40: of two that were just looked at, by whatever ended one
        ada, bob = await kept.register(), await kept.register("bob")
        accounts = kept.accounts

        async def seen(*names: str) -> list[str | None]:
            told = [await accounts.who_lately(digest_of(name)) for name in names]
            return [None if one is None else one.role.value for one in told]

        assert await seen("ada", "bob", "ada", "bob", "nobody") == [*["user"] * 4, None]
        assert await accounts.who_lately(digest_of("ada")) is not None
        await accounts.grant("ada", Role.MODERATOR)
        assert await seen("ada", "bob") == ["moderator", "user"]
        # Who loses a role is signed out.
        await accounts.grant("ada", Role.USER)
        assert await seen("ada", "bob") == [None, "user"]
        assert await accounts.sign_in(ada.user_id, HASH, sign_in_of("ada")) == 0
        assert await seen("ada", "ada") == ["user", "user"]
        await accounts.sign_out(SessionId("ada"))
        assert await seen("ada", "bob") == [None, "user"]
        assert await accounts.sign_in(ada.user_id, HASH, sign_in_of("ada")) == 0
        assert await seen("ada", "bob") == ["user", "user"]
        assert await accounts.revoke(user_id=bob.user_id) == 1
        assert await seen("ada", "bob") == ["user", None]
        assert await accounts.delete(ada.user_id, HASH, by=None)
        assert await seen("ada") == [None]

    async def test_a_role_counts_from_the_next_request(self, kept: KeptAccounts) -> None:
        # SITE-49
        await kept.register()
        assert await kept.accounts.grant("ada", Role.MODERATOR) is Role.USER
        member = await kept.accounts.who(digest_of("ada"))
        assert member is not None
        assert member.role is Role.MODERATOR
        assert await kept.sessions_over("ada") == set(), "more than before is no end"
        assert await kept.accounts.grant("ada", Role.MODERATOR) is Role.MODERATOR
        assert await kept.sessions_over("ada") == set()
        # What a moderator has open shows what waits for review.
        assert await kept.accounts.grant("ada", Role.USER) is Role.MODERATOR
        assert await kept.accounts.who(digest_of("ada")) is None
        assert await kept.sessions_over("ada") == {"ada"}
        assert await kept.accounts.grant("nobody", Role.ADMIN) is None
        assert await kept.accounts.named("ada") == (member.user_id, Role.USER)
        assert await kept.accounts.named("nobody") is None
        both = [member.user_id, UUID(int=999)]
        assert await kept.accounts.roles(both) == {member.user_id: Role.USER}
        assert await kept.accounts.roles([]) == {}

    async def test_nonsense_is_refused(self, kept: KeptAccounts) -> None:
        for wrong in (b"", b"x" * 31, "x" * 32, None):
            with pytest.raises(InvalidField):
                await kept.accounts.who(wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidField):
            await kept.accounts.sign_ins("ada")  # type: ignore[arg-type]
        for nobodies in ("ada", ["ada"], [UUID(int=1)] * (ASKED_MAX + 1), None):
            with pytest.raises(InvalidField):
                await kept.accounts.roles(nobodies)  # type: ignore[arg-type]
        with pytest.raises(InvalidField):
            await kept.accounts.grant("ada", "admin")  # type: ignore[arg-type]
        with pytest.raises(InvalidField):
            NewAccount(uuid4(), "ada", "ada@example.org", "a password")
        with pytest.raises(InvalidField):
            NewAccount(UUID(int=1), "a\0", "ada@example.org", HASH)
        with pytest.raises(InvalidField):
            await kept.accounts.register(None, sign_in_of("ada"))  # type: ignore[arg-type]
        with pytest.raises(InvalidField):
            await kept.ends.end([SessionId("")], HowEnded.ENDED)


async def hit_at_once(limiter: RateLimiter, count: int, *limits: Limit) -> list[Verdict]:
    """Call this for the verdicts of so many tries in parallel, in the order of their answers."""
    told: list[Verdict] = []

    async def hit() -> None:
        told.append(await limiter.hit(*limits))

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(hit)
    return told


async def _look(kept: KeptAccounts, name: str, wrong: list[str]) -> None:
    member = await kept.accounts.who(digest_of(f"{name}-0"))
    if member is None or member.username != name:
        wrong.append(name)


class RateLimiterSuite:
    """Tries are counted whatever becomes of them, and by all processes together."""

    async def test_of_fifty_at_once_ten_are_made(self, kept: KeptAccounts) -> None:
        # AUTH-40, SITE-48, SEC-76, SEC-115
        waits: list[float] = []

        async def try_it(number: int) -> None:
            match await kept.limiter.hit(*login_limits("address", f"account {number}")):
                case Limited(wait):
                    waits.append(wait)

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(try_it, number)
        assert len(waits) == 40
        assert all(890 < wait <= 900 for wait in waits)
        await kept.pass_time(timedelta(minutes=15))
        assert isinstance(await kept.limiter.hit(*login_limits("address", "account")), Allowed)

    @pytest.mark.parametrize("shape", [Shape.WINDOW, Shape.BUCKET])
    async def test_a_hundred_at_once_are_counted_one_by_one(
        self, kept: KeptAccounts, shape: Shape
    ) -> None:
        # AUTH-40: none is counted twice, and none with another
        limit = Limit("key", 60, timedelta(hours=10), shape)
        told = await hit_at_once(kept.limiter, 100, limit)
        left = sorted(one.remaining for one in told if isinstance(one, Allowed))
        assert left == list(range(60))
        assert sum(isinstance(one, Limited) for one in told) == 40

    async def test_a_window_slides_to_the_millisecond(self, kept: KeptAccounts) -> None:
        # AUTH-40
        limit = Limit("key", 3, timedelta(hours=1))
        for left in (2, 1, 0):
            assert await kept.limiter.hit(limit) == Allowed(left)
            await kept.pass_time(10 * MINUTE)
        verdict = await kept.limiter.peek(limit)
        assert isinstance(verdict, Limited)
        # The first of them leaves after an hour, half an hour of which is over.
        assert 1740 < verdict.retry_after <= 1800
        for _ in range(20):  # who tries while limited does not wait longer
            await kept.limiter.hit(limit)
        kept.stop_time()
        verdict = await kept.limiter.peek(limit)
        assert isinstance(verdict, Limited)
        await kept.pass_time(timedelta(seconds=verdict.retry_after) - MS)
        verdict = await kept.limiter.hit(limit)
        assert verdict == Limited(0.001)
        await kept.pass_time(MS)
        assert await kept.limiter.hit(limit) == Allowed(0)
        assert isinstance(await kept.limiter.hit(limit), Limited)

    async def test_a_bucket_gets_one_back_at_a_time(self, kept: KeptAccounts) -> None:
        # AUTH-40
        kept.stop_time()
        limit = Limit("key", 6, MINUTE, Shape.BUCKET)
        told = [await kept.limiter.hit(limit) for _ in range(7)]
        assert told == [*map(Allowed, (5, 4, 3, 2, 1, 0)), Limited(10.0)]
        await kept.pass_time(timedelta(seconds=10) - MS)
        assert await kept.limiter.hit(limit) == Limited(0.001)
        await kept.pass_time(MS)
        assert await kept.limiter.hit(limit) == Allowed(0)
        await kept.limiter.give_back(limit)
        assert await kept.limiter.hit(limit) == Allowed(0)
        await kept.pass_time(timedelta(seconds=25))
        assert [await kept.limiter.hit(limit) for _ in range(2)] == [Allowed(1), Allowed(0)]
        await kept.pass_time(10 * MINUTE)
        assert await kept.limiter.peek(limit) == Allowed(5), "it holds no more than six"

    async def test_an_account_becomes_slow_and_never_locked(self, kept: KeptAccounts) -> None:
        # SITE-48, SEC-76: from one address after another
        kept.stop_time()
        told: list[float] = []
        for number in range(15):
            limits = login_limits(f"address {number}", "ada")
            match await kept.limiter.hit(*limits):
                case Limited(wait):
                    told.append(round(wait))
                    await kept.pass_time(timedelta(seconds=wait))
                    assert isinstance(await kept.limiter.hit(*limits), Allowed)
                case Allowed():
                    told.append(0)
        assert told == [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
        await kept.limiter.clear("account:ada")
        assert isinstance(await kept.limiter.hit(*login_limits("another", "ada")), Allowed)

    async def test_a_good_try_is_given_back(self, kept: KeptAccounts) -> None:
        limit, unknown = Limit("key", 2, MINUTE), Limit("unknown", 2, MINUTE)
        for _ in range(6):
            assert isinstance(await kept.limiter.hit(limit), Allowed)
            await kept.limiter.give_back(limit, unknown)
        told = [isinstance(await kept.limiter.hit(limit), Allowed) for _ in range(3)]
        assert told == [True, True, False]

    async def test_a_refused_try_counts_under_no_key(self, kept: KeptAccounts) -> None:
        full, other = (Limit(key, 1, MINUTE) for key in ("full", "other"))
        assert await kept.limiter.hit(full) == Allowed(0)
        assert isinstance(await kept.limiter.hit(other, full), Limited)
        assert await kept.limiter.hit(other) == Allowed(0)

    async def test_of_several_limits_the_least_is_told(self, kept: KeptAccounts) -> None:
        # AUTH-40
        wide, narrow = Limit("wide", 9, MINUTE), Limit("narrow", 2, timedelta(hours=1))
        assert await kept.limiter.peek(wide, narrow) == Allowed(1)
        assert await kept.limiter.peek(wide, narrow) == Allowed(1), "looking counts nothing"
        assert await kept.limiter.hit(wide, narrow) == Allowed(1)
        assert await kept.limiter.hit(wide, narrow) == Allowed(0)
        verdict = await kept.limiter.hit(wide, narrow)
        assert isinstance(verdict, Limited)
        assert 3590 < verdict.retry_after <= 3600
        assert await kept.limiter.peek(wide) == Allowed(6)

    async def test_a_clock_that_went_wrong_locks_nobody_out(self, kept: KeptAccounts) -> None:
        # AUTH-40: what was counted while it was a day ahead
        limits = [Limit(shape, 1, MINUTE, shape) for shape in Shape]
        for limit in limits:
            assert isinstance(await kept.limiter.hit(limit), Allowed)
        await kept.pass_time(-timedelta(days=1))
        for limit in limits:
            assert isinstance(await kept.limiter.hit(limit), Allowed)
            assert isinstance(await kept.limiter.hit(limit), Limited)

    async def test_what_is_over_is_removed(self, kept: KeptAccounts) -> None:
        # AUTH-40
        await kept.limiter.hit(Limit("short", 1, timedelta(minutes=5)))
        await kept.limiter.hit(Limit("bucket", 1, timedelta(minutes=5), Shape.BUCKET))
        await kept.limiter.hit(Limit("long", 1, timedelta(minutes=50)))
        await kept.pass_time(timedelta(minutes=10))
        removed = [0, 0, 0] if kept.forgets_by_itself else [1, 1, 0]
        assert [await kept.limiter.purge(1) for _ in range(3)] == removed
        for shape, key in ((Shape.WINDOW, "short"), (Shape.BUCKET, "bucket")):
            again = Limit(key, 1, timedelta(minutes=5), shape)
            assert await kept.limiter.peek(again) == Allowed(0)
        verdict = await kept.limiter.hit(Limit("long", 1, timedelta(minutes=50)))
        assert isinstance(verdict, Limited)

    async def test_nonsense_is_refused_before_anything_is_counted(self, kept: KeptAccounts) -> None:
        # AUTH-40
        good = Limit("key", 1, MINUTE)
        for nonsense in ([], [good, good], ["key"], [good] * 17):
            with pytest.raises(InvalidField):
                await kept.limiter.hit(*nonsense)
        for key in ("", "a\0", None, "k" * 1025):
            with pytest.raises(InvalidField):
                await kept.limiter.clear(key)  # type: ignore[arg-type]
        for tries_max in (0, -1, 10_001, 1.5, True, None):
            with pytest.raises(InvalidField):
                Limit("key", tries_max, MINUTE)  # type: ignore[arg-type]
        for period in (timedelta(0), -MINUTE, timedelta(days=400), 60, None):
            with pytest.raises(InvalidField):
                Limit("key", 1, period)  # type: ignore[arg-type]
        with pytest.raises(InvalidField):
            Limit("key", 1, MINUTE, "window")  # type: ignore[arg-type]
        assert await kept.limiter.hit(good) == Allowed(0)


# -- second factors -----------------------------------------------------------------------------

CODES = [sha256(f"code {number}".encode()).digest() for number in range(10)]


def sign_in_with(session: str, proof: Proof | None) -> NewSignIn:
    """Call this for a sign-in that uses up a proof."""
    return replace(sign_in_of(session), level=Level.MULTI_FACTOR, proof=proof)


async def add_app(kept: KeptAccounts, name: str = "ada", step: int = 100) -> NewAccount:
    """Call this to register somebody who has an app for codes, and ten recovery codes."""
    account = await kept.register(name)
    member = await kept.accounts.who(digest_of(name))
    assert member is not None
    new = NewTotp(
        account.user_id, b"s" * 20, step, member.reference, digest_of(f"{name} app"), CODES
    )
    assert await kept.factors.add_totp(new, Origin(method="totp"))
    return account


async def acts_of(kept: KeptAccounts, user_id: UUID) -> list[str]:
    """Call this for the types of somebody's events, in their order."""
    return [event.type async for event in kept.events.load(user_stream(user_id))]


class FactorsSuite:
    """A second factor is asked for from its first moment on, and each proof opens once."""

    async def test_an_app_is_kept_with_its_codes(self, kept: KeptAccounts) -> None:
        # AUTH-9, AUTH-22, AUTH-41, SEC-13
        before = await kept.register("bob")
        assert await kept.factors.held(before.user_id) == await kept.factors.held(uuid4())
        ada = await add_app(kept)
        held = await kept.factors.held(ada.user_id)
        assert held.totp is not None
        assert (held.totp.secret, held.totp.last_step, held.codes_left) == (b"s" * 20, 100, 10)
        assert "s" * 20 not in repr(held)
        assert await kept.accounts.who(digest_of("ada")) is None, "a new token"
        member = await kept.accounts.who(digest_of("ada app"))
        assert member is not None
        assert (member.level, member.has_second, member.is_fresh) == (2, True, True)
        found = await kept.accounts.credentials(ada.email)
        assert found is not None
        assert found.has_second
        again = NewTotp(ada.user_id, b"t" * 20, 200, member.reference, digest_of("again"))
        assert not await kept.factors.add_totp(again, Origin())
        over = NewTotp(before.user_id, b"t" * 20, 200, uuid4(), digest_of("over"))
        assert not await kept.factors.add_totp(over, Origin())
        assert await acts_of(kept, ada.user_id) == ["UserRegistered", "SecondFactorAdded"]
        rows = await kept.audit.search(AuditQuery(user_id=ada.user_id))
        assert [row.action for row in rows] == ["account.factor_add", "account.register"]

    async def test_without_its_proof_nothing_of_full_level_is_made(
        self, kept: KeptAccounts
    ) -> None:
        # AUTH-9
        ada = await add_app(kept)
        wrong: list[Proof | None] = [None, TotpProof(100), TotpProof(99), CodeProof(digest_of("x"))]
        for number, proof in enumerate(wrong):
            sign_in = sign_in_with(f"try {number}", proof)
            assert await kept.accounts.sign_in(ada.user_id, HASH, sign_in) is None
            assert await kept.accounts.who(digest_of(f"try {number}")) is None
        sign_in = sign_in_with("good", TotpProof(101))
        assert await kept.accounts.sign_in(ada.user_id, OTHER_HASH, sign_in) is None
        assert await kept.accounts.sign_in(ada.user_id, HASH, sign_in) == 0, "nothing was used up"
        member = await kept.accounts.who(digest_of("good"))
        assert member is not None
        assert member.level is Level.MULTI_FACTOR

    async def test_a_proof_steps_up_once(self, kept: KeptAccounts) -> None:
        # AUTH-9, AUTH-22, SEC-13
        ada = await add_app(kept)
        member = await kept.accounts.who(digest_of("ada app"))
        assert member is not None
        await kept.pass_time(FRESH_FOR)
        right = StepUp(
            ada.user_id, member.reference, digest_of("new"), Level.MULTI_FACTOR, OTHER_HASH,
            CodeProof(CODES[0]),
        )  # fmt: skip
        wrong: list[Proof | None] = [None, TotpProof(100), CodeProof(digest_of("x"))]
        for proof in wrong:
            assert not await kept.accounts.step_up(replace(right, former_hash=HASH, proof=proof))
        assert not await kept.accounts.step_up(right), "the password was changed"
        stale = await kept.accounts.who(digest_of("ada app"))
        assert stale is not None
        assert not stale.is_fresh
        assert await kept.accounts.step_up(replace(right, former_hash=None))
        fresh = await kept.accounts.who(digest_of("new"))
        assert fresh is not None
        assert fresh.is_fresh
        assert (await kept.factors.held(ada.user_id)).codes_left == 9

    async def test_of_parallel_uses_of_one_proof_one_opens(self, kept: KeptAccounts) -> None:
        # AUTH-9
        ada = await add_app(kept)
        opened: list[str] = []

        async def enter(session: str, proof: Proof) -> None:
            if await kept.accounts.sign_in(ada.user_id, HASH, sign_in_with(session, proof)) == 0:
                opened.append(session)

        for name, proof in (("step", TotpProof(101)), ("code", CodeProof(CODES[3]))):
            async with trio.open_nursery() as nursery:
                for number in range(12):
                    nursery.start_soon(enter, f"{name} {number}", proof)
        assert sorted(one.partition(" ")[0] for one in opened) == ["code", "step"]

    async def test_codes_are_renewed_and_go_with_the_last_factor(self, kept: KeptAccounts) -> None:
        # AUTH-9, AUTH-41, SEC-73
        ada, origin = await add_app(kept), Origin()
        bob = await kept.register("bob")
        mail = OutboxMessage(uuid4(), "mail", "mail", "k", b"changed")
        renewed = [digest_of("one"), digest_of("two")]
        (bobs,) = await kept.accounts.sign_ins(bob.user_id)
        (own, *_) = await kept.accounts.sign_ins(ada.user_id)
        renew, remove = kept.factors.renew_codes, kept.factors.remove_totp
        assert not await renew(bob.user_id, bobs.reference, renewed, origin, [mail])
        assert not await remove(bob.user_id, bobs.reference, origin, [mail])
        assert (await kept.outbox.stats()).pending == 0
        assert await renew(ada.user_id, own.reference, renewed, origin, [mail])
        assert (await kept.outbox.stats()).pending == 1
        sign_in = sign_in_with("former", CodeProof(CODES[0]))
        assert await kept.accounts.sign_in(ada.user_id, HASH, sign_in) is None
        assert (await kept.factors.held(ada.user_id)).codes_left == 2
        assert await remove(ada.user_id, own.reference, origin)
        held = await kept.factors.held(ada.user_id)
        assert (held.totp, held.codes_left) == (None, 0)
        assert await kept.accounts.sign_in(ada.user_id, HASH, sign_in_of("plain")) == 0
        assert (await acts_of(kept, ada.user_id))[2:4] == [
            "SecondFactorAdded", "SecondFactorRemoved",
        ]  # fmt: skip

    async def test_factors_go_with_their_account(self, kept: KeptAccounts) -> None:
        # AUTH-9, SITE-47
        ada = await add_app(kept)
        assert await kept.accounts.delete(ada.user_id, HASH, by=None)
        held = await kept.factors.held(ada.user_id)
        assert (held.totp, held.codes_left) == (None, 0)

    async def test_nonsense_of_factors_is_refused_at_the_door(self, kept: KeptAccounts) -> None:
        # AUTH-9
        user, origin = uuid4(), Origin()
        for codes in ([b"short"], CODES * 2, [CODES[0], CODES[0]], b"text"):
            with pytest.raises(InvalidField):
                await kept.factors.renew_codes(user, user, codes, origin)  # type: ignore[arg-type]
        with pytest.raises(InvalidField):
            await kept.factors.held("ada")  # type: ignore[arg-type]
        with pytest.raises(InvalidField):
            NewTotp(user, b"short", 1, user, digest_of("x"))
        for step in (0, -1, 2**63, True):
            with pytest.raises(InvalidField):
                TotpProof(step)
        with pytest.raises(InvalidField):
            replace(sign_in_of("x"), proof="nonsense")  # type: ignore[arg-type]
