"""Accounts and sign-ins, as tests. Fixture `kept`, empty."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID, uuid4

import pytest
import trio

from actors.accounts import (
    ASKED_MAX,
    SIGN_IN_IDLE,
    SIGN_IN_KEPT,
    SIGN_INS_PER_USER_MAX,
    Accounts,
    HowEnded,
    NewAccount,
    NewPassword,
    NewSignIn,
    RateLimiter,
    Role,
    SessionEnds,
    SessionId,
    Taken,
)
from actors.chat import user_subject
from actors.persistence import SubjectKeys
from actors.testing import FixedClock
from storage.errors import InvalidField
from storage.memory import (
    MemoryAccounts,
    MemoryDatabase,
    MemoryRateLimiter,
    MemorySessionEnds,
    MemorySubjectKeys,
)
from storage.postgres import (
    Connection,
    Database,
    PostgresAccounts,
    PostgresRateLimiter,
    PostgresSessionEnds,
    PostgresSubjectKeys,
)

HASH, OTHER_HASH = "$argon2id$one", "$argon2id$two"
SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class KeptAccounts:
    """The ports of one database; `pass_time` lets it be later there."""

    accounts: Accounts
    limiter: RateLimiter
    ends: SessionEnds
    keys: SubjectKeys
    pass_time: Callable[[timedelta], Awaitable[None]]
    # From then on it passes only by `pass_time`, for the limiter.
    stop_time: Callable[[], None]

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
        pass_time,
        lambda: None,
    )


def accounts_in_postgres(database: Database) -> KeptAccounts:
    """Call this for the adapters; time passes by making rows older."""
    stopped: list[datetime] = []

    async def pass_time(so_long: timedelta) -> None:
        async def work(connection: Connection) -> None:
            await connection.execute(
                "UPDATE sign_ins SET seen_at = seen_at - $1::interval,"
                " created_at = created_at - $1::interval",
                so_long,
            )
            await connection.execute(
                "UPDATE attempts SET expires_at = expires_at - $1::interval,"
                " tried_at = ARRAY(SELECT t - $1::interval FROM unnest(tried_at) t)",
                so_long,
            )

        await database.run(work)

    return KeptAccounts(
        PostgresAccounts(database),
        PostgresRateLimiter(database, lambda: stopped[0] if stopped else None),
        PostgresSessionEnds(database),
        PostgresSubjectKeys(database),
        pass_time,
        lambda: stopped.append(datetime.now(UTC)),
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
        assert await kept.accounts.sign_in(ada.user_id, HASH, sign_in_of("new", former="ada"))
        assert await kept.accounts.who(digest_of("ada")) is None
        assert await kept.accounts.sign_in(ada.user_id, HASH, sign_in_of("newer", former="a guest"))
        assert await kept.sessions_over("ada", "new", "a guest") == {"ada", "a guest"}
        assert not await kept.accounts.sign_in(uuid4(), HASH, sign_in_of("nobody"))

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
            await kept.pass_time(SIGN_IN_IDLE - SECOND)
            assert await kept.accounts.who(digest_of("ada")) is not None
        await kept.pass_time(SIGN_IN_KEPT - 4 * SIGN_IN_IDLE + 2 * SECOND)
        assert await kept.accounts.who(digest_of("ada")) is not None
        await kept.pass_time(3 * SECOND)
        assert await kept.accounts.who(digest_of("ada")) is None

    async def test_without_a_request_it_is_over_and_swept(self, kept: KeptAccounts) -> None:
        # SITE-39, SITE-40
        ada = await kept.register()
        await kept.pass_time(SIGN_IN_IDLE - timedelta(minutes=1))
        swept = await kept.accounts.sweep()
        assert swept.count == 0
        assert swept.next_in_s is not None
        assert 50 < swept.next_in_s <= 60
        assert await kept.sessions_over("ada") == set()
        await kept.pass_time(timedelta(minutes=1))
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
            assert await kept.accounts.sign_in(ada.user_id, HASH, sign_in_of(name))
        third, second, first = await kept.accounts.sign_ins(ada.user_id)
        assert not await kept.accounts.end_sign_in(bob.user_id, third.reference)
        assert not await kept.accounts.end_sign_in(ada.user_id, uuid4())
        assert await kept.accounts.end_sign_in(ada.user_id, second.reference)
        assert not await kept.accounts.end_sign_in(ada.user_id, second.reference)
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
        assert not await kept.accounts.sign_in(ada.user_id, HASH, sign_in_of("late", "a guest"))
        assert await kept.accounts.who(digest_of("late")) is None
        assert await kept.sessions_over("late", "a guest") == set()
        assert await kept.accounts.sign_in(ada.user_id, OTHER_HASH, sign_in_of("right"))

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
        assert not await kept.accounts.delete(ada.user_id, OTHER_HASH)
        assert (await kept.keys.forgets())[0] == 0
        assert await kept.accounts.delete(ada.user_id, HASH)
        assert not await kept.accounts.delete(ada.user_id, HASH)
        # What shows the name, in whatever process, reads it again.
        assert await kept.keys.forgets(0) == (1, [user_subject(ada.user_id)])
        assert await kept.accounts.credentials(ada.email) is None
        assert await kept.accounts.who(digest_of("ada")) is None
        assert await kept.accounts.grant("ada", Role.MODERATOR) is None
        assert await kept.sessions_over("ada") == {"ada"}
        again = NewAccount(uuid4(), "ada", ada.email, HASH)
        assert await kept.accounts.register(again, sign_in_of("again")) is None

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
