"""Chat rooms of several nodes: who stores their posts, and how all hear where they stand.

Every node has an actor of each room, which knows its readers. The posts of all nodes are stored by
one, the owner of the room's shard, so that they share commits and wait for no row. Who cannot
reach it stores by itself: the store serialises a room and knows a repeat by its client id, so
ownership is a matter of speed, never of truth. What was stored is told by a topic, as a hint: where
a room stands is the store's to say. Who is in a room is told by each node of its own people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Never, TypeAlias, assert_never

import msgspec
import trio

from actors.chat import (
    ROOM_NAMES,
    ChatLog,
    ChatLogUnavailable,
    Draft,
    Message,
    MessagePosted,
    MessageWithdrawn,
    Posted,
    PostRefused,
    PostVerdict,
    Repeated,
    RoomForgot,
    RoomName,
    RoomResumed,
    Rooms,
    Stored,
    TooManyPosts,
    TooManyWaiting,
    UnknownRoom,
    tell_where_they_stand,
    topic_of,
)
from actors.chat.chat_log import check_drafts
from actors.cluster import (
    Cluster,
    ClusterPresence,
    Hearing,
    Member,
    Moved,
    TopicLost,
    owner_name,
)
from actors.cluster.link import LinkError
from actors.persistence import Fenced, Keyring, Shard
from actors.runtime import (
    Actor,
    ActorExited,
    Ask,
    AskError,
    Batch,
    Exit,
    Log,
    NoProc,
    Shutdown,
    message,
)
from storage.postgres import Database, PostgresChatLog
from web.chat.readers import PersonHere, Readers
from web.observability.health import Finding, healthy
from web.timeline.collector import TellAsked

# The kind of the actors that store the posts of a room; their ids are the rooms' names.
ROOM = "room"
# An owner that hangs keeps nobody waiting for longer; then the post is stored without it.
OWNER_S_MAX = 2.0
# Asks of several nodes that are stored with one commit.
ASKS_AT_ONCE_MAX = 16
# CLU-30: without a link nobody tells, so the store is asked where the rooms stand.
POLL_S = 1.0
# Nobody may look at a room for hours: who left it is let go so often, and told to have.
LET_GO_S = 0.5
# Of one person at one node; a browser has far fewer streams.
TABS_MAX = 10_000

log = Log(__name__)


class Kept(msgspec.Struct, frozen=True, tag="posted"):
    """A draft was stored as event `n`."""

    message: Message
    n: int


class Again(msgspec.Struct, frozen=True, tag="repeated"):
    """It had been stored before, as event `n` where that is known."""

    message: Message
    n: int | None


class Limited(msgspec.Struct, frozen=True, tag="too_many"):
    """A limit of its author is reached."""

    retry_after_s: float


class Queued(msgspec.Struct, frozen=True, tag="too_many_wait"):
    """As many messages of its author wait for review as may."""

    waiting_max: int


class Away(msgspec.Struct, frozen=True, tag="away"):
    """The store did not answer the owner."""

    text: str


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The store never takes it."""

    text: str


Ended: TypeAlias = Kept | Again | Limited | Queued | Away | Refused


@message(remote=True, name="room.posts")
class PostDrafts(Ask[list[Ended]]):
    """Asks the owner of a room to store drafts of it; one answer for each, in their order."""

    drafts: list[Draft]


@message(remote=True, name="room.stands")
class RoomStands:
    """Tells the nodes that event `n` of a room is stored."""

    room: RoomName
    n: int


def ended_of(verdict: PostVerdict) -> Ended:
    """Call this for what crosses of a verdict."""
    match verdict:
        case Posted(stored, n):
            return Kept(stored, n)
        case Repeated(stored, maybe_n):
            return Again(stored, maybe_n)
        case TooManyPosts(retry_after_s):
            return Limited(retry_after_s)
        case TooManyWaiting(waiting_max):
            return Queued(waiting_max)
        case ChatLogUnavailable():
            return Away(str(verdict))
        case PostRefused():
            return Refused(str(verdict))
    assert_never(verdict)


def verdict_of(ended: Ended) -> PostVerdict:
    """Call this for the verdict that crossed."""
    match ended:
        case Kept(stored, n):
            return Posted(stored, n)
        case Again(stored, maybe_n):
            return Repeated(stored, maybe_n)
        case Limited(retry_after_s):
            return TooManyPosts(retry_after_s)
        case Queued(waiting_max):
            return TooManyWaiting(waiting_max)
        case Away(text):
            return ChatLogUnavailable(text)
        case Refused(text):
            return PostRefused(text)
    assert_never(ended)


class RoomOwner(Actor[PostDrafts]):
    """Stores the posts that all nodes have for one room, together, as the owner of its shard.

    Of one that is another's by now it stores nothing, and ends: those who asked are answered so.
    """

    batch_max = ASKS_AT_ONCE_MAX

    def __init__(self, chat_log: ChatLog, room: str, token: Shard) -> None:
        if room not in ROOM_NAMES:
            raise UnknownRoom(room)
        self._log, self.room, self._token = chat_log, room, token

    async def on_post_drafts(self, asks: Batch[PostDrafts]) -> None:
        """Store what waits, with one commit."""
        drafts: list[Draft] = []
        for one in asks:
            drafts += [draft for draft in one.message.drafts if draft.room == self.room]
        try:
            verdicts = iter(await self._log.post_as_owner(drafts, self._token))
        except Fenced as error:
            log.warning("room.fenced", room=self.room, held=error.held, current=error.current)
            over = Shutdown(error.code)
            for one in asks:
                one.fail(ActorExited(self.ref.path, over, PostDrafts))
            self.stop(over)
            return
        for one in asks:
            with one as asked:
                one.reply(
                    [
                        ended_of(next(verdicts))
                        if draft.room == self.room
                        else Refused(f"is a post of {draft.room}, not of {self.room}")
                        for draft in asked.drafts
                    ]
                )


class SharedChatLog(PostgresChatLog):
    """The chat log of a node: posts are stored by the owner of their room, where it is reached."""

    def __init__(
        self, database: Database, keyring: Keyring, cluster: Callable[[], Cluster]
    ) -> None:
        super().__init__(database, keyring)
        self._cluster = cluster
        # How many posts the owner has stored, and how many this node without it.
        self.by_owner = self.by_self = 0
        # Told of each ask that goes to another node.
        self.tell_asked: TellAsked = lambda *_: None

    def check(self) -> Finding:
        """Call this to learn who has stored the posts that came to this node."""
        return healthy(by_owner=self.by_owner, by_self=self.by_self)

    async def post_all(self, drafts: Sequence[Draft]) -> Sequence[PostVerdict]:
        """See `ChatLog.post_all`. Whether the owner has begun is no matter: a repeat is known."""
        check_drafts(drafts)
        if not drafts:
            return ()
        cluster, room = self._cluster(), drafts[0].room
        owner, whose = cluster.ref(ROOM, room, RoomOwner), cluster.member.whose(ROOM, room)
        began = trio.current_time()
        try:
            ended = await owner.ask(PostDrafts(list(drafts)), timeout=OWNER_S_MAX)
        except (AskError, LinkError) as error:
            log.debug("room.owner_not_reached", room=room, error=type(error).__name__)
            self.by_self += len(drafts)
            self._tell(cluster.member, whose, drafts, began, type(error).__name__)
            return await super().post_all(drafts)
        self.by_owner += len(drafts)
        self._tell(cluster.member, whose, drafts, began, "answered")
        return [verdict_of(one) for one in ended]

    def _tell(
        self, member: Member, whose: Moved, drafts: Sequence[Draft], began: float, outcome: str
    ) -> None:
        survey = member.survey
        if survey is None or whose.owner in ("", str(member.node_id)):
            return  # nothing has left this process
        behalf = [id_ for draft in drafts if (id_ := draft.metadata.get("correlation_id"))]
        self.tell_asked(behalf, owner_name(survey, whose.owner), whose.shard, began, outcome)


class RoomsAcross(Actor[MessagePosted | MessageWithdrawn | RoomResumed | RoomForgot]):
    """Tells other nodes where the rooms of this one stand, and the rooms where the others do.

    What is lost on the way is told as `TopicLost`: then the store is asked, and each second while
    there is no link.
    """

    def __init__(
        self, cluster: Cluster, chat_log: ChatLog, rooms: Rooms, is_linked: Callable[[], bool]
    ) -> None:
        self._cluster, self._log, self._rooms = cluster, chat_log, rooms
        self._is_linked = is_linked
        self._hearings: list[Hearing] = []
        # The last event of each room that is known elsewhere.
        self._heard: dict[RoomName, int] = {}
        self._told: dict[RoomName, int] = {}
        self._lost = trio.Event()

    def on_start(self) -> None:
        """Hear the rooms of this node, and those of the others."""
        for room in ROOM_NAMES:
            self.system.topics.subscribe(topic_of(room), self.ref)
            self._hearings.append(self._cluster.hear(topic_of(room), self._hear))
        self.start_soon(self._follow)

    def on_stop(self, exit_: Exit) -> None:
        """Hear no more."""
        for hearing in self._hearings:
            hearing.end()

    def on_message_posted(self, event: MessagePosted) -> None:
        """Tell the others."""
        self._tell(event.message.room, event.n)

    def on_message_withdrawn(self, event: MessageWithdrawn) -> None:
        """Tell the others."""
        self._tell(event.room, event.n)

    def on_room_resumed(self, _: RoomResumed) -> None:
        """Nothing: the store is asked by each node."""

    def on_room_forgot(self, _: RoomForgot) -> None:
        """Nothing: who was forgotten is heard of by each node."""

    def _tell(self, room: RoomName, n: int) -> None:
        if n > self._heard.get(room, 0):
            self._heard[room] = n
            self._cluster.publish(topic_of(room), RoomStands(room, n))

    def _hear(self, told: object) -> None:
        """Called by the link, which must not be kept: rooms have a mailbox, the store a task."""
        match told:
            case RoomStands(room, n) if n > self._heard.get(room, 0):
                self._heard[room] = n
                try:
                    self._rooms.of(room).tell(Stored(n))
                except (NoProc, UnknownRoom):
                    self._lost.set()
            case TopicLost():
                self._lost.set()

    async def _follow(self) -> None:
        while True:
            with trio.move_on_after(float("inf") if self._is_linked() else POLL_S):
                await self._lost.wait()
            self._lost = trio.Event()
            try:
                await tell_where_they_stand(self._log, self._rooms, self._told)
            except ChatLogUnavailable:
                await trio.sleep(POLL_S)
                self._lost.set()


class PeopleElsewhere:
    """The port `Elsewhere` of one room, over what nodes tell of their members."""

    def __init__(self, presence: ClusterPresence, room: RoomName) -> None:
        self._presence, self.group = presence, topic_of(room)

    def put(self, person: str, here: PersonHere) -> None:
        """See `Elsewhere.put`."""
        self._presence.put(self.group, person, msgspec.msgpack.encode(here))

    def drop(self, person: str) -> None:
        """See `Elsewhere.drop`."""
        self._presence.drop(self.group, person)

    def people(self) -> Iterable[tuple[str, PersonHere]]:
        """See `Elsewhere.people`; who is told of in other words than ours is left out."""
        for node in self._presence.elsewhere(self.group):
            for person, about in node.items():
                try:
                    here = _decode_person(about)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    log.debug("room.person_unreadable", group=self.group)
                    continue
                if _can_be(here):
                    yield person, here


_decode_person = msgspec.msgpack.Decoder(PersonHere).decode


def _can_be(here: PersonHere) -> bool:
    """Whether a person can be so: what cannot be shown must not end what shows the others."""
    is_named = here.name is None or bool(here.name.strip())
    return is_named and 0 <= here.tabs <= TABS_MAX and here.since.utcoffset() == timedelta(0)


class PeopleAcross(Actor[Never]):
    """Tells other nodes who is in the rooms of this one, and the rooms who is in theirs.

    A process that ends takes nobody away: their pages find another node within the while for which
    the others show who was on one that is gone.
    """

    def __init__(self, cluster: Cluster, readers: Mapping[RoomName, Readers]) -> None:
        self._presence, self._readers = cluster.presence, readers
        self._end_watch: Callable[[], None] = lambda: None

    def on_start(self) -> None:
        """Tell of who is here by now, then of each who comes and goes."""
        told: dict[str, Readers] = {}
        for room, readers in self._readers.items():
            people = PeopleElsewhere(self._presence, room)
            readers.presence.share(people)
            told[people.group] = readers
        self._end_watch = self._presence.watch(partial(_people_changed, told))
        self.start_soon(self._let_go)

    def on_stop(self, exit_: Exit) -> None:
        """Hear of nobody any more."""
        self._end_watch()

    async def _let_go(self) -> None:
        while True:
            for readers in self._readers.values():
                readers.presence.forget(trio.current_time())
            await trio.sleep(LET_GO_S)


def _people_changed(told: Mapping[str, Readers], group: str) -> None:
    readers = told.get(group)
    if readers is not None:
        readers.people_changed()
