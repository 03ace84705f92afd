"""The chat log on PostgreSQL passes the suite of its port, in one transaction a post."""

from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
import trio

from actors.chat import (
    LOBBY,
    ROOM_NAMES,
    Author,
    ChatLogUnavailable,
    Posted,
    PostLimit,
    Repeated,
    Status,
    Viewer,
)
from actors.runtime import Secret
from storage.keyring import SubjectKeyring
from storage.postgres import (
    Connection,
    Database,
    PoolSettings,
    PostgresChatLog,
    PostgresEventStore,
    PostgresSubjectKeys,
)
from storage.testing import ChatForgettingSuite, ChatLogSuite
from storage.testing.chat_log import ChatPlace, draft
from storage.testing.event_store import read_to_end
from storage.testing.private import place_in_postgres
from storage.testing.samples import PATIENCE_S


def chat_log_on(database: Database) -> PostgresChatLog:
    keyring = SubjectKeyring(PostgresSubjectKeys(database), Secret(b"k" * 32))
    return PostgresChatLog(database, keyring)


class TestPostgresChatLog(ChatLogSuite):
    @pytest.fixture
    def chat_log(self, database: Database) -> PostgresChatLog:
        return chat_log_on(database)


class TestPostgresChatForgetting(ChatForgettingSuite):
    @pytest.fixture
    def chat(self, database: Database) -> ChatPlace:
        def keyring() -> SubjectKeyring:
            return SubjectKeyring(PostgresSubjectKeys(database), Secret(b"k" * 32), fresh_s=0.0)

        def open_log() -> tuple[PostgresChatLog, SubjectKeyring]:
            ring = keyring()
            return PostgresChatLog(database, ring), ring

        async def lose(connection: Connection) -> None:
            await connection.execute("TRUNCATE chat_messages CASCADE")

        async def queued(connection: Connection) -> set[UUID]:
            rows = await connection.fetch("SELECT message_id FROM chat_moderation_queue")
            return {row["message_id"] for row in rows}

        return ChatPlace(
            open_log,
            PostgresEventStore(database, keyring=keyring()),
            place_in_postgres(database).dump,
            partial(database.run, lose),
            partial(database.run, queued),
        )


async def test_texts_of_before_stand_in_clear_until_they_are_old(database: Database) -> None:
    # SITE-79: they were never in the log, and are read as they are
    log = chat_log_on(database)
    await log.ensure_rooms(ROOM_NAMES)
    await log.post(draft("new"))

    async def as_before(connection: Connection) -> None:
        await connection.execute(
            "INSERT INTO chat_messages (id, room_id, seq, author_session, author_key, body,"
            " status, client_id, created_at) SELECT gen_random_uuid(), room_id, 9, 's',"
            " 'session:s', 'old', 'visible', 'c', now() FROM chat_messages"
        )

    await database.run(as_before)
    history = await log.history(LOBBY, Viewer())
    assert [one.body for one in history.messages] == ["new", "old"]
    repeat = await log.post(draft("again", author=Author(None, "s", ""), client_id="c"))
    assert isinstance(repeat, Repeated)
    assert repeat.message.body == "old"


async def test_a_post_writes_all_its_rows(database: Database) -> None:
    # SITE-62, SITE-72
    log = chat_log_on(database)
    await log.ensure_rooms(ROOM_NAMES)
    await log.post(draft("see http://a", status=Status.PENDING))

    async def rows(connection: Connection) -> list[tuple[object, ...]]:
        found = await connection.fetch(
            "SELECT e.event_type, e.version, e.metadata->>'correlation_id', q.status, a.action,"
            " a.metadata->>'status', position('http' in convert_from(e.event_data, 'UTF8'))"
            " FROM events e, chat_moderation_queue q, chat_audit_log a"
            " WHERE a.action = 'chat.message.post'"
        )
        return [tuple(row) for row in found]

    assert await database.run(rows) == [
        ("MessagePosted", 1, "c-1", "pending", "chat.message.post", "pending", 0)
    ]


async def test_posts_of_a_room_ascend_along_the_order(database: Database) -> None:
    # STORE-20: a room's lock comes before its transaction's number
    log, store = chat_log_on(database), PostgresEventStore(database)
    await log.ensure_rooms(ROOM_NAMES)

    async def post(writer: int) -> None:
        for number in range(10):
            await log.post(draft(f"{writer}.{number}"))

    async with trio.open_nursery() as nursery:
        for writer in range(8):
            nursery.start_soon(post, writer)
    pages = await read_to_end(store, limit=50)
    assert sum(len(page.events) for page in pages) == 80


@pytest.mark.parametrize(
    "table", ["events", "chat_messages", "chat_moderation_queue", "chat_rate_limits"]
)
async def test_a_fault_at_any_step_leaves_nothing(database: Database, table: str) -> None:
    # SITE-62: no row, no token spent, no number used
    log = chat_log_on(database)
    await log.ensure_rooms(ROOM_NAMES)

    async def forbid(connection: Connection, forbidden: bool) -> None:
        verb = "ADD CONSTRAINT planted CHECK (false) NOT VALID"
        await connection.execute(
            f"ALTER TABLE {table} {verb if forbidden else 'DROP CONSTRAINT planted'}"
        )

    one = draft(status=Status.PENDING, limits=(PostLimit("k", 1, 10.0),))
    await database.run(forbid, True)
    with pytest.raises(Exception, match="planted"):
        await log.post(one)
    await database.run(forbid, False)
    posted = await log.post(one)
    assert isinstance(posted, Posted)
    assert (posted.n, posted.message.seq) == (1, 1)


async def test_a_lost_database_is_told_in_the_ports_word(tmp_path: Path) -> None:
    # SITE-152, SITE-155: at once, not at the end of a patience
    settings = PoolSettings(acquire_s_max=5 * PATIENCE_S)
    database = Database(
        f"postgresql://postgres@/nothing?host={tmp_path}",
        settings=settings,
        patience_s=5 * PATIENCE_S,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(database.serve)
        with trio.fail_after(PATIENCE_S), pytest.raises(ChatLogUnavailable):
            await chat_log_on(database).history(LOBBY, Viewer())
        nursery.cancel_scope.cancel()
