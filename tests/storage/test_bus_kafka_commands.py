"""`greenroom bus` on a real Kafka: who reads, how far behind, and moving a stopped group (BUS-16).

Run by `make kafka`; elsewhere the summary says "not run".
"""

from datetime import UTC, datetime
from uuid import uuid4

import pytest
import trio

from tests.storage.kafka_broker import missing

if reason := missing():
    pytest.skip(reason, allow_module_level=True)

from actors.persistence import StreamId
from actors.persistence.bus import OnFailure, StartAt, UnknownGroup
from storage.bus.kafka import KafkaBus
from storage.postgres import Database, PostgresEventStore
from storage.testing.bus import GROUP, TOPIC, Heard, options, records, subscribed
from tests.patience import PATIENCE_S
from tests.storage.bus_member_process import subscription_on
from tests.storage.kafka_member_process import kafka_bus
from tests.web.cli.commanding import Commands, fetch, on

COUNT = 30


class _OnBroker(Commands):
    """Commands whose settings name the broker."""

    def behind(self) -> int:
        """How far the group is, in its topic."""
        rows = self.json("bus", "lag", GROUP)
        return sum(int(str(row["behind"])) for row in rows if row["topic"] == TOPIC)


@pytest.fixture
def prefix() -> str:
    return f"{uuid4()}-"


@pytest.fixture
def run(
    database_url: str,
    brokers: str,
    prefix: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> _OnBroker:
    for name, value in (("BUS", "kafka"), ("KAFKA_BROKERS", brokers), ("KAFKA_PREFIX", prefix)):
        monkeypatch.setenv(name, value)
    return _OnBroker(database_url, capsys)


async def _read_all(database: Database, brokers: str, prefix: str) -> None:
    """Read behind the inbox until the group has nothing left, and stop."""
    bus = kafka_bus(database, brokers, prefix)
    reading = subscription_on(database, bus)
    async with trio.open_nursery() as nursery:
        await nursery.start(reading.run)
        with trio.fail_after(PATIENCE_S):
            while await _behind(bus):  # noqa: ASYNC110  (of a broker)
                await trio.sleep(0.1)
        await reading.stop()
    await bus.close()


async def _behind(bus: KafkaBus) -> int:
    try:
        return sum(one.records for one in await bus.lag(GROUP))
    except UnknownGroup:
        return COUNT  # it has not begun yet


def test_a_stopped_group_is_moved_and_a_replay_behind_an_inbox_changes_nothing(
    run: _OnBroker, database_url: str, brokers: str, prefix: str
) -> None:
    # BUS-16: asks, is audited, needs a stopped group; and replaying into an inbox
    async def fill(database: Database) -> None:
        bus = kafka_bus(database, brokers, prefix)
        await bus.declare(TOPIC)
        await bus.publish_batch(TOPIC, records(COUNT))
        await bus.close()
        await _read_all(database, brokers, prefix)

    async def read_again(database: Database) -> None:
        await _read_all(database, brokers, prefix)

    async def move_one_that_is_read(database: Database) -> None:
        bus = kafka_bus(database, brokers, prefix)
        member = await bus.join(GROUP, [TOPIC], StartAt.EARLIEST)
        with trio.fail_after(PATIENCE_S):
            while not (await member.renew()).held:  # noqa: ASYNC110  (of a broker)
                await trio.sleep(0.05)
            # The command runs a loop of its own.
            assert await trio.to_thread.run_sync(run, "bus", "replay", GROUP, "--yes") == 4
        await member.leave()
        await bus.close()

    began = datetime.now(UTC)
    assert run("bus", "groups") == 0
    assert "no group" in run.out
    assert run("bus", "lag", "nobody") == 3
    on(database_url, fill)
    applied = _effects(database_url)
    assert len(applied) == COUNT
    (group,) = run.json("bus", "groups")
    assert (group["group"], group["members"]) == (GROUP, 0)
    assert TOPIC in str(group["topics"])
    assert run.behind() == 0
    assert run("bus", "seek", GROUP, "--to", "noon", "--yes") == 2
    assert run("bus", "replay", GROUP) == 2
    assert run.behind() == 0
    moved = (
        ("earliest", COUNT),
        ("latest", 0),
        (began.isoformat(), COUNT),
        ("2100-01-01", 0),
        ("0", COUNT),
        ("999999", 0),
    )
    for place, behind in moved:
        words = ("bus", "seek", GROUP, "--to", place, "--topic", TOPIC, "--yes")
        assert run(*words) == 0, run.err
        assert run.behind() == behind, place
    assert run("bus", "replay", GROUP, "--yes", "--reason", "a fix") == 0, run.err
    assert run.behind() == COUNT
    on(database_url, read_again)
    assert run.behind() == 0
    assert _effects(database_url) == applied
    on(database_url, move_one_that_is_read)
    assert "has members; stop them first" in run.err
    assert run.behind() == 0
    audit = fetch(database_url, "SELECT DISTINCT action, resource FROM audit_log ORDER BY 1")
    assert audit == [("bus replay", GROUP), ("bus seek", GROUP)]


def test_what_was_given_up_goes_back_to_the_broker(
    run: _OnBroker, database_url: str, brokers: str, prefix: str
) -> None:
    # BUS-7: not to the bus in the database, which nobody reads here
    heard = Heard(failing={"0": ValueError("no")})

    async def fail(database: Database) -> None:
        bus = kafka_bus(database, brokers, prefix)
        await bus.declare(TOPIC)
        await bus.publish_batch(TOPIC, records(3))
        async with subscribed(bus, heard, options(on_failure=OnFailure.SKIP)):
            await heard.count(2)
            with trio.fail_after(PATIENCE_S):
                while not await bus.dead_letters.list(kind="bus"):  # noqa: ASYNC110  (a database)
                    await trio.sleep(0.05)
        await bus.close()

    async def hear(database: Database) -> None:
        bus, again = kafka_bus(database, brokers, prefix), Heard()
        async with subscribed(bus, again, options(on_failure=OnFailure.SKIP)):
            await again.count(1)
        await bus.close()

    on(database_url, fail)
    (letter,) = run.json("dlq", "list", "--kind", "bus")
    assert run.one("dlq", "retry", str(letter["id"]), "--yes")["status"] == "resolved"
    assert fetch(database_url, "SELECT count(*) FROM bus_records") == [(0,)]
    on(database_url, hear)


def _effects(url: str) -> list[int]:
    found: list[int] = []

    async def read(database: Database) -> None:
        events = PostgresEventStore(database)
        for partition in range(3):
            found.extend(
                [int(one.data) async for one in events.load(StreamId(f"effects-{partition}"))]
            )

    on(url, read)
    return sorted(found)


def test_a_broker_that_is_away_or_not_named_is_told(
    run: _OnBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # BUS-16
    monkeypatch.setenv("KAFKA_BROKERS", "127.0.0.1:1")
    assert run("bus", "groups") == 5
    assert "the bus is unavailable" in run.err
    monkeypatch.delenv("KAFKA_BROKERS")
    assert run("bus", "groups") == 2
    assert "KAFKA_BROKERS" in run.err
