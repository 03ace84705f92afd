"""The bus on PostgreSQL passes its suite; its log is removed by the day; a killed member."""

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta

import pytest

from actors.persistence.bus import Received
from storage.bus import PostgresBus
from storage.postgres import Connection, Database, open_database
from storage.testing import TemporaryServer
from storage.testing.bus import BusKit, BusSuite
from storage.testing.kept import kept_in_postgres
from tests.patience import PATIENT_POOL


def kit_of(database: Database) -> BusKit:
    """Call this for the engine on a fresh database."""

    async def effect(transaction: Connection, received: Received) -> None:
        value = received.record.value.decode()
        await transaction.execute("INSERT INTO effects VALUES ($1)", value)

    async def told() -> Sequence[str]:
        async def work(connection: Connection) -> list[str]:
            return [row["value"] for row in await connection.fetch("SELECT value FROM effects")]

        return await database.run(work)

    async def pass_time(seconds: float) -> None:
        async def work(connection: Connection) -> None:
            await connection.execute(
                "UPDATE bus_members SET lease_until = lease_until - $1::interval",
                timedelta(seconds=seconds),
            )

        await database.run(work)

    bus = PostgresBus(database)
    another = lambda: PostgresBus(database)  # noqa: E731
    kept = kept_in_postgres(database)
    return BusKit(bus, another, kept, bus.dead_letters, pass_time, effect, told)


@pytest.fixture(scope="module")
def shared_url(postgres_server: TemporaryServer) -> Iterator[str]:
    """One database for the suite: to empty it is quicker than to make another."""
    name = postgres_server.make_database()
    yield postgres_server.server.url_of(name)
    postgres_server.drop_database(name)


async def _empty(connection: Connection) -> None:
    await connection.execute("CREATE TABLE IF NOT EXISTS effects (value text)")
    await connection.execute(
        "TRUNCATE effects, inbox, dead_letters, bus_topics, bus_records, bus_parked,"
        " bus_groups, bus_members, bus_offsets CASCADE"
    )


class TestPostgresBus(BusSuite):
    @pytest.fixture
    async def kit(self, shared_url: str) -> AsyncIterator[BusKit]:
        async with open_database(shared_url, part="test", settings=PATIENT_POOL) as database:
            await database.run(_empty)
            yield kit_of(database)
