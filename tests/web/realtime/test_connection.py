"""The connection's actor in virtual time: who is alive, and floods."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.runtime import Ref, open_actors
from web.realtime import (
    CloseCode,
    CommandTable,
    Connection,
    Done,
    EndpointSettings,
    Hub,
    Outlet,
)
from web.realtime.socket.connection import BytesCame, HangUp, LookAlive, TextCame
from web.server import Frame, PulledLane, Wire


class Nap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    seconds: float


class Nothing:
    async def may_hear(self, principal: str, topic: str) -> bool:
        return False

    async def may_publish(self, principal: str, topic: str | None) -> bool:
        return True

    async def dispatch(self, command: msgspec.Struct, topic: str | None, principal: str) -> Done:
        assert isinstance(command, Nap)
        await trio.sleep(command.seconds)
        return Done()

    def encode(self, message: object, viewer: str) -> Frame | None:
        return None

    def position(self, message: object) -> int:
        return 0


class Peer:
    """The far end: what was sent to it, and the connection in between."""

    def __init__(self, lane: PulledLane, wire: Wire, outlet: Outlet) -> None:
        self.lane, self.wire, self.outlet = lane, wire, outlet
        self.got: list[bytes] = []
        self.answers_pings = True
        self.ref: Ref[TextCame | BytesCame | LookAlive | HangUp] | None = None

    async def live(self) -> None:
        while (sent := await self.lane.pull()) is not None:
            self.got.append(sent)
            if self.answers_pings:
                self.wire.heard_at = trio.current_time()


@asynccontextmanager
async def connected() -> AsyncIterator[Peer]:
    lane = PulledLane()
    # A wire has the fast lane in service; here the test plays the socket.
    wire = Wire(lane, trio.current_time())  # type: ignore[arg-type]  # reason: only PipeLane is made by the server
    outlet = Outlet(lane)
    nothing = Nothing()
    hub: Hub[object, str] = Hub(
        nothing, subscribe=lambda topic, sink: None, unsubscribe=lambda topic, sink: None
    )
    settings = EndpointSettings[str](commands=CommandTable([Nap]), service=nothing, hub=hub)
    peer = Peer(lane, wire, outlet)
    async with open_actors() as system, trio.open_nursery() as nursery:
        nursery.start_soon(peer.live)
        peer.ref = await system.start(lambda: Connection(settings, "who", outlet, wire))
        yield peer
        nursery.cancel_scope.cancel()


async def test_a_silent_but_healthy_client_lives_for_an_hour(autojump_clock: MockClock) -> None:
    # WEB-33, SEC-49
    async with connected() as peer:
        await trio.sleep(3600)
        assert not peer.outlet.closing.is_set()
        assert 115 <= peer.got.count(b"\x89\x00") <= 121


async def test_a_dead_peer_is_closed_4408_in_time(autojump_clock: MockClock) -> None:
    # WEB-33, SEC-49
    async with connected() as peer:
        peer.answers_pings = False
        began = trio.current_time()
        await peer.outlet.closing.wait()
        assert peer.outlet.close_code is CloseCode.DEAD
        assert "60 s" in peer.outlet.close_reason
        assert trio.current_time() - began == pytest.approx(60)


async def test_who_falls_silent_between_two_pings_is_given_up_in_time(
    autojump_clock: MockClock,
) -> None:
    # WEB-33: not at the next beat but one, which would be 90 s
    async with connected() as peer:
        await trio.sleep(31)
        peer.answers_pings = False
        peer.wire.heard_at = began = trio.current_time()
        await peer.outlet.closing.wait()
        assert trio.current_time() - began == pytest.approx(60)


async def test_a_command_over_ten_seconds_is_told_and_the_next_one_runs(
    autojump_clock: MockClock,
) -> None:
    # WEB-40
    async with connected() as peer:
        assert peer.ref is not None
        await peer.ref.send(TextCame('{"type":"command","action":{"Nap":{"seconds":11}}}'))
        await peer.ref.send(TextCame('{"type":"ping"}'))
        await trio.sleep(10.5)
        await wait_all_tasks_blocked()
        assert b"took too long" in peer.got[0]
        assert peer.got[1] == b'{"type":"pong"}'


async def test_a_flood_is_told_once_a_second_and_closed_after_two(
    autojump_clock: MockClock,
) -> None:
    # SEC-47
    async with connected() as peer:
        began = trio.current_time()

        async def flood() -> None:
            while True:
                for _ in range(100):
                    peer.wire.admit_frame()
                await trio.sleep(0.1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            await peer.outlet.closing.wait()
            nursery.cancel_scope.cancel()
        assert peer.outlet.close_code is CloseCode.MISUSE
        assert 2 <= trio.current_time() - began <= 2.5
        await wait_all_tasks_blocked()
        assert sum(b"Too many frames" in sent for sent in peer.got) == 2
