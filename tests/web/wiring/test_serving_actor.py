"""The server as an actor: it serves from its start on, and drains in order at its stop."""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable, Callable

import pytest
import trio
from quart import Response

from actors.runtime import (
    Actor,
    Crashed,
    Secret,
    StartError,
    System,
    current_context,
    message,
    open_actors,
)
from tests.patience import PATIENCE_S
from web.routing.errors import error_table
from web.server import (
    Checks,
    DrainResult,
    DrainStep,
    EdgeSettings,
    KeyRing,
    PortBusy,
    Server,
    ServerSettings,
    WebApp,
)
from web.wiring.stopping import Served, ServingActor


@message
class Note:
    """Somebody asked for the page that tells an actor."""


class Noting(Actor[Note]):
    """Keeps the correlation ids of what it was told."""

    def __init__(self, ids: list[str]) -> None:
        self.ids = ids

    def on_note(self, message: Note) -> None:
        context = current_context()
        assert context is not None
        self.ids.append(context.correlation_id)


class Kit:
    """Composes a small application; notes what happens in which order."""

    def __init__(self) -> None:
        self.port = 0
        self.happened: list[str] = []
        self.correlation_ids: list[str] = []
        self.results: list[DrainResult] = []
        self.error: Exception | None = None

    def actor(self) -> ServingActor:
        return ServingActor(
            "127.0.0.1", lambda: self.port, self.compose, self.started, self.results.append
        )

    def started(self, server: Server) -> None:
        self.port = server.port
        self.happened.append("started")

    def compose(self, system: System, port: int) -> Served:
        if self.error is not None:
            raise self.error
        checks = Checks(own_origin=f"http://127.0.0.1:{port}")
        app = WebApp(
            __name__, EdgeSettings(checks=checks, ring=KeyRing(Secret(b"k" * 64))), error_table()
        )

        @app.get("/")
        async def home() -> Response:
            return Response(b"here")

        @app.get("/tells")
        async def tells() -> Response:
            (await system.start(Noting, self.correlation_ids)).tell(Note())
            return Response(b"told")

        steps = tuple(DrainStep(name, PATIENCE_S, self.noting(name)) for name in ("tell", "finish"))
        return Served(app, ServerSettings(host="127.0.0.1", port=port), steps)

    def noting(self, name: str) -> Callable[[], Awaitable[None]]:
        async def note() -> None:
            self.happened.append(name)

        return note


async def get(port: int, path: bytes = b"/") -> bytes:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        host = f"host: 127.0.0.1:{port}".encode()
        await stream.send_all(
            b"GET " + path + b" HTTP/1.1\r\n" + host + b"\r\nconnection: close\r\n\r\n"
        )
        received = b""
        with trio.fail_after(PATIENCE_S):
            async for chunk in stream:
                received += chunk
    return received


async def is_listening(port: int) -> bool:
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError:
        return False
    await stream.aclose()
    return True


async def test_it_serves_then_drains_in_order() -> None:  # SITE-185
    kit = Kit()
    async with open_actors() as system:
        ref = await system.start(kit.actor)
        assert (await get(kit.port)).endswith(b"here")
        await ref.stop()
        assert kit.happened == ["started", "tell", "finish"]
        (result,) = kit.results
        names = [name for name, _ in result.seconds]
        assert names == ["listeners", "tell", "finish", "connections"]
        assert not await is_listening(kit.port)


async def test_what_a_request_leads_to_carries_its_id() -> None:  # SITE-120
    """Also here, where the server itself is an actor, and has a context of its own."""
    kit = Kit()
    async with open_actors() as system:
        await system.start(kit.actor)
        answers = [await get(kit.port, b"/tells") for _ in range(2)]
        with trio.fail_after(PATIENCE_S):
            while len(kit.correlation_ids) < 2:
                await trio.lowlevel.checkpoint()
    ids = [re.findall(rb"x-request-id: ([0-9a-f-]{36})", answer)[0].decode() for answer in answers]
    assert ids[0] != ids[1]
    assert kit.correlation_ids == ids


async def test_the_next_one_listens_on_the_same_port() -> None:
    kit = Kit()
    async with open_actors() as system:
        first = await system.start(kit.actor)
        port = kit.port
        await first.stop()
        await system.start(kit.actor)
        assert kit.port == port
        assert (await get(port)).endswith(b"here")


async def test_a_busy_port_is_why_it_does_not_start() -> None:  # REL-25
    kit = Kit()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        kit.port = taken.getsockname()[1]
        async with open_actors() as system:
            with pytest.raises(StartError) as raised:
                await system.start(kit.actor)
    assert isinstance(raised.value.cause, PortBusy)
    assert kit.happened == []


async def test_a_bug_in_composing_leaves_no_socket_open() -> None:  # REL-25
    kit = Kit()
    kit.error = ValueError("a bug")
    async with open_actors() as system:
        with pytest.raises(StartError):
            await system.start(kit.actor)
    # A listener left open would be a ResourceWarning, which is an error here.
    assert kit.results == []


async def test_a_server_that_was_killed_frees_its_port() -> None:
    kit = Kit()
    async with open_actors() as system:
        ref = await system.start(kit.actor)
        ref.kill()
        exit_ = await system.wait_down(ref, final=True)
        assert not isinstance(exit_, Crashed)
        await system.start(kit.actor)
        assert (await get(kit.port)).endswith(b"here")
