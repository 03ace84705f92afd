"""The web half of the site, wired: from a running tree and a port to a served application.

`web.app` opens storage and the tree; its server actor calls `Web.compose` once the port is
known. What is kept here (streams, readers, pages) outlives an incarnation of any actor.
No adapter of storage is named here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from math import floor
from uuid import UUID

import trio

from actors.accounts import (
    Accounts,
    Audit,
    Holdings,
    Method,
    RateLimiter,
    SessionEnds,
    SessionEndWatch,
    SignInSweeper,
    SocketTickets,
)
from actors.accounts.kept.addresses import Addresses
from actors.accounts.kept.devices.port import Devices
from actors.accounts.kept.disavowals import Disavowals
from actors.accounts.kept.factors import Factors
from actors.accounts.kept.recoveries import Known, Recoveries, Recovery
from actors.accounts.kept.risk.assessing import WeighedRisk
from actors.accounts.kept.risk.port import Logins
from actors.accounts.ways.link_flow import LinkFlow
from actors.accounts.ways.links import SignInLinks
from actors.accounts.ways.passkeys import Party, PasskeyEnvironment, PasskeyFlow, Passkeys
from actors.accounts.ways.provider.flow import FlowEnvironment, ProviderFlow
from actors.accounts.ways.provider.identities import Identities
from actors.accounts.ways.provider.renewing import TokenRenewer
from actors.accounts.ways.recovering import RecoveryTeller
from actors.accounts.ways.tokens import ApiTokens
from actors.chat import LOBBY, ROOM_NAMES, ChatLog, RoomName, Rooms, topic_of
from actors.persistence import EventStore, MailStates, OutboxMessage
from actors.persistence.bus import Received
from actors.reducers import Clock, Environment, Ids
from actors.runtime import AnyActor, Secret, System
from actors.timeline import Timeline
from supervision import ChildSpec, Dependencies, Dynamic, DynamicFlags
from web.accounts.entering import AccountServices
from web.accounts.hashing import Cost, Passwords
from web.accounts.identity import Identity, SignInCookie
from web.accounts.methods import methods_of
from web.accounts.own.account import AccountPages, own_account_routes
from web.accounts.own.address_pages import address_routes
from web.accounts.own.devices.routes import device_routes
from web.accounts.own.factor_routes import factor_routes
from web.accounts.own.mending.disavow_pages import disavow_routes
from web.accounts.own.mending.recovering import tell_ready
from web.accounts.own.mending.recovery_pages import recovery_routes
from web.accounts.own.mending.telling import code_used, recovery_stopped
from web.accounts.own.programs.session_api import session_api_routes
from web.accounts.own.programs.token_routes import token_routes
from web.accounts.roles.access import keep_access
from web.accounts.roles.operating import operating_routes
from web.accounts.routes import IsPage, account_routes
from web.accounts.ways.link_api import link_api_routes
from web.accounts.ways.link_pages import link_routes
from web.accounts.ways.links import FlowCookie, LinkServices, link_environment
from web.accounts.ways.passkeys.passkey_api import passkey_api_routes, step_up_routes
from web.accounts.ways.passkeys.passkey_pages import passkey_routes
from web.accounts.ways.passkeys.passkeys import PasskeyServices
from web.accounts.ways.passkeys.second_api import second_api_routes
from web.accounts.ways.passkeys.verifying import WebauthnVerifier, read_roots
from web.accounts.ways.provider.asking import AskedProvider, asked_providers
from web.accounts.ways.provider.leaving import leaving_routes
from web.accounts.ways.provider.offering import ProviderOffers
from web.accounts.ways.provider.returning import ProviderServices
from web.accounts.ways.provider.routes import provider_routes
from web.accounts.ways.risk.allow_pages import allow_routes
from web.accounts.ways.risk.desk import DeviceCookie, RiskDesk
from web.accounts.ways.risk.places_file import Breached, BreachedWatch, Places, PlacesWatch
from web.chat.moderation import (
    ModerationFeed,
    ModerationServices,
    ModerationStreams,
    moderation_routes,
    readers_of,
)
from web.chat.presenting import RoomFrames
from web.chat.readers import Readers, ShownRooms
from web.chat.room_feed import RoomFeed
from web.chat.routes import ChatServices, chat_routes, viewer_of
from web.chat.socket import (
    ChatService,
    MessagePosted,
    MessageWithdrawn,
    PostMessage,
    PostStored,
    RoomTells,
    SocketGuest,
    socket_guest,
)
from web.chat.socket_feed import RoomTopic, SocketFeed
from web.documentation import Documents, document_routes, doorways, optional_pages
from web.documentation.work import WorkStreams, load_mechanisms, work_routes
from web.lab.demos.checkout.routes import checkout_routes
from web.lab.demos.checkout.visitors import CheckoutPorts, Checkouts
from web.lab.demos.counter import Counters
from web.lab.demos.desk import DemoParts
from web.lab.demos.panels import PanelParts
from web.lab.demos.routes import (
    ASKED_PER_ADDRESS_MAX,
    ASKED_PER_SESSION_MAX,
    ASKED_PERIOD_S,
    DemoServices,
    demo_routes,
)
from web.lab.lasting import Survivals, SurvivalsActor
from web.lab.panels.bucket import Buckets
from web.lab.panels.burst import burst_routes
from web.lab.panels.dropping import Connections, drop_routes
from web.lab.panels.failures import Failures, failure_routes
from web.lab.panels.failures_feed import FailuresFeed, FailuresStreams
from web.lab.panels.feed import OpenParts, PanelsFeed
from web.lab.panels.open_now import OpenNow
from web.lab.panels.still import Stills
from web.lab.routes import LabServices, LabStreams, lab_again, lab_routes
from web.lab.sandbox.desk import sandboxes_supervisor
from web.lab.sandbox.keeper import Keeper
from web.lab.sandbox.recording import Ledger, Recorder
from web.lab.sandbox.sandboxes import Sandboxes
from web.lab.stage.actions import CHAT, OPERATIONS, SITE, StageServices
from web.lab.stage.feed import StageFeed
from web.lab.stage.picture import StagePicture
from web.lab.stage.quota import LabQuota
from web.lab.stage.topic import TreeChanged, TreeTells, TreeTopic
from web.lab.switch import FILE_NAME as LAB_MODE_FILE
from web.lab.switch import LabSwitch
from web.lab.tree.feed import TreeFeed, TreeSource
from web.lab.tree.picture import CROWDS, TreePicture
from web.mail.mails import Mails
from web.mail.routes.amazon import SNS, fetching
from web.mail.routes.bounces import (
    BounceServices,
    HookKeys,
    bounce_routes,
    hooks_of,
    quota_of_fetches,
    quota_of_refused,
)
from web.mail.routes.previews import preview_routes
from web.observability.alerts import Alert, Alerts, watched
from web.observability.health import Component, Health, HealthActor
from web.observability.health.of_tree import supervision_component, tree_component
from web.observability.metrics.collectors import of_cache, of_dependencies, of_numbers
from web.observability.metrics.of_site import SiteMetrics
from web.observability.metrics.serving import metrics_routes
from web.observability.operating.control.diagnosing import Diagnosis
from web.observability.operating.control.live import (
    BreakerCommands,
    TreeCommands,
    live_commands,
)
from web.observability.operating.control.serving import Command
from web.observability.operating.letters.handing import LetterDesk
from web.observability.operating.letters.page import letter_routes
from web.observability.operating.letters.retrying import Retries, RetriesActor
from web.observability.operating.outside_page import outside_routes
from web.observability.operating.overview.feed import OverviewFeed
from web.observability.operating.overview.page import OverviewStreams, overview_routes
from web.observability.operating.overview.reading import OverviewSource
from web.observability.operating.overview.telling import TopCommand
from web.observability.operating.recent import RECENT
from web.observability.operating.traces.exporting.sending import OTLP
from web.observability.operating.traces.of_site import SiteTraces
from web.observability.operating.traces.routes import listing_of, trace_routes
from web.observability.requests import RequestLog
from web.realtime import (
    Audience,
    Broadcast,
    CommandMemory,
    CommandTable,
    EndpointSettings,
    EventEncoding,
    EventStreams,
    Heard,
    HistoryLimits,
    Hub,
    SocketCaps,
    SocketEndpoint,
    Stream,
    StreamCaps,
    Streams,
    waker,
)
from web.routing import paths
from web.routing.commands import RefusalTeller
from web.routing.decided import Decided
from web.routing.errors import error_table
from web.routing.forms import keep_forms
from web.routing.quota import Quota
from web.routing.services import Services
from web.server import (
    Answer,
    CsrfTokens,
    ErrorRow,
    KeyRing,
    RequestState,
    Tickets,
    WebApp,
    current_request_state,
)
from web.server.edge.visitor import VisitorSigner
from web.settings import Fingerprints, LabMode, MagicLinkFlow, Settings, is_loopback
from web.site.error_pages import ErrorPages
from web.site.events import StreamedPage, event_routes
from web.site.pages import (
    PAGE_FAILURES,
    PAGE_HOME,
    PAGE_LAB,
    PAGE_MODERATION,
    PAGE_OVERVIEW,
    PAGE_WORK,
    program_version,
)
from web.site.policy_reports import PolicyReports, report_routes
from web.site.proof_feed import ProofFeed, ProofSource
from web.site.routes import ROBOTS, HomeStage, HomeStreams, SiteServices, site_routes
from web.site.tickets import TicketOffice, ticket_routes
from web.timeline.collector import (
    TimelineCollector,
    begin_teller,
    patched_teller,
    sent_teller,
    span_teller,
    story_teller,
)
from web.timeline.feed import TimelineFeed, Viewers
from web.timeline.routes import TimelineServices, timeline_routes
from web.views import LastedView, Renderer, StaticTable
from web.wiring.directory import Directory, room_name
from web.wiring.ending import OpenRoles, OpenRooms, OpenSessions
from web.wiring.frame.outside import outside_of
from web.wiring.frame.probes import probe_routes, ready_answers, streams_component
from web.wiring.frame.serving import edge_of, served
from web.wiring.stopping import Served

# A flow keeps nothing: its actor is there for who asks at once. More than that many at once are a
# flood, and a try of it finds no actor.
FLOW_IDLE_S = 1.0
FLOWS_MAX = 10_000
# What an acknowledgement waits for the feed of a topic that has just been restarted.
EPOCH_S_MAX = 1.0

SANDBOXES_PATH = "site/sandboxes"
LOBBY_PATH = f"site/rooms/{LOBBY.lower()}"


@dataclass(frozen=True, slots=True)
class Secrets:
    """What visitors' cookies are signed with."""

    current: Secret[bytes]
    previous: Secret[bytes] | None


@dataclass(frozen=True, slots=True)
class Store:
    """What the web half keeps in the store, port by port."""

    chat_log: ChatLog
    session_ends: SessionEnds
    socket_tickets: SocketTickets
    accounts: Accounts
    audit: Audit
    limiter: RateLimiter
    holdings: Holdings
    factors: Factors
    events: EventStore
    links: SignInLinks
    passkeys: Passkeys
    identities: Identities
    disavowals: Disavowals
    addresses: Addresses
    devices: Devices
    logins: Logins
    recoveries: Recoveries
    tokens: ApiTokens
    mails: Mails = field(default_factory=lambda: Mails(None))
    # None: nobody is asked what became of a mail, and no provider reports here.
    mail_states: MailStates | None = None
    # None: nobody looks at dead letters here.
    letters: LetterDesk | None = None
    # None: the lab has no sagas.
    checkouts: CheckoutPorts | None = None


class Web:
    """Everything between the actors and the network. Made once; `compose` once a port."""

    # Those of the newest application: where they send people back to is its own.
    providers: ProviderServices | None = None

    def __init__(
        self,
        settings: Settings,
        secrets: Secrets,
        clock: Clock,
        static: StaticTable,
        *,
        directory: Directory,
        store_health: Sequence[Component],
        store: Store,
        ids: Ids,
        stream_caps: StreamCaps | None = None,
        documents: Documents | None = None,
        outside: Dependencies | None = None,
    ) -> None:
        self.outside = outside or outside_of(settings)
        self._settings, self._static, self._clock = settings, static, clock
        self._directory, self.health = directory, self._make_health(store_health, directory)
        self._ring, self._renderer = KeyRing(secrets.current, secrets.previous), Renderer(static)
        self._version = program_version()
        self._mechanisms = load_mechanisms()
        self._documents, self._optional = documents, optional_pages(documents)
        self._began, self.is_draining = trio.current_time(), False
        self.rooms = Rooms(directory.maybe_room)
        caps = stream_caps or StreamCaps(per_address=settings.streams_per_address_max)
        self.timeline, self.timeline_viewers = _timeline(directory)
        told = sent_teller(self.timeline)
        self.streams = Streams(caps=caps, start_actor=self._start_stream, told=told)
        self.room_readers = {
            room: Readers(waker(partial(directory.room_feed, room)), clock.now)
            for room in ROOM_NAMES
        }
        self.shown = ShownRooms(self.room_readers)
        self.tree_readers = Audience[Stream](waker(directory.tree_feed))
        self.proof_readers = Audience[Stream](waker(directory.proof_feed))
        self.queue_readers, self.badge_readers = readers_of(waker(directory.moderation_feed))
        self._store = store
        self.accounts = self._make_accounts(ids)
        self.alerts, self.identity = _identity_of(store, self.accounts.cookie)
        self.open_sessions = OpenSessions(self.streams)
        self._tickets = TicketOffice(store.socket_tickets, store.limiter)
        # What clients are told again who come back after the server was restarted alone.
        self._commands = CommandMemory()
        # What sockets are told of each room; kept for those who come back.
        self._told = EventEncoding(TreeTells(RoomTells()))
        self._room_topics = {room: RoomTopic(room, store.chat_log) for room in ROOM_NAMES}
        self.said: dict[RoomName, Broadcast[object, Heard]] = {
            room: Broadcast(self._told, history=HistoryLimits(), source=topic)
            for room, topic in self._room_topics.items()
        }
        # The endpoint of the newest application.
        self.sockets: SocketEndpoint[SocketGuest] | None = None
        self.figures, self.traces = self._make_watching()
        is_open = settings.lab_mode is LabMode.PUBLIC and is_loopback(settings.host)
        target = LOBBY_PATH if is_open and not settings.is_https else None
        self._survivals = Survivals(ids, clock.now, self._delivered)
        picture = self._picture(target)
        self._tree = TreeSource(picture.read, clock.now)
        self._has_offered, self._proof = picture.has_offered, self._make_proof(picture)
        self._make_stage(ids)

    def attach(self, system: System) -> None:
        """Call this when the tree starts, before any of its actors looks for another."""
        self._directory.attach(system)
        self.figures.begin(system)
        self.traces.begin(system)

    def _make_watching(self) -> tuple[SiteMetrics, SiteTraces]:
        figures, guard = self._make_figures(), self.outside.maybe(OTLP)
        traces = SiteTraces(self._settings, self._clock.now, figures.tallies, guard)
        figures.metrics.put_examples = traces.put_examples
        return figures, traces

    def _make_figures(self) -> SiteMetrics:
        directory = self._directory
        found = SiteMetrics(
            self._settings,
            lambda: directory.system,
            lambda: self.streams,
            lambda: self.sockets,
            self.alerts,
        )
        passwords = self.accounts.passwords
        found.metrics.register(of_numbers(lambda: {"hash_queue": passwords.waiting}))
        found.metrics.register(of_dependencies(self.outside.stats))
        found.metrics.register(of_cache("newest_messages", directory.newest))
        return found

    def _make_overview(self) -> None:
        directory = self._directory
        self.overview_readers = Audience[Stream](waker(directory.overview_feed))
        self.overview = OverviewSource(
            lambda: directory.system,
            self.figures.metrics,
            self.outside.stats,
            directory.nodes_now,
            self._clock.now,
            closed=CROWDS,
            is_measured=self._settings.has_metrics,
        )

    def _make_accounts(self, ids: Ids) -> AccountServices:
        self.places, self.breached = Places(), Breached()
        return account_services(
            self._settings,
            self._store,
            ids,
            self._clock.now,
            self._directory,
            self._ring,
            self.places,
            self.breached,
        )

    def _picture(self, target: str | None) -> TreePicture:
        directory = self._directory
        return TreePicture(
            lambda: directory.system,
            self._clock.now,
            target,
            self._lasted,
            directory.nodes,
        )

    def _make_proof(self, picture: TreePicture) -> ProofSource:
        return ProofSource(
            actors_alive=picture.actor_count,
            open_streams=lambda: len(self.streams),
            messages_delivered=self._all_delivered,
            restarts=picture.restarts,
            uptime_s=lambda: floor(trio.current_time() - self._began),
            lasted=self._lasted,
        )

    def _make_stage(self, ids: Ids) -> None:
        self._make_overview()
        directory, streams = self._directory, self.streams
        self.demos = DemoParts(Counters(streams), streams, self.timeline, self._clock.now)
        self._lab_quota = LabQuota(trio.current_time)
        self._decided = Decided(trio.current_time)
        ports, env = self._store.checkouts, Environment(self._clock, ids)
        told = directory.tell_panels
        self.checkouts = (
            None
            if ports is None
            else Checkouts(
                ports, env, lambda: directory.system, told, sending=directory.under_way.around
            )
        )
        self._buckets, self.open_now = Buckets(trio.current_time), OpenNow()
        self._connections = Connections(streams, lambda: self.sockets)
        self._stills = Stills(
            self.timeline, self._connections, self._buckets, self._renderer, self._clock.now
        )
        self.ledger = Ledger(ids, self._clock.now, directory.wake_recorder)
        self._policy_reports = PolicyReports(trio.current_time)
        self._refused_reports = quota_of_refused(trio.current_time)
        self._certificate_fetches = quota_of_fetches(trio.current_time)
        self._lab_switch = LabSwitch(
            self._settings.lab_mode,
            self._settings.state_dir / LAB_MODE_FILE,
            lags=lambda: directory.system.totals().loop_lag_us,
            crowd=lambda: len(streams) / streams.total_max,
        )
        desk = self._store.letters
        self.retries = None if desk is None else Retries(desk, directory.wake_letters)
        self.sandboxes = Sandboxes(
            lambda: directory.system,
            wake_keeper=directory.wake_keeper,
            wake_feed=directory.wake_stage,
            path=SANDBOXES_PATH,
            tell_over=self.ledger.end,
            letters_per_s=self._settings.lab_letters_per_s,
        )
        letters = None if desk is None else desk.letters
        self.failures = Failures(
            lambda: directory.system, self.outside, self.sandboxes, letters, self._clock.now
        )
        self.failures_readers = Audience[Stream](waker(directory.failures_feed))
        self._tree_topic = TreeTopic(self.sandboxes, lambda: directory.system)
        self._stage = StagePicture(
            lambda: directory.system,
            self.sandboxes,
            self._lab_switch,
            self._lab_quota,
            lambda: len(streams),
        )

    # -- the feeds, made anew for every incarnation ------------------------------------------

    def room_feed(self, room: RoomName) -> RoomFeed:
        """Call this to make a room's feed."""
        frames = RoomFrames(room, self._renderer)
        return RoomFeed(room, self.rooms, frames, self.room_readers[room])

    def socket_feed(self, room: RoomName) -> SocketFeed:
        """Call this to make the feed of a room's topic on sockets."""
        return SocketFeed(room, self._room_topics[room], self.said[room])

    def tree_feed(self) -> TreeFeed:
        """Call this to make the tree's feed."""
        told = patched_teller(self.timeline)
        return TreeFeed(self._tree, self._renderer, self.tree_readers, told)

    def timeline_feed(self) -> TimelineFeed:
        """Call this to make the feed of what visitors' own requests have caused."""
        viewers, now = self.timeline_viewers, self._clock.now
        return TimelineFeed(self.timeline, self._renderer, viewers, now)

    def timeline_collector(self) -> TimelineCollector:
        """Call this to make what hears of posts and of actors that ended, for the timeline."""
        return TimelineCollector(
            self.timeline,
            lambda room: len(self.room_readers[room]),
            self._directory.maybe_node,
            SANDBOXES_PATH,
            self.sandboxes.cause_of,
        )

    def overview_feed(self) -> OverviewFeed:
        """Call this to make the feed of the figures that operators see."""
        return OverviewFeed(self.overview, self._renderer, self.overview_readers)

    def failures_feed(self) -> FailuresFeed:
        """Call this to make the feed of the lab's page about failures."""
        return FailuresFeed(self.failures, self.sandboxes, self._renderer, self.failures_readers)

    def proof_feed(self) -> ProofFeed:
        """Call this to make the feed of the home page's figures."""
        return ProofFeed(self._proof, self._renderer, self.proof_readers)

    def moderation_feed(self) -> ModerationFeed:
        """Call this to make the feed of the moderators' queue."""
        return ModerationFeed(
            self._store.chat_log, self._renderer, self.queue_readers, self.badge_readers
        )

    def stage_feed(self) -> StageFeed:
        """Call this to make the feed of the visitors' sandboxes."""
        told = story_teller(self.timeline)
        tell = self._tree_topic.tell
        return StageFeed(self.sandboxes, self._stage, self._renderer, told, tell)

    def panels_feed(self) -> PanelsFeed:
        """Call this to make the feed of what visitors have open."""
        return PanelsFeed(
            OpenParts(
                self.sandboxes,
                self._connections,
                self.open_now,
                self._store.accounts,
                self._renderer,
                self._clock.now,
                self.checkouts,
                self._store.mail_states,
            )
        )

    def sandboxes_supervisor(self) -> AnyActor:
        """Call this to make what stands above the visitors' sandboxes."""
        return sandboxes_supervisor(self.sandboxes.props_of)

    def recorder(self) -> Recorder:
        """Call this to make what stores the visitors' actions."""
        return Recorder(self.ledger, self._store.events, self.timeline)

    async def hear(self, received: Received) -> None:
        """Call this with what other nodes have published, of the topics of `HEARD`."""
        await self._survivals.hear(received)

    def survivals(self) -> SurvivalsActor:
        """Call this to make what stores which crashes were survived."""
        return SurvivalsActor(self._survivals, self._store.events)

    @property
    def has_letters(self) -> bool:
        """Whether operators look at dead letters here."""
        return self.retries is not None

    def retries_actor(self) -> RetriesActor:
        """Call this to make what hands dead letters back that an operator wants tried again."""
        assert self.retries is not None, "there is a desk for them"
        return RetriesActor(self.retries)

    def keeper(self) -> Keeper:
        """Call this to make what starts, heals and ends the sandboxes."""
        directory = self._directory
        return Keeper(self.sandboxes, self._lab_switch, directory.sandboxes, directory.wake_stage)

    def session_end_watch(self) -> SessionEndWatch:
        """Call this to make what hears that browser sessions are over."""
        opened = self.open_sessions
        members, ends = self.open_now.members, self._store.session_ends
        roles = OpenRoles(self._store.accounts, members)
        rooms = OpenRooms(self._store.chat_log, members, self.shown.maybe_room)

        async def look_too() -> None:
            await roles.look()
            await rooms.look()

        return SessionEndWatch(ends, opened.all, opened.end, look_too=look_too)

    @property
    def places_watch(self) -> Callable[[], PlacesWatch] | None:
        """What reads the operator's table of addresses; None where there is none."""
        file = self._settings.risk_places
        return None if file is None else partial(PlacesWatch, self.places, file)

    @property
    def breached_watch(self) -> Callable[[], BreachedWatch] | None:
        """What reads the operator's list of mailboxes that leaked; None where there is none."""
        file = self._settings.risk_breached
        return None if file is None else partial(BreachedWatch, self.breached, file)

    def sign_in_sweeper(self) -> SignInSweeper:
        """Call this to make what ends sign-ins by their age."""
        return SignInSweeper(self._store.accounts, float(self._settings.session_cleanup_interval_s))

    # -- the application -----------------------------------------------------------------------

    def compose(self, system: System, port: int) -> Served:
        """Call this to get the application that serves on `port`, with its drain."""
        # A server that is restarted drained its streams before; this one takes new ones.
        self.streams.is_draining = False
        endpoint, listening = self._endpoints(system)
        self.sockets = endpoint
        self.open_sessions.attach(endpoint)
        pages = ErrorPages(self._renderer, self._version, CsrfTokens(self._ring), self._optional)
        request_log = RequestLog(self._settings.log_format)
        edge = replace(
            edge_of(self._settings, self._ring, port, stream_paths=[paths.EVENTS]),
            error_page=pages.render,
            has_ended=self.open_sessions.has_ended,
            tell_span=self.traces.ends(
                span_teller(
                    self.timeline, self.figures.heard(watched(self.alerts, request_log.tell))
                )
            ),
            tell_begin=self.traces.begins(begin_teller(self.timeline)),
        )
        app = WebApp(
            __name__,
            edge,
            error_table(),
            sockets={paths.SOCKET: endpoint},
            on_refused=self._refused(),
            ready_answer=ready_answers(self._static, self._version, robots=ROBOTS),
            identify=self.identity,
        )
        self._register_routes(app, listening)
        keep_access(app, AccountPages(self._services_of(app), self.accounts).ask_again)
        keep_forms(app)
        return served(
            app,
            self._settings,
            port,
            streams=self.streams,
            sockets=endpoint,
            on_stalled=partial(self.figures.tallies.add, "streams_cut_total"),
            under_way=self._directory.under_way,
        )

    def _endpoints(
        self, system: System
    ) -> tuple[SocketEndpoint[SocketGuest], EventStreams[SocketGuest]]:
        """Make what programs connect to: sockets, and streams of what is told on them."""
        topics = system.topics
        hub: Hub[object, Heard] = Hub(
            self._told,
            subscribe=topics.subscribe,
            unsubscribe=topics.unsubscribe,
            history=HistoryLimits(),
            stored={topic_of(room): said for room, said in self.said.items()},
        )
        settings = EndpointSettings(
            commands=CommandTable(
                [PostMessage], events=[MessagePosted, MessageWithdrawn, PostStored, TreeChanged]
            ),
            service=ChatService(
                self._directory.session,
                self.open_sessions.how_closed,
                rooms=self.rooms,
                epoch=self._room_epoch,
                hears=self._tree_topic.may_hear,
            ),
            hub=hub,
            aliases={"default": topic_of(LOBBY)},
            memory=self._commands,
        )
        caller_of = partial(socket_guest, self._tickets.take, self.identity)
        sockets = SocketEndpoint(
            settings,
            caller_of=caller_of,
            start=self._directory.start_socket,
            caps=SocketCaps(per_address=self._settings.sockets_per_address_max),
            gone=None if self.sockets is None else self.sockets.gone,
        )
        listening = EventStreams(
            settings, sockets, caller_of=caller_of, start=self._directory.start_event_stream
        )
        return sockets, listening

    def _refused(self) -> Callable[[RequestState, ErrorRow], None]:
        tell_tab = RefusalTeller(self.streams)

        def refused(state: RequestState, row: ErrorRow) -> None:
            # SITE-155: a probe that comes behind a 503 must not be given a report of before it.
            if row.kind == Answer.UNAVAILABLE.value.kind:
                self.health.doubt()
            tell_tab(state, row)

        return refused

    def _lab_services(self, chat: ChatServices) -> LabServices:
        return LabServices(
            chat,
            self._tree,
            self.tree_readers,
            StageServices(
                self.sandboxes,
                self._stage,
                self._lab_switch,
                self._lab_quota,
                self._decided,
                self.ledger,
                LabQuota(trio.current_time),
                self._looks_at,
                self._directory.wake_stage,
                self._sagas_of,
                self._directory.nodes,
            ),
            is_loopback(self._settings.host) and not self._settings.is_https,
            self._has_offered,
            self.timeline_viewers,
            self._directory.wake_panels,
            self.demos.counters,
            self._stills,
        )

    def _register_routes(self, app: WebApp, listening: EventStreams[SocketGuest]) -> None:
        directory, services = self._directory, self._services_of(app)
        site = self._site_services()
        posts_max = self._settings.chat_posts_per_author_max
        chat = ChatServices(self.rooms, directory.newest, self.shown, posts_max=posts_max)
        lab = self._lab_services(chat)
        moderation = ModerationServices(
            self._store.chat_log, self.rooms, self.queue_readers, self.badge_readers
        )
        pages = {
            **_streamed_pages(services, site, lab, moderation),
            PAGE_OVERVIEW: OverviewStreams(self.overview_readers),
            PAGE_FAILURES: FailuresStreams(self.failures_readers),
        }
        app.register_blueprint(overview_routes(services, self.overview))
        app.register_blueprint(site_routes(services, site))
        app.register_blueprint(probe_routes(self.health))
        metrics = self.figures.metrics
        app.register_blueprint(metrics_routes(metrics, self._settings.metrics_token))
        app.register_blueprint(event_routes(services, pages, listening.open, self._fill_frame))
        app.register_blueprint(work_routes(services, lab, self._mechanisms))
        app.register_blueprint(document_routes(services, self._documents))
        app.register_blueprint(ticket_routes(self._tickets))
        app.register_blueprint(report_routes(self._policy_reports))
        app.register_blueprint(chat_routes(services, chat, lab_again(services, lab)))
        app.register_blueprint(moderation_routes(services, moderation))
        self._register_accounts(app, services)
        app.register_blueprint(lab_routes(services, lab))
        app.register_blueprint(failure_routes(services, self.failures, lab.stage))
        app.register_blueprint(demo_routes(services, self._demo_services()))
        self._register_panels(app, services, lab.stage)
        listed = listing_of(services, self.traces)
        timeline = TimelineServices(self.timeline, self.timeline_viewers, self._clock.now, listed)
        app.register_blueprint(timeline_routes(services, timeline))
        app.register_blueprint(trace_routes(services, self.traces))

    def _register_accounts(self, app: WebApp, services: Services) -> None:
        is_page = partial(_is_page, app)
        # The address of the newest application, for what mails lead to.
        self.accounts = replace(self.accounts, origin=app.edge.own_origin)
        app.register_blueprint(disavow_routes(services, self.accounts))
        self._register_mail(app, services)
        app.register_blueprint(allow_routes(services, self.accounts))
        app.register_blueprint(device_routes(services, self.accounts))
        app.register_blueprint(address_routes(services, self.accounts))
        app.register_blueprint(recovery_routes(services, self.accounts))
        app.register_blueprint(operating_routes(services, self.accounts))
        app.register_blueprint(outside_routes(services, self.outside, self._store.audit))
        if self.retries is not None:
            app.register_blueprint(letter_routes(services, self.retries.desk, self.retries))
        app.register_blueprint(account_routes(services, self.accounts, is_page))
        app.register_blueprint(own_account_routes(services, self.accounts, is_page))
        app.register_blueprint(factor_routes(services, self.accounts, is_page))
        app.register_blueprint(session_api_routes(self.accounts))
        app.register_blueprint(token_routes(services, self.accounts))
        links = LinkServices(
            self.accounts,
            self._directory.link_flow,
            app.edge.own_origin,
            FlowCookie(is_https=self._settings.is_https),
            self._settings.magic_link_bind_flow is MagicLinkFlow.ON,
        )
        app.register_blueprint(link_routes(services, links, is_page))
        app.register_blueprint(link_api_routes(links))
        self._register_passkeys(app, services, is_page)
        self.providers = self._provider_services(links)
        app.register_blueprint(provider_routes(services, self.providers, is_page))
        app.register_blueprint(leaving_routes(services, self.providers))

    def _register_mail(self, app: WebApp, services: Services) -> None:
        settings, now = self._settings, self._clock.now
        app.register_blueprint(preview_routes(services, now, is_desk=settings.is_desk))
        states, limiter = self._store.mail_states, self._store.limiter
        keys = HookKeys(
            settings.mailgun_hook_key,
            settings.sendgrid_hook_key,
            settings.postmark_hook_login,
            settings.ses_topic,
        )
        hooks = () if states is None else hooks_of(keys)
        refused, fetches = self._refused_reports, self._certificate_fetches
        sns = self.outside.maybe(SNS)
        fetch = None if sns is None else fetching(sns)
        mine = BounceServices(hooks, states, limiter, now, refused, fetches, fetch)
        app.register_blueprint(bounce_routes(mine))

    def _register_passkeys(self, app: WebApp, services: Services, is_page: IsPage) -> None:
        settings = self._settings
        origins = settings.passkey_origins(app.edge.own_origin)
        mine = PasskeyServices(
            self.accounts,
            self._store.passkeys,
            self._directory.passkey_flow,
            Party(settings.passkey_domain or "", origins),
            self._ring.key("ids of passkeys").sign,
            settings.webauthn_roots is not None,
            self._counter_fell,
        )
        app.register_blueprint(passkey_routes(services, mine, is_page))
        app.register_blueprint(passkey_api_routes(mine))
        app.register_blueprint(step_up_routes(mine))
        app.register_blueprint(second_api_routes(mine))

    def _counter_fell(self) -> None:
        self.alerts.note(Alert.COUNTERS_FELL)
        self.figures.tallies.add("passkey_counters_fell_total")

    def passkey_flows(self) -> AnyActor:
        """Call this to make what stands above the challenges for passkeys."""
        verifier = WebauthnVerifier(read_roots(self._settings.webauthn_roots))
        env = PasskeyEnvironment(self._store.passkeys, verifier)
        flags = DynamicFlags(key="flow_id", passivate_after=FLOW_IDLE_S, max_children=FLOWS_MAX)
        return Dynamic(flags, ChildSpec("flow", partial(PasskeyFlow, env=env), restart="temporary"))

    def _provider_services(self, links: LinkServices) -> ProviderServices:
        asked = asked_providers(
            self._settings.providers, links.origin, self._clock.now, self.outside
        )
        return ProviderServices(
            self.accounts,
            self._store.identities,
            self._directory.provider_flow,
            links.cookie,
            asked,
            links if self.accounts.methods.has(Method.MAGIC_LINK) else None,
        )

    @property
    def has_providers(self) -> bool:
        """Call this for whether anybody signs in by a provider here."""
        return bool(self.accounts.methods.offers.names)

    def token_renewer(self) -> AnyActor:
        """Call this to make what renews the tokens of providers."""
        names = self.accounts.methods.offers.names
        return TokenRenewer(self._store.identities, lambda: names, self._maybe_provider)

    @property
    def has_recoveries(self) -> bool:
        """Call this for whether an account can be recovered here: where links are sent."""
        return self.accounts.methods.has(Method.MAGIC_LINK)

    def recovery_teller(self) -> AnyActor:
        """Call this to make what tells that recoveries are ready."""

        def mails(recovery: Recovery, known: Known) -> Sequence[OutboxMessage]:
            return tell_ready(self.accounts, recovery, known)

        return RecoveryTeller(self._store.recoveries, mails, self.accounts.mails.wake)

    def link_flows(self) -> AnyActor:
        """Call this to make what stands above the flows of links."""
        store = self._store
        env = link_environment(store.links, store.limiter, self._clock.now, store.mails)
        flags = DynamicFlags(key="flow_id", passivate_after=FLOW_IDLE_S, max_children=FLOWS_MAX)
        return Dynamic(flags, ChildSpec("flow", partial(LinkFlow, env=env), restart="temporary"))

    def _maybe_provider(self, name: str) -> AskedProvider | None:
        return None if self.providers is None else self.providers.asked.get(name)

    def provider_flows(self) -> AnyActor:
        """Call this to make what stands above the flows at providers."""
        env = FlowEnvironment(self._store.identities, self._maybe_provider)
        flags = DynamicFlags(key="flow_id", passivate_after=FLOW_IDLE_S, max_children=FLOWS_MAX)
        return Dynamic(
            flags, ChildSpec("flow", partial(ProviderFlow, env=env), restart="temporary")
        )

    def _services_of(self, app: WebApp) -> Services:
        return Services(
            self._version,
            self._directory.session,
            self.streams,
            self._renderer,
            app.csrf,
            lambda: self.badge_readers.count,
            self._settings.public_origin or "",
            self._optional,
            self.timeline,
        )

    def _demo_services(self) -> DemoServices:
        quota = Quota(
            trio.current_time,
            "demos",
            per_session_max=ASKED_PER_SESSION_MAX,
            per_address_max=ASKED_PER_ADDRESS_MAX,
            period_s=ASKED_PERIOD_S,
        )
        panels = PanelParts(self._store.accounts, self._store.chat_log, self._clock.now)
        directory = self._directory
        counters = self.demos.counters
        return DemoServices(
            counters,
            panels,
            directory.counter,
            directory.desk,
            directory.maybe_desk,
            quota,
            self._decided,
        )

    def _site_services(self) -> SiteServices:
        return SiteServices(
            self._proof,
            self.proof_readers,
            HomeStage(self._stage.still, self.sandboxes.join, self.sandboxes.leave),
            doorways() if self._documents is not None else (),
        )

    def _register_panels(self, app: WebApp, services: Services, stage: StageServices) -> None:
        app.register_blueprint(burst_routes(self._buckets))
        app.register_blueprint(drop_routes(services, stage, self._connections))
        if self.checkouts is not None:
            app.register_blueprint(checkout_routes(services, stage, self.checkouts))

    def _fill_frame(self, stream: Stream) -> None:
        self.open_now.opened(stream, current_request_state().signed_in)
        if viewer_of(current_request_state()).is_moderator:
            self.badge_readers.watch(stream)

    async def _sagas_of(self, session: UUID) -> Sequence[Mapping[str, object]]:
        return [] if self.checkouts is None else await self.checkouts.facts(session)

    def _looks_at(self, stream: Stream, panel: str) -> None:
        # LAB-1: a panel that nobody sees is sent nothing.
        if panel == SITE:
            self.tree_readers.join(stream)
        else:
            self.tree_readers.leave(stream)
        self.shown.watch(stream, is_shown=panel == CHAT)
        viewer = self.timeline_viewers.maybe_viewer(stream.key)
        if viewer is not None:
            self.timeline_viewers.set(viewer, is_shown=panel == OPERATIONS)
        # It looks a moment later, when the stage knows it.
        self._directory.wake_panels()

    def _make_health(self, of_store: Sequence[Component], directory: Directory) -> Health:
        def system() -> System:
            return directory.system

        components = [
            *of_store,
            supervision_component(system),
            tree_component(system, lambda: map(room_name, ROOM_NAMES)),
            streams_component(lambda: self.streams, system),
        ]
        return Health(components, self._clock.now, lambda: self.is_draining)

    def health_actor(self) -> HealthActor:
        """Call this to make what runs the checks."""
        return HealthActor(self.health)

    def control_commands(self) -> dict[str, Command]:
        """Call this for what operators can ask this process by its socket."""
        directory = self._directory
        tree = TreeCommands(lambda: directory.system, CROWDS)
        diagnosis = Diagnosis(self._settings, tree, self.figures.metrics, RECENT)
        more = {"diagnose": diagnosis.tell, "top": TopCommand(self.overview).tell}
        return live_commands(tree, BreakerCommands(self.outside), more)

    def begin_drain(self) -> None:
        """Call this at the first signal: from now on the site is not ready."""
        self.is_draining = True

    def close_streams(self) -> None:
        """Call this when streams lost their actors: their browsers open others."""
        for stream in self.streams.all():
            stream.close("its supervisor was restarted")

    async def _room_epoch(self, room: RoomName) -> str | None:
        # Asked behind a post that is stored, so the store is there and the topic soon as well.
        with trio.move_on_after(EPOCH_S_MAX):
            await self.said[room].begun.wait()
        return self.said[room].epoch or None

    def _delivered(self) -> int:
        return sum(readers.delivered for readers in self.room_readers.values())

    def _all_delivered(self) -> int:
        total = self._survivals.total()
        return self._delivered() if total is None else total.delivered

    def _lasted(self) -> LastedView | None:
        total = self._survivals.total()
        return None if total is None else LastedView(total.rooms, total.others, total.lost)

    # -- small duties ----------------------------------------------------------------------

    async def _start_stream(self, stream: Stream) -> None:
        await self._directory.start_stream(stream, self.shown.want_window)


def _streamed_pages(
    services: Services, site: SiteServices, lab: LabServices, moderation: ModerationServices
) -> dict[str, StreamedPage]:
    return {
        PAGE_HOME: HomeStreams(site),
        PAGE_LAB: LabStreams(services, lab),
        PAGE_WORK: WorkStreams(services, lab),
        PAGE_MODERATION: ModerationStreams(services, moderation),
    }


def _timeline(directory: Directory) -> tuple[Timeline, Viewers]:
    timeline, viewers = Timeline(trio.current_time), Viewers(waker(directory.timeline_feed))
    timeline.on_change = viewers.changed
    return timeline, viewers


def _identity_of(store: Store, cookie: SignInCookie) -> tuple[Alerts, Identity]:
    alerts = Alerts(trio.current_time)
    away, forged = Alert.SIGN_INS_UNKNOWN, Alert.FORGED_TOKENS
    tell_away, tell_forged = partial(alerts.note, away), partial(alerts.note, forged)
    return alerts, Identity(store.accounts, store.tokens, cookie, tell_away, tell_forged)


def account_services(
    settings: Settings,
    store: Store,
    ids: Ids,
    now: Callable[[], datetime],
    directory: Directory,
    ring: KeyRing,
    places: Places | None = None,
    breached: Breached | None = None,
) -> AccountServices:
    """Call this for what accounts need, with passwords hashed as the settings say.

    A key of the ring signs what forms hand on through the browser.
    """
    passwords = Passwords(
        Cost(settings.password_passes, settings.password_memory_kib),
        threads=settings.password_threads,
        waiting_max=settings.passwords_waiting_max,
    )
    cookie = SignInCookie(is_https=settings.is_https)
    is_there = {
        Method.MAGIC_LINK: store.mails.is_on,
        Method.PASSKEY: settings.passkey_domain is not None,
        Method.OAUTH: bool(settings.providers),
    }
    methods = methods_of(settings.sign_in_methods, is_there, settings.passkey_domain or "")
    providers = settings.providers if methods.has(Method.OAUTH) else ()
    desk = _risk_desk(settings, ring, places, breached)
    return AccountServices(
        store.accounts,
        store.audit,
        store.limiter,
        store.holdings,
        passwords,
        cookie,
        ids,
        directory.tell_forgotten,
        store.mails,
        now,
        store.factors,
        Tickets(ring.key("tickets"), now),
        store.passkeys,
        store.disavowals,
        store.addresses,
        store.devices,
        store.logins,
        store.tokens,
        desk,
        store.recoveries,
        code_used,
        recovery_stopped,
        methods=replace(methods, offers=ProviderOffers(providers, store.identities)),
    )


def _risk_desk(
    settings: Settings, ring: KeyRing, places: Places | None, breached: Breached | None
) -> RiskDesk:
    collects = settings.fingerprints is Fingerprints.ON
    return RiskDesk(
        DeviceCookie(VisitorSigner(ring, "device cookie"), is_https=settings.is_https),
        ring.key("networks of sign-ins").sign,
        settings.risk,
        WeighedRisk(settings.risk_rules),
        places or Places(),
        breached or Breached(),
        ring.key("fingerprints of devices").sign if collects else None,
    )


def _is_page(app: WebApp, path: str) -> bool:
    return app.url_map.bind("").test(path, method="GET")
