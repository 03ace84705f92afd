"""A plain TCP connection of two trio programs, as `bench_peers` is compared with.

Bodies are written and read as those of the link are, behind their length and a number; nothing is
sealed, counted, kept in order with others, or acknowledged. What waits goes in one write.
"""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Iterator

import msgspec
import outcome
import trio

from tests.bench.peer_node import ALONE, ASKERS, EACH, TELLS, Get, Put

_HEAD = struct.Struct(">II")
_CHUNK = 64 * 1024
# As many as a teller sends before others have their turn.
_AT_ONCE = 64
_TELL = 0
_COUNTED = 0xFFFFFFFF


class Line:
    """One end of the connection: whole parts in, and what waits out."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._waiting: list[bytes] = []
        self._has_some = trio.Event()
        self._left = b""

    def put(self, number: int, body: bytes) -> None:
        """Call this with what is to be sent."""
        self._waiting += (_HEAD.pack(len(body), number), body)
        self._has_some.set()

    async def write(self) -> None:
        """Call this in a task of its own."""
        while True:
            await self._has_some.wait()
            self._has_some = trio.Event()
            waiting, self._waiting = self._waiting, []
            await self._stream.send_all(b"".join(waiting))

    async def read(self) -> Iterator[tuple[int, bytes]] | None:
        """Call this for the parts that have come; None at the end."""
        data = await self._stream.receive_some(_CHUNK)
        self._left += data
        return self._parts() if data else None

    def _parts(self) -> Iterator[tuple[int, bytes]]:
        left, at = self._left, 0
        while at + _HEAD.size <= len(left):
            size, number = _HEAD.unpack_from(left, at)
            end = at + _HEAD.size + size
            if end > len(left):
                break
            yield number, left[at + _HEAD.size : end]
            at = end
        self._left = left[at:]


async def _serve(stream: trio.SocketStream) -> None:
    line, told = Line(stream), 0
    read_get, read_put = msgspec.msgpack.Decoder(Get), msgspec.msgpack.Decoder(Put)
    write = msgspec.msgpack.Encoder().encode
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.write)
        while (parts := await line.read()) is not None:
            for number, body in parts:
                if number == _TELL:
                    read_put.decode(body)
                    told += 1
                elif number == _COUNTED:
                    line.put(number, write(told))
                else:
                    line.put(number, write(read_get.decode(body).text))
        nursery.cancel_scope.cancel()


class Asker:
    """Asks by number, of which the replies wake who waits."""

    def __init__(self, line: Line) -> None:
        self._line, self._waiting = line, dict[int, trio.lowlevel.Task]()
        self._write, self._number = msgspec.msgpack.Encoder().encode, _TELL

    def tell(self, message: Put) -> None:
        self._line.put(_TELL, self._write(message))

    async def ask(self, message: Get, number: int = 0) -> object:
        self._number += 1
        number = number or self._number
        self._waiting[number] = trio.lowlevel.current_task()
        self._line.put(number, self._write(message))
        return await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)

    async def hear(self) -> None:
        """Call this in a task of its own."""
        read = msgspec.msgpack.Decoder().decode
        while (parts := await self._line.read()) is not None:
            for number, body in parts:
                trio.lowlevel.reschedule(self._waiting.pop(number), outcome.Value(read(body)))


async def _measure(port: int) -> dict[str, float]:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    line, get, put = Line(stream), Get("x" * 200), Put("x" * 200)
    asker = Asker(line)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.write)
        nursery.start_soon(asker.hear)
        took = []
        for _ in range(ALONE):
            began = time.perf_counter()
            await asker.ask(get)
            took.append(time.perf_counter() - began)
        took.sort()

        async def ask() -> None:
            for _ in range(EACH):
                await asker.ask(get)

        began = time.perf_counter()
        async with trio.open_nursery() as askers:
            for _ in range(ASKERS):
                askers.start_soon(ask)
        asks_per_s = ASKERS * EACH / (time.perf_counter() - began)
        began = time.perf_counter()
        for number in range(TELLS):
            asker.tell(put)
            if number % _AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        assert await asker.ask(get, _COUNTED) == TELLS
        tells_per_s = TELLS / (time.perf_counter() - began)
        nursery.cancel_scope.cancel()
    return {
        "alone_p50_ms": took[ALONE // 2] * 1000,
        "alone_p99_ms": took[int(ALONE * 0.99)] * 1000,
        "asks_per_s": asks_per_s,
        "tells_per_s": tells_per_s,
    }


async def _main(*given: str) -> None:
    role, port = given
    if role == "asking":
        print(json.dumps(await _measure(int(port))), flush=True)
        return
    listeners = await trio.open_tcp_listeners(int(port), host="127.0.0.1")
    print("ready", flush=True)
    await trio.serve_listeners(_serve, listeners)


if __name__ == "__main__":
    trio.run(_main, *sys.argv[1:])
