"""`greenroom projection`, `dlq`, `outbox` and `timers` on a real database."""

from pathlib import Path
from uuid import uuid4

import pytest
import trio

from actors.persistence import (
    Cursor,
    GenerationState,
    NewDeadLetter,
    ProjectionBatch,
    ProjectionRunner,
    StreamId,
    live_collection,
)
from actors.persistence.beside_log.outbox import partition_of
from actors.persistence.projections import filling, runner
from actors.runtime import open_actors
from storage.postgres import (
    Database,
    PostgresDeadLetters,
    PostgresEventStore,
    PostgresOutbox,
    PostgresProjections,
    PostgresTimers,
    system_user,
)
from storage.testing.projections.filling import paid
from storage.testing.projections.poison import A, SeenHalting
from storage.testing.samples import NOON, PATIENCE_S, message, new_events, timer
from tests.web.cli.commanding import Commands, fetch, on
from web.observability.operating.letters import retrying

_LIVE = GenerationState.LIVE


@pytest.fixture
def run(database_url: str, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(database_url, capsys)


@pytest.mark.slow
def test_projections_are_steered_by_rows(database_url: str, run: Commands) -> None:
    # DOC-4, PROJ-7, PROJ-8, CLI-20
    poison = uuid4()

    async def fill(database: Database) -> None:
        await PostgresEventStore(database).append(A, new_events(3))
        store = PostgresProjections(database)
        await store.open("orders", 1, 4, _LIVE)
        begun = await store.open("orders", 1, 4, _LIVE, 1)
        batch = ProjectionBatch(begun, Cursor(1, 1), halted="ValueError: no", poison=poison)
        assert await store.commit(batch)

    assert run("projection", "list") == 0
    assert "no projection" in run.out
    for action in ("rebuild", "swap-back", "resume"):
        assert run("projection", action, "orders", "--yes") == 3
    on(database_url, fill)
    halted = {
        "projection": "orders",
        "generation": 1,
        "version": 4,
        "state": "halted",
        "parts": 2,
        "cursor": "0.0",
        "error": "ValueError: no",
        "event": str(poison),
    }
    assert run.json("projection", "list") == [halted]
    lag = run.one("projection", "lag", "orders")
    assert (lag["events"], lag["generation"], lag["state"]) == (3, 1, "halted")
    assert run("projection", "lag", "nobody") == 3
    assert run("projection", "skip", "orders", "--reason", "broken at its source") == 2
    skipped = run.one("projection", "skip", "orders", "--yes", "--reason", "broken at its source")
    assert skipped["event"] == str(poison)
    assert fetch(database_url, "SELECT left_out FROM checkpoints ORDER BY partition") == [
        (None,),
        (poison,),
    ]
    (now,) = run.json("projection", "list")
    assert (now["state"], now["error"], now["event"]) == ("live", None, None)
    for action in ("resume", "skip"):
        assert run("projection", action, "orders", "--yes", "--reason", "again") == 4
    assert "not halted" in run.err
    assert run.one("projection", "rebuild", "orders", "--yes")["generation"] == 2
    assert run.one("projection", "rebuild", "orders", "--yes")["generation"] == 2
    assert [row["state"] for row in run.json("projection", "list")] == ["live", "building"]
    assert run("projection", "swap-back", "orders", "--yes") == 4
    assert "Rebuild it instead" in run.err
    fetch(
        database_url, "UPDATE checkpoints SET state = 'retired', version = 3 WHERE generation = 2"
    )
    assert run("projection", "swap-back", "orders", "--yes", "--to", "9") == 3
    assert run("projection", "swap-back", "orders", "--yes", "--to", "2") == 0
    assert "version 3" in run.err
    assert [row["state"] for row in run.json("projection", "list")] == ["retired", "live"]
    audit = fetch(
        database_url,
        "SELECT action, success, metadata ->> 'reason' FROM audit_log WHERE actor = $1 ORDER BY id",
        system_user(),
    )
    assert audit[0] == ("projection skip", True, "broken at its source")
    assert ("projection swap-back", False, "") in audit
    assert all(
        error != "begun, and not finished"
        for (error,) in fetch(database_url, "SELECT error FROM audit_log")
    )


@pytest.mark.slow
def test_a_running_program_does_what_a_command_wished(
    database_url: str, run: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    # PROJ-7, PROJ-8: across processes, as the command knows nothing of the program
    monkeypatch.setattr(runner, "LOOK_S", 0.02)
    monkeypatch.setattr(filling, "HALTED_LOOK_S", 0.02)

    skip = ("projection", "skip", "seen", "--yes", "--reason", "no sale")
    rebuild = ("projection", "rebuild", "seen", "--yes", "--wait")

    async def program(database: Database) -> None:
        events, store = PostgresEventStore(database), PostgresProjections(database)
        projection = SeenHalting()
        await events.append(A, paid(1, -2, 3))
        async with open_actors() as system:
            await system.start(ProjectionRunner, projection, events, store)
            with trio.fail_after(PATIENCE_S):
                while (await store.checkpoints("seen"))[0].poison is None:
                    await store.changed(0.02)
                assert await trio.to_thread.run_sync(run, *skip) == 0
                while await store.get("seen__g1", A) != {"amounts": [1, 3]}:
                    await store.changed(0.02)
                # The generation that is built halts at the same event, and is told so.
                assert await trio.to_thread.run_sync(run, *rebuild) == 1
                assert "is halted" in run.err
                assert await live_collection(store, "seen") == "seen__g1"
                assert await trio.to_thread.run_sync(run, *skip) == 0
                while await live_collection(store, "seen") != "seen__g2":
                    await store.changed(0.02)
                projection.is_strict = False
                assert await trio.to_thread.run_sync(run, *rebuild) == 0
                assert await live_collection(store, "seen") == "seen__g3"

    on(database_url, program)


@pytest.mark.slow
def test_what_stands_beside_the_log_is_seen_and_settled(
    database_url: str, run: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    # STORE-52, STORE-61, CLI-20
    monkeypatch.setattr(retrying, "SETTLE_S", 0.0)  # no relay runs here that could be waited for
    due = timer()

    async def fill(database: Database) -> None:
        outbox, letters = PostgresOutbox(database), PostgresDeadLetters(database)
        await PostgresEventStore(database).append(
            StreamId("order-a"), new_events(1), outbox=[message(), message()]
        )
        part = partition_of("k")
        epoch = (await outbox.lease("relay", [part]))[part]
        first = (await outbox.next_batch(part, epoch))[0]
        await outbox.mark_failed(part, epoch, first.id, "\x1b[31mno", None)
        await letters.add(
            NewDeadLetter("outbox", "t", str(first.id), "\x1b[31mno", payload=b"\xff")
        )
        await letters.add(NewDeadLetter("mail", "smtp", "m-1", "no"))
        await letters.add(
            NewDeadLetter("projection", "gone__g7", "e", "no", stream_id=A, stream_version=1)
        )
        timers = PostgresTimers(database)
        for one in (due, timer(60.0, address="saga/2", name="later")):
            await timers.set(one)
        await timers.claim_due("service", NOON)

    lists = (("dlq", "list"), ("outbox", "list"), ("timers", "list"), ("outbox", "held"))
    for words in lists:
        assert run(*words) == 0
        assert len(run.out.splitlines()) == 1
    on(database_url, fill)
    assert [row["kind"] for row in run.json("dlq", "list")] == ["outbox", "mail", "projection"]
    assert len(run.json("dlq", "list", "--limit", "1", "--after", "1", "--status", "pending")) == 1
    assert run.one("dlq", "show", "1")["payload"] == "(1 bytes that are no text)"
    assert run("dlq", "show", "1") == 0
    assert "\x1b" not in run.out
    stats = run.one("dlq", "stats")
    assert (stats["pending"], stats["health"]) == (3, "healthy")
    assert run("dlq", "show", "99") == 3
    assert run("dlq", "retry", "99", "--yes") == 3
    assert run("dlq", "discard", "99", "--reason", "x", "--yes") == 3
    held = run.one("outbox", "held")
    assert (held["key"], held["waiting"]) == ("k", 1)
    assert [row["state"] for row in run.json("outbox", "list")] == ["given up", "waiting"]
    assert run.one("outbox", "stats")["dead"] == 1
    assert run("dlq", "retry", "1") == 2
    assert run.one("outbox", "stats")["dead"] == 1
    # One goes back, the others are no business of ours, or of nobody.
    assert run.one("dlq", "retry-all", "--yes") == {
        "handed_back": 1,
        "refused": 1,
        "came_back": 0,
        "left": 1,
    }
    assert run("dlq", "retry-all", "--yes", "--kind", "mail") == 4
    assert run("dlq", "retry", "3", "--yes") == 4
    assert "is kept no more; discard it" in run.err
    assert run.one("dlq", "discard", "3", "--yes", "--reason", "gone")["status"] == "discarded"
    assert run("dlq", "retry", "3", "--yes") == 4
    assert "is discarded and cannot" in run.err
    assert "discard it" not in run.err
    assert run("dlq", "retry", "1", "--yes") == 4
    assert run.json("outbox", "held") == []
    assert run.one("dlq", "discard", "2", "--yes", "--reason", "no such person")["id"] == 2
    assert run("dlq", "discard", "2", "--yes", "--reason", "again") == 4
    audit = fetch(database_url, "SELECT DISTINCT by FROM dead_letter_audit")
    assert audit == [(system_user(),)]
    assert [row["name"] for row in run.json("timers", "list")] == ["step", "later"]
    assert [row["name"] for row in run.json("timers", "due", "--limit", "1")] == ["step"]
    assert len(run.json("timers", "list", "--address", "saga/2")) == 1
    assert run("timers", "cancel", "saga/2", "step", "--yes") == 3
    assert run.one("timers", "cancel", "saga/2", "later", "--yes") == {"cancelled": 1}
    assert run("timers", "cancel", "saga/2", "later", "--yes") == 3


@pytest.mark.slow
def test_a_letter_is_edited_from_a_file_and_handed_back(
    database_url: str, run: Commands, tmp_path: Path
) -> None:
    # RES-12, STORE-61
    async def fill(database: Database) -> None:
        outbox, letters = PostgresOutbox(database), PostgresDeadLetters(database)
        sent = message(payload=b'{"to":"ada@example.org","count":0}')
        await PostgresEventStore(database).append(StreamId("order-a"), new_events(1), outbox=[sent])
        part = partition_of("k")
        epoch = (await outbox.lease("relay", [part]))[part]
        (first,) = await outbox.next_batch(part, epoch)
        await outbox.mark_failed(part, epoch, first.id, "no", None)
        await letters.add(
            NewDeadLetter("outbox", "t", str(first.id), "no", "a\nb", payload=first.payload)
        )

    on(database_url, fill)
    edited = tmp_path / "edited"
    shown = run.one("dlq", "show", "1")
    assert "example.org" not in str(shown)
    assert shown["details"] == "a\nb"
    edit = ("dlq", "edit", "1", "--payload", str(edited))
    assert run(*edit, "--yes") == 3
    for wrong in ("{", "[]", str(shown["payload"])):
        edited.write_text(wrong)
        assert run(*edit, "--yes") == 4, wrong
    edited.write_bytes(b"\xff")
    assert run(*edit, "--yes") == 3
    edited.write_text(str(shown["payload"]).replace("0", "2"))
    assert run(*edit) == 2
    done = run.one(*edit, "--yes", "--reason", "it was counted wrong")
    assert (done["status"], done["changed"]) == ("resolved", ["count: 0 -> 2"])
    assert fetch(database_url, "SELECT payload, is_dead FROM outbox") == [
        (b'{"to":"ada@example.org","count":2}', False)
    ]
    assert run(*edit, "--yes") == 4
    assert "edited: count: 0 -> 2" in str(run.one("dlq", "show", "1")["changes"])
    said = fetch(
        database_url,
        "SELECT DISTINCT metadata ->> 'reason' FROM audit_log"
        " WHERE action = 'dlq edit' AND success",
    )
    assert said == [("it was counted wrong",)]


@pytest.mark.slow
def test_another_schema_is_no_place_for_these_commands(database_url: str, run: Commands) -> None:
    # STORE-32
    fetch(
        database_url,
        "DELETE FROM schema_migrations WHERE version = (SELECT max(version) FROM"
        " schema_migrations)",
    )
    for words in (("dlq", "list"), ("projection", "list"), ("outbox", "stats"), ("timers", "due")):
        assert run(*words) == 4
        assert "greenroom migrate" in run.err


@pytest.mark.parametrize(
    "words",
    [
        ("dlq", "discard", "1"),
        ("dlq", "retry", "0"),
        ("dlq", "retry", "one"),
        ("dlq", "edit", "1"),
        ("dlq", "list", "--limit", "0"),
        ("dlq", "list", "--kind", "letters"),
        ("projection", "skip", "orders"),
        ("migrate", "--plan", "--check"),
        ("migrate", "--to", "-1"),
        ("timers", "cancel", "saga/1"),
        ("outbox",),
        ("nonsense",),
    ],
)
def test_misuse_opens_nothing(
    words: tuple[str, ...], run: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.cli.answering.trio.run", None)
    with pytest.raises(SystemExit) as ended:
        run(*words)
    assert ended.value.code == 2
