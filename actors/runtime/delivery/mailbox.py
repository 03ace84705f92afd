"""Two lanes of envelopes: the users', bounded, and the system's, never full.

Each lane is two lists: senders append to one while the loop reads the other. Whoever finds the
actor parked wakes it, at most once. `life/loop.py` reads; `ref.py` and `system/topics.py` write.

Rule 1: `index` stands behind the message in hand, so a turn that is cut short loses nothing.
Rule 2: `attention` is set whenever there is more to look at than the next user message: a system
entry, a wish to stop, waiting senders, a batch that was edited. The loop checks only this.
Rule 3: up to `limit` messages may be appended to `inbox` without a further look. It is never more
than the room there is, for what the loop has taken and not yet handled still counts; it may be
less, and is counted anew when it is reached. Where each put has to be looked at (waiting senders,
a closed lane, the gate of a simulation) it is 0.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Literal, Protocol

import trio

from actors.runtime.delivery.envelope import CONTEXT, MESSAGE, REPLY, Envelope, Party, Reply
from actors.runtime.delivery.overflow import Lanes, Latest, Newest, Oldest, Overflow, check_overflow
from actors.runtime.words.counting import Counts

# One slow handler of a millisecond a message then means a second of backlog: enough to ride out
# a burst, little enough to notice an actor that is too slow while its messages are still fresh.
DEFAULT_CAPACITY: Final = 1024
# As a `capacity`: no limit, and nothing but memory to end a backlog. Written out by whoever wants
# it, and flagged in the lab. Larger than any list can grow.
UNBOUNDED: Final = 2**62

_ALWAYS_LONG_WAY: Final = 0

# How the loop is woken by a put: it is awake; by its cell; by a place in the run queue, for it is a
# dispatched one and parked.
AWAKE: Final = 0
PARKED: Final = 1
AWAITS_TURN: Final = 2

# So many asks that were given up may stay where they are, and half of all that is queued.
GIVEN_UP_MAX: Final = 64
# Is the mailbox full, they are looked for when they are a sixteenth of it. Until then, and until
# they are found, they are only not counted.
_GIVEN_UP_SHARE: Final = 16
# They are looked for among so many messages at a time, some ten microseconds.
SWEPT_AT_ONCE: Final = 128
# With `latest(key)` a large mailbox is searched while it fills, so many messages at a time: half a
# millisecond. Where it is full the next tell must not have to go through all of it.
SEARCHED_AHEAD: Final = 1024
# Fewer messages are searched from their end, each time anew.
_SEARCHED_MAX: Final = 32


def check_mailbox(capacity: object, overflow: object) -> None:
    """Called when an actor class is made; raises ValueError for what cannot work."""
    if not isinstance(capacity, int) or isinstance(capacity, bool) or capacity < 1:
        raise ValueError(f"capacity is {capacity!r}; it must be at least 1, or UNBOUNDED")
    check_overflow(overflow)


# What lies in a mailbox besides messages


class Entry(Protocol):
    """Something on the system lane. It knows whom it is for."""

    def act(self) -> Envelope | None:
        """Called by the loop: do it; or give the envelope that a handler has to see."""

    def drop(self) -> None:
        """Called instead of `act` when the incarnation has ended."""


class Notice:
    """A system entry on the user lane, where it has to keep its place behind messages.

    It takes no room there: no message is lost, and no sender waits, for the end of another actor.
    """

    __slots__ = ("entry",)

    def __init__(self, entry: Entry) -> None:
        self.entry = entry


class Waiter:
    """A send or ask waiting for room; `task` is None for an ask, whose reply holds the task."""

    __slots__ = ("behind", "delivered", "envelope", "sender", "task")

    def __init__(self, envelope: Envelope, task: trio.lowlevel.Task | None) -> None:
        self.envelope, self.task = envelope, task
        self.delivered = False
        # Notices that follow it into the lane: its sender has ended meanwhile. So it was passed on
        # by that one, and somebody else waits for the reply.
        self.behind: list[Envelope] | None = None
        # Whose handler waits; as with a reply, its waiting edge goes with the wait itself.
        self.sender: Party | None = None

    def leave(self) -> None:
        """Called when it waits no longer, whatever came of it."""
        if self.sender is not None:
            self.sender.waiting_on = None
            self.sender = None


class Addressee(Protocol):
    """The actor behind a mailbox, as far as the mailbox needs it."""

    counts: Counts

    def wake(self) -> None:
        """The parked actor has something to do."""

    def lost(self, envelope: Envelope, reason: Literal["overflow", "closed"]) -> None:
        """A message found no place."""

    def overflowed(self) -> None:
        """One message too many came, and `overflow` is "crash"."""

    def failed(self, error: BaseException) -> None:
        """What the actor's author has written for its mailbox has raised."""

    def given_up(self, envelopes: Sequence[Envelope]) -> None:
        """These asks were withdrawn, or expired, while they were queued."""


# Stand-ins for lists that most idle actors never need, 170 bytes of each; never appended to.
_NO_BATCH: Final[list[Envelope]] = []
_NO_ENTRIES: Final[list[Entry]] = []


class Mailbox:
    """Where an actor's messages wait; it stays when the actor restarts."""

    __slots__ = (
        "_addressee", "_swept", "_system_in", "_system_out", "ahead", "attention", "batch",
        "capacity", "closed", "found", "gate", "given_up", "idle", "inbox", "index", "limit",
        "notices", "overflow", "peak", "places", "system_idle", "timed", "waiting",
    )  # fmt: skip

    def __init__(self, addressee: Addressee, capacity: int, overflow: Overflow) -> None:
        self._addressee = addressee
        self.capacity, self.overflow = capacity, overflow
        # So many messages at most may come before one is looked at.
        self.ahead = _ahead_with(overflow)
        self.inbox: list[Envelope] = []
        self.batch = _NO_BATCH
        self.index = 0
        self.limit = min(capacity, self.ahead)
        # How many of the queued are asks that were settled meanwhile; they take no room.
        self.given_up = 0
        # How many of the queued are notices of the system; nor do they.
        self.notices = 0
        self.peak = 0
        self.closed = False
        # Whether a put has to wake the loop, and how; and whether a system entry has to.
        self.idle: int = AWAKE
        self.system_idle = False
        self.attention = False
        # Whether senders note the time: 0 never, else when message_id % timed == 0.
        self.timed = 0
        # A simulation looks at every message before it is put, and may keep it.
        self.gate: Callable[[Envelope], bool] | None = None
        # In order of arrival; an ask is found by its reply.
        self.waiting: OrderedDict[Reply | Waiter, Waiter] | None = None
        # Where the newest message of each sender lies, once somebody had to know.
        self.places: tuple[_Newest, _Places, _Places] | None = None
        # What was found in the lanes when it was full.
        self.found: Newest | Oldest | None = None
        # From where on in the lanes, both taken together, asks that were given up are looked for.
        self._swept = 0
        self._system_in = self._system_out = _NO_ENTRIES

    @property
    def queued(self) -> int:
        """How many user messages wait; not the one in hand, waiting senders and asks given up."""
        return self.held - self.given_up - self.notices

    @property
    def held(self) -> int:
        """How much lies in the user lane, whatever it is."""
        return len(self.inbox) + len(self.batch) - self.index

    @property
    def is_left(self) -> bool:
        """Whether anything is left for whoever ends it, asks given up and notices too."""
        return bool(self.inbox or self.waiting or len(self.batch) > self.index)

    @property
    def system_queued(self) -> int:
        """How many system entries wait."""
        return len(self._system_in) + len(self._system_out)

    @property
    def waiting_senders(self) -> int:
        """How many sends and asks wait for room."""
        return len(self.waiting) if self.waiting else 0

    def resize(self, capacity: int, overflow: Overflow) -> None:
        """Called by the cell when the class of the actor is known."""
        self.capacity, self.overflow = capacity, overflow
        self.ahead = _ahead_with(overflow)
        self.renew_limit()

    # Writing

    def put(self, envelope: Envelope) -> bool:
        """A tell, or a publish; False when the message was not queued."""
        if self.closed:
            # First: losing one shall cost little more than the look at whether it is lost.
            self._addressee.lost(envelope, "closed")
            return False
        if len(self.inbox) >= self.limit and not self._has_room():
            return self._put_full(envelope)
        self.inbox.append(envelope)
        if self.idle:
            # Both at once: the woken loop looks at both lanes, nobody else need wake it.
            self.idle, self.system_idle = AWAKE, False
            self._addressee.wake()
        return True

    def offer(self, envelope: Envelope, task: trio.lowlevel.Task | None) -> Waiter | None:
        """A send, or an ask, on an open lane; gives a waiter when it has to wait."""
        if len(self.inbox) < self.limit or self._has_room():
            self.inbox.append(envelope)
            reply = envelope[REPLY]
            if reply is not None:
                reply.stage = "queued"
            if self.idle:
                self.idle, self.system_idle = AWAKE, False
                self._addressee.wake()
            return None
        if self.gate is not None and not self.closed:
            if self.gate(envelope):
                return None
            if self.queued < self.capacity:
                self.put_past_gate(envelope)
                return None
        waiter = Waiter(envelope, task)
        if self.waiting is None:
            self.waiting = OrderedDict()
        self.waiting[envelope[REPLY] or waiter] = waiter
        self.places = None
        # From now on every put looks: a tell must not take the room that a sender waits for.
        self.limit = _ALWAYS_LONG_WAY
        self.attention = True
        return waiter

    def post(self, entry: Entry) -> None:
        """An entry for the system lane; it is never full."""
        if self._system_in is _NO_ENTRIES:
            self._system_in = [entry]
        else:
            self._system_in.append(entry)
        self.call_attention()

    def call_attention(self) -> None:
        """Make the loop look up before its next message."""
        self.attention = True
        if self.system_idle:
            self.idle, self.system_idle = AWAKE, False
            self._addressee.wake()

    def forget(self, reply: Reply) -> None:
        """Called when an ask that waits for room has been settled; it leaves no trace."""
        self._forget(reply)

    def forget_waiter(self, waiter: Waiter) -> None:
        """Called when a send that waits for room was cancelled; it leaves no trace."""
        waiter.leave()
        self._forget(waiter)

    def _forget(self, waits: Reply | Waiter) -> None:
        if self.waiting is not None and waits in self.waiting:
            waiter = self.waiting.pop(waits)
            self.places = None
            if not self.waiting:
                self.renew_limit()
            for notice in waiter.behind or ():
                self._place_anew(waiter.envelope, notice)

    def _place_anew(self, envelope: Envelope, notice: Envelope) -> None:
        """What it stood behind is gone: behind what its sender had sent before, or ahead of all."""
        context = envelope[CONTEXT]
        assert context is not None
        assert isinstance(notice[MESSAGE], Notice)
        if not self.put_behind(context.sender_id, notice):
            self.post(notice[MESSAGE].entry)

    def gave_up(self) -> None:
        """Called when a queued ask was settled; whoever waits for room may have its place."""
        self.given_up += 1
        if self.waiting:
            self.admit()
        if self.given_up >= GIVEN_UP_MAX and 2 * self.given_up >= self.held and not self.closed:
            self._sweep()

    # Reading: only the loop, and whoever ends an incarnation

    def take(self) -> bool:
        """Called when the batch is used up, to get the next; False when there is none."""
        batch, inbox = self.batch, self.inbox
        if self.index:
            batch.clear()
            self.index = 0
        if not inbox:
            self.found = None  # Nothing lies there; it would only hold keys.
            return False
        # The two lists change places: no message is copied, and no list is made for a batch.
        self.batch, self.inbox = inbox, [] if batch is _NO_BATCH else batch
        held = len(inbox)
        if self.limit:  # Else it is closed, gated, or senders wait: that stays so.
            room = self.capacity - held
            self.limit = room if room < self.ahead else self.ahead
        if held > self.peak:
            self.peak = max(self.peak, held - self.given_up - self.notices)
        return True

    def next_user(self) -> Envelope | None:
        """One user message the slow way, or None."""
        self.places = (
            None  # As `_attend` has it; an entry of the system may have made it meanwhile.
        )
        if self.index >= len(self.batch) and not self.take():
            return None
        envelope = self.batch[self.index]
        self.index += 1
        self.took(envelope)
        return envelope

    def took(self, envelope: Envelope) -> None:
        """Called for one that may have taken no room, so that nobody else gets that room too."""
        reply = envelope[REPLY]
        if type(envelope[MESSAGE]) is Notice:
            self.notices -= 1
        elif reply is not None and reply.task is None and reply.stage == "queued":
            self.given_up -= 1
            reply.stage = "handling"  # It is in no lane any more.

    def next_system(self) -> Entry | None:
        """The oldest system entry, or None."""
        if not self._system_out:
            if not self._system_in:
                return None
            self._system_in.reverse()
            self._system_in, self._system_out = self._system_out, self._system_in
        return self._system_out.pop()

    def drop_system(self) -> list[Entry]:
        """Called when an incarnation is over; gives what was meant for it alone."""
        left = [*reversed(self._system_out), *self._system_in]
        self._system_in = self._system_out = _NO_ENTRIES
        return left

    def admit(self) -> None:
        """Called when there may be room, to let waiting senders in, in order of arrival."""
        waiting = self.waiting
        while waiting and self.queued < self.capacity:
            _, waiter = waiting.popitem(last=False)
            self.places = None
            self.inbox.append(waiter.envelope)
            if waiter.behind is not None:
                self.inbox += waiter.behind
                self.notices += len(waiter.behind)
            waiter.delivered = True
            waiter.leave()
            reply = waiter.envelope[REPLY]
            if reply is not None:
                reply.stage = "queued"
            if waiter.task is not None:
                trio.lowlevel.reschedule(waiter.task)
        if waiting is not None and not waiting:
            self.waiting = None
            self.renew_limit()

    def put_back(self, envelopes: Sequence[Envelope]) -> None:
        """Return messages to the front, in order."""
        for envelope in envelopes:
            reply = envelope[REPLY]
            if reply is not None:
                reply.stage = "queued"
                self.given_up += reply.task is None
        # A new list: the loop may be walking through a slice of the old one, and looks up now.
        self.batch = [*envelopes, *self.batch[self.index :]]
        self.index = 0
        self.attention, self.places, self.found = True, None, None
        self.renew_limit()

    def take_out(self, wanted: Callable[[Envelope], bool]) -> list[Envelope]:
        """Called by an actor that ends, for tells that it sees to itself; gives them in order."""
        taken: list[Envelope] = []
        lanes: tuple[list[Envelope], list[Envelope]] = ([], [])
        for lane, kept in zip((self.batch[self.index :], self.inbox), lanes, strict=True):
            for envelope in lane:
                (taken if wanted(envelope) else kept).append(envelope)
        if taken:
            # New lists, as in `put_back`.
            (self.batch, self.inbox), self.index = lanes, 0
            self.attention, self.places, self.found = True, None, None
            self.renew_limit()
        return taken

    def put_behind(self, sender_id: int, envelope: Envelope) -> bool:
        """Place a notice behind the last message of a sender; False if none waits.

        Also behind one that waits for room, which somebody has passed on and does not wait for.
        """
        # The newest first: what is found there was sent last.
        waiting, batch, inbox = self.waiting, self.batch, self.inbox
        if self.held + self.waiting_senders <= _SEARCHED_MAX:
            for waiter in reversed(waiting.values()) if waiting else ():
                if _is_of(sender_id, waiter.envelope):
                    _put_behind_waiting(waiter, envelope)
                    return True
            for lane, first in ((inbox, 0), (batch, self.index)):
                for at in range(len(lane) - 1, first - 1, -1):
                    if _is_of(sender_id, lane[at]):
                        lane.insert(at + 1, envelope)
                        self.notices += 1
                        self.attention, self.places, self.found = True, None, None
                        return True
            return False
        if self.places is None:
            # Many ends may be told at once, to one that has much to do: it is searched once for
            # all of them. The loop forgets the places when it looks up, so it has to.
            self.places = (_Newest(waiting), _Places(inbox, 0), _Places(batch, self.index))
            self.attention = True
        self.found = None
        waiters, *lanes = self.places
        if waiters.put_behind(sender_id, envelope):
            return True
        is_placed = any(places.put_behind(sender_id, envelope) for places in lanes)
        self.notices += is_placed
        return is_placed

    def take_back(self, envelope: Envelope) -> None:
        """Take out one that was returned to the front."""
        for at in range(self.index, len(self.batch)):
            if self.batch[at] is envelope:
                del self.batch[at]
                self.places = self.found = None
                reply = envelope[REPLY]
                if reply is not None and reply.task is None and reply.stage == "queued":
                    self.given_up -= 1
                return

    # Between incarnations, and at the end

    def close(self) -> None:
        """Called to refuse user messages from now on; what is queued stays."""
        self.closed = True
        self.limit = _ALWAYS_LONG_WAY

    def open(self) -> None:
        """Called for the next incarnation; the last one may have closed it (`drain=True`)."""
        self.closed = self.system_idle = False
        self.idle = AWAKE
        self.renew_limit()

    def leaving(self) -> Iterator[Envelope | None]:
        """Called when nobody will read any more; takes out what is queued, and waiting asks.

        One at a time, oldest first, so that it can be done in slices; None stands for a send that
        was let go. The lane must be closed.
        """
        del self.batch[: self.index]
        self.index, self.places, self.found = 0, None, None
        # Turned round, and taken off from the end: a list of all would take milliseconds.
        self.batch.reverse()
        self.inbox.reverse()
        for lane in (self.batch, self.inbox):
            while lane:
                envelope = lane.pop()
                reply = envelope[REPLY]
                if reply is not None:
                    if reply.task is None and reply.stage == "queued":
                        self.given_up -= 1
                    reply.stage = "handling"  # It is in no lane any more.
                elif type(envelope[MESSAGE]) is Notice:
                    self.notices -= 1
                yield envelope
        while self.waiting:
            _, waiter = self.waiting.popitem(last=False)
            waiter.leave()
            if waiter.task is not None:  # It still has its message, and raises.
                trio.lowlevel.reschedule(waiter.task)
                yield None
                continue
            reply = waiter.envelope[REPLY]
            assert reply is not None, "whoever waits without a task waits for a reply"
            reply.stage = "handling"
            yield waiter.envelope
        self.batch, self.waiting = _NO_BATCH, None

    # Room

    def renew_limit(self) -> None:
        """Called when what may be put has changed."""
        held = len(self.batch) - self.index
        if self.closed or self.waiting or self.gate is not None:
            self.limit = _ALWAYS_LONG_WAY
        else:
            room = self.capacity - held + self.given_up + self.notices
            self.limit = min(room, len(self.inbox) + self.ahead)
        if (total := held + len(self.inbox) - self.given_up - self.notices) > self.peak:
            self.peak = total

    def _has_room(self) -> bool:
        if self.closed or self.waiting or self.gate or self.queued >= self.capacity:
            return False
        if self.given_up and self.given_up * _GIVEN_UP_SHARE >= self.queued:
            self._sweep()
        if isinstance(self.overflow, Latest) and self.capacity > self.ahead:
            self._search_ahead(self.overflow)
        self.renew_limit()
        return True

    def _newest(self, policy: Latest) -> Newest:
        if not isinstance(self.found, Newest):
            self.found = Newest(policy.key)
        return self.found

    def _search_ahead(self, policy: Latest) -> None:
        try:
            self._newest(policy).search(((self.batch, self.index), (self.inbox, 0)))
        except BaseException as error:  # noqa: BLE001 - as in `_put_full`
            self.found = None
            self._addressee.failed(error)

    def _sweep(self) -> None:
        """Take out asks that nobody waits for any more, as the loop does when it meets one.

        In a part of the lanes, and in the next part the next time.
        """
        (batch, first), (inbox, _) = self._lanes()
        if self._swept >= len(batch) - first + len(inbox):
            self._swept = 0
        begin = first + self._swept
        lane, begin = (batch, begin) if begin < len(batch) else (inbox, begin - len(batch))
        looked_at = lane[begin : begin + SWEPT_AT_ONCE]
        dropped = [envelope for envelope in looked_at if _was_given_up(envelope[REPLY])]
        if dropped:
            lane[begin : begin + SWEPT_AT_ONCE] = [
                envelope for envelope in looked_at if not _was_given_up(envelope[REPLY])
            ]
            for envelope in dropped:
                reply = envelope[REPLY]
                assert reply is not None
                reply.stage = "handling"  # It is in no lane any more.
            self.given_up -= len(dropped)
            self._addressee.given_up(dropped)
        self._swept += len(looked_at) - len(dropped)

    def put_past_gate(self, envelope: Envelope) -> bool:
        """A message that the gate has let through, or kept and gives back now."""
        reply = envelope[REPLY]
        if reply is not None and reply.task is None:
            return False
        gate, self.gate = self.gate, None
        self.renew_limit()
        put = self.put(envelope)
        self.gate = gate
        self.renew_limit()
        return put

    def _put_full(self, envelope: Envelope) -> bool:
        if self.gate is not None:
            return not self.gate(envelope) and self.put_past_gate(envelope)
        self.peak = max(self.peak, self.queued)
        policy, lanes = self.overflow, ((self.batch, self.index), (self.inbox, 0))
        if isinstance(policy, Latest):
            try:
                lane = self._newest(policy).replace(lanes, envelope)
            except BaseException as error:  # noqa: BLE001 - the receiver's code, never the sender's
                self.found = None
                self._addressee.failed(error)
            else:
                if lane is not None:
                    # The loop holds a part of the batch until it looks up.
                    self.attention = self.attention or lane is self.batch
                    self.places = None
                    self._addressee.counts.coalesced += 1
                    return True
        elif policy == "drop_old":
            if not isinstance(self.found, Oldest):
                self.found = Oldest()
            old = self.found.remove(lanes)
            if old is not None:
                self.attention, self.places = True, None
                self.inbox.append(envelope)
                self._addressee.lost(old, "overflow")
                return True
        elif policy == "crash":
            self._addressee.overflowed()
        self._addressee.lost(envelope, "overflow")
        return False

    def _lanes(self) -> Lanes:
        """The lanes, to be edited: what is known of places is true no longer."""
        # The loop holds a part of the batch until it looks up.
        self.attention, self.places, self.found = True, None, None
        return ((self.batch, self.index), (self.inbox, 0))


def _ahead_with(overflow: Overflow) -> int:
    return SEARCHED_AHEAD if isinstance(overflow, Latest) else UNBOUNDED


def _was_given_up(reply: Reply | None) -> bool:
    return (
        reply is not None
        and reply.task is None
        and reply.stage == "queued"
        and reply.outcome in ("withdrawn", "timed_out")
    )


def _is_of(sender_id: int, envelope: Envelope) -> bool:
    context = envelope[CONTEXT]
    return context is not None and context.sender_id == sender_id


def _put_behind_waiting(waiter: Waiter, notice: Envelope) -> None:
    if waiter.behind is None:
        waiter.behind = []
    waiter.behind.append(notice)


class _Newest:
    """The newest of each sender among those who wait for room; good until one comes or goes."""

    __slots__ = ("_where",)

    def __init__(self, waiting: Mapping[Reply | Waiter, Waiter] | None) -> None:
        self._where: dict[int, Waiter] = {}
        for waiter in waiting.values() if waiting else ():
            context = waiter.envelope[CONTEXT]
            if context is not None:
                self._where[context.sender_id] = waiter

    def put_behind(self, sender_id: int, envelope: Envelope) -> bool:
        waiter = self._where.get(sender_id)
        if waiter is not None:
            _put_behind_waiting(waiter, envelope)
        return waiter is not None


class _Places:
    """Where in one lane the newest message of each sender lies.

    Places are those at the time of the search: what was placed behind one since has moved all that
    follow, by as many as lie before them. What was appended meanwhile is searched when it is asked
    for again, so each message is looked at once.
    """

    __slots__ = ("_lane", "_placed", "_searched", "_where")

    def __init__(self, lane: list[Envelope], first: int) -> None:
        self._lane, self._searched = lane, first
        self._where: dict[int, int] = {}
        # Behind which places something was placed, in order.
        self._placed: list[int] = []

    def put_behind(self, sender_id: int, envelope: Envelope) -> bool:
        lane, placed = self._lane, self._placed
        for at in range(self._searched, len(lane)):
            context = lane[at][CONTEXT]
            if context is not None:
                self._where[context.sender_id] = at - len(placed)
        self._searched = len(lane)
        place = self._where.get(sender_id)
        if place is None:
            return False
        lane.insert(place + 1 + bisect_right(placed, place), envelope)
        insort(placed, place)
        self._searched += 1
        return True
