"""Queues of streams and sockets: what is kept, what gives way."""

from __future__ import annotations

import uuid

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from actors.runtime import open_actors
from web.realtime import (
    BadTabId,
    CloseCode,
    HeartbeatActor,
    Heartbeats,
    Outlet,
    Policy,
    Rate,
    SocketBacklog,
    Stream,
    StreamActor,
    StreamBacklog,
    StreamKey,
    TokenBucket,
)
from web.server import Bundle, Frame, Framing, bundled


class SlowLane:
    """A lane whose reader is away until `open` is called."""

    def __init__(self, framing: Framing = Framing.RAW) -> None:
        self.framing = framing
        self.is_ready = False
        self.wrote: list[bytes] = []
        self.is_closed = False
        self._on_ready: object = None

    def write(self, wire: bytes) -> bool:
        if self.is_closed or not self.is_ready:
            return False
        self.wrote.append(wire)
        return True

    def when_ready(self, on_ready: object) -> None:
        self._on_ready = on_ready

    def close(self) -> None:
        self.is_closed = True

    def open(self) -> None:
        self.is_ready = True
        assert callable(self._on_ready)
        self._on_ready()


def frame(text: str) -> Frame:
    return Frame(text.encode())


def taken(backlog: StreamBacklog, bytes_max: int = 10**9) -> list[str]:
    return [kept.payload.decode() for kept in backlog.take(bytes_max)]


def test_a_panel_keeps_its_latest_state_and_chat_its_order() -> None:
    # SITE-95
    backlog = StreamBacklog()
    backlog.put_panel("tree", frame("tree 1"))
    backlog.put_chat(frame("a"), 1)
    backlog.put_panel("proof", frame("proof"))
    backlog.put_chat(frame("b"), 2)
    backlog.put_panel("tree", frame("tree 2"))
    assert taken(backlog) == ["a", "b", "proof", "tree 2"]
    assert not backlog
    assert backlog.statistics().bytes == 0


def test_the_65th_chat_event_becomes_the_wish_for_one_window() -> None:
    # SITE-95: no silent gap
    backlog = StreamBacklog()
    backlog.put_panel("tree", frame("tree"))
    for n in range(1, 66):
        backlog.put_chat(frame(f"m{n}"), n)
    assert backlog.window_wanted
    backlog.put_chat(frame("m66"), 66)
    backlog.put_chat(frame("m67"), 67)
    assert taken(backlog) == ["tree"]  # panels go on
    backlog.put_window(frame("window"), 66)
    assert taken(backlog) == ["window", "m67"]
    assert backlog.statistics().resyncs == 1


def test_a_window_takes_the_place_of_one_that_still_waits() -> None:
    # SITE-95: a feed that starts anew sends every reader a window, also those that are behind
    backlog = StreamBacklog()
    backlog.put_window(frame("older window"), 1)
    backlog.put_window(frame("window"), 2)
    assert backlog.statistics().bytes == len("window")
    assert taken(backlog) == ["window"]
    assert backlog.statistics().bytes == 0


def test_chat_is_bounded_in_bytes_too_and_panels_never_evict_it() -> None:
    # SITE-95, SEC-50
    backlog = StreamBacklog()
    backlog.put_chat(frame("m"), 1)
    assert backlog.put_panel("big", frame("x" * 200_000))
    assert not backlog.put_panel("bigger", frame("x" * 200_000))
    assert backlog.statistics().chat_events == 1
    for n in range(2, 30):
        backlog.put_chat(frame("y" * 10_000), n)
    assert backlog.window_wanted


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from("cpwt"), st.integers(1, 9000)), max_size=200))
def test_every_chat_event_is_sent_once_or_covered_by_a_window(
    steps: list[tuple[str, int]],
) -> None:
    # SITE-95, REL-62 in miniature
    backlog, n, seen = StreamBacklog(), 0, 0

    def note(texts: list[str]) -> None:
        nonlocal seen
        for text in texts:
            if text.startswith("w"):
                seen = int(text[1:].partition(" ")[0])
            elif text.startswith("m"):
                position = int(text[1:].partition(" ")[0])
                assert position == seen + 1
                seen = position

    for kind, size in steps:
        if kind == "c":
            n += 1
            backlog.put_chat(frame(f"m{n} " + "x" * size), n)
        elif kind == "p":
            backlog.put_panel(f"p{size % 3}", frame("p" * (size // 3 + 1)))
        elif kind == "w" and backlog.window_wanted:
            backlog.put_window(frame(f"w{n} " + "x" * size), n)
        elif kind == "t":
            note(taken(backlog, size))
    if backlog.window_wanted:
        backlog.put_window(frame(f"w{n} "), n)
    while backlog:
        note(taken(backlog))
    assert seen == n
    assert backlog.statistics().bytes == 0


def lagged(topic: str, missed: int) -> Frame:
    return frame(f"{topic} missed {missed}")


def test_a_full_socket_queue_follows_its_topics_policy() -> None:
    # SEC-50, REL-70
    dropping = SocketBacklog(lagged)
    for n in range(1002):
        assert dropping.put(frame(f"e{n}"), "t", Policy.DROP_OLDEST)
    sent = [kept.payload.decode() for kept in dropping.take(10**9)]
    assert sent[:2] == ["t missed 2", "e2"]
    assert len(sent) == 1001
    strict = SocketBacklog(lagged)
    assert all(strict.put(frame("e"), "t", Policy.DISCONNECT) for _ in range(1000))
    assert not strict.put(frame("e"), "t", Policy.DISCONNECT)
    replies = SocketBacklog(lagged)
    assert not all(replies.put(frame("r" * 5000)) for _ in range(300))
    latest = SocketBacklog(lagged)
    for n in range(3):
        latest.put(frame(f"l{n}"), "t", Policy.LATEST)
        latest.put(frame(f"o{n}"))
    assert [kept.payload for kept in latest.take(10**9)] == [b"o0", b"o1", b"l2", b"o2"]


async def test_a_socket_too_far_behind_is_closed_1013() -> None:
    # WEB-46, SEC-50
    outlet = Outlet(SlowLane())
    for _ in range(1001):
        outlet.send_topic(frame("e"), "t", Policy.DISCONNECT)
    assert outlet.closing.is_set()
    assert outlet.close_code is CloseCode.SLOW
    assert outlet.queued == 0


async def test_what_a_topic_puts_keeps_its_order_behind_what_waits_and_ends_with_the_close() -> (
    None
):
    # REL-44, WEB-47: also where the shortest way to the lane is taken
    lane = SlowLane(Framing.SOCKET)
    outlet = Outlet(lane)
    put = outlet.putter("t", Policy.DISCONNECT, 1)
    lane.is_ready = True
    put(frame("heard before"), 1)
    put(frame("2"), 2)
    lane.is_ready = False
    put(frame("3"), 3)
    lane.is_ready = True
    put(frame("4"), 4)
    assert outlet.queued == 2
    lane.open()
    put(frame("5"), 5)
    outlet.close(CloseCode.MISUSE, "why")
    put(frame("never"), 6)
    assert lane.wrote == [b"\x81\x012", b"\x81\x013\x81\x014", b"\x81\x015"]
    assert outlet.statistics().delivered == outlet.statistics().sent == 4


async def test_an_outlet_keeps_order_across_a_stall_and_flushes_before_it_closes() -> None:
    # REL-44
    lane = SlowLane()
    outlet = Outlet(lane)
    lane.is_ready = True
    outlet.send(frame("1"))
    lane.is_ready = False
    outlet.send(frame("2"))
    outlet.send(frame("3"))
    outlet.close(CloseCode.MISUSE, "why")
    outlet.send(frame("never"))
    lane.open()
    await outlet.wait_flushed(1)
    assert lane.wrote == [b"1", b"23"]
    assert lane.is_closed


def stream() -> Stream:
    return Stream(StreamKey(uuid.UUID(int=1), "tab"), "127.0.0.1")


async def test_a_stream_writes_what_waited_and_then_directly() -> None:
    # SITE-95, REL-44
    lane, found = SlowLane(), stream()
    found.put_chat(frame("early"), 1)
    found.attach(lane)
    found.put_chat(frame("next"), 2)
    lane.open()
    found.put_chat(frame("last"), 3)
    assert lane.wrote == [b"earlynext", b"last"]
    assert found.statistics().frames_sent == 3
    found.close("done")
    found.put_chat(frame("never"), 4)
    assert not found.put_panel("p", frame("never"))
    assert lane.is_closed
    assert repr(found).startswith("<Stream 00000000.tab done")


def bundle(*texts: str, first: int = 1) -> Bundle:
    (found,) = bundled([(frame(text), n) for n, text in enumerate(texts, first)], 10**9)
    return found


async def test_a_stream_takes_a_bundle_in_one_write_or_event_by_event() -> None:
    # SITE-95, REL-73: what waits is counted and dropped as if each had come alone
    lane, found = SlowLane(), stream()
    found.attach(lane)
    lane.open()
    found.put_chats(bundle("a", "b"))
    assert (lane.wrote, found.frames_sent) == ([b"ab"], 2)
    lane.is_ready = False
    found.put_chats(bundle("c", "d", first=3))
    assert found.statistics().backlog.chat_events == 2
    found.put_chats(bundle(*(f"m{n}" for n in range(5, 68)), first=5))
    assert found.is_behind
    found.put_chats(bundle("e", "f", first=68))
    found.put_window(frame("window"), 68)
    lane.open()
    assert lane.wrote == [b"ab", b"windowf"]
    found.close("done")
    found.put_chats(bundle("g", "h"))
    assert len(lane.wrote) == 2


async def test_a_stream_takes_several_panels_in_one_write_while_nothing_waits() -> None:
    # SITE-95
    lane, found = SlowLane(), stream()
    assert not found.write_now(bundle("p0", "q0")), "its head is not out"
    found.attach(lane)
    lane.open()
    assert found.write_now(bundle("p1", "q1"))
    lane.is_ready = False
    assert found.put_panel("p", frame("p2"))
    assert not found.write_now(bundle("p3", "q3"))
    lane.open()
    assert lane.wrote == [b"p1q1", b"p2"]
    assert found.frames_sent == 3


@pytest.mark.parametrize("tab", ["", "x" * 65, "a b", "a\n", "ä", "../x"])
def test_a_malformed_tab_id_is_refused(tab: str) -> None:
    # SITE-91
    with pytest.raises(BadTabId):
        StreamKey(uuid.UUID(int=1), tab)


async def test_a_silent_stream_beats_every_15_seconds_and_a_busy_one_does_not(
    autojump_clock: MockClock,
) -> None:
    # SITE-92, SITE-98, REL-61: a comment for what stands between, an event for the page's script
    beat = b": beat\n\nevent: datastar-beat\ndata: every 15\n\n"
    lane, found = SlowLane(), stream()
    found.attach(lane)
    lane.open()
    heartbeats = Heartbeats()
    heartbeats.add(found)
    async with open_actors() as system:
        await system.start(HeartbeatActor, heartbeats)
        await trio.sleep(14.9)
        assert lane.wrote == []
        await trio.sleep(0.7)
        assert lane.wrote == [beat]
        for n in range(6):
            await trio.sleep(5)
            found.put_chat(frame(f"m{n}"), n)
        assert lane.wrote[1:] == [b"m%d" % n for n in range(6)]
        await trio.sleep(31.2)
        assert lane.wrote[7:] == [beat] * 2
        heartbeats.discard(found)
        heartbeats.discard(found)
        await trio.sleep(60)
        assert len(lane.wrote) == 9
    assert repr(heartbeats) == "<Heartbeats of 0>"


async def test_a_crowd_that_opened_together_beats_in_slices_and_each_once(
    autojump_clock: MockClock,
) -> None:
    # SITE-92, REL-110: no turn is as long as the crowd; a closed one is passed over
    heartbeats, crowd = Heartbeats(), [stream() for _ in range(250)]
    lanes = [SlowLane() for _ in crowd]
    for lane, one in zip(lanes, crowd, strict=True):
        one.attach(lane)
        lane.open()
        heartbeats.add(one)
    one.when_closed(heartbeats.discard)
    one.close("gone")
    began = trio.current_time()
    assert [heartbeats.beat(began + 16, 100) for _ in range(3)] == [False, False, True]
    assert heartbeats.beat(began + 16)
    assert [len(lane.wrote) for lane in lanes] == [1] * 249 + [0]
    assert len(heartbeats) == 249


async def test_a_crowd_that_beats_leaves_no_message_for_the_lab_to_show(
    autojump_clock: MockClock,
) -> None:
    # REL-110: who is shown the actor's mailbox is written to, and would beat once more for it
    heartbeats, crowd = Heartbeats(), [stream() for _ in range(250)]
    has_begun = trio.Event()

    class TellingLane(SlowLane):
        def write(self, wire: bytes) -> bool:
            has_begun.set()
            return super().write(wire)

    lanes = [TellingLane() for _ in crowd]
    for lane, one in zip(lanes, crowd, strict=True):
        one.attach(lane)
        lane.open()
        heartbeats.add(one)
    async with open_actors() as system:
        ref = await system.start(HeartbeatActor, heartbeats, name="heartbeats")
        await has_begun.wait()
        turns = 0
        while not all(lane.wrote for lane in lanes):
            assert not system.cell_named(ref.path).mailbox.queued
            turns += 1
            await trio.lowlevel.checkpoint()
        assert turns, "others had no turn"
        await trio.sleep(16)
        assert {len(lane.wrote) for lane in lanes} == {2}


async def test_actor_and_stream_end_together() -> None:
    # SITE-94, SITE-95
    async with open_actors() as system:
        one, two = stream(), stream()
        ref = await system.start(StreamActor, one, lambda _: None)
        one.close("gone")
        await system.wait_down(ref)
        ref = await system.start(StreamActor, two, lambda _: None)
        await ref.stop()
        assert not two.is_open


def test_a_bucket_allows_its_burst_and_then_its_rate() -> None:
    # SEC-47
    bucket = TokenBucket(Rate(20, 40), 0.0)
    assert sum(bucket.take(0.0) for _ in range(100)) == 40
    assert sum(bucket.take(1.0) for _ in range(100)) == 20
    assert sum(bucket.take(100.0) for _ in range(100)) == 40
    assert not bucket.take(50.0)  # a clock that goes back earns nothing


@given(
    st.lists(
        st.tuples(st.sampled_from([*Policy, None, "open", "stall"]), st.integers(1, 400)),
        max_size=12,
    )
)
@settings(max_examples=25, deadline=None)
def test_every_frame_is_delivered_dropped_replaced_or_waits(
    steps: list[tuple[Policy | str | None, int]],
) -> None:
    # REL-73
    lane = SlowLane(Framing.SOCKET)
    outlet = Outlet(lane)
    for step, count in steps:
        if step == "open":
            lane.open()
        elif step == "stall":
            lane.is_ready = False
        else:
            for _ in range(count):
                if isinstance(step, Policy) and count % 2:
                    outlet.send_topics(bundle("x" * 50, "y" * 50), f"t-{step.value}", step)
                elif isinstance(step, Policy) and count % 4:
                    outlet.putter(f"t-{step.value}", step, 0)(frame("x" * 50), 1)
                elif isinstance(step, Policy):
                    outlet.send_topic(frame("x" * 50), f"t-{step.value}", step)
                else:
                    outlet.send(frame("r" * 50))
        found = outlet.statistics()
        told = found.delivered + found.dropped + found.replaced + found.waiting
        assert found.sent == told
    outlet.close(CloseCode.NORMAL, "over")
    outlet.end()
    found = outlet.statistics()
    assert found.waiting == 0
    assert found.sent == found.delivered + found.dropped + found.replaced
