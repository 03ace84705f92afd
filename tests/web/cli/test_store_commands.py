"""`greenroom migrate` and `greenroom store` on a real database: codes, words, what is changed."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import trio

from storage.errors import StateDirInUse
from storage.postgres import read_migrations, system_user
from storage.postgres.embedded.server import start
from storage.testing import TemporaryServer
from tests.web.cli.commanding import Commands, fetch
from web.app import CannotStart, prepare_database
from web.cli.commands import main
from web.settings import Migrate, read_settings

_LAST = len(read_migrations())


@pytest.fixture
def empty_url(postgres_server: TemporaryServer) -> Iterator[str]:
    name = "empty_" + postgres_server.make_database()
    postgres_server.execute(f"CREATE DATABASE {name}")
    yield postgres_server.server.url_of(name)
    postgres_server.drop_database(name)


def _insert_event(url: str, stream: str, version: int, data: bytes = b"{}") -> None:
    fetch(
        url,
        "INSERT INTO events (stream_id, version, event_id, event_type, event_data)"
        " VALUES ($1, $2, gen_random_uuid(), 'Made', $3)",
        stream,
        version,
        data,
    )


def _versions(url: str) -> int:
    if fetch(url, "SELECT to_regclass('schema_migrations')") == [(None,)]:
        return 0
    return len(fetch(url, "SELECT version FROM schema_migrations"))


@pytest.mark.slow
def test_migrating_is_a_job_of_its_own(empty_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    # STORE-32, CLI-20
    run = Commands(empty_url, capsys)
    assert [row["version"] for row in run.json("migrate", "--plan")] == list(range(1, _LAST + 1))
    assert run("migrate", "--check") == 4
    assert "greenroom migrate" in run.err
    assert run("migrate") == 2
    assert "--yes" in run.err
    assert _versions(empty_url) == 0
    assert run("migrate", "--yes", "--to", "3") == 0
    # There is no table of the audit yet, which is said.
    assert "not noted" in run.err
    assert _versions(empty_url) == 3
    assert run("migrate", "--yes", "--to", str(_LAST + 1)) == 3
    assert run("migrate", "--yes") == 0
    assert run("migrate", "--check") == 0
    assert run("migrate", "--yes") == 0
    assert _versions(empty_url) == _LAST
    assert run("migrate", "--to", str(_LAST - 1), "--yes", "--reason", "it is slow") == 0
    assert _versions(empty_url) == _LAST - 1
    audit = fetch(
        empty_url, "SELECT actor, action, resource, success, error, metadata FROM audit_log"
    )
    resource, metadata = f"schema {_LAST} to {_LAST - 1}", '{"reason": "it is slow"}'
    assert audit == [(system_user(), "migrate", resource, True, None, metadata)]
    _insert_event(empty_url, "a-1", 1)
    assert run("migrate", "--to", "0", "--yes") == 4
    assert "drop stored events" in run.err
    rows = fetch(empty_url, "SELECT success, error FROM audit_log ORDER BY id DESC LIMIT 1")
    assert rows[0][0] is False
    assert "MigrationRefused" in str(rows[0][1])


@pytest.mark.slow
def test_a_start_that_only_looks_tells_what_is_wrong_with_the_schema(empty_url: str) -> None:
    # STORE-32
    off = read_settings({"DATABASE_URL": empty_url, "MIGRATE": "off", "PRIVATE_KEY": "k" * 43})
    url = off.database_url
    assert (off.migrate, url is not None) == (Migrate.OFF, True)
    assert url is not None
    with pytest.raises(CannotStart, match=r"schema is at 0, .* Run `greenroom migrate` first"):
        trio.run(prepare_database, off, url)
    assert _versions(empty_url) == 0
    trio.run(
        prepare_database, read_settings({"DATABASE_URL": empty_url, "PRIVATE_KEY": "k" * 43}), url
    )
    trio.run(prepare_database, off, url)
    fetch(
        empty_url,
        "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, 'later', '')",
        _LAST + 1,
    )
    with pytest.raises(CannotStart, match="Start the newer program"):
        trio.run(prepare_database, off, url)


@pytest.mark.slow
def test_a_check_finds_what_readers_would_stumble_over(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # STORE-24, STORE-26, CLI-6
    run = Commands(database_url, capsys)
    for version in (1, 2):
        _insert_event(database_url, "whole-1", version)
    assert run.json("store", "check") == [
        {"events": 2, "streams": 1, "problems": [], "unknown": {"Made.v1": 2}}
    ]
    assert run("store", "check") == 0
    assert run.out == ""
    _insert_event(database_url, "holed-1", 1)
    _insert_event(database_url, "holed-1", 3)
    _insert_event(database_url, "turned-1", 2)
    _insert_event(database_url, "turned-1", 1)
    _insert_event(database_url, "spoilt-1", 1, b'{"half')
    fetch(
        database_url,
        "INSERT INTO checkpoints (projection, generation, version, txid, position, lineage, state)"
        " SELECT p, 1, 1, t::xid8, 0, l, 'live' FROM store_meta m,"
        " LATERAL (VALUES ('ahead', '9000000000', m.lineage), ('stray', '0', gen_random_uuid()))"
        " v (p, t, l)",
    )
    fetch(database_url, "INSERT INTO event_tags VALUES ('astray', '1', 1)")
    fetch(
        database_url,
        "INSERT INTO events (stream_id, version, event_id, event_type, event_data, tags)"
        " VALUES ('tagged-1', 1, gen_random_uuid(), 'Made', '{}', ARRAY['lost'])",
    )
    fetch(database_url, "UPDATE dead_letter_room SET taken = 3")
    fetch(database_url, "UPDATE store_meta SET timeline = 7")
    (found,) = run.json("store", "check")
    problems = found["problems"]
    assert isinstance(problems, list)
    assert {(one["kind"], one["place"]) for one in problems} == {
        ("store_rewound", "store"),
        ("holes", "holed-1"),
        ("order", "turned-1"),
        ("decoding", "spoilt-1 version 1"),
        ("ahead", "ahead__g1 part 0"),
        ("lineage", "stray__g1 part 0"),
        ("tags", "astray"),
        ("tags", "lost"),
        ("counted", "dead_letters"),
    }
    assert run("store", "check") == 1
    assert "holed-1" in run.out
    assert run("store", "check", "--import", "no.such.module") == 3


@pytest.mark.slow
def test_a_new_order_is_given_to_nobody_elses_store(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # STORE-24, CLI-20
    run = Commands(database_url, capsys)
    _insert_event(database_url, "a-1", 1)
    before = fetch(database_url, "SELECT lineage, system_identifier FROM store_meta")
    assert run("store", "renumber") == 2

    async def beside_a_site() -> int:
        connection = await asyncpg.connect(
            database_url, server_settings={"application_name": "greenroom:site"}
        )
        try:
            return await asyncio.to_thread(run, "store", "renumber", "--yes")
        finally:
            await connection.close()

    assert asyncio.run(beside_a_site()) == 4
    assert "greenroom:site (pid " in run.err
    assert fetch(database_url, "SELECT lineage, system_identifier FROM store_meta") == before
    assert run("store", "renumber", "--yes", "--reason", "moved") == 0
    after = fetch(database_url, "SELECT lineage, system_identifier FROM store_meta")
    assert (after[0][0] != before[0][0], after[0][1]) == (True, before[0][1])
    assert fetch(database_url, "SELECT txid::text FROM events") == [("1",)]
    audit = fetch(database_url, "SELECT action, success FROM audit_log ORDER BY id")
    assert audit == [("store renumber", False), ("store renumber", True)]


def test_what_a_tombstone_hides_is_removed(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # STORE-29, CLI-20: and a stream of which only the tombstone is left is whole
    run = Commands(database_url, capsys)
    for version in (1, 2):
        _insert_event(database_url, "order-a", version)
    fetch(
        database_url,
        "INSERT INTO events (stream_id, version, event_id, event_type, event_data)"
        " VALUES ('order-a', 3, gen_random_uuid(), '$tombstoned', '{}')",
    )
    for table in ("tombstones", "removals"):
        fetch(database_url, f"INSERT INTO {table} (stream_id) VALUES ('order-a')")  # noqa: S608
    fetch(database_url, "UPDATE removals SET since = since - interval '2 minutes'")
    assert run("store", "check") == 0
    assert run("store", "remove-tombstoned") == 2
    assert run.one("store", "remove-tombstoned", "--yes") == {"streams": 1, "events": 2}
    assert fetch(database_url, "SELECT version FROM events") == [(3,)]
    assert run("store", "check") == 0
    assert "1 events in 1 streams: no problem" in run.err
    assert fetch(database_url, "SELECT resource FROM audit_log") == [("tombstoned streams",)]


@pytest.mark.slow
def test_a_store_that_went_back_is_served_when_somebody_says_so(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # STORE-26, CLI-20
    run = Commands(database_url, capsys)
    assert run("store", "rewound", "--yes") == 4
    assert "did not go back" in run.err
    fetch(database_url, "UPDATE store_meta SET timeline = 7")
    for half in (("--lossless",), ("--written-to", "0/1")):
        assert run("store", "rewound", "--yes", *half) == 2
    lossless = ("store", "rewound", "--yes", "--lossless", "--written-to")
    assert run(*lossless, "nonsense") == 2
    assert run(*lossless, "0/1") == 4  # no timeline 7 is in this server's past
    assert "something is missing" in run.err
    before = fetch(database_url, "SELECT lineage FROM store_meta")
    assert run("store", "check") == 1
    assert run("store", "rewound", "--yes") == 0
    assert fetch(database_url, "SELECT lineage FROM store_meta") != before
    assert run("store", "check") == 0


@pytest.mark.slow
def test_the_embedded_store_is_found_whether_a_site_keeps_it_or_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # CLI-20
    def run(*words: str) -> int:
        return main([*words, "--state-dir", str(tmp_path)])

    assert run("store", "check") == 3
    assert list(tmp_path.iterdir()) == []
    server = start(tmp_path, extra=("fsync=off",))
    try:
        assert run("migrate", "--yes") == 0
        with pytest.raises(StateDirInUse):
            start(tmp_path)
        assert run("store", "check") == 0
        assert run("db", "upgrade", "--yes") == 4, "not while somebody keeps it"
    finally:
        server.stop()
    assert run("store", "check") == 0
    assert not (tmp_path / "postgres" / "postmaster.pid").exists()
    assert "0 events in 0 streams" in capsys.readouterr().err


def test_a_store_that_does_not_answer_has_a_code_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_WAIT_SECS", "0")
    nobody = "postgresql://u:hunter2@127.0.0.1:1/x"
    for words in (["store", "check"], ["migrate", "--check"]):
        assert main([*words, "--database-url", nobody]) == 5
    assert main(["store", "check", "--database-url", "mysql://x"]) == 2
    told = capsys.readouterr().err
    assert "hunter2" not in told
    assert len(told.splitlines()) == 3
