"""WebSockets of ticketing, in words of their own: seats of an event, and what is told one customer.

`/ws/availability/ID` is for everybody, `/ws/notifications` for who is signed in, one a customer.
What comes from the topics is written to the socket at once; of the seats of a section only the
newest numbers wait for who reads slowly.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import msgspec
import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope, WebsocketScope

from actors.persistence import ask_state
from actors.persistence.errors import StoreError
from actors.runtime import Actor, AskError, message
from docs.examples.ticketing.http.desk import Desk
from docs.examples.ticketing.sections import Seating
from docs.examples.ticketing.shows import sections_of
from web.realtime import CloseCode, Outlet, Policy
from web.realtime.socket.endpoint import deny, wire_of
from web.realtime.socket.outlet import FLUSH_S
from web.routing.errors import NotSignedIn
from web.server import Answer, ErrorAnswer, ErrorRow, Frame, Wire, ping_frame, request_state

AVAILABILITY, NOTIFICATIONS = "/ws/availability/", "/ws/notifications"
SOCKETS_MAX = 1000
PING_S = 30.0
# A phone in a pocket; whoever is there answers a ping every half minute.
SILENT_S_MAX = 300.0
# Nobody has anything to say here but ping and pong.
WRONG_MAX = 10
NOBODY = str(UUID(int=0))
# The correlation id of what made a section's version.
CauseOf = Callable[[int], Awaitable[str]]


class AvailabilityUpdate(
    msgspec.Struct, frozen=True, tag="availability_update", omit_defaults=True
):
    """`correlation_id` is that of the request which led to these numbers; at open there is none."""

    event_id: str
    section: str
    available: int
    reserved: int
    sold: int
    correlation_id: str = ""


class ReservationStatus(msgspec.Struct, frozen=True, tag="reservation_status", omit_defaults=True):
    """`correlation_id` is that of the request which led to it."""

    reservation_id: str
    status: str
    message: str
    correlation_id: str = ""


class PaymentConfirmation(
    msgspec.Struct, frozen=True, tag="payment_confirmation", omit_defaults=True
):
    """`correlation_id` is that of the request which led to it."""

    payment_id: str
    reservation_id: str
    status: str
    message: str
    correlation_id: str = ""


class Problem(msgspec.Struct, frozen=True, tag="error"):
    message: str


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    pass


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    pass


Said = AvailabilityUpdate | ReservationStatus | PaymentConfirmation | Problem | Ping | Pong
_HEARD: msgspec.json.Decoder[Ping | Pong] = msgspec.json.Decoder(Ping | Pong)


@dataclass(frozen=True)
class Told:
    """What is told on a topic, encoded once; of two about one thing the later one counts."""

    frame: Frame
    about: str = ""
    version: int = 0

    @classmethod
    def of(cls, said: Said, about: str = "", version: int = 0) -> Told:
        return cls(Frame(msgspec.json.encode(said)), about, version)


def seats_on(event_id: str) -> str:
    """Call this for the topic of an event's seats."""
    return f"seats-{event_id}"


def notes_on(customer: str) -> str:
    """Call this for the topic of what is told one customer."""
    return f"notes-{customer}"


async def look_at_seats(
    desk: Desk, event_id: str, section: str, cause_of: CauseOf | None = None
) -> Told:
    """Call this for the seats of a section as they are now, and what its newest change is of."""
    version, found = await ask_state(desk.office.find().sections[f"{event_id}-{section}"])
    assert isinstance(found, Seating)
    cause = "" if cause_of is None else await cause_of(version)
    numbers = found.available, found.reserved, found.sold_count
    return Told.of(AvailabilityUpdate(event_id, section, *numbers, cause), section, version)


class Line:
    """One open socket: hears a topic, and answers pings."""

    def __init__(self, sockets: TicketSockets, wire: Wire, topic: str) -> None:
        self.wire, self.topic = wire, topic
        self.outlet = Outlet(wire.lane)
        self._sockets = sockets
        self._due = float("inf")
        self._wrong = 0
        # Of a section, and an event has few: what was told may not be followed by older news.
        self._versions: dict[str, int] = {}

    def deliver(self, message: object) -> None:
        """Take what is told on the topic."""
        if not isinstance(message, Told):
            return
        if not message.about:
            self.outlet.send_topic(message.frame, self.topic, Policy.DISCONNECT)
        elif message.version > self._versions.get(message.about, -1):
            self._versions[message.about] = message.version
            self.outlet.send_topic(message.frame, f"{self.topic} {message.about}", Policy.LATEST)

    # What its connection asks, as of `OpenSocket`.

    @property
    def ends_by(self) -> float:
        if not self.outlet.closing.is_set():
            return float("inf")
        if self._due == float("inf"):
            self._due = trio.current_time() + FLUSH_S
        return self._due if self.outlet.queued else 0.0

    @property
    def end(self) -> tuple[int, str]:
        return int(self.outlet.close_code), self.outlet.close_reason

    @property
    def is_busy(self) -> bool:
        return False

    def wake_by(self, wake: Callable[[], None]) -> None:
        self.outlet.on_closing = wake

    async def take(self, text: str | None) -> None:
        try:
            heard = None if text is None else _HEARD.decode(text)
        except (msgspec.DecodeError, RecursionError):
            heard = None
        match heard:
            case Ping():
                self.outlet.send(Told.of(Pong()).frame)
            case None:
                self._wrong += 1
                self.outlet.send(Told.of(Problem("Send ping or pong, as JSON.")).frame)
                if self._wrong > WRONG_MAX:
                    self.outlet.close(CloseCode.MISUSE, "nothing else is heard here")

    def hang_up(self) -> None:
        self._sockets.release(self)
        self.outlet.on_closing = None
        self.outlet.close(CloseCode.NORMAL, "the client left")
        self.outlet.end()


class TicketSockets:
    """Both endpoints; one a site, and kept when its server is restarted alone."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._open: set[Line] = set()
        self.is_draining = False

    def __len__(self) -> int:
        return len(self._open)

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Serve a socket from its handshake; its connection has the rest."""
        assert scope["type"] == "websocket", "only WebSocket paths are given to an endpoint"
        await receive()
        wire = wire_of(scope.get("state"))
        try:
            topic, first = await self._admit(scope)
        except ErrorAnswer as error:
            await deny(scope, send, error.row)
            return
        except (AskError, StoreError, NotSignedIn) as error:
            is_guest = isinstance(error, NotSignedIn)
            await deny(
                scope, send, (Answer.UNAUTHENTICATED if is_guest else Answer.UNAVAILABLE).value
            )
            return
        full = self._full()
        if wire is None or full is not None:
            await deny(scope, send, full or Answer.UNAVAILABLE.value)
            return
        await self._accept(Line(self, wire, topic), first, send)

    async def _admit(self, scope: WebsocketScope) -> tuple[str, Sequence[str]]:
        """What is heard here, and the sections told at first; raises the answer to a no."""
        desk, path = self._desk, scope["path"]
        if path.startswith(AVAILABILITY):
            event_id = path.removeprefix(AVAILABILITY)
            show = await desk.look_at_show(event_id)
            assert show.plan is not None
            return seats_on(event_id), [one.name for one in sections_of(show.plan)]
        state = request_state(scope)
        await desk.identity(state, scope)
        if state.signed_in is None:
            raise ErrorAnswer(Answer.UNAUTHENTICATED.value)
        return notes_on(str(state.signed_in.user_id)), ()

    def _full(self) -> ErrorRow | None:
        if self.is_draining:
            return Answer.UNAVAILABLE.value
        if len(self._open) < SOCKETS_MAX:
            return None
        text = f"All {SOCKETS_MAX} sockets are in use."
        return replace(Answer.UNAVAILABLE.value, text=text, retry_after_s=10)

    async def _accept(self, line: Line, sections: Sequence[str], send: ASGISendCallable) -> None:
        topics = self._desk.site.system.topics
        is_kept = False
        # Counted, and hearing, before the first checkpoint: nothing is missed, and no cap passed.
        self._open.add(line)
        topics.subscribe(line.topic, line)
        try:
            await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
            if line.topic.startswith("notes-"):
                self._replace_others(line)
                hello = ReservationStatus(NOBODY, "Connected", "You are told what changes.")
                line.deliver(Told.of(hello))
            for section in sections:
                event_id = line.topic.removeprefix("seats-")
                line.deliver(await look_at_seats(self._desk, event_id, section))
            line.wire.hand_over(line)
            is_kept = True
        finally:
            if not is_kept:
                line.hang_up()

    def _replace_others(self, line: Line) -> None:
        for other in [*self._open]:
            if other is not line and other.topic == line.topic:
                other.outlet.close(CloseCode.DEAD, "you have opened another one")

    def release(self, line: Line) -> None:
        """Called by a line that is over; may be repeated."""
        self._open.discard(line)
        self._desk.site.system.topics.unsubscribe(line.topic, line)

    def look(self, now: float) -> None:
        """Call this every `PING_S`: who was not heard for minutes is gone."""
        for line in [*self._open]:
            if now - line.wire.heard_at >= SILENT_S_MAX:
                line.outlet.close(CloseCode.DEAD, f"nothing was heard for {SILENT_S_MAX:.0f} s")
            elif line.outlet.send_control(ping_frame()):
                line.outlet.send(Told.of(Ping()).frame)

    def begin_drain(self) -> None:
        """See `SocketEndpoint.begin_drain`."""
        self.is_draining = True

    async def wait_answered(self) -> None:
        """See `SocketEndpoint.wait_answered`; everything is answered at once."""
        self.begin_drain()

    async def close_all(self) -> None:
        """See `SocketEndpoint.close_all`."""
        self.begin_drain()
        for line in [*self._open]:
            line.outlet.close(CloseCode.GOING_AWAY, "the server restarts")


@message
class Look:
    """It is time to see who is still there."""


class Beat(Actor[Look]):
    """Has the sockets looked at, for as long as it lives."""

    def __init__(self, sockets: TicketSockets) -> None:
        self._sockets = sockets

    async def on_start(self) -> None:
        """Begin."""
        self.after(PING_S, Look())

    def on_look(self, message: Look) -> None:
        """Look, and look again."""
        self._sockets.look(trio.current_time())
        self.after(PING_S, Look())


def at_paths(sockets: TicketSockets) -> Mapping[str, TicketSockets]:
    """Call this for the paths of a served site's sockets."""
    sockets.is_draining = False
    return {AVAILABILITY: sockets, NOTIFICATIONS: sockets}
