"""`greenroom bus` on a real database: who reads, how far behind, and moving a stopped group."""

import pytest

from actors.persistence.bus import OnFailure, StartAt
from storage.bus import PostgresBus
from storage.postgres import Database
from storage.testing.bus import GROUP, TOPIC, Heard, options, records, subscribed
from tests.web.cli.commanding import Commands, fetch, on


@pytest.mark.slow
def test_groups_are_shown_and_a_stopped_one_is_moved(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # BUS-16: asks, is audited, needs a stopped group
    run = Commands(database_url, capsys)

    async def fill(database: Database) -> None:
        bus, heard = PostgresBus(database), Heard()
        await bus.declare(TOPIC, 2)
        async with subscribed(bus, heard, options(on_failure=OnFailure.SKIP)):
            await bus.publish_batch(TOPIC, records(6))
            await heard.count(6)

    async def fail(database: Database) -> None:
        heard = Heard(failing={"0": ValueError("no")})
        bus = PostgresBus(database)
        async with subscribed(bus, heard, options(on_failure=OnFailure.SKIP), group="other"):
            await heard.count(5)

    async def join(database: Database) -> None:
        await (await PostgresBus(database).join(GROUP, [TOPIC], StartAt.EARLIEST)).renew()

    assert run("bus", "groups") == 0
    assert "no group" in run.out
    for words in (("lag", "nobody"), ("seek", "nobody", "--to", "latest"), ("replay", "nobody")):
        assert run("bus", *words) == 3
    on(database_url, fill)
    (group,) = run.json("bus", "groups")
    assert (group["group"], group["members"], group["topics"]) == (GROUP, 0, TOPIC)
    assert [row["behind"] for row in run.json("bus", "lag", GROUP)] == [0, 0]
    assert run("bus", "replay", GROUP) == 2
    assert "would move group mail on all its topics back" in run.err
    assert run("bus", "seek", GROUP, "--to", "noon", "--yes") == 2
    assert run("bus", "seek", GROUP, "--to", "latest", "--topic", "Orders", "--yes") == 2
    assert run.one("bus", "replay", GROUP, "--yes", "--reason", "a fix") == {
        "group": GROUP,
        "partitions": 2,
    }
    assert sum(int(str(row["behind"])) for row in run.json("bus", "lag", GROUP)) == 6
    for place, behind in (("2100-01-01T00:00Z", 0), ("0.0", 6), ("latest", 0), ("2001-01-01", 6)):
        assert run("bus", "seek", GROUP, "--to", place, "--topic", TOPIC, "--yes") == 0, run.err
        assert sum(int(str(row["behind"])) for row in run.json("bus", "lag", GROUP)) == behind
    on(database_url, fail)
    # BUS-7: one that was given up is on its topic again
    (letter,) = run.json("dlq", "list", "--kind", "bus")
    assert run.one("dlq", "retry", str(letter["id"]), "--yes")["status"] == "resolved"
    assert run("dlq", "retry", str(letter["id"]), "--yes") == 4
    assert sum(int(str(row["behind"])) for row in run.json("bus", "lag", "other")) == 1
    on(database_url, join)
    assert run("bus", "replay", GROUP, "--yes") == 4
    assert "has members; stop them first" in run.err
    audit = fetch(database_url, "SELECT action, resource FROM audit_log ORDER BY id LIMIT 1")
    assert audit == [("bus replay", GROUP)]
