"""Private fields in PostgreSQL pass their suites, and a lost master key is told at start."""

import re
from pathlib import Path

import pytest
import trio

from actors.persistence import Private
from actors.runtime import Secret
from storage.keyring import SubjectKeyring
from storage.postgres import Connection, Database, PostgresSubjectKeys
from storage.testing import ForgettingSuite, PrivateFieldsSuite, SubjectKeysSuite
from storage.testing.private import (
    ANN,
    MASTER,
    OTHER,
    Named,
    Place,
    encoded,
    place_in_postgres,
    read,
)
from web.app import CannotStart, prepare_database
from web.settings import Settings

_PAGE = Path(__file__).parents[2] / "docs" / "how_to" / "forget-a-person.md"


class TestPostgresPrivateFields(SubjectKeysSuite, PrivateFieldsSuite, ForgettingSuite):
    @pytest.fixture
    def place(self, database: Database) -> Place:
        return place_in_postgres(database)


async def test_a_start_without_the_master_key_is_refused(
    database: Database, database_url: str
) -> None:
    # STORE-44: with the name of the setting; what is lost for good is said so by hand
    place = place_in_postgres(database)
    await place.events(place.ring()).append(ANN, [encoded(Named("ann", Private("Ann")))])
    other = Settings(private_key=OTHER)
    with pytest.raises(CannotStart, match=r"^PRIVATE_KEY: .*PRIVATE_KEYS_PREVIOUS") as caught:
        await prepare_database(other, Secret(database_url))
    await prepare_database(
        Settings(private_key=OTHER, private_keys_previous=(MASTER,)), Secret(database_url)
    )
    (statement,) = re.findall(r"UPDATE subject_keys .*", _PAGE.read_text())
    (key_id,) = re.findall(r"master key (\w+)", str(caught.value))

    async def give_up(connection: Connection) -> None:
        await connection.execute(statement.replace("0123456789ab", key_id))

    await database.run(give_up)
    await prepare_database(other, Secret(database_url))
    keyring = SubjectKeyring(PostgresSubjectKeys(database), OTHER)
    (erased,) = await read(place.events(keyring))
    assert isinstance(erased, Named)
    assert erased.name.is_erased


async def test_who_commits_and_who_forgets_take_turns(database: Database) -> None:
    # STORE-44: many projections and forgettings at once, without a deadlock
    place = place_in_postgres(database)
    store = place.events(place.ring())
    rings = [place.ring() for _ in range(4)]

    async def forget(number: int) -> None:
        for round_ in range(5):
            assert await rings[number].forget(f"customer:{number}.{round_}", by="test")

    async def append(number: int) -> None:
        for round_ in range(5):
            name = f"{number}-{round_}"
            await store.append(ANN, [encoded(Named(name, Private(name)))])

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(forget, number)
            nursery.start_soon(append, number)
    assert (await place.keys.forgets())[0] == 20
    assert len(await read(store)) == 20
