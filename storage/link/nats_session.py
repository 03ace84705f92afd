"""One life of the link over NATS, on the asyncio loop: connect, subscribe, write, until lost.

Rule 1: what trio knows comes by `Outlook`, called through the thread; nothing here touches trio.
Rule 2: the link is up from when all that is subscribed is heard, and down at the moment that the
client notices: both are told in order.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Protocol

from nats import errors
from nats.aio.client import Server

from actors.cluster.link import Delivery, LinkRefused, LinkStatus, NoLink
from storage.asyncio_thread import AsyncioThread
from storage.link.nats_client import LinkClient
from storage.link.nats_words import (
    ATTEMPT_S_MAX,
    INCOMING_BYTES_MAX,
    OVERHEAD_BYTES,
    PATIENT_AFTER_S,
    PINGS_MAX,
    REFUSALS,
    STEP_S_MAX,
    BadCredentials,
    Faults,
    LinkFault,
    NatsSettings,
    NoTls,
    fault_of,
    place_of,
    retry_delay_s,
    why_refused,
    words_of,
)

# Looked at again while the socket takes nothing.
_STALLED_S = 0.002
# What the client holds before it is written: a few frames.
_UNWRITTEN_BYTES_MAX = 1024 * 1024
_FLUSH_S_MAX = 2.0
# Crashes must not use up what a supervisor allows: ten within 5 s, for the site.
LOST_AGAIN_S = 1.0
# With `END_S_MAX` less than what the thread allows a cancelled call.
REST_S_MAX = 0.3
# A key, a password, a token: none is a kilobyte, and no other file is read as one.
SECRET_LENGTH_MAX = 4096
# Kinds of subjects as `actors.cluster.link.subjects` makes them: each is tried at the start.
_PROBED = ("n.{}", "s.{}.frames", "all", "t.{}", "any.{}")

Message = tuple[int, Delivery, int]


class Outlook(Protocol):
    """What the other side is told, on the trio thread."""

    def changed(self, status: LinkStatus) -> None:
        """The link went up or down."""

    def failed(self, refusal: LinkRefused | None, said: str) -> None:
        """An attempt to connect failed, perhaps in a way that waiting does not mend."""

    def deliver(self) -> None:
        """There is something in `Session.incoming`."""

    def made_room(self) -> None:
        """Something was written."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A subscription, whichever connection it is heard by."""

    number: int
    pattern: str
    group: str


@dataclass(slots=True)
class Troubles:
    """Since when it goes badly: for longer, and who connects again waits longer.

    A connection that was up for less than 10 s has ended no trouble.
    """

    since: float | None = None
    up_at: float = 0.0
    lost_at: float = float("-inf")
    is_lost_again: bool = False

    def lost(self, now: float) -> None:
        """Call this when a connection is over for good: whoever serves the link crashes by it."""
        self.is_lost_again = now - self.lost_at < PATIENT_AFTER_S
        self.lost_at = now

    def went_down(self, now: float) -> None:
        """Call this when the link is down."""
        if self.since is None or now - self.up_at >= PATIENT_AFTER_S:
            self.since = now

    def pause_s(self, now: float, draw: float) -> float:
        """Call this for how long to wait before the next attempt."""
        pause_s = retry_delay_s(0.0 if self.since is None else now - self.since, draw)
        return max(pause_s, LOST_AGAIN_S) if self.is_lost_again else pause_s


class Session:
    """See the module. `run` ends with the reason for which a new one is needed."""

    def __init__(
        self,
        thread: AsyncioThread,
        settings: NatsSettings,
        outlook: Outlook,
        *,
        faults: Faults,
        troubles: Troubles,
        random: Random,
        connects: int,
        wanted: Callable[[], Iterable[Wanted]],
    ) -> None:
        self._thread, self._settings, self._outlook = thread, settings, outlook
        self._faults, self._troubles, self._random = faults, troubles, random
        self._wanted = wanted
        self._urls = settings.urls
        random.shuffle(self._urls)
        self._turn = 0
        self._status = LinkStatus(is_up=False, connects=connects)
        self._client: LinkClient | None = None
        self._is_beginning = True
        # What was heard while a connection began: said when the attempt has failed.
        self._heard: Exception | None = None
        self._denied: Exception | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._sids: dict[int, int] = {}
        self._numbers: dict[int, int] = {}
        # Both sides count what they did, and only the difference is a load: neither writes what
        # the other does. `AsyncioThread` tells why two threads may use a deque's ends.
        self.incoming: deque[Message] = deque()
        self.put_bytes = 0
        self.taken_bytes = 0
        self.is_told = False
        self.slow_count = 0
        self.written_bytes = 0
        self.dropped_count = 0
        self.is_awaited = False
        self._outgoing: deque[tuple[str, bytes, str, int]] = deque()
        self._some = asyncio.Event()

    # Posted by trio

    def put(self, subject: str, data: bytes, reply: str, size: int) -> None:
        """Call this with what is to be published; lost when the link is down by then."""
        self._outgoing.append((subject, data, reply, size))
        self._some.set()

    async def subscribe(self, wanted: Wanted) -> None:
        """Call this to hear something; raises `NoLink` or `LinkRefused`, and then hears nothing."""
        client = self._client
        if client is None or not self._status.is_up:
            raise NoLink
        place = self._status.server
        try:
            await self._hear(client, wanted)
            await self._settle(client)
        except errors.Error as error:
            await self.unsubscribe(wanted.number)
            raise self._refusal(LinkFault.PERMISSION, error, place) from None
        except BaseException:
            await self.unsubscribe(wanted.number)
            raise

    async def unsubscribe(self, number: int) -> None:
        """Call this to hear something no more."""
        sid = self._sids.pop(number, None)
        if sid is None or self._client is None:
            return
        self._numbers.pop(sid, None)
        await self._client.hear_no_more(sid)

    # The life

    async def run(self) -> str:
        """Call this once; returns when the connection is over for good, with the reason."""
        loop = asyncio.get_running_loop()
        self._renew()
        writing = loop.create_task(self._write())
        try:
            await self._come_up()
            waited: set[asyncio.Future[Any]] = {writing, self._gone}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                writing.result()
            return self._gone.result()
        except asyncio.CancelledError:
            await self._say_the_rest()
            raise
        finally:
            writing.cancel()
            self._went_down()
            if self._client is not None:
                await self._client.end()

    async def _say_the_rest(self) -> None:
        """At an orderly end what was handed over is given to the client, which writes it."""
        ends_at = asyncio.get_running_loop().time() + REST_S_MAX
        while self._outgoing and asyncio.get_running_loop().time() < ends_at:  # noqa: ASYNC110
            await asyncio.sleep(_STALLED_S)

    def drop(self) -> None:
        """Call this on the loop when it ends: nothing stays open."""
        if self._client is not None:
            self._client.abort()

    def _renew(self) -> None:
        loop = asyncio.get_running_loop()
        self._gone: asyncio.Future[str] = loop.create_future()
        self._down: asyncio.Future[None] = loop.create_future()

    async def _come_up(self) -> None:
        now = asyncio.get_running_loop().time
        is_at_once = self._troubles.since is None
        while True:
            if not is_at_once:
                await asyncio.sleep(self._troubles.pause_s(now(), self._random.random()))
            is_at_once = False
            url = self._urls[self._turn % len(self._urls)]
            try:
                async with asyncio.timeout(ATTEMPT_S_MAX):
                    await self._open(url)
            except (OSError, errors.Error, NoLink, TimeoutError) as error:
                self._turn += 1
                if self._troubles.since is None:
                    self._troubles.since = now()
                if self._client is not None:
                    await self._client.end()
                self._tell_failed(error, place_of(url))
            else:
                self._is_beginning = False
                self._went_up()
                return

    async def _open(self, url: str) -> None:
        self._renew()
        self._heard = self._denied = None
        self._numbers.clear()
        self._sids.clear()
        client = self._client = LinkClient(
            needs_tls=self._settings.needs_tls,
            payload_bytes_min=self._settings.payload_bytes_min,
            take=self._take,
            went_down=self._went_down,
            lost=self._lose,
        )
        try:
            await self._connect(client, url)
        except (OSError, errors.Error, TimeoutError):
            raise
        except Exception as error:  # noqa: BLE001  (what the library of keys raises has no base)
            raise BadCredentials(f"{type(error).__name__}: the key is none") from None
        # From here on it connects again by itself, to any of them, for as long as it takes.
        client.set_server_pool(self._urls)
        client.options["allow_reconnect"] = True
        client.options["max_reconnect_attempts"] = -1
        await self._probe(client)
        for wanted in self._wanted():
            await self._hear(client, wanted)
        await self._settle(client)

    async def _connect(self, client: LinkClient, url: str) -> None:
        settings = self._settings
        await client.connect(
            [url],
            **self._credentials(),
            tls=self._context(),
            name=settings.name,
            # One attempt, whose failure is raised: with unlimited ones it never returns.
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=STEP_S_MAX,
            ping_interval=settings.ping_interval_s,  # type: ignore[arg-type]
            max_outstanding_pings=PINGS_MAX,
            no_echo=True,
            # What is published while there is no server is refused, not kept.
            pending_size=0,
            inbox_prefix=f"{settings.prefix}.inbox",
            error_cb=self._erred,
            lame_duck_mode_cb=self._told_to_leave,
            reconnected_cb=self._reconnected,
            reconnect_to_server_handler=self._choose,
            skip_subject_validation=True,
        )

    def _context(self) -> ssl.SSLContext | None:
        tls = self._settings.tls
        if not self._settings.needs_tls and tls.ca_file is None:
            return None
        try:
            return tls.context()
        except OSError as error:
            raise NoTls(f"the files of this node cannot be used: {words_of(error)}") from None

    def _credentials(self) -> dict[str, Any]:
        """What `connect` is given; read anew at each connection."""
        of = self._settings.credentials
        try:
            if of.nkey_file is not None:
                return {"nkeys_seed_str": read_secret(of.nkey_file)}
            if of.password_file is not None:
                return {"user": of.user, "password": read_secret(of.password_file)}
            if of.token_file is not None:
                return {"token": read_secret(of.token_file)}
        except (OSError, UnicodeError) as error:
            raise BadCredentials(f"their file cannot be read: {words_of(error)}") from None
        return {}

    async def _probe(self, client: LinkClient) -> None:
        """Use each kind of subject: a permission that is missing is told nowhere else."""
        if not client.info.get("headers"):
            raise errors.Error("nats: it is too old to say when nobody hears")
        prefix, mark = self._settings.prefix, f"probe-{self._random.getrandbits(64):016x}"
        tried = []
        for kind in _PROBED:
            subject = f"{prefix}.{kind.format(mark)}"
            tried.append(await client.hear(subject))
            await client.publish(subject, b"", reply=f"{prefix}.s.{mark}.gone")
        await self._settle(client)
        for sid in tried:
            await client.hear_no_more(sid)

    async def _hear(self, client: LinkClient, wanted: Wanted) -> None:
        sid = await client.hear(wanted.pattern, wanted.group)
        self._numbers[sid] = wanted.number
        self._sids[wanted.number] = sid

    async def _settle(self, client: LinkClient) -> None:
        """Wait until the server has all that was sent before, and has said what it thinks of it.

        Twice: the library writes its ping before what waits to be written. Raises `NoLink`, or
        what the server has denied.
        """
        for _ in range(2):
            flush = asyncio.ensure_future(client.flush(_FLUSH_S_MAX))  # type: ignore[arg-type]
            flush.add_done_callback(_forget)
            try:
                await asyncio.wait({flush, self._down}, return_when=asyncio.FIRST_COMPLETED)
                if self._denied is not None:
                    raise errors.Error(str(self._denied))
                is_through = flush.done() and flush.exception() is None
                if not is_through or self._down.done() or not client.is_connected:
                    raise NoLink
            finally:
                flush.cancel()

    # What the client tells

    async def _reconnected(self) -> None:
        self._went_up()

    def _went_up(self) -> None:
        client = self._client
        assert client is not None
        if self._down.done():
            self._down = asyncio.get_running_loop().create_future()
        self._troubles.up_at = asyncio.get_running_loop().time()
        url = client.connected_url
        place = place_of(url.geturl()) if url is not None else ""
        version = str(client.info.get("version", ""))
        self._tell(LinkStatus(True, self._status.connects + 1, place, version, client.max_payload))

    def _went_down(self) -> None:
        if not self._down.done():
            self._down.set_result(None)
        self.dropped_count += len(self._outgoing)
        self.written_bytes += sum(size for *_, size in self._outgoing)
        self._outgoing.clear()
        if self._status.is_up:
            self._troubles.went_down(asyncio.get_running_loop().time())
            self._tell(LinkStatus(False, self._status.connects, self._status.server))
            self._thread.post_to_trio(self._outlook.made_room)

    def _lose(self, error: BaseException) -> None:
        """It is over for good, with this connection; one that only began is tried again."""
        self._went_down()
        if not self._is_beginning and not self._gone.done():
            self._troubles.lost(asyncio.get_running_loop().time())
            self._gone.set_result(words_of(error))

    async def _erred(self, error: Exception) -> None:
        """The library's `error_cb`: the one place where it tells what goes wrong later."""
        fault = fault_of(error)
        if self._is_beginning:
            self._heard = error
            if fault in REFUSALS:
                self._denied = error
            return
        self._faults.note(fault, words_of(error), self._status.server)
        # A node that may not hear or speak is not up. Another connection finds out when it may,
        # with the credentials and certificates of that time.
        if fault in REFUSALS:
            self._denied = error
            self._lose(error)

    async def _told_to_leave(self) -> None:
        """The server leaves: another is looked for as long as this one still hears."""
        if len(self._urls) > 1 and (self._leaving is None or self._leaving.done()):
            # Not here: the client reads nothing while this runs, also no answer to a flush.
            self._leaving = asyncio.get_running_loop().create_task(self._leave())

    async def _leave(self) -> None:
        client = self._client
        assert client is not None
        with suppress(NoLink, errors.Error):
            await self._settle(client)
        await client.force_reconnect()

    def _choose(self, servers: list[Server], info: dict[str, Any]) -> tuple[Server | None, float]:
        """Call this, as the client, for where to try next and when.

        Only servers that were named: what a server says of others need not be reachable, and may
        be beyond this machine without TLS.
        """
        self._turn += 1
        place = place_of(self._urls[self._turn % len(self._urls)])
        chosen = next((one for one in servers if place_of(one.uri.geturl()) == place), None)
        now = asyncio.get_running_loop().time()
        return chosen, self._troubles.pause_s(now, self._random.random())

    def _take(self, sid: int, subject: bytes, reply: bytes, data: bytes, is_nobody: bool) -> None:
        """Put a message where trio looks for it; it is dropped when too much waits there."""
        number = self._numbers.get(sid)
        if number is None:
            return
        size = len(subject) + len(reply) + len(data) + OVERHEAD_BYTES
        if self.put_bytes - self.taken_bytes + size > INCOMING_BYTES_MAX:
            self.slow_count += 1
            self._faults.note(LinkFault.SLOW_CONSUMER, "too much waits here", self._status.server)
            return
        try:
            delivery = Delivery(subject.decode("ascii"), data, reply.decode("ascii"), is_nobody)
        except UnicodeDecodeError:
            self._faults.note(LinkFault.PROTOCOL, "a subject is no text", self._status.server)
            return
        self.put_bytes += size
        self.incoming.append((number, delivery, size))
        if not self.is_told:
            self.is_told = True
            self._thread.post_to_trio(self._outlook.deliver)

    # What is told

    def _tell(self, status: LinkStatus) -> None:
        self._status = status
        self._thread.post_to_trio(partial(self._outlook.changed, status))

    def _tell_failed(self, error: Exception, place: str) -> None:
        # Words of the library, or ours, for what it has told before in the words of who refused.
        is_hollow = isinstance(error, NoLink | errors.NoServersError)
        cause = self._denied or (self._heard if is_hollow else None) or error
        is_closed = isinstance(cause, NoLink)
        fault = LinkFault.CONNECT if is_closed else fault_of(cause)
        said = "it ended the connection" if is_closed else words_of(cause)
        self._faults.note(fault, said, place)
        refusal = self._refusal(fault, cause, place) if fault in REFUSALS else None
        self._thread.post_to_trio(partial(self._outlook.failed, refusal, said))

    def _refusal(self, fault: LinkFault, error: BaseException, place: str) -> LinkRefused:
        everything = f"{self._settings.prefix}.>"
        return LinkRefused(place, why_refused(fault, words_of(error), everything))

    # What is sent

    async def _write(self) -> None:
        """Give the client what was put, no faster than the socket takes it."""
        while True:
            await self._some.wait()
            self._some.clear()
            while self._outgoing:
                client = self._client
                assert client is not None
                if client.pending_data_size >= _UNWRITTEN_BYTES_MAX:
                    await asyncio.sleep(_STALLED_S)
                    continue
                subject, data, reply, size = self._outgoing.popleft()
                self.written_bytes += size
                try:
                    await client.publish(subject, data, reply=reply)
                except errors.Error:
                    self.dropped_count += 1
            if self.is_awaited:
                self._thread.post_to_trio(self._outlook.made_room)


def _forget(flush: asyncio.Task[None]) -> None:
    """Whoever waits for it no more does not want to know how it ended."""
    if not flush.cancelled():
        flush.exception()


def read_secret(path: Path) -> str:
    """Call this for what a file of one secret holds, without the end of its line."""
    text = path.read_text(encoding="utf-8").strip()
    if not text or len(text) > SECRET_LENGTH_MAX:
        raise OSError(f"{path} holds no secret")
    return text
