"""The same bytes are one thing, whatever their road: an API, a page's command, a socket, a log."""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import Annotated

import msgspec
import pytest
from quart import Response

from actors.persistence import START, CodecError, EventTypes, NewEvent, OutboxEntry, StreamId
from actors.persistence.beside_log.outbox import NotSent
from actors.persistence.bus import BusCodecError, Received, Record
from storage.memory import MemoryDatabase, MemoryEventStore, MemoryMailStates
from storage.postgres import Database, PostgresEventStore
from tests.engines import virtual_environment
from tests.web.api.api_kit import Api, error, open_api, told
from web.api import DEPTH_MAX, body, ok, why_unread
from web.lab.lasting import Survivals
from web.mail.delivering import MailDelivery
from web.mail.senders.memory import MemorySender
from web.mail.words import MailAddress
from web.realtime import CommandTable, ProtocolViolation
from web.realtime.socket.messages import Command, Form, decode_client
from web.routing.commands import read_command
from web.routing.errors import InvalidInput
from web.wiring.environment import SystemIds

TAB = str(uuid.uuid4())
TYPES = EventTypes()


class Said(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said on each road; its fields have a type each that JSON can lie about."""

    text: Annotated[str, msgspec.Meta(max_length=40)] = ""
    number: Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)] = 0
    ratio: float = 0.0
    words: list[str] = []
    tab: str = msgspec.field(name="sseTabId", default=TAB)


@TYPES.event(version=1)
@dataclass(frozen=True)
class WasSaid:
    """The same as an event."""

    text: str = ""


class LooselySaid(msgspec.Struct, frozen=True):
    """As stored facts are read: what is unknown is passed over."""

    text: str = ""
    tab: str = msgspec.field(name="sseTabId", default=TAB)


HOSTILE = [
    b'"a"', b'"\\u0061"', b'"\xc3\xa4"', b'"\\ud83d\\ude00"', b'""', b'"' + b"x" * 41 + b'"',
    b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\xaf"', b'"a\nb"',
    b'"\\x"', b'"open', b"'a'", b"NaN", b"-NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999",
    b"1e3", b"1.0", b"-0", b"01", b"+1", b"0x10", b".5", b"1.", b"1_000", b"9007199254740992",
    b"9007199254740993", b"1" + b"0" * 40, b"1" + b"0" * 5000, b"null", b"true", b"[]", b"{}",
    b'["a"]', b'["\\ud800"]', b"[" * DEPTH_MAX + b"]" * DEPTH_MAX, b"[" * 2000 + b"]" * 2000,
    b'{"a":' * 40 + b"1" + b"}" * 40, b"[1,]", b"/**/1", b"",
]  # fmt: skip
SHAPES = [
    b'{"%b":%b}', b'{"%b":1,"%b":%b}', b' {\t"%b" : %b }\r\n', b'{"%b":%b}\x00', b'{"%b":%b}{}',
    b'\xef\xbb\xbf{"%b":%b}', b'{"%b":%b,}', b'[{"%b":%b}]',
]  # fmt: skip
FIELDS = [b"text", b"number", b"ratio", b"words", b"t\\u0065xt", b"unknown", b"tex\xff"]


def payloads() -> list[bytes]:
    """Every field with every value in every shape."""
    return [
        shape % ((name, name, value) if shape.count(b"%b") == 3 else (name, value))
        for name, value, shape in product(FIELDS, HOSTILE, SHAPES)
    ]


def by_socket(payload: bytes) -> object:
    """What a command of a socket becomes; None when it is refused."""
    try:
        # A frame of text that is no UTF-8 ends its connection.
        frame = b'{"type":"command","action":{"Said":' + payload + b"}}"
        message = decode_client(frame.decode(), Form.V1)
        assert isinstance(message, Command)
        return CommandTable([Said]).parse(message.action)
    except (ProtocolViolation, UnicodeDecodeError):
        return None


@pytest.mark.slow
async def test_every_road_of_a_client_takes_the_same() -> None:
    # SEC-120
    def roads(api: Api) -> None:
        @api.app.post("/api/said")
        async def said() -> Response:
            return ok({"said": await body(Said)})

        @api.app.post("/api/page")
        async def command() -> Response:
            try:
                found, _ = await read_command(Said, "tests")
            except InvalidInput:
                return ok({"refused": True})
            return ok({"said": found})

    async with open_api(more=roads) as api:
        taken = list[bytes]()
        # By HTTP each of them is two connections: each value in each field, and some in each shape.
        some = [one for number, one in enumerate(payloads()) if 0 in (number % 8, number % 37)]
        for payload in some:
            by_api = await api.ask("POST /api/said", payload or b" ")
            by_page = await api.ask("POST /api/page", payload or b" ")
            heard = by_socket(payload)
            if heard is None:
                assert error(by_api)[0] in {400, 422}, payload
                assert told(by_page) == {"refused": True}, payload
                continue
            taken.append(payload)
            as_sent = msgspec.json.decode(msgspec.json.encode({"said": heard}))
            assert (by_api.status, told(by_api)) == (200, as_sent), payload
            assert told(by_page) == as_sent, payload
        assert 10 < len(taken) < len(some) / 2


@pytest.mark.parametrize("payload", [b'{"unknown":"\xff"}', b'{"unknown":%b}' % HOSTILE[-5]])
async def test_what_is_passed_over_is_looked_at_all_the_same(payload: bytes) -> None:
    # SEC-120: a page's commands ignore what they do not know
    def roads(api: Api) -> None:
        @api.app.post("/api/page")
        async def command() -> Response:
            try:
                await read_command(LooselySaid, "tests")
            except InvalidInput:
                return ok({"refused": True})
            return ok({"refused": False})

    async with open_api(more=roads) as api:
        assert told(await api.ask("POST /api/page", payload)) == {"refused": True}
        assert told(await api.ask("POST /api/page", b'{"unknown":1}')) == {"refused": False}
    assert why_unread(payload)
    assert by_socket(payload) is None


def test_a_doubled_key_is_the_last_on_every_road() -> None:
    # SEC-120
    payload = b'{"text":"first","t\\u0065xt":"last"}'
    heard = by_socket(payload)
    assert isinstance(heard, Said)
    assert heard.text == "last"
    assert msgspec.json.decode(payload, type=LooselySaid).text == "last"


@pytest.mark.parametrize("engine", ["memory", "postgres"])
async def test_a_stored_fact_is_read_as_it_was_sent_or_not_at_all(
    engine: str, database: Database
) -> None:
    # SEC-120: by replay, too, each is a value or an error that says which fact it is
    store = MemoryEventStore() if engine == "memory" else PostgresEventStore(database)
    stream = StreamId("said-1")
    given = [one for one in payloads() if b'"text"' in one]
    events = [
        NewEvent(event_id=uuid.uuid4(), type="WasSaid", schema_version=1, data=one) for one in given
    ]
    for start in range(0, len(events), 100):
        await store.append(stream, events[start : start + 100], expected=start)
    taken = 0
    async for stored in store.load(stream):
        sent = given[stored.version - 1]
        assert stored.data == sent
        heard = by_socket(sent)
        if heard is None:
            with suppress(CodecError):  # and nothing else
                TYPES.decode(stored)
            continue
        # What a command of today takes, a log gives back.
        found = TYPES.decode(stored)
        assert isinstance(heard, Said)
        assert isinstance(found, WasSaid)
        assert found.text == heard.text
        taken += 1
    assert taken > 5


BESIDE = b'"to":"ada@example.org","template":"t","language":"en","subject":"s","html":"h"'


async def test_a_row_of_the_outbox_and_a_record_of_the_bus_are_read_or_given_up() -> None:
    # SEC-120: what is none is a dead letter; whoever reads it does not die of it
    env, sender = virtual_environment(), MemorySender()
    states = MemoryMailStates(MemoryDatabase(now=env.clock.now))
    delivery = MailDelivery(sender, MailAddress("greenroom@example.org"), states, env)
    survivals = Survivals(SystemIds(), env.clock.now, lambda: 0)
    taken = 0
    for payload in (one for one in payloads() if b'"text"' in one):
        assert isinstance(await _heard_on_the_bus(survivals, payload), bool)
        sent, heard = await _sent_as_a_mail(delivery, sender, payload), by_socket(payload)
        if isinstance(heard, Said) and heard.text:
            assert sent == heard.text, payload
            taken += 1
        elif heard is None and payload.startswith(b'{"text":'):
            # Longer than a command may be, or beside what no command has: a mail may.
            assert sent is None or msgspec.json.decode(payload)["text"] == sent, payload
    assert taken > 5


async def _sent_as_a_mail(
    delivery: MailDelivery, sender: MemorySender, payload: bytes
) -> str | None:
    """What of a row of the outbox leaves as a mail; None when it is given up."""
    whole, id_ = payload.replace(b"{", b"{" + BESIDE + b",", 1), uuid.uuid4()
    at = datetime(2026, 3, 1, tzinfo=UTC)
    try:
        await delivery.send(OutboxEntry(1, id_, "mail", "mail", "k", whole, {}, 0, at))
    except NotSent:
        return None
    return sender.outbox_of("ada@example.org")[-1].mail.text


async def _heard_on_the_bus(survivals: Survivals, payload: bytes) -> bool:
    """Whether a record of the bus was read."""
    record = Record(uuid.uuid4(), "k", payload, {"version": "1"})
    try:
        await survivals.hear(Received("t", 0, START, record, datetime(2026, 3, 1, tzinfo=UTC)))
    except BusCodecError:
        return False
    return True
