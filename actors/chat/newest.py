"""The newest messages of a room as its actor keeps them, so that a page view asks no store.

Pure: no clock, no store, no actor. `room.py` reads it anew and says when it is too old.

Rule 1: what it gives is what the store would have given when it was read, with the posts since.
Rule 2: where it cannot know that (a number was left out, the viewer wrote something that waits for
review, or was removed) it gives nothing, and the store is asked.
"""

from collections.abc import Set as AbstractSet

from actors.chat.chat_log import HISTORY_LIMIT, WAITING_MAX
from actors.chat.policy import author_id
from actors.chat.words import AuthorId, History, Message, Newest, Status, Viewer


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
