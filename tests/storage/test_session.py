"""A session is refused that cannot do the work; nothing about an address shows its password."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest

from actors.runtime import Secret, presentable
from storage.errors import StoreError, StoreRejected, StoreUnavailable
from storage.postgres import Connection, Database, PoolSettings
from storage.postgres.connecting.pool import Pool
from storage.postgres.connecting.session import connect, translate
from storage.testing import TemporaryServer

URL = "postgresql://me:hunter2@db.example/site"


@pytest.mark.parametrize("url", [URL, Secret(URL)])
def test_who_holds_an_address_does_not_show_it(url: str | Secret[str]) -> None:
    # SEC-131
    database = Database(url)
    pool = Pool(database.url, "store", PoolSettings())
    shown = [repr(database), repr(vars(database)), repr(vars(pool)), repr(presentable(vars(pool)))]
    assert [text for text in shown if "hunter2" in text] == []
    assert database.url.reveal() == URL


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.ClientConfigurationError(f"invalid DSN: {URL!r}"),
        asyncpg.InvalidPasswordError(f"{URL} is refused"),
        OSError(f"cannot reach {URL}?password=hunter2"),
    ],
)
def test_what_a_driver_says_is_passed_on_without_passwords(error: Exception) -> None:
    # SEC-131
    word = translate(error, 1.0)
    assert isinstance(word, StoreError)
    assert "hunter2" not in str(word)
    assert "postgresql://me:***@db.example/site" in str(word)


@pytest.mark.parametrize(
    "kind", [asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError]
)
def test_a_pooler_that_lends_sessions_by_transaction_is_named(
    kind: type[asyncpg.PostgresError],
) -> None:
    # STORE-33: seen with PgBouncer, where the server has our settings and so the start succeeds
    word = translate(kind('prepared statement "__asyncpg_stmt_1__" does not exist'), 1.0)
    assert isinstance(word, StoreRejected)
    assert "pooler" in str(word)


def _refusal(url: str, **session: str) -> StoreError:
    async def try_it() -> None:
        (await connect(Secret(url), session)).terminate()

    with pytest.raises(StoreError) as caught:
        asyncio.run(try_it())
    return caught.value


@pytest.fixture(params=["LATIN1", "SQL_ASCII"])
def oddly_encoded(
    request: pytest.FixtureRequest, postgres_server: TemporaryServer
) -> Iterator[tuple[str, str]]:
    name = f"{request.param.lower()}_{postgres_server.make_database()}"
    postgres_server.execute(
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{request.param}' LOCALE 'C'"
        " LOCALE_PROVIDER libc"
    )
    yield request.param, postgres_server.server.url_of(name)
    postgres_server.drop_database(name)


def test_a_database_that_cannot_hold_every_text_is_refused(oddly_encoded: tuple[str, str]) -> None:
    encoding, url = oddly_encoded
    word = _refusal(url)
    assert isinstance(word, StoreRejected)
    assert f"it is {encoding}; create it with ENCODING 'UTF8'" in str(word)


def test_an_unknown_parameter_is_named(database_url: str) -> None:
    word = _refusal(f"{database_url}&unheard_of=1")
    assert isinstance(word, StoreRejected)
    assert '"unheard_of", nor is it known to us' in str(word)


def test_a_bad_value_is_told_in_the_words_of_the_server(database_url: str) -> None:
    word = _refusal(f"{database_url}&work_mem=plenty")
    assert isinstance(word, StoreRejected)
    assert "work_mem" in str(word)


def test_a_session_that_does_not_keep_its_settings_is_refused(database_url: str) -> None:
    # A pooler may drop them without a word; here the server says "off" for what was asked.
    word = _refusal(database_url, jit="false")
    assert isinstance(word, StoreRejected)
    assert "do not keep jit (off, not false)" in str(word)
    assert "pooler" in str(word)


def test_a_server_that_takes_no_writes_is_not_up(
    database_url: str, postgres_server: TemporaryServer
) -> None:
    # REL-81: waited for, as a failover ends; nothing can have been written
    name = database_url.rpartition("?")[0].rpartition("/")[2]
    postgres_server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    url = f"postgresql://postgres@/{name}?host={postgres_server.server.sockets}"
    word = _refusal(url)
    assert isinstance(word, StoreUnavailable)
    assert "no server there takes writes" in str(word)
    assert "Nothing was written" in str(word)


def test_variables_of_the_shell_are_blamed_where_they_are_to_blame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGSSLMODE", "nonsense")
    word = _refusal("postgresql://postgres@127.0.0.1:1/nowhere")
    assert isinstance(word, StoreRejected)
    assert "PGSSLMODE" in str(word)


def test_a_session_apart_that_is_refused_holds_up_no_other(database_url: str) -> None:
    # STORE-33: it is refused for what it asks; that says nothing of the database
    async def run() -> int:
        pool = Pool(Secret(database_url), "test", PoolSettings(connections_min=0))
        with pytest.raises(StoreRejected):
            await pool.connect("apart", work_mem="plenty")
        try:
            return await pool.run(_one)
        finally:
            await pool.close()

    assert asyncio.run(run()) == 1


async def _one(connection: Connection) -> int:
    return int(await connection.fetchval("SELECT 1"))
