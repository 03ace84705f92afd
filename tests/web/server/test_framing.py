"""Our wire bytes are the library's, whatever the payload."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Ping, Pong, TextMessage

from tests.any_text import any_text
from web.server import (
    Frame,
    Framing,
    bundled,
    chunk,
    close_frame,
    ping_frame,
    pong_frame,
    text_frame,
)


def library() -> Connection:
    return Connection(ConnectionType.SERVER)


@given(any_text(max_size=300))
def test_text_frames_equal_the_librarys(text: str) -> None:
    # REL-44
    assert text_frame(text.encode()) == library().send(TextMessage(data=text))


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 100_000])
def test_text_frames_equal_the_librarys_at_every_length_form(size: int) -> None:
    # REL-44, REL-41
    assert text_frame(b"x" * size) == library().send(TextMessage(data="x" * size))


@given(st.binary(max_size=125))
def test_control_frames_equal_the_librarys(payload: bytes) -> None:
    # REL-44
    assert ping_frame(payload) == library().send(Ping(payload=payload))
    assert pong_frame(payload) == library().send(Pong(payload=payload))


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1009, 1013, 4401, 4408])
def test_close_frames_equal_the_librarys(code: int) -> None:
    # REL-44, WEB-46
    assert close_frame(code, "why") == library().send(CloseConnection(code=code, reason="why"))


def test_a_control_frame_refuses_what_does_not_fit() -> None:
    # REL-41
    with pytest.raises(ValueError, match="125 bytes"):
        ping_frame(b"x" * 126)


@given(st.binary(min_size=1, max_size=5000))
def test_chunks_equal_the_librarys(payload: bytes) -> None:
    # REL-44
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    connection.next_event()
    connection.send(h11.Response(status_code=200, headers=[]))
    assert chunk(payload) == connection.send(h11.Data(data=payload))


def test_a_frame_is_wrapped_once_for_each_framing() -> None:
    # ACT-145
    frame = Frame(b"data: x\n\n")
    assert frame.wire(Framing.CHUNKED) is frame.wire(Framing.CHUNKED)
    assert frame.wire(Framing.SOCKET) is frame.wire(Framing.SOCKET)
    assert frame.wire(Framing.RAW) is frame.payload


def test_a_bundle_is_the_frames_one_behind_the_other_and_is_joined_once() -> None:
    # ACT-145, REL-44: each is a chunk, or a message, of its own
    frames = [Frame(b"a"), Frame(b"b" * 200)]
    (bundle,) = bundled([(frames[0], 4), (frames[1], 6)], 1000)
    for framing in Framing:
        assert bundle.wire(framing) == b"".join(frame.wire(framing) for frame in frames)
        assert bundle.wire(framing) is bundle.wire(framing)
    assert (len(bundle), bundle.first, bundle.size) == (2, 4, 201)


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 100))
def test_bundles_lose_nothing_and_are_limited(sizes: list[int], most: int) -> None:
    # REL-70: what the kernel does not take of a write waits outside of every backlog
    frames = [(Frame(b"x" * size), n) for n, size in enumerate(sizes)]
    bundles = bundled(frames, most)
    assert [entry for bundle in bundles for entry in bundle.entries] == frames
    assert all(bundle.size <= most or len(bundle) == 1 for bundle in bundles)


def test_an_empty_frame_is_refused() -> None:
    # An empty chunk would end the response.
    with pytest.raises(ValueError, match="at least one byte"):
        Frame(b"")
