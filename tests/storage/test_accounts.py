"""Accounts and counted tries: both engines pass the suites."""

import re
from uuid import uuid4

import pytest

from actors.accounts import AuditQuery, FixedField, Role, StepUp
from actors.accounts.members import FIXED_FIELDS
from storage.errors import StatementRefused
from storage.memory import MemoryAccounts
from storage.postgres import Connection, Database
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
