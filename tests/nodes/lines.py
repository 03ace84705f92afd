"""Lines of TCP that turn bad: proxies in a thread of their own, which threads of a test command."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import trio

from storage.testing import ToxicProxy
from storage.testing.servers.toxic_proxy import Reach
from tests.patience import PATIENCE_S


class Line:
    """One proxy; whatever is done to it is done when the call returns."""

    def __init__(self, proxy: ToxicProxy, token: trio.lowlevel.TrioToken) -> None:
        self.proxy, self._token = proxy, token

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.proxy.port

    def call(self, what: Callable[[], object]) -> None:
        """Have something done to the proxy, in its own thread."""
        trio.from_thread.run_sync(what, trio_token=self._token)

    def cut(self, *, up: bool = True, down: bool = True) -> None:
        """Let nothing pass in these directions from now on, and nothing end; `up` is to a server.

        The other direction passes, also when it did not before.
        """
        self.call(partial(self._silence, up=up, down=down))

    def mend(self) -> None:
        """Let all pass again, also what waits."""
        self.call(self.proxy.mend)

    def refuse(self, is_refusing: bool) -> None:
        """Reset whoever is connected, and whoever comes; or take them again."""
        self.call(partial(self._refuse, is_refusing))

    def slow_down(self, round_trip_s: float) -> None:
        """Let all pass late from now on: by half of that in each direction, give or take a half."""
        self.call(partial(self._slow_down, round_trip_s / 2))

    def _slow_down(self, latency_s: float) -> None:
        for toxic in (self.proxy.up, self.proxy.down):
            toxic.latency_s, toxic.jitter_s = latency_s, latency_s / 2

    def _silence(self, *, up: bool, down: bool) -> None:
        self.proxy.up.silence(up)
        self.proxy.down.silence(down)

    def _refuse(self, is_refusing: bool) -> None:
        self.proxy.is_refusing = is_refusing
        if is_refusing:
            self.proxy.reset_all()


class Lines:
    """`with Lines() as lines`: the thread of the proxies; leaving ends them all."""

    def __init__(self) -> None:
        self._token: trio.lowlevel.TrioToken
        self._nursery: trio.Nursery
        self._is_made, self._is_over = threading.Event(), trio.Event()
        self._thread = threading.Thread(target=partial(trio.run, self._run), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._is_made.wait(PATIENCE_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        trio.from_thread.run_sync(self._is_over.set, trio_token=self._token)
        self._thread.join(PATIENCE_S)

    def to_port(self, port: Callable[[], int]) -> Line:
        """A line to a port of loopback, which is asked for at each connection."""

        async def reach() -> trio.SocketStream:
            return await trio.open_tcp_stream("127.0.0.1", port())

        return self._open(reach)

    def to_socket(self, path: Path) -> Line:
        """A line to a socket of the file system, as the embedded database has one."""

        async def reach() -> trio.SocketStream:
            sock = trio.socket.socket(trio.socket.AF_UNIX)
            await sock.connect(str(path))
            return trio.SocketStream(sock)

        return self._open(reach)

    def _open(self, reach: Reach) -> Line:
        proxy = ToxicProxy(reach)

        async def start() -> None:
            await self._nursery.start(proxy.serve)

        trio.from_thread.run(start, trio_token=self._token)
        return Line(proxy, self._token)

    async def _run(self) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery, self._token = nursery, trio.lowlevel.current_trio_token()
            self._is_made.set()
            await self._is_over.wait()
            nursery.cancel_scope.cancel()
