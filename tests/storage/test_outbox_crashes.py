"""A relay is killed at its worst moments; a receiver behind the inbox has each effect once."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO
from uuid import uuid4

import pytest
import trio

from actors.persistence import OutboxMessage, StreamId
from storage.postgres import Connection, Database
from storage.testing.kept import kept_in_postgres
from storage.testing.samples import PATIENCE_S, new_events
from tests.processes.forked import start
from tests.storage.outbox_relay_process import EFFECTS

_LEASE_S = 16.0


@contextmanager
def _relay(url: str, plan: str) -> Iterator[IO[str]]:
    process, output = start("tests.storage.outbox_relay_process", [url, plan])
    try:
        yield output
    finally:
        process.kill()
        process.wait()
        output.close()


async def _kill_at(url: str, plan: str) -> None:
    """Let a relay run up to a place, then end it without a word."""
    with _relay(url, plan) as output:
        with trio.fail_after(PATIENCE_S):
            line = await trio.to_thread.run_sync(output.readline, abandon_on_cancel=True)
        assert line.strip() == plan


async def _arrivals(connection: Connection) -> Counter[str]:
    return Counter(
        [row["payload"] for row in await connection.fetch("SELECT payload FROM arrivals")]
    )


async def _make_arrivals(connection: Connection) -> None:
    await connection.execute("CREATE TABLE arrivals (payload text)")


@pytest.mark.slow
async def test_a_killed_relay_loses_nothing_and_doubles_no_effect(
    database: Database, database_url: str
) -> None:
    # STORE-53: killed after the commit and before sending; after sending and before marking
    kept = kept_in_postgres(database)
    await database.run(_make_arrivals)
    wanted = [str(number) for number in range(1, 7)]
    await kept.events.append(
        StreamId("order-1"),
        new_events(1),
        outbox=[OutboxMessage(uuid4(), "hook", "receiver", "k", one.encode()) for one in wanted],
    )
    await _kill_at(database_url, "before:2")
    assert await database.run(_arrivals) == Counter({"1": 1})
    for plan in ("after:2", "after:5"):
        await kept.pass_time(_LEASE_S)  # a dead relay's lease has to end
        await _kill_at(database_url, plan)
        assert (await kept.outbox.stats()).pending == len(wanted)
    await kept.pass_time(_LEASE_S)
    with _relay(database_url, "run"), trio.fail_after(PATIENCE_S):
        while (await kept.outbox.stats()).pending:  # noqa: ASYNC110  (of another process)
            await trio.sleep(0.02)
    arrivals = await database.run(_arrivals)
    assert arrivals == Counter({"1": 4, "2": 3, "3": 2, "4": 2, "5": 2, "6": 1})
    effects = [event.data.decode() async for event in kept.events.load(EFFECTS)]
    assert effects == wanted
    assert (await kept.outbox.stats()).dead == 0
