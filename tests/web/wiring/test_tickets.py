"""Socket tickets and ends of sessions in the whole site, over HTTP and real sockets."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import structlog
import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    WebSocketConnection,
    wrap_client_stream,
)

from actors.accounts import HowEnded, SessionId
from actors.accounts.kept.throttle import TICKETS_PER_SESSION_MAX
from actors.runtime import Secret
from tests.journeys.visitor import Answer, Visitor
from tests.logged import configured_for
from tests.patience import PATIENCE_S
from tests.web.accounts.test_entering import register
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.server import KeyRing, VisitorSigner

pytestmark = pytest.mark.slow

PATH = "/api/v1/ws-ticket"
OWN = {"sec-fetch-site": "same-origin"}


@asynccontextmanager
async def open_socket(
    site: WholeSite, query: str = "", **headers: str
) -> AsyncIterator[WebSocketConnection]:
    stream = await trio.open_tcp_stream("127.0.0.1", site.port)
    extra = [(name.encode(), value.encode()) for name, value in headers.items()]
    async with stream, trio.open_nursery() as nursery:
        host = f"127.0.0.1:{site.port}"
        yield await wrap_client_stream(nursery, stream, host, "/ws" + query, extra_headers=extra)
        nursery.cancel_scope.cancel()


async def refused(site: WholeSite, query: str, **headers: str) -> ConnectionRejected:
    with pytest.raises(ExceptionGroup) as raised:
        async with open_socket(site, query, **headers):
            pass
    error: BaseException = raised.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, ConnectionRejected)
    return error


async def closed_with(socket: WebSocketConnection) -> tuple[int, str | None]:
    async def read() -> None:
        with trio.fail_after(PATIENCE_S):
            while True:
                await socket.get_message()

    with pytest.raises(ConnectionClosed) as raised:
        await read()
    assert raised.value.reason is not None
    return int(raised.value.reason.code), raised.value.reason.reason


async def ask(visitor: Visitor, **headers: str) -> Answer:
    return await in_thread(partial(visitor.request, "POST", PATH, None, headers))


async def ticket_of(visitor: Visitor) -> str:
    answer = await ask(visitor, **OWN)
    assert answer.status == 200, answer.text
    found = json.loads(answer.body)
    assert found["expires_in"] == 30
    assert len(found["ticket"]) == 43
    assert answer.headers["cache-control"] == "no-store"
    return str(found["ticket"])


async def test_a_ticket_opens_one_socket_as_the_visitor_who_asked() -> None:
    # WEB-44, SEC-42
    async with open_whole_site() as site:
        visitor = site.visitor()
        await in_thread(visitor.open_lab)
        (session,) = [name for name, _ in _sessions(visitor)]
        ticket = await ticket_of(visitor)
        async with open_socket(site, f"?client={'0' * 32}&ticket={ticket}"):
            assert site.web.open_sessions.all() == {session}
            assert (await refused(site, f"?ticket={ticket}")).status_code == 401
        for wrong in ("", "x", ticket + "=", "%C3%A9", f"{await ticket_of(visitor)}&ticket=x"):
            assert (await refused(site, f"?ticket={wrong}")).status_code == 401
        # A foreign page has nothing of a ticket it got hold of, and does not use it up.
        ticket = await ticket_of(visitor)
        rejected = await refused(site, f"?ticket={ticket}", Origin="https://evil.example")
        assert rejected.status_code == 403
        async with open_socket(site, f"?ticket={ticket}", Origin=site.url):
            pass


async def test_of_many_at_once_one_opens() -> None:
    # SEC-42
    async with open_whole_site() as site:
        ticket = await ticket_of(site.visitor())
        codes: list[int] = []

        async def use() -> None:
            try:
                async with open_socket(site, f"?ticket={ticket}"):
                    codes.append(101)
            except* ConnectionRejected as group:
                error: BaseException = group
                while isinstance(error, BaseExceptionGroup):
                    error = error.exceptions[0]
                assert isinstance(error, ConnectionRejected)
                codes.append(error.status_code)

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(use)
    assert sorted(codes) == [101] + [401] * 49


async def test_who_may_ask_for_a_ticket() -> None:
    # WEB-44: the rules of every other POST (SEC-30, SEC-31, SEC-37), and a limit
    async with open_whole_site() as site:
        visitor = site.visitor()
        await in_thread(visitor.open_lab)
        site.hold_limits()
        for headers, status in (
            ({"sec-fetch-site": "same-origin"}, 200),
            ({"origin": site.url}, 200),
            ({"sec-fetch-site": "cross-site"}, 403),
            ({"sec-fetch-site": "cross-site", "origin": "https://evil.example"}, 403),
            ({"origin": "null"}, 403),
            ({}, 403),
            ({"authorization": "Bearer x", **OWN}, 401),
        ):
            assert (await ask(visitor, **headers)).status == status, headers
        stranger = site.visitor()
        assert (await ask(stranger)).status == 200
        assert (await ask(stranger, authorization="Bearer x")).status == 401
        assert stranger.cookies == {}
        assert (await in_thread(partial(visitor.get, PATH))).status == 405
        text = {"content-type": "text/plain", **OWN}
        answer = await in_thread(partial(visitor.request, "POST", PATH, b"x", text))
        assert answer.status == 415
        for number in range(TICKETS_PER_SESSION_MAX - 2):
            answer = await ask(visitor, **OWN)
            assert answer.status == 200
            # AUTH-40
            left = TICKETS_PER_SESSION_MAX - 3 - number
            assert answer.headers["ratelimit"] == f'"ticket";r={left}'
            assert answer.headers["ratelimit-policy"] == '"ticket";q=60;w=60'
        answer = await ask(visitor, **OWN)
        assert (answer.status, answer.headers["ratelimit-policy"]) == (429, '"ticket";q=60;w=60')
        wait = answer.headers["retry-after"]
        assert answer.headers["ratelimit"] == f'"ticket";r=0;t={wait}'


async def test_a_bearer_token_is_its_member_or_nobody() -> None:
    # WEB-44: who shows a credential is not taken for a guest
    async with open_whole_site() as site:
        for wrong in ("x", "A" * 43):
            assert (await refused(site, "", Authorization=f"Bearer {wrong}")).status_code == 401
        token = (await register(site)).cookies["gr_auth"]
        program, shown = site.visitor(), {"authorization": f"Bearer {token}"}
        async with open_socket(site, "", **shown):
            pass
        ticket = json.loads((await ask(program, **shown)).body)["ticket"]
        (row,) = site.accounts.database.sign_ins.values()
        assert await site.web._tickets.take(ticket) == row.session_id
        topic = "/events?topic=room:lobby"
        head = partial(program.request, "HEAD", topic, None)
        assert (await in_thread(partial(head, shown))).status == 200
        assert program.cookies == {}, "a program keeps none"
        wrong_head = await in_thread(partial(head, {"authorization": "Bearer x"}))
        assert wrong_head.status == 401


async def test_a_ticket_stands_in_no_line_and_no_answer() -> None:
    # SEC-42: also where what is around it goes wrong
    with configured_for(logging.DEBUG), structlog.testing.capture_logs() as lines:
        async with open_whole_site() as site:
            canary = await ticket_of(site.visitor())
            told = [
                await refused(site, f"?ticket={canary}&ticket=x"),
                await refused(site, f"?ticket={canary}&client=x"),
                await refused(site, f"?ticket={canary}", Origin="null"),
            ]
            async with open_socket(site, f"?ticket={canary}") as socket:
                await socket.send_message('{"type":"command","action":"Nope"}')
                shown = repr([await socket.get_message() for _ in range(1)])
            shown += repr(site.web.streams) + repr(site.apps) + repr([*site.system.cells()])
            visitor = site.visitor()
            for path in (f"/?ticket={canary}", f"/nothing?ticket={canary}"):
                shown += (await in_thread(partial(visitor.get, path))).text
    assert canary not in repr(lines)
    assert canary not in shown + repr([(one.headers, one.body) for one in told])
    # Those that were refused did not use it up.
    assert [one.status_code for one in told] == [401, 400, 403]


def _sessions(visitor: Visitor) -> list[tuple[str, str]]:
    signer = VisitorSigner(KeyRing(Secret(b"s" * 64)))
    return [(str(signer.maybe_visitor_id(value)), name) for name, value in visitor.cookies.items()]


async def test_the_end_of_a_session_closes_its_sockets_and_streams() -> None:
    # SEC-44, WEB-45: and of no other one; its cookie is worth nothing from then on
    async with open_whole_site() as site:
        gone, other = site.visitor(), site.visitor()
        for visitor in (gone, other):
            await in_thread(visitor.open_lab)
        ((session, name),) = _sessions(gone)
        cookie = {"Cookie": f"{name}={gone.cookies[name]}", "Origin": site.url}
        stream, kept = await in_thread(gone.open_stream), await in_thread(other.open_stream)
        with stream, kept:
            async with open_socket(site, "", **cookie) as first, open_socket(site, "") as stranger:
                await site.ends.end([SessionId(session)])
                assert await closed_with(first) == (4401, "the session is over")
                # Until its end.
                await in_thread(stream.response.read)
                await stranger.send_message('{"type":"ping"}')
                assert await stranger.get_message() == '{"type":"pong"}'
            assert len(site.web.streams) == 1
            answer = await in_thread(partial(gone.get, "/"))
            assert "set-cookie" in answer.headers
            assert _sessions(gone)[0][0] != session


async def test_a_ban_closes_with_its_own_code() -> None:
    # WEB-46
    async with open_whole_site() as site:
        visitor = site.visitor()
        await in_thread(visitor.open_lab)
        ((session, _),) = _sessions(visitor)
        async with open_socket(site, f"?ticket={await ticket_of(visitor)}") as socket:
            await site.ends.end([SessionId(session)], HowEnded.BANNED)
            assert await closed_with(socket) == (4403, "banned")
