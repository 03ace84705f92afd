"""The link in memory: what holds of every server of messages, and the faults that they can have.

A `MemoryLinkServer` stands for the server; each `MemoryLink` on it is a node's connection. Time is
trio's clock, which a test may let jump. What is under way waits in a heap at its receiver, which is
bounded by how much may be under way there: a receiver that is too far behind is disconnected, as
servers do.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

import trio

from actors.cluster.link import (
    FRAME_BYTES_MAX,
    Delivery,
    LinkMisuse,
    LinkStatus,
    MessageTooLarge,
    NoLink,
    check_subject,
)

# What the documented file allows a client to be behind.
PENDING_BYTES_MAX = 8 * 1024 * 1024
VERSION = "memory"


def _loses_nothing(subject: str, data: bytes) -> bool:
    return False


@dataclass(slots=True)
class Direction:
    """The way from one node to another: how long it takes, and what does not come through.

    `is_cut` lets nothing through, while both still reach the server. `loses` is asked for each
    message. `overtaken` counts messages that the next one overtakes, as after a reconnect.
    """

    delay_s: float = 0.0
    is_cut: bool = False
    loses: Callable[[str, bytes], bool] = _loses_nothing
    overtaken: int = 0
    # Not before this: order holds although a delay was changed.
    due: float = field(default=float("-inf"), init=False)
    held: list[tuple[Delivery, "Hearer"]] = field(default_factory=list, init=False)


class Hearer:
    """The port `LinkSubscription`: a pattern, who is called, and a group that takes turns."""

    def __init__(
        self, link: "MemoryLink", pattern: str, hear: Callable[[Delivery], None], group: str
    ) -> None:
        self.link, self.pattern, self.hear, self.group = link, pattern, hear, group
        self.turns = 0

    def is_for(self, subject: str) -> bool:
        """Whether a subject is the pattern's."""
        if self.pattern.endswith(".>"):
            return subject.startswith(self.pattern[:-1]) and len(subject) >= len(self.pattern)
        return subject == self.pattern

    async def end(self) -> None:
        """See `LinkSubscription.end`."""
        await trio.lowlevel.checkpoint()
        if self in self.link.server.hearers:
            self.link.server.hearers.remove(self)


class MemoryLinkServer:
    """A server of messages. Run `MemoryLink.run` of each link in a nursery."""

    def __init__(self, *, payload_bytes_max: int = 2 * FRAME_BYTES_MAX) -> None:
        self.payload_bytes_max = payload_bytes_max
        self.is_up = True
        self.links: dict[str, MemoryLink] = {}
        self.hearers: list[Hearer] = []
        self._directions: dict[tuple[str, str], Direction] = {}
        self._swallows_until = float("-inf")
        self.numbers = count()

    def __repr__(self) -> str:
        return f"MemoryLinkServer({'up' if self.is_up else 'away'}, {len(self.links)} links)"

    def connect(self, name: str) -> "MemoryLink":
        """Call this for the link of a node, one for each name."""
        if name in self.links:
            raise LinkMisuse("a node's name", "is that of another link")
        link = self.links[name] = MemoryLink(self, name)
        return link

    def direction(self, source: str, target: str) -> Direction:
        """Call this in tests for the way from one node to another, to change it."""
        return self._directions.setdefault((source, target), Direction())

    def go_away(self) -> None:
        """Call this in tests to end the server: what is under way is lost, every link is down."""
        self.is_up = False
        for link in self.links.values():
            link.disconnect()

    def come_back(self) -> None:
        """Call this in tests to start it again: links connect, subscriptions are made again."""
        self.is_up = True
        for link in self.links.values():
            link.reconnect()

    def swallow(self, seconds: float) -> None:
        """Call this in tests to have the server accept messages and lose them, for a while.

        So does one that was stopped or cut off, until its clients notice.
        """
        self._swallows_until = trio.current_time() + seconds

    def route(self, source: str, subject: str, data: bytes, reply: str) -> None:
        """Call this with what a link was given: hands it to who hears it."""
        if trio.current_time() < self._swallows_until:
            return
        delivery = Delivery(subject, data, reply)
        hearers = [
            one
            for one in self.hearers
            if one.link.name != source and one.link.is_up and one.is_for(subject)
        ]
        for hearer in _one_of_each_group(hearers):
            self._hand(source, hearer, delivery)
        if not hearers and reply:
            nobody = Delivery(reply, b"", is_nobody=True)
            for hearer in self.hearers:
                if hearer.link.name == source and hearer.is_for(reply):
                    self.links[source].put(trio.current_time(), nobody, hearer)

    def _hand(self, source: str, hearer: Hearer, delivery: Delivery) -> None:
        way = self.direction(source, hearer.link.name)
        if way.is_cut or way.loses(delivery.subject, delivery.data):
            return
        if way.overtaken > 0:
            way.overtaken -= 1
            way.held.append((delivery, hearer))
            return
        way.due = max(way.due, trio.current_time() + way.delay_s)
        hearer.link.put(way.due, delivery, hearer)
        held, way.held = way.held, []
        for late, its_hearer in held:
            its_hearer.link.put(way.due, late, its_hearer)


def _one_of_each_group(hearers: list[Hearer]) -> list[Hearer]:
    """All that are in no group, and of each group the member that had the fewest turns."""
    chosen = [one for one in hearers if not one.group]
    for group in dict.fromkeys(one.group for one in hearers if one.group):
        member = min((one for one in hearers if one.group == group), key=lambda one: one.turns)
        member.turns += 1
        chosen.append(member)
    return chosen


class MemoryLink:
    """The port `Link` on a `MemoryLinkServer`; delivers while `run` runs."""

    def __init__(self, server: MemoryLinkServer, name: str) -> None:
        self.server, self.name = server, name
        self.is_up = server.is_up
        self.is_stopped = False
        self._connects = int(self.is_up)
        self._watchers: list[Callable[[LinkStatus], None]] = []
        self._waiting: list[tuple[float, int, Delivery, Hearer]] = []
        self._waiting_bytes = 0
        self._changed = trio.Event()

    def __repr__(self) -> str:
        state = "up" if self.is_up else "down"
        return f"MemoryLink({self.name}, {state}, {self._waiting_bytes} bytes waiting)"

    async def publish(self, subject: str, data: bytes, *, reply: str = "") -> None:
        """See `Link.publish`."""
        await trio.lowlevel.checkpoint()
        self._check_up()
        if len(data) > self.server.payload_bytes_max:
            raise MessageTooLarge(len(data), self.server.payload_bytes_max)
        for name in (subject, reply) if reply else (subject,):
            check_subject(name, is_pattern=False)
        self.server.route(self.name, subject, data, reply)

    async def subscribe(
        self, pattern: str, hear: Callable[[Delivery], None], *, group: str = ""
    ) -> Hearer:
        """See `Link.subscribe`."""
        await trio.lowlevel.checkpoint()
        self._check_up()
        check_subject(pattern, is_pattern=True)
        hearer = Hearer(self, pattern, hear, group)
        self.server.hearers.append(hearer)
        return hearer

    def status(self) -> LinkStatus:
        """See `Link.status`."""
        return LinkStatus(
            self.is_up, self._connects, "memory", VERSION, self.server.payload_bytes_max
        )

    def watch(self, told: Callable[[LinkStatus], None]) -> None:
        """See `Link.watch`."""
        self._watchers.append(told)

    def disconnect(self) -> None:
        """Call this in tests to lose the connection, with what is under way to this node."""
        if self.is_up:
            self.is_up = False
            self._waiting.clear()
            self._waiting_bytes = 0
            self._tell()

    def reconnect(self) -> None:
        """Call this in tests to have the connection again."""
        if not self.is_up and self.server.is_up:
            self.is_up = True
            self._connects += 1
            self._tell()

    def stop(self) -> None:
        """Call this in tests to stop the node: what comes waits for it at the server."""
        self.is_stopped = True

    def go_on(self) -> None:
        """Call this in tests to let it go on: it gets everything that waited, in order."""
        self.is_stopped = False
        self._ring()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Call this in a nursery: delivers what is due, until it is cancelled."""
        task_status.started()
        while True:
            changed = self._changed
            due = self._deliver_due()
            with trio.move_on_at(due):
                await changed.wait()

    def put(self, due: float, delivery: Delivery, hearer: Hearer) -> None:
        """Call this, as the server, with what is to be delivered at a time."""
        if not self.is_up:
            return
        if self._waiting_bytes + _size(delivery) > PENDING_BYTES_MAX:
            # A slow consumer: servers end its connection and forget what waits; it comes back.
            self.disconnect()
            self.reconnect()
            return
        self._waiting_bytes += _size(delivery)
        heappush(self._waiting, (due, next(self.server.numbers), delivery, hearer))
        self._ring()

    def _deliver_due(self) -> float:
        """Hands over what is due; gives when there is more."""
        while self._waiting and not self.is_stopped:
            due, _, delivery, hearer = self._waiting[0]
            if due > trio.current_time():
                return due
            heappop(self._waiting)
            self._waiting_bytes -= _size(delivery)
            if hearer in self.server.hearers:
                hearer.hear(delivery)
        return float("inf")

    def _check_up(self) -> None:
        if not self.is_up:
            raise NoLink

    def _tell(self) -> None:
        for told in self._watchers:
            told(self.status())

    def _ring(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def _size(delivery: Delivery) -> int:
    """What a message takes at the server: also an empty one takes something."""
    return len(delivery.data) + len(delivery.subject) + len(delivery.reply)
