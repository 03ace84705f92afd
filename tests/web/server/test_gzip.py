"""Pieces of gzip that are made once and sent to many, and bodies that are whole."""

from __future__ import annotations

import gzip
import zlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.any_text import any_text
from tests.web.server.edge_kit import edged
from web.server import STREAM_HEAD, Frame, Framing, GzipSum, chunk, deflated, gzipped
from web.server.connection.gzip import DEFLATED_BYTES_MIN
from web.server.edge.checks import takes_gzip

_PAYLOADS = st.one_of(
    st.binary(min_size=1, max_size=600),
    any_text(min_size=1, max_size=9000).map(str.encode),
    st.sampled_from([b"data: x\n\n" * 3000, Random(1).randbytes(150_000)]),
)


@given(st.lists(_PAYLOADS, max_size=8))
def test_each_piece_is_readable_without_the_next(payloads: list[bytes]) -> None:
    # REL-61
    reader, told = zlib.decompressobj(31), GzipSum()
    wire = STREAM_HEAD
    assert reader.decompress(wire) == b""
    for payload in payloads:
        piece = deflated(payload)
        assert reader.decompress(piece) == payload
        told.add(payload)
        wire += piece
    # And the end tells that nothing is missing: this raises otherwise.
    assert gzip.decompress(wire + told.end()) == b"".join(payloads)


@given(_PAYLOADS)
def test_a_piece_does_not_care_what_came_before_it(payload: bytes) -> None:
    # ACT-145
    first, other = zlib.decompressobj(-15), zlib.decompressobj(-15)
    first.decompress(deflated(payload * 2))
    assert first.decompress(deflated(payload)) == other.decompress(deflated(payload)) == payload


def test_what_would_grow_is_stored() -> None:
    for payload in (b"x", b"x" * (DEFLATED_BYTES_MIN - 1), Random(2).randbytes(5000)):
        assert len(deflated(payload)) == len(payload) + 5
    assert len(deflated(b"x" * DEFLATED_BYTES_MIN)) < 40


def test_a_frame_is_compressed_once_for_all_streams() -> None:
    # ACT-145
    frame = Frame(b"data: x\n\n" * 50)
    assert frame.wire(Framing.CHUNKED_GZIP) is frame.wire(Framing.CHUNKED_GZIP)
    assert frame.wire(Framing.CHUNKED_GZIP) == chunk(deflated(frame.payload))
    assert frame.wire(Framing.RAW_GZIP) == deflated(frame.payload)
    assert [framing for framing in Framing if framing.is_gzip] == [
        Framing.RAW_GZIP,
        Framing.CHUNKED_GZIP,
    ]


def test_a_whole_body_is_any_programs_gzip() -> None:
    body = b"<p>hello</p>" * 500
    assert gzip.decompress(gzipped(body)) == body


@pytest.mark.parametrize(
    ("header", "is_taken"),
    [
        (None, False),
        ("", False),
        ("identity", False),
        ("br, zstd", False),
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("gzip, deflate, br, zstd", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("gzip;q=0.001", True),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("*;q=0, gzip", True),
        ("notgzip", False),
        ("gzip;q=", False),
        (";;,,", False),
    ],
)
def test_who_takes_gzip(header: str | None, is_taken: bool) -> None:
    assert takes_gzip(header) is is_taken


async def test_a_file_comes_compressed_for_who_asks_for_it() -> None:
    async with edged() as ask:
        plain = await ask("GET /styles")
        packed = await ask("GET /styles", "Accept-Encoding: br, gzip\r\n")
        head = await ask("HEAD /styles", "Accept-Encoding: gzip\r\n")
        short = await ask("GET /file", "Accept-Encoding: gzip\r\n")
    assert (plain.body, plain.headers.get("content-encoding")) == (b"body{}" * 99, None)
    assert gzip.decompress(packed.body) == plain.body
    assert packed.headers["content-encoding"] == head.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) == len(packed.body) < len(plain.body)
    assert (head.body, head.headers["content-length"]) == (b"", packed.headers["content-length"])
    assert all("accept-encoding" in reply.varies for reply in (plain, packed, head))
    assert all("origin" in reply.varies for reply in (plain, packed, head))
    assert (short.body, short.headers.get("content-encoding")) == (b"body", None)
