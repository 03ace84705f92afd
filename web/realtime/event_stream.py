"""The topics of sockets as server-sent events, for programs that only listen (WEB-48).

`GET /events?topic=room:lobby` is a socket that never says anything: the same `Service` decides who
may hear, the same `Topics` find what was missed, the same `Outlet` holds what a slow reader has not
taken, and the same caps count it. What differs is how an event is written, and how a client says
what it heard last: by `Last-Event-ID`, which is `<epoch>.<seq>`.

Rule 1: one topic a stream. The id of the last event is all that comes back, and names one place.
Rule 2: a stream that cannot go on without a gap ends; the client comes back with its last id.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from random import Random
from typing import ClassVar, Generic, TypeVar

import msgspec
import trio
from hypercorn.typing import HTTPScope
from quart import Response

from actors.runtime import Actor, Exit, Normal, Ref, message
from web.realtime.broadcast import Place
from web.realtime.errors import CallerUnknown, SocketCode, TopicRefused
from web.realtime.socket.commands import Refused
from web.realtime.socket.connection import Caller, EndpointSettings, HangUp, Recheck
from web.realtime.socket.endpoint import SocketEndpoint
from web.realtime.socket.messages import Form, Mark
from web.realtime.socket.outlet import FLUSH_S, Outlet, Policy
from web.realtime.socket.protocol import TOPIC_NAME, CloseCode
from web.realtime.socket.topics import Heard, SocketEncoding, Topics
from web.realtime.sse.encoding import (
    HEARTBEAT_S,
    OPENING,
    encode_comment,
    encode_event,
    encode_retry,
)
from web.realtime.sse.responding import STREAM_HEADERS, fast_lane
from web.realtime.sse.streams import RETRY_SPREAD_MS
from web.server import Answer, Bundle, Frame, Framing, KeptBody, Lane, PulledLane, request_state

P = TypeVar("P")

# A timer that is set for what is left of a beat must move the clock.
_SOONEST_S = 0.01
_BEAT = Frame(encode_comment("beat"))
# An epoch is made by us, of letters and digits; a number has 19 digits at most.
_LAST_ID = re.compile(r"([A-Za-z0-9_-]{1,64})\.([0-9]{1,19})")


def read_last_id(text: str) -> Mark | None:
    """Call this with `Last-Event-ID`; None for none, and for what is none of ours.

    Not an error: the client is told that it was not recovered, and goes on.
    """
    found = _LAST_ID.fullmatch(text)
    return None if found is None else Mark(found[1], int(found[2]))


class EventEncoding(SocketEncoding):
    """Messages of topics as socket messages, and for event streams as server-sent events."""

    def encode(self, message: object, viewer: Heard, place: Place, /) -> Frame | None:
        """Turn a message into a frame; None for what nobody is told of."""
        if viewer.form is not Form.EVENTS:
            return super().encode(message, viewer, place)
        action = self.action(message)
        if action is None:
            return None
        event_id = f"{place.epoch}.{place.seq}"
        return Frame(encode_event(action.fields.decode(), event=action.name, event_id=event_id))


class LateLane:
    """A lane whose connection is not there yet: refuses until it is `attach`ed."""

    __slots__ = ("_lane", "_on_ready", "is_closed")

    def __init__(self) -> None:
        self._lane: Lane | None = None
        self._on_ready: Callable[[], None] | None = None
        self.is_closed = False

    def attach(self, lane: Lane) -> None:
        """Call this once the response head is out: what waited is written now."""
        self._lane = lane
        if self.is_closed:
            lane.close()
            return
        lane.when_ready(self._on_ready)
        if self._on_ready is not None:
            self._on_ready()

    @property
    def framing(self) -> Framing:
        """Tell how payloads must be wrapped before `write`."""
        return Framing.RAW if self._lane is None else self._lane.framing

    @property
    def is_ready(self) -> bool:
        """Tell whether `write` would take something now."""
        return self._lane is not None and self._lane.is_ready

    def write(self, wire: bytes) -> bool:
        """Take all of `wire` or nothing."""
        return self._lane is not None and self._lane.write(wire)

    def when_ready(self, on_ready: Callable[[], None] | None) -> None:
        """Set who is told that the lane can take bytes."""
        self._on_ready = on_ready
        if self._lane is not None:
            self._lane.when_ready(on_ready)

    def close(self) -> None:
        """Refuse everything from now on."""
        self.is_closed = True
        if self._lane is not None:
            self._lane.close()


class EventOutlet(Outlet):
    """The sending half of one event stream; ends by itself when it is closed and flushed."""

    __slots__ = ("_random", "lane", "sent_at")

    def __init__(self, random: Random) -> None:
        self.lane = LateLane()
        self.sent_at = trio.current_time()
        self._random = random
        super().__init__(self.lane, Form.EVENTS)

    def close(self, code: CloseCode, reason: str = "") -> None:
        """End the stream; when the server stops, told when to come back (SITE-185)."""
        if self.closing.is_set():
            return
        if code is CloseCode.GOING_AWAY:
            self.send(Frame(encode_retry(self._random.randint(*RETRY_SPREAD_MS))))
        super().close(code, reason)
        self._end_if_flushed()

    def send_topics(self, bundle: Bundle, topic: str, policy: Policy) -> None:
        """Send several events with one write."""
        super().send_topics(bundle, topic, policy)
        self.sent_at = trio.current_time()

    def _put(self, frame: Frame, topic: str | None, policy: Policy | None) -> None:
        super()._put(frame, topic, policy)
        self.sent_at = trio.current_time()

    def _flush(self) -> None:
        super()._flush()
        self._end_if_flushed()

    def _end_if_flushed(self) -> None:
        if self.closing.is_set() and not self.queued:
            self.end()


@message
class Beat:
    """Look whether the stream was silent for too long."""


EventMessages = Beat | Recheck | HangUp


class EventStreamActor(Actor[EventMessages], Generic[P]):
    """Owns one event stream's place in its topic; stopping ends the stream."""

    capacity: ClassVar[int] = 8

    def __init__(
        self,
        settings: EndpointSettings[P],
        caller: Caller[P],
        outlet: EventOutlet,
        topic: str,
        mark: Mark | None,
    ) -> None:
        self._settings, self._caller, self._outlet = settings, caller, outlet
        self._topic, self._mark = topic, mark
        self._topics = Topics(settings.hub, outlet, settings.known, settings.policy)

    def on_start(self) -> None:
        """Begin to listen, which may wait for the store and for the reader."""
        self.start_soon(self._listen)
        self.start_soon(self._watch)
        self.after(HEARTBEAT_S, Beat(), key="beat")
        self.every(self._settings.recheck_s, Recheck())

    def on_beat(self, _: Beat) -> None:
        """Send a comment after 15 s of silence, and look again when the next may be due."""
        silent_s = trio.current_time() - self._outlet.sent_at
        if silent_s >= HEARTBEAT_S:
            silent_s = 0.0
            # Who has something to read is not silent.
            if not self._outlet.queued:
                self._outlet.send(_BEAT)
        self.after(max(HEARTBEAT_S - silent_s, _SOONEST_S), Beat(), key="beat")

    async def on_recheck(self, _: Recheck) -> None:
        """End what the client may not have any more (SEC-44)."""
        service, principal = self._settings.service, self._caller.principal
        end = await service.may_stay(principal)
        if end is not None:
            self._outlet.close(end.code, end.reason)
            return
        try:
            may_hear = await service.may_hear(principal, self._settings.known(self._topic))
        except Refused:
            return  # looked at again in a minute
        if not may_hear:
            refused: dict[str, object] = {"code": SocketCode.FORBIDDEN, "topic": self._topic}
            self._outlet.send(_told("error", refused))
            self._outlet.close(CloseCode.NORMAL, "the topic may not be heard any more")

    def on_hang_up(self, _: HangUp) -> None:
        """The stream is over."""
        self.stop(Normal())

    def on_stop(self, exit: Exit) -> None:  # noqa: A002 - the runtime's word
        """Leave the topic and end the stream."""
        self._topics.leave_all()
        code = CloseCode.GOING_AWAY if exit.clean else CloseCode.BUG
        self._outlet.close(code, "its actor ended")

    async def _listen(self) -> None:
        topic, mark, topics = self._topic, self._mark, self._topics
        try:
            is_stored = await topics.look(topic, mark)
        except trio.TooSlowError:
            self._outlet.close(CloseCode.SLOW, "the topic does not answer")
            return
        # From here to the join nothing waits, or what was missed comes first.
        position = topics.place(topic, mark, is_stored=is_stored)
        is_recovered = mark is not None and position.is_recovered
        # The client's own place, which the missed events move.
        seq = mark.seq if mark is not None and is_recovered else position.seq
        place = {"topic": topic, "epoch": position.epoch, "seq": seq, "recovered": is_recovered}
        self._outlet.send(_told("subscribed", place, event_id=f"{position.epoch}.{seq}"))
        if mark is None or not is_recovered:
            topics.join(topic)
            return
        last = await topics.missed({topic: mark})[topic].send()
        if last is not None:
            topics.join(topic, after=last)

    async def _watch(self) -> None:
        # Also when the request was over before anybody knew of this actor.
        await self._outlet.closing.wait()
        self.ref.tell(HangUp())


def _told(event: str, fields: dict[str, object], *, event_id: str | None = None) -> Frame:
    return Frame(encode_event(msgspec.json.encode(fields).decode(), event=event, event_id=event_id))


StartEventStream = Callable[[Callable[[], EventStreamActor[P]]], Awaitable[Ref[EventMessages]]]


class EventStreams(Generic[P]):
    """Opens event streams for programs, among the sockets of an endpoint and under its caps.

    `caller_of(scope)` tells who it is, anything but a `Caller` refuses; `start(make)` starts the
    actor that `make()` builds.
    """

    def __init__(
        self,
        settings: EndpointSettings[P],
        endpoint: SocketEndpoint[P],
        *,
        caller_of: Callable[[HTTPScope], Awaitable[Caller[P] | Answer | None]],
        start: StartEventStream[P],
        random: Random | None = None,
    ) -> None:
        self._settings, self._endpoint = settings, endpoint
        self._caller_of, self._start = caller_of, start
        # Spreads reconnects; nothing secret depends on it.
        self._random = random or Random()

    async def open(self, scope: HTTPScope, topic: str, last_id: str = "") -> Response:
        """Call this in the route for the response that carries `topic` until either side ends it.

        Raises `TopicRefused` (403), `Refused` while that cannot be known (503), `CallerUnknown`
        (401), `BadClientId` (400), and at a cap `TooManyStreams` (429) or `StreamsFull` (503);
        nothing was opened then. Cancelled, everything is given back.
        """
        caller, state = await self._caller_of(scope), request_state(scope)
        if not isinstance(caller, Caller):
            raise CallerUnknown
        settings = self._settings
        known = settings.aliases.get(topic, topic)
        if not TOPIC_NAME.fullmatch(topic) or not await settings.service.may_hear(
            caller.principal, known
        ):
            raise TopicRefused
        self._endpoint.check_caps(caller.user, state.address)
        if scope["method"] == "HEAD":
            return Response(b"", headers=STREAM_HEADERS)
        outlet = EventOutlet(self._random)
        # Counted in the turn in which the caps were looked at, and given back with the request,
        # however it ends: the body may never be entered.
        hold = self._endpoint.hold(outlet, caller.user, state.address)
        body = _Body(outlet, hold.release, scope)
        state.at_end.append(body.hang_up)
        make = partial(EventStreamActor, settings, caller, outlet, topic, read_last_id(last_id))
        await self._start(make)
        response = Response(body, headers=STREAM_HEADERS)
        response.timeout = None  # REL-16
        return response


class _Body(KeptBody):
    """The body of an event stream's response, and the stream itself once it is handed over."""

    def __init__(self, outlet: EventOutlet, release: Callable[[], None], scope: HTTPScope) -> None:
        self._outlet, self._release = outlet, release
        self._scope: HTTPScope | None = scope

    @property
    def is_open(self) -> bool:
        """Tell whether neither side has ended it."""
        return not self._outlet.closing.is_set()

    def hang_up(self) -> None:
        """Give everything back: the request or the connection is over."""
        self._outlet.close(CloseCode.NORMAL, "the request is over")
        self._outlet.end()
        self._release()

    def close(self) -> None:
        """Close the outlet."""
        self._outlet.close(CloseCode.NORMAL, "the client left")

    def opening(self) -> bytes:
        """Give the opening bytes."""
        return OPENING

    def take_lane(self) -> _Body | None:
        """Have the outlet write to the connection; see `sse/responding.py`."""
        assert self._scope is not None, "asked once"
        # Program streams are not compressed: what they carry is mostly shorter than what
        # compressing pays for.
        lane = fast_lane(self._scope, is_plain=True)
        if lane is None:
            return None
        self._outlet.lane.attach(lane)
        ends = request_state(self._scope).at_end
        if self.hang_up in ends:
            ends.remove(self.hang_up)
        self._scope = None  # it holds the request
        return self

    def wake_by(self, wake: Callable[[], None]) -> None:
        """Have `wake` called when our side ends it."""
        self._outlet.on_closing = wake

    async def wait_over(self) -> None:
        """Wait until our side ends it."""
        await self._outlet.closing.wait()

    async def last(self) -> bytes:
        """Give the last bytes, which are none, when what was taken is written."""
        await self._outlet.wait_flushed(FLUSH_S)
        return b""

    async def generate(self) -> AsyncGenerator[bytes, None]:
        """Give what the lane does not carry."""
        pulled = PulledLane()
        self._outlet.lane.attach(pulled)
        while (held := await pulled.pull()) is not None:
            yield held
