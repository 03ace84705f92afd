"""Whether ticketing is well: each part is asked, and told by its name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from docs.examples.ticketing.http import PLAN
from docs.examples.ticketing.http.options import BUS, LINKS, TICKETS
from storage.memory import MemoryDatabase
from tests.examples.orders.orders_kit import ask, fields_at, told
from tests.examples.ticketing.http.ticketing_kit import PATIENT, open_ticketing
from web.app import CannotStart, open_site

PARTS = {"event_store", "projections_db", "auth_db", "event_bus"}


async def test_each_part_is_truly_asked(tmp_path: Path) -> None:
    # EX-47
    database = MemoryDatabase()
    async with open_ticketing(None, tmp_path, memory=database) as site:
        health = await ask(site.port, "GET /health")
        assert (health.status, set(told(health)), told(health)["status"]) == (
            200,
            {"status", "version"},
            "ok",
        )
        ready = await ask(site.port, "GET /ready")
        assert ready.status == 200, ready.body
        assert set(fields_at(told(ready), "components")) >= PARTS
        assert "redis" not in fields_at(told(ready), "components"), "it has no part in this"
    database = MemoryDatabase()
    async with open_ticketing(None, tmp_path, memory=database) as site:
        database.faults.fail_next(times=10_000)
        ready = await ask(site.port, "GET /ready")
        database.faults.fail_next(times=0)
        assert ready.status == 503
        components = fields_at(told(ready), "components")
        unwell = {name for name, one in components.items() if not fields_at(one)["healthy"]}
        assert unwell >= {"event_store", "projections_db", "auth_db"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (LINKS, "yes"),
        (TICKETS, "k1:short"),
        (TICKETS, "no key"),
        (BUS, "carrier pigeons"),
        (BUS, "postgres"),  # without PostgreSQL
    ],
)
async def test_options_that_are_none_are_refused_at_the_start(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(CannotStart, match=name):
        async with open_site(PLAN, PATIENT, store=MemoryDatabase()):
            pass


async def test_links_are_told_on_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LINKS, "on")
    with pytest.raises(CannotStart, match="loopback"):
        async with open_site(PLAN, replace(PATIENT, host="192.0.2.1"), store=MemoryDatabase()):
            pass
