"""One connection to a Redis, shared by all who ask: a handle that stays valid while it comes back.

What is asked at once goes out in one piece and is answered in order, so the round trip is shared.
Rule 1: a command is sent once. One whose answer was lost with its connection is told as
`StoreUnavailable`, and whether it was done is not known.
Rule 2: nobody waits for a server that is away: after `PATIENCE_S` all are refused at once.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from random import Random

import outcome
import trio

from actors.runtime import Log
from storage.asyncio_thread import ServingActor
from storage.errors import StoreUnavailable
from storage.guard import UNGUARDED, Guard
from storage.redis.codec import NotRedis, Part, Refusal, Replies, Reply, encode
from storage.redis.words import (
    RedisRefused,
    RedisRejected,
    RedisSettings,
    Script,
    maybe_rejection,
)

# TCP, TLS, the first words: as one.
CONNECT_S_MAX = 2.0
# A server that is started anew is back by then: a sign-in is a moment late instead of refused.
PATIENCE_S = 1.0
RETRY_S, RETRY_S_MAX = 0.05, 2.0
# So many who wait hold a few megabytes; beyond them the server is too slow for what is asked.
WAITING_MAX = 10_000
UNWRITTEN_BYTES_MAX = 4 * 1024 * 1024
FIRST_CONNECT_S_MAX = 30.0
# Before it sign-in by a user's name, and the time to live that a rewritten key keeps.
VERSION_MIN = (6,)
# From one in which keys may be forgotten under pressure, whoever fills it has limits forgotten.
_KEEPS = "noeviction"
_CHUNK = 64 * 1024

# It is there, and cannot do it now: for who asked that is the same as being away.
_FOR_NOW = frozenset(
    {
        "BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOAUTH", "NOPERM",
        "NOREPLICAS", "OOM", "READONLY", "TRYAGAIN", "UNKILLABLE", "WRONGPASS",
    }
)  # fmt: skip
# Another connection finds another server, or is known again.
_AGAIN = frozenset({"READONLY", "MASTERDOWN", "NOAUTH"})

_log = Log("storage.redis")


@dataclass(frozen=True, slots=True)
class RedisStatistics:
    """How a client is: `reason` says why it is not up, `down_s` for how long; `waiting` asked."""

    is_up: bool
    version: str
    reason: str
    down_s: float
    connects: int
    waiting: int
    unwritten_bytes: int


class _Waiting:
    """Who waits for the answer to a command that is on its way; None when nobody does any more."""

    __slots__ = ("asked_at", "task")

    def __init__(self, task: trio.lowlevel.Task | None, asked_at: float) -> None:
        self.task, self.asked_at = task, asked_at


class _Connection:
    """One connection that was greeted: until it is lost."""

    def __init__(self, stream: trio.abc.Stream, replies: Replies, answer_s_max: float) -> None:
        self._stream, self._replies, self._answer_s_max = stream, replies, answer_s_max
        self.waiting: deque[_Waiting] = deque()
        self._unwritten: list[bytes] = []
        self.unwritten_bytes = 0
        self._some = trio.lowlevel.ParkingLot()
        self._scope = trio.CancelScope()
        self._reason = ""

    async def ask(self, data: bytes) -> Reply:
        """Call this with a command's bytes for its answer; cancelled, it is perhaps done."""
        await trio.lowlevel.checkpoint_if_cancelled()
        is_long = self.unwritten_bytes > 0 and (
            self.unwritten_bytes + len(data) > UNWRITTEN_BYTES_MAX
        )
        if self._reason or is_long or len(self.waiting) >= WAITING_MAX:
            why = self._reason or "too much waits for it"
            raise StoreUnavailable(why, nothing_written=True)
        waiting = self._put(trio.lowlevel.current_task(), data)

        def leave(_: object) -> trio.lowlevel.Abort:
            waiting.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        answer: Reply = await trio.lowlevel.wait_task_rescheduled(leave)
        return answer

    def lose(self, reason: str) -> None:
        """Call this to end it; the first reason counts."""
        self._reason = self._reason or reason
        self._scope.cancel()

    async def run(self) -> str:
        """Call this once, for as long as it lasts; gives the reason for its end."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    nursery.start_soon(self._read)
        finally:
            self._reason = self._reason or "the connection is closed"
            while self.waiting:
                task = self.waiting.popleft().task
                if task is not None:
                    error = StoreUnavailable(self._reason)
                    trio.lowlevel.reschedule(task, outcome.Error(error))
        return self._reason

    def _put(self, task: trio.lowlevel.Task | None, data: bytes) -> _Waiting:
        waiting = _Waiting(task, trio.current_time())
        self.waiting.append(waiting)
        self._unwritten.append(data)
        self.unwritten_bytes += len(data)
        self._some.unpark()
        return waiting

    async def _write(self) -> None:
        try:
            while True:
                if not self._unwritten:
                    await self._some.park()
                data = b"".join(self._unwritten)
                self._unwritten.clear()
                await self._stream.send_all(data)
                self.unwritten_bytes -= len(data)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.lose(said(error))

    async def _read(self) -> None:
        try:
            while True:
                data = await self._receive()
                if not data:
                    self.lose("the server hung up")
                    return
                for reply in self._replies.feed(data):
                    self._answer(reply)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, NotRedis) as error:
            self.lose(said(error))

    async def _receive(self) -> bytes:
        """Wait for bytes; empty when there will be none, or none came for too long."""
        while True:
            limit_s, now = self._answer_s_max, trio.current_time()
            left_s = self.waiting[0].asked_at + limit_s - now if self.waiting else limit_s
            if left_s <= 0:
                self.lose(f"no answer within {limit_s:g} s")
            # Who asks meanwhile is looked at when this is over.
            with trio.move_on_after(max(0.0, left_s)):
                return bytes(await self._stream.receive_some(_CHUNK))
            if not self.waiting:
                self._put(None, encode(("PING",)))

    def _answer(self, reply: Reply) -> None:
        if not self.waiting:
            raise NotRedis("an answer that nobody asked for")
        task = self.waiting.popleft().task
        if task is not None:
            trio.lowlevel.reschedule(task, outcome.Value(reply))


class RedisClient:
    """The handle; see the module. Belongs to the trio thread.

    Every command goes through the `guard`, which raises `StoreUnavailable` for one that it does not
    let pass. Whoever runs `serve` (`RedisActor` under a supervisor, `open_redis` where there is
    none) gives it a connection, and another one when that is lost::

        async with open_redis(RedisSettings("127.0.0.1")) as redis:
            await redis.call("SET", "greeting", "hello")
            assert await redis.call("GET", "greeting") == b"hello"
    """

    def __init__(
        self,
        settings: RedisSettings,
        *,
        random: Random | None = None,
        guard: Guard = UNGUARDED,
    ) -> None:
        self.settings, self._guard = settings, guard
        self._random = random if random is not None else Random()
        self._connection: _Connection | None = None
        self._changed = trio.Event()
        self._rejection: RedisRejected | None = None
        self._reason = "nothing serves it"
        self._down_since: float | None = None
        self._version, self._connects = "", 0

    def __repr__(self) -> str:
        state = "up" if self._connection is not None else f"down: {self._reason}"
        return f"<RedisClient {self.settings.place} {state}>"

    async def call(self, *parts: Part) -> Reply:
        """Call this with the words of a command for its answer.

        Raises `StoreUnavailable` while there is no server, or it cannot do anything now, and
        `RedisRefused` for any other error it answers. Cancelled, the command is perhaps done.
        """
        reply = await self._ask(encode(parts))
        if isinstance(reply, Refusal):
            raise self._error(reply)
        return reply

    async def run(self, script: Script, keys: tuple[Part, ...], *arguments: Part) -> Reply:
        """Call this to run a script as one step; the errors of `call`."""
        rest: tuple[Part, ...] = (len(keys), *keys, *arguments)
        reply = await self._ask(encode(("EVALSHA", script.digest, *rest)))
        if isinstance(reply, Refusal) and reply.code == "NOSCRIPT":
            # A server that was started anew, or another one; it keeps it from now on.
            reply = await self._ask(encode(("EVAL", script.text, *rest)))
        if isinstance(reply, Refusal):
            raise self._error(reply)
        return reply

    async def wait_up(self, timeout_s: float = FIRST_CONNECT_S_MAX) -> None:
        """Call this to wait until there is a connection, while somebody serves it.

        Raises `RedisRejected` at once when the server will not have us, and `StoreUnavailable`
        when the time is over.
        """
        with trio.move_on_after(timeout_s):
            while self._connection is None:
                if self._rejection is not None:
                    raise self._rejection
                await self._changed.wait()
            return
        why = f"{self.settings.place} does not answer ({self._reason})"
        raise StoreUnavailable(why, nothing_written=True)

    def statistics(self) -> RedisStatistics:
        """Call this for how it is; waits for nothing."""
        connection = self._connection
        return RedisStatistics(
            connection is not None,
            self._version,
            "" if connection is not None else self._reason,
            0.0 if self._down_since is None else trio.current_time() - self._down_since,
            self._connects,
            0 if connection is None else len(connection.waiting),
            0 if connection is None else connection.unwritten_bytes,
        )

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Call this in a nursery or an actor to give the handle connections; ends when cancelled.

        Started at once: whether a server answers is asked with `wait_up`.
        """
        self._reason = "not connected yet"
        self._down_since = trio.current_time()
        task_status.started()
        pause_s = RETRY_S
        try:
            while True:
                before = self._connects
                await self._live()
                pause_s = RETRY_S if self._connects > before else min(RETRY_S_MAX, pause_s * 2)
                await trio.sleep(pause_s * self._random.uniform(0.5, 1.0))
        finally:
            self._reason = "nothing serves it"

    async def _live(self) -> None:
        """Connect, and serve the connection until it is lost."""
        stream: trio.abc.Stream | None = None
        try:
            with trio.fail_after(CONNECT_S_MAX):
                stream = await self._open()
                replies = await self._greet(stream)
            self._rejection = None
            await self._serve(_Connection(stream, replies, self.settings.answer_s_max))
        except RedisRejected as error:
            self._rejection = error
            self._went_down(str(error))
        except trio.TooSlowError:
            self._went_down(f"no connection within {CONNECT_S_MAX:g} s")
        except (OSError, trio.BrokenResourceError, NotRedis, StoreUnavailable) as error:
            self._went_down(error.reason if isinstance(error, StoreUnavailable) else said(error))
        finally:
            if stream is not None:
                await trio.aclose_forcefully(stream)

    async def _serve(self, connection: _Connection) -> None:
        self._connection, self._down_since = connection, None
        self._connects += 1
        _log.info("redis.up", server=self.settings.place, version=self._version)
        self._ring()
        try:
            reason = await connection.run()
        finally:
            self._connection = None
        self._went_down(reason)

    async def _open(self) -> trio.abc.Stream:
        settings = self.settings
        plain = await trio.open_tcp_stream(settings.host, settings.port)
        if not settings.is_tls:
            return plain
        stream = trio.SSLStream(
            plain, settings.context(), server_hostname=settings.host, https_compatible=True
        )
        try:
            await stream.do_handshake()
        except BaseException as error:
            await trio.aclose_forcefully(plain)
            cause = error.__cause__
            if isinstance(cause, ssl.SSLCertVerificationError):
                why = f"its certificate is not trusted ({cause.verify_message})"
                raise RedisRejected(settings.place, why) from error
            raise
        return stream

    async def _greet(self, stream: trio.abc.Stream) -> Replies:
        """Say who we are, and look at who answers."""
        settings, replies = self.settings, Replies()
        words: list[tuple[Part, ...]] = []
        if settings.password is not None:
            who = (settings.user,) if settings.user else ()
            words.append(("AUTH", *who, settings.password.reveal()))
        if settings.database:
            words.append(("SELECT", settings.database))
        words += [("PING",), ("INFO", "server"), ("INFO", "memory")]
        await stream.send_all(b"".join(map(encode, words)))
        told: list[Reply] = []
        while len(told) < len(words):
            data = bytes(await stream.receive_some(_CHUNK))
            if not data:
                raise StoreUnavailable("the server hung up", nothing_written=True)
            told += replies.feed(data)
        *first, server, memory = told
        for reply in first:
            if isinstance(reply, Refusal):
                rejection = maybe_rejection(settings.place, reply)
                if rejection is not None:
                    raise rejection
                raise StoreUnavailable(f"it says {reply.code}", nothing_written=True)
        self._look_at(_facts(server), _facts(memory))
        return replies

    def _look_at(self, server: dict[str, str], memory: dict[str, str]) -> None:
        """Refuse a server that cannot serve us; one that does not tell is believed."""
        self._version = server.get("redis_version", "")
        numbers = tuple(int(part) for part in self._version.split(".") if part.isdigit())
        if numbers and numbers < VERSION_MIN:
            raise RedisRejected(self.settings.place, f"it is {self._version}, 6 is the oldest")
        policy = memory.get("maxmemory_policy", _KEEPS)
        if policy != _KEEPS and not self._connects:
            _log.warning("redis.forgets", policy=policy, should_be=_KEEPS)

    async def _ask(self, data: bytes) -> Reply:
        return await self._guard.call(partial(self._ask_now, data))

    async def _ask_now(self, data: bytes) -> Reply:
        connection = self._connection
        if connection is None:
            connection = await self._wait_a_moment()
        return await connection.ask(data)

    async def _wait_a_moment(self) -> _Connection:
        """Wait for a connection as long as it has not been away for long."""
        until = float("-inf") if self._down_since is None else self._down_since + PATIENCE_S
        if self._rejection is None and trio.current_time() < until:
            with trio.move_on_at(until):
                while self._connection is None:
                    await self._changed.wait()
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._connection is None:
            raise StoreUnavailable(self._reason, nothing_written=True)
        return self._connection

    def _error(self, refusal: Refusal) -> Exception:
        if refusal.code in _AGAIN and self._connection is not None:
            self._connection.lose(f"it says {refusal.code}")
        if refusal.code in _FOR_NOW:
            return StoreUnavailable(f"it says {refusal.code}")
        return RedisRefused(refusal)

    def _went_down(self, reason: str) -> None:
        if reason != self._reason:
            _log.warning("redis.down", server=self.settings.place, reason=reason)
        self._reason = reason
        if self._down_since is None:
            self._down_since = trio.current_time()
        self._ring()

    def _ring(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def said(error: BaseException) -> str:
    """Call this for what goes into a log of an error of the network, whose own text is short."""
    cause = error.__cause__ if isinstance(error, trio.BrokenResourceError) else None
    text = str(cause or error) or type(cause or error).__name__
    return text[:200]


def _facts(reply: Reply) -> dict[str, str]:
    """Read what `INFO` answers; nothing where it may not be asked."""
    if not isinstance(reply, bytes):
        return {}
    lines = reply.decode("utf-8", "replace").splitlines()
    return {name: value for name, mark, value in (line.partition(":") for line in lines) if mark}


class RedisActor(ServingActor):
    """Serves one client for as long as it lives; others hold the `RedisClient` itself."""

    def __init__(self, client: RedisClient) -> None:
        super().__init__(client)


@asynccontextmanager
async def open_redis(
    settings: RedisSettings, *, wait_s: float = FIRST_CONNECT_S_MAX
) -> AsyncIterator[RedisClient]:
    """Call this to use a client outside a supervision tree: in tests, tools, a look at a start.

    Waits for a connection, with the errors of `RedisClient.wait_up`. Leaving closes everything.
    """
    client = RedisClient(settings)
    async with trio.open_nursery() as nursery:
        await nursery.start(client.serve)
        await client.wait_up(wait_s)
        yield client
        nursery.cancel_scope.cancel()
