"""The newest messages of a room, as its feed holds them. Pure: no actor, no rendering.

Visible messages, those that wait for review and those that were removed are kept apart, so that
however many wait, they push out nothing that everybody sees. Nor does one author's flood push out
what others have waiting: who has the most of it makes room.
"""

from bisect import insort
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import attrgetter
from uuid import UUID

from actors.chat import History, Message, Status, Viewer, may_see
from actors.chat.chat_log import HISTORY_LIMIT
from actors.chat.policy import author_id
from actors.chat.words import AuthorId

# Of those that wait, and of those that were removed. Only some see them; of one author a page shows
# no more than `HISTORY_LIMIT`. With ten such authors at once the longest list loses its oldest: its
# author finds it when the page is loaded. Each is at most 4 KB, so a room holds some 2 MB a list.
PENDING_MAX = 500


class RoomWindow:
    """What a room's readers see after its event number `n`."""

    def __init__(self, messages: Iterable[Message] = (), n: int = 0) -> None:
        self.n = n
        self._visible: list[Message] = []
        self._pending: list[Message] = []
        self._removed: list[Message] = []
        self._last_seq = 0
        for message in messages:
            self._keep(message)

    def __repr__(self) -> str:
        return f"<RoomWindow n={self.n} {len(self._visible)}+{len(self._pending)}>"

    def post(self, message: Message, n: int) -> bool:
        """Call this when event `n` brought a message; the oldest makes room for it.

        True when it waited until now: some readers see it already, as one that waits.
        """
        self.n = n
        # A new message has a new number, also when the one that waited made room for others here.
        has_waited = message.seq <= self._last_seq
        self._pending = [kept for kept in self._pending if kept.id != message.id]
        # One that was approved while the history was read page by page.
        self._visible = [kept for kept in self._visible if kept.id != message.id]
        self._keep(message)
        return has_waited

    def withdraw(self, message_id: UUID, n: int, reason: str = "") -> Message | None:
        """Call this when event `n` took a message away; gives it as it was.

        Of one that waited its author is told from then on that it is gone, and why.
        """
        self.n = n
        found = next(
            (kept for kept in (*self._visible, *self._pending) if kept.id == message_id), None
        )
        self._visible = [kept for kept in self._visible if kept.id != message_id]
        self._pending = [kept for kept in self._pending if kept.id != message_id]
        if found is not None and found.status is Status.PENDING:
            self._keep(replace(found, status=Status.REMOVED, body="", removed_for=reason))
        return found

    def authors(self) -> frozenset[AuthorId | None]:
        """Call this for who wrote something here, sessions and members: they see it as theirs."""
        return frozenset(map(author_id, (*self._visible, *self._pending, *self._removed)))

    def seen_by(self, viewer: Viewer) -> tuple[Message, ...]:
        """Call this to get what a viewer sees, oldest first: the page of history, from memory."""
        hidden = (*self._pending, *self._removed)
        own = [message for message in hidden if may_see(message, viewer)]
        if not own:
            return tuple(self._visible)
        both = sorted([*self._visible, *own], key=lambda message: message.seq)
        return tuple(both[-HISTORY_LIMIT:])

    def _keep(self, message: Message) -> None:
        self._last_seq = max(self._last_seq, message.seq)
        if message.status is Status.VISIBLE:
            # At its place: one that was approved has a number of before.
            insort(self._visible, message, key=attrgetter("seq"))
            del self._visible[:-HISTORY_LIMIT]
        else:
            kept = self._pending if message.status is Status.PENDING else self._removed
            kept.append(message)
            _make_room(kept, author_id(message))


def _make_room(kept: list[Message], author: AuthorId | None) -> None:
    """Drop what nobody's page shows: the oldest of an author with too many, or with the most."""
    by_author = Counter(map(author_id, kept))
    if by_author[author] <= HISTORY_LIMIT:
        if len(kept) <= PENDING_MAX:
            return
        author = max(by_author, key=by_author.__getitem__)
    del kept[next(at for at, message in enumerate(kept) if author_id(message) == author)]


def is_whole(read: Sequence[Message], *, has_older: bool) -> bool:
    """Call this to learn whether what was read with all pending ones is all that readers see."""
    visible = sum(message.status is Status.VISIBLE for message in read)
    return not has_older or visible >= HISTORY_LIMIT


def with_older(newest: History, older: History) -> History:
    """Call this with a page of everything and the page before it, read later: both as one.

    What changed between the two is told by events behind `newest.n`, which come again.
    """
    return replace(newest, messages=older.messages + newest.messages, has_older=older.has_older)


def merged(newest: History, public: History) -> tuple[Message, ...]:
    """Call this with a page of everything and, read after it, a page of visible messages.

    Gives the messages as they stood at `newest.n`: what `public` holds beyond is left out, for
    its events come again.
    """
    # The second page was read later and may know messages the first does not: kept, they would be
    # shown by the window and once more by the event that still comes.
    last = newest.messages[-1].seq if newest.messages else 0
    known = {message.id: message for message in public.messages if message.seq <= last}
    known.update((message.id, message) for message in newest.messages)
    return tuple(sorted(known.values(), key=lambda message: message.seq))
