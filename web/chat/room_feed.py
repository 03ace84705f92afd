"""The feed of one room: the actor through which its events reach every open stream of the room.

Rule 1: the feed holds the room's newest messages, so a stream that joins gets its window and
every later event from one place, in one turn, without a gap and without a query.
Rule 2: an event whose number does not follow the last one means that one was missed: the
feed reads the history again and sends every reader a whole window.
Rule 3: the readers outlive an incarnation of the feed; a restarted one serves them anew.
Rule 4: a page that says what it holds is sent what it misses of the window. Compared is what is
shown, not when it was said: so it holds across restarts, other stores and what was forgotten.
Rule 5: events that wait together leave together, in one write for each reader. Between slices of
readers others have their turn; who comes meanwhile waits for its window, which has these events.
"""

from __future__ import annotations

import math
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import ClassVar

import trio

from actors.chat import (
    History,
    Message,
    MessagePosted,
    MessageWithdrawn,
    ReadHistory,
    RoomForgot,
    RoomName,
    RoomResumed,
    Rooms,
    Status,
    UnknownRoom,
    Viewer,
    hide_words,
    topic_of,
)
from actors.runtime import Actor, AskError, Batch, message
from web.chat.presenting import RoomFrames, ViewerClass, window_views
from web.chat.readers import Readers
from web.chat.window import PENDING_MAX, RoomWindow, is_whole, merged, with_older
from web.realtime import Arrivals, Slices, joined
from web.server import COALESCE_BYTES, BoundedMap, Bundle, Frame, bundled
from web.views import MessageView

# While the room cannot tell its history (the store is away), it is asked again this often.
RETRY_S = 0.5

# Sees pending and removed messages too: the feed shows each reader its part.
_EVERYTHING = Viewer(is_moderator=True, tells_authors=True)
_PUBLIC = Viewer()

# Pages that come back together mostly hold one of a few windows; for others the rest is made anew.
RESTS_KEPT_MAX = 64
# LAB-56: within a second; who come together are told together.
PRESENCE_AFTER_S = 0.5
# The name under which a page tells the marks of its messages.
PANEL = "chat"


@message
class ReadAgain:
    """The room could not tell its history; ask again."""


@message
class ShowPresence:
    """Somebody came or went: tell the pages that show who is here."""


Messages = (
    MessagePosted
    | MessageWithdrawn
    | RoomResumed
    | RoomForgot
    | Arrivals
    | ReadAgain
    | ShowPresence
)


class RoomFeed(Actor[Messages]):
    """Renders each event of a room once for each class of viewers and hands out the bytes."""

    # Rendering so many takes about two milliseconds, in one turn.
    batch_max: ClassVar[int] = 16

    def __init__(self, room: RoomName, rooms: Rooms, frames: RoomFrames, readers: Readers) -> None:
        self.room, self._rooms, self._frames, self._readers = room, rooms, frames, readers
        # None until the history was read.
        self._window: RoomWindow | None = None
        self._public: _Shown | None = None
        self.resync_count = 0
        self._presence_due: float | None = None

    async def on_start(self) -> None:
        """Subscribe, then read the history; a restarted feed sends it to every reader."""
        # Subscribed before the history is read: an event of the time between is in the history or
        # in the mailbox, or in both, and then its number tells (`_window_before`).
        self.system.topics.subscribe(topic_of(self.room), self.ref)
        self._readers.want_all()
        await self._resync()
        self._show_presence_soon(PRESENCE_AFTER_S)

    async def on_message_posted(self, events: Batch[MessagePosted]) -> None:
        """Send new messages to all who may see them."""
        run: list[_Posted] = []
        for one in events:
            event = one.message
            window = self._window if run else None
            if window is None or event.n != window.n + 1:
                # Before the window may change, or anybody be sent it.
                await self._hand_out(run)
                run = []
                window = await self._window_before(event.n)
            if window is not None:
                has_waited = window.post(event.message, event.n)
                run.append(_Posted(event.message, event.n, has_waited))
        await self._hand_out(run)

    async def on_message_withdrawn(self, event: MessageWithdrawn) -> None:
        """Take a message away from all who saw it."""
        window = await self._window_before(event.n)
        if window is None:
            return
        message = window.withdraw(event.id, event.n, event.reason)
        gone = Bundle(((self._frames.withdrawn(event), event.n),))
        if message is not None and message.status is Status.VISIBLE:
            await self._put([gone], {})
            return
        # Nobody else saw it.
        own = {session: [gone] for session in self._readers.moderators}
        if message is None:
            # It made room for others here: its author is told why by the history.
            own |= {session: [gone] for session in self._readers.sessions_by(event.author)}
        else:
            gone_for = replace(message, status=Status.REMOVED, body="", removed_for=event.reason)
            told = Bundle(((self._frames.refused(gone_for, event), event.n),))
            own |= {session: [told] for session in self._readers.sessions_of(message)}
        await self._put([], own)

    async def on_room_resumed(self, _: RoomResumed) -> None:
        """The room restarted: an event may be stored that was never published."""
        await self._resync()

    async def on_room_forgot(self, _: RoomForgot) -> None:
        """What is shown is not kept any more, in whole or in part."""
        # Nothing of it is shown to who comes now, even when the store is away.
        self._window = self._public = None
        await self._resync()

    async def on_read_again(self, _: ReadAgain) -> None:
        """The store may be back."""
        await self._resync()

    def on_arrivals(self, _: Arrivals) -> None:
        """Send the window to who waits for it; then every later event."""
        self._serve_waiting()
        self._show_presence_soon(PRESENCE_AFTER_S)

    async def on_show_presence(self, _: ShowPresence) -> None:
        """Send the pages that show who is here what has changed of it."""
        self._presence_due = None
        now, presence = trio.current_time(), self._readers.presence
        over, seen = presence.forget(now), presence.seen()
        frame, slices = self._frames.presence(seen), Slices()
        for reader in [*self._readers.watching]:
            if slices.is_over(len(frame)):
                await trio.lowlevel.checkpoint()
            if self._readers.watching.get(reader, seen) != seen:
                self._readers.watching[reader] = seen
                reader.put_panel("presence", frame)
        if over is not None:
            self._show_presence_soon(max(PRESENCE_AFTER_S, over - now))

    def redact(self, state: dict[str, object]) -> dict[str, object]:
        """Show nobody's words in reports."""
        return hide_words(state)

    def _show_presence_soon(self, after_s: float) -> None:
        due = trio.current_time() + after_s
        # Not put off by what comes meanwhile: at a busy door it would never be shown.
        if not self._readers.watching or (self._presence_due or math.inf) <= due:
            return
        self._presence_due = due
        self.after(after_s, ShowPresence(), key="presence")

    async def _window_before(self, n: int) -> RoomWindow | None:
        """Give the window if `n` is the event that follows it; a gap is mended for everybody."""
        window = self._window
        if window is None or n > window.n + 1:
            await self._resync()
            return None
        if n <= window.n:
            return None  # read with the history already
        # Who waits gets the window as it is before this event, and then the event, like all.
        self._serve_waiting()
        self._public = None
        return window

    async def _resync(self) -> None:
        """Read the history; send it to every reader if it holds more than they have."""
        window = await self._read()
        if window is None:
            self.after(RETRY_S, ReadAgain(), key="read-again")
            return
        # The same number is the same history: nobody missed anything, and nothing is sent.
        if self._window is None or self._window.n != window.n:
            self._window, self._public = window, None
            self.resync_count += 1
            self._readers.want_all()
        self._serve_waiting()

    async def _read(self) -> RoomWindow | None:
        newest = await self._history(_EVERYTHING)
        # Among the newest many wait for review: everybody's window reaches further back, and so
        # does their authors' own.
        while newest is not None and not is_whole(newest.messages, has_older=newest.has_older):
            if len(newest.messages) >= PENDING_MAX:
                break
            older = await self._history(_EVERYTHING, newest.messages[0].seq)
            newest = None if older is None else with_older(newest, older)
        if newest is None:
            return None
        if is_whole(newest.messages, has_older=newest.has_older):
            return RoomWindow(newest.messages, newest.n)
        public = await self._history(_PUBLIC)
        return None if public is None else RoomWindow(merged(newest, public), newest.n)

    async def _history(self, viewer: Viewer, before: int | None = None) -> History | None:
        try:
            answer = await self._rooms.of(self.room).ask(ReadHistory(viewer, before))
        except (AskError, UnknownRoom):
            return None
        return answer if isinstance(answer, History) else None

    async def _hand_out(self, run: list[_Posted]) -> None:
        """Send events that follow each other: rendered once for each class of viewers."""
        frames: dict[tuple[int, ViewerClass], tuple[Frame, int]] = {}

        def frame(event: _Posted, viewer: ViewerClass) -> tuple[Frame, int]:
            key = (event.n, viewer)
            if key not in frames:
                # Of what waited the others hear for the first time.
                again = event.has_waited and viewer is not ViewerClass.PUBLIC
                made = self._frames.posted(event.message, event.n, viewer, has_waited=again)
                frames[key] = made, event.n
            return frames[key]

        shown = [event for event in run if event.is_shown]
        public = bundled([frame(event, ViewerClass.PUBLIC) for event in shown], COALESCE_BYTES)
        own: dict[str, list[Bundle]] = {}
        writers = {event.n: self._readers.sessions_of(event.message) for event in run}
        # They see otherwise what waits, or waited until now.
        is_moderated = any(event.has_waited or not event.is_shown for event in run)
        moderators = self._readers.moderators if is_moderated else frozenset()
        for session in set(moderators).union(*writers.values()):
            seen = [
                frame(event, viewer)
                for event in run
                if (viewer := _class_for(event, session, writers[event.n], moderators)) is not None
            ]
            own[session] = bundled(seen, COALESCE_BYTES)
        await self._put(public, own)

    async def _put(self, public: list[Bundle], own: dict[str, list[Bundle]]) -> None:
        """Hand bundles to the readers of this moment, `own` to the sessions in it."""
        slices, delivered, had_pause = Slices(), 0, False
        for reader in self._readers if public or own else ():
            for bundle in own.get(reader.session_id, public) if own else public:
                if slices.is_over(bundle.size):
                    self._readers.delivered += delivered
                    delivered = 0
                    await trio.lowlevel.checkpoint()
                    had_pause = True
                # SITE-76: it may show another room by now.
                if had_pause and reader not in self._readers:
                    break
                if len(bundle) > 1:
                    reader.put_chats(bundle)
                else:
                    reader.put_chat(*bundle.entries[0])
                delivered += len(bundle)
        self._readers.delivered += delivered

    def _serve_waiting(self) -> None:
        """Render the window once for all who wrote nothing in it, and once for each who did."""
        window = self._window
        waiting = self._readers.take_waiting() if window is not None else {}
        if window is None or not waiting:
            return
        authors, own = window.authors(), dict[str, _Shown]()
        for reader, holds in waiting.items():
            session = reader.session_id
            viewer = self._readers.viewer(session)
            wrote_none = session not in authors and (viewer.user_id or session) not in authors
            if wrote_none and not viewer.is_moderator:
                shown = self._public = self._public or _Shown(self._frames, window, _PUBLIC)
            else:
                shown = own.get(session) or _Shown(self._frames, window, viewer)
                own[session] = shown
            frame = shown.rest(None if holds is None else holds.all(PANEL))
            if frame is not None:
                reader.put_window(frame, window.n)


@dataclass(frozen=True, slots=True)
class _Posted:
    """A message that event `n` has brought, or shows to all who did not see it until now."""

    message: Message
    n: int
    has_waited: bool

    @property
    def is_shown(self) -> bool:
        return self.message.status is Status.VISIBLE


def _class_for(
    event: _Posted, session: str, writers: AbstractSet[str], moderators: AbstractSet[str]
) -> ViewerClass | None:
    """Tell as whom a session sees a message; None when it does not."""
    if session in writers:
        return ViewerClass.AUTHOR
    if session in moderators and (event.has_waited or not event.is_shown):
        return ViewerClass.MODERATOR
    return ViewerClass.PUBLIC if event.is_shown else None


class _Shown:
    """What a window is to one viewer: rendered when somebody needs it, and the rest of it."""

    def __init__(self, frames: RoomFrames, window: RoomWindow, viewer: Viewer) -> None:
        self._frames, self._n, self._viewer = frames, window.n, viewer
        self._messages = window.seen_by(viewer)
        self._whole: Frame | None = None
        self._views: tuple[MessageView, ...] | None = None
        self._rests: BoundedMap[tuple[str, ...], Frame | None] = BoundedMap(RESTS_KEPT_MAX)

    def rest(self, held: tuple[str, ...] | None) -> Frame | None:
        """Call this for what a page that holds `held` is sent; None when it misses nothing."""
        if held is None:
            return self._window()
        if held not in self._rests:
            self._rests.put(held, self._made(held))
        return self._rests.get(held)

    def _made(self, held: tuple[str, ...]) -> Frame | None:
        if self._views is None:
            self._views = window_views(self._messages, self._viewer)
        events = self._frames.missing(self._views, held, self._n)
        if events is None:
            return self._window()
        return joined(events) if events else None

    def _window(self) -> Frame:
        if self._whole is None:
            self._whole = self._frames.window(self._messages, self._n, self._viewer)
        return self._whole
