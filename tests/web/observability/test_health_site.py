"""What a running site tells of its health while its parts are broken, one after the other."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio

from actors.runtime import Actor, Secret
from docs.examples import own_site
from storage.memory import MemoryDatabase
from storage.postgres import Connection, open_database
from storage.postgres.connecting import health as store_health
from storage.testing import TemporaryServer, ToxicProxy
from supervision import ChildSpec, Flags, Plan, StartFailed, Supervisor, handle_of
from tests.journeys.visitor import Answer, Visitor
from tests.patience import PATIENCE_S, PATIENT_POOL
from tests.web.whole_site import in_thread
from web.app import Component, Finding, OwnSite, SitePlan, degraded, open_site
from web.observability.health import health as checking
from web.settings import Settings

PARTS = [
    "event_store", "pool", "archive", "outbox", "timers", "projections", "dead_letters",
    "supervision", "tree", "streams",
]  # fmt: skip
# A store that a site is handed has none of them to tell of.
OF_A_DATABASE = {"pool", "archive"}


@pytest.fixture(autouse=True)
def _always_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits a second for the next look: that it is kept is shown in virtual time."""
    monkeypatch.setattr(checking, "KEPT_S", -1.0)


@asynccontextmanager
async def served(url: str, folder: Path, plan: SitePlan = own_site.PLAN) -> AsyncIterator[OwnSite]:
    settings = Settings(port=0, database_url=Secret(url), state_dir=folder / "state")
    async with open_site(plan, settings) as site:
        yield site


@asynccontextmanager
async def in_memory(plan: SitePlan) -> AsyncIterator[OwnSite]:
    async with open_site(plan, Settings(port=0), store=MemoryDatabase()) as site:
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
    """Wait until `/ready` says so: what breaks and what heals takes its time."""
    with trio.fail_after(PATIENCE_S):
        while True:
            found, told, parts = await ready(site)
            if (found, told["status"]) == (status, word):
                return parts
            await trio.sleep(0.02)


@pytest.mark.slow
async def test_all_probes_of_a_site_that_is_well(database_url: str, tmp_path: Path) -> None:
    # WEB-20, SEC-84, RES-8, SITE-182, SITE-183, RES-40
    async with served(database_url, tmp_path) as site:
        live = await ask(site, "/health/live")
        assert (live.status, set(json.loads(live.body))) == (200, {"status", "version"})
        assert json.loads((await ask(site, "/health/startup")).body) == {"started": True}
        await until_ready_is(site, 200, "healthy")
        status, told, parts = await ready(site)
        assert (status, told["ready"], told["status"]) == (200, True, "healthy")
        assert list(told) == ["ready", "status", "duration_ms", "components"]
        assert list(parts) == PARTS
        for part in parts.values():
            assert (part["healthy"], part["status"]) == (True, "healthy")
            assert set(part) == {"healthy", "status", "duration_ms"}
        # The short names, the numbers for a person, and what strangers are told.
        assert set(json.loads((await ask(site, "/ready")).body)["components"]) == set(PARTS)
        assert (await ask(site, "/health")).body == b"OK"
        numbers = json.loads((await ask(site, "/ready?verbose")).body)["components"]
        assert numbers["pool"]["details"]["connections_max"] == site.settings.db_connections_max
        assert all("checked_at" in part for part in numbers.values())
        far = {"x-forwarded-for": "203.0.113.9"}
        for path in ("/ready", "/ready?verbose"):
            answer = await ask(site, path, **far)
            assert json.loads(answer.body) == {"ready": True, "status": "healthy"}
        # How much there is to do, for an operator's own machines.
        load = json.loads((await ask(site, "/health/load")).body)
        assert (load["overloaded"], load["refused"], load["waiting"]) == (False, 0, 0)
        assert 0 < load["turn_ms"] <= load["longest_turn_ms"]
        assert (await ask(site, "/health/load", **far)).status == 404
        site.is_draining = True
        status, told, _ = await ready(site)
        assert (status, told) == (503, {"ready": False, "status": "draining"})
        assert (await ask(site, "/health/startup")).status == 200
        assert (await ask(site, "/health/live")).status == 200


@asynccontextmanager
async def far(server: TemporaryServer, url: str) -> AsyncIterator[tuple[ToxicProxy, str]]:
    """The same database by a line that can be cut."""

    async def reach() -> trio.SocketStream:
        sock = trio.socket.socket(trio.socket.AF_UNIX)
        await sock.connect(str(server.server.sockets / ".s.PGSQL.5432"))
        return trio.SocketStream(sock)

    async with trio.open_nursery() as nursery:
        proxy = await nursery.start(ToxicProxy(reach).serve)
        yield proxy, f"postgresql://postgres@127.0.0.1:{proxy.port}{urlsplit(url).path}"
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_a_database_that_is_cut_makes_it_unready_and_heals(
    postgres_server: TemporaryServer, database_url: str, tmp_path: Path
) -> None:
    # WEB-21, WEB-20, SITE-183
    async with far(postgres_server, database_url) as (proxy, url), served(url, tmp_path) as site:
        await until_ready_is(site, 200, "healthy")
        proxy.is_refusing = True
        proxy.reset_all()
        parts = await until_ready_is(site, 503, "unhealthy")
        assert parts["event_store"]["error"] == "the database does not answer"
        assert parts["dead_letters"]["error"] == "the dead letters cannot be counted"
        assert parts["outbox"]["status"] == "degraded"
        assert parts["tree"]["healthy"] is True
        assert "127.0.0.1" not in str(parts)
        # It was up once, and it is alive: nobody should restart it for that.
        assert (await ask(site, "/health/startup")).status == 200
        assert (await ask(site, "/health/live")).status == 200
        proxy.is_refusing = False
        await until_ready_is(site, 200, "healthy")


@pytest.mark.slow
async def test_a_transaction_that_is_held_open_degrades_it(
    postgres_server: TemporaryServer,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # WEB-21, STORE-23: with a limit of next to nothing in the place of a minute
    monkeypatch.setattr(store_health, "OLDEST_DEGRADED_S", 0.001)
    monkeypatch.setattr(store_health, "OLDEST_WARNED_S", 0.001)
    async with (
        served(database_url, tmp_path) as site,
        open_database(
            postgres_server.server.url, part="elsewhere", settings=PATIENT_POOL
        ) as elsewhere,
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
            told = str(parts["event_store"]["message"])
            assert "holds the order of events back" in told
            assert parts["event_store"]["healthy"] is True
            assert "127.0.0.1" not in told
            nursery.cancel_scope.cancel()
        await until_ready_is(site, 200, "healthy")


class Fragile(Actor[str]):
    def on_message(self, message: str) -> None:
        raise RuntimeError(message)


class Shop(Supervisor):
    """Gives up at the first crash."""

    def plan(self) -> Plan:
        return Plan(Flags(intensity=0), [ChildSpec("clerk", Fragile, name="clerk")])


def shop(_: OwnSite) -> list[ChildSpec]:
    # Left alone when it gives up: to OTP it has ended in good order.
    return [ChildSpec("shop", Shop, restart="transient", type="supervisor")]


@pytest.mark.slow
async def test_a_subtree_that_gave_up_makes_it_unready_until_it_is_back() -> None:
    # DOC-4, WEB-21, RES-40: nobody asks it, and nobody starts it again
    async with in_memory(SitePlan(name="own", tree=shop)) as site:
        assert (await ready(site))[0] == 200
        found = site.system.whereis("clerk", Fragile)
        assert found is not None
        found.tell("crash")
        parts = await until_ready_is(site, 503, "unhealthy")
        assert parts["supervision"]["error"] == "gave up and is not back: own/actors/shop"
        assert parts["tree"]["healthy"] is True
        above = site.system.whereis("actors", Supervisor)
        assert above is not None
        await handle_of(Supervisor, above).restart_child("shop")
        await until_ready_is(site, 200, "healthy")


@pytest.mark.slow
async def test_a_site_of_ones_own_adds_a_component_in_a_line() -> None:
    # RES-40
    waiting = 0

    async def printer() -> Finding:
        return degraded("many pages wait", waiting=waiting)

    plan = SitePlan(name="own", health=lambda _: [Component("printer", printer)])
    async with in_memory(plan) as site:
        _, told, parts = await ready(site)
        assert told["status"] == "degraded"
        assert [*parts] == [*(one for one in PARTS if one not in OF_A_DATABASE), "printer"]
        assert parts["printer"]["message"] == "many pages wait"
    twice = replace(plan, health=lambda _: [Component("tree", printer)])
    with pytest.raises(StartFailed, match="two components are called 'tree'"):
        async with in_memory(twice):
            raise AssertionError("it must not have started")
