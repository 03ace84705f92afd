"""A room as client programs hear it: a topic of the store, and the actor that fills it.

Rule 1: the feed delivers every event that all may see, once and in order. What was stored and
        never published, by a room that died or by another process, it reads from the store.
Rule 2: what is delivered outlives an incarnation of the feed; the next one goes on behind it.
"""

import trio

from actors.chat import (
    ChatLog,
    ChatLogUnavailable,
    MessagePosted,
    MessageWithdrawn,
    RoomForgot,
    RoomName,
    RoomResumed,
    Status,
    topic_of,
)
from actors.chat.chat_log import SAID_LIMIT
from actors.runtime import Actor, Batch, current_context, message, span
from web.realtime import Again, Broadcast, Heard, StoreAway, StoredHead, StoredPage

# While the store is away, it is asked again this often.
RETRY_S = 0.5
# Clients that read what they missed, at the same time; the pool has ten connections.
READERS_MAX = 3


class RoomTopic:
    """A room as a `StoredTopic`: what all may see of it, by the numbers of its events."""

    def __init__(self, room: RoomName, log: ChatLog) -> None:
        self._room, self._log = room, log
        # However many come back at once, most connections of the pool are for those who post.
        self._readers = trio.CapacityLimiter(READERS_MAX)

    async def head(self) -> StoredHead:
        """See `StoredTopic.head`."""
        try:
            head = await self._log.head(self._room)
        except ChatLogUnavailable as error:
            raise StoreAway(str(error)) from error
        return StoredHead(head.lineage, head.n, head.seen)

    async def page(self, after: int, limit: int) -> StoredPage[object]:
        """See `StoredTopic.page`."""
        try:
            async with self._readers:
                said = await self._log.said(self._room, after=after, limit=limit)
        except ChatLogUnavailable as error:
            raise StoreAway(str(error)) from error
        again: list[Again[object]] = [
            Again(MessagePosted(one.message, one.n), one.n, one.correlation_id)
            for one in said.messages
        ]
        again += [
            Again(
                MessageWithdrawn(self._room, gone.message_id, gone.n), gone.n, gone.correlation_id
            )
            for gone in said.withdrawn
        ]
        again.sort(key=lambda event: event.seq)
        return StoredPage(said.lineage, said.n, said.to, again, said.is_whole)


@message
class CatchUp:
    """The store was away; ask it again."""


Messages = MessagePosted | MessageWithdrawn | RoomResumed | RoomForgot | CatchUp


class SocketFeed(Actor[Messages]):
    """Delivers the events of a room to the sockets that hear its topic."""

    def __init__(
        self, room: RoomName, topic: RoomTopic, broadcast: Broadcast[object, Heard]
    ) -> None:
        self.room, self._topic, self._broadcast = room, topic, broadcast

    async def on_start(self) -> None:
        """Subscribe, then deliver what was stored since an incarnation before."""
        # In this order: an event of the time between is read, or in the mailbox, or both, and then
        # its number tells.
        self.system.topics.subscribe(topic_of(self.room), self.ref)
        await self._catch_up()

    async def on_message_posted(self, events: Batch[MessagePosted]) -> None:
        """Deliver messages that all may see."""
        run: list[tuple[MessagePosted, str | None]] = []
        for one in events:
            event = one.message
            if not run or event.n != run[-1][0].n + 1:
                await self._spread(run)
                run = []
                if not await self._is_next(event.n):
                    continue
            with one:
                # Each has its own cause, see `Batch`.
                context = current_context()
                here = "" if context is None else context.correlation_id
                known = event.correlation_id
                run.append((event, here if known is None else known))
        await self._spread(run)

    async def on_message_withdrawn(self, event: MessageWithdrawn) -> None:
        """Tell that a message was taken away."""
        if await self._is_next(event.n):
            with span("ws.event", room=self.room, events=1):
                await self._broadcast.spread([(event, None)])

    async def _spread(self, run: list[tuple[MessagePosted, str | None]]) -> None:
        shown = [one for one in run if one[0].message.status is Status.VISIBLE]
        if shown:
            with span("ws.event", room=self.room, events=len(shown)):
                await self._broadcast.spread(shown)
        if run:
            self._broadcast.pass_by(run[-1][0].n)

    async def on_room_resumed(self, _: RoomResumed) -> None:
        """The room restarted: an event may be stored that was never published."""
        await self._catch_up()

    def on_room_forgot(self, _: RoomForgot) -> None:
        """What was said is not kept any more, in whole or in part: nor is it here."""
        self._broadcast.forget()

    async def on_catch_up(self, _: CatchUp) -> None:
        """The store may be back."""
        await self._catch_up()

    async def _is_next(self, n: int) -> bool:
        cast = self._broadcast
        if not cast.begun.is_set() or n > cast.known + 1:
            await self._catch_up()
        # Otherwise it was read with what was missed, or will be.
        return cast.begun.is_set() and n == cast.known + 1

    async def _catch_up(self) -> None:
        try:
            await self._read_on()
        except StoreAway:
            self.after(RETRY_S, CatchUp(), key="catch-up")

    async def _read_on(self) -> None:
        cast = self._broadcast
        while True:
            page = None
            if cast.begun.is_set():
                page = await self._topic.page(cast.known, SAID_LIMIT)
            if page is None or page.epoch != cast.epoch or page.head < cast.known:
                # At first, or the store went back in time: clients see the new epoch and load anew.
                head = await self._topic.head()
                cast.begin(head.epoch, head.seq, head.head)
                return
            before = cast.known
            with span("ws.event", room=self.room, events=len(page.events)):
                await cast.spread(
                    [(again.message, again.correlation_id or "") for again in page.events]
                )
            cast.pass_by(page.to)
            if page.to >= page.head or page.to <= before:
                return
