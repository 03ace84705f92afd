"""Connections in virtual time: their actors, and a far end that the test plays."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import trio
from trio.testing import wait_all_tasks_blocked

from actors.runtime import System, open_actors
from web.realtime import (
    Caller,
    Close,
    CommandTable,
    Connection,
    ConnectionRef,
    Done,
    EndpointSettings,
    Form,
    Heard,
    Hub,
    Outlet,
    Place,
    Refused,
    Request,
    SocketCode,
)
from web.realtime.socket.connection import HangUp, TextCame
from web.server import Frame, PulledLane, Wire


class Nap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Takes so long; then it is done, or refused with a code."""

    seconds: float
    word: str = ""


class Napping:
    """Everybody may hear two topics; commands are counted when they begin and end."""

    def __init__(self) -> None:
        self.begun: list[str | None] = []
        self.ended = 0
        self.open = {"memory", "stored"}
        self.end: Close | None = None

    async def may_stay(self, principal: str) -> Close | None:
        return self.end

    async def may_hear(self, principal: str, topic: str) -> bool:
        return topic in self.open

    async def may_publish(self, principal: str, topic: str | None) -> bool:
        return topic != "closed"

    async def dispatch(self, command: msgspec.Struct, request: Request[str], /) -> Done:
        assert isinstance(command, Nap)
        self.begun.append(request.key)
        await trio.sleep(command.seconds)
        self.ended += 1
        if command.word:
            raise Refused("no", SocketCode(command.word))
        return Done(command, position="1.2")

    def encode(self, message: object, viewer: Heard, place: Place, /) -> Frame | None:
        return None

    def position(self, message: object) -> int | None:
        return None


def split(sent: bytes) -> list[dict[str, object]]:
    """Take the messages of one write apart."""
    text, at, found = sent.decode(), 0, []
    while at < len(text):
        value, at = json.JSONDecoder().raw_decode(text, at)
        found.append(value)
    return found


class Peer:
    """The far end: what was sent to it, and the connection in between."""

    def __init__(self, lane: PulledLane, wire: Wire, outlet: Outlet, ref: ConnectionRef) -> None:
        self.lane, self.wire, self.outlet, self.ref = lane, wire, outlet, ref
        self.got: list[bytes] = []
        self.answers_pings = True
        # Unset, it does not read.
        self.reads = trio.Event()
        self.reads.set()

    async def live(self) -> None:
        while True:
            await self.reads.wait()
            sent = await self.lane.pull()
            if sent is None:
                return
            self.got.append(sent)
            if self.answers_pings:
                self.wire.heard_at = trio.current_time()

    async def say(self, text: str) -> None:
        self.outlet.ask()
        await self.ref.send(TextCame(text))

    async def nap(self, message_id: str, seconds: float = 0, word: str = "") -> None:
        fields = msgspec.json.encode(Nap(seconds, word)).decode()
        await self.say(f'{{"type":"command","action":{{"Nap":{fields}}},"id":"{message_id}"}}')

    def hang_up(self) -> None:
        self.ref.tell(HangUp())

    async def heard(self) -> list[dict[str, object]]:
        """Take what came, once nothing more comes without time passing."""
        await wait_all_tasks_blocked()
        got, self.got = self.got, []
        return [told for sent in got if sent[0] != 0x89 for told in split(sent)]


class Kit:
    """One endpoint's settings, and its connections."""

    def __init__(
        self, system: System, nursery: trio.Nursery, hub: Hub[object, Heard] | None = None
    ) -> None:
        self.system, self._nursery = system, nursery
        self.service = Napping()
        hub = hub or Hub(
            self.service, subscribe=lambda topic, sink: None, unsubscribe=lambda topic, sink: None
        )
        self.settings = EndpointSettings[str](
            commands=CommandTable([Nap]), service=self.service, hub=hub
        )

    async def connect(
        self, form: Form = Form.PLAIN, *, user: str = "who", client: str | None = "phone"
    ) -> Peer:
        lane = PulledLane()
        # A wire has the fast lane in service; here the test plays the socket.
        wire = Wire(lane, trio.current_time())  # type: ignore[arg-type]  # reason: only PipeLane is made by the server
        outlet = Outlet(lane, form)
        caller = Caller(user, user, client)
        ref = await self.system.start(lambda: Connection(self.settings, caller, outlet, wire))
        peer = Peer(lane, wire, outlet, ref)
        self._nursery.start_soon(peer.live)
        return peer


@asynccontextmanager
async def open_kit() -> AsyncIterator[Kit]:
    async with open_actors() as system, trio.open_nursery() as nursery:
        yield Kit(system, nursery)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(form: Form = Form.PLAIN) -> AsyncIterator[Peer]:
    async with open_kit() as kit:
        yield await kit.connect(form)
