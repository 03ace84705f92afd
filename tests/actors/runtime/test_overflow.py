"""Which message goes for one more tell: what is remembered against a walk through all of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal, cast

import pytest

from actors.runtime import latest
from actors.runtime.delivery.envelope import (
    MESSAGE,
    MESSAGE_ID,
    NO_DEADLINE,
    Context,
    Envelope,
    Reply,
)
from actors.runtime.delivery.mailbox import SEARCHED_AHEAD, Entry, Mailbox, Notice
from actors.runtime.delivery.overflow import Overflow
from actors.runtime.words.counting import Counts


class Odd(int):
    """Another class with the same keys."""


class Nobody:
    """The actor behind a mailbox: notes what was lost."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.gone: list[int] = []

    def wake(self) -> None:
        raise AssertionError("nobody is parked")

    def lost(self, envelope: Envelope, reason: Literal["overflow", "closed"]) -> None:
        self.gone.append(envelope[MESSAGE_ID])

    def overflowed(self) -> None:
        raise AssertionError("another policy")

    def failed(self, error: BaseException) -> None:
        raise error

    def given_up(self, envelopes: Sequence[Envelope]) -> None:
        raise AssertionError("nobody gives up")


class Waiting:
    """The reply slot of an ask, as far as a mailbox needs it."""

    stage, outcome, task = "mailbox", "waiting", "a task"


class Asked:
    """How often a key was asked for."""

    count = 0


def key(message: object) -> int:
    Asked.count += 1
    assert isinstance(message, int)
    if message % 7 == 0:
        raise LookupError("it has none")
    return message % 5


class Mirror:
    """A mailbox, and beside it the list of what has to be in it, oldest first."""

    def __init__(self, overflow: Overflow, capacity: int, chance: random.Random) -> None:
        self.overflow, self.capacity, self.chance = overflow, capacity, chance
        self.actor = Nobody()
        self.mailbox = Mailbox(self.actor, capacity, overflow)
        self.queued: list[Envelope] = []
        self.taken: list[Envelope] = []
        self.gone: list[int] = []
        self.number = 0

    def made(self, reply: object = None) -> Envelope:
        self.number += 1
        message = self.chance.randrange(40)
        context = Context("", sender_id=self.chance.randrange(3))
        return (Odd(message) if message % 2 else message, self.number, cast("Reply", reply),
                NO_DEADLINE, 0.0, context)  # fmt: skip

    def tell(self) -> None:
        envelope = self.made()
        # As a ref does it.
        if len(self.mailbox.inbox) >= self.mailbox.limit:
            self.mailbox.put(envelope)
        else:
            self.mailbox.inbox.append(envelope)
        if self.has_room:
            self.queued.append(envelope)
        elif self.overflow == "drop_old":
            self.drop_old(envelope)
        elif not self.replace(envelope):
            self.gone.append(envelope[MESSAGE_ID])

    def drop_old(self, envelope: Envelope) -> None:
        tells = [one for one in self.queued if one[2] is None and one[MESSAGE_ID]]
        if tells:
            self.queued = [one for one in self.queued if one is not tells[0]] + [envelope]
        self.gone.append((tells[0] if tells else envelope)[MESSAGE_ID])

    def replace(self, envelope: Envelope) -> bool:
        message = envelope[0]
        assert isinstance(message, int)
        for at in range(len(self.queued) - 1, -1, -1):
            queued, number, reply, *_ = self.queued[at]
            is_same = type(queued) is type(message) and number and reply is None
            if is_same and message % 7 and queued % 7 and queued % 5 == message % 5:  # type: ignore[operator]
                self.queued[at] = envelope
                return True
        return False

    def ask(self) -> None:
        if self.has_room:
            envelope = self.made(Waiting())
            assert self.mailbox.offer(envelope, None) is None
            self.queued.append(envelope)

    def handle(self) -> None:
        """The loop looks up, takes a few, and perhaps waits in the middle of a batch."""
        self.mailbox.places = None
        for _ in range(self.chance.randrange(1, 8)):
            taken = self.mailbox.next_user()
            assert (taken is None) == (not self.queued)
            if taken is not None:
                assert taken is self.queued.pop(0)
                if type(taken[MESSAGE]) is not Notice:  # That one is never put back.
                    self.taken.append(taken)

    def put_back(self) -> None:
        back, self.taken = self.taken[-3:], []
        if back and len(back) + self.messages <= self.capacity:
            self.mailbox.put_back(back)
            self.queued = [*back, *self.queued]

    def notice(self) -> None:
        sender = self.chance.randrange(3)
        notice: Envelope = (Notice(cast("Entry", None)), 0, None, NO_DEADLINE, 0.0, None)
        if self.mailbox.put_behind(sender, notice):
            # Where it has to be is asked elsewhere.
            self.queued = self.left()

    @property
    def messages(self) -> int:
        """How many messages are queued; a notice takes no room."""
        return sum(type(one[MESSAGE]) is not Notice for one in self.queued)

    @property
    def has_room(self) -> bool:
        return self.messages < self.capacity

    def left(self) -> list[Envelope]:
        return [*self.mailbox.batch[self.mailbox.index :], *self.mailbox.inbox]

    def check(self) -> None:
        assert [one[:2] for one in self.left()] == [one[:2] for one in self.queued]
        assert self.actor.gone == self.gone
        assert self.mailbox.queued == self.messages
        # No message of theirs gets past the look at whether there is room.
        assert self.mailbox.limit - len(self.mailbox.inbox) <= max(0, self.capacity - self.messages)


# ACT-23
@pytest.mark.parametrize("policy", ["drop_old", "latest"])
@pytest.mark.parametrize("seed", range(20))
def test_the_right_one_goes_whatever_was_done_to_the_mailbox(policy: str, seed: int) -> None:
    chance = random.Random(seed)
    overflow: Overflow = latest(key) if policy == "latest" else "drop_old"
    mirror = Mirror(overflow, chance.choice([1, 3, 10, 40, 80]), chance)
    doings = [mirror.tell] * 12 + [mirror.ask, mirror.handle, mirror.put_back, mirror.notice]
    for _ in range(1000):
        chance.choice(doings)()
        mirror.check()
    assert mirror.gone


@pytest.mark.parametrize("capacity", [100, 2 * SEARCHED_AHEAD])
def test_each_message_is_looked_at_once_and_few_at_a_time(capacity: int) -> None:
    # ACT-23, ACT-29: however many tells come to a full mailbox
    mirror = Mirror(latest(key), capacity, random.Random(1))
    Asked.count = most = 0
    for _ in range(3 * capacity):
        before = Asked.count
        mirror.tell()
        most = max(most, Asked.count - before)
    assert most <= min(capacity, SEARCHED_AHEAD) + 1
    assert Asked.count <= 3 * capacity + 1
    mirror.check()


def test_what_is_no_longer_queued_is_not_held() -> None:
    # ACT-23
    mirror = Mirror(latest(key), 10, random.Random(1))
    for _ in range(20):
        mirror.tell()
    while mirror.queued:
        mirror.handle()
    mirror.mailbox.take()
    assert mirror.mailbox.found is None
