"""The newest messages of a room as its actor keeps them, so that a page view asks no store.

Pure: no clock, no store, no actor. `room.py` alone reads them anew and adds to them. Whoever shows
a page looks at them without asking it (`NewestCache`): in a room's line a page waits for some turns
of the loop, and while those are late hundreds of pages would.

Rule 1: what it gives is what the store would have given when it was read, with the posts since.
Rule 2: where it cannot know that (a number was left out, the viewer wrote something that waits for
review, or was removed) it gives nothing, and the store is asked.
"""

from collections.abc import Set as AbstractSet

from actors.chat.chat_log import HISTORY_LIMIT, WAITING_MAX
from actors.chat.policy import author_id
from actors.chat.words import AuthorId, History, Message, Newest, RoomName, Status, Viewer

# The room's own posts are in its newest messages at once. What others do to them (another process
# that posts, moderates, forgets a person or removes what is old) is seen so much later at most, on
# pages that load meanwhile. However many load, the store is asked no more often than that.
NEWEST_KEPT_S = 1.0
# From then on whoever looks has them read anew, and shows what is kept meanwhile. While the loop is
# late a read takes some turns of it: half of the time is enough for turns of a tenth of a second.
NEWEST_DUE_S = NEWEST_KEPT_S / 2


class NewestWindow:
    """What everybody sees of a room after its event number `n`."""

    def __init__(self, newest: Newest) -> None:
        self.n = newest.n
        self._messages: tuple[Message, ...] = newest.messages
        self._has_older = newest.has_older
        self._waiting: AbstractSet[AuthorId] | None = newest.waiting

    def __repr__(self) -> str:
        return f"<NewestWindow n={self.n} {len(self._messages)} messages>"

    def follows(self, message: Message, n: int) -> bool:
        """Call this when event `n` has brought a message; False when one before it is missing."""
        if n != self.n + 1:
            return False
        self.n = n
        if message.status is Status.VISIBLE:
            kept = (*self._messages, message)
            self._has_older = self._has_older or len(kept) > HISTORY_LIMIT
            self._messages = kept[-HISTORY_LIMIT:]
        elif self._waiting is not None:
            author = author_id(message)
            waiting = self._waiting if author is None else self._waiting | {author}
            # As long as it is kept nobody leaves, so they are counted here as well.
            self._waiting = waiting if len(waiting) <= WAITING_MAX else None
        return True

    def history(self, viewer: Viewer, limit: int) -> History | None:
        """Call this for a viewer's page of the newest `limit`; None: only the store knows it."""
        waiting = self._waiting
        if viewer.is_moderator or waiting is None:
            return None
        if viewer.session_id in waiting or viewer.user_id in waiting:
            return None
        has_older = self._has_older or len(self._messages) > limit
        return History(self._messages[-limit:], self.n, has_older)


class NewestCache:
    """What the rooms of this process keep, each written by its actor and by nobody else.

    Whoever took messages away may have it forgotten at once.
    """

    def __init__(self) -> None:
        self._kept: dict[RoomName, tuple[NewestWindow, float]] = {}
        self._renewing: set[RoomName] = set()
        # Of looks for what is kept: found, and not.
        self.hits = self.misses = 0

    def __repr__(self) -> str:
        return f"<NewestCache of {len(self._kept)} rooms>"

    def put(self, room: RoomName, window: NewestWindow, read_at: float) -> None:
        """Call this with what the store was asked for at `read_at`, in seconds of trio's clock."""
        self._kept[room] = window, read_at
        self._renewing.discard(room)

    def forget(self, room: RoomName) -> None:
        """Call this when what is kept may not be true any more."""
        self._kept.pop(room, None)
        self._renewing.discard(room)

    def wants_renewal(self, room: RoomName, now: float) -> bool:
        """Call this when the kept was shown; True once when it is due: tell the room to renew it.

        At any later look too when that did not come to anything: then it is not kept any more.
        """
        kept = self._kept.get(room)
        if kept is None or room in self._renewing or now - kept[1] < NEWEST_DUE_S:
            return False
        self._renewing.add(room)
        return True

    def maybe_window(self, room: RoomName, now: float) -> NewestWindow | None:
        """Call this for what is kept; None where there is nothing, or it is too old."""
        kept = self._kept.get(room)
        if kept is None or now - kept[1] >= NEWEST_KEPT_S:
            self.misses += 1
            return None
        self.hits += 1
        return kept[0]

    def maybe_history(
        self, room: RoomName, viewer: Viewer, limit: int, now: float
    ) -> History | None:
        """Call this for a viewer's page as the room would answer it now; None: ask the room."""
        window = self.maybe_window(room, now)
        return None if window is None else window.history(viewer, limit)
