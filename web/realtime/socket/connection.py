"""The actor of one WebSocket: carries out what the protocol decides.

WEB-30, WEB-31, WEB-32, WEB-33, WEB-40, WEB-46, WEB-49.

Rule 1: the client's messages pass through the mailbox one at a time, so replies keep their order.
Rule 2: events never do: they go from the topic to the `Outlet` in the publisher's turn.
Rule 3: between answering `subscribed` and joining the topic stands no await, so no event is
        missed and none comes early (WEB-31).

Decisions are in `protocol.py`, the ASGI side in `endpoint.py`. It is never restarted: a client
that lost its connection opens another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Protocol, TypeVar

import msgspec
import trio

from actors.runtime import Actor, Exit, Log, Normal, message
from web.realtime.broadcast import Hub, Membership
from web.realtime.socket.messages import CommandTable, Error, Event, action_of, encode_server
from web.realtime.socket.outlet import Outlet, Policy
from web.realtime.socket.protocol import (
    AskTopics,
    Close,
    CloseCode,
    Decision,
    DropTopics,
    ProtocolLimits,
    Reply,
    RunCommand,
    ServerProtocol,
)
from web.server import Frame, Wire, ping_frame

log = Log(__name__)
P = TypeVar("P")
P_contra = TypeVar("P_contra", contravariant=True)

# WEB-33: browsers answer a protocol ping by themselves; two in a row must go unanswered.
PING_S = 30.0
# What a plain connection hears without asking.
DEFAULT = "default"
DEAD_S = 60.0
# WEB-40: a person looks elsewhere by then; the command may still succeed.
COMMAND_S = 10.0


class Refused(Exception):
    """Raised by `dispatch` when a command is refused; its text is for the client."""


@dataclass(frozen=True, slots=True)
class Done:
    """What `dispatch` gives for a command that is committed.

    `result` is told to the sender. `heard_on` names the topic whose subscribers hear it anyway:
    a plain connection that listens there is told nothing more.
    """

    result: msgspec.Struct | None = None
    heard_on: str | None = None


class Service(Protocol[P_contra]):
    """What an endpoint is for: who may hear and say what, and where commands go."""

    async def may_hear(self, principal: P_contra, topic: str) -> bool:
        """Tell whether this client may subscribe; an unknown topic is a plain no."""

    async def may_publish(self, principal: P_contra, topic: str | None) -> bool:
        """Tell whether this client may send commands to the topic, or to none."""

    async def dispatch(
        self, command: msgspec.Struct, topic: str | None, principal: P_contra
    ) -> Done:
        """Carry a command out; returns after commit. Raise `Refused` with a text for the client."""


@dataclass(frozen=True, kw_only=True)  # slots and frozen refuse `EndpointSettings[Guest](...)`
class EndpointSettings(Generic[P]):
    """Holds what all connections of one endpoint share."""

    commands: CommandTable
    service: Service[P]
    # Viewers are the names topics are heard as.
    hub: Hub[object, str]
    # What a plain connection calls a topic: {"default": "room:lobby"} (WEB-49).
    aliases: Mapping[str, str] = field(default_factory=dict)
    # Subscribed at open, as on the wire (WEB-30).
    at_open: tuple[str, ...] = (DEFAULT,)
    policy: Callable[[str], Policy] = field(default=lambda topic: Policy.DISCONNECT)
    limits: ProtocolLimits = field(default_factory=ProtocolLimits)
    ping_s: float = PING_S
    dead_s: float = DEAD_S
    command_s: float = COMMAND_S


@message
class TextCame:
    """The client sent a text message."""

    text: str


@message
class BytesCame:
    """The client sent a binary message."""


@message
class LookAlive:
    """Ping the client, or give it up."""


@message
class HangUp:
    """The socket is closed."""


class Connection(Actor[TextCame | BytesCame | LookAlive | HangUp], Generic[P]):
    """Owns one client's subscriptions and commands; stopping closes the socket."""

    # The reader waits for room, so the client's TCP window fills instead of our memory.
    capacity: ClassVar[int] = 32

    def __init__(
        self, settings: EndpointSettings[P], principal: P, outlet: Outlet, wire: Wire
    ) -> None:
        self._settings = settings
        self._principal = principal
        self._outlet = outlet
        self._wire = wire
        self._protocol = ServerProtocol(settings.commands, trio.current_time(), settings.limits)
        self._joined: dict[str, Membership] = {}

    async def on_start(self) -> None:
        """Subscribe to what a plain connection hears, and watch its life."""
        self._wire.admit_frame = self._admit_frame
        for topic in self._settings.at_open:
            if await self._may_hear(topic):
                self._protocol.granted([topic])
                self._join(topic)
        self.after(self._settings.ping_s, LookAlive(), key="look")

    def on_stop(self, exit: Exit) -> None:  # noqa: A002 - the runtime's word
        """Leave all topics and close; 1011 after a crash, 1001 otherwise."""
        for membership in self._joined.values():
            membership.leave()
        self._joined.clear()
        if exit.clean:
            self._outlet.close(CloseCode.GOING_AWAY, "the server restarts")
        else:
            self._outlet.close(CloseCode.BUG, "a bug here ended this connection")

    async def on_text(self, message: TextCame) -> None:
        """Do what the protocol decides about a message."""
        for decision in self._protocol.receive_text(message.text, trio.current_time()):
            await self._carry_out(decision)

    async def on_bytes(self, message: BytesCame) -> None:
        """Refuse a binary message."""
        for decision in self._protocol.receive_bytes(trio.current_time()):
            await self._carry_out(decision)

    def on_look_alive(self, message: LookAlive) -> None:
        """Ping; any frame since counts as life (WEB-33)."""
        settings, silent_s = self._settings, trio.current_time() - self._wire.heard_at
        if silent_s >= settings.dead_s:
            self._outlet.close(CloseCode.DEAD, f"nothing was heard for {settings.dead_s:.0f} s")
            self.stop(Normal())
            return
        self._outlet.send_control(ping_frame())
        # Not only once a beat: who fell silent just after one is given up in time as well.
        self.after(min(settings.ping_s, settings.dead_s - silent_s), LookAlive(), key="look")

    def on_hang_up(self, message: HangUp) -> None:
        """Leave the tree."""
        self.stop(Normal())

    async def _carry_out(self, decision: Decision) -> None:
        match decision:
            case Reply(payload):
                self._outlet.send(Frame(payload))
            case AskTopics(topics):
                await self._subscribe(topics)
            case DropTopics(topics, reply):
                for topic in topics:
                    self._leave(topic)
                self._outlet.send(Frame(reply))
            case RunCommand(command, topic):
                await self._run(command, topic)
            case Close(code, reason):
                self._outlet.close(code, reason)
                self.stop(Normal())

    async def _subscribe(self, topics: tuple[str, ...]) -> None:
        granted = [topic for topic in topics if await self._may_hear(topic)]
        # Rule 3: from here to the last `_join` nothing waits.
        self._outlet.send(Frame(self._protocol.granted(granted)))
        for topic in granted:
            self._join(topic)
        for topic in topics:
            if topic not in granted:
                self._outlet.send(Frame(self._protocol.refused(topic)))

    async def _run(self, command: msgspec.Struct, topic: str | None) -> None:
        service, principal = self._settings.service, self._principal
        known = None if topic is None else self._known(topic)
        if not await service.may_publish(principal, known):
            self._tell(f"You may not send commands to {'no topic' if topic is None else topic}.")
            return
        try:
            with trio.fail_after(self._settings.command_s):
                done = await service.dispatch(command, known, principal)
            self._tell_done(done, topic)
        except Refused as error:
            self._tell(str(error))
        except trio.TooSlowError:
            self._tell("That took too long; it may still happen. Look before you repeat it.")
        except Exception:
            # A bug behind one command must not end the connection and its other topics.
            log.exception("socket.command_failed", command=type(command).__name__)
            self._tell("An internal error occurred")

    def _tell_done(self, done: Done, topic: str | None) -> None:
        """Answer a command that is committed, unless its sender hears of it by its topic."""
        if done.result is None:
            return
        if any(self._known(joined) == done.heard_on for joined in self._joined):
            return
        event = Event(action_of(done.result), topic or DEFAULT)
        self._outlet.send(Frame(encode_server(event)))

    async def _may_hear(self, topic: str) -> bool:
        return await self._settings.service.may_hear(self._principal, self._known(topic))

    def _known(self, topic: str) -> str:
        return self._settings.aliases.get(topic, topic)

    def _join(self, topic: str) -> None:
        if topic in self._joined:
            return
        known = self._known(topic)
        # Two names of one topic: the later one is heard, and nothing twice (WEB-30).
        for other in [name for name in self._joined if self._known(name) == known]:
            self._leave(other)
            self._protocol.topics.pop(other, None)
        policy = self._settings.policy(known)
        outlet = self._outlet

        def put(frame: Frame, position: int) -> None:
            outlet.send_topic(frame, topic, policy)

        self._joined[topic] = self._settings.hub.join(known, topic, put)

    def _leave(self, topic: str) -> None:
        membership = self._joined.pop(topic, None)
        if membership is not None:
            membership.leave()

    def _tell(self, text: str) -> None:
        self._outlet.send(Frame(encode_server(Error(text))))

    def _admit_frame(self) -> bool:
        """Count a frame in the reader's turn; what follows from a flood is sent at once."""
        # Not through the mailbox: a flood would wait there behind itself.
        now = trio.current_time()
        if self._protocol.admit_frame(now):
            return True
        for decision in self._protocol.flood(now):
            if isinstance(decision, Reply):
                self._outlet.send(Frame(decision.payload))
            elif isinstance(decision, Close):
                self._outlet.close(decision.code, decision.reason)
        return False
