"""Every command that changes something is confirmed, and stands in the audit: all of the parser."""

from __future__ import annotations

import argparse
from pathlib import Path
from uuid import uuid4

import pytest

from actors.persistence import Cursor, GenerationState, NewDeadLetter, ProjectionBatch
from actors.persistence.beside_log.outbox import partition_of
from storage.postgres import (
    Database,
    PostgresDeadLetters,
    PostgresEventStore,
    PostgresMailStates,
    PostgresOutbox,
    PostgresProjections,
    PostgresTimers,
    read_migrations,
    system_user,
)
from storage.testing.accounts.members import accounts_in_postgres
from storage.testing.projections.poison import A
from storage.testing.samples import message, new_events, timer
from tests.docs.command_line import leaves
from tests.web.cli.commanding import Commands, fetch, on
from web.cli.parser import build_parser
from web.mail.words import address_digest

TESTS = Path(__file__).parents[2]
LAST = len(read_migrations())

# Each is given without a yes, and then with one. The last two move all that the others work on.
TABLE = (
    "roles grant moderator ada",
    "roles revoke moderator ada",
    "sessions revoke --all",
    "tokens revoke --user ada --all",
    "projection resume orders",
    "projection rebuild orders",
    "dlq retry 1",
    "dlq discard 2",
    "dlq retry-all --kind bus",
    "mail allow ada@example.org",
    "timers cancel saga/2 step",
    "store forget user:7 --in-advance",
    "store remove-tombstoned",
    "lab readonly --state-dir {folder}",
    "store renumber",
    f"migrate --to {LAST - 1}",
)
# What needs more than a database around it, and the test that gives it that.
ELSEWHERE = {
    "breakers reset": "web/cli/test_live_commands.py",
    "store rewound": "web/cli/test_store_commands.py",
    "projection swap-back": "web/cli/test_store_contents.py",
    "projection skip": "web/cli/test_store_contents.py",
    "saga retry-step": "web/cli/test_saga_commands.py",
    "saga skip-step": "web/cli/test_saga_commands.py",
    "saga compensate": "web/cli/test_saga_commands.py",
    "saga fail": "web/cli/test_saga_commands.py",
    "backup prune": "web/cli/test_backup_commands.py",
    "db upgrade": "storage/test_upgrading.py",
    "dlq edit": "web/cli/test_store_contents.py",
    "bus seek": "web/cli/test_bus_commands.py",
    "bus replay": "web/cli/test_bus_commands.py",
    "cluster drain": "journeys/test_nodes.py",
}


def _changing() -> dict[str, argparse.ArgumentParser]:
    return {
        name.removeprefix("greenroom "): parser
        for name, parser in leaves(build_parser())
        if "--yes" in parser.format_help()
    }


def test_none_is_left_out() -> None:
    # CLI-20
    tried = {name for name in _changing() for words in TABLE if f"{words} ".startswith(f"{name} ")}
    assert tried | ELSEWHERE.keys() == _changing().keys()
    assert not tried & ELSEWHERE.keys()
    for name, file in ELSEWHERE.items():
        text = (TESTS / file).read_text()
        assert all(f'"{word}"' in text for word in name.split()), (name, file)


async def _fill(database: Database) -> None:
    await accounts_in_postgres(database).register("ada")
    outbox, letters = PostgresOutbox(database), PostgresDeadLetters(database)
    await PostgresEventStore(database).append(A, new_events(2), outbox=[message()])
    part = partition_of("k")
    epoch = (await outbox.lease("relay", [part]))[part]
    (sent,) = await outbox.next_batch(part, epoch)
    await outbox.mark_failed(part, epoch, sent.id, "no", None)
    await letters.add(NewDeadLetter("outbox", "t", str(sent.id), "no", payload=b"{}"))
    await letters.add(NewDeadLetter("mail", "smtp", "m-1", "no"))
    projections = PostgresProjections(database)
    begun = await projections.open("orders", 1, 4, GenerationState.LIVE)
    await projections.commit(ProjectionBatch(begun, Cursor(1, 1), halted="no", poison=uuid4()))
    await PostgresMailStates(database).suppress(address_digest("ada@example.org"), "550")
    await PostgresTimers(database).set(timer(60.0, address="saga/2"))


@pytest.mark.slow
def test_each_is_confirmed_and_stands_in_the_audit(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # CLI-20
    on(database_url, _fill)
    run = Commands(database_url, capsys)
    given = [words.format(folder=tmp_path).split() for words in TABLE]

    def audit() -> list[tuple[object, ...]]:
        return fetch(
            database_url,
            "SELECT actor, action, success, metadata ->> 'reason' FROM audit_log"
            " WHERE event_type = 'command' ORDER BY id",
        )

    lineage = fetch(database_url, "SELECT lineage FROM store_meta")
    for words in given:
        # One who has no role loses none, which needs no yes.
        assert run(*words, "--reason", "none") == (0 if words[:2] == ["roles", "revoke"] else 2), (
            words
        )
        assert ("Say --yes" in run.err) == (words[:2] != ["roles", "revoke"]), words
    assert audit() == []
    assert lineage == fetch(database_url, "SELECT lineage FROM store_meta")
    assert list(tmp_path.iterdir()) == []
    for number, words in enumerate(given):
        assert run(*words, "--yes", "--reason", f"why {number}") == 0, (words, run.err)
    named = [" ".join(words[: 1 if words[0] in ("lab", "migrate") else 2]) for words in given]
    expected = [(system_user(), name, True, f"why {at}") for at, name in enumerate(named)]
    assert audit() == expected
