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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Protocol, TypeVar
from uuid import uuid4

import msgspec
import trio

from actors.runtime import Actor, Exit, Log, Normal, current_tallies, message, span
from actors.runtime.words.tallies import OTHER
from web.realtime.broadcast import Hub
from web.realtime.errors import SocketCode
from web.realtime.socket.commands import CommandKey, CommandMemory, Done, Fate, Refused
from web.realtime.socket.messages import (
    PING,
    CommandTable,
    Event,
    Form,
    action_of,
    encode_server,
    fields_of,
)
from web.realtime.socket.outlet import Outlet, Policy
from web.realtime.socket.protocol import (
    TOPIC_NAME,
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
from web.realtime.socket.topics import Heard, Topics
from web.server import Frame, Wire, ping_frame

log = Log(__name__)

# What a message was, for whoever counts them: pings, pongs and broken ones are told together.
_MEANT: Mapping[type[Decision], str] = {
    AskTopics: "subscribe",
    DropTopics: "unsubscribe",
    RunCommand: "command",
}
P = TypeVar("P")
P_co = TypeVar("P_co", covariant=True)
P_contra = TypeVar("P_contra", contravariant=True)

# WEB-33: browsers answer a protocol ping by themselves; two in a row must go unanswered.
PING_S = 30.0
# What a plain connection hears without asking.
DEFAULT = "default"
DEAD_S = 60.0
# WEB-40: a person looks elsewhere by then; the command may still succeed.
COMMAND_S = 10.0
COMMAND_LATE_S = 60.0
# SEC-44: whoever was not told that a session ended learns it in this time.
RECHECK_S = 60.0


@dataclass(frozen=True, slots=True)
class Caller(Generic[P]):
    """Holds who opened a socket: what commands know, and whom the caps count.

    `client` tells the programs of one user apart, for as long as they live; a connection that
    names none is one of its own. `share` is whose part of the memory of commands it takes, by
    default the user's; give the address, for one of those may be many users.
    """

    principal: P
    user: str
    client: str | None = None
    share: str | None = None


@dataclass(frozen=True, slots=True)
class Request(Generic[P_co]):
    """How a command came: who sent it, to which topic, and what tells a repeat of it.

    `key` is the same whenever the client sends the command again, also to another process; None
    for a command without an id. A store that keeps it (`Idempotency`) makes it safe over restarts.
    """

    principal: P_co
    topic: str | None
    key: str | None = None


class Service(Protocol[P_contra]):
    """What an endpoint is for: who may hear and say what, and where commands go."""

    async def may_stay(self, principal: P_contra) -> Close | None:
        """Tell how the connection ends: the session is over, the user is banned; None if not."""

    async def may_hear(self, principal: P_contra, topic: str) -> bool:
        """Tell whether this client may subscribe; an unknown topic is a plain no.

        Raise `Refused` while it cannot be known: who asks is told so, and who hears it already
        goes on until the next look.
        """

    async def may_publish(self, principal: P_contra, topic: str | None) -> bool:
        """Tell whether this client may send commands to the topic, or to none.

        Raise `Refused` while it cannot be known.
        """

    async def dispatch(self, command: msgspec.Struct, request: Request[P_contra], /) -> Done:
        """Carry a command out; returns after commit. Raise `Refused` with a text for the client.

        Cancelled a minute after the client was told that it took too long.
        """


@dataclass(frozen=True, kw_only=True)  # slots and frozen refuse `EndpointSettings[Guest](...)`
class EndpointSettings(Generic[P]):
    """Holds what all connections of one endpoint share."""

    commands: CommandTable
    service: Service[P]
    hub: Hub[object, Heard]
    # What a plain connection calls a topic: {"default": "room:lobby"} (WEB-49).
    aliases: Mapping[str, str] = field(default_factory=dict)
    # Subscribed at open, as on the wire (WEB-30).
    at_open: tuple[str, ...] = (DEFAULT,)
    policy: Callable[[str], Policy] = field(default=lambda topic: Policy.DISCONNECT)
    limits: ProtocolLimits = field(default_factory=ProtocolLimits)
    ping_s: float = PING_S
    recheck_s: float = RECHECK_S
    dead_s: float = DEAD_S
    command_s: float = COMMAND_S
    # How long a command may go on after that, so that a repeat of it can be told the outcome.
    command_late_s: float = COMMAND_LATE_S
    # What became of commands; handed in where it shall outlive an endpoint.
    memory: CommandMemory = field(default_factory=CommandMemory)

    def known(self, topic: str) -> str:
        """Tell the topic that stands behind a name."""
        return self.aliases.get(topic, topic)


@message
class TextCame:
    """The client sent a text message; a late one came when the server was stopping."""

    text: str
    is_late: bool = False


@message
class BytesCame:
    """The client sent a binary message."""


@message
class LookAlive:
    """Ping the client, or give it up."""


@message
class Recheck:
    """Ask anew whether the client may stay, and what it may hear."""


@message
class HangUp:
    """The socket is closed."""


Messages = TextCame | BytesCame | LookAlive | Recheck | HangUp


class Connection(Actor[Messages], Generic[P]):
    """Owns one client's subscriptions and commands; stopping closes the socket."""

    # The reader waits for room, so the client's TCP window fills instead of our memory.
    capacity: ClassVar[int] = 32

    def __init__(
        self,
        settings: EndpointSettings[P],
        caller: Caller[P],
        outlet: Outlet,
        wire: Wire,
    ) -> None:
        self._settings = settings
        self._caller = caller
        self._client = uuid4().hex if caller.client is None else caller.client
        self._outlet = outlet
        self._wire = wire
        self._protocol = ServerProtocol(
            settings.commands, trio.current_time(), settings.limits, outlet.form
        )
        self._topics = Topics(settings.hub, outlet, settings.known, settings.policy)
        # Commands that run, also those whose sender was told that they take too long.
        self._running = 0
        self._is_left = False

    async def on_start(self) -> None:
        """Subscribe to what a plain connection hears, and watch its life."""
        self._wire.admit_frame = self._admit_frame
        # greenroom.v1 says itself what it wants to hear, and from where.
        at_open = self._settings.at_open if self._outlet.form is Form.PLAIN else ()
        for topic in at_open:
            if await self._may_hear(topic):
                self._protocol.granted([topic])
                self._join(topic)
        self.after(self._settings.ping_s, LookAlive(), key="look")
        self.every(self._settings.recheck_s, Recheck())
        # Most sockets only listen: what they hear does not come through here (Rule 2), so the task
        # is given back after each of these, and taken again for what the client says (PERF-23).
        self.hibernate()

    def on_stop(self, exit: Exit) -> None:  # noqa: A002 - the runtime's word
        """Leave all topics and close; 1011 after a crash, 1001 otherwise."""
        self._topics.leave_all()
        # Nobody is left to count them; and it holds this, which a collection alone would free.
        self._wire.admit_frame = _drop
        if self._caller.client is None:
            # Nobody can come back as this client: its answers only take the place of others.
            self._settings.memory.forget(self._caller.user, self._client)
        if exit.clean:
            self._outlet.close(CloseCode.GOING_AWAY, "the server restarts")
        else:
            self._outlet.close(CloseCode.BUG, "a bug here ended this connection")

    async def on_text(self, message: TextCame) -> None:
        """Do what the protocol decides about a message."""
        now, is_late = trio.current_time(), message.is_late
        decisions = self._protocol.receive_text(message.text, now, is_late=is_late)
        self._count(decisions)
        for decision in decisions:
            await self._carry_out(decision)
        self._outlet.answer()

    def _count(self, decisions: Sequence[Decision]) -> None:
        kind = _MEANT.get(type(decisions[0]), OTHER) if decisions else OTHER
        current_tallies().add("ws_messages_total", kind)

    async def on_bytes(self, message: BytesCame) -> None:
        """Refuse a binary message."""
        for decision in self._protocol.receive_bytes(trio.current_time()):
            await self._carry_out(decision)
        self._outlet.answer()

    def on_look_alive(self, message: LookAlive) -> None:
        """Ping; any frame since counts as life (WEB-33)."""
        if self._is_left:
            return  # a command of it still runs, and is given its time
        settings, silent_s = self._settings, trio.current_time() - self._wire.heard_at
        if silent_s >= settings.dead_s:
            self._outlet.close(CloseCode.DEAD, f"nothing was heard for {settings.dead_s:.0f} s")
            self.stop(Normal())
            return
        if self._outlet.send_control(ping_frame()) and self._outlet.form is Form.V1:
            # For programs that cannot see a ping of the protocol below (WEB-33).
            self._outlet.send(Frame(PING))
        # Not only once a beat: who fell silent just after one is given up in time as well.
        self.after(min(settings.ping_s, settings.dead_s - silent_s), LookAlive(), key="look")
        self.hibernate()

    async def on_recheck(self, message: Recheck) -> None:
        """End what the client may not have any more: the connection, or some of its topics."""
        if self._is_left:
            return
        end = await self._settings.service.may_stay(self._caller.principal)
        if end is not None:
            self._outlet.close(end.code, end.reason)
            self.stop(Normal())
            return
        for topic in self._topics.names():
            try:
                may_hear = await self._may_hear(topic)
            except Refused:
                continue
            if not may_hear:
                self._topics.leave(topic)
                for told in self._protocol.withdrawn(topic):
                    self._outlet.send(Frame(told))
        self.hibernate()

    def on_hang_up(self, message: HangUp) -> None:
        """Leave the tree; a command that still runs is first carried out to its end."""
        self._is_left = True
        self._topics.leave_all()
        if not self._running:
            self.stop(Normal())

    async def _carry_out(self, decision: Decision) -> None:
        match decision:
            case Reply(payload):
                self._outlet.send(Frame(payload))
            case AskTopics():
                await self._subscribe(decision)
            case DropTopics(topics, reply):
                for topic in topics:
                    self._topics.leave(topic)
                self._outlet.send(Frame(reply))
            case RunCommand():
                await self._run(decision)
            case Close(code, reason):
                self._outlet.close(code, reason)
                self.stop(Normal())

    async def _subscribe(self, ask: AskTopics) -> None:
        try:
            granted = [topic for topic in ask.topics if await self._may_hear(topic)]
        except Refused as refused:
            self._tell(refused, ask.id)
            return
        found: dict[str, bool] = {}
        if self._outlet.form is Form.V1:
            try:
                for topic in granted:
                    found[topic] = await self._topics.look(topic, ask.resume.get(topic))
            except trio.TooSlowError:
                text = "A topic does not answer; subscribe again."
                self._tell(Refused(text, SocketCode.TIMEOUT, retry_after=1), ask.id)
                return
        # Rule 3: from here to the last `_join` nothing waits.
        positions = {
            topic: self._topics.place(topic, ask.resume.get(topic), is_stored=is_stored)
            for topic, is_stored in found.items()
        }
        self._outlet.send(Frame(self._protocol.granted(granted, ask.id, positions)))
        # Of two names of one topic the later one is heard, and so is what was missed.
        names = {
            self._settings.known(topic): topic for topic, at in positions.items() if at.is_recovered
        }
        resumed = {topic: ask.resume[topic] for topic in names.values()}
        for topic in granted:
            if topic not in resumed:
                self._join(topic)
        missed = self._topics.missed(resumed)
        for topic in [*self._protocol.topics]:
            if topic not in granted and topic not in self._topics.names():
                self._protocol.topics.pop(topic)  # another name of what is recovered
        for topic in ask.topics:
            if topic not in granted:
                self._outlet.send(Frame(self._protocol.refused(topic)))
        for topic, rest in missed.items():
            last = await rest.send()
            if last is not None:
                self._join(topic, after=last)

    async def _run(self, run: RunCommand) -> None:
        """Carry a command out, or wait for what becomes of the same one sent before."""
        topic = None if run.topic is None else self._settings.known(run.topic)
        principal = self._caller.principal
        try:
            may_publish = await self._settings.service.may_publish(principal, topic)
        except Refused as refused:
            self._tell(refused, run.id)
            return
        if not may_publish:
            named = "no topic" if run.topic is None else run.topic
            text = f"You may not send commands to {named}."
            self._tell(Refused(text, SocketCode.FORBIDDEN), run.id)
            return
        key = self._key(run.id)
        outcome: Done | Refused | None = None
        with trio.move_on_after(self._settings.command_s):
            while outcome is None:
                fate = self._fate(run, key, Request(principal, topic, key and "/".join(key)))
                if fate.asked != run.asked:
                    text = "That id was given to another command; nothing was done."
                    outcome = Refused(text, SocketCode.CONFLICT)
                    break
                await fate.known.wait()
                # None: the connection that carried it out was stopped. It is our turn then.
                outcome = fate.outcome
        match outcome:
            case Done():
                self._tell_done(outcome, run)
            case Refused(plain=msgspec.Struct() as event) if self._outlet.form is Form.PLAIN:
                self._tell_alone(event, run)
            case Refused():
                self._tell(outcome, run.id)
            case None:
                text = "That took too long; it may still happen. Look before you repeat it."
                if run.id is not None:
                    text = "That took too long; it may still happen. Repeat it with the same id."
                self._tell(Refused(text, SocketCode.TIMEOUT, retry_after=1), run.id)

    def _key(self, message_id: str | None) -> CommandKey | None:
        if message_id is None:
            return None
        return CommandKey(self._caller.user, self._client, message_id)

    def _fate(self, run: RunCommand, key: CommandKey | None, request: Request[P]) -> Fate:
        if key is None:
            fate, is_new = Fate(run.asked), True
        else:
            share = self._caller.user if self._caller.share is None else self._caller.share
            fate, is_new = self._settings.memory.claim(key, run.asked, share)
        if is_new:
            self._running += 1
            # Not in this turn: it goes on when its sender is told that it takes too long, and what
            # it comes to is told to whoever repeats it.
            self.start_soon(self._carry, run.command, key, fate, request)
        return fate

    async def _carry(
        self, command: msgspec.Struct, key: CommandKey | None, fate: Fate, request: Request[P]
    ) -> None:
        outcome: Done | Refused | None = None
        settings = self._settings
        try:
            with trio.move_on_after(settings.command_s + settings.command_late_s):
                with span("ws.command", command=type(command).__name__):
                    outcome = await settings.service.dispatch(command, request)
            outcome = outcome or Refused("That took too long.", SocketCode.TIMEOUT, retry_after=1)
        except Refused as error:
            outcome = error
        except Exception:
            # A bug behind one command must not end the connection and its other topics.
            log.exception("socket.command_failed", command=type(command).__name__)
            outcome = Refused("An internal error occurred", SocketCode.INTERNAL)
        finally:
            settings.memory.settle(key, fate, outcome)
            self._running -= 1
            if self._is_left:
                self.ref.tell(HangUp())

    def _tell_done(self, done: Done, run: RunCommand) -> None:
        """Answer a command that is committed; a plain sender that hears of it has its answer."""
        if self._outlet.form is Form.V1:
            if run.id is not None:
                result = b"null" if done.result is None else fields_of(done.result)
                answer = self._protocol.acknowledged(run.id, result, done.position)
                self._outlet.send(Frame(answer))
            return
        if done.result is None:
            return
        if self._topics.hears(done.heard_on):
            return
        self._tell_alone(done.result, run)

    def _tell_alone(self, value: msgspec.Struct, run: RunCommand) -> None:
        """Tell a plain sender an event that nobody else hears."""
        event = Event(action_of(value), run.topic or DEFAULT)
        self._outlet.send(Frame(encode_server(event)))

    def _tell(self, refused: Refused, message_id: str | None) -> None:
        wait = refused.retry_after
        told = self._protocol.error(refused.text, refused.code, message_id, retry_after=wait)
        self._outlet.send(Frame(told))

    async def _may_hear(self, topic: str) -> bool:
        if not TOPIC_NAME.fullmatch(topic):
            return False
        return await self._settings.service.may_hear(
            self._caller.principal, self._settings.known(topic)
        )

    def _join(self, topic: str, after: int = -1) -> None:
        # Two names of one topic: the later one is heard, and nothing twice (WEB-30).
        for other in self._topics.join(topic, after):
            self._protocol.topics.pop(other, None)

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


def _drop() -> bool:
    return False
