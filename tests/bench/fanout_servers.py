"""The servers of bench_fanout: ours, and the stock framework ours is built on.

    python -m tests.bench.fanout_servers ours|stock

Prints its port, reads a number from stdin, sends that many events to every stream and ends.
"""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import AsyncIterator
from functools import partial

import hypercorn.trio
import structlog
import trio
from hypercorn.config import Config
from quart import Response, request
from quart_trio import QuartTrio

from actors.runtime import Secret, open_actors
from web.realtime import (
    Hub,
    Place,
    Stream,
    StreamActor,
    StreamCaps,
    StreamKey,
    Streams,
    encode_event,
    open_stream,
    stream_response,
)
from web.server import (
    Checks,
    DrainStep,
    EdgeSettings,
    ErrorTable,
    Frame,
    KeyRing,
    ServerSettings,
    WebApp,
    open_listeners,
    serve,
)

# A rendered chat message is about this long.
BODY = "x" * 200
# Far below the 64 chat events a stream may wait with: nothing is dropped in this benchmark.
AHEAD_MAX = 16


async def asked() -> int:
    return int(await trio.to_thread.run_sync(sys.stdin.readline))


class Numbers:
    """Events are numbers here; every viewer sees the same."""

    def encode(self, message: object, viewer: str, place: Place, /) -> Frame:
        return Frame(encode_event(BODY, event_id=str(message)))

    def position(self, message: object) -> int:
        assert isinstance(message, int)
        return message


async def ours() -> None:
    async with open_actors() as system, trio.open_nursery() as nursery:
        topics = system.topics
        hub: Hub[object, str] = Hub(
            Numbers(), subscribe=topics.subscribe, unsubscribe=topics.unsubscribe
        )

        async def start(stream: Stream) -> None:
            await system.start(StreamActor, stream, lambda _: None)

        streams = Streams(start_actor=start, caps=StreamCaps(per_session=5000, per_address=5000))
        sockets = open_listeners("127.0.0.1", 0)
        port = sockets[0].getsockname()[1]
        checks = Checks(own_origin=f"http://127.0.0.1:{port}")
        app = WebApp(
            __name__, EdgeSettings(checks=checks, ring=KeyRing(Secret(b"k" * 64))), ErrorTable()
        )
        session = uuid.uuid4()

        @app.get("/events")
        async def events() -> Response:
            key = StreamKey(session, request.args["tab"])
            stream = await open_stream(streams, key, request.scope)
            membership = hub.join("numbers", "all", stream.put_chat)
            stream.when_closed(lambda _: membership.leave())
            return stream_response(stream, request.scope)

        server = await nursery.start(partial(serve, app, ServerSettings(), sockets=sockets))
        print(port, flush=True)
        count = await asked()
        everybody = streams.all()
        for n in range(count):
            topics.publish("numbers", n)
            await trio.lowlevel.checkpoint()
            if n % AHEAD_MAX == 0:
                while any(stream.statistics().backlog.chat_events for stream in everybody):  # noqa: ASYNC110 - nobody tells when a reader caught up
                    await trio.sleep(0.001)
        await server.drain([DrainStep("close", 5, streams.close_all)])


async def stock() -> None:
    app = QuartTrio(__name__)
    channels: list[trio.MemorySendChannel[bytes]] = []

    @app.get("/events")
    async def events() -> Response:
        send, receive = trio.open_memory_channel[bytes](AHEAD_MAX)
        channels.append(send)

        async def body() -> AsyncIterator[bytes]:
            yield b": open\n\n"
            async for event in receive:
                yield event

        response = Response(body(), headers={"content-type": "text/event-stream"})
        response.timeout = None
        return response

    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    done = trio.Event()
    async with trio.open_nursery() as nursery:
        serving = partial(hypercorn.trio.serve, app, config, shutdown_trigger=done.wait)
        binds = await nursery.start(serving)
        print(binds[0].rpartition(":")[2], flush=True)
        count = await asked()
        for n in range(count):
            event = encode_event(BODY, event_id=str(n))
            for channel in channels:
                await channel.send(event)
        for channel in channels:
            channel.close()
        await trio.sleep(1)
        done.set()


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    trio.run(ours if sys.argv[1] == "ours" else stock)
