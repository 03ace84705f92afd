"""The servers of bench_http, one a process.

    python -m tests.bench.http_servers KIND

Prints its port, and ends when its standard input does. Kinds: `raw` and `raw-library` are an ASGI
application of two bytes on our server, by either road; `route` and `health` a small route behind
the edge; `bare` the same in quart-trio on hypercorn, and `fastapi` in FastAPI on uvicorn with
uvloop and httptools, each as its users run it, but without a log of requests.
"""

from __future__ import annotations

import importlib
import socket
import sys
import threading
from functools import partial

import hypercorn.trio
import trio
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope
from quart import Response
from quart_trio import QuartTrio

from actors.runtime import Secret
from web.server import (
    Checks,
    EdgeSettings,
    ErrorTable,
    KeyRing,
    ServerSettings,
    TransportSettings,
    WebApp,
    open_listeners,
    ready_answer,
    serve,
)

BODY = b"OK"


async def raw(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """Answer two bytes to everything."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY, "more_body": False})


def edged(port: int) -> WebApp:
    """Make an application with one small route behind the edge."""
    checks = Checks(own_origin=f"http://127.0.0.1:{port}")
    health = {"/health": ready_answer("text/plain", BODY)}
    app = WebApp(
        __name__,
        EdgeSettings(checks=checks, ring=KeyRing(Secret(b"k" * 64))),
        ErrorTable(),
        ready_answer=health.get,
    )

    @app.get("/")
    async def route() -> Response:
        return Response(BODY, content_type="text/plain")

    return app


def bare() -> QuartTrio:
    """Make the same application without us."""
    app = QuartTrio(__name__)

    @app.get("/")
    async def route() -> Response:
        return Response(BODY, content_type="text/plain")

    return app


def fastapi() -> None:
    """Serve the same from FastAPI until standard input ends."""
    framework = importlib.import_module("fastapi")
    answers = importlib.import_module("fastapi.responses")
    uvicorn = importlib.import_module("uvicorn")
    app = framework.FastAPI()

    async def route() -> object:
        return answers.PlainTextResponse(BODY)

    app.add_api_route("/", route, methods=["GET"], response_model=None)
    (listener,) = open_listeners("127.0.0.1", 0)
    config = uvicorn.Config(app, log_level="error", access_log=False, loop="uvloop")
    server = uvicorn.Server(config)

    def end() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=end, daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    server.run(sockets=[listener])


async def run(kind: str) -> None:
    """Serve until standard input ends."""
    (listener,) = open_listeners("127.0.0.1", 0)
    port = listener.getsockname()[1]
    async with trio.open_nursery() as nursery:
        if kind == "bare":
            nursery.start_soon(_serve_bare, listener)
        else:
            app: ASGIFramework = raw if kind.startswith("raw") else edged(port)
            transport = TransportSettings(uses_library=kind.endswith("library"))
            settings = ServerSettings(transport=transport)
            await nursery.start(partial(serve, app, settings, sockets=[listener]))
        print(port, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


async def _serve_bare(listener: socket.socket) -> None:
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.errorlog = None
    await hypercorn.trio.serve(bare(), config)


if __name__ == "__main__":
    if sys.argv[1] == "fastapi":
        fastapi()
    else:
        trio.run(run, sys.argv[1])
