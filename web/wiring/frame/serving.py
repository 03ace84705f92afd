"""What every site has between its actors and the network, ours and one's own.

Origins and hosts by the settings, the limits at the edge, the order of a drain, and the children
of the tree that serve: the database first, the server last.
"""

import re
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

import trio

from actors.runtime import AnyActor
from supervision import Backoff, ChildSpec, Dynamic, DynamicFlags, Flags, Plan
from web.realtime import HeartbeatActor, StreamActor, Streams
from web.routing import paths
from web.server import (
    REQUEST_S,
    Checks,
    DrainStep,
    EdgeSettings,
    KeyRing,
    OverloadSettings,
    ServerSettings,
    TransportSettings,
    WebApp,
)
from web.server.serving import CLOSE_S_MAX as SERVER_CLOSE_S_MAX
from web.settings import KEPT_OF_PAGES, Compression, Settings
from web.wiring.frame.finding import SOCKETS, STREAMS
from web.wiring.stopping import Served

P = ParamSpec("P")
R = TypeVar("R")

# Of the whole budget: telling and closing take little, commands get the middle, so long at least.
TELL_S_MAX = 0.5
COMMANDS_S_MIN = 4.0
# What is on its way to others has what commands leave: their relay waits for it once more when it
# stops, and what is cut there is sent by the next process.
SENDING_S_MIN, SENDING_S_MAX = 0.5, 2.0
CLOSE_S_MAX = 1.0
# A command is answered within the time of a request, whatever becomes of it, and a moment later
# nothing is left of it: who gives a stop more time than all that has none of them cut.
COMMANDS_S_MAX = REQUEST_S + 1.0
# Headroom over the caps of the registries, which refuse first and say why.
CONNECTIONS_MAX = 11_000
# The listeners first, the connections last; streams are told, then they and sockets are closed.
_OTHER_STEPS_S = 2 * SERVER_CLOSE_S_MAX + TELL_S_MAX + 2 * CLOSE_S_MAX
# What the rest of the tree, the pool and the embedded server need of the drain budget.
AFTER_SERVER_S = 3.0
# A feed that fails each time it looks is tried again for as long as the site runs.
FEED_BACKOFF = Backoff(first=0.2, max=5.0)
# After these waits one feed fails at most seven times in ten seconds; beyond it somebody kills it.
FEED_RESTARTS_MAX = 10
FEED_PERIOD_S = 10.0


class Sockets(Protocol):
    """What a drain needs of a socket endpoint."""

    def __len__(self) -> int:
        """See `SocketEndpoint.__len__`."""

    def begin_drain(self) -> None:
        """See `SocketEndpoint.begin_drain`."""

    async def wait_answered(self) -> None:
        """See `SocketEndpoint.wait_answered`."""

    async def close_all(self) -> None:
        """See `SocketEndpoint.close_all`."""


class UnderWay:
    """Counts what is being sent from the outbox and handled of the bus: a stop waits for it.

    Who sends and who handles is wrapped where they are made; they go on until their actors stop.
    """

    def __init__(self) -> None:
        self._in_hand: set[object] = set()
        self._changed = trio.Event()

    def __len__(self) -> int:
        return len(self._in_hand)

    def around(self, work: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        """Call this for the same work, counted while it is done."""

        async def counted(*words: P.args, **named: P.kwargs) -> R:
            mark = object()
            self._in_hand.add(mark)
            try:
                return await work(*words, **named)
            finally:
                self._in_hand.discard(mark)
                self._changed.set()

        return counted

    async def wait_ended(self) -> None:
        """Call this to wait for all that is in hand now, and for nothing that begins later."""
        begun = frozenset(self._in_hand)
        while begun & self._in_hand:
            self._changed = trio.Event()
            await self._changed.wait()


def edge_of(
    settings: Settings,
    ring: KeyRing,
    port: int,
    *,
    stream_paths: Iterable[str],
    sockets: Iterable[str] = (paths.SOCKET,),
    programs: Iterable[str] = ("/api/",),
) -> EdgeSettings:
    """Call this once the port is known for the edge as the settings say: checks, keys, limits."""
    return EdgeSettings(
        checks=_checks(
            settings, port, frozenset(stream_paths), frozenset(sockets), tuple(programs)
        ),
        ring=ring,
        trusted_proxies=settings.trusted_proxies,
        requests_max=settings.requests_max,
        requests_per_address=settings.requests_per_address,
        uncounted_paths=paths.PROBES | frozenset(stream_paths),
        urgent_paths=frozenset({paths.LOGIN, paths.LOGOUT, paths.SOCKET_TICKET}),
        compresses=settings.compression is Compression.ON,
    )


# Providers of sign-ins send people back here.
_RETURNS = re.compile(paths.OAUTH_BACK.replace("<provider>", "[^/]+"))
# And say here that somebody left them, in a form.
_FORMS = re.compile(paths.OAUTH_LEFT.replace("<provider>", "[^/]+"))


def _checks(
    settings: Settings,
    port: int,
    stream_paths: frozenset[str],
    sockets: frozenset[str],
    programs: tuple[str, ...],
) -> Checks:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    own = settings.public_origin or f"http://{host}:{port}"
    names = (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}")
    is_local = settings.public_origin is None
    return Checks(
        own_origin=own,
        allowed_origins=frozenset(settings.allowed_origins),
        extra_hosts=frozenset(names if is_local else ()),
        public_sockets=sockets,
        probe_paths=paths.PROBES,
        stream_paths=stream_paths,
        return_paths=_RETURNS,
        form_paths=_FORMS,
        # Amazon's messages are JSON, and said to be text.
        text_paths=frozenset({paths.MAIL_BOUNCE.replace("<provider>", "ses")}),
        api_prefixes=(*programs, paths.MAIL_BOUNCE.partition("<")[0]),
    )


def served(
    app: WebApp,
    settings: Settings,
    port: int,
    *,
    streams: Streams,
    sockets: Sockets,
    on_stalled: Callable[[], None] = lambda: None,
    under_way: UnderWay | None = None,
) -> Served:
    """Call this when an application is composed: how it is served, and how it lets go."""

    async def tell_streams() -> None:
        sockets.begin_drain()
        streams.tell_draining()

    async def finish() -> None:
        async with trio.open_nursery() as nursery:
            # Those too that wait in the line of their address: their clients were let in.
            nursery.start_soon(app.edge.wait_none_in_hand)
            nursery.start_soon(sockets.wait_answered)

    # What commands have asked for is in the outbox by now. What is cut here is sent again.
    sent = (
        []
        if under_way is None
        else [
            DrainStep(
                "finish sending",
                sending_s(settings),
                under_way.wait_ended,
                loses_work=lambda: False,
                left=under_way.__len__,
            )
        ]
    )
    return Served(
        app,
        ServerSettings(
            host=settings.host,
            port=port,
            transport=TransportSettings(error_response=app.edge.protocol_error),
            connections_max=settings.connections_max,
            streams_open=lambda: len(streams) + len(sockets),
            overload=_overload(settings),
            on_stalled=on_stalled,
        ),
        # Told first: what a tab hears is how soon to come back, and it does so spread over
        # seconds. Commands finish while the streams are open, for they answer through them.
        (
            DrainStep("tell streams", TELL_S_MAX, tell_streams),
            DrainStep("finish commands", commands_s(settings), finish),
            *sent,
            DrainStep("close streams", CLOSE_S_MAX, streams.close_all),
            DrainStep("close sockets", CLOSE_S_MAX, sockets.close_all),
        ),
    )


def _overload(settings: Settings) -> OverloadSettings:
    pages_s = settings.overload_pages_ms / 1000
    return OverloadSettings(
        late_s=settings.overload_late_ms / 1000,
        for_s=settings.overload_after_ms / 1000,
        begins_s=(pages_s, pages_s * KEPT_OF_PAGES / 2, pages_s * KEPT_OF_PAGES),
    )


# -- the children that serve -----------------------------------------------------------------


def database_child(make: Callable[[], AnyActor]) -> ChildSpec:
    """Call this for what stands first in the tree: the loop under the store."""
    # A database that is away for long is tried for long: the site itself stays up.
    return ChildSpec("database", make, backoff=Backoff(first=0.2, max=5.0))


def feeds_plan(feeds: Iterable[ChildSpec]) -> Plan:
    """Call this for a supervisor of feeds: each is restarted alone, ever later.

    What one cannot show, by a bug or by a row it cannot read, stands still on open pages; the
    other feeds, and the site, go on.
    """
    specs = [feed.with_backoff(FEED_BACKOFF) for feed in feeds]
    intensity = FEED_RESTARTS_MAX * max(1, len(specs))
    return Plan(Flags(intensity=intensity, period=FEED_PERIOD_S), specs)


def streams_child(close_streams: Callable[[], None]) -> ChildSpec:
    """Call this for what stands above the streams of open pages.

    `close_streams` ends those that a supervisor before this one left without an actor.
    """
    return ChildSpec(STREAMS, partial(_streams, close_streams), name=STREAMS, type="supervisor")


def heartbeats_child(streams: Streams) -> ChildSpec:
    """Call this for who sends the heartbeats of all streams."""
    return ChildSpec("heartbeats", partial(HeartbeatActor, streams.heartbeats))


def sockets_child() -> ChildSpec:
    """Call this for what stands above the sockets of client programs."""
    return ChildSpec(SOCKETS, _sockets, name=SOCKETS, type="supervisor")


def server_child(make: Callable[[], AnyActor], settings: Settings) -> ChildSpec:
    """Call this for what stands last in the tree, so that its stop, the drain, comes first."""
    return ChildSpec("server", make, shutdown=server_shutdown_s(settings))


def server_shutdown_s(settings: Settings) -> float:
    """Call this for what the server may take of the drain budget."""
    return max(1.0, settings.drain_budget_s - AFTER_SERVER_S)


def commands_s(settings: Settings) -> float:
    """Call this for how long a stop waits for commands in hand: what the other steps leave."""
    others = _OTHER_STEPS_S + SENDING_S_MIN
    return max(COMMANDS_S_MIN, min(COMMANDS_S_MAX, server_shutdown_s(settings) - others))


def sending_s(settings: Settings) -> float:
    """Call this for how long a stop waits for what is on its way: what commands leave."""
    left = server_shutdown_s(settings) - _OTHER_STEPS_S - commands_s(settings)
    return max(SENDING_S_MIN, min(SENDING_S_MAX, left))


def _streams(close_streams: Callable[[], None]) -> Dynamic[object]:
    # A killed supervisor's streams have no actor any more, so no window.
    close_streams()
    # A browser that lost its stream opens another: nothing is restarted.
    template = ChildSpec("stream", StreamActor, restart="temporary")
    return Dynamic(DynamicFlags(max_children=CONNECTIONS_MAX), template)


def _sockets() -> Dynamic[object]:
    template = ChildSpec("socket", _made, restart="temporary")
    return Dynamic(DynamicFlags(max_children=CONNECTIONS_MAX), template)


def _made(make: Callable[[], AnyActor]) -> AnyActor:
    return make()
