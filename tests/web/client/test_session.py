"""What the Python client says and makes of what it hears; no socket, no time that passes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from web.client.errors import CommandOverdue, CommandRefused
from web.client.session import REPEATABLE_S, Acknowledged, Gap, Session, TopicEvent
from web.realtime import Action

_FRAMES = {
    (one["name"]): one["frame"]
    for one in json.loads((Path(__file__).parents[1] / "frames.json").read_text())
}


class Bench:
    """A session, and everything it told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.wrong: list[Exception] = []
        self.answers: dict[str, Acknowledged | Exception] = {}
        self.heard: list[TopicEvent | Gap] = []
        self.session = Session(lambda: self.now, self.wrong.append)

    def open(self, *, is_versioned: bool = True) -> list[object]:
        return decoded(self.session.opened(is_versioned=is_versioned))

    def command(self, name: str, topic: str | None = None) -> list[object]:
        found: list[str] = []

        def settle(how: Acknowledged | Exception) -> None:
            self.answers[found[0] if found else name] = how

        message_id, frames = self.session.command(Action(name), topic, settle)
        found.append(message_id)
        return decoded(frames)

    def subscribe(self, topic: str) -> list[object]:
        return decoded(self.session.subscribe(topic, self.heard.append))

    def say(self, **message: object) -> list[object]:
        return decoded(self.session.heard(json.dumps(message)))

    def grant(self, seq: int, *, recovered: bool, epoch: str = "k3") -> None:
        place = {"epoch": epoch, "seq": seq, "recovered": recovered}
        self.say(type="subscribed", topics=["orders"], id="c1", positions={"orders": place})

    def happen(self, seq: int, *, epoch: str = "k3", **more: object) -> list[object]:
        event = {"type": "event", "action": {"E": {}}, "topic": "orders", "seq": seq}
        return self.say(**event, epoch=epoch, correlation_id="x", **more)

    @property
    def numbers(self) -> list[int | None]:
        return [one.seq if isinstance(one, TopicEvent) else None for one in self.heard]


def decoded(frames: list[bytes]) -> list[object]:
    return [json.loads(frame) for frame in frames]


def test_what_it_says_is_what_the_server_takes() -> None:
    # WEB-55
    bench = Bench()
    bench.open()
    assert bench.subscribe("orders") == [{"type": "subscribe", "topics": ["orders"], "id": "c1"}]
    (frame,) = bench.session.command(Action("PlaceOrder", b'{"n":1}'), "orders", print)[1]
    assert frame.decode() == _FRAMES["v1 command"].replace('"c3"', '"c2"')
    bench.grant(40, recovered=False)
    bench.happen(41)
    bench.session.lost()
    resumed = json.loads(_FRAMES["v1 subscribe"])
    assert bench.open()[0] == {**resumed, "id": "c3"}


def test_commands_are_answered_by_their_ids() -> None:
    # WEB-40, WEB-55
    bench = Bench()
    bench.open()
    bench.command("A")
    bench.command("B")
    bench.session.heard(_FRAMES["v1 error"].replace('"c1"', '"c2"'))
    bench.session.heard(_FRAMES["v1 ack"].replace('"c3"', '"c1"'))
    bench.session.heard(_FRAMES["v1 ack"].replace('"c3"', '"c1"'))
    assert bench.answers["c1"] == Acknowledged({"n": 7}, "1234.567")
    refused = bench.answers["c2"]
    assert isinstance(refused, CommandRefused)
    assert (refused.code, refused.retry_after_s) == ("TOO_MANY_REQUESTS", 2)


def test_what_had_no_answer_is_sent_again_in_order_with_its_id() -> None:
    # WEB-41, WEB-51, WEB-55
    bench = Bench()
    bench.open()
    bench.command("First")
    bench.session.lost()
    bench.command("Second")
    bench.command("Third")
    bench.session.withdraw("c3")
    assert bench.session.unsent == 2
    assert [frame["id"] for frame in bench.open()] == ["c1", "c2"]  # type: ignore[index]
    assert bench.session.unsent == 0


def test_what_the_server_has_forgotten_is_not_sent_again() -> None:
    # WEB-41
    bench = Bench()
    bench.open()
    bench.command("Old")
    bench.session.lost()
    bench.now += REPEATABLE_S + 1
    assert bench.open() == []
    assert isinstance(bench.answers["c1"], CommandOverdue)


def test_a_draining_server_refuses_and_the_next_is_asked() -> None:
    # WEB-55
    bench = Bench()
    bench.open()
    bench.command("Post")
    bench.say(type="error", message="The server restarts", code="SHUTTING_DOWN", id="c1")
    bench.session.lost()
    assert [frame["id"] for frame in bench.open()] == ["c1"]  # type: ignore[index]
    assert bench.answers == {}


def test_a_subscription_goes_on_and_hears_nothing_twice() -> None:
    # WEB-42, WEB-55
    bench = Bench()
    bench.open()
    bench.subscribe("orders")
    bench.grant(44, recovered=False)
    for seq in (45, 45):
        bench.happen(seq)
    bench.session.lost()
    bench.open()
    bench.grant(47, recovered=True)
    for seq in (46, 47, 48):
        bench.happen(seq)
    assert bench.numbers == [45, 46, 47, 48]


def test_what_cannot_be_recovered_is_a_gap() -> None:
    # WEB-51, WEB-55
    bench = Bench()
    bench.open()
    bench.subscribe("orders")
    bench.grant(44, recovered=False)
    bench.session.lost()
    bench.open()
    bench.grant(3, recovered=False, epoch="other")
    bench.happen(4, epoch="other")
    assert bench.heard[0] == Gap("orders")
    assert bench.numbers == [None, 4]


def test_a_hole_is_asked_for_before_anything_later_is_told() -> None:
    # WEB-42, WEB-55
    bench = Bench()
    bench.open()
    bench.subscribe("orders")
    bench.grant(40, recovered=False)
    bench.happen(43, prev=40)
    (asked,) = bench.happen(47, prev=45)
    assert asked["resume"] == {"orders": {"epoch": "k3", "seq": 43}}  # type: ignore[index]
    assert bench.happen(48, prev=47) == []
    bench.grant(48, recovered=True)
    for seq, prev in ((45, 43), (47, 45), (48, 47)):
        bench.happen(seq, prev=prev)
    assert bench.numbers == [43, 45, 47, 48]


@pytest.mark.parametrize(
    "data", ["", "{", "null", "[]", "7", '{"type":"nothing"}', '{"type":"event"}', b"\xff"]
)
def test_what_cannot_be_read_changes_nothing(data: str | bytes) -> None:
    # WEB-52, WEB-55
    bench = Bench()
    bench.open()
    bench.subscribe("orders")
    bench.grant(44, recovered=False)
    assert bench.session.heard(data) == []
    assert len(bench.wrong) == 1
    bench.happen(45)
    assert bench.numbers == [45]


def test_a_plain_server_is_spoken_to_plainly() -> None:
    # WEB-52, WEB-55
    bench = Bench()
    bench.subscribe("default")
    frames = bench.open(is_versioned=False)
    assert frames == [{"type": "subscribe", "topics": ["default"]}]
    assert bench.command("Increment") == [json.loads(_FRAMES["command without fields"])]
    assert bench.answers == {"Increment": Acknowledged(None, None)}
    bench.say(type="subscribed", topics=["default"])
    bench.session.heard(_FRAMES["event"])
    assert bench.heard == [TopicEvent("default", "OrderPlaced", {"n": 7}, None, None)]


def test_a_ping_is_answered() -> None:
    # WEB-33
    bench = Bench()
    bench.open()
    assert bench.session.heard(_FRAMES["server ping"]) == [b'{"type":"pong"}']
