"""Which statements a call ran is told in one place, for whom it was made, without any value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from actors.runtime import Context, edge_context
from storage.errors import StatementRefused
from storage.postgres import Connection, Database
from storage.postgres.connecting.statements import (
    STATEMENTS_TOLD_MAX,
    Statement,
    on_behalf_of,
)

Told = list[tuple[Sequence[str], Sequence[Statement]]]


@pytest.fixture
def told(database: Database) -> Iterator[Told]:
    heard: Told = []
    database.tell_statements = lambda behalf, ran: heard.append((behalf, ran))
    yield heard
    database.tell_statements = None


async def work(connection: Connection, value: str) -> None:
    await connection.execute("CREATE TEMPORARY TABLE IF NOT EXISTS heard (x text)")
    await connection.execute("INSERT INTO heard SELECT $1 FROM generate_series(1, 3)", value)
    await connection.fetch("SELECT x FROM heard")
    await connection.fetchrow("SELECT 1 WHERE false")
    await connection.fetchval("SELECT 1")
    await connection.execute("DROP TABLE heard")


async def test_a_request_is_told_its_statements_with_rows(database: Database, told: Told) -> None:
    # SITE-122
    with edge_context(Context("request-1")):
        await database.transact(work, "s3cret")
    ((behalf, ran),) = told
    assert behalf == ("request-1",)
    assert [one.rows for one in ran] == [None, 3, 3, 0, 1, None]
    assert ran[1].text == "INSERT INTO heard SELECT $1 FROM generate_series(1, 3)"
    assert all(one.took_s > 0 for one in ran)
    assert "s3cret" not in str(ran)


async def test_several_requests_may_share_a_call(database: Database, told: Told) -> None:
    # SITE-122: posts that are stored together
    with edge_context(Context("own")), on_behalf_of(["a", "b"]):
        await database.run(work, "x")
    assert [behalf for behalf, _ in told] == [("a", "b")]


async def test_what_ran_before_a_failure_is_told_and_no_more_than_fits(
    database: Database, told: Told
) -> None:  # SITE-122

    async def fails(connection: Connection) -> None:
        for _ in range(STATEMENTS_TOLD_MAX + 5):
            await connection.fetchval("SELECT 1")
        await connection.execute("SELECT nonsense")

    with edge_context(Context("request-2")), pytest.raises(StatementRefused):
        await database.run(fails)
    ((_, ran),) = told
    assert len(ran) == STATEMENTS_TOLD_MAX


async def test_with_nobody_told_nothing_is_heard(database: Database) -> None:
    with edge_context(Context("request-3")):
        await database.run(work, "x")
