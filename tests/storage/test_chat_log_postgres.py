"""The chat log on PostgreSQL passes the suite of its port, in one transaction a post."""

from dataclasses import replace
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
from actors.persistence import StreamId
from actors.runtime import Secret
from storage.errors import StatementRefused, StoreUnavailable
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
from storage.testing.chat_log import (
    ChatPlace,
    draft,
    moderator_in_postgres,
)
from storage.testing.event_store import read_to_end
from storage.testing.private import place_in_postgres
from storage.testing.samples import PATIENCE_S


def chat_log_on(database: Database) -> PostgresChatLog:
    keyring = SubjectKeyring(PostgresSubjectKeys(database), Secret(b"k" * 32))
    return PostgresChatLog(database, keyring)


class TestPostgresChatLog(ChatLogSuite):
    @pytest.fixture
    async def chat_log(self, database: Database) -> PostgresChatLog:
        await moderator_in_postgres(database)
        return chat_log_on(database)


class TestPostgresChatForgetting(ChatForgettingSuite):
    @pytest.fixture
    async def chat(self, database: Database) -> ChatPlace:
        await moderator_in_postgres(database)

        def keyring() -> SubjectKeyring:
            return SubjectKeyring(PostgresSubjectKeys(database), Secret(b"k" * 32), fresh_s=0.0)

        def open_log() -> tuple[PostgresChatLog, SubjectKeyring]:
            ring = keyring()
            return PostgresChatLog(database, ring), ring

        async def lose(connection: Connection) -> None:
            await connection.execute("TRUNCATE chat_messages CASCADE")

        async def queued(connection: Connection) -> dict[UUID, str]:
            rows = await connection.fetch("SELECT message_id, reason FROM chat_moderation_queue")
            return {row["message_id"]: row["reason"] for row in rows}

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


async def test_nobody_takes_a_young_row_out_of_the_audit(database: Database) -> None:
    # SITE-72 SITE-79: by whatever statement; only age does
    log = chat_log_on(database)
    await log.ensure_rooms(ROOM_NAMES)

    async def attempt(connection: Connection, statement: str) -> None:
        await connection.execute(statement)

    for statement in (
        "DELETE FROM chat_audit_log",
        "TRUNCATE chat_audit_log",
        "UPDATE chat_audit_log SET action = 'x'",
        "WITH gone AS (DELETE FROM chat_audit_log RETURNING id) SELECT count(*) FROM gone",
    ):
        with pytest.raises(StatementRefused, match="RestrictViolation"):
            await database.run(attempt, statement)
    assert len((await log.audited()).entries) == len(ROOM_NAMES)


async def test_posts_together_are_one_transaction(database: Database) -> None:
    # SITE-62: one of them that cannot be stored makes it one for each
    log = chat_log_on(database)
    await log.ensure_rooms(ROOM_NAMES)

    async def transactions(connection: Connection) -> list[int]:
        rows = await connection.fetch(
            "SELECT count(*) AS n FROM chat_messages GROUP BY xmin ORDER BY min(seq)"
        )
        return [row["n"] for row in rows]

    drafts = [draft(str(number)) for number in range(5)]
    await log.post_all(drafts)
    assert await database.run(transactions) == [5]
    again = [draft("new"), draft("taken"), draft("new")]
    again[1] = replace(again[1], message_id=drafts[0].message_id)
    await log.post_all(again)
    assert await database.run(transactions) == [5, 1, 1]


async def test_posts_together_in_a_closed_room(database: Database) -> None:
    # STORE-28: what is known already is told as it is
    log, store = chat_log_on(database), PostgresEventStore(database)
    rooms = await log.ensure_rooms(ROOM_NAMES)
    stream = StreamId(f"room-{rooms[LOBBY].id}")
    known = draft("known")
    await log.post(known)
    await store.archive(stream)
    verdicts = await log.post_all([draft(), known, draft()])
    kinds: list[type] = [ChatLogUnavailable, Repeated, ChatLogUnavailable]
    assert [type(verdict) for verdict in verdicts] == kinds
    await store.reopen(stream)
    verdicts = await log.post_all([draft(), draft()])
    assert [(one.n, one.message.seq) for one in verdicts if isinstance(one, Posted)] == [
        (4, 2),
        (5, 3),
    ]


async def test_a_store_that_is_lost_is_asked_once(tmp_path: Path, database: Database) -> None:
    # SITE-155: not once for each post, with all their patience
    log, calls = chat_log_on(database), 0
    await log.ensure_rooms(ROOM_NAMES)
    await log.post(draft())
    run = database.run

    async def lost(*args: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        raise StoreUnavailable("lost")

    database.run = lost  # type: ignore[method-assign, assignment]
    verdicts = await log.post_all([draft() for _ in range(5)])
    assert [type(verdict) for verdict in verdicts] == [ChatLogUnavailable] * 5
    assert calls == 1
    database.run = run  # type: ignore[method-assign]


async def test_posts_of_a_room_ascend_along_the_order(database: Database) -> None:
    # STORE-20: a room's lock comes before its transaction's number
    log, store = chat_log_on(database), PostgresEventStore(database)
    await log.ensure_rooms(ROOM_NAMES)

    async def post(writer: int) -> None:
        for number in range(5):
            await log.post(draft(f"{writer}.{number}"))
            await log.post_all([draft(), draft()])

    async with trio.open_nursery() as nursery:
        for writer in range(8):
            nursery.start_soon(post, writer)
    pages = await read_to_end(store, limit=50)
    assert sum(len(page.events) for page in pages) == 120


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
