"""Whose request is next: a burst waits for itself, and not everybody for it (PERF-42, SITE-143).

The loop gives every request a step in each of its turns. Who asks over a hundred connections would
get a hundred pages made before anybody else gets one; so of one address only a few are in hand at
once, and the others stand in its line. Lines of other addresses know nothing of it.

A page that waits for nothing is made in the very step that begins it, and is never in hand when
somebody looks: so of one address no more begin in a turn of the loop than may be in hand either.

Rule 1: a place is held until the answer begins, at most. Who is long at it, because it waits for a
        body or a database, does not hold up the line: after `PLACE_S` it does not count.
Rule 2: in a line visitors take turns. Behind a proxy that nobody trusts all are one address, and
        still one visitor's burst waits for itself; only strangers without a cookie are one.
Rule 3: while the loop has more to do than it can a line may be `LINE_MAX` long: who would stand
        behind that is told at once to come again. At all other times it is as long as its burst,
        each of which has its own limit of time.
Rule 4: a line is there as long as somebody of it is in hand or waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

import trio

# About what a browser asks for at once; the others of a burst are as long in coming, for a core
# makes one page at a time, however many are begun.
REQUESTS_PER_ADDRESS = 8
# Pages are made in a few milliseconds, and slow ones wait for something that is not this loop.
PLACE_S = 0.05
# A clock that is noticed so late says that the loop has more to do than it can: then who is long
# at it is not waiting but being made, and a further one would only delay all of them.
LATE_S = 0.01
# A place is held for 50 ms at most, so with eight of them a line of so many is gone in 0.4 s:
# whoever is served at all is to be within a second (REL-74).
LINE_MAX = 64


class Place:
    """What a request holds while it counts; `leave` may be called more than once."""

    __slots__ = ("_line", "began")

    def __init__(self, line: _Line, began: float) -> None:
        self._line, self.began = line, began

    def leave(self) -> None:
        """Call this when the answer begins, or the request is over."""
        self._line.leave(self)


class Turns:
    """Gives requests their place, in one line an address; `in_hand_max` have one at once."""

    def __init__(self, in_hand_max: int) -> None:
        if in_hand_max < 1:
            raise ValueError(f"at least one request is in hand, not {in_hand_max}")
        self._in_hand_max = in_hand_max
        self._lines: dict[str, _Line] = {}
        # How many of each address have begun in this turn of the loop.
        self._turn = 0
        self._begun: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Turns of {len(self._lines)} addresses, {self.waiting_count()} wait>"

    def waiting_count(self) -> int:
        """Tell how many requests stand in a line now."""
        return sum(line.waiting_count() for line in self._lines.values())

    def is_full(self, address: str) -> bool:
        """Tell whether a line is as long as it may be while there is too much to do."""
        line = self._lines.get(address)
        return line is not None and line.waiting_count() >= LINE_MAX

    def maybe_place(self, address: str, turn: int | None = None) -> Place | None:
        """Call this to get a place at once; None when the request has to `wait_place`.

        `turn` is the number of this turn of the loop, where somebody counts them.
        """
        if turn is None:
            return self._line(address).maybe_place()
        if turn != self._turn:
            self._turn = turn
            self._begun.clear()
        begun = self._begun.get(address, 0)
        if begun >= self._in_hand_max:
            return None
        place = self._line(address).maybe_place()
        if place is not None:
            self._begun[address] = begun + 1
        return place

    async def wait_place(self, address: str, visitor: Hashable, turn: int | None = None) -> Place:
        """Call this to stand in line until there is a place; cancelled, it stands there no more."""
        place = self.maybe_place(address, turn)
        if place is not None:
            await trio.lowlevel.checkpoint()
            return place
        return await self._line(address).wait_place(visitor)

    def _line(self, address: str) -> _Line:
        line = self._lines.get(address)
        if line is None:
            line = self._lines[address] = _Line(self, address, self._in_hand_max)
        return line

    def _drop(self, address: str) -> None:
        del self._lines[address]


class _Waiter:
    __slots__ = ("called", "place", "visitor")

    def __init__(self, visitor: Hashable) -> None:
        self.visitor = visitor
        self.called = trio.Event()
        self.place: Place | None = None


class _Line:
    """One address: who is in hand, the longest first, and who waits, by visitor."""

    __slots__ = (
        "_address",
        "_in_hand",
        "_in_hand_max",
        "_is_calling",
        "_not_before",
        "_turns",
        "_waiting",
    )

    def __init__(self, turns: Turns, address: str, in_hand_max: int) -> None:
        self._turns, self._address, self._in_hand_max = turns, address, in_hand_max
        self._in_hand: dict[Place, None] = {}
        self._waiting: dict[Hashable, deque[_Waiter]] = {}
        self._not_before = 0.0
        self._is_calling = False

    def waiting_count(self) -> int:
        return sum(map(len, self._waiting.values()))

    def maybe_place(self) -> Place | None:
        if self._waiting or len(self._in_hand) >= self._in_hand_max:
            return None
        return self._place()

    async def wait_place(self, visitor: Hashable) -> Place:
        waiter = _Waiter(visitor)
        self._waiting.setdefault(visitor, deque()).append(waiter)
        try:
            while waiter.place is None:
                if not self._in_hand and not self._is_calling:
                    await self._call_in_next_turn()
                    continue
                # Not before now: who was long in hand before anybody waited is no sign of lateness.
                due = max(self._due(), trio.current_time())
                with trio.move_on_at(due):
                    await waiter.called.wait()
                if self._in_hand and not waiter.called.is_set():
                    self._look(due)
        except BaseException:
            self._give_up(waiter)
            raise
        return waiter.place

    async def _call_in_next_turn(self) -> None:
        # All of this turn are answered already, and none of them will call anybody.
        self._is_calling = True
        try:
            await trio.lowlevel.checkpoint()
        finally:
            self._is_calling = False
        if not self._in_hand:
            self._call_next()

    def leave(self, place: Place) -> None:
        if place in self._in_hand:
            del self._in_hand[place]
            self._call_next()

    def _place(self) -> Place:
        place = Place(self, trio.current_time())
        self._in_hand[place] = None
        return place

    def _due(self) -> float:
        """Tell when the one that is longest in hand does not count any more."""
        longest = next(iter(self._in_hand), None)
        if longest is None:
            return trio.current_time() + PLACE_S
        return max(longest.began + PLACE_S, self._not_before)

    def _look(self, due: float) -> None:
        """Count those no more who are long in hand, unless the loop is what they wait for."""
        now = trio.current_time()
        if now - due > LATE_S:
            self._not_before = now + PLACE_S
            return
        for place in [one for one in self._in_hand if one.began + PLACE_S <= now]:
            del self._in_hand[place]
        self._call_next()

    def _call_next(self) -> None:
        while self._waiting and len(self._in_hand) < self._in_hand_max:
            visitor, waiters = next(iter(self._waiting.items()))
            del self._waiting[visitor]
            waiter = waiters.popleft()
            if waiters:
                self._waiting[visitor] = waiters  # behind all other visitors
            waiter.place = self._place()
            waiter.called.set()
        if not self._in_hand:
            self._turns._drop(self._address)

    def _give_up(self, waiter: _Waiter) -> None:
        if waiter.place is not None:
            # Called and cancelled in one turn of the loop: the next one has the place.
            self.leave(waiter.place)
            return
        waiters = self._waiting[waiter.visitor]
        waiters.remove(waiter)
        if not waiters:
            del self._waiting[waiter.visitor]
        if not self._in_hand:
            # It may have been the one who would have called the others.
            self._call_next()
