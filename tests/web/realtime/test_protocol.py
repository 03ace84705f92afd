"""The WebSocket protocol without a socket: golden bytes, limits, mutations."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.any_text import any_text
from web.realtime import (
    Ack,
    Action,
    ClientMessage,
    CloseCode,
    Command,
    CommandTable,
    Error,
    Event,
    Form,
    Mark,
    NotACommandClass,
    Ping,
    Pong,
    Position,
    ProtocolViolation,
    ServerMessage,
    ServerProtocol,
    SocketCode,
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
    "v1 subscribe": Subscribe(("orders",), "c1", {"orders": Mark("k3", 41)}),
    "v1 unsubscribe": Unsubscribe(("orders",), "c2"),
    "v1 command": Command(Action("PlaceOrder", b'{"n":1}'), "orders", "c3"),
    "v1 ping": Ping("c4"),
}
SERVER_SAYS: dict[str, ServerMessage] = {
    "subscribed": Subscribed(("a", "b")),
    "unsubscribed": Unsubscribed(("a",)),
    "event": Event(action_of(OrderPlaced(7)), "default"),
    "error": Error("no \u2028 \u00e4"),
    "server ping": Ping(),
    "server pong": Pong(),
    "v1 subscribed": Subscribed(("orders",), "c1", {"orders": Position("k3", 44, True)}),
    "v1 unsubscribed": Unsubscribed(("orders",), "c2"),
    "v1 event": Event(action_of(OrderPlaced(7)), "orders", 45, "k3", "6f1c"),
    "v1 event with a hole before it": Event(
        action_of(OrderPlaced(7)), "orders", 45, "k3", "6f1c", prev=43
    ),
    "v1 ack": Ack("c3", b'{"n":7}', "1234.567"),
    "v1 ack of nothing": Ack("c4"),
    "v1 error": Error("Too many", SocketCode.TOO_MANY_REQUESTS, "c1", 2),
    "v1 lagged": Error("You are behind", SocketCode.LAGGED, missed=17),
}
FRAMES = json.loads((Path(__file__).parents[1] / "frames.json").read_text())
GOLDEN: dict[str, bytes] = {known["name"]: known["frame"].encode() for known in FRAMES}
CLIENT = [(message, GOLDEN[name]) for name, message in CLIENT_SAYS.items()]
SERVER = [(message, GOLDEN[name]) for name, message in SERVER_SAYS.items()]
TABLE = CommandTable([PlaceOrder, Increment], events=[OrderPlaced])


def protocol(form: Form = Form.PLAIN) -> ServerProtocol:
    return ServerProtocol(TABLE, 0.0, form=form)


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
        assert found.id == message.id
    else:
        assert found == message


def test_a_topic_may_be_absent() -> None:
    # WEB-30
    assert decode_client('{"type":"command","action":"Increment"}') == Command(
        Action("Increment"), None
    )


@given(
    any_text(max_size=60) | st.sampled_from(CLIENT).map(lambda pair: pair[1].decode()), st.data()
)
def test_mutated_frames_are_told_and_never_raise(text: str, data: st.DataObject) -> None:
    # SEC-51
    at = data.draw(st.integers(0, len(text)))
    mutated = text[:at] + data.draw(any_text(max_size=3)) + text[at + 1 :]
    for form in Form:
        for decision in protocol(form).receive_text(mutated, 1.0):
            assert isinstance(decision, Reply | AskTopics | DropTopics | RunCommand)


def test_nesting_without_end_is_an_error() -> None:
    # SEC-51, SEC-119
    assert error_text(protocol().receive_text("[" * 60_000, 0)[0])
    (decision,) = protocol().receive_text('{"type":"command","action":' + "[" * 30_000, 0)
    assert "not JSON" in error_text(decision)


def answers(text: str, *, rounds: int = 1) -> list[ServerMessage]:
    """Send a message `rounds` times on greenroom.v1; gives the bytes that answer the last."""
    p = protocol(Form.V1)
    decided: list[Decision] = []
    for _ in range(rounds):
        decided = p.receive_text(text, 0.0)
    return [decode_server(each.payload) for each in decided if isinstance(each, Reply)]


def test_a_plain_connection_takes_ids_as_any_unknown_key() -> None:
    # WEB-30: whatever they are
    for message_id in ('"c1"', "7", '""'):
        text = f'{{"type":"ping","id":{message_id},"resume":9}}'
        assert protocol().receive_text(text, 0.0) == [Reply(b'{"type":"pong"}')]


def test_a_ping_with_an_id_is_acknowledged_behind_its_pong() -> None:
    # WEB-33, WEB-40
    assert answers('{"type":"ping","id":"c1"}') == [Pong(), Ack("c1")]
    assert answers('{"type":"ping"}') == [Pong()]
    assert answers('{"type":"pong","id":"c1"}') == [Ack("c1")]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"id":"c1"', SocketCode.BAD_JSON),
        ("[]", SocketCode.BAD_MESSAGE),
        ('{"type":"subscribe","topics":7,"id":"c1"}', SocketCode.BAD_MESSAGE),
        ('{"type":"ping","id":7}', SocketCode.BAD_MESSAGE),
        ('{"type":"ping","id":""}', SocketCode.BAD_MESSAGE),
        ('{"type":"ping","id":"' + "x" * 65 + '"}', SocketCode.BAD_MESSAGE),
        (
            '{"type":"subscribe","topics":["a"],"id":"c1","resume":{"a":{"epoch":"k","seq":-1}}}',
            SocketCode.BAD_MESSAGE,
        ),
        ('{"type":"shout","id":"c1"}', SocketCode.UNKNOWN_TYPE),
        ('{"type":"command","action":"Nope","id":"c1"}', SocketCode.UNKNOWN_ACTION),
        ('{"type":"command","action":"OrderPlaced","id":"c1"}', SocketCode.NOT_A_COMMAND),
        ('{"type":"command","action":{"PlaceOrder":{}},"id":"c1"}', SocketCode.VALIDATION_ERROR),
        (
            json.dumps({"type": "subscribe", "topics": [f"t{n}" for n in range(101)], "id": "c1"}),
            SocketCode.TOO_MANY_TOPICS,
        ),
    ],
)
def test_errors_have_a_code_and_the_id_where_it_can_be_read(text: str, code: SocketCode) -> None:
    # WEB-43, SEC-51, WEB-40: one answer
    (error,) = answers(text)
    assert isinstance(error, Error)
    is_readable = '"id":"c1"' in text.replace(": ", ":") and code is not SocketCode.BAD_JSON
    assert (error.code, error.id) == (code, "c1" if is_readable else None)


def test_one_command_too_many_is_told_with_its_id_and_when_to_come_back() -> None:
    # SEC-47, WEB-43
    (error,) = answers('{"type":"command","action":"Increment","id":"c1"}', rounds=41)
    assert isinstance(error, Error)
    told = (error.code, error.id, error.retry_after)
    assert told == (SocketCode.TOO_MANY_REQUESTS, "c1", 1)


def test_who_asks_again_and_again_for_what_it_missed_is_slowed_down() -> None:
    # SEC-47, WEB-42: a resume may read the store; a plain subscription does not
    resume = '{"type":"subscribe","topics":["a"],"id":"c1","resume":{"a":{"epoch":"k","seq":1}}}'
    assert answers(resume, rounds=40) == []
    (error,) = answers(resume, rounds=41)
    assert isinstance(error, Error)
    assert (error.code, error.id) == (SocketCode.TOO_MANY_REQUESTS, "c1")
    assert answers('{"type":"subscribe","topics":["a"],"id":"c1"}', rounds=41) == []


def test_the_same_command_in_other_words_is_the_same() -> None:
    # WEB-41: order and spaces are no other command; another topic or number is
    def asked(action: str, topic: str = "a") -> bytes:
        text = f'{{"type":"command","action":{action},"topic":"{topic}","id":"c1"}}'
        (run,) = protocol(Form.V1).receive_text(text, 0.0)
        assert isinstance(run, RunCommand)
        return run.asked

    one = asked('{"PlaceOrder":{"n":1}}')
    assert one == asked('{ "PlaceOrder" : { "n" : 1 } }')
    assert one not in {asked('{"PlaceOrder":{"n":2}}'), asked('{"PlaceOrder":{"n":1}}', "b")}


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
