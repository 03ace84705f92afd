"""The WebSocket endpoint with a real client on a real socket."""

from __future__ import annotations

import uuid
from uuid import UUID

import pytest
import trio
import trio.testing
import trio_websocket

from tests.patience import until
from tests.web.realtime.site_kit import Site, opened, refusal, socket_client
from tests.web.server.serving_kit import connect
from tests.web.server.test_frame_sequences import close, frame
from web.realtime import V1, CloseCode, SocketCaps


def say(body: str, topic: str = "null") -> str:
    return f'{{"type":"command","action":{{"Say":{{"body":"{body}"}}}},"topic":{topic}}}'


def handshake(site: Site, *more: str) -> bytes:
    lines = [
        "GET /ws HTTP/1.1",
        f"Host: 127.0.0.1:{site.server.port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


async def closed_with(ws: trio_websocket.WebSocketConnection) -> int:
    """Read to the close; every one says why (WEB-46)."""

    async def read() -> None:
        while True:
            await ws.get_message()

    with pytest.raises(trio_websocket.ConnectionClosed) as raised:
        await read()
    reason = raised.value.reason
    assert reason is not None
    assert reason.reason
    return int(reason.code)


async def test_a_plain_client_hears_the_room_as_default() -> None:
    # WEB-30, WEB-31, WEB-49, REL-35
    async with opened() as site, socket_client(site) as ws:
        await ws.send_message(say("hello"))
        assert await ws.get_message() == (
            '{"type":"event","action":{"Said":{"n":1,"body":"hello"}},"topic":"default"}'
        )


async def test_subscribing_grants_in_order_and_refuses_the_rest() -> None:
    # WEB-31, SEC-55
    async with opened() as site, socket_client(site) as ws:
        await ws.send_message('{"type":"unsubscribe","topics":["default"]}')
        assert await ws.get_message() == '{"type":"unsubscribed","topics":["default"]}'
        await ws.send_message('{"type":"subscribe","topics":["room:lobby","x","room:lobby"]}')
        assert await ws.get_message() == '{"type":"subscribed","topics":["room:lobby"]}'
        assert "No topic x" in await ws.get_message()
        site.room.say("hi")
        assert '"topic":"room:lobby"' in await ws.get_message()


async def test_subscribing_by_name_moves_what_default_stands_for() -> None:
    # WEB-30: nothing is heard twice, whichever name was asked for last
    async with opened() as site, socket_client(site) as ws:
        for names, heard in (
            ('["room:lobby"]', "room:lobby"),
            ('["default"]', "default"),
            ('["default","room:lobby"]', "room:lobby"),
            ('["room:lobby"]', "room:lobby"),
        ):
            await ws.send_message(f'{{"type":"subscribe","topics":{names}}}')
            assert str(await ws.get_message()).startswith('{"type":"subscribed"')
            site.room.say("once")
            await ws.send_message('{"type":"ping"}')
            assert str(await ws.get_message()).endswith(f'"topic":"{heard}"}}')
            assert await ws.get_message() == '{"type":"pong"}'
        await ws.send_message('{"type":"unsubscribe","topics":["room:lobby"]}')
        await ws.get_message()
        site.room.say("not heard")
        await ws.send_message('{"type":"ping"}')
        assert await ws.get_message() == '{"type":"pong"}'


async def test_every_command_is_answered_to_its_sender_once() -> None:
    # WEB-32: by the event it hears, by one of its own, or by an error
    async with opened() as site, socket_client(site) as ws:
        await ws.send_message(say("heard"))
        await ws.send_message(say("pending"))
        await ws.send_message(say("forbidden"))
        await ws.send_message('{"type":"unsubscribe","topics":["default"]}')
        await ws.send_message(say("unheard"))
        await ws.send_message('{"type":"ping"}')
        got = [str(await ws.get_message()) for _ in range(6)]
    assert '"heard"' in got[0]
    assert '{"Said":{"n":0,"body":"pending"}}' in got[1]
    assert got[1].endswith('"topic":"default"}')
    assert "not said here" in got[2]
    assert '"unsubscribed"' in got[3]
    assert '"unheard"' in got[4]
    assert got[5] == '{"type":"pong"}'


async def test_two_clients_hear_the_same_in_the_same_order() -> None:
    # WEB-35, ACT-145
    async with (
        opened() as site,
        socket_client(site) as one,
        socket_client(site) as two,
    ):
        # A pong proves that the connection's actor has joined the topic.
        for ws in (one, two):
            await ws.send_message('{"type":"ping"}')
            assert await ws.get_message() == '{"type":"pong"}'
        for n in range(50):
            site.room.say(str(n))
        assert [await one.get_message() for _ in range(50)] == [
            await two.get_message() for _ in range(50)
        ]


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ("{", "That is not JSON"),
        ("", "empty"),
        (b"\x00\x01", "binary"),
        ('{"type":"what"}', "$.type"),
        ('{"type":"subscribe","topics":"a"}', "$.topics"),
        ('{"type":"command","action":{"Say":{"body":"x","extra":1}}}', "extra"),
        ('{"type":"command","action":"Said"}', "is an event"),
        ('{"type":"command","action":"Nope"}', "no command"),
        (say("forbidden"), "not said here"),
        (say("x", '"room:other"'), "may not send"),
    ],
)
async def test_a_broken_message_is_told_and_the_socket_lives(sent: str | bytes, told: str) -> None:
    # WEB-32, WEB-34, SEC-51, SEC-56, REL-42
    async with opened() as site, socket_client(site) as ws:
        await ws.send_message(sent)
        answer = str(await ws.get_message())
        assert answer.startswith('{"type":"error"')
        assert told in answer
        await ws.send_message('{"type":"ping"}')
        assert await ws.get_message() == '{"type":"pong"}'


async def test_a_bug_behind_a_command_is_one_error() -> None:
    # WEB-32: the text is fixed, the socket lives
    async with opened() as site, socket_client(site) as ws:
        await ws.send_message(say("bug"))
        assert await ws.get_message() == '{"type":"error","message":"An internal error occurred"}'
        await ws.send_message(say("on we go"))
        assert "on we go" in await ws.get_message()


async def test_eleven_broken_messages_close_1008() -> None:
    # WEB-34
    async with opened() as site, socket_client(site) as ws:
        for _ in range(11):
            await ws.send_message("{")
        assert await closed_with(ws) == 1008


async def test_a_message_over_64_kib_closes_1009() -> None:
    # WEB-34, SEC-45
    async with opened() as site, socket_client(site) as ws:
        await ws.send_message("x" * 65_536)
        assert "not JSON" in await ws.get_message()
        await ws.send_message("x" * 65_537)
        assert await closed_with(ws) == 1009


async def test_greenroom_v1_is_chosen_when_it_is_offered() -> None:
    # WEB-40: nothing is subscribed at open, and what is said has ids
    async with opened() as site:
        for offered, chosen in (((V1,), V1), (("x", V1), V1), (("x",), None)):
            async with socket_client(site, subprotocols=offered) as ws:
                assert ws.subprotocol == chosen
        async with socket_client(site, subprotocols=[V1]) as ws:
            await ws.send_message(say("unheard", '"room:lobby","id":"c1"'))
            ack = '{"type":"ack","id":"c1","result":{"n":1,"body":"unheard"},"position":null}'
            assert await ws.get_message() == ack
            for body, code in (("forbidden", "REFUSED"), ("bug", "INTERNAL_SERVER_ERROR")):
                await ws.send_message(say(body, f'null,"id":"{body}"'))
                assert f'"code":"{code}","id":"{body}"' in str(await ws.get_message())


async def test_a_command_whose_socket_was_lost_is_carried_out_once() -> None:
    # WEB-41: `client` makes a new connection the same client
    path = f"/ws?client={uuid.uuid4()}"
    slow = say("slow", 'null,"id":"c1"')
    async with opened() as site:
        async with socket_client(site, path=path, subprotocols=[V1]) as ws:
            await ws.send_message(slow)
            await until(lambda: len(site.room.keys) == 1)
        await until(lambda: len(site.endpoint) == 0)
        async with socket_client(site, path=path, subprotocols=[V1]) as ws:
            await ws.send_message(slow)
            site.room.go_on.set()
            assert '"id":"c1","result":{"n":1,"body":"slow"}' in str(await ws.get_message())
        assert site.room.n == 1


@pytest.mark.parametrize("behind", [close(1000), frame(0x1, b"x", rsv=4), b""])
async def test_a_command_in_front_of_the_end_is_carried_out(behind: bytes) -> None:
    # WEB-32, REL-31: a program that says one thing and closes, breaks off or has mistaken itself
    # is done before its socket has an actor
    said = frame(0x1, say("hello").encode())
    async with opened() as site:
        head = handshake(site)
        async with await connect(site.server) as client:
            if behind:
                # Together: so it is read before anything is done about the handshake.
                await client.send(head + said + behind)
            else:
                await client.send(head)
                await client.read_until(b"\r\n\r\n")
                await client.send(said)
                await client.stream.send_eof()
            await client.read_to_end()
        await until(lambda: site.room.n == 1)
        await until(lambda: len(site.endpoint) == 0)


async def test_a_subprotocol_counts_in_whichever_line_it_is_offered() -> None:
    # WEB-40, RFC 6455 11.3.4: a list may come in several lines, and is one
    chosen = b"sec-websocket-protocol: greenroom.v1\r\n"
    async with opened() as site:
        for offered in (["greenroom.v1", "x"], ["x", "greenroom.v1"], ["x", "", "y,greenroom.v1,"]):
            lines = [f"Sec-WebSocket-Protocol: {line}" for line in offered]
            async with await connect(site.server) as client:
                await client.send(handshake(site, *lines))
                assert chosen in await client.read_until(b"\r\n\r\n"), offered


@pytest.mark.parametrize("query", ["client=", "client=7", f"client={UUID(int=1)}&client=x"])
async def test_a_client_that_is_no_uuid_is_told_so(query: str) -> None:
    # WEB-41
    async with opened() as site:
        refused = await refusal(site, path=f"/ws?{query}")
    assert refused.status_code == 400
    assert refused.body is not None
    assert b"UUID" in refused.body


async def test_caps_answer_before_the_upgrade_and_are_freed() -> None:
    # SEC-48, WEB-47
    async with opened(socket_caps=SocketCaps(per_user=1)) as site:
        async with socket_client(site):
            refused = await refusal(site)
            assert refused.status_code == 429
            assert (b"retry-after", b"10") in refused.headers
            assert refused.body is not None
            assert b"you have 1 open sockets" in refused.body
        await until(lambda: len(site.endpoint) == 0)
        async with socket_client(site) as ws:
            await ws.send_message('{"type":"ping"}')
            assert await ws.get_message() == '{"type":"pong"}'


async def test_a_foreign_origin_is_refused() -> None:
    # DOC-4, SEC-40
    async with opened() as site:
        for origin in ("https://evil.example", "null", site.server.url + ".evil"):
            refused = await refusal(site, (b"Origin", origin.encode()))
            assert refused.status_code == 403
        async with socket_client(site, (b"Origin", site.server.url.encode())) as ws:
            await ws.send_message('{"type":"ping"}')
            assert await ws.get_message() == '{"type":"pong"}'


async def test_a_drain_closes_sockets_with_1001() -> None:
    # WEB-46, REL-20 step 5
    async with opened() as site, socket_client(site) as ws:
        await ws.send_message('{"type":"ping"}')
        await ws.get_message()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(site.server.drain, site.steps)
            assert await closed_with(ws) == 1001


async def test_a_burst_of_handshakes_does_not_pass_the_caps() -> None:
    # SEC-48: counted before the first one is accepted
    async with opened(socket_caps=SocketCaps(per_address=3)) as site:
        codes: list[int] = []

        async def connect() -> None:
            try:
                async with socket_client(site):
                    codes.append(101)
                    await until(lambda: len(codes) == 8)
            except* trio_websocket.ConnectionRejected:
                codes.append(429)

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(connect)
        assert sorted(codes) == [101] * 3 + [429] * 5


async def test_a_session_that_ends_closes_its_sockets_4401() -> None:
    # SEC-44, WEB-45, WEB-46
    async with opened() as site, socket_client(site) as ws:
        await ws.send_message('{"type":"ping"}')
        await ws.get_message()
        assert site.endpoint.close_user("nobody", CloseCode.SESSION_ENDED, "over") == 0
        assert site.endpoint.close_user("somebody", CloseCode.SESSION_ENDED, "over") == 1
        assert await closed_with(ws) == 4401


async def test_a_drain_answers_what_came_before_it_and_refuses_the_rest() -> None:
    # WEB-46, REL-20 step 3: then 1001
    async with opened() as site, socket_client(site, subprotocols=[V1]) as ws:
        await ws.send_message(say("slow", 'null,"id":"c1"'))
        await ws.send_message(say("waits behind it", 'null,"id":"c2"'))
        await until(lambda: len(site.room.keys) == 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(site.server.drain, site.steps)
            await until(lambda: site.endpoint.is_draining)
            await ws.send_message(say("too late", 'null,"id":"c3"'))
            await ws.send_message('{"type":"ping","id":"c4"}')
            # The socket's reader took them: the server has read what was sent before the pong.
            await ws.ping()
            site.room.go_on.set()
            got = [str(await ws.get_message()) for _ in range(5)]
            assert await closed_with(ws) == 1001
    assert got[0].startswith('{"type":"ack","id":"c1"')
    assert got[1].startswith('{"type":"ack","id":"c2"')
    assert '"code":"SHUTTING_DOWN","id":"c3"' in got[2]
    assert got[3:] == [
        '{"type":"pong"}',
        '{"type":"ack","id":"c4","result":null,"position":null}',
    ]
    assert site.room.n == 2
