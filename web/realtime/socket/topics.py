"""How one connection hears its topics: under which name, in which form, and from where on.

WEB-31, WEB-40, WEB-42.

Rule 1: between the last event that was missed and joining the topic stands no await.
Rule 2: a reader is sent what it missed in handfuls, each when it has read the one before: what is
        recovered never counts as being behind.
Rule 3: once `recovered` was told, every event follows; where that turns out to be impossible the
        connection is closed (1013), and the client is told the truth when it comes back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import trio

from web.realtime.broadcast import Broadcast, Hub, Membership, Place
from web.realtime.socket.messages import Action, Event, Form, Mark, Position, encode_server
from web.realtime.socket.outlet import Outlet, Policy
from web.realtime.socket.protocol import CloseCode
from web.realtime.stored import PAGE, RECOVERED_MAX, StoreAway, StoredPage, StoredTopic
from web.server import Bundle, Frame

# How long a reader may take over a handful, and a store over an answer.
PATIENCE_S = 10.0
RETRY_S = 0.5
# A quarter of the bytes that may wait for a reader; `PAGE` is a fifth of the messages.
HANDFUL_BYTES = 256 * 1024


class Heard(NamedTuple):
    """A kind of viewer: the topic's name as it is heard, and the form of its frames."""

    name: str
    form: Form
    # Of a topic whose readers miss events on purpose: a hole is none then.
    is_latest: bool = False


class Tells(Protocol):
    """What is told of the messages of topics."""

    def action(self, message: object, /) -> Action | None:
        """Write a message as an action; None when nobody is told of it."""

    def position(self, message: object, /) -> int | None:
        """Tell the store's number of a message, see `Encoding`."""


class SocketEncoding:
    """Messages of topics as event frames, encoded once for each name and form."""

    def __init__(self, tells: Tells) -> None:
        self._tells = tells

    def encode(self, message: object, viewer: Heard, place: Place, /) -> Frame | None:
        """Turn a message into a frame; None for what nobody is told of."""
        action = self.action(message)
        if action is None:
            return None
        if viewer.form is Form.PLAIN:
            return Frame(encode_server(Event(action, viewer.name)))
        prev = None if viewer.is_latest else place.prev
        event = Event(action, viewer.name, place.seq, place.epoch, place.correlation_id, prev)
        return Frame(encode_server(event))

    def action(self, message: object) -> Action | None:
        """Write a message as an action; None when nobody is told of it."""
        return self._tells.action(message)

    def position(self, message: object) -> int | None:
        """Tell the store's number of a message, see `Encoding`."""
        return self._tells.position(message)


class Topics:
    """The topics of one connection. `known` gives the name that stands behind an alias."""

    def __init__(
        self,
        hub: Hub[object, Heard],
        outlet: Outlet,
        known: Callable[[str], str],
        policy: Callable[[str], Policy],
    ) -> None:
        self._hub, self._outlet = hub, outlet
        self._known, self._policy = known, policy
        self._joined: dict[str, Membership] = {}

    def __repr__(self) -> str:
        return f"<Topics {list(self._joined)}>"

    def hears(self, known: str | None) -> bool:
        """Call this to ask whether the client hears a topic, under whichever name."""
        return any(self._known(name) == known for name in self._joined)

    def names(self) -> list[str]:
        """Call this for the names that are heard."""
        return [*self._joined]

    def leave(self, name: str) -> None:
        """Call this to hear a topic no more; harmless when it is not heard."""
        membership = self._joined.pop(name, None)
        if membership is not None:
            membership.leave()

    def leave_all(self) -> None:
        """Call this at the end."""
        for name in self.names():
            self.leave(name)

    def join(self, name: str, after: int = -1) -> list[str]:
        """Call this to hear a topic, of its numbers those behind `after`.

        Gives the other names it was heard under, which end (WEB-30).
        """
        if name in self._joined:
            return []
        known = self._known(name)
        others = [other for other in self._joined if self._known(other) == known]
        for other in others:
            self.leave(other)
        policy, outlet = self._policy(known), self._outlet
        put = outlet.putter(name, policy, after)

        def put_all(bundle: Bundle) -> None:
            if bundle.first > after:
                outlet.send_topics(bundle, name, policy)
                return
            for frame, position in bundle.entries:
                put(frame, position)

        viewer = self._viewer(name)
        self._joined[name] = self._hub.join(known, viewer, put, put_all)
        return others

    async def look(self, name: str, mark: Mark | None) -> bool:
        """Call this before `place`: waits until the topic stands, and asks its store about `mark`.

        Tells whether the store has what was missed. Raises TooSlowError when it does not answer.
        """
        broadcast = self._hub.broadcast(self._known(name))
        with trio.fail_after(PATIENCE_S):
            await broadcast.begun.wait()
            source = broadcast.source
            if source is None or mark is None or mark.epoch != broadcast.epoch:
                return False
            if mark.seq <= broadcast.known and broadcast.after(mark.seq) is not None:
                return True
            if abs(broadcast.known - mark.seq) > RECOVERED_MAX:
                return False
            page = await _read(source, mark.seq)
        is_near = 0 <= page.head - mark.seq <= RECOVERED_MAX
        return page.epoch == mark.epoch and is_near and page.is_whole

    def place(self, name: str, mark: Mark | None, *, is_stored: bool) -> Position:
        """Call this for where a topic stands, and whether what was missed can follow.

        What is missed of a topic in memory is decided now; of one in the store, `look` has asked.
        """
        broadcast = self._hub.broadcast(self._known(name))
        if mark is None or mark.epoch != broadcast.epoch:
            return Position(broadcast.epoch, broadcast.seq, is_recovered=False)
        if broadcast.source is None:
            is_kept = mark.seq <= broadcast.seq and broadcast.after(mark.seq) is not None
            return Position(broadcast.epoch, broadcast.seq, is_recovered=is_kept)
        seq = max(broadcast.seq, mark.seq) if is_stored else broadcast.seq
        return Position(broadcast.epoch, seq, is_recovered=is_stored)

    def missed(self, marks: Mapping[str, Mark]) -> dict[str, Missed]:
        """Call this in the turn of `place` for what is recovered: from here on nothing is lost.

        What these topics say now is heard behind what was missed, so they are left.
        """
        known = {self._known(name) for name in marks}
        for name in self.names():
            if self._known(name) in known:
                self.leave(name)
        return {name: self._missed(name, mark) for name, mark in marks.items()}

    def _viewer(self, name: str) -> Heard:
        is_latest = self._policy(self._known(name)) is Policy.LATEST
        return Heard(name, self._outlet.form, is_latest)

    def _missed(self, name: str, mark: Mark) -> Missed:
        broadcast = self._hub.broadcast(self._known(name))
        missed = Missed(broadcast, self._viewer(name), mark.seq, self._outlet)
        if broadcast.source is None:
            # Now: what a topic in memory keeps may go while earlier topics are recovered.
            missed.take_kept()
        return missed


class Missed:
    """What one topic said since a place, sent in handfuls."""

    def __init__(
        self, broadcast: Broadcast[object, Heard], viewer: Heard, at: int, outlet: Outlet
    ) -> None:
        self._broadcast, self._viewer, self._outlet = broadcast, viewer, outlet
        self._epoch = broadcast.epoch
        # Everything up to `at` is sent or taken; `last` is the event before the next one.
        self._at = self._last = at
        self._taken: deque[Frame] = deque()

    def take_kept(self) -> bool:
        """Call this to take what the topic keeps; False when it does not keep all of it."""
        missed = self._broadcast.after(self._at)
        if missed is None:
            return False
        for kept in missed:
            frame = self._broadcast.frame(kept, self._viewer)
            if frame is not None:
                self._taken.append(frame)
            self._at = self._last = kept.place.seq
        return True

    async def send(self) -> int | None:
        """Call this to send everything; join behind the number it gives, in the same turn.

        None when that was not possible: the connection is closed then.
        """
        while not self._outlet.closing.is_set():
            # Rule 1: looked for in this very turn, and then all of it is sent.
            is_newest = not self._taken and self.take_kept()
            if self._epoch != self._broadcast.epoch:
                self._give_up("the topic began anew")
            elif not self._taken and not is_newest:
                await self._take_stored()
            if self._send_handful() and is_newest:
                return None if self._outlet.closing.is_set() else self._at
            if not await self._outlet.wait_room(PATIENCE_S):
                self._give_up("too slow for what was missed")
        return None

    def _send_handful(self) -> bool:
        """Send as much as a reader may wait for; True when nothing is left."""
        size = count = 0
        while self._taken and size < HANDFUL_BYTES and count < PAGE:
            count += 1
            frame = self._taken.popleft()
            size += len(frame)
            self._outlet.send(frame)
        return not self._taken

    async def _take_stored(self) -> None:
        source = self._broadcast.source
        if source is None:
            self._give_up("too slow for what was missed")
            return
        try:
            with trio.fail_after(PATIENCE_S):
                page = await _read(source, self._at)
        except trio.TooSlowError:
            self._give_up("what was missed cannot be read now")
            return
        if page.epoch != self._epoch or page.to <= self._at:
            self._give_up("the topic began anew")
            return
        if not page.is_whole:
            # Removed since `recovered` was told. Who comes back is told that it is not, and loads.
            self._give_up("what was missed is not kept any more")
            return
        for again in page.events:
            place = Place(again.seq, page.epoch, self._last, again.correlation_id)
            frame = self._broadcast.encode(again.message, self._viewer, place)
            if frame is not None:
                self._taken.append(frame)
            self._last = again.seq
        self._at = page.to

    def _give_up(self, why: str) -> None:
        self._taken.clear()
        self._outlet.close(CloseCode.SLOW, why)


async def _read(source: StoredTopic[object], after: int) -> StoredPage[object]:
    """Read a page, while the store is away again and again; the caller sets the limit."""
    while True:
        try:
            return await source.page(after, PAGE)
        except StoreAway:
            await trio.sleep(RETRY_S)
