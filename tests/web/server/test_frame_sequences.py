"""Raw frame sequences and the standard's verdict on each, without any outside program (REL-41).

In groups as the public suite has them (its 1 to 7 and 10): what is sent, the frames that come back,
and the code of the close. Data, so that a reader can hold it against RFC 6455.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from tests.patience import PATIENCE_S
from tests.web.server.serving_kit import UPGRADE, Client, accept, connect, serving
from web.server import Server

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
MASK = b"\x01\x02\x03\x04"
BROKEN, BAD_UTF8 = 1002, 1007


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, is_masked: bool = True
) -> bytes:
    """A frame of a client, right or wrong."""
    size = len(payload)
    head = bytes([fin << 7 | rsv << 4 | opcode])
    if size < 126:
        head += bytes([is_masked << 7 | size])
    elif size < 65_536:
        head += bytes([is_masked << 7 | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([is_masked << 7 | 127]) + size.to_bytes(8, "big")
    if not is_masked:
        return head + payload
    key = MASK * (size // 4 + 1)
    return head + MASK + bytes(a ^ b for a, b in zip(payload, key, strict=False))


def close(code: int | None = None, reason: bytes = b"") -> bytes:
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason)


@dataclass(frozen=True, slots=True)
class Sequence:
    """Bytes to send, in pieces of `step`; the replies; and how it ends.

    `code` is that of the server's close; None: the client's own, 1000, is answered.
    """

    name: str
    sent: bytes
    replies: tuple[tuple[int, bytes], ...] = ()
    code: int | None = None
    step: int = 0


def text(body: str | bytes) -> tuple[int, bytes]:
    return TEXT, body.encode() if isinstance(body, str) else body


SMALL = frame(TEXT, b"small")
LIVES = frame(PING, b"alive")
ALIVE = (PONG, b"alive")


def lengths() -> Iterator[Sequence]:
    for opcode in (TEXT, BINARY):
        for size in (0, 125, 126, 127, 128, 65_535, 65_536):
            body = b"*" * size
            sent = frame(opcode, body)
            yield Sequence(f"{opcode} of {size}", sent, ((opcode, body),))
        body = b"*" * 65_535
        yield Sequence(f"{opcode} in pieces", frame(opcode, body), ((opcode, body),), step=997)


def pings() -> Iterator[Sequence]:
    for payload in (b"", b"Hello", b"\x00\xff\xfe\xfd\xfc", b"\xfe" * 125):
        yield Sequence(f"ping {payload[:5]!r}", frame(PING, payload), ((PONG, payload),))
    yield Sequence("ping, byte by byte", frame(PING, b"x" * 125), ((PONG, b"x" * 125),), step=1)
    yield Sequence("ping of 126", frame(PING, b"x" * 126), code=BROKEN)
    yield Sequence("pong of 126", frame(PONG, b"x" * 126), code=BROKEN)
    for payload in (b"", b"nobody asked"):
        yield Sequence(f"pong {payload!r}", frame(PONG, payload) + LIVES, (ALIVE,))
    ten = [frame(PING, b"%d" % n) for n in range(10)]
    pongs = tuple((PONG, b"%d" % n) for n in range(10))
    yield Sequence("ten pings", b"".join(ten), pongs)
    yield Sequence("ten pings, byte by byte", b"".join(ten), pongs, step=1)


def reserved_bits() -> Iterator[Sequence]:
    # Also where the extension was offered that would use one: it was not agreed to.
    for rsv in range(1, 8):
        for opcode in (TEXT, BINARY, PING):
            sent = SMALL + frame(opcode, b"x", rsv=rsv) + LIVES
            yield Sequence(f"bits {rsv} of {opcode}", sent, (text("small"),), BROKEN)
        sent = frame(CLOSE, b"\x03\xe8", rsv=rsv)
        yield Sequence(f"bits {rsv} of a close", sent, code=BROKEN)


def reserved_opcodes() -> Iterator[Sequence]:
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        for payload in (b"", b"reserved"):
            sent = SMALL + frame(opcode, payload) + LIVES
            yield Sequence(f"opcode {opcode}", sent, (text("small"),), BROKEN)


def unmasked() -> Iterator[Sequence]:
    for opcode in (TEXT, BINARY, PING, PONG, CLOSE):
        yield Sequence(f"unmasked {opcode}", frame(opcode, b"", is_masked=False), code=BROKEN)


def fragments() -> Iterator[Sequence]:
    first, last = frame(TEXT, b"one ", fin=False), frame(CONTINUATION, b"two")
    both = (text("one two"),)
    yield Sequence("two fragments", first + last, both)
    yield Sequence("two fragments, byte by byte", first + last, both, step=1)
    yield Sequence("ping between", first + LIVES + last, (ALIVE, *both))
    yield Sequence("ping between, byte by byte", first + LIVES + last, (ALIVE, *both), step=1)
    yield Sequence("pong between", first + frame(PONG) + last, both)
    middle = frame(CONTINUATION, b"", fin=False)
    yield Sequence("empty in the middle", first + middle * 3 + last, both)
    empty = frame(TEXT, b"", fin=False) + middle + frame(CONTINUATION)
    yield Sequence("all of them empty", empty, (text(""),))
    binary = frame(BINARY, b"\xff", fin=False) + frame(CONTINUATION, b"\xfe")
    yield Sequence("binary", binary, ((BINARY, b"\xff\xfe"),))
    yield Sequence("two messages", (first + last) * 2, both * 2)
    # A handler that is told of the end at once says nothing of what it has not finished.
    yield Sequence("a ping in two", frame(PING, b"a", fin=False) + last, code=BROKEN)
    yield Sequence("a pong in two", frame(PONG, b"a", fin=False) + last, code=BROKEN)
    yield Sequence("a close in two", frame(CLOSE, b"\x03\xe8", fin=False) + last, code=BROKEN)
    for is_last in (True, False):
        orphan = frame(CONTINUATION, b"x", fin=is_last)
        yield Sequence(f"begun by its end, {is_last}", orphan + SMALL, code=BROKEN)
        again = first + last + frame(CONTINUATION, b"x", fin=is_last)
        yield Sequence(f"an end too many, {is_last}", again, both, BROKEN)
    for opcode in (TEXT, BINARY):
        yield Sequence(f"{opcode} before the end", first + frame(opcode, b"x"), code=BROKEN)
    body = b"*" * 65_536
    pieces = [body[at : at + 1300] for at in range(0, len(body), 1300)]
    sent = frame(TEXT, pieces[0], fin=False)
    sent += b"".join(frame(CONTINUATION, piece, fin=False) for piece in pieces[1:])
    yield Sequence("64 KiB in pieces of 1,300", sent + frame(CONTINUATION), (text(body),))


VALID = (
    "κόσμε", "\0", "\x7f", "\x80", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\ufffd", "\ufffe",
    "\uffff", "\U00010000", "\U0001fffe", "\U0010ffff", "Hello-µ@ßöäüàá-UTF-8!!",
)  # fmt: skip
INVALID = (
    b"\x80", b"\xbf", b"\x80\xbf", b"\xc0", b"\xc0\x80", b"\xc1\xbf", b"\xc2", b"\xc2\x41",
    b"\xe0\x80\x80", b"\xe0\x9f\xbf", b"\xe2\x82", b"\xed\xa0\x80", b"\xed\xbf\xbf",
    b"\xed\xa0\x80\xed\xb0\x80", b"\xf0\x80\x80\x80", b"\xf0\x8f\xbf\xbf", b"\xf0\x9f\x98",
    b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80",
    b"\xfe", b"\xff", b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
)  # fmt: skip


def utf8() -> Iterator[Sequence]:
    for body in VALID:
        sent = frame(TEXT, body.encode())
        yield Sequence(f"text {body!r}", sent, (text(body),))
        first, *rest = [bytes([one]) for one in body.encode()]
        cut = frame(TEXT, first, fin=False)
        cut += b"".join(frame(CONTINUATION, one, fin=False) for one in rest)
        yield Sequence(f"text {body!r}, cut everywhere", cut + frame(CONTINUATION), (text(body),))
    for wrong in INVALID:
        yield Sequence(f"text {wrong!r}", frame(TEXT, wrong), code=BAD_UTF8)
        cut = frame(TEXT, b"ok" + wrong[:1], fin=False) + frame(CONTINUATION, wrong[1:])
        yield Sequence(f"text {wrong!r}, cut", cut, code=BAD_UTF8)
        yield Sequence(f"binary {wrong!r}", frame(BINARY, wrong), ((BINARY, wrong),))


def closes() -> Iterator[Sequence]:
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        yield Sequence(f"close {code}", close(code), code=code)
    for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65_535):
        yield Sequence(f"close {code}", close(code), code=BROKEN)
    yield Sequence("close without a code", close(), code=0)
    yield Sequence("close of length 1", frame(CLOSE, b"\x03"), code=BROKEN)
    yield Sequence("close of 125", close(1000, b"x" * 123), code=1000)
    yield Sequence("close of 126", close(1000, b"x" * 124), code=BROKEN)
    yield Sequence(
        "close, reason of bad UTF-8", close(1000, b"\xce\xba\xed\xa0\x80"), code=BAD_UTF8
    )
    yield Sequence("close, reason of UTF-8", close(1000, "κόσμε".encode()), code=1000)
    for more in (SMALL, LIVES, close(1000)):
        yield Sequence("more behind a close", close(1000) + more, code=1000)
    sent = frame(TEXT, b"begun", fin=False) + close(1000) + frame(CONTINUATION, b"end")
    yield Sequence("close within a message", sent, code=1000)


GROUPS = {
    "lengths": [*lengths()],
    "pings": [*pings()],
    "reserved bits": [*reserved_bits()],
    "reserved opcodes": [*reserved_opcodes()],
    "unmasked": [*unmasked()],
    "fragments": [*fragments()],
    "UTF-8": [*utf8()],
    "closes": [*closes()],
}


async def echo(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    await accept(scope, receive, send)
    while (message := await receive())["type"] == "websocket.receive":
        data, body = message.get("bytes"), message.get("text")
        await send({"type": "websocket.send", "bytes": data, "text": body})


class Frames:
    """A server's frames as they come: each whole, unmasked and without a reserved bit."""

    def __init__(self, client: Client) -> None:
        self._client, self._data = client, b""
        self.got: list[tuple[int, bytes]] = []

    async def read(self, most: float = float("inf")) -> None:
        """Read until so many frames came, or a close, or the end."""
        while len(self.got) < most and not (self.got and self.got[-1][0] == CLOSE):
            frame = self._next()
            if frame is not None:
                self.got.append(frame)
                continue
            try:
                more = await self._client.stream.receive_some()
            except trio.BrokenResourceError:
                return
            if not more:
                return
            self._data += more

    def _next(self) -> tuple[int, bytes] | None:
        data, at = self._data, 2
        if len(data) < 2:
            return None
        assert data[0] & 0xF0 == 0x80
        size = data[1]
        if size >= 126:
            at = 4 if size == 126 else 10
            size = int.from_bytes(data[2:at], "big")
        if len(data) < at + size:
            return None
        self._data = data[at + size :]
        return data[0] & 0x0F, data[at : at + size]


async def play(server: Server, one: Sequence, wrong: list[str]) -> None:
    async with await connect(server) as client:
        await client.send(UPGRADE)
        await client.read_until(b"\r\n\r\n")
        step = one.step or len(one.sent)
        for at in range(0, len(one.sent), step):
            try:
                await client.send(one.sent[at : at + step])
            except trio.BrokenResourceError:
                break  # it has closed, and need not read the rest
        frames = Frames(client)
        with trio.fail_after(PATIENCE_S):
            if one.code is None:
                await frames.read(len(one.replies))
                await client.send(close(1000))
            await frames.read()
        *replies, (opcode, told) = frames.got or [(0, b"")]
        code = int.from_bytes(told[:2], "big")
        # A connection that is failed may leave out what it had not answered (RFC 6455 7.1.7).
        is_failed = one.code in (BROKEN, BAD_UTF8)
        answered = one.replies[: len(replies)] if is_failed else one.replies
        wanted = 1000 if one.code is None else one.code
        if (opcode, code, tuple(replies)) != (CLOSE, wanted, answered):
            wrong.append(f"{one.name}: closed {code}, wanted {wanted}; {replies}"[:300])


@pytest.mark.parametrize("group", GROUPS)
async def test_frames_get_the_verdict_of_the_standard(group: str) -> None:
    # REL-41, REL-42, REL-43
    wrong: list[str] = []
    async with serving(echo) as server:
        for one in GROUPS[group]:
            await play(server, one, wrong)
    assert wrong == []


def test_there_are_as_many_as_the_requirement_asks() -> None:
    # REL-41
    assert sum(map(len, GROUPS.values())) >= 120
