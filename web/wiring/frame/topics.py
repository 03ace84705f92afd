"""Topics of a site of one's own on `/ws`: what is told there, and what may be asked for.

A topic has the name under which actors publish (`system.topics`). Of what is published, messages
of the listed classes are told; all others stay inside.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TypeVar, cast
from uuid import UUID

import msgspec
from hypercorn.typing import HTTPScope, WebsocketScope

from actors.persistence import Idempotent, Refusal
from actors.persistence.errors import StoreError
from actors.runtime import AskError
from web.realtime import (
    Action,
    Caller,
    Close,
    CommandTable,
    Done,
    Refused,
    Request,
    SocketCode,
    client_of,
    guest_of,
)
from web.server import request_state

C = TypeVar("C", bound=msgspec.Struct)

# A part that is being restarted is back by then.
RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who is on a socket: the browser its cookie names, or a program.

    A program that names itself (`?client=<uuid>`) is the same each time, any other is someone new.
    `address` is the client's, as the trusted proxies tell it. `key` is what tells a repeat of the
    command in hand, for the append it causes: the same whenever the client sends it again, also to
    another process. None for a command without an id.
    """

    visitor: UUID
    address: str
    key: Idempotent | None = None


# A key that is as long as a client's id may be has its hash in the store.
_KEY_SCOPE = "socket"
# What is told to the sender: a struct, nothing but that it is done, or why it was refused.
Told = msgspec.Struct | Refusal | None
Run = Callable[[msgspec.Struct, Speaker], Awaitable[Told]]


@dataclass(frozen=True, slots=True)
class Command:
    """What a client may ask for on a topic; made by `command`."""

    kind: type[msgspec.Struct]
    run: Run
    lenient: str = ""


def command(
    kind: type[C], run: Callable[[C, Speaker], Awaitable[Told]], *, lenient: str = ""
) -> Command:
    """Call this for a command: `run` is awaited with what came, checked, and who sent it.

    `kind` is a struct with `forbid_unknown_fields=True`, and its class name is the command's. What
    `run` gives, once what it did is committed, is told to the sender: a struct, None for done, or
    an aggregate's `Refusal`; with `Refused` it says more, such as when to try again. A struct of
    the topic's own events is taken as published there: a plain connection that hears the topic is
    told it once. It may be cancelled a minute after the client was told that it is late.

    `lenient` says why unknown fields are passed over here; they are refused otherwise.
    """
    return Command(kind, cast("Run", run), lenient)


def everybody(_: Speaker) -> bool:
    """Let everybody hear a topic."""
    return True


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic: the classes that are told of it, its commands, and who may hear and speak."""

    name: str
    events: Sequence[type[msgspec.Struct]]
    commands: Sequence[Command] = ()
    may_hear: Callable[[Speaker], bool] = everybody


def table_of(topics: Sequence[Topic]) -> CommandTable:
    """Call this for all commands and events; raises `NotACommandClass` for what cannot be one."""
    return CommandTable(
        [command.kind for topic in topics for command in topic.commands],
        events={event for topic in topics for event in topic.events},
        lenient=[one.kind for topic in topics for one in topic.commands if one.lenient],
    )


class TopicTells:
    """What sockets are told of messages."""

    def __init__(self, topics: Sequence[Topic]) -> None:
        self._events = tuple({event for topic in topics for event in topic.events})

    def action(self, message: object, /) -> Action | None:
        """Write a message as an action."""
        if not isinstance(message, self._events):
            return None
        return Action(type(message).__name__, msgspec.json.encode(message))

    def position(self, message: object, /) -> int | None:
        """Have the topic count what is told by itself."""
        return 0 if isinstance(message, self._events) else None


class TopicService:
    """What a socket may hear and do."""

    def __init__(self, topics: Sequence[Topic]) -> None:
        self._topics = {topic.name: topic for topic in topics}
        self._commands = {
            command.kind: (command, topic) for topic in topics for command in topic.commands
        }

    async def may_stay(self, principal: Speaker) -> Close | None:
        """Everybody may, for as long as they like."""
        return None

    async def may_hear(self, principal: Speaker, topic: str) -> bool:
        """As the topic says."""
        known = self._topics.get(topic)
        return known is not None and known.may_hear(principal)

    async def may_publish(self, principal: Speaker, topic: str | None) -> bool:
        """Whoever may hear a topic; a command without one is asked when it is known."""
        return topic is None or await self.may_hear(principal, topic)

    async def dispatch(self, command: msgspec.Struct, request: Request[Speaker], /) -> Done:
        """Carry a command out; one without a topic is meant for its own."""
        known, topic = self._commands[type(command)]
        if request.topic not in (None, topic.name) or not topic.may_hear(request.principal):
            text = f"{known.kind.__name__} is no command of this topic for you."
            raise Refused(text, SocketCode.FORBIDDEN)
        try:
            told = await known.run(command, _speaking(command, request))
        except (AskError, StoreError) as error:
            text = "It does not answer; send it again with the same id."
            raise Refused(text, SocketCode.TIMEOUT, retry_after=RETRY_S) from error
        if isinstance(told, Refusal):
            raise Refused(told.message)
        return Done(told, topic.name if isinstance(told, tuple(topic.events)) else None)


def _speaking(command: msgspec.Struct, request: Request[Speaker]) -> Speaker:
    if request.key is None:
        return request.principal
    key = sha256(request.key.encode()).hexdigest()
    asked = sha256(type(command).__name__.encode() + b"\0" + msgspec.json.encode(command))
    return replace(request.principal, key=Idempotent(_KEY_SCOPE, key, asked.digest()))


async def caller_of(scope: WebsocketScope | HTTPScope) -> Caller[Speaker]:
    """Call this at the handshake: who it is, by the visitor's cookie, or by its own name."""
    state, client = request_state(scope), client_of(scope)
    visitor = state.visitor.id
    if state.visitor.is_new and client is not None:
        visitor = guest_of(client)
    name = None if client is None else str(client)
    return Caller(Speaker(visitor, state.address), str(visitor), name, state.address)
