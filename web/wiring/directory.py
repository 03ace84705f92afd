"""Where the actors of the site are found: by registered names, looked up at each use.

A supervisor that was itself restarted gives its children new refs, so nobody keeps one.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import NewType, TypeVar, cast

from actors.accounts.session import Messages as SessionMessage
from actors.chat import ROOM_NAMES, ForgetNewest, RoomActor, RoomForgot, RoomName, RoomRef, topic_of
from actors.runtime import Actor, AnyRef, NoProc, Ref, System
from supervision import Dynamic, Node, Tree, handle_of, tree_of
from web.chat.moderation import Messages as ModerationFeedMessage
from web.chat.moderation import ModerationFeed
from web.chat.room_feed import Messages as RoomFeedMessage
from web.chat.room_feed import RoomFeed
from web.demos.counter import Add
from web.demos.desk import Messages as DeskMessage
from web.demos.desk import desk_name
from web.lab.panels.feed import PanelsFeed, Wake
from web.lab.sandbox.keeper import Keeper, Wanted
from web.lab.sandbox.recording import Recorder, Write
from web.lab.stage.feed import Changed, StageFeed
from web.lab.tree_feed import Messages as TreeFeedMessage
from web.lab.tree_feed import TreeFeed
from web.realtime import ConnectionRef, EventMessages, Stream, StreamKey
from web.site.proof_feed import Messages as ProofFeedMessage
from web.site.proof_feed import ProofFeed
from web.timeline.feed import Messages as TimelineFeedMessage
from web.timeline.feed import TimelineFeed

M = TypeVar("M")

Name = NewType("Name", str)

SESSIONS = Name("sessions")
STREAMS = Name("streams")
SOCKETS = Name("sockets")
COUNTERS = Name("counters")
DESKS = Name("desks")
TREE_FEED = Name("tree-feed")
PROOF_FEED = Name("proof-feed")
MODERATION_FEED = Name("moderation-feed")
STAGE_FEED = Name("stage-feed")
SANDBOXES = Name("sandboxes")
KEEPER = Name("keeper")
RECORDER = Name("recorder")
PANELS_FEED = Name("panels-feed")
TIMELINE_FEED = Name("timeline-feed")


def room_name(room: RoomName) -> Name:
    """Call this for the name under which a room's actor is registered."""
    return Name(f"room-{room.lower()}")


def feed_name(room: RoomName) -> Name:
    """Call this for the name under which a room's feed is registered."""
    return Name(f"feed-{room.lower()}")


class Directory:
    """Finds actors once a system is attached; each call raises `NoProc` for one that is gone."""

    def __init__(self) -> None:
        self._system: System | None = None

    def attach(self, system: System) -> None:
        """Call this when the tree starts, before any of its actors looks for another."""
        self._system = system

    @property
    def system(self) -> System:
        """The running system."""
        assert self._system is not None, "the tree attaches its system before its actors start"
        return self._system

    @property
    def tree(self) -> Tree:
        """The supervision tree of the running system."""
        return tree_of(self.system)

    def maybe_room(self, room: RoomName) -> RoomRef | None:
        """Call this to find a room's actor; None when there is none."""
        return self.system.whereis(room_name(room), RoomActor)

    def room_feed(self, room: RoomName) -> Ref[RoomFeedMessage]:
        """Call this to find a room's feed."""
        return self._find(feed_name(room), RoomFeed)

    def tell_forgotten(self) -> None:
        """Call this when messages or their texts are gone: all rooms are read and shown again."""
        for room in ROOM_NAMES:
            # First: whoever hears of it asks the room.
            actor = self.maybe_room(room)
            if actor is not None:
                actor.tell(ForgetNewest())
            self.system.topics.publish(topic_of(room), RoomForgot(room))

    def tree_feed(self) -> Ref[TreeFeedMessage]:
        """Call this to find the tree's feed."""
        return self._find(TREE_FEED, TreeFeed)

    def proof_feed(self) -> Ref[ProofFeedMessage]:
        """Call this to find the feed of the home page's figures."""
        return self._find(PROOF_FEED, ProofFeed)

    def moderation_feed(self) -> Ref[ModerationFeedMessage]:
        """Call this to find the feed of the moderators' queue."""
        return self._find(MODERATION_FEED, ModerationFeed)

    def sandboxes(self) -> AnyRef:
        """Call this to find what stands above the sandboxes of the lab."""
        return self._find(SANDBOXES, Dynamic)

    def wake_keeper(self) -> None:
        """Call this when a sandbox is wanted; the keeper looks by itself when it is back."""
        with suppress(NoProc):
            self._find(KEEPER, Keeper).tell(Wanted())

    def wake_recorder(self) -> None:
        """Call this when something is to be recorded; it looks by itself when it is back."""
        with suppress(NoProc):
            self._find(RECORDER, Recorder).tell(Write())

    def wake_panels(self) -> None:
        """Call this when somebody looks at what they have open; its feed looks again by itself."""
        with suppress(NoProc):
            self._find(PANELS_FEED, PanelsFeed).tell(Wake())

    def wake_stage(self) -> None:
        """Call this when the stage looks different to somebody."""
        with suppress(NoProc):
            self._find(STAGE_FEED, StageFeed).tell(Changed())

    def timeline_feed(self) -> Ref[TimelineFeedMessage]:
        """Call this to find the feed of what visitors' own requests have caused."""
        return self._find(TIMELINE_FEED, TimelineFeed)

    def maybe_node(self, path: str) -> Node | None:
        """Call this to look at the actor at a path; None when there is none."""
        cell = self.system.at(path)
        return None if cell is None else self.tree.node(cell)

    def session(self, session_id: str) -> Ref[SessionMessage]:
        """Call this to get the actor of a browser session; its first message starts it."""
        return cast("Ref[SessionMessage]", self._dynamic(SESSIONS)[session_id])

    def counter(self, session_id: str) -> Ref[Add]:
        """Call this to get the counter of a browser session; its first message starts it."""
        return cast("Ref[Add]", self._dynamic(COUNTERS)[session_id])

    def desk(self, key: StreamKey) -> Ref[DeskMessage]:
        """Call this to get what runs the errands of a page; its first message starts it."""
        return cast("Ref[DeskMessage]", self._dynamic(DESKS)[desk_name(key)])

    async def start_stream(self, stream: Stream, request_window: Callable[[Stream], None]) -> None:
        """Call this to put a stream's actor into the tree."""
        await self._dynamic(STREAMS).start_child(stream, request_window)

    async def start_socket(self, make: Callable[[], object]) -> ConnectionRef:
        """Call this to put a socket's actor into the tree."""
        started = await self._dynamic(SOCKETS).start_child(make)
        return cast("ConnectionRef", started.ref)

    async def start_event_stream(self, make: Callable[[], object]) -> Ref[EventMessages]:
        """Call this to put the actor of a program's event stream into the tree, beside sockets."""
        started = await self._dynamic(SOCKETS).start_child(make)
        return cast("Ref[EventMessages]", started.ref)

    def _dynamic(self, name: Name) -> Dynamic[object]:
        return handle_of(Dynamic, self._find(name, Dynamic))

    def _find(self, name: Name, kind: type[Actor[M]]) -> Ref[M]:
        ref = self.system.whereis(name, kind)
        if ref is None:
            raise NoProc(name)
        return ref
