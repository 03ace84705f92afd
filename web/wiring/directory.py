"""Where the actors of our site are found; what every site has is found by `frame/finding.py`."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import cast

from actors.accounts.session import Messages as SessionMessage
from actors.accounts.ways.link_flow import Messages as LinkMessage
from actors.accounts.ways.passkeys.flow import Messages as PasskeyMessage
from actors.accounts.ways.provider.flow import Messages as ProviderMessage
from actors.chat import (
    ROOM_NAMES,
    ForgetNewest,
    NewestCache,
    RoomActor,
    RoomForgot,
    RoomName,
    RoomRef,
    topic_of,
)
from actors.persistence import LookAtOutbox
from actors.runtime import AnyRef, NoProc, Ref
from supervision import BREAKERS, BreakerChange, Dynamic, Node, Tree, tree_of
from web.chat.moderation import Messages as ModerationFeedMessage
from web.chat.moderation import ModerationFeed
from web.chat.room_feed import Messages as RoomFeedMessage
from web.chat.room_feed import RoomFeed
from web.lab.demos.counter import Add
from web.lab.demos.desk import Messages as DeskMessage
from web.lab.demos.desk import desk_name
from web.lab.panels.failures_feed import FailuresFeed
from web.lab.panels.feed import Changed as PanelChanged
from web.lab.panels.feed import PanelsFeed, Wake
from web.lab.sandbox.keeper import Keeper, Wanted
from web.lab.sandbox.recording import Recorder, Write
from web.lab.stage.feed import Changed, StageFeed
from web.lab.tree.feed import Messages as TreeFeedMessage
from web.lab.tree.feed import TreeFeed
from web.mail.delivering import MailRelay
from web.observability.bus_lag import GroupLag
from web.observability.operating.letters.retrying import LookAtRetries, RetriesActor
from web.observability.operating.overview.feed import OverviewFeed
from web.realtime import Arrivals, StreamKey
from web.site.proof_feed import Messages as ProofFeedMessage
from web.site.proof_feed import ProofFeed
from web.timeline.feed import Messages as TimelineFeedMessage
from web.timeline.feed import TimelineFeed
from web.views import NodesView
from web.wiring.frame.finding import Finder, Name
from web.wiring.frame.serving import UnderWay

SESSIONS = Name("sessions")
FLOWS = Name("flows")
PASSKEY_FLOWS = Name("passkey-flows")
PROVIDER_FLOWS = Name("provider-flows")
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
OVERVIEW_FEED = Name("overview-feed")
FAILURES_FEED = Name("failures-feed")
MAIL = Name("mail")
LETTERS = Name("letters")


def room_name(room: RoomName) -> Name:
    """Call this for the name under which a room's actor is registered."""
    return Name(f"room-{room.lower()}")


def feed_name(room: RoomName) -> Name:
    """Call this for the name under which a room's feed is registered."""
    return Name(f"feed-{room.lower()}")


class Directory(Finder):
    """Finds the actors of our site; each call raises `NoProc` for one that is gone.

    `newest` is what the rooms keep of their newest messages; they are started with it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.newest = NewestCache()
        # How the nodes stand that serve the site together; nothing where there is one process.
        self.nodes: Callable[[], NodesView | None] = lambda: None
        # How far the groups of the event bus are behind, as far as that is known.
        self.bus_lags: Callable[[], Sequence[GroupLag]] = tuple
        # What is on its way to others from here; a stop waits for it.
        self.under_way = UnderWay()

    def nodes_now(self) -> NodesView | None:
        """Call this for how the nodes stand now; None where there is one process."""
        return self.nodes()

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
            # First: whoever hears of it asks the room, and pages look here.
            self.newest.forget(room)
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

    def overview_feed(self) -> Ref[Arrivals]:
        """Call this to find the feed of the figures that operators see."""
        return self._find(OVERVIEW_FEED, OverviewFeed)

    def failures_feed(self) -> Ref[Arrivals]:
        """Call this to find the feed of the lab's page about failures."""
        return self._find(FAILURES_FEED, FailuresFeed)

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

    def wake_mail(self) -> None:
        """Call this when there is a mail to be sent; its relay looks by itself, too."""
        with suppress(NoProc):
            self._find(MAIL, MailRelay).tell(LookAtOutbox())

    def wake_letters(self) -> None:
        """Call this when dead letters are to be handed back; who does looks when it is back."""
        with suppress(NoProc):
            self._find(LETTERS, RetriesActor).tell(LookAtRetries())

    def wake_panels(self) -> None:
        """Call this when somebody looks at what they have open; its feed looks again by itself."""
        with suppress(NoProc):
            self._find(PANELS_FEED, PanelsFeed).tell(Wake())

    def tell_breaker(self, change: BreakerChange) -> None:
        """Call this when a breaker of what is outside changed: who listens to them hears it."""
        self.system.topics.publish(BREAKERS, change)

    def tell_panels(self) -> None:
        """Call this when a saga of a visitor looks different."""
        with suppress(NoProc):
            self._find(PANELS_FEED, PanelsFeed).tell(PanelChanged())

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

    def link_flow(self, flow_id: str) -> Ref[LinkMessage]:
        """Call this to get the actor of a flow of a link; its first message starts it."""
        return cast("Ref[LinkMessage]", self._dynamic(FLOWS)[flow_id])

    def passkey_flow(self, flow_id: str) -> Ref[PasskeyMessage]:
        """Call this to get the actor of a challenge for passkeys; its first message starts it."""
        return cast("Ref[PasskeyMessage]", self._dynamic(PASSKEY_FLOWS)[flow_id])

    def provider_flow(self, flow_id: str) -> Ref[ProviderMessage]:
        """Call this to get the actor of a flow at a provider; its first message starts it."""
        return cast("Ref[ProviderMessage]", self._dynamic(PROVIDER_FLOWS)[flow_id])

    def counter(self, session_id: str) -> Ref[Add]:
        """Call this to get the counter of a browser session; its first message starts it."""
        return cast("Ref[Add]", self._dynamic(COUNTERS)[session_id])

    def desk(self, key: StreamKey) -> Ref[DeskMessage]:
        """Call this to get what runs the errands of a page; its first message starts it."""
        return cast("Ref[DeskMessage]", self._dynamic(DESKS)[desk_name(key)])

    def maybe_desk(self, key: StreamKey) -> Ref[DeskMessage] | None:
        """Call this to find what runs the errands of a page; None when nothing does."""
        return cast("Ref[DeskMessage] | None", self._dynamic(DESKS).running(desk_name(key)))
