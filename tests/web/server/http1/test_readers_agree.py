"""What our grammar accepts, another reader of HTTP/1.1 understands in the same way."""

from __future__ import annotations

import random
from http import HTTPMethod

import h11
import httptools
import pytest

from tests.web.server.http1.corpus import CASES
from tests.web.server.http1.mutants import mutants
from web.server.reading.heads import LISTS, Head, HeadLimits, Refusal
from web.server.reading.requests import RequestReader

# Method, target, version, headers, body, and what is left for the next request.
Reading = tuple[bytes, bytes, bytes, list[tuple[bytes, bytes]], bytes, bytes]


def ours(raw: bytes) -> Reading | None:
    reader = RequestReader(HeadLimits())
    reader.feed(raw)
    head = reader.next_head()
    if not isinstance(head, Head):
        return None
    body = b""
    while reader.is_in_body:
        piece = reader.next_body()
        if piece is None or isinstance(piece, Refusal):
            return None
        body += piece
    return head.method, head.target, head.version, head.headers, body, reader.take_all()


def theirs(raw: bytes) -> Reading | None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(raw.removeprefix(b"\r\n"))
    body = b""
    request = None
    try:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif event is h11.NEED_DATA:
                return None
    except h11.RemoteProtocolError:
        return None
    assert request
    rest = connection.trailing_data[0]
    return request.method, request.target, request.http_version, list(request.headers), body, rest


class Llhttp:
    """What httptools, which is Node's reader, tells of the first request in some bytes."""

    def __init__(self, raw: bytes) -> None:
        self.method, self.target, self.version, self.body = b"", b"", b"", b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_in_head, self.is_whole = True, False
        self._parser = httptools.HttpRequestParser(self)
        try:
            self._parser.feed_data(raw)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            pass  # what stands behind a whole request is none of the comparison

    def on_url(self, url: bytes) -> None:
        if self.is_in_head:
            self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.is_in_head:  # trailers are told in the same way
            self.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        if self.is_in_head:
            self.method = self._parser.get_method()
            self.version = self._parser.get_http_version().encode()
            self.is_in_head = False

    def on_body(self, body: bytes) -> None:
        if not self.is_whole:
            self.body += body

    def on_message_complete(self) -> None:
        self.is_whole = True


def nodes(raw: bytes) -> Reading | None:
    found = Llhttp(raw)
    if not found.is_whole:
        return None
    return found.method, found.target, found.version, found.headers, found.body, b""


def normal(reading: Reading) -> Reading:
    method, target, version, headers, body, rest = reading
    # Lists that are read here become one line, and h11 spells a coding in small letters.
    kept = [
        (name, value.lower() if name == b"transfer-encoding" else value)
        for name, value in headers
        if name not in LISTS
    ]
    for listed in LISTS:
        lines = [value for name, value in headers if name == listed]
        if lines:
            kept.append((listed, b", ".join(lines)))
    return method, target, version, sorted(kept), body, rest


@pytest.mark.parametrize("seed", range(2))
def test_what_is_accepted_is_read_in_the_same_way(seed: int) -> None:
    # REL-51, SEC-112
    agreed = 0
    for raw in [*(case.raw for case in CASES), *mutants(seed, 3000)]:
        mine = ours(raw)
        if mine is None or b"://" in raw:
            continue  # of an address with its host we keep the path, and h11 all of it
        agreed += 1
        other = theirs(raw)
        assert other is not None, raw
        assert normal(mine) == normal(other), raw
    assert agreed > 300  # else the mutants are too wild to say anything


@pytest.mark.parametrize("seed", range(2))
def test_what_is_accepted_is_read_as_node_reads_it(seed: int) -> None:
    # REL-51, SEC-112
    agreed = 0
    for raw in [*(case.raw for case in CASES), *mutants(seed, 3000)]:
        mine = ours(raw)
        if mine is None or b"://" in raw:
            continue
        if mine[0].decode() not in HTTPMethod.__members__:
            continue  # we read a method that nobody knows, and answer 501; it is no request there
        if any(name == b"upgrade" for name, _ in mine[3]):
            continue  # whatever is offered there, no body is read behind it
        agreed += 1
        other = nodes(raw)
        assert other is not None, raw
        assert normal(mine)[:5] == normal(other)[:5], raw
    assert agreed > 200


def test_what_we_spell_anew_is_read_as_what_came() -> None:
    # Rule 1 of `connection/http/library.py`: h11 is given our own spelling only.
    for raw in mutants(7, 300):
        reader = RequestReader(HeadLimits())
        reader.feed(raw)
        head = reader.next_head()
        if isinstance(head, Head):
            again = RequestReader(HeadLimits())
            again.feed(head.wire())
            assert again.next_head() == head


def test_of_a_large_head_the_beginning_is_read() -> None:
    # REL-52
    reader = RequestReader(HeadLimits())
    reader.feed(b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * (16 * 1024 - 28))
    assert reader.next_head() is None
    reader.feed(b"b" * 16 * 1024)
    found = reader.next_head()
    assert isinstance(found, Refusal)
    assert found.status == 431


def test_a_head_of_single_bytes_is_read_once() -> None:
    # An attacker's 25 KiB in single bytes cost 25 KiB of reading, not their square.
    raw = b"GET /" + b"a" * 7000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    reader = RequestReader(HeadLimits())
    chance = random.Random(1)
    at = 0
    while at < len(raw):
        size = chance.randrange(1, 4)
        reader.feed(raw[at : at + size])
        at += size
        found = reader.next_head()
        assert (found is None) == (at < len(raw))
