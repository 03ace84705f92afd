"""The schema goes up once, in order, under a lock, and refuses what it does not know."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import trio

from actors.persistence import Idempotent, StreamId, Tagged
from storage.errors import (
    IdempotencyMismatch,
    MigrationChanged,
    MigrationFailed,
    MigrationGap,
    MigrationPending,
    MigrationRefused,
    SchemaNewer,
    StatementRefused,
    StoreMoved,
)
from storage.postgres import (
    Connection,
    Database,
    PostgresEventStore,
    PostgresIdempotency,
    check_migrations,
    migrate,
    migrate_down,
    open_database,
    plan_migrations,
)
from storage.postgres.schema.migrate import Migration, read_migrations, split_statements
from storage.testing import TemporaryServer
from storage.testing.samples import new_event
from tests.patience import PATIENT_POOL

_STEPS = read_migrations()
_NEXT = Migration(len(_STEPS) + 1, "planted", "CREATE TABLE planted (n int)", "DROP TABLE planted")


@pytest.fixture
def empty_url(postgres_server: TemporaryServer) -> Iterator[str]:
    name = "empty_" + postgres_server.make_database()
    postgres_server.execute(f"CREATE DATABASE {name}")
    yield postgres_server.server.url_of(name)
    postgres_server.drop_database(name)


async def _schema(connection: Connection) -> list[str]:
    rows = await connection.fetch(
        """
        SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable
            || coalesce(' ' || column_default, '') AS line
        FROM information_schema.columns WHERE table_schema = 'public'
        UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
        UNION ALL SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace
        UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT tgrelid::regclass || ' ' || tgname FROM pg_trigger WHERE NOT tgisinternal
        ORDER BY line
        """
    )
    return [row["line"] for row in rows]


async def _insert_event(connection: Connection) -> None:
    await connection.execute(
        "INSERT INTO events (stream_id, version, event_id, event_type, event_data)"
        " VALUES ('a-1', 1, gen_random_uuid(), 'Made', '{}')"
    )


@pytest.mark.slow
async def test_up_down_up_gives_the_same_schema(empty_url: str) -> None:
    # SITE-186, STORE-32
    async with open_database(empty_url, settings=PATIENT_POOL) as database:
        assert await migrate(database) == len(_STEPS)
        first = await database.run(_schema)
        assert await migrate(database) == 0
        assert await migrate_down(database, 0) == len(_STEPS)
        assert all("schema_migrations" in line for line in await database.run(_schema))
        assert await migrate(database) == len(_STEPS)
        assert await database.run(_schema) == first


@pytest.mark.slow
async def test_of_two_starting_together_one_applies(empty_url: str) -> None:
    # SITE-186, STORE-32
    applied: list[int] = []

    async def start() -> None:
        async with open_database(empty_url, settings=PATIENT_POOL) as database:
            applied.append(await migrate(database))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start)
        nursery.start_soon(start)
    assert sorted(applied) == [0, len(_STEPS)]


async def test_a_changed_file_stops_the_start(database: Database) -> None:
    # DOC-4, STORE-32
    changed = (replace(_STEPS[0], up=_STEPS[0].up + "--"), *_STEPS[1:])
    with pytest.raises(MigrationChanged) as caught:
        await migrate(database, changed)
    assert caught.value.version == 1


async def test_a_newer_schema_refuses_the_start(database: Database) -> None:
    # SITE-186
    with pytest.raises(SchemaNewer):
        await migrate(database, _STEPS[:-1])


async def test_a_gap_stops_the_start(database: Database, tmp_path: Path) -> None:
    # STORE-32
    for number in (1, 3):
        for way in ("up", "down"):
            (tmp_path / f"000{number}_x.{way}.sql").write_text("SELECT 1")
    with pytest.raises(MigrationGap) as caught:
        read_migrations(tmp_path)
    assert caught.value.version == 2
    with pytest.raises(MigrationGap):
        await migrate(database, (*_STEPS[1:], _NEXT))


async def test_a_failing_step_is_rolled_back(database: Database) -> None:
    # STORE-32
    wrong = replace(_NEXT, up=_NEXT.up + "; SELECT nonsense")
    with pytest.raises(MigrationFailed, match="planted"):
        await migrate(database, (*_STEPS, wrong))
    assert await migrate(database, (*_STEPS, _NEXT)) == 1


async def test_a_step_may_stand_outside_a_transaction(database: Database) -> None:
    # STORE-32
    index = "-- no transaction\nCREATE INDEX CONCURRENTLY planted ON users (role)"
    assert await migrate(database, (*_STEPS, replace(_NEXT, up=index))) == 1


@pytest.mark.slow
async def test_two_starting_together_with_a_concurrent_index(database: Database) -> None:
    # STORE-32: CREATE INDEX CONCURRENTLY waits for whoever waits with a snapshot in hand
    index = "-- no transaction\nCREATE INDEX CONCURRENTLY planted ON users (role)"
    steps = (*_STEPS, replace(_NEXT, up=index))
    applied: list[int] = []

    async def start() -> None:
        async with open_database(database.url, settings=PATIENT_POOL) as other:
            applied.append(await migrate(other, steps))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(start)
    assert sorted(applied) == [0, 0, 1]


async def test_a_step_outside_a_transaction_may_have_many_statements(database: Database) -> None:
    # STORE-32: sent together the server would take them for one transaction
    up = """-- no transaction
    CREATE INDEX CONCURRENTLY planted ON users (role); -- the first; of two
    CREATE INDEX CONCURRENTLY planted_too ON users (created_at);
    """
    assert await migrate(database, (*_STEPS, replace(_NEXT, up=up))) == 1


async def test_a_step_that_failed_half_way_says_so_and_can_be_repeated(database: Database) -> None:
    # STORE-32: the index is left invalid, and its name would stop every next start
    async def run(connection: Connection, statement: str) -> None:
        await connection.execute(statement)

    async def is_valid(connection: Connection) -> bool:
        found = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('planted')"
        return bool(await connection.fetchval(found))

    await database.run(run, "CREATE TABLE doubles AS SELECT 1 AS n FROM generate_series(1, 2)")
    up = "-- no transaction\nCREATE UNIQUE INDEX CONCURRENTLY planted ON doubles (n);"
    steps = (*_STEPS, replace(_NEXT, up=up))
    with pytest.raises(MigrationFailed, match="may be half done") as caught:
        await migrate(database, steps)
    assert not caught.value.is_rolled_back
    await database.run(run, "DELETE FROM doubles WHERE ctid = '(0,1)'")
    assert await migrate(database, steps) == 1
    assert await database.run(is_valid)


@pytest.mark.parametrize(
    ("sql", "statements"),
    [
        ("", []),
        (" ; -- nothing\n ;", []),
        ("SELECT 1", ["SELECT 1"]),
        ("-- no transaction\nSELECT 1; SELECT 2;\n", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';', \"a;b\", E'\\';'; SELECT 2", ["SELECT ';', \"a;b\", E'\\';'", "SELECT 2"]),
        ("SELECT 'it''s;' /* ; */ -- ;\n; S", ["SELECT 'it''s;' /* ; */ -- ;", "S"]),
        ("DO $$ a; b $$; DO $x$ $$;$$ $x$", ["DO $$ a; b $$", "DO $x$ $$;$$ $x$"]),
        ("SELECT a$b$c FROM t; S", ["SELECT a$b$c FROM t", "S"]),
    ],
)
def test_statements_are_told_apart(sql: str, statements: list[str]) -> None:
    # STORE-32
    assert split_statements(sql) == statements


async def test_the_plan_and_the_check_change_nothing(database: Database) -> None:
    # STORE-32
    await check_migrations(database)
    plan = await plan_migrations(database, (*_STEPS, _NEXT))
    assert (plan.applied, plan.pending) == (len(_STEPS), (_NEXT,))
    with pytest.raises(MigrationPending):
        await check_migrations(database, (*_STEPS, _NEXT))


async def test_answers_kept_by_a_program_of_before_are_given_after_it(database: Database) -> None:
    # STORE-55: they named the cursor, and could not be read: as if the key were another's
    await migrate_down(database, 21)
    store, key = PostgresEventStore(database), Idempotent("orders", "a", b"hash")
    await store.append(StreamId("order-0"), [new_event()])
    done = await store.append(StreamId("order-1"), [new_event(), new_event()], idempotency=key)
    # As it was kept: an append told no numbers of messages then.
    told = {name: value for name, value in msgspec.to_builtins(done).items() if name != "outbox"}
    former = {
        "a": msgspec.json.encode(told),
        "b": b"\\ \x00 its own",
        "c": b'{"version":2,"first_version":1,"cursor":[1,1],"replayed":false}',
    }

    async def plant(connection: Connection) -> None:
        for name, answer in former.items():
            await connection.execute(
                "INSERT INTO idempotency (scope, key, request_hash, state, result, expires_at)"
                " VALUES ('orders', $1, 'hash', 'done', $2, now() + interval '1 day')"
                " ON CONFLICT (tenant, scope, key) DO UPDATE SET result = excluded.result",
                name,
                answer,
            )

    await database.run(plant)
    with pytest.raises(IdempotencyMismatch):
        await store.append(StreamId("order-1"), [new_event()], idempotency=key)
    await migrate(database)
    again = await store.append(StreamId("order-1"), [new_event()], idempotency=key)
    assert again == replace(done, replayed=True)
    for name in ("b", "c"):
        kept = await PostgresIdempotency(database).begin(Idempotent("orders", name, b"hash"))
        assert kept == former[name]


async def test_going_down_never_drops_events_unasked(database: Database) -> None:
    # STORE-32
    store = PostgresEventStore(database)
    await store.append(StreamId("order-1"), [new_event(tags=("a",))])
    with pytest.raises(MigrationRefused, match="tags of stored events"):
        await migrate_down(database, 15)
    assert len((await store.read_tagged([Tagged(("a",))])).events) == 1
    with pytest.raises(MigrationRefused, match="stored events"):
        await migrate_down(database, 0)
    with pytest.raises(MigrationRefused):
        await migrate_down(database, len(_STEPS) + 1)
    assert await migrate_down(database, 0, drop_events=True) == len(_STEPS)


@pytest.mark.parametrize(
    "statement",
    ["UPDATE events SET event_type = 'x'", "DELETE FROM events", "TRUNCATE events"],
)
async def test_events_are_immutable(database: Database, statement: str) -> None:
    # STORE-31
    await database.run(_insert_event)

    async def change(connection: Connection) -> None:
        await connection.execute(statement)

    with pytest.raises(StatementRefused, match="RestrictViolation"):
        await database.run(change)


async def test_data_of_another_cluster_is_refused(database: Database) -> None:
    # STORE-24
    async def move(connection: Connection) -> None:
        await connection.execute("UPDATE store_meta SET system_identifier = '1'")

    await database.run(move)
    with pytest.raises(StoreMoved, match="cluster 1"):
        await migrate(database)


async def test_transactions_ahead_of_the_server_are_refused(database: Database) -> None:
    # STORE-24
    async def from_the_future(connection: Connection) -> None:
        await connection.execute(
            "INSERT INTO events (stream_id, version, txid, event_id, event_type, event_data)"
            " VALUES ('a-1', 1, '99999999999', gen_random_uuid(), 'Made', '{}')"
        )

    await database.run(from_the_future)
    with pytest.raises(StoreMoved, match="not reached"):
        await migrate(database)
