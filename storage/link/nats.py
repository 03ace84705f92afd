"""The link over NATS: one connection, on an asyncio loop of its own.

A `NatsLink` is a handle that stays valid: whoever runs `serve` (`NatsLinkActor` under a supervisor,
or `open_nats_link` where there is none) gives it a loop and a connection; what was subscribed is
heard again on the next one. The database's loop is another: a stuck one does not silence the other.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TypeVar

import trio

from actors.cluster.link import (
    Delivery,
    LinkAbsent,
    LinkRefused,
    LinkStatus,
    MessageTooLarge,
    NoLink,
    check_subject,
)
from actors.runtime import Log
from storage.asyncio_thread import SILENCE_S_MAX, AsyncioThread, ServingActor
from storage.errors import StoreUnavailable
from storage.link.nats_session import Session, Troubles, Wanted
from storage.link.nats_words import (
    BATCH,
    FIRST_CONNECT_S_MAX,
    OUTGOING_BYTES_MAX,
    OVERHEAD_BYTES,
    Faults,
    LinkFault,
    LinkLost,
    NatsSettings,
)

T = TypeVar("T")

# A lost loop is not waited for: the next one must serve.
LOST_JOIN_S = 0.1

_log = Log("storage.link")


@dataclass(frozen=True, slots=True)
class NatsStatistics:
    """How a link is: what waits here in each direction, what was dropped, and what went wrong."""

    status: LinkStatus
    outgoing_bytes: int
    incoming_bytes: int
    dropped_count: int
    slow_count: int
    faults: dict[LinkFault, int]


class NatsSubscription:
    """The port `LinkSubscription`."""

    __slots__ = ("_link", "hear", "wanted")

    def __init__(self, link: NatsLink, wanted: Wanted, hear: Callable[[Delivery], None]) -> None:
        self._link, self.wanted, self.hear = link, wanted, hear

    async def end(self) -> None:
        """See `LinkSubscription.end`."""
        await self._link.end(self)


class NatsLink:
    """The port `Link`; see the module's docstring. Belongs to the trio thread."""

    def __init__(
        self,
        settings: NatsSettings,
        *,
        silence_s_max: float = SILENCE_S_MAX,
        random: Random | None = None,
    ) -> None:
        self.settings = settings
        self._silence_s_max = silence_s_max
        self._random = random if random is not None else Random()
        self._status = LinkStatus(is_up=False, connects=0)
        self._watchers: list[Callable[[LinkStatus], None]] = []
        self._subscriptions: dict[int, NatsSubscription] = {}
        self._numbers = 0
        self._thread: AsyncioThread | None = None
        self._session: Session | None = None
        self._troubles = Troubles()
        self._faults = Faults(time.monotonic)
        self._put_bytes = 0
        self._room = trio.lowlevel.ParkingLot()
        self._changed = trio.Event()
        self._refusal: LinkRefused | None = None
        self._said = "nothing serves it"
        self._dropped_before = self._slow_before = 0
        self.loops_started = 0

    def __repr__(self) -> str:
        state = f"up at {self._status.server}" if self._status.is_up else "down"
        return f"<NatsLink {state}, {len(self._subscriptions)} subscriptions>"

    # The port

    async def publish(self, subject: str, data: bytes, *, reply: str = "") -> None:
        """See `Link.publish`. Waits while more than 4 MiB wait to be written.

        Else it lets nobody run before: a turn of the scheduler more is a tenth of what an ask of
        another node takes.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        thread, session = self._up()
        limit = self._status.payload_bytes_max
        if len(data) > limit:
            raise MessageTooLarge(len(data), limit)
        check_subject(subject, is_pattern=False)
        if reply:
            check_subject(reply, is_pattern=False)
        size = len(subject) + len(reply) + len(data) + OVERHEAD_BYTES
        while self._put_bytes - session.written_bytes + size > OUTGOING_BYTES_MAX:
            session.is_awaited = True
            # Looked at again: what was written before the flag was up has rung for nobody.
            if self._put_bytes - session.written_bytes + size > OUTGOING_BYTES_MAX:
                await self._room.park()
            thread, now = self._up()
            if now is not session:
                raise NoLink
        self._put_bytes += size
        thread.post_to_loop(partial(session.put, subject, data, reply, size))

    async def subscribe(
        self, pattern: str, hear: Callable[[Delivery], None], *, group: str = ""
    ) -> NatsSubscription:
        """See `Link.subscribe`. Raises `LinkRefused` for what the server does not permit."""
        await trio.lowlevel.checkpoint()
        thread, session = self._up()
        check_subject(pattern, is_pattern=True)
        if group:
            check_subject(group, is_pattern=False)
        self._numbers += 1
        wanted = Wanted(self._numbers, pattern, group)
        made = self._subscriptions[wanted.number] = NatsSubscription(self, wanted, hear)
        try:
            await thread.call(session.subscribe, wanted)
        except StoreUnavailable:
            del self._subscriptions[wanted.number]
            raise NoLink from None
        except BaseException:
            del self._subscriptions[wanted.number]
            raise
        return made

    def status(self) -> LinkStatus:
        """See `Link.status`."""
        return self._status

    def watch(self, told: Callable[[LinkStatus], None]) -> None:
        """See `Link.watch`."""
        self._watchers.append(told)

    async def end(self, subscription: NatsSubscription) -> None:
        """Call `NatsSubscription.end` instead."""
        await trio.lowlevel.checkpoint()
        number = subscription.wanted.number
        if self._subscriptions.pop(number, None) is None:
            return
        if self._thread is not None and self._session is not None:
            try:
                await self._thread.call(self._session.unsubscribe, number)
            except StoreUnavailable:
                pass  # lost: the next connection does not subscribe to it

    # Being served

    def statistics(self) -> NatsStatistics:
        """Call this for how the link is; waits for nothing."""
        session = self._session
        return NatsStatistics(
            self._status,
            0 if session is None else self._put_bytes - session.written_bytes,
            0 if session is None else session.put_bytes - session.taken_bytes,
            self._dropped_before + (0 if session is None else session.dropped_count),
            self._slow_before + (0 if session is None else session.slow_count),
            dict(self._faults.counts),
        )

    async def wait_up(self, timeout_s: float = FIRST_CONNECT_S_MAX) -> None:
        """Call this to wait until the link is up, while somebody serves it.

        Raises `LinkRefused` at once when a server says so: no waiting mends a wrong password; and
        `LinkAbsent` when the time is over.
        """
        with trio.move_on_after(timeout_s):
            while not self._status.is_up:
                if self._refusal is not None:
                    raise self._refusal
                await self._changed.wait()
            return
        raise LinkAbsent(self.settings.places, timeout_s, self._said)

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Call this in a nursery or an actor to give the handle its loop; ends by `LinkLost`.

        It connects for as long as it takes. Cancelling it is the orderly end: what was handed over
        is written, the server is told goodbye, the thread joined.
        """

        def drop() -> None:
            session.drop()

        thread = AsyncioThread("greenroom-link", silence_s_max=self._silence_s_max, at_end=drop)
        session = Session(
            thread,
            self.settings,
            self,
            faults=self._faults,
            troubles=self._troubles,
            random=self._random,
            connects=self._status.connects,
            wanted=self._wanted,
        )
        await thread.start()
        self.loops_started += 1
        self._thread, self._session, self._put_bytes = thread, session, 0
        task_status.started()
        try:
            reason = await self._until_lost(thread, session)
        finally:
            self._detach(session)
            is_lost = not thread.is_running
            await (thread.stop(LOST_JOIN_S) if is_lost else thread.stop())
        raise LinkLost(reason)

    async def _until_lost(self, thread: AsyncioThread, session: Session) -> str:
        reasons: list[str] = []

        async def run() -> None:
            try:
                reasons.append(await thread.call(session.run))
            except StoreUnavailable as error:
                reasons.append(error.reason)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            reasons.append(await thread.watch())
            nursery.cancel_scope.cancel()
        return reasons[0]

    def _detach(self, session: Session) -> None:
        self._thread = self._session = None
        self._dropped_before += session.dropped_count
        self._slow_before += session.slow_count
        self._said = "nothing serves it"
        if self._status.is_up:
            self.changed(LinkStatus(False, self._status.connects, self._status.server))
        self.made_room()

    def _up(self) -> tuple[AsyncioThread, Session]:
        if not self._status.is_up or self._thread is None or self._session is None:
            raise NoLink
        return self._thread, self._session

    def _wanted(self) -> Iterable[Wanted]:
        """Called on the loop's thread: a copy, made in one step."""
        return [one.wanted for one in tuple(self._subscriptions.values())]

    # What the session tells

    def changed(self, status: LinkStatus) -> None:
        """See `Outlook.changed`."""
        if status == self._status:
            return
        self._status = status
        if status.is_up:
            self._refusal = None
        for told in self._watchers:
            _guarded("link.watcher_failed", told, status)
        self._ring()

    def failed(self, refusal: LinkRefused | None, said: str) -> None:
        """See `Outlook.failed`."""
        self._refusal, self._said = refusal, said
        self._ring()

    def deliver(self) -> None:
        """See `Outlook.deliver`; some at a time, so that trio's other tasks have their turn."""
        session = self._session
        if session is None:
            return
        # Cleared before reading: what comes while we read tells us again.
        session.is_told = False
        for _ in range(BATCH):
            if not session.incoming:
                return
            number, delivery, size = session.incoming.popleft()
            session.taken_bytes += size
            subscription = self._subscriptions.get(number)
            if subscription is not None:
                _guarded("link.hearer_failed", subscription.hear, delivery)
        session.is_told = True
        trio.lowlevel.current_trio_token().run_sync_soon(self.deliver)

    def made_room(self) -> None:
        """See `Outlook.made_room`."""
        if self._session is not None:
            self._session.is_awaited = False
        self._room.unpark_all()

    def _ring(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def _guarded(event: str, told: Callable[[T], None], what: T) -> None:
    """Outside of any task, where an error would end the whole program."""
    try:
        told(what)
    except Exception as error:  # noqa: BLE001  (see above)
        _log.error(event, error=type(error).__name__, said=str(error)[:200])


class NatsLinkActor(ServingActor):
    """Serves one link for as long as it lives: a lost connection is a crash, and is restarted.

    It takes no messages: others hold the `NatsLink` itself. Started when the loop turns; whether a
    server answers is asked with `NatsLink.wait_up`. Its crash carries `LinkLost`.
    """

    def __init__(self, link: NatsLink) -> None:
        super().__init__(link)


@asynccontextmanager
async def open_nats_link(
    settings: NatsSettings, *, wait_s: float = FIRST_CONNECT_S_MAX
) -> AsyncIterator[NatsLink]:
    """Call this to use a link outside a supervision tree: in tests, tools, a look at a start.

    Waits for it to be up, with the errors of `NatsLink.wait_up`; a lost connection is made anew.
    Leaving closes everything.
    """
    link = NatsLink(settings)

    async def keep_serving(*, task_status: trio.TaskStatus[None]) -> None:
        status = task_status
        while True:
            try:
                await link.serve(task_status=status)
            except LinkLost:
                status = trio.TASK_STATUS_IGNORED

    async with trio.open_nursery() as nursery:
        await nursery.start(keep_serving)
        await link.wait_up(wait_s)
        yield link
        nursery.cancel_scope.cancel()
