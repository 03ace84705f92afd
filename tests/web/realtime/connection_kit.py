"""Connections in virtual time: their actors, and a far end that the test plays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import trio
from trio.testing import wait_all_tasks_blocked

from actors.runtime import System, open_actors
from web.realtime import (
    Caller,
    CommandTable,
    Connection,
    ConnectionRef,
    Done,
    EndpointSettings,
    Form,
    Hub,
    Outlet,
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
    """Everybody may do everything but hear; commands are counted when they begin and end."""

    def __init__(self) -> None:
        self.begun: list[str | None] = []
        self.ended = 0

    async def may_hear(self, principal: str, topic: str) -> bool:
        return False

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

    def encode(self, message: object, viewer: str) -> Frame | None:
        return None

    def position(self, message: object) -> int:
        return 0


class Peer:
    """The far end: what was sent to it, and the connection in between."""

    def __init__(self, lane: PulledLane, wire: Wire, outlet: Outlet, ref: ConnectionRef) -> None:
        self.lane, self.wire, self.outlet, self.ref = lane, wire, outlet, ref
        self.got: list[bytes] = []
        self.answers_pings = True

    async def live(self) -> None:
        while (sent := await self.lane.pull()) is not None:
            self.got.append(sent)
            if self.answers_pings:
                self.wire.heard_at = trio.current_time()

    async def say(self, text: str) -> None:
        await self.ref.send(TextCame(text))

    async def nap(self, message_id: str, seconds: float = 0, word: str = "") -> None:
        fields = msgspec.json.encode(Nap(seconds, word)).decode()
        await self.say(f'{{"type":"command","action":{{"Nap":{fields}}},"id":"{message_id}"}}')

    async def hang_up(self) -> None:
        await self.ref.send(HangUp())

    async def heard(self) -> list[dict[str, object]]:
        """Take what came, once nothing more comes without time passing."""
        await wait_all_tasks_blocked()
        got, self.got = self.got, []
        return [
            msgspec.json.decode(sent, type=dict[str, object]) for sent in got if sent[0] != 0x89
        ]


class Kit:
    """One endpoint's settings, and its connections."""

    def __init__(self, system: System, nursery: trio.Nursery) -> None:
        self.system, self._nursery = system, nursery
        self.service = Napping()
        hub: Hub[object, str] = Hub(
            self.service, subscribe=lambda topic, sink: None, unsubscribe=lambda topic, sink: None
        )
        self.settings = EndpointSettings[str](
            commands=CommandTable([Nap]), service=self.service, hub=hub
        )

    async def connect(
        self, form: Form = Form.PLAIN, *, user: str = "who", client: str = "phone"
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
