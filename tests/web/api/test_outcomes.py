"""The four ways to answer a client program, over sockets and in both engines."""

from __future__ import annotations

import ast
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio
from quart import Response

from actors.persistence import Refusal
from actors.runtime import Actor, Secret, message
from docs.examples.parcels import PLAN, Desk
from supervision import handle_of
from tests.journeys.visitor import Visitor
from tests.patience import PATIENCE_S, until
from tests.web.api.api_kit import (
    KEY,
    REGISTER,
    Api,
    Stores,
    engine,
    error,
    gather,
    memory,
    open_api,
    register,
    stores,
    told,
)
from tests.web.server.serving_kit import Client
from tests.web.whole_site import in_thread
from web.api import Refusals, accept, ok, wait_outcome
from web.app import open_site
from web.server import Answer
from web.settings import Settings

__all__ = ["engine", "stores"]

PARCELS = "/api/v1/parcels"
EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "parcels.py"


def test_each_pattern_is_at_most_ten_lines_where_it_is_used() -> None:
    # WEB-3
    tree = ast.parse(EXAMPLE.read_text())
    lines = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef) and node.decorator_list:
            assert node.end_lineno is not None
            lines[node.name] = node.end_lineno - node.decorator_list[0].lineno + 1
    assert {"register", "look", "collect", "bring", "bring_now", "listed"} <= set(lines)
    assert max(lines.values()) <= 10, lines


async def test_a_command_is_waited_for_and_its_outcome_told(stores: Stores) -> None:
    # WEB-3, WEB-2
    async with open_api(stores) as api:
        made = await api.ask(f"POST {PARCELS}", REGISTER, key=KEY)
        assert (made.status, made.headers["location"]) == (201, f"{PARCELS}/abcd")
        assert told(made) == {"parcel_id": "abcd", "grams": 500}
        seen = await api.ask(f"GET {PARCELS}/abcd")
        assert told(seen) == {"receiver": "Ada", "grams": 500, "status": "here"}
        given = await api.ask(f"POST {PARCELS}/abcd/collect", {"by": "Ada"})
        assert (given.status, told(given)["status"]) == (200, "collected")


async def test_a_refusal_is_answered_by_the_table_of_its_feature() -> None:
    # WEB-2
    async with open_api() as api:
        unknown = await api.ask(f"POST {PARCELS}/abcd/collect", {"by": "Ada"})
        assert error(unknown) == (404, "NOT_FOUND")
        await api.ask(f"POST {PARCELS}", REGISTER, key=KEY)
        stranger = await api.ask(f"POST {PARCELS}/abcd/collect", {"by": "Eve"})
        assert error(stranger) == (403, "FORBIDDEN")
        assert told(stranger)["message"] == "A parcel is given to its receiver only"
        again = await api.ask(f"POST {PARCELS}", REGISTER, key=KEY + "2")
        assert error(again) == (409, "CONFLICT")
        assert told(await api.ask(f"GET {PARCELS}/abcd"))["status"] == "here"


def test_a_code_that_is_not_listed_is_400_with_its_message() -> None:
    # WEB-2
    table = Refusals({"sold_out": Answer.CONFLICT})
    row = table.answer(Refusal("other", "Tickets come in pairs")).row
    assert (row.status, row.code, row.text) == (400, "BAD_REQUEST", "Tickets come in pairs")
    listed = table.answer(Refusal("sold_out", "None is left")).row
    assert (listed.status, listed.code, listed.text) == (409, "CONFLICT", "None is left")
    assert repr(table) == "<Refusals of 1 codes>"


async def test_a_message_is_handed_over_and_202_says_where_to_look() -> None:
    # WEB-3
    async with open_api() as api:
        await register(api)
        api.walk.is_open = trio.Event()
        taken = await api.ask(f"POST {PARCELS}/abcd/bring")
        assert (taken.status, taken.headers["location"]) == (202, f"{PARCELS}/abcd")
        assert told(taken) == {}
        assert told(await api.ask(f"GET {PARCELS}/abcd"))["status"] == "here"


async def test_the_first_milestone_is_waited_for_and_told() -> None:
    # WEB-3
    async with open_api() as api:
        await api.ask(f"POST {PARCELS}", REGISTER, key=KEY)
        out = await api.ask(f"POST {PARCELS}/abcd/bring-now")
        assert (out.status, told(out)) == (202, {"status": "out"})
        refused = await api.ask(f"POST {PARCELS}/nobody/bring-now")
        assert error(refused) == (404, "NOT_FOUND")
        assert api.desk.system.topics.topics() == []


@pytest.mark.slow
async def test_without_a_milestone_in_time_202_tells_what_is_known() -> None:
    # WEB-3
    async with open_api() as api:
        await register(api)
        api.walk.is_open = trio.Event()
        late = await api.ask(f"POST {PARCELS}/abcd/bring-now")
        assert (late.status, told(late)) == (202, {"status": "on its way"})
        assert api.desk.system.topics.topics() == []
        api.walk.is_open.set()


async def test_an_outcome_that_does_not_come_is_408_and_for_a_page_503() -> None:
    # WEB-1, WEB-3, SITE-153
    def more(api: Api) -> None:
        async def slow() -> Response:
            never = trio.Event()
            await wait_outcome(never.wait(), Refusals(), within_s=0.05)
            return ok(None)

        api.app.add_url_rule("/api/slow", "slow api", view_func=slow)
        api.app.add_url_rule("/slow", "slow page", view_func=slow)

    async with open_api(more=more) as api:
        late = await api.ask("GET /api/slow")
        assert error(late) == (408, "TIMEOUT")
        page = await api.ask("GET /slow")
        assert (page.status, page.headers["retry-after"]) == (503, "1")
        assert page.headers["content-type"].startswith("text/html")


@message
class Fill:
    pass


class Stuck(Actor[Fill]):
    capacity = 1

    async def on_fill(self, message: Fill) -> None:
        await trio.sleep_forever()


@pytest.mark.slow
async def test_a_mailbox_without_room_is_503_and_nothing_was_taken() -> None:
    # WEB-1, WEB-3
    async with open_api() as api:
        ref = await api.desk.system.start(Stuck)

        @api.app.post("/api/fill")
        async def fill() -> Response:
            return await accept(ref, Fill(), at="/api/fill")

        replies = [await api.ask("POST /api/fill") for _ in range(4)]
        statuses = [reply.status for reply in replies]
        assert statuses[0] == 202
        assert statuses[-1] == 503
        assert error(replies[-1]) == (503, "SERVICE_UNAVAILABLE")
        assert "nothing was taken" in str(told(replies[-1])["message"])


async def test_a_client_that_leaves_a_milestone_leaves_nothing_behind() -> None:
    # WEB-3
    async with open_api() as api:
        await register(api)
        api.walk.is_open = trio.Event()
        async with Client(await trio.open_tcp_stream("127.0.0.1", api.port)) as client:
            await client.send(api.request(f"POST {PARCELS}/abcd/bring-now"))
            await api.walk.began.wait()
            assert api.desk.system.topics.topics() == ["parcel-abcd"]
        await until(lambda: not api.desk.system.topics.topics())
        api.walk.is_open.set()


@pytest.mark.slow
async def test_the_desk_is_a_site_of_ones_own(engine: str | None, tmp_path: Path) -> None:
    # WEB-3, WEB-14, WEB-15: opened by one call, with the keys and the ring of the site
    database = None if engine is None else Secret(engine)
    settings = Settings(port=0, database_url=database, state_dir=tmp_path / "state")
    store = memory().events if engine is None else None
    async with open_site(PLAN, settings, store=store) as site:
        visitor, raw = Visitor(site.url), msgspec.json.encode(REGISTER)
        named = {"idempotency-key": KEY, "content-type": "application/json"}
        for is_repeat in (False, True):
            made = await in_thread(partial(visitor.request, "POST", PARCELS, raw, named))
            assert (made.status, made.headers["location"]) == (201, f"{PARCELS}/abcd")
            assert ("idempotency-replayed" in made.headers) is is_repeat
        listed = await in_thread(partial(visitor.get, PARCELS))
        assert msgspec.json.decode(listed.body) == {"items": ["parcel-abcd"], "next": None}
        # A desk that was restarted is found again, with what it had.
        desk = handle_of(Desk, site.ref("desk", Desk))
        desk.ref.kill()
        with trio.fail_after(PATIENCE_S):
            while (await in_thread(partial(visitor.get, f"{PARCELS}/abcd"))).status == 503:  # noqa: ASYNC110
                await trio.sleep(0.05)
        seen = await in_thread(partial(visitor.get, f"{PARCELS}/abcd"))
        assert (seen.status, msgspec.json.decode(seen.body)["status"]) == (200, "here")


async def test_two_commands_that_race_have_one_winner(stores: Stores) -> None:
    # WEB-2
    async with open_api(stores) as api:
        await api.ask(f"POST {PARCELS}", REGISTER, key=KEY)
        line, by = f"POST {PARCELS}/abcd/collect", {"by": "Ada"}
        replies = await gather([lambda: api.ask(line, by) for _ in range(10)])
        assert sorted(reply.status for reply in replies) == [200] + [409] * 9
