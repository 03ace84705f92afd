"""Fan-out: one encoding for all who see the same, and members that come and go."""

from __future__ import annotations

import pytest
import trio

from web.realtime import (
    Broadcast,
    HistoryLimits,
    Hub,
    Membership,
    Place,
    StoredHead,
    StoredPage,
    TopicSink,
)
from web.realtime.broadcast import SLICE_MEMBERS
from web.server import Bundle, Frame


def frame(text: str) -> Frame:
    return Frame(text.encode())


class Texts:
    def __init__(self) -> None:
        self.calls: list[tuple[object, str]] = []

    def encode(self, message: object, viewer: str, place: Place, /) -> Frame | None:
        self.calls.append((message, viewer))
        return None if viewer == "blind" else frame(f"{message} for {viewer}")

    def position(self, message: object) -> int:
        return 0


def test_a_message_is_encoded_once_a_viewer_and_all_share_the_bytes() -> None:
    # ACT-145
    texts = Texts()
    cast: Broadcast[object, str] = Broadcast(texts)
    got: list[Frame] = []
    for viewer in ("a", "a", "b", "blind"):
        cast.join(viewer, lambda kept, _: got.append(kept))
    cast.deliver("m")
    assert texts.calls == [("m", "a"), ("m", "b"), ("m", "blind")]
    assert [kept.payload for kept in got] == [b"m for a", b"m for a", b"m for b"]
    assert got[0] is got[1]


def test_members_may_leave_while_a_message_is_delivered() -> None:
    # SITE-94
    cast: Broadcast[object, str] = Broadcast(Texts())
    got: list[int] = []

    def leave_both(_: Frame, __: int) -> None:
        got.append(1)
        one.leave()
        two.leave()
        two.leave()

    one = cast.join("a", leave_both)
    two = cast.join("a", lambda _, __: got.append(2))
    cast.deliver("m")
    cast.deliver("m")
    assert got == [1, 2]
    assert cast.member_count == 0


class Partly(Texts):
    """Cannot encode for one kind of viewer."""

    def encode(self, message: object, viewer: str, place: Place, /) -> Frame | None:
        if viewer == "odd":
            raise ZeroDivisionError
        return super().encode(message, viewer, place)


def test_a_member_that_raises_is_removed_and_the_others_hear() -> None:
    # ACT-82
    cast: Broadcast[object, str] = Broadcast(Partly())
    got: list[Frame] = []

    def fall(_: Frame, __: int) -> None:
        raise OSError

    cast.join("odd", lambda kept, _: got.append(kept))
    cast.join("a", lambda kept, _: got.append(kept))
    cast.join("a", fall)
    cast.join("a", lambda kept, _: got.append(kept))
    cast.deliver("m")
    assert [kept.payload for kept in got] == [b"m for a", b"m for a"]
    assert cast.member_count == 3
    cast.deliver("n")
    assert [kept.payload for kept in got][2:] == [b"n for a", b"n for a"]


def test_a_topic_without_members_is_removed() -> None:
    # WEB-47
    subscribed: dict[str, TopicSink] = {}
    hub: Hub[object, str] = Hub(
        Texts(),
        subscribe=subscribed.__setitem__,
        unsubscribe=lambda topic, sink: subscribed.pop(topic),
        now=lambda: 0.0,
    )
    one = hub.join("t", "a", lambda _, __: None)
    two = hub.join("t", "b", lambda _, __: None)
    assert (hub.topic_count, hub.member_count("t"), list(subscribed)) == (1, 2, ["t"])
    one.leave()
    two.leave()
    assert (hub.topic_count, hub.member_count("t"), subscribed) == (0, 0, {})


class Numbers:
    """Messages are their own numbers in the store; odd ones are for nobody."""

    def encode(self, message: object, viewer: str, place: Place, /) -> Frame | None:
        return frame(f"{viewer} {message} {place.prev}")

    def position(self, message: object) -> int | None:
        assert isinstance(message, int)
        return None if message % 2 else message


class Nowhere:
    """A topic of the store that is never asked."""

    async def head(self) -> StoredHead:
        raise AssertionError

    async def page(self, after: int, limit: int) -> StoredPage[object]:
        raise AssertionError


def test_a_topic_in_memory_counts_by_one_and_keeps_what_was_said() -> None:
    # WEB-42, REL-70: so many, so long
    now = 0.0
    limits = HistoryLimits(events_max=3, kept_s=10)
    cast: Broadcast[object, str] = Broadcast(Texts(), history=limits, now=lambda: now)
    other: Broadcast[object, str] = Broadcast(Texts(), history=limits, now=lambda: now)
    assert cast.epoch != other.epoch
    for n in range(1, 6):
        now = float(n)
        cast.deliver(f"m{n}")
    assert (cast.seq, cast.kept_count) == (5, 3)

    def missed(seq: int) -> list[int] | None:
        found = cast.after(seq)
        return None if found is None else [kept.place.seq for kept in found]

    assert [missed(seq) for seq in (1, 2, 4, 5)] == [None, [3, 4, 5], [5], []]
    now = 14.0
    assert [missed(seq) for seq in (3, 4)] == [None, [5]]
    now = 15.0
    assert [missed(seq) for seq in (4, 5)] == [None, []]


def test_a_frame_is_encoded_once_for_who_hears_and_who_comes_back() -> None:
    # WEB-35
    texts = Texts()
    cast: Broadcast[object, str] = Broadcast(texts, history=HistoryLimits(), now=lambda: 0.0)
    got: list[Frame] = []
    cast.join("a", lambda kept, _: got.append(kept))
    cast.deliver("m")
    missed = cast.after(0)
    assert missed is not None
    (kept,) = missed
    assert cast.frame(kept, "a") is got[0]
    assert cast.frame(kept, "b") is cast.frame(kept, "b")
    assert len(texts.calls) == 2


def test_a_topic_of_the_store_has_its_numbers_and_tells_the_one_before() -> None:
    # WEB-42
    cast: Broadcast[object, str] = Broadcast(
        Numbers(), history=HistoryLimits(), source=Nowhere(), now=lambda: 0.0
    )
    assert not cast.begun.is_set()
    cast.begin("lineage", 4, 5)
    got: list[bytes] = []
    cast.join("a", lambda kept, _: got.append(kept.payload))
    for n in (6, 7, 10):
        cast.deliver(n)
    cast.pass_by(11)
    assert got == [b"a 6 4", b"a 10 6"]
    assert (cast.seq, cast.known) == (10, 11)
    assert cast.after(4) is None, "what was before the start is not known to be whole"
    assert [kept.place.seq for kept in cast.after(5) or ()] == [6, 10]
    cast.forget()
    assert cast.after(10) is None
    assert cast.after(11) == []
    cast.begin("another", 2, 2)
    assert (cast.epoch, cast.after(1), cast.after(2)) == ("another", None, [])


def test_a_topic_is_kept_for_who_may_come_back_and_not_longer() -> None:
    # WEB-47
    now = 0.0
    subscribed: dict[str, TopicSink] = {}
    hub: Hub[object, str] = Hub(
        Texts(),
        subscribe=subscribed.__setitem__,
        unsubscribe=lambda topic, sink: subscribed.pop(topic),
        history=HistoryLimits(kept_s=10),
        now=lambda: now,
    )
    one = hub.join("t", "a", lambda _, __: None)
    quiet = hub.join("quiet", "a", lambda _, __: None)
    subscribed["t"].deliver("m")
    one.leave()
    quiet.leave()
    assert [*subscribed] == ["t"]
    epoch = hub.broadcast("t").epoch
    now = 9.0
    subscribed["t"].deliver("m")
    back = hub.join("t", "a", lambda _, __: None)
    assert hub.broadcast("t").epoch == epoch
    back.leave()
    now = 18.0
    assert hub.topic_count == 1
    subscribed["t"].deliver("m")
    now = 19.0
    assert (hub.topic_count, subscribed) == (0, {}), "also one where much is said"


class Ears:
    """A member that notes what it hears, bundles as such."""

    def __init__(self, cast: Broadcast[object, str]) -> None:
        self.heard: list[bytes] = []
        self.bundles: list[int] = []
        self.place: Membership = cast.join("a", self.put, self.put_all)

    def put(self, kept: Frame, _: int) -> None:
        self.heard.append(kept.payload)

    def put_all(self, bundle: Bundle) -> None:
        self.bundles.append(len(bundle))
        self.heard += [kept.payload for kept, _ in bundle.entries]


def stored() -> Broadcast[object, str]:
    cast: Broadcast[object, str] = Broadcast(
        Numbers(), history=HistoryLimits(), source=Nowhere(), now=lambda: 0.0
    )
    cast.begin("lineage", 0, 0)
    return cast


async def test_what_is_spread_comes_in_one_bundle_and_is_kept() -> None:
    # WEB-35, WEB-42
    cast = stored()
    one, plain = Ears(cast), list[bytes]()
    cast.join("b", lambda kept, _: plain.append(kept.payload))
    await cast.spread([(n, "") for n in (1, 2, 3, 4)])
    await cast.spread([(5, "")])
    await cast.spread([(6, "")])
    assert one.heard == [b"a 2 0", b"a 4 2", b"a 6 4"]
    assert one.bundles == [2], "one alone is no bundle"
    assert plain == [b"b 2 0", b"b 4 2", b"b 6 4"], "who takes no bundles gets each"
    assert [kept.place.seq for kept in cast.after(0) or ()] == [2, 4, 6]


async def test_others_have_their_turn_between_slices_of_members() -> None:
    # REL-13: 2000 members must not hold up who has nothing to do with them
    cast = stored()
    crowd = [Ears(cast) for _ in range(6 * SLICE_MEMBERS + 1)]
    heard: list[int] = []

    async def look() -> None:
        while not crowd[-1].heard:
            heard.append(sum(len(one.heard) for one in crowd))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await cast.spread([(2, "")])
    steps = {count for count in heard if 0 < count < len(crowd)}
    # Which of two tasks has its turn first is for trio to choose.
    assert steps <= {n * SLICE_MEMBERS for n in range(1, 7)}
    assert len(steps) >= 2


async def test_who_joins_between_slices_is_behind_and_who_leaves_hears_no_more() -> None:
    # WEB-31: no event is missed and none comes early
    cast = stored()
    crowd = [Ears(cast) for _ in range(6 * SLICE_MEMBERS)]
    late: list[Ears] = []
    missed: list[int] = []

    async def change() -> None:
        while not crowd[0].heard:
            await trio.lowlevel.checkpoint()
        crowd[-1].place.leave()
        missed.extend(kept.place.seq for kept in cast.after(0) or ())
        late.append(Ears(cast))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(change)
        await cast.spread([(2, "")])
    assert [len(one.heard) for one in (crowd[0], crowd[-2], crowd[-1])] == [1, 1, 0]
    assert missed == [2], "who joins finds it among what is kept"
    assert late[0].heard == []
    await cast.spread([(4, "")])
    assert late[0].heard == crowd[0].heard[1:] == [b"a 4 2"]


async def test_a_spread_that_is_cancelled_leaves_nobody_out() -> None:
    # REL-30, WEB-42: its numbers count as heard by all
    cast = stored()
    crowd = [Ears(cast) for _ in range(2 * SLICE_MEMBERS)]

    def fall(*_: object) -> None:
        raise OSError

    cast.join("a", fall, fall)
    crowd.append(Ears(cast))
    with trio.CancelScope() as scope:
        scope.cancel()
        await cast.spread([(2, ""), (4, "")])
        pytest.fail("it is a checkpoint")
    assert {len(one.heard) for one in crowd} == {2}
    assert cast.member_count == len(crowd), "who raises is removed"
