"""What a running site tells of its health while its parts are broken, one after the other."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from actors.persistence.beside_log.dead_letters import ROWS_MAX
from actors.runtime import Secret
from docs.examples import own_site
from storage.memory import MemoryDeadLetters
from storage.postgres import Connection, Database, EmbeddedServer, open_database
from storage.postgres.connecting import health as store_health
from storage.postgres.embedded.server import start
from tests.journeys.test_database_away import kill
from tests.journeys.visitor import Answer, Visitor
from tests.patience import PATIENCE_S, PATIENT_POOL
from tests.web.whole_site import in_thread
from web.app import OwnSite, check_dead_letters, open_site, store_checks
from web.settings import Settings
from web.site.health import Unhealthy

PARTS = ["event_store", "dead_letters", "tree"]


@asynccontextmanager
async def served(url: str, folder: Path) -> AsyncIterator[OwnSite]:
    settings = Settings(port=0, database_url=Secret(url), state_dir=folder / "state")
    async with open_site(own_site.PLAN, settings) as site:
        yield site


async def ask(site: OwnSite, path: str, **headers: str) -> Answer:
    return await in_thread(lambda: Visitor(site.url).get(path, **headers))


async def ready(site: OwnSite) -> tuple[int, dict[str, object], dict[str, dict[str, object]]]:
    """Status, the whole answer, and its components."""
    answer = await ask(site, "/health/ready")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert "content-security-policy" in answer.headers
    told = json.loads(answer.body)
    return answer.status, told, told.get("components", {})


async def until_ready_is(site: OwnSite, status: int, word: str) -> dict[str, dict[str, object]]:
    """Wait until `/ready` says so: a report is kept for a second."""
    with trio.fail_after(PATIENCE_S):
        while True:
            found, told, parts = await ready(site)
            if (found, told["status"]) == (status, word):
                return parts
            await trio.sleep(0.05)


@pytest.mark.slow
async def test_all_probes_of_a_site_that_is_well(database_url: str, tmp_path: Path) -> None:
    # WEB-20, SEC-84
    async with served(database_url, tmp_path) as site:
        live = await ask(site, "/health/live")
        assert (live.status, set(json.loads(live.body))) == (200, {"status", "version"})
        assert json.loads((await ask(site, "/health/startup")).body) == {"started": True}
        status, told, parts = await ready(site)
        assert (status, told["ready"], told["status"]) == (200, True, "healthy")
        assert list(told) == ["ready", "status", "duration_ms", "components"]
        assert list(parts) == PARTS
        for part in parts.values():
            assert (part["healthy"], part["status"]) == (True, "healthy")
            assert set(part) == {"healthy", "status", "duration_ms"}
        # The short names, and what strangers are told.
        assert set(json.loads((await ask(site, "/ready")).body)["components"]) == set(PARTS)
        assert (await ask(site, "/health")).body == b"OK"
        far = await ask(site, "/ready", **{"x-forwarded-for": "203.0.113.9"})
        assert json.loads(far.body) == {"ready": True, "status": "healthy"}
        site.is_draining = True
        status, told, _ = await ready(site)
        assert (status, told) == (503, {"ready": False, "status": "draining"})
        assert (await ask(site, "/health/startup")).status == 200
        assert (await ask(site, "/health/live")).status == 200


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    server = start(tmp_path / "database", extra=("fsync=off",))
    yield server
    server.stop()


@pytest.mark.slow
async def test_a_database_that_is_cut_makes_it_unready_and_heals(
    own_server: EmbeddedServer, tmp_path: Path
) -> None:
    # WEB-21, WEB-20
    async with served(own_server.url, tmp_path) as site:
        assert (await ready(site))[0] == 200
        await trio.to_thread.run_sync(kill, own_server)
        parts = await until_ready_is(site, 503, "unhealthy")
        assert parts["event_store"]["error"] == "the database does not answer"
        assert parts["dead_letters"]["error"] == "the dead letters cannot be counted"
        assert parts["tree"]["healthy"] is True
        # It was up once, and it is alive: nobody should restart it for that.
        assert (await ask(site, "/health/startup")).status == 200
        assert (await ask(site, "/health/live")).status == 200
        await trio.to_thread.run_sync(own_server.restart)
        await until_ready_is(site, 200, "healthy")


async def fill(connection: Connection, first: int, last: int) -> None:
    await connection.execute(
        "INSERT INTO dead_letters (kind, source, message_id, error_message)"
        " SELECT 'message', 'a', n::text, 'why' FROM generate_series($1::int, $2::int) AS n",
        first,
        last,
    )


@pytest.mark.slow
async def test_dead_letters_degrade_it_from_half_and_stop_it_at_their_limit(
    database_url: str, tmp_path: Path
) -> None:
    # WEB-21, WEB-20, STORE-62
    async with (
        served(database_url, tmp_path) as site,
        open_database(database_url, part="test", settings=PATIENT_POOL) as database,
    ):
        await database.run(fill, 1, ROWS_MAX // 2)
        await until_ready_is(site, 200, "healthy")
        await database.run(fill, ROWS_MAX // 2 + 1, ROWS_MAX * 6 // 10)
        parts = await until_ready_is(site, 200, "degraded")
        assert parts["dead_letters"]["healthy"] is True
        assert parts["dead_letters"]["error"] == "the dead letters are 60% full"
        await database.run(fill, ROWS_MAX * 6 // 10 + 1, ROWS_MAX)
        parts = await until_ready_is(site, 503, "unhealthy")
        assert parts["dead_letters"]["healthy"] is False
        assert "full" in str(parts["dead_letters"]["error"])
        assert parts["event_store"]["healthy"] is True


@pytest.mark.slow
async def test_a_transaction_that_is_held_open_degrades_it(
    own_server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # WEB-21, STORE-23: with a limit of next to nothing in the place of a minute
    monkeypatch.setattr(store_health, "OLDEST_DEGRADED_S", 0.001)
    monkeypatch.setattr(store_health, "OLDEST_WARNED_S", 0.001)
    async with (
        served(own_server.url, tmp_path) as site,
        open_database(own_server.url, part="elsewhere", settings=PATIENT_POOL) as elsewhere,
    ):
        await until_ready_is(site, 200, "healthy")
        token, held = trio.lowlevel.current_trio_token(), trio.Event()

        async def hold(connection: Connection) -> None:
            await connection.execute("BEGIN; SELECT pg_current_xact_id()")
            token.run_sync_soon(held.set)
            await connection.execute("SELECT pg_sleep(900)")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(elsewhere.run, hold)
            await held.wait()
            parts = await until_ready_is(site, 200, "degraded")
            error = str(parts["event_store"]["error"])
            assert "holds the order of events back" in error
            assert "127.0.0.1" not in error
            nursery.cancel_scope.cancel()
        await until_ready_is(site, 200, "healthy")


async def test_dead_letters_that_cannot_be_counted_are_no_health(
    autojump_clock: MockClock,
) -> None:
    # WEB-20
    letters = MemoryDeadLetters()
    await check_dead_letters(letters)
    letters.slow(100.0)
    with pytest.raises(Unhealthy, match="cannot be counted"):
        await check_dead_letters(letters)


async def test_a_new_database_is_well_in_all_its_parts(database: Database) -> None:
    # WEB-20
    checks = store_checks(database)
    assert list(checks) == ["event_store", "dead_letters"]
    for check in checks.values():
        await check()
