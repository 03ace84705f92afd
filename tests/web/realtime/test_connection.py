"""The connection's actor in virtual time: who is alive, and floods."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.tallied import numbers
from tests.web.realtime.connection_kit import connected, open_kit
from web.realtime import Close, CloseCode, Form
from web.realtime.socket.connection import Recheck


async def test_a_silent_but_healthy_client_lives_for_an_hour(autojump_clock: MockClock) -> None:
    # WEB-33, SEC-49
    async with connected() as peer:
        await trio.sleep(3600)
        assert not peer.outlet.closing.is_set()
        assert 115 <= peer.got.count(b"\x89\x00") <= 121


async def test_a_healthy_client_outlives_a_loop_that_stands_at_every_ping(
    autojump_clock: MockClock,
) -> None:
    # REL-90, WEB-33: two seconds in which nobody runs, and no pong is read, just when one is due
    async with connected() as peer:
        for _ in range(20):
            await trio.sleep(29.5)
            autojump_clock.jump(2.0)
        assert not peer.outlet.closing.is_set()
        # A kit whose clients are never cut would find nothing.
        peer.answers_pings = False
        await peer.outlet.closing.wait()
        assert peer.outlet.close_code is CloseCode.DEAD


async def test_a_program_is_pinged_in_its_own_protocol_as_well(autojump_clock: MockClock) -> None:
    # WEB-33: not every library shows the pings below
    async with connected(Form.V1) as peer:
        await trio.sleep(301)
        assert peer.got.count(b"\x89\x00") == peer.got.count(b'{"type":"ping"}') == 10


async def test_a_dead_peer_is_closed_4408_in_time(autojump_clock: MockClock) -> None:
    # WEB-33, SEC-49, REL-32: also where a proxy acknowledges for it
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


async def test_the_end_of_a_session_is_noticed_though_nobody_tells(
    autojump_clock: MockClock,
) -> None:
    # SEC-44, WEB-45, WEB-46
    async with open_kit() as kit:
        peer = await kit.connect(Form.V1)
        await trio.sleep(90)
        assert not peer.outlet.closing.is_set()
        kit.service.end = Close(CloseCode.SESSION_ENDED, "the session ended")
        began = trio.current_time()
        await peer.outlet.closing.wait()
        assert trio.current_time() - began <= 60
        told = (peer.outlet.close_code, peer.outlet.close_reason)
        assert told == (CloseCode.SESSION_ENDED, "the session ended")


async def test_a_topic_that_may_not_be_heard_any_more_is_taken_away(
    autojump_clock: MockClock,
) -> None:
    # WEB-45, SEC-43, SEC-55: at once when it is told, and the rest goes on
    async with open_kit() as kit:
        peer = await kit.connect(Form.V1)
        await peer.say('{"type":"subscribe","topics":["memory","stored"]}')
        await peer.heard()
        kit.service.open = {"stored"}
        peer.ref.tell(Recheck())
        unsubscribed, error = await peer.heard()
        assert unsubscribed == {"type": "unsubscribed", "topics": ["memory"]}
        assert error["code"] == "FORBIDDEN"
        assert kit.settings.hub.member_count("memory") == 0
        assert kit.settings.hub.member_count("stored") == 1
        assert await peer.heard() == [], "told once"


@pytest.mark.parametrize("name", ["Room", "0", "", "a" * 129, "a b", "a\\u0000"])
async def test_names_that_can_be_no_topic_are_refused_and_nobody_is_asked(
    name: str, autojump_clock: MockClock
) -> None:
    # SEC-55
    async with open_kit() as kit:
        kit.service.open.add(name)
        peer = await kit.connect(Form.V1)
        await peer.say(f'{{"type":"subscribe","topics":["{name}"],"id":"c1"}}')
        subscribed, error = await peer.heard()
        assert (subscribed["topics"], subscribed["id"]) == ([], "c1")
        assert (error["code"], error.get("id")) == ("FORBIDDEN", None)


async def test_what_clients_send_is_counted_by_what_it_is(autojump_clock: MockClock) -> None:
    # OBS-1: what cannot be read is counted with what asks for nothing
    async with open_kit() as kit:
        peer = await kit.connect()
        for text in (
            '{"type":"subscribe","topics":["default"]}',
            '{"type":"unsubscribe","topics":["default"]}',
            '{"type":"command","action":{"Nap":{"seconds":0}}}',
            '{"type":"ping"}',
            "{",
        ):
            await peer.say(text)
        await wait_all_tasks_blocked()
        counted = numbers(kit.system, "ws_messages_total")
        assert counted == {("subscribe",): 1, ("unsubscribe",): 1, ("command",): 1, ("other",): 2}
