"""Orders found by words, over HTTP; and their read models on other servers (PROJ-13)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

import pytest
import trio

from actors.runtime import Secret
from docs.examples.orders import PLAN
from storage.memory import MemoryDatabase
from storage.testing.projections.searching import HOSTILE
from tests.examples.orders.orders_kit import ORDERS, PATIENT, WIDGETS, ask, fields_at, placed, told
from tests.patience import PATIENCE_S
from tests.redis_server import RedisServer, missing
from tests.storage.test_search_client import Host, serving
from tests.web.server.edge_kit import Reply
from web.app import CannotStart, OwnSite, open_site
from web.settings import ReadModels, Switch

LISTED = "/api/v1/listed-orders"
# What is tried of a running site, wherever its documents are.
Case: TypeAlias = Callable[[int], Awaitable[None]]


async def found(port: int, query: str, after: Reply | None = None) -> list[str]:
    """The ids of what is found, once what `after` wrote is."""
    headers = {} if after is None else {"X-Greenroom-After": after.headers["x-greenroom-position"]}
    reply = await ask(port, f"GET {LISTED}/search?{query}", headers=headers)
    assert reply.status == 200, reply.body
    items = told(reply)["items"]
    assert isinstance(items, list)
    return [str(one["id"]) for one in items]


async def test_orders_are_found_by_what_somebody_remembers(port: int) -> None:
    # PROJ-6, PROJ-13
    lamps = {**WIDGETS, "name": "Blue desk lamp"}
    one = await placed(port, customer_id="ann")
    two = await placed(port, customer_id="bob", items=[lamps, WIDGETS])
    last = await ask(port, f"POST {ORDERS}/{two}/ship", {"tracking": "PARCEL 77"})
    assert await found(port, "q=widget", last) == [two, one]
    assert await found(port, "q=LAMP+blue") == [two]
    assert await found(port, "q=77") == [two]
    assert await found(port, "q=ann") == [one]
    assert await found(port, "q=widget&status=placed") == [one]
    assert await found(port, "q=widget&customer_id=bob&status=shipped") == [two]
    assert await found(port, f"q={one}") == [one]
    assert await found(port, "q=nothing") == []
    for text in (*HOSTILE, "\x00x"):
        reply = await ask(port, f"GET {LISTED}/search?q={quote(text, errors='replace')}")
        assert reply.status == (422 if "\x00" in text else 200), text
        assert reply.status == 422 or told(reply)["items"] == [], text


async def test_pages_of_what_is_found(port: int) -> None:
    # PROJ-13: a limit out of range is 422, a cursor of somebody's own 400
    ids = [await placed(port) for _ in range(5)]
    last = await ask(port, f"POST {ORDERS}/{ids[0]}/cancel", {"reason": "lamp"})
    assert await found(port, "q=widget", last) == ids[::-1]
    seen, query = list[str](), "q=widget&limit=2"
    while True:
        reply = told(await ask(port, f"GET {LISTED}/search?{query}"))
        items, cursor = reply["items"], reply["next"]
        assert isinstance(items, list)
        seen += [str(one["id"]) for one in items]
        if cursor is None:
            break
        query = f"q=widget&limit=2&after={cursor}"
    assert seen == ids[::-1]
    for wrong in ("limit=0", "limit=101", "limit=x", "q=" + "x" * 201, "status=" + "x" * 513):
        reply_ = await ask(port, f"GET {LISTED}/search?{wrong}")
        assert reply_.status == 422, wrong
    tampered = query.replace("after=", "after=A")
    for wrong in (tampered, query[:-1], "after=AAAA", "after=%00", "q=a&after=x&after=y"):
        reply_ = await ask(port, f"GET {LISTED}/search?{wrong}")
        assert reply_.status == 400, wrong


async def opened(site: OwnSite) -> None:
    """Place, read by key and by words what was placed, all of it at once."""
    id_ = await placed(site.port)
    last = await ask(site.port, f"POST {ORDERS}/{id_}/ship", {"tracking": "T"})
    assert await found(site.port, "q=widget", last) == [id_]
    after = {"X-Greenroom-After": last.headers["x-greenroom-position"]}
    row = told(await ask(site.port, f"GET {LISTED}/{id_}", headers=after))
    assert row["status"] == "shipped"


async def test_the_list_is_served_from_redis_and_from_memory(tmp_path: Path) -> None:
    # PROJ-10, PROJ-12: as it is from the database; and lost with Redis it comes back
    if missing():
        pytest.skip(missing())
    with RedisServer(tmp_path) as server:
        settings = replace(
            PATIENT,
            read_models=ReadModels.REDIS,
            read_models_cache=Switch.ON,
            redis_url=Secret(server.url),
        )
        async with open_site(PLAN, settings, store=MemoryDatabase()) as site:
            await opened(site)
            ready = await ask(site.port, "GET /ready")
            assert fields_at(told(ready), "components", "redis")["status"] == "healthy"
            id_ = await placed(site.port)
            server.kill()
            server.start()
            with trio.fail_after(PATIENCE_S):
                while True:
                    with suppress(AssertionError):
                        reply = await ask(site.port, f"GET {LISTED}/{id_}")
                        if reply.status == 200:
                            break
                    await site.beside.projections.changed(0.05)


async def test_a_search_server_that_cannot_be_had_ends_the_start(tmp_path: Path) -> None:
    # PROJ-10, PROJ-13: with the setting's name, and nothing secret
    away = replace(PATIENT, search_url=Secret("http://ann:canary@127.0.0.1:1"), database_wait_s=0)
    host = Host((401, b"{}"))
    async with serving(host) as server:
        url = Secret(f"http://ann:canary@127.0.0.1:{server.port}")
        for settings, said in ((away, "no connection"), (replace(away, search_url=url), "401")):
            with pytest.raises(CannotStart, match=f"SEARCH_URL: .*{said}") as refused:
                async with open_site(PLAN, settings, store=MemoryDatabase()):
                    pass
            assert "canary" not in str(refused.value)
    assert len(host.asked) == 1
