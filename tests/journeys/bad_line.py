"""A bad line between a page or a program and the site: a proxy in a thread of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import trio

from storage.testing import ToxicProxy
from tests.patience import PATIENCE_S


class Line:
    """A proxy in a thread of its own; `call` does something to it."""

    def __init__(self, proxy: ToxicProxy, token: trio.lowlevel.TrioToken) -> None:
        self.proxy, self._token = proxy, token

    def call(self, what: Callable[[], object]) -> None:
        trio.from_thread.run_sync(what, trio_token=self._token)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def bad_line() -> Iterator[tuple[Line, Callable[[int], None]]]:
    """A line to a port that is named later."""
    ports: list[int] = []
    made: list[Line] = []
    is_made, is_over = threading.Event(), trio.Event()

    async def reach() -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", ports[0])

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            proxy = await nursery.start(ToxicProxy(reach).serve)
            made.append(Line(proxy, trio.lowlevel.current_trio_token()))
            is_made.set()
            await is_over.wait()
            nursery.cancel_scope.cancel()

    thread = threading.Thread(target=partial(trio.run, run), daemon=True)
    thread.start()
    assert is_made.wait(PATIENCE_S)
    try:
        yield made[0], ports.append
    finally:
        made[0].call(is_over.set)
        thread.join(PATIENCE_S)
