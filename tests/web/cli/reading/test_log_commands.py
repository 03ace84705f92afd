"""`greenroom streams`, `events` and `replay` on a real database, and `follow` beside a writer."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from actors.persistence import Private, StreamId
from actors.runtime import Secret
from storage.keyring import SubjectKeyring
from storage.postgres import Database, PostgresEventStore, PostgresSubjectKeys
from storage.testing.samples import new_event, new_events
from tests.patience import PATIENCE_S
from tests.processes.forked import start
from tests.web.cli.commanding import Commands, fetch, on
from tests.web.cli.reading.shelves import TYPES, BookLent, BookPlaced, ShelfBroke

pytestmark = pytest.mark.slow

SHELF, ANN = StreamId("shelf-a"), "Ann Lovelace"
CLASSES = ("--import", "tests.web.cli.reading.shelves")
KEY = b"k" * 32


async def _fill(database: Database) -> None:
    ring = SubjectKeyring(PostgresSubjectKeys(database), Secret(KEY))
    store = PostgresEventStore(database, keyring=ring)
    lent = BookLent("Dune", "7", Private(ANN))
    facts = [BookPlaced("Dune"), BookPlaced("Emma"), lent, ShelfBroke(), BookPlaced("Ivanhoe")]
    await store.append(SHELF, [TYPES.encode(one, event_id=uuid4()) for one in facts])
    await store.append(SHELF, [new_event(b"no json", type="BookPlaced")])
    await store.append(SHELF, [new_event(b"{}", type="Unheard")])
    await store.append(StreamId("shelf-b"), new_events(3))
    await store.append(StreamId("order-1"), new_events(1))
    await store.for_tenant("blue").append(StreamId("shelf-c"), new_events(2))


@pytest.fixture
def run(database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Commands:
    (tmp_path / "private-key").write_bytes(KEY)
    on(database_url, _fill)
    return Commands(database_url, capsys)


def test_the_log_is_listed_and_printed(run: Commands, database_url: str, tmp_path: Path) -> None:
    # CLI-6
    rows = run.json("streams")
    assert [(row["stream"], row["version"]) for row in rows] == [
        ("order-1", 1), ("shelf-a", 7), ("shelf-b", 3)
    ]  # fmt: skip
    assert [
        row["stream"] for row in run.json("streams", "--category", "shelf", "--limit", "1")
    ] == ["shelf-a"]
    assert "--after shelf-a" not in run.err  # programs ask on by themselves
    assert run("streams", "--prefix", "shelf", "--after", "shelf-a") == 0
    assert "shelf-b" in run.out
    assert "shelf-a" not in run.out
    assert [row["stream"] for row in run.json("streams", "--tenant", "blue")] == ["shelf-c"]
    assert run("streams", "--tenant", "a b") == 2

    rows = run.json("events", "shelf-a", "--from", "2", "--to", "3")
    assert [(row["version"], row["type"], row["data"]) for row in rows] == [
        (2, "BookPlaced", {"title": "Emma"}),
        (3, "BookLent", {"title": "Dune", "reader": "7", "name": "***"}),
    ]
    assert run("events", "shelf-a") == 0
    assert "no json" in run.out
    assert "Unheard" in run.out
    assert "Ann" not in run.out + run.err
    assert run("events", "shelf-a", "--from", "9") == 0
    assert "ends at version 7" in run.err
    assert run("events", "shelf-a", "--from", "3", "--to", "2") == 2
    for name, code in (("shelf-x", 3), ("shelve-a", 3), ("shelfa", 2)):
        assert run("events", name) == code
        assert "There is shelf-" in run.err
    assert run("events", "wholly-other") == 3
    assert "greenroom streams lists" in run.err

    here = ("--private", "she asked for it", "--state-dir", str(tmp_path))
    (row,) = run.json("events", "shelf-a", "--from", "3", "--to", "3", *here)
    assert row["data"] == {"title": "Dune", "reader": "7", "name": ANN}
    assert run("events", "shelf-a", "--private", " ", "--state-dir", str(tmp_path)) == 2
    (tmp_path / "private-key").unlink()
    assert run("events", "shelf-a", *here) == 3
    assert not (tmp_path / "private-key").exists()
    audit = fetch(database_url, "SELECT action, resource, success, metadata FROM audit_log")
    why = '{"reason": "she asked for it"}'
    assert audit == [("events --private", "shelf-a", True, why)]


def test_a_state_is_told_event_by_event(run: Commands, tmp_path: Path) -> None:
    # CLI-3
    assert run("replay", "shelf-a") == 3
    assert "--import" in run.err
    assert run("replay", "shelf-y", *CLASSES) == 3
    assert "There is shelf-" in run.err
    rows = run.json("replay", "shelf-a", "--show-state", *CLASSES)
    assert [len(row["state"]["titles"]) for row in rows] == [1, 2, 1, 1, 2, 2, 2]  # type: ignore[index]
    problems = {row["version"]: row["problem"] for row in rows if "problem" in row}
    assert list(problems) == [4, 6, 7]
    assert "nobody can know this shelf" in str(problems[4])
    assert rows[5]["raw"] == "no json"
    assert "3 events were passed over" in run.err
    assert rows[2]["state"] == {"titles": ["Emma"], "lent": 1, "last": "***"}

    rows = run.json("replay", "shelf-a", "--diff", "--from", "3", "--to", "5", *CLASSES)
    assert [row["diff"] for row in rows[:3]] == [
        [
            {"path": "titles[0]", "before": "Dune", "after": "Emma"},
            {"path": "titles[1]", "before": "Emma"},
            {"path": "lent", "before": 0, "after": 1},
            {"path": "last", "before": None, "after": "***"},
        ],
        [],
        [{"path": "titles[1]", "after": "Ivanhoe"}],
    ]
    assert rows[3] == {
        "stream": "shelf-a",
        "version": 5,
        "state": {"titles": ["Emma", "Ivanhoe"], "lent": 1, "last": "***"},
    }
    assert run("replay", "shelf-a", "--to", "2", *CLASSES) == 0
    assert run.out.endswith('state at version 2: {"titles":["Dune","Emma"],"lent":0,"last":null}\n')

    (last,) = run.json("replay", "shelf-a", "--as-of", "2001-01-31", *CLASSES)
    assert last["version"] == 0
    assert run("replay", "shelf-a", "--as-of", "yesterday", *CLASSES) == 2
    assert len(run.json("replay", "shelf-a", "--as-of", "2999-01-31", *CLASSES)) == 8
    # A class that is named is taken for whatever stream; else the category says it.
    other = ("--import", "tests.web.cli.reading.shelves:OtherShelf")
    assert run("replay", "shelf-a", "--to", "1", *other) == 0
    assert run("replay", "shelf-a", "--import", "tests.web.cli.reading.shelves:Shelv") == 3
    assert "There is Shelf" in run.err
    assert run("replay", "order-1", *CLASSES) == 3
    assert "what was imported has other, register, shelf" in run.err
    assert run("replay", "shelf-a", "--step", *CLASSES) == 2
    assert "needs a terminal" in run.err

    here = ("--private", "a look", "--state-dir", str(tmp_path))
    rows = run.json("replay", "shelf-a", "--show-state", "--to", "3", *here, *CLASSES)
    assert rows[-1]["state"]["last"] == ANN  # type: ignore[index]


def test_the_log_is_followed_until_ctrl_c(
    run: Commands, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # CLI-6
    words = ("follow", "--json", "--category", "shelf", "--number", "1")
    process, said = start("web.cli", [*words, "--database-url", database_url])
    with said:
        first = json.loads(said.readline())
        assert (first["stream"], first["version"]) == ("@blue/shelf-c", 2)
        on(database_url, _write_more)
        rows = [json.loads(said.readline()) for _ in range(2)]
        assert [(row["stream"], row["version"]) for row in rows] == [("shelf-b", 4), ("shelf-b", 5)]
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
        assert said.read() == ""
    assert run("follow", "--after", "nonsense") == 2
    assert run("follow", "--after", "other:1.1") == 4
    # Nobody reads any more: with the first event behind that place it ends.
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", gone)
        assert run("follow", "--after", first["bookmark"]) == 0
        assert run("follow", "--after", first["bookmark"], "--json") == 0


async def _write_more(database: Database) -> None:
    store = PostgresEventStore(database)
    await store.append(StreamId("order-1"), new_events(1))
    await store.append(StreamId("shelf-b"), new_events(2))
