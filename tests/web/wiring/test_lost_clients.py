"""Clients that leave in the middle of something: what they had asked for is done, or is not."""

from __future__ import annotations

import json
import socket
import struct
import uuid
from collections.abc import Mapping, Sequence
from functools import partial

import pytest
import trio
import trio.testing

from actors.chat import LOBBY, Draft, History, PostVerdict, RoomName, Viewer
from actors.chat.chat_log import HISTORY_LIMIT
from storage.memory import MemoryChatLog
from tests.journeys.visitor import Visitor
from tests.patience import PATIENCE_S, until
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from tests.web.wiring.test_open_sockets import open_socket
from web.chat import routes
from web.realtime import V1
from web.wiring.composition import LOBBY_PATH

pytestmark = pytest.mark.slow

# The store has them for as long as the test wants; what is counted is what came of each.
STEPS: Mapping[str, set[int]] = {
    "half a head": {0},
    "a head": {0},
    "half a body": {0},
    "sent": {0, 1},
    "in the store's hand": {1},
    "answered": {1},
}


class HeldLog(MemoryChatLog):
    """A log that has posts in hand until it is told to go on; it counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.hold()

    def hold(self) -> None:
        self.in_hand, self.go_on = trio.Event(), trio.Event()

    async def post_all(self, drafts: Sequence[Draft]) -> Sequence[PostVerdict]:
        self.in_hand.set()
        await self.go_on.wait()
        return await super().post_all(drafts)

    async def history(
        self,
        room: RoomName,
        viewer: Viewer,
        *,
        before: int | None = None,
        limit: int = HISTORY_LIMIT,
    ) -> History:
        self.reads += before is not None
        return await super().history(room, viewer, before=before, limit=limit)

    async def stored(self, body: str) -> int:
        said = await self.said(LOBBY, after=0)
        return sum(one.message.body == body for one in said.messages)


def _head_of(visitor: Visitor, line: str, *more: str) -> bytes:
    cookies = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    host = visitor.url.partition("//")[2]
    return "\r\n".join([line, f"Host: {host}", f"Cookie: {cookies}", *more, "", ""]).encode()


def _post(visitor: Visitor, text: str, client_id: str) -> tuple[bytes, bytes]:
    """Give the head and the body of a post, as the page sends it."""
    values = {"chatDemoDraftBody": text, "demoClientId": client_id, "sseTabId": visitor.tab}
    body = json.dumps(values).encode()
    head = _head_of(
        visitor,
        "POST /demo/chat/messages/demo HTTP/1.1",
        "Content-Type: application/json",
        "Datastar-Request: true",
        "Sec-Fetch-Site: same-origin",
        f"Content-Length: {len(body)}",
    )
    return head, body


def _leave(stream: trio.SocketStream, ending: str) -> None:
    if ending == "reset":
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


async def _leave_a_post(
    site: WholeSite, log: HeldLog, visitor: Visitor, step: str, ending: str, client_id: str
) -> None:
    """Begin a post, leave at the step, and wait until nobody works for it any more."""
    head, body = _post(visitor, step, client_id)
    unsent = {"half a head": head[:100], "a head": head, "half a body": head + body[:20]}
    log.hold()
    stream = await trio.open_tcp_stream("127.0.0.1", site.port)
    await stream.send_all(unsent.get(step, head + body))
    if step in unsent:
        await until(lambda: len(site.servers[0].connections) == 1)
        await trio.testing.wait_all_tasks_blocked(0.01)
    elif step == "in the store's hand":
        await log.in_hand.wait()
    elif step == "answered":
        log.go_on.set()
        await stream.receive_some(1)
    _leave(stream, ending)
    await until(lambda: not site.servers[0].connections)
    log.go_on.set()
    await trio.testing.wait_all_tasks_blocked(0.01)


@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_a_post_whose_client_left_is_stored_once_or_not_at_all(ending: str) -> None:
    # REL-31: at each step; and who comes back and sends it again finds it there once
    log = HeldLog()
    async with open_whole_site(log=log) as site:
        visitor = site.visitor()
        await in_thread(visitor.open_lab)
        await until(lambda: not site.servers[0].connections)
        for step, counts in STEPS.items():
            client_id = str(uuid.uuid4())
            await _leave_a_post(site, log, visitor, step, ending, client_id)
            assert await log.stored(step) in counts, step
            answer = await in_thread(partial(visitor.post, step, client_id))
            assert (answer.status, await log.stored(step)) == (202, 1), step


async def test_a_command_whose_socket_went_completes() -> None:
    # REL-31: and is there once when the same program says it again
    log, body = HeldLog(), "said by socket"
    post = json.dumps(
        {
            "type": "command",
            "action": {"PostMessage": {"body": body, "client_id": "p1"}},
            "topic": "room:lobby",
            "id": "c1",
        }
    )
    path = f"/ws?client={uuid.uuid4()}"
    async with open_whole_site(log=log) as site:
        async with open_socket(site, path, [V1]) as first:
            await first.send_message(post)
            await log.in_hand.wait()
        await until(lambda: not site.servers[0].connections)
        assert await log.stored(body) == 0
        log.go_on.set()
        async with open_socket(site, path, [V1]) as again:
            await again.send_message(post)
            assert '"id":"c1"' in str(await again.get_message())
        assert await log.stored(body) == 1


@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_a_queued_read_of_who_left_is_withdrawn(
    ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # REL-31: the room, busy with a post, never hears of it
    # It is given up because its reader leaves, and not because the machine is slow.
    monkeypatch.setattr(routes, "PAGE_READ_S_MAX", PATIENCE_S)
    log = HeldLog()
    async with open_whole_site(log=log) as site, trio.open_nursery() as nursery:
        writer, reader = site.visitor(), site.visitor()
        for visitor in (writer, reader):
            await in_thread(visitor.open_lab)
        room = next(c for c in site.system.cells() if c.path == LOBBY_PATH).ref
        before = site.system.stats(room).withdrawn
        nursery.start_soon(in_thread, partial(writer.post, "held"))
        await log.in_hand.wait()
        stream = await trio.open_tcp_stream("127.0.0.1", site.port)
        # Older messages, which the room does not keep.
        await stream.send_all(_head_of(reader, "GET /lab?before=9 HTTP/1.1"))
        await until(lambda: site.system.stats(room).queued == 1)
        _leave(stream, ending)
        await until(lambda: len(site.servers[0].connections) == 1)
        reads = log.reads
        log.go_on.set()
        await until(lambda: not site.servers[0].connections)
        assert site.system.stats(room).withdrawn == before + 1
        assert log.reads == reads
