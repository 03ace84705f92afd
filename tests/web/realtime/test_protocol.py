"""The WebSocket protocol without a socket: golden bytes, limits, mutations."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.realtime import (
    Action,
    ClientMessage,
    CloseCode,
    Command,
    CommandTable,
    Error,
    Event,
    NotACommandClass,
    Ping,
    Pong,
    ProtocolViolation,
    ServerMessage,
    ServerProtocol,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
    action_of,
    decode_client,
    decode_server,
    encode_client,
    encode_server,
)
from web.realtime.socket.protocol import AskTopics, Close, Decision, DropTopics, Reply, RunCommand


class PlaceOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    n: int


class Increment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class OrderPlaced(msgspec.Struct, frozen=True):
    n: int


# What each golden frame says; the frames stand in a file that clients are tested with too.
CLIENT_SAYS: dict[str, ClientMessage] = {
    "subscribe": Subscribe(("a", "b")),
    "unsubscribe": Unsubscribe(("a",)),
    "command without fields": Command(Action("Increment"), None),
    "command with fields": Command(Action("PlaceOrder", b'{"n":1}'), "orders"),
    "ping": Ping(),
    "pong": Pong(),
}
SERVER_SAYS: dict[str, ServerMessage] = {
    "subscribed": Subscribed(("a", "b")),
    "unsubscribed": Unsubscribed(("a",)),
    "event": Event(action_of(OrderPlaced(7)), "default"),
    "error": Error("no \u2028 \u00e4"),
    "server ping": Ping(),
    "server pong": Pong(),
}
FRAMES = json.loads((Path(__file__).parents[1] / "frames.json").read_text())
GOLDEN: dict[str, bytes] = {known["name"]: known["frame"].encode() for known in FRAMES}
CLIENT = [(message, GOLDEN[name]) for name, message in CLIENT_SAYS.items()]
SERVER = [(message, GOLDEN[name]) for name, message in SERVER_SAYS.items()]
TABLE = CommandTable([PlaceOrder, Increment], events=[OrderPlaced])


def protocol() -> ServerProtocol:
    return ServerProtocol(TABLE, 0.0)


def error_text(decision: Decision) -> str:
    assert isinstance(decision, Reply)
    found = decode_server(decision.payload)
    assert isinstance(found, Error)
    return found.message


def test_every_golden_frame_is_looked_at() -> None:
    # WEB-30
    assert {known["name"] for known in FRAMES if known["from"] == "client"} == set(CLIENT_SAYS)
    assert {known["name"] for known in FRAMES if known["from"] == "server"} == set(SERVER_SAYS)


@pytest.mark.parametrize(("message", "golden"), CLIENT)
def test_client_messages_have_golden_bytes(message: ClientMessage, golden: bytes) -> None:
    # WEB-30
    assert encode_client(message) == golden
    assert decode_client(golden) == message


@pytest.mark.parametrize(("message", "golden"), SERVER)
def test_server_messages_have_golden_bytes(message: ServerMessage, golden: bytes) -> None:
    # WEB-30
    assert encode_server(message) == golden
    assert decode_server(golden) == message


@pytest.mark.parametrize(("message", "golden"), CLIENT)
def test_other_orders_spaces_and_keys_are_taken(message: ClientMessage, golden: bytes) -> None:
    # WEB-30
    loose = dict(reversed(list(json.loads(golden).items()))) | {"unknown": [1]}
    found = decode_client(json.dumps(loose, indent=2))
    if isinstance(message, Command):
        assert isinstance(found, Command)
        assert json.loads(found.action.fields) == json.loads(message.action.fields)
        assert (found.action.name, found.topic) == (message.action.name, message.topic)
    else:
        assert found == message


def test_a_topic_may_be_absent() -> None:
    # WEB-30
    assert decode_client('{"type":"command","action":"Increment"}') == Command(
        Action("Increment"), None
    )


@given(st.text(max_size=60) | st.sampled_from(CLIENT).map(lambda pair: pair[1].decode()), st.data())
def test_mutated_frames_are_told_and_never_raise(text: str, data: st.DataObject) -> None:
    # SEC-51
    at = data.draw(st.integers(0, len(text)))
    mutated = text[:at] + data.draw(st.text(max_size=3)) + text[at + 1 :]
    for decision in protocol().receive_text(mutated, 1.0):
        assert isinstance(decision, Reply | AskTopics | DropTopics | RunCommand)


def test_nesting_without_end_is_an_error() -> None:
    # SEC-51, SEC-119
    assert error_text(protocol().receive_text("[" * 60_000, 0)[0])
    (decision,) = protocol().receive_text('{"type":"command","action":' + "[" * 30_000, 0)
    assert "not JSON" in error_text(decision)


def test_commands_are_a_closed_list() -> None:
    # WEB-32, SEC-56
    p = protocol()
    (run,) = p.receive_text('{"type":"command","action":{"PlaceOrder":{"n":3}}}', 0)
    assert run == RunCommand(PlaceOrder(3), None)
    (run,) = p.receive_text('{"type":"command","action":"Increment","topic":"t"}', 0)
    assert run == RunCommand(Increment(), "t")
    for action, told in [
        ('"OrderPlaced"', "OrderPlaced is an event"),
        ('"__class__"', "no command '__class__'"),
        ('{"PlaceOrder":{"n":"3"}}', "$.n"),
        ('{"PlaceOrder":{}}', "n"),
        ('{"PlaceOrder":{"n":1,"m":2}}', "m"),
        ('{"PlaceOrder":{"n":1},"Increment":{}}', "only key"),
        ("{}", "only key"),
        ("7", "$"),
    ]:
        (decision,) = p.receive_text(f'{{"type":"command","action":{action}}}', 0)
        assert told in error_text(decision)


def test_a_command_class_that_takes_anything_is_refused_at_start_up() -> None:
    # SEC-114
    with pytest.raises(NotACommandClass):
        CommandTable([OrderPlaced])
    with pytest.raises(NotACommandClass):
        CommandTable([PlaceOrder], events=[PlaceOrder])


def test_topics_are_granted_once_in_order_and_capped() -> None:
    # WEB-31; a hundred topics at most
    p = protocol()
    assert p.receive_text('{"type":"subscribe","topics":["b","a","b"]}', 0) == [
        AskTopics(("b", "a"))
    ]
    assert p.granted(["b", "a"]) == b'{"type":"subscribed","topics":["b","a"]}'
    many = json.dumps({"type": "subscribe", "topics": [f"t{n}" for n in range(99)]})
    assert "100 at most" in error_text(p.receive_text(many, 0)[0])
    assert p.receive_text('{"type":"unsubscribe","topics":["a","zz"]}', 0) == [
        DropTopics(("a", "zz"), b'{"type":"unsubscribed","topics":["a","zz"]}')
    ]
    assert list(p.topics) == ["b"]


def test_refusals_do_not_tell_forbidden_from_unknown() -> None:
    # SEC-55
    p = protocol()
    assert error_text(Reply(p.refused("room:secret"))).replace("room:secret", "T") == error_text(
        Reply(p.refused("room:nothing"))
    ).replace("room:nothing", "T")
    assert "<script>" not in error_text(Reply(p.refused("<script>")))


def test_eleven_broken_messages_in_a_minute_close_and_ten_do_not() -> None:
    # WEB-34, SEC-51
    p = protocol()
    for n in range(10):
        assert not any(isinstance(d, Close) for d in p.receive_text("{", float(n)))
    assert len(p.receive_text("{", 60.0)) == 1  # the first is a minute old
    last = p.receive_bytes(60.5)[-1]
    assert last == Close(CloseCode.MISUSE, "too many broken messages")


def test_commands_over_their_rate_are_not_executed() -> None:
    # SEC-47
    p = protocol()
    command = '{"type":"command","action":"Increment"}'
    ran = [p.receive_text(command, 0.0)[0] for _ in range(41)]
    assert sum(isinstance(decision, RunCommand) for decision in ran) == 40
    assert "20 a second" in error_text(ran[-1])
    assert isinstance(p.receive_text(command, 0.05)[0], RunCommand)


def test_frames_over_their_rate_are_dropped_and_two_seconds_of_it_close() -> None:
    # SEC-47
    p = protocol()
    assert all(p.admit_frame(0.0) for _ in range(200))
    assert not p.admit_frame(0.0)
    assert "Too many frames" in error_text(p.flood(0.0)[0])
    assert p.flood(0.5) == []
    assert p.flood(2.0) == [Close(CloseCode.MISUSE, "too many frames")]


def test_a_pause_ends_a_flood() -> None:
    # SEC-47
    p = protocol()
    for now in (0.0, 1.9, 9.0):
        while p.admit_frame(now):
            pass
        assert not any(isinstance(decision, Close) for decision in p.flood(now))


def test_a_flood_goes_on_although_some_frames_pass() -> None:
    # SEC-47: a thousand a second, of which the bucket lets a hundred through
    p = protocol()
    closed_at = 0.0
    for n in range(3000):
        now = n / 1000
        if not p.admit_frame(now) and any(isinstance(d, Close) for d in p.flood(now)):
            closed_at = closed_at or now
    assert 2.0 <= closed_at <= 2.5


def test_decoders_raise_one_error() -> None:
    # WEB-34
    for broken in ("", "{", "null", '{"type":"nope"}', b"\xff"):
        with pytest.raises(ProtocolViolation):
            decode_client(broken)
        with pytest.raises(ProtocolViolation):
            decode_server(broken)
