"""Serving an ASGI application: listeners, connections, and a drain that always ends.

Rule 1: every connection is in `Server.connections` from accept to the last byte.
Rule 2: after `drain`, each step has a limit, so leaving takes seconds whatever clients do.

`serve` runs until someone drains the server or cancels it. One connection is
`connection/transport.py`, its limits `connection/settings.py`. Between the listeners and the
connections a drain runs the `DrainStep`s that the composition root gives: tell the streams, let
commands finish, close streams and sockets.
"""

from __future__ import annotations

import logging
import math
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, LifespanState

from actors.runtime import Log
from web.server.connection.http.exchange import Watchman
from web.server.connection.http.shedding import Shedder
from web.server.connection.listening import accept_forever, open_listeners
from web.server.connection.overload import OVERLOAD_KEY, Overload, OverloadSettings
from web.server.connection.pipe import STALLED
from web.server.connection.settings import HEAD_BYTES_MAX, SURPLUS_KEY, Phase, TransportSettings
from web.server.connection.transport import RECEIVE_BYTES, ByteStream, Transport

log = Log(__name__)

# For what is written when all is done; whatever is left then is reset, which takes one turn.
CLOSE_S_MAX = 1.0
# REL-70: a page needs six of them for some seconds, so this is some thousand visitors who load one
# at the same moment.
CONNECTIONS_MAX = 10_000
# What is accepted beyond, to be answered a probe or told to come again; the rest is not.
SURPLUS_MAX = 100
_FULL_TOLD_EVERY_S = 10.0
# REL-20, step 5: closing thousands of sockets in one turn would stall the loop.
CLOSE_BATCH = 200
CLOSE_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Holds where to listen and the limits of each connection.

    No more than `connections_max` may be open beside the `streams_open`, which have a limit of
    their own. A hundred more are answered one request each: a probe, or 503 with `Retry-After`.
    Those behind them are closed at once.
    """

    host: str = "127.0.0.1"
    port: int = 3000
    transport: TransportSettings = field(default_factory=TransportSettings)
    tls: ssl.SSLContext | None = None
    connections_max: int = CONNECTIONS_MAX
    streams_open: Callable[[], int] = field(default=lambda: 0)
    overload: OverloadSettings = field(default_factory=OverloadSettings)
    # Told of each connection that is cut off because its reader took nothing.
    on_stalled: Callable[[], None] = field(default=lambda: None)


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """Counts connections: open now, accepted since the start, cut off for not reading, too many."""

    open: int
    accepted: int
    stalled: int
    refused: int
    is_draining: bool


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class DrainStep:
    """Holds one step of a shutdown: cut after `limit_s`, the next one follows all the same.

    When its time is over `loses_work` is asked whether that is a loss: only then is it named cut.
    """

    name: str
    limit_s: float
    run: Callable[[], Awaitable[None]]
    loses_work: Callable[[], bool] = _always
    # What of it is left, for its line in the log; None where that is the connections.
    left: Callable[[], int] | None = None


@dataclass(frozen=True, slots=True)
class DrainResult:
    """Tells what a drain did: seconds for each step, and the names of steps that were cut."""

    seconds: tuple[tuple[str, float], ...]
    cut: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Tell whether every step ended by itself."""
        return not self.cut


class Server:
    """A running server: where it listens, who is connected, and how to stop it.

    Given by `serve` through its task status::

        server = await nursery.start(partial(serve, app, settings))
        print(server.url)
        result = await server.drain(steps)
    """

    def __init__(
        self,
        addresses: Sequence[tuple[str, int]],
        overload: Overload,
        *,
        is_tls: bool,
        on_stalled: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_stalled = on_stalled
        self.addresses = tuple(addresses)
        self.overload = overload
        self.connections: set[Transport] = set()
        self.draining = trio.Event()
        self._scheme = "https" if is_tls else "http"
        self._listening = trio.CancelScope()
        self._drained = trio.Event()
        self._context = WorkerContext(None)
        self._watchman = Watchman()
        self._shedder = Shedder(overload, receive_bytes=RECEIVE_BYTES)
        self._accepted = 0
        self._stalled = 0
        self._refused = 0
        self._full_told_at = -math.inf
        self._empty = trio.Event()

    def __repr__(self) -> str:
        return f"<Server {self.url} connections={len(self.connections)}>"

    @property
    def port(self) -> int:
        """Tell the port really listened on, also when 0 was asked for."""
        return self.addresses[0][1]

    @property
    def url(self) -> str:
        """Tell the address a browser may open."""
        host, port = self.addresses[0]
        shown = f"[{host}]" if ":" in host else host
        return f"{self._scheme}://{shown}:{port}"

    @property
    def is_draining(self) -> bool:
        """Tell whether the server has begun to stop; `/ready` answers 503 then."""
        return self.draining.is_set()

    def statistics(self) -> ServerStatistics:
        """Call this for the counts the health page and metrics show."""
        return ServerStatistics(
            len(self.connections), self._accepted, self._stalled, self._refused, self.is_draining
        )

    async def drain(self, steps: Sequence[DrainStep] = ()) -> DrainResult:
        """Call this once to stop: listeners, then `steps` in order, then every connection.

        Returns when no connection is left; `serve` ends after that. Takes at most the sum of
        the steps' limits and one second (REL-21).
        """
        # The order is the point (REL-20). Listeners first, so that nobody new arrives to be cut;
        # `steps` next, while every connection still stands, because a stream is told through its
        # connection and a command answered on it; connections last. The reset behind them is for
        # whoever reads slower than the limit: its bytes are lost, the process is not held. That is
        # no cut: nothing of ours was left undone (REL-21).
        first = DrainStep("listeners", CLOSE_S_MAX, self._stop_listening)
        last = DrainStep("connections", CLOSE_S_MAX, self._close_connections, self._is_work_left)
        result = await run_steps([first, *steps, last], lambda: len(self.connections))
        for transport in tuple(self.connections):
            transport.reset("the server is stopping" if transport.pipe.is_idle else STALLED)
        # A reset connection still has a task that must see its cancellation; one that will not
        # end is left to `serve`, whose nursery is cancelled now.
        with trio.move_on_after(CLOSE_S_MAX):
            await self._empty.wait()
        self._drained.set()
        return result

    async def _stop_listening(self) -> None:
        """Refuse new connections and end those at rest; the others hear `connection: close`."""
        self.draining.set()
        self._listening.cancel()
        # Set before any connection is touched: from here on hypercorn closes after an answer
        # instead of waiting for the next request, and `Http1` says so in its head.
        await self._context.terminated.set()
        # With nobody connected no connection will ever end and say so.
        self._note_empty()
        for transport in tuple(self.connections):
            transport.begin_drain()

    async def _close_connections(self) -> None:
        """Wait for answers in flight; drop what only waits for its client."""
        for transport in tuple(self.connections):
            # The steps had their time: what is not being answered now is a client that owes us
            # the rest of a request, or lingers.
            if transport.phase is not Phase.ANSWERING:
                transport.reset("the server is stopping")
        await self._empty.wait()

    def _is_work_left(self) -> bool:
        """Tell whether an answer is not done yet, on a connection whose client would take it."""
        return any(not transport.waits_for_client for transport in self.connections)

    def _note_empty(self) -> None:
        if self.is_draining and not self.connections:
            self._empty.set()

    async def _serve_one(self, transport: Transport) -> None:
        try:
            await transport.run()
        except Exception:
            # A bug in one connection must not end the others; the log has its traceback.
            log.exception("server.connection_failed")
        finally:
            self.connections.discard(transport)
            self._note_empty()

    def _note_full(self) -> None:
        """Count a connection that is one too many; the log hears of it every 10 s at most."""
        self._refused += 1
        now = trio.current_time()
        if now - self._full_told_at >= _FULL_TOLD_EVERY_S:
            self._full_told_at = now
            log.warning(
                "server.connections_full", open=len(self.connections), refused=self._refused
            )

    def _count_cut(self, transport: Transport, reason: str) -> None:
        if reason == STALLED:
            self._stalled += 1
            self._on_stalled()
            log.info("server.reader_cut", phase=transport.phase.value)


def hypercorn_config(settings: TransportSettings) -> Config:
    """Call this to get hypercorn's configuration with everything we take over switched off."""
    config = Config()
    config.include_server_header = False
    config.h11_max_incomplete_size = HEAD_BYTES_MAX
    # A net: our own count is reached before.
    config.websocket_max_message_size = settings.message_bytes_max
    config.keep_alive_max_requests = settings.requests_max
    config.accesslog = None
    config.errorlog = logging.getLogger("greenroom.server")
    return config


async def serve(
    app: ASGIFramework,
    settings: ServerSettings,
    *,
    sockets: Sequence[socket.socket] | None = None,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call this in a nursery to serve `app` until `Server.drain` was called, or cancelled.

    `sockets` are listening sockets to use instead of `settings.host` and `.port`; they are
    closed by the drain. Raises `PortBusy` or `PortForbidden` before anything is started.
    """
    listening = open_listeners(settings.host, settings.port) if sockets is None else sockets
    config = hypercorn_config(settings.transport)
    overload = Overload(settings.overload)
    state: LifespanState = {OVERLOAD_KEY: overload}
    wrapped = ASGIWrapper(app)
    lifespan = Lifespan(wrapped, config, state)
    addresses = [cast("tuple[str, int]", found.getsockname()[:2]) for found in listening]
    server = Server(
        addresses, overload, is_tls=settings.tls is not None, on_stalled=settings.on_stalled
    )
    trio.lowlevel.add_instrument(overload)
    try:
        # The lifespan stands around the connections: the application starts before the first
        # request, and its shutdown begins when the last connection is gone.
        async with trio.open_nursery() as lifespan_nursery:
            await lifespan_nursery.start(lifespan.handle_lifespan)
            await lifespan.wait_for_startup()
            make = partial(
                Transport,
                wrapped,
                config,
                server._context,
                state=state,
                plain_app=app,
                watchman=server._watchman,
                shedder=server._shedder,
                settings=replace(settings.transport, is_tls=settings.tls is not None),
                on_cut=server._count_cut,
            )
            await _serve_until_drained(server, listening, make, settings, task_status)
            await lifespan.wait_for_shutdown()
            lifespan_nursery.cancel_scope.cancel()
    finally:
        trio.lowlevel.remove_instrument(overload)
        for found in listening:
            found.close()


async def _serve_until_drained(
    server: Server,
    listening: Sequence[socket.socket],
    make: partial[Transport],
    settings: ServerSettings,
    task_status: trio.TaskStatus[Server],
) -> None:
    make_surplus = partial(
        make,
        state={**make.keywords["state"], SURPLUS_KEY: True},
        settings=replace(make.keywords["settings"], requests_max=1),
    )
    async with trio.open_nursery() as nursery:

        def accept(stream: trio.SocketStream) -> None:
            plain = len(server.connections) - settings.streams_open()
            is_surplus = plain >= settings.connections_max
            if is_surplus:
                server._note_full()
            if plain >= settings.connections_max + SURPLUS_MAX:
                stream.socket.close()
                return
            chosen: ByteStream = stream
            if settings.tls is not None:
                chosen = trio.SSLStream(
                    stream, settings.tls, server_side=True, https_compatible=True
                )
            transport = (make_surplus if is_surplus else make)(stream=chosen)
            # No await between accept and here (Rule 1): a drain sees every connection there is.
            server.connections.add(transport)
            server._accepted += 1
            nursery.start_soon(server._serve_one, transport)

        nursery.start_soon(server._watchman.run)
        nursery.start_soon(server._shedder.run)
        task_status.started(server)
        with server._listening:
            async with trio.open_nursery() as accepting:
                for found in listening:
                    listener = trio.SocketListener(trio.socket.from_stdlib_socket(found))
                    accepting.start_soon(
                        partial(
                            accept_forever,
                            listener,
                            accept,
                            tcp_user_timeout_s=settings.transport.tcp_user_timeout_s,
                        )
                    )
        # Closed at once, not at the end: what connects during the drain is refused by the kernel
        # instead of waiting in a backlog that nobody reads.
        for found in listening:
            found.close()
        await server._drained.wait()
        nursery.cancel_scope.cancel()


async def run_steps(steps: Sequence[DrainStep], left: Callable[[], int]) -> DrainResult:
    """Call this to run `steps` in order, one log line each, with what `left` says then (REL-20).

    A step over its time is cancelled, and named in the result if that loses work; a step that
    raises is a bug and ends the drain.
    """
    seconds: list[tuple[str, float]] = []
    cut: list[str] = []
    for step in steps:
        began = trio.current_time()
        with trio.move_on_after(step.limit_s) as scope:
            await step.run()
        took = trio.current_time() - began
        seconds.append((step.name, took))
        was_cut = scope.cancelled_caught and step.loses_work()
        if was_cut:
            cut.append(step.name)
        log.info(
            "server.drain_step",
            step=step.name,
            seconds=round(took, 3),
            was_cut=was_cut,
            left=(step.left or left)(),
        )
    return DrainResult(tuple(seconds), tuple(cut))
