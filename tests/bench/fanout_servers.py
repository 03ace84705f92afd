"""The servers of bench_fanout: ours without the site, and the Python peers.

    python -m tests.bench.fanout_servers ours|stock|fastapi

Prints its port. Each line `COUNT TOGETHER SIZE` on standard input is a run: COUNT events with
bodies of SIZE characters to everybody, TOGETHER of them in one turn of the loop; then a line with
the processor time it took is printed. The end of the input ends the process.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import resource
import sys
import uuid
from collections.abc import AsyncIterator
from functools import partial
from typing import Protocol

import hypercorn.trio
import structlog
import trio
from hypercorn.config import Config
from quart import Response, request
from quart_trio import QuartTrio

from actors.runtime import Secret, open_actors
from tests.bench.fanout_load import numbered
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
    EdgeSettings,
    ErrorTable,
    Frame,
    KeyRing,
    ServerSettings,
    WebApp,
    open_listeners,
    serve,
)

# Far below the 64 chat events a stream may wait with: nothing is dropped in this benchmark.
AHEAD_MAX = 16


def used_s() -> float:
    """Tell the processor time of the whole process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def bodies(count: int, size: int) -> list[str]:
    """Make the bodies of a run."""
    return [numbered(n, size, is_last=n == count) for n in range(1, count + 1)]


async def asked() -> tuple[int, int, int] | None:
    """Wait for the next run that is asked for; None at the end."""
    line = await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
    if not line:
        return None
    count, together, size = map(int, line.split())
    return count, together, size


def tell(used: float) -> None:
    """Tell that a run is over, and what it took."""
    print(json.dumps({"cpu": used}), flush=True)


class Bodies:
    """Events are numbered texts here; every viewer sees the same."""

    def encode(self, message: object, viewer: str, place: Place, /) -> Frame:
        assert isinstance(message, str)
        return Frame(encode_event(message, event_id=str(place.seq)))

    def position(self, message: object) -> int:
        return 0


async def ours() -> None:
    async with open_actors() as system, trio.open_nursery() as nursery:
        topics = system.topics
        hub: Hub[object, str] = Hub(
            Bodies(), subscribe=topics.subscribe, unsubscribe=topics.unsubscribe
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
            return stream_response(stream, request.scope, first=b": open\n\n")

        await nursery.start(partial(serve, app, ServerSettings(), sockets=sockets))
        print(port, flush=True)
        while (run := await asked()) is not None:
            count, together, size = run
            used, everybody = used_s(), streams.all()
            for n, body in enumerate(bodies(count, size), 1):
                topics.publish("numbers", body)
                if n % together == 0:
                    await trio.lowlevel.checkpoint()
                if n % AHEAD_MAX == 0:
                    await caught_up(everybody)
            await caught_up(everybody)
            tell(used_s() - used)
        nursery.cancel_scope.cancel()


async def caught_up(streams: list[Stream]) -> None:
    """Wait until nothing waits for any of these."""
    while any(stream.is_behind for stream in streams):  # noqa: ASYNC110 - nobody tells when a reader caught up
        await trio.sleep(0.001)


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
        while (run := await asked()) is not None:
            used = used_s()
            for n, body in enumerate(bodies(run[0], run[2])):
                event = encode_event(body, event_id=str(n))
                for channel in channels:
                    await channel.send(event)
            while any(one.statistics().current_buffer_used for one in channels):  # noqa: ASYNC110 - nobody tells when a reader caught up
                await trio.sleep(0.001)
            tell(used_s() - used)
            for channel in channels:
                channel.close()
            channels.clear()
        nursery.cancel_scope.cancel()


def fastapi() -> None:
    """Serve by uvicorn with uvloop and httptools, as it is deployed; no word a request."""
    uvicorn = importlib.import_module("uvicorn")
    queues: set[asyncio.Queue[str]] = set()
    app = fastapi_app(queues)

    async def main() -> None:
        config = uvicorn.Config(
            app, port=0, loop="uvloop", http="httptools", log_level="error", access_log=False
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - it has no event of it
            await asyncio.sleep(0.01)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            await asyncio_run(queues, *map(int, line.split()))
        server.should_exit = server.force_exit = True
        await serving

    importlib.import_module("uvloop").run(main())


async def emptied(queues: set[asyncio.Queue[str]]) -> None:
    while any(queue.qsize() for queue in queues):  # noqa: ASYNC110 - nobody tells when a reader caught up
        await asyncio.sleep(0.001)


async def asyncio_run(
    queues: set[asyncio.Queue[str]], count: int, together: int, size: int
) -> None:
    used = used_s()
    for n, body in enumerate(bodies(count, size), 1):
        for queue in queues:
            queue.put_nowait(body)
        if n % together == 0:
            await asyncio.sleep(0)
        if n % AHEAD_MAX == 0:
            await emptied(queues)
    await emptied(queues)
    tell(used_s() - used)


class Talking(Protocol):
    """What is used of FastAPI's WebSocket, which is not installed where types are checked."""

    async def accept(self) -> None: ...

    async def send_text(self, data: str) -> None: ...

    async def receive_text(self) -> str: ...


def fastapi_app(queues: set[asyncio.Queue[str]]) -> object:
    """Make the application: a queue a client, and a task that waits for it, as its users do."""
    framework = importlib.import_module("fastapi")
    responses = importlib.import_module("fastapi.responses")
    app = framework.FastAPI()

    async def events() -> object:
        queue: asyncio.Queue[str] = asyncio.Queue(4 * AHEAD_MAX)
        queues.add(queue)

        async def body() -> AsyncIterator[str]:
            try:
                yield ": open\n\n"
                n = 0
                while True:
                    n += 1
                    yield f"id: {n}\ndata: {await queue.get()}\n\n"
            finally:
                queues.discard(queue)

        return responses.StreamingResponse(body(), media_type="text/event-stream")

    async def talk(socket: Talking) -> None:
        queue: asyncio.Queue[str] = asyncio.Queue(4 * AHEAD_MAX)
        await socket.accept()
        queues.add(queue)
        await socket.send_text("open now")

        async def send() -> None:
            while True:
                await socket.send_text(await queue.get())

        sending = asyncio.create_task(send())
        try:
            while True:
                await socket.receive_text()
        except framework.WebSocketDisconnect:
            pass
        finally:
            queues.discard(queue)
            sending.cancel()

    talk.__annotations__["socket"] = framework.WebSocket
    app.add_api_route("/events", events, response_model=None)
    app.add_api_websocket_route("/ws", talk)
    return app


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    match sys.argv[1]:
        case "ours":
            trio.run(ours)
        case "stock":
            trio.run(stock)
        case "fastapi":
            fastapi()
