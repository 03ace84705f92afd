"""Accounts and counted tries: both engines pass the suites."""

import re

import pytest

from actors.accounts import Role
from storage.postgres import Connection, Database
from storage.testing import AccountsSuite, RateLimiterSuite
from storage.testing.accounts import (
    KeptAccounts,
    accounts_in_memory,
    accounts_in_postgres,
    digest_of,
)


class TestMemoryAccounts(AccountsSuite, RateLimiterSuite):
    @pytest.fixture
    def kept(self) -> KeptAccounts:
        return accounts_in_memory()


class TestPostgresAccounts(AccountsSuite, RateLimiterSuite):
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
        "id", "digest", "user_id", "session_id", "browser", "created_at", "seen_at",
    }  # fmt: skip
    import hashlib

    assert await kept.accounts.who(hashlib.sha256(digest_of("ada")).digest()) is None


async def test_what_a_person_did_outlives_their_name(database: Database) -> None:
    # SITE-47, SEC-134
    kept = accounts_in_postgres(database)
    ada = await kept.register()
    for _ in range(2):
        await kept.accounts.grant("ada", Role.MODERATOR)  # a change once
    await kept.accounts.delete(ada.user_id, ada.password_hash)

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
