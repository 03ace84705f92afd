"""One key, one effect, one answer: in both engines, over sockets, whoever dies on the way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
import trio
from quart import Response

from actors.persistence import Claim, Idempotent
from actors.persistence.errors import StoreUnavailable
from docs.examples.parcels import REFUSALS, Register
from storage.memory import MemoryIdempotency
from tests.patience import until
from tests.web.api.api_kit import (
    KEY,
    REGISTER,
    RING,
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
from tests.web.server.edge_kit import Reply
from tests.web.server.serving_kit import Client
from web.api import (
    IdempotencyKeys,
    body,
    carry_out,
    conflict,
    effect_key,
    ok,
    too_many,
    unavailable,
)
from web.api.idempotency import WAIT_S_MAX
from web.server import SignedIn

__all__ = ["engine", "stores"]

PARCELS = "/api/v1/parcels"
ONCE = "/api/once"
# Of every answer its own; all else is kept.
OWN = frozenset({"date", "x-request-id", "x-correlation-id", "idempotency-replayed"})


class Work:
    """A route with an effect that can be counted, held back and made to fail."""

    def __init__(self) -> None:
        self.effects = 0
        self.begun = trio.Event()
        self.gate = trio.Event()
        self.gate.set()
        self.answer: Callable[[], Response | Exception] = self.done

    def done(self) -> Response:
        return ok({"effect": self.effects}, status=201, at="/there")

    def routes(self, api: Api) -> None:
        @api.app.post(ONCE)
        @api.keys.once()
        async def once() -> Response:
            self.effects += 1
            self.begun.set()
            await self.gate.wait()
            found = self.answer()
            if isinstance(found, Exception):
                raise found
            return found

        @api.app.post("/api/other/<name>")
        @api.keys.once()
        async def other(name: str) -> Response:
            self.effects += 1
            return self.done()


def kept_of(reply: Reply) -> tuple[int, dict[str, str], bytes]:
    """What of an answer a repeat must say again."""
    headers = {name: value for name, value in reply.headers.items() if name not in OWN}
    return reply.status, headers, reply.body


async def test_fifty_parallel_posts_make_one_effect_and_get_one_body(stores: Stores) -> None:
    # WEB-14, STORE-55
    work = Work()
    async with open_api(stores, work.routes) as api:
        replies = await gather([lambda: api.ask(f"POST {ONCE}", {"a": 1}, key=KEY)] * 50)
        assert work.effects == 1
        assert {reply.status for reply in replies} == {201}
        assert {reply.body for reply in replies} == {b'{"effect":1}'}
        fresh = [reply for reply in replies if "idempotency-replayed" not in reply.headers]
        assert len(fresh) == 1
        assert all(kept_of(reply) == kept_of(replies[0]) for reply in replies)
        assert len(api.keys) == 0


async def test_fifty_parallel_commands_append_once(stores: Stores) -> None:
    # WEB-14, WEB-3
    async with open_api(stores) as api:
        ask = lambda: api.ask(f"POST {PARCELS}", REGISTER, key=KEY)  # noqa: E731
        replies = await gather([ask] * 50)
        assert {(reply.status, reply.body) for reply in replies} == {
            (201, b'{"parcel_id":"abcd","grams":500}')
        }
        infos = await stores.events.list_streams(category="parcel")
        assert [info.version for info in infos] == [1]


async def test_a_repeat_is_answered_byte_for_byte(stores: Stores) -> None:
    # WEB-14
    work = Work()
    async with open_api(stores, work.routes) as api:
        first = await api.ask(f"POST {ONCE}", {"a": 1}, key=KEY)
        again = await api.ask(f"POST {ONCE}", {"a": 1}, key=KEY)
        assert kept_of(again) == kept_of(first)
        assert again.headers["idempotency-replayed"] == "true"
        assert again.headers["location"] == "/there"
        assert again.headers["x-request-id"] != first.headers["x-request-id"]
        assert "content-security-policy" in again.headers
        # Another key, and none, are other requests.
        assert (await api.ask(f"POST {ONCE}", {"a": 1}, key=KEY + "2")).body == b'{"effect":2}'
        assert (await api.ask(f"POST {ONCE}", {"a": 1})).body == b'{"effect":3}'


async def test_a_refusal_is_kept_as_any_answer(stores: Stores) -> None:
    # WEB-14
    work = Work()
    work.answer = lambda: conflict("Sold out")
    async with open_api(stores, work.routes) as api:
        first = await api.ask(f"POST {ONCE}", {"a": 1}, key=KEY)
        work.answer = work.done
        again = await api.ask(f"POST {ONCE}", {"a": 1}, key=KEY)
        assert error(first) == error(again) == (409, "CONFLICT")
        assert (again.body, work.effects) == (first.body, 1)
        assert again.headers["idempotency-replayed"] == "true"


async def test_an_error_of_the_domain_has_its_row_and_is_kept() -> None:
    # WEB-14, SITE-150
    work = Work()
    work.answer = lambda: ZeroDivisionError("a row of the site's own table")
    async with open_api(more=work.routes) as api:
        for _ in range(2):
            assert error(await api.ask(f"POST {ONCE}", {"a": 1}, key=KEY)) == (409, "CONFLICT")
        assert work.effects == 1


@pytest.mark.parametrize(
    "passing",
    [
        lambda: unavailable("The bank is closed"),
        lambda: too_many(3),
        lambda: ValueError("a bug"),
        lambda: Response(b"{}", status=502),
        lambda: Response(b"{}", status=409, headers={"retry-after": "1"}),
    ],
)
async def test_an_answer_that_says_try_again_is_not_kept(
    passing: Callable[[], Response | Exception],
) -> None:
    # WEB-14
    work = Work()
    work.answer = passing
    async with open_api(more=work.routes) as api:
        first = await api.ask(f"POST {ONCE}", {"a": 1}, key=KEY)
        assert first.status in (409, 429, 500, 502, 503)
        work.answer = work.done
        again = await api.ask(f"POST {ONCE}", {"a": 1}, key=KEY)
        assert (again.status, work.effects) == (201, 2)
        assert "idempotency-replayed" not in again.headers


async def test_a_key_of_another_request_is_422(stores: Stores) -> None:
    # WEB-14, STORE-55
    work = Work()
    async with open_api(stores, work.routes) as api:
        await api.ask(f"POST {ONCE}", {"a": 1}, key=KEY)
        for line, body_ in (
            (f"POST {ONCE}", {"a": 2}),
            (f"POST {ONCE}?b=1", {"a": 1}),
            (f"POST {ONCE}", None),
        ):
            other = await api.ask(line, body_, key=KEY)
            assert error(other) == (422, "IDEMPOTENCY_MISMATCH")
        assert work.effects == 1
        # Two things of one route share the key's scope, two routes do not.
        assert (await api.ask("POST /api/other/a", {"a": 1}, key=KEY)).status == 201
        assert (await api.ask("POST /api/other/b", {"a": 1}, key=KEY)).status == 422


async def test_a_key_is_one_users_or_one_addresss() -> None:
    # WEB-14
    work, kept = Work(), memory()
    ada, eve = (
        SignedIn(UUID(int=number), "x", "member", UUID(int=number + 10)) for number in (1, 2)
    )
    async with open_api(kept, work.routes) as api:
        bodies = []
        for who in (None, ada, eve, ada, None):
            api.signed_in = who
            bodies.append((await api.ask(f"POST {ONCE}", {"a": 1}, key=KEY)).body)
        assert bodies == [b'{"effect":%d}' % n for n in (1, 2, 3, 2, 1)]
    assert isinstance(kept.keys, MemoryIdempotency)
    scopes = [scope for _, scope, _ in kept.keys.database.idempotency]
    assert not any("127.0.0.1" in scope for scope in scopes)


@pytest.mark.parametrize(
    "key", ["short", "x" * 15, "x" * 129, "x" * 16 + "\xe9", "x" * 16 + "\t" + "x"]
)
async def test_a_key_that_is_none_is_400(key: str) -> None:
    # WEB-14
    work = Work()
    async with open_api(more=work.routes) as api:
        assert error(await api.ask(f"POST {ONCE}", {"a": 1}, key=key)) == (400, "BAD_REQUEST")
        assert work.effects == 0


async def test_keys_at_the_edges_of_their_length_hold_and_two_are_none() -> None:
    # WEB-14
    work = Work()
    async with open_api(more=work.routes) as api:
        for key in ("x" * 16, "~ " * 64 + "x" * 0):
            assert (await api.ask(f"POST {ONCE}", {"a": 1}, key=key.strip())).status == 201
        two = {"Idempotency-Key": KEY, "idempotency-key": KEY}
        assert error(await api.ask(f"POST {ONCE}", {"a": 1}, two)) == (400, "BAD_REQUEST")


async def test_a_required_key_that_is_missing_is_400() -> None:
    # WEB-14
    async with open_api() as api:
        refused = await api.ask(f"POST {PARCELS}", REGISTER)
        assert error(refused) == (400, "BAD_REQUEST")
        assert "Idempotency-Key" in str(told(refused)["message"])
        assert error(await api.ask(f"GET {PARCELS}/abcd")) == (404, "NOT_FOUND")


async def test_a_key_in_hand_of_another_process_is_409_with_retry_after(stores: Stores) -> None:
    # WEB-14, STORE-55
    work = Work()
    work.gate = trio.Event()
    async with open_api(stores, work.routes) as one, open_api(stores, work.routes) as two:
        async with trio.open_nursery() as nursery:
            replies: list[Reply] = []

            async def first() -> None:
                replies.append(await one.ask(f"POST {ONCE}", {"a": 1}, key=KEY))

            nursery.start_soon(first)
            await work.begun.wait()
            busy = await two.ask(f"POST {ONCE}", {"a": 1}, key=KEY)
            assert error(busy) == (409, "IDEMPOTENCY_IN_FLIGHT")
            assert busy.headers["retry-after"] == "1"
            mixed = await two.ask(f"POST {ONCE}", {"a": 2}, key=KEY)
            assert error(mixed) == (422, "IDEMPOTENCY_MISMATCH")
            work.gate.set()
        again = await two.ask(f"POST {ONCE}", {"a": 1}, key=KEY)
        assert (kept_of(again), work.effects) == (kept_of(replies[0]), 1)


@pytest.mark.slow
async def test_who_waits_too_long_for_the_first_is_told_to_come_again() -> None:
    # WEB-14
    assert WAIT_S_MAX < 10.0
    work = Work()
    work.gate = trio.Event()
    async with open_api(more=work.routes, request_s=60.0) as api:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: api.ask(f"POST {ONCE}", {"a": 1}, key=KEY))
            await work.begun.wait()
            late = await api.ask(f"POST {ONCE}", {"a": 1}, key=KEY)
            assert error(late) == (409, "IDEMPOTENCY_IN_FLIGHT")
            assert late.headers["retry-after"] == "1"
            work.gate.set()
        assert work.effects == 1


async def leave(api: Api, work: Work) -> None:
    """Ask, and leave while the handler is under way."""
    async with Client(await trio.open_tcp_stream("127.0.0.1", api.port)) as client:
        await client.send(api.request(f"POST {ONCE}", {"a": 1}, {"Idempotency-Key": KEY}))
        await work.begun.wait()
    await until(lambda: len(api.keys) == 0)


async def test_a_request_that_was_left_keeps_its_key_until_it_is_taken_for_dead() -> None:
    # WEB-14, STORE-55
    work, kept = Work(), memory()
    work.gate = trio.Event()
    async with open_api(kept, work.routes) as api:
        await leave(api, work)
        work.gate.set()
        # It may have had its effect: nobody does it again at once.
        again = await api.ask(f"POST {ONCE}", {"a": 1}, key=KEY)
        assert error(again) == (409, "IDEMPOTENCY_IN_FLIGHT")
        assert work.effects == 1
        assert isinstance(kept.keys, MemoryIdempotency)
        for row in kept.keys.database.idempotency.values():
            row.created_at -= timedelta(seconds=61)
        assert (await api.ask(f"POST {ONCE}", {"a": 1}, key=KEY)).status == 201


async def test_a_command_of_a_request_that_died_is_not_appended_twice(stores: Stores) -> None:
    # WEB-14, STORE-55: killed between the append and the answer
    class Dying(IdempotencyKeys):
        async def _settle(self, claim: Claim, response: Response) -> None:
            await stores.keys.abandon(claim)  # as if a minute had passed

    def more(api: Api) -> None:
        dying = Dying(stores.keys, RING)

        @api.app.post("/api/dying")
        @dying.once()
        async def die() -> Response:
            asked = await body(Register)
            done = await carry_out(api.desk.by_id[asked.parcel_id], asked, REFUSALS)
            return ok({"replayed": done.replayed, "version": done.version})

    async with open_api(stores, more) as api:
        first = await api.ask("POST /api/dying", REGISTER, key=KEY)
        assert told(first) == {"replayed": False, "version": 1}
    # Another process, whose parcel has read nothing yet, is asked again.
    async with open_api(stores, more) as api:
        # It refuses what is done already, and the key says by whom it was.
        again = await api.ask("POST /api/dying", REGISTER, key=KEY)
        assert told(again) == {"replayed": True, "version": 1}
        other = await api.ask("POST /api/dying", REGISTER, key=KEY + "2")
        assert error(other) == (409, "CONFLICT")
        infos = await stores.events.list_streams(category="parcel")
        assert [info.version for info in infos] == [1]


@pytest.mark.parametrize("is_stored", [True, False])
async def test_a_repeat_of_a_request_that_died_is_answered_at_once_when_its_effect_is_stored(
    stores: Stores, is_stored: bool
) -> None:
    # WEB-14, STORE-55: killed behind the commit, before its answer was kept
    class Killed(IdempotencyKeys):
        async def _settle(self, claim: Claim, response: Response) -> None:
            """Nothing: the claim stands, as a killed process leaves it."""

    def more(api: Api) -> None:
        killed = Killed(stores.keys, RING)

        @api.app.post("/api/killed")
        @killed.once()
        async def register() -> Response:
            asked = await body(Register)
            if not is_stored:
                return ok(None)
            done = await carry_out(api.desk.by_id[asked.parcel_id], asked, REFUSALS)
            return ok({"replayed": done.replayed, "version": done.version})

    async with open_api(stores, more) as api:
        await api.ask("POST /api/killed", REGISTER, key=KEY)
    async with open_api(stores, more) as api:
        again = await api.ask("POST /api/killed", REGISTER, key=KEY)
        if is_stored:
            assert told(again) == {"replayed": True, "version": 1}
            other = {**REGISTER, "parcel_id": "other"}
            assert (await api.ask("POST /api/killed", other, key=KEY)).status == 422
        else:
            assert error(again) == (409, "IDEMPOTENCY_IN_FLIGHT")
        infos = await stores.events.list_streams(category="parcel")
        assert [info.version for info in infos] == [1] * is_stored


async def test_each_effect_of_a_request_has_a_key_of_its_own() -> None:
    # WEB-14
    found: list[Idempotent | None] = []

    def more(api: Api) -> None:
        @api.app.post("/api/two")
        @api.keys.once()
        async def two() -> Response:
            found.extend((effect_key(), effect_key()))
            return ok(None, status=502)

        @api.app.post("/api/none")
        async def none() -> Response:
            found.append(effect_key())
            return ok(None)

    assert effect_key() is None
    async with open_api(more=more) as api:
        for _ in range(2):
            await api.ask("POST /api/two", {"a": 1}, key=KEY)
        assert found[:2] == found[2:]
        assert found[0] != found[1]
        await api.ask("POST /api/two", {"a": 1})
        await api.ask("POST /api/none", {"a": 1}, key=KEY)
        assert found[4:] == [None, None, None]


async def test_a_store_that_is_away_is_503_and_nothing_was_done() -> None:
    # WEB-14
    work, kept = Work(), memory()
    assert isinstance(kept.keys, MemoryIdempotency)
    async with open_api(kept, work.routes) as api:
        kept.keys.fail_next(StoreUnavailable("gone"))
        away = await api.ask(f"POST {ONCE}", {"a": 1}, key=KEY)
        assert error(away) == (503, "SERVICE_UNAVAILABLE")
        assert work.effects == 0
        assert (await api.ask(f"POST {ONCE}", {"a": 1}, key=KEY)).status == 201


async def test_an_answer_that_cannot_be_kept_is_still_told() -> None:
    # WEB-14
    work, kept = Work(), memory()
    assert isinstance(kept.keys, MemoryIdempotency)
    store = kept.keys

    def last() -> Response:
        store.fail_next(StoreUnavailable("gone"))
        return work.done()

    work.answer = last
    async with open_api(kept, work.routes) as api:
        assert (await api.ask(f"POST {ONCE}", {"a": 1}, key=KEY)).body == b'{"effect":1}'
        again = await api.ask(f"POST {ONCE}", {"a": 1}, key=KEY)
        assert error(again) == (409, "IDEMPOTENCY_IN_FLIGHT")
        assert work.effects == 1


async def test_an_answer_too_large_to_keep_is_told_once_and_done_once() -> None:
    # WEB-14
    work = Work()
    work.answer = lambda: ok("x" * 1_100_000)
    async with open_api(more=work.routes) as api:
        first = await api.ask(f"POST {ONCE}", {"a": 1}, key=KEY)
        assert (first.status, len(first.body)) == (200, 1_100_002)
        again = await api.ask(f"POST {ONCE}", {"a": 1}, key=KEY)
        assert error(again) == (409, "CONFLICT")
        assert "too large to be kept" in str(told(again)["message"])
        assert work.effects == 1


async def test_cookies_are_not_kept() -> None:
    # WEB-14, SEC-13
    work = Work()
    work.answer = lambda: Response(b"{}", headers={"set-cookie": "a=b", "x-own": "kept"})
    async with open_api(more=work.routes) as api:
        first = await api.ask(f"POST {ONCE}", {"a": 1}, key=KEY)
        again = await api.ask(f"POST {ONCE}", {"a": 1}, key=KEY)
        assert (first.headers["set-cookie"], again.headers["x-own"]) == ("a=b", "kept")
        assert "set-cookie" not in again.headers


async def test_what_routes_collect_by_key_stays_one(stores: Stores) -> None:
    # WEB-14: the optional key of a route that changes what is there
    async with open_api(stores) as api:
        await register(api)
        line, by = f"POST {PARCELS}/abcd/collect", {"by": "Ada"}
        replies = await gather([lambda: api.ask(line, by, key=KEY)] * 10)
        assert {(reply.status, reply.body) for reply in replies} == {
            (200, b'{"parcel_id":"abcd","status":"collected"}')
        }
