"""The connection's actor in virtual time: who is alive, and floods."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.web.realtime.connection_kit import connected
from web.realtime import CloseCode, Form


async def test_a_silent_but_healthy_client_lives_for_an_hour(autojump_clock: MockClock) -> None:
    # WEB-33, SEC-49
    async with connected() as peer:
        await trio.sleep(3600)
        assert not peer.outlet.closing.is_set()
        assert 115 <= peer.got.count(b"\x89\x00") <= 121


async def test_a_program_is_pinged_in_its_own_protocol_as_well(autojump_clock: MockClock) -> None:
    # WEB-33: not every library shows the pings below
    async with connected(Form.V1) as peer:
        await trio.sleep(301)
        assert peer.got.count(b"\x89\x00") == peer.got.count(b'{"type":"ping"}') == 10


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
        await peer.say('{"type":"command","action":{"Nap":{"seconds":11}}}')
        await peer.say('{"type":"ping"}')
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
