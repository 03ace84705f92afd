"""Fan-out: one encoding for all who see the same, and members that come and go."""

from __future__ import annotations

from web.realtime import Broadcast, Hub, TopicSink
from web.server import Frame


def frame(text: str) -> Frame:
    return Frame(text.encode())


class Texts:
    def __init__(self) -> None:
        self.calls: list[tuple[object, str]] = []

    def encode(self, message: object, viewer: str) -> Frame | None:
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

    def encode(self, message: object, viewer: str) -> Frame | None:
        if viewer == "odd":
            raise ZeroDivisionError
        return super().encode(message, viewer)


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
    )
    one = hub.join("t", "a", lambda _, __: None)
    two = hub.join("t", "b", lambda _, __: None)
    assert (hub.topic_count, hub.member_count("t"), list(subscribed)) == (1, 2, ["t"])
    one.leave()
    two.leave()
    assert (hub.topic_count, hub.member_count("t"), subscribed) == (0, 0, {})
