"""Accounts and counted tries: both engines pass the suites."""

import re
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
import trio
import trio.lowlevel

from actors.accounts import AuditQuery, FixedField, Member, Role, SessionId, StepUp
from actors.accounts.members import FIXED_FIELDS
from storage.errors import StatementRefused
from storage.memory import MemoryAccounts
from storage.postgres import Connection, Database, open_database
from storage.postgres.accounts.kept import lately
from storage.postgres.accounts.kept.lately import Lately
from storage.postgres.connecting.notices import SESSIONS
from storage.testing import (
    AccountsSuite,
    AddressesSuite,
    DevicesSuite,
    DisavowalsSuite,
    FactorsSuite,
    IdentitiesSuite,
    LateActsSuite,
    LoginsSuite,
    PasskeysSuite,
    ProviderSessionsSuite,
    RateLimiterSuite,
    RecoveriesSuite,
    SignInLinksSuite,
    TokensSuite,
)
from storage.testing.accounts.members import (
    HASH,
    KeptAccounts,
    accounts_in_memory,
    accounts_in_postgres,
    digest_of,
    sign_in_of,
)
from tests.logged import captured
from tests.patience import FOR_EVER_S, PATIENCE_S, PATIENT_POOL


class TestMemoryAccounts(
    AccountsSuite,
    AddressesSuite,
    DevicesSuite,
    DisavowalsSuite,
    LoginsSuite,
    FactorsSuite,
    IdentitiesSuite,
    LateActsSuite,
    ProviderSessionsSuite,
    PasskeysSuite,
    RateLimiterSuite,
    RecoveriesSuite,
    SignInLinksSuite,
    TokensSuite,
):
    @pytest.fixture
    def kept(self) -> KeptAccounts:
        return accounts_in_memory()


class TestPostgresAccounts(
    AccountsSuite,
    AddressesSuite,
    DevicesSuite,
    DisavowalsSuite,
    LoginsSuite,
    FactorsSuite,
    IdentitiesSuite,
    LateActsSuite,
    ProviderSessionsSuite,
    PasskeysSuite,
    RateLimiterSuite,
    RecoveriesSuite,
    SignInLinksSuite,
    TokensSuite,
):
    @pytest.fixture
    def kept(self, database: Database) -> KeptAccounts:
        return accounts_in_postgres(database)


async def test_what_is_stored_opens_nothing(database: Database) -> None:
    # SEC-12, SEC-17, SITE-37: the digest is no token, and of a password there is nothing with it
    kept = accounts_in_postgres(database)
    await kept.register()

    async def columns(connection: Connection) -> set[str]:
        rows = await connection.fetch(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'sign_ins'"
        )
        return {row["column_name"] for row in rows}

    assert await database.run(columns) == {
        "id", "digest", "user_id", "session_id", "browser", "created_at", "seen_at", "epoch",
        "address", "method", "level", "proven_at", "name", "device", "is_limited",
    }  # fmt: skip
    import hashlib

    assert await kept.accounts.who(hashlib.sha256(digest_of("ada")).digest()) is None


async def test_what_a_person_did_outlives_their_name(database: Database) -> None:
    # SITE-47, SEC-134
    kept = accounts_in_postgres(database)
    ada = await kept.register()
    for _ in range(2):
        await kept.accounts.grant("ada", Role.MODERATOR)  # a change once
    await kept.accounts.delete(ada.user_id, ada.password_hash, by=None)

    async def left(connection: Connection) -> tuple[list[str], str]:
        rows = await connection.fetch(
            "SELECT action, a::text FROM audit_log a WHERE resource = $1 ORDER BY id",
            str(ada.user_id),
        )
        name = await connection.fetchval(
            "SELECT display_name FROM users WHERE id = $1", ada.user_id
        )
        assert not any(re.search(r"\bada\b", row["a"]) for row in rows)
        return [row["action"] for row in rows], name

    acts = ["account.register", "account.role", "account.delete"]
    assert await database.run(left) == (acts, "deleted user")


async def test_what_never_changes_of_a_sign_in_cannot_be_changed() -> None:
    # SEC-21, AUTH-21: no method does it; whoever wrote one would hear of it
    kept = accounts_in_memory()
    await kept.register()
    assert isinstance(kept.accounts, MemoryAccounts)
    (row,) = kept.accounts.database.sign_ins.values()
    for name in FIXED_FIELDS:
        before = getattr(row, name)
        with captured() as lines, pytest.raises(FixedField, match=name):
            setattr(row, name, uuid4())
        assert [(one["event"], one["log_level"], one["field"]) for one in lines] == [
            ("accounts.fixed_field", "critical", name)
        ]
        assert getattr(row, name) == before


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE sign_ins SET user_id = (SELECT id FROM users WHERE username = 'bob')",
        "UPDATE sign_ins SET address = '198.51.100.*'",
        "UPDATE sign_ins SET browser = 'another'",
        "UPDATE sign_ins SET method = 'passkey'",
        "UPDATE sign_ins SET session_id = 'another' WHERE session_id = 'ada'",
        "UPDATE audit_log SET success = true",
        "DELETE FROM audit_log",
    ],
)
async def test_the_store_keeps_facts_as_they_were_written(database: Database, change: str) -> None:
    # SEC-21, SEC-134
    kept = accounts_in_postgres(database)
    await kept.register()
    await kept.register("bob")

    async def execute(connection: Connection) -> None:
        await connection.execute(change)

    with captured() as lines, pytest.raises(StatementRefused) as raised:
        await database.run(execute)
    assert raised.value.sqlstate == "23001"
    assert [(one["event"], one["log_level"]) for one in lines] == [("store.fixed_row", "critical")]
    assert len(await kept.audit.search(AuditQuery())) == 2
    assert await kept.accounts.who(digest_of("ada")) is not None


async def test_a_sign_in_of_a_former_epoch_opens_nothing(database: Database) -> None:
    # SEC-17: one that came back by a store that went back in time, or raced the change
    kept = accounts_in_postgres(database)
    ada = await kept.register()
    (own,) = await kept.accounts.sign_ins(ada.user_id)

    async def execute(connection: Connection, change: str) -> None:
        await connection.execute(change)

    await database.run(execute, "UPDATE credentials SET epoch = epoch + 1")
    assert await kept.accounts.who(digest_of("ada")) is None
    assert await kept.accounts.sign_ins(ada.user_id) == []
    assert not await kept.accounts.step_up(StepUp(ada.user_id, own.reference, digest_of("new")))
    assert await kept.accounts.sign_in(ada.user_id, HASH, sign_in_of("new")) == 0
    assert await kept.accounts.who(digest_of("new")) is not None


async def test_an_end_in_another_process_ends_what_was_said_lately(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SEC-44: by the ring, long before it is a second old; what nothing rang for stays till then
    monkeypatch.setattr(lately, "LATELY_S", FOR_EVER_S)
    async with (
        open_database(database_url, settings=PATIENT_POOL) as here,
        open_database(database_url, settings=PATIENT_POOL) as there,
    ):
        kept, elsewhere = accounts_in_postgres(here), accounts_in_postgres(there)
        session = f"ada{uuid4().hex[:8]}"
        ada = await kept.register(session)

        async def name() -> str | None:
            member = await kept.accounts.who_lately(digest_of(session))
            return None if member is None else member.username

        async def rename(connection: Connection) -> None:
            change = "UPDATE users SET username = $2 WHERE id = $1"
            await connection.execute(change, ada.user_id, uuid4().hex)

        with trio.fail_after(PATIENCE_S):
            # Of the listening that begins it may ring meanwhile.
            before, known, now = -1, None, None
            while here.rung(SESSIONS) != before:
                before, known = here.rung(SESSIONS), await name()
                await there.run(rename)
                now = await name()
            assert known == now is not None
            await elsewhere.accounts.revoke(user_id=ada.user_id)
            while await name() is not None:
                await trio.lowlevel.checkpoint()


def member_of(role: Role = Role.USER) -> Member:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Member(UUID(int=1), "ada", "a@b.example", role, now, UUID(int=2), SessionId("s"))


def test_what_was_said_lately_is_a_second_old_at_most() -> None:
    # SEC-44: from before it was asked
    said, ada = Lately(), member_of()
    said.keep(b"ada", ada, 10.0, 0)
    assert said.get(b"ada", 10.99, 0) is ada
    assert said.get(b"ada", 11.0, 0) is None
    assert said.get(b"bob", 10.0, 0) is None


def test_a_ring_empties_what_was_said_lately() -> None:
    # SEC-13, SEC-44: also of what was asked before it, and answered after
    said, ada = Lately(), member_of()
    said.keep(b"ada", ada, 10.0, 0)
    assert said.get(b"ada", 10.1, 1) is None
    said.keep(b"ada", ada, 10.1, 0)
    assert said.get(b"ada", 10.2, 1) is None
    said.keep(b"ada", ada, 10.2, 1)
    assert said.get(b"ada", 10.3, 1) is ada


def test_of_who_has_a_role_nothing_is_kept() -> None:
    # SITE-49: it counts from the next request on, granted or taken away
    said = Lately()
    for role in (Role.MODERATOR, Role.ADMIN):
        said.keep(b"ada", member_of(role), 10.0, 0)
        assert said.get(b"ada", 10.0, 0) is None


def test_what_was_said_lately_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    # REL-71: the first ones go, and those that are too old with the next one
    monkeypatch.setattr(lately, "KEPT_MAX", 3)
    said, ada = Lately(), member_of()
    for number in range(5):
        said.keep(b"%d" % number, ada, number / 10, 0)
    said.keep(b"3", ada, 0.5, 0)
    assert [said.get(b"%d" % one, 0.5, 0) is ada for one in range(5)] == [False] * 2 + [True] * 3
    said.keep(b"new", ada, 1.45, 0)
    assert (len(said), said.get(b"3", 1.45, 0), said.get(b"new", 1.45, 0)) == (2, ada, ada)
