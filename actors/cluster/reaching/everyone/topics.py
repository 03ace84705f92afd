"""Topics that are heard on every node, and services that any node may offer.

A topic promises what the link does: at most once, in order of each node, and never lost in silence.
Where something is missing, or may be, its hearers are told `TopicLost`; what it stands on (a
store, or whoever published) is then to be read anew. A service has no state: one node that offers
it answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar, cast
from uuid import UUID

import trio

from actors.cluster.link import (
    Arrived,
    Envelope,
    EnvelopeKind,
    Link,
    LinkSubscription,
    NoLink,
    Refused,
)
from actors.cluster.link.crossing import NotKnown
from actors.cluster.link.sayings import TOLD_TOPICS_MAX
from actors.cluster.link.subjects import SERVICE_GROUP
from actors.cluster.reaching.hosting import StartSoon
from actors.cluster.reaching.peer import Item, Peer
from actors.cluster.reaching.ref import Standin
from actors.cluster.reaching.routing import envelope_of
from actors.cluster.reaching.talking import Loose, Talk, left_ms_of
from actors.cluster.reaching.words import NoOwner, PeerOverloaded
from actors.runtime import ActorCrashed, AnyRef, Ask, AskError, Exit, Ref
from actors.runtime.delivery.envelope import DEADLINE, MESSAGE, REPLY
from actors.runtime.delivery.envelope import Envelope as Papers
from actors.runtime.delivery.ref import ASK_TIMEOUT_S

R = TypeVar("R")
# Answers an ask of a service; which messages it knows is between it and its askers.
Serve = Callable[[object], Awaitable[object]]

# Whoever hears a topic again and again need not subscribe each time.
LEAVE_AFTER_S: Final = 5.0
# Of topics published on within this the last numbers are told, so that a lost last one is noticed.
TOLD_FOR_S: Final = 10.0
# A service that is slow must not fill the node with its tasks.
SERVED_AT_ONCE_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class TopicLost:
    """Given to the hearers of a topic when something may be missing: read it anew."""

    topic: str
    because: str


Hear = Callable[[object], None]


class Hearing:
    """One who hears a topic; `end()` ends it."""

    def __init__(self, topics: ClusterTopics, topic: str, hear: Hear) -> None:
        self._topics, self.topic, self.hear = topics, topic, hear

    def end(self) -> None:
        """Call this to hear no more; again does nothing."""
        self._topics.left(self)


class _Heard:
    def __init__(self) -> None:
        self.hearers: list[Hearing] = []
        self.subscription: LinkSubscription | None = None
        self.empty_since = 0.0
        self.is_changing = False
        # The last number heard of each node.
        self.last: dict[UUID, int] = {}


class ClusterTopics:
    """The topics of one process; belongs to the trio thread."""

    def __init__(self, talk: Talk, link: Link) -> None:
        self._talk, self._link = talk, link
        self._heard: dict[str, _Heard] = {}
        self._published: dict[str, float] = {}
        self.start_soon: StartSoon | None = None
        talk.on_topic = self._on_topic
        talk.last_numbers = self._last_numbers

    def __repr__(self) -> str:
        return f"<ClusterTopics: {len(self._heard)} heard>"

    def publish(self, topic: str, message: object) -> None:
        """Call this to have all who hear the topic, on any node, get a message; at most once.

        Raises `NotRemote`, `MessageTooLarge` and `LinkMisuse`; nothing was sent then. Without a
        link those of other nodes get nothing, and are told so when they have theirs again.
        """
        name, version, body = self._talk.crossing.written(topic, message)
        subject = self._talk.subjects.topic(topic)
        envelope = Envelope(EnvelopeKind.TOPIC, topic, name, version, body)
        if not self._talk.put_loose(Loose(subject, envelope)):
            # Its number is used: those who hear the topic notice that something is missing.
            self._talk.skip(subject)
        self._published.pop(topic, None)
        self._published[topic] = self._talk.member.clock()
        self._give(topic, message)

    def hear(self, topic: str, hear: Hear) -> Hearing:
        """Call this to hear a topic: `hear` gets each message, and `TopicLost`; it must not raise.

        The first is always a `TopicLost`: what was published before is not heard. It comes once
        all that is published from then on is. Raises `LinkMisuse` for a name that none can have.
        """
        self._talk.subjects.topic(topic)
        heard = self._heard.setdefault(topic, _Heard())
        hearing = Hearing(self, topic, hear)
        heard.hearers.append(hearing)
        if heard.subscription is not None:
            hear(TopicLost(topic, "it is heard from here on"))
        else:
            self._subscribe_soon(topic, heard)
        return hearing

    def left(self, hearing: Hearing) -> None:
        """See `Hearing.end`."""
        heard = self._heard.get(hearing.topic)
        if heard is not None and hearing in heard.hearers:
            heard.hearers.remove(hearing)
            heard.empty_since = self._talk.member.clock()

    def _subscribe_soon(self, topic: str, heard: _Heard) -> None:
        if self.start_soon is not None and not heard.is_changing:
            heard.is_changing = True
            self.start_soon(partial(self._subscribe, topic, heard))

    async def _subscribe(self, topic: str, heard: _Heard) -> None:
        try:
            subject = self._talk.subjects.topic(topic)
            heard.subscription = await self._link.subscribe(subject, self._talk.hear)
        except NoLink:
            return  # It is tried again when the link is there.
        finally:
            heard.is_changing = False
        self._tell(topic, "it is heard from here on")

    async def _leave(self, heard: _Heard) -> None:
        subscription, heard.subscription = heard.subscription, None
        if subscription is not None:
            await subscription.end()

    def new_life(self) -> None:
        """Call this when the link is served anew: subscriptions are made again."""
        for topic, heard in self._heard.items():
            if heard.subscription is None:
                self._subscribe_soon(topic, heard)
            else:
                self._tell(topic, "this node is another")
            heard.last.clear()
        # What could not be sent meanwhile is told of for as long as what is published now.
        self._published = dict.fromkeys(self._published, self._talk.member.clock())

    async def stop(self) -> None:
        """Call this when the link is served no more."""
        for heard in self._heard.values():
            await self._leave(heard)

    def look(self) -> None:
        """Call this now and then: what nobody hears any more is left."""
        now = self._talk.member.clock()
        for topic, heard in list(self._heard.items()):
            if heard.hearers:
                if heard.subscription is None:
                    self._subscribe_soon(topic, heard)
            elif now - heard.empty_since >= LEAVE_AFTER_S and self.start_soon is not None:
                del self._heard[topic]
                self.start_soon(partial(self._leave, heard))
        while self._published and self._talk.is_up:
            topic, at = next(iter(self._published.items()))
            if now - at <= TOLD_FOR_S:
                break
            del self._published[topic]

    def _give(self, topic: str, message: object) -> None:
        heard = self._heard.get(topic)
        for hearing in tuple(heard.hearers) if heard is not None else ():
            hearing.hear(message)

    def _tell(self, topic: str, because: str) -> None:
        self._give(topic, TopicLost(topic, because))

    def _on_topic(self, node_id: UUID, arrived: Arrived, envelope: Envelope) -> None:
        heard = self._heard.get(envelope.target)
        if heard is None:
            return
        before, number = heard.last.get(node_id, 0), arrived.head.sequence
        heard.last[node_id] = number
        # Of a node that was not heard before, what came before its first is missing as well.
        if before < number - 1:
            self._tell(envelope.target, "messages were lost")
        crossing = self._talk.crossing
        try:
            message = crossing.read(envelope.message, envelope.version, envelope.body)
        except NotKnown:
            self._tell(envelope.target, "a message is unknown to this release")
            return
        if isinstance(message, Refused):
            self._tell(envelope.target, "a message could not be read")
        else:
            self._give(envelope.target, message)

    def link_changed(self, is_up: bool) -> None:
        """Call this when the link went, or is there again."""
        self._published = dict.fromkeys(self._published, self._talk.member.clock())
        why = "the link is there again" if is_up else "the link was lost"
        for topic in self._heard:
            self._tell(topic, why)

    def _last_numbers(self) -> dict[str, int]:
        numbers = {}
        for topic in list(self._published)[-TOLD_TOPICS_MAX:]:
            found = self._talk.numbers.get(self._talk.subjects.topic(topic))
            if found is not None:
                numbers[topic] = found[0]
        return numbers

    def told_numbers(self, node_id: UUID, numbers: dict[str, int]) -> None:
        """Call this with the last numbers that a node has published under."""
        for topic, number in numbers.items():
            heard = self._heard.get(topic)
            if heard is None or heard.subscription is None:
                continue
            # Of a node that was not heard before it may be that all was published before.
            if heard.last.get(node_id, 0) < number:
                heard.last[node_id] = number
                self._tell(topic, "the last messages were lost")

    def gone(self, node_id: UUID) -> None:
        """Call this when a node is gone: nobody tells the last numbers of what it published."""
        for topic, heard in self._heard.items():
            heard.last.pop(node_id, None)
            self._tell(topic, "a node is gone")


class Anyone:
    """Whoever offers a service: `await cluster.anyone("thumbnails").ask(Make(...))`."""

    def __init__(self, ref: AnyRef) -> None:
        self._ref = cast("Ref[object]", ref)

    def __repr__(self) -> str:
        return f"<Anyone who offers {self._ref.path}>"

    async def ask(self, message: Ask[R], timeout: float | None = ASK_TIMEOUT_S) -> R:
        """Call this to get one node's reply; ends as an ask of an actor, `NoOwner` for nobody."""
        return await self._ref.ask(message, timeout)


class _ServiceRoads:
    """The roads of a service's stand-in: to a handler here, else to the queue group."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def resident_of(self, standin: Standin) -> AnyRef | None:
        """Nobody: a service is no actor."""
        return None

    def take(self, standin: Standin, papers: Papers) -> None:
        """See `Roads.take`."""
        self._services.take(standin, papers)

    def full_peer(self, standin: Standin) -> Peer | None:
        """No node in particular."""
        return None

    def watched(self, standin: Standin) -> None:
        """Nobody watches a service."""

    def unwatched(self, standin: Standin) -> None:
        """Nobody watches a service."""

    def link_broke(self, standin: Standin, path: str, exit_: Exit) -> None:
        """Nobody is linked to a service."""


class Services:
    """What this node offers to all, and how others' offers are asked."""

    def __init__(self, talk: Talk, link: Link) -> None:
        self._talk, self._link = talk, link
        self._offered: dict[str, Serve] = {}
        self._subscriptions: dict[str, LinkSubscription] = {}
        self._standins: dict[str, Standin] = {}
        self._serving = 0
        self.start_soon: StartSoon | None = None
        talk.on_service = self._on_service

    def __repr__(self) -> str:
        return f"<Services: {sorted(self._offered)}, {self._serving} asks in hand>"

    def offer(self, service: str, handler: Serve) -> None:
        """Call this to answer asks of a service, here and for other nodes; raises `LinkMisuse`.

        An error of the handler is the asker's `ActorCrashed`.
        """
        self._talk.subjects.service(service)
        self._offered[service] = handler
        if self.start_soon is not None:
            self.start_soon(partial(self._subscribe, service))

    def withdraw(self, service: str) -> None:
        """Call this to offer a service no more; what is in hand is answered."""
        self._offered.pop(service, None)
        subscription = self._subscriptions.pop(service, None)
        if subscription is not None and self.start_soon is not None:
            self.start_soon(subscription.end)

    def anyone(self, service: str) -> Anyone:
        """Call this for whoever offers a service; raises `LinkMisuse` for an impossible name."""
        self._talk.subjects.service(service)
        standin = self._standins.get(service)
        if standin is None:
            standin = Standin(self._talk.system, _ServiceRoads(self), ("any", service), 0)
            self._standins[service] = standin
        return Anyone(standin.ref)

    async def _subscribe(self, service: str) -> None:
        if service in self._subscriptions or service not in self._offered:
            return
        subject = self._talk.subjects.service(service)
        try:
            subscription = await self._link.subscribe(subject, self._talk.hear, group=SERVICE_GROUP)
        except NoLink:
            return
        if service in self._offered and service not in self._subscriptions:
            self._subscriptions[service] = subscription
        else:
            await subscription.end()

    def look(self) -> None:
        """Call this now and then: an offer that could not be made is made."""
        if self.start_soon is not None:
            for service in self._offered.keys() - self._subscriptions.keys():
                self.start_soon(partial(self._subscribe, service))

    async def stop(self) -> None:
        """Call this when the link is served no more."""
        subscriptions, self._subscriptions = self._subscriptions, {}
        for subscription in subscriptions.values():
            await subscription.end()

    def take(self, standin: Standin, papers: Papers) -> None:
        """Call this with an ask of this node's own."""
        reply = papers[REPLY]
        if reply is None:
            return
        service, kind = standin.key[1], type(papers[MESSAGE])
        handler = self._offered.get(service)
        if handler is not None and self.start_soon is not None:
            if self._serving >= SERVED_AT_ONCE_MAX:
                standin.give_up(papers, PeerOverloaded(standin.path, kind, "this node"))
                return
            self._serving += 1
            self.start_soon(partial(self._serve_own, handler, papers))
            return
        talk = self._talk
        named = talk.crossing.written(standin.path, papers[MESSAGE])
        item = Item(standin.key, 0, cell=standin, papers=papers)
        number = talk.next_ask()
        left_ms = left_ms_of(papers[DEADLINE] - trio.current_time())
        envelope = envelope_of(item, named, 0, ask=number, left_ms=left_ms)
        subject = talk.subjects.service(service)
        talk.service_asks[number] = item
        if not talk.put_loose(
            Loose(subject, envelope, talk.subjects.unheard(talk.node_id, number))
        ):
            del talk.service_asks[number]
            error: AskError = NoLink(standin.path, kind)
            if talk.is_up:
                error = PeerOverloaded(standin.path, kind, "the link")
            standin.give_up(papers, error)

    async def _serve_own(self, handler: Serve, papers: Papers) -> None:
        reply = papers[REPLY]
        assert reply is not None, "a service is asked"
        try:
            reply.give(await handler(papers[MESSAGE]))
        except Exception as error:  # noqa: BLE001 - of the user's code, and the asker's to see
            reply.fail(ActorCrashed(reply.cell.path, error, type(papers[MESSAGE])))
        finally:
            self._serving -= 1

    def _on_service(self, item: Item) -> None:
        service = item.key[1]
        handler = self._offered.get(service)
        if handler is None or self.start_soon is None:
            self._talk.refuse(item, NoOwner(service, None, None))
        elif self._serving >= SERVED_AT_ONCE_MAX:
            self._talk.refuse(item, PeerOverloaded(service, None, str(self._talk.node_id)))
        else:
            self.anyone(service)
            papers = self._talk.papers_of(item, None, self._standins[service])
            if papers is not None and papers[REPLY] is not None:
                self._serving += 1
                self.start_soon(partial(self._serve_own, handler, papers))
