"""A site of one's own, wired: its tree, and from a port to a served application."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import trio
from quart import Blueprint, Response

from actors.cluster import Host
from actors.persistence.beside_log.outbox import MAIL_KIND
from actors.runtime import System
from supervision import Backoff, ChildSpec, Flags, Plan, Supervisor
from web.mail.delivering import MailRelay
from web.observability.alerts import watched
from web.observability.health import Health, HealthActor
from web.observability.health.of_guards import outside_component
from web.observability.health.of_tree import supervision_component, tree_component
from web.observability.metrics.serving import metrics_routes
from web.observability.operating.control.diagnosing import Diagnosis
from web.observability.operating.control.live import (
    BreakerCommands,
    TreeCommands,
    live_commands,
)
from web.observability.operating.control.serving import Command, ControlServer
from web.observability.operating.overview.reading import OverviewSource
from web.observability.operating.overview.telling import TopCommand
from web.observability.operating.recent import RECENT
from web.observability.requests import RequestLog
from web.realtime import (
    CommandMemory,
    EndpointSettings,
    EventEncoding,
    EventStreams,
    Heard,
    HistoryLimits,
    Hub,
    SocketCaps,
    SocketEndpoint,
)
from web.routing import paths
from web.routing.errors import error_table
from web.server import DrainResult, Server, WebApp
from web.site.events import topic_stream
from web.site.pages import program_version
from web.site.policy_reports import PolicyReports, report_routes
from web.wiring.frame.finding import ACTORS, SOCKETS, STREAMS
from web.wiring.frame.own_site import OwnSite, SitePlan
from web.wiring.frame.panels import (
    LIVE,
    PanelFeed,
    PanelsSupervisor,
    Watched,
    feed_name,
    panel_routes,
)
from web.wiring.frame.probes import probe_routes, ready_answers, streams_component
from web.wiring.frame.serving import (
    Sockets,
    database_child,
    edge_of,
    heartbeats_child,
    served,
    server_child,
    sockets_child,
    streams_child,
)
from web.wiring.frame.topics import (
    Speaker,
    Topic,
    TopicService,
    TopicTells,
    caller_of,
    table_of,
)
from web.wiring.stopping import Served, ServingActor

# The plan's actors that gave up together: most of what ails them (a table that is not there yet, a
# service that is away) takes longer than their own restarts, and a minute without is an outage.
OWN_BACKOFF = Backoff(first=1.0, max=30.0)
# As our own root: what serves and restarts more than ten times in five seconds does not heal.
ROOT_FLAGS = Flags(intensity=10, period=5.0)

# Whoever wants their pages found, or not, answers this path with words of their own.
_ROBOTS = b"User-agent: *\nDisallow: /live\n"


class Together:
    """All sockets of a site, for its drain."""

    def __init__(self, endpoints: Sequence[Sockets]) -> None:
        self._endpoints = endpoints

    def __len__(self) -> int:
        return sum(map(len, self._endpoints))

    def begin_drain(self) -> None:
        """See `SocketEndpoint.begin_drain`."""
        for one in self._endpoints:
            one.begin_drain()

    async def wait_answered(self) -> None:
        """See `SocketEndpoint.wait_answered`."""
        for one in self._endpoints:
            await one.wait_answered()

    async def close_all(self) -> None:
        """See `SocketEndpoint.close_all`."""
        for one in self._endpoints:
            await one.close_all()


class OwnWeb:
    """Everything between the actors of a plan and the network. Made once; `compose` once a port.

    Raises ValueError for two panels, topics or components of one name, `NotACommandClass` for what
    is none.
    """

    def __init__(self, plan: SitePlan, site: OwnSite) -> None:
        self._plan, self._site = plan, site
        site.watched.clear()
        for panel in plan.panels(site):
            if panel.name in site.watched:
                raise ValueError(f"two panels are called {panel.name!r}")
            find = partial(site.ref, feed_name(panel.name), PanelFeed)
            site.watched[panel.name] = Watched(panel, find)
        self._topics: Sequence[Topic] = tuple(plan.topics(site))
        names = [topic.name for topic in self._topics]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two topics are called {twice!r}")
        # What clients are told again who come back after the server was restarted alone.
        self._commands = CommandMemory()
        # Read once here, so that what is no command is told before anything is opened.
        self._table = table_of(self._topics)
        self._names: list[str] = []
        # Browsers report here what the policy of pages kept them from (SEC-66).
        self._reports = PolicyReports(trio.current_time)
        self.health = self._make_health()

    def own(self) -> Plan:
        """Call this for the plan's own children, and how they are treated."""
        specs = [*self._plan.tree(self._site)]
        self._names = [spec.name for spec in specs if spec.name is not None]
        return Plan(self._plan.flags, specs)

    def listen(self) -> None:
        """Call this when the system is there: panels hear their topics from now on."""
        for shown in self._site.watched.values():
            self._site.system.topics.subscribe(shown.panel.topic, shown)

    def close_streams(self) -> None:
        """Call this when streams lost their actors: their browsers open others."""
        for stream in self._site.streams.all():
            stream.close("its supervisor was restarted")

    def compose(self, system: System, port: int) -> Served:
        """Call this to get the application that serves on `port`, with its drain."""
        site = self._site
        site.port, site.streams.is_draining = port, False
        endpoint, listening = self._endpoints(system)
        own = self._plan.endpoints(site)
        site.sockets = endpoint
        edge = edge_of(
            site.settings,
            site.ring,
            port,
            stream_paths=[LIVE, paths.EVENTS],
            sockets=[*self._plan.sockets, *own],
            programs=self._plan.programs,
        )
        table = error_table()
        self._plan.errors(table)
        app = WebApp(
            __name__,
            replace(
                edge,
                tell_span=site.figures.heard(
                    watched(site.alerts, RequestLog(site.settings.log_format).tell)
                ),
            ),
            table,
            sockets={
                **(dict.fromkeys(self._plan.sockets, endpoint) if self._topics else {}),
                **own,
            },
            identify=self._plan.identify(site),
            ready_answer=ready_answers(
                site.static,
                program_version(),
                robots=_ROBOTS,
                alive=None if self._plan.alive is None else self._plan.alive.encode(),
            ),
        )
        app.register_blueprint(probe_routes(self.health))
        app.register_blueprint(report_routes(self._reports))
        if site.settings.metrics_token is not None:
            # Without one the path is the plan's own.
            app.register_blueprint(
                metrics_routes(site.figures.metrics, site.settings.metrics_token)
            )
        app.register_blueprint(panel_routes(site.streams, site.watched))
        if self._topics:
            app.register_blueprint(_event_routes(listening))
        app.register_blueprint(self._plan.pages(site))
        cut = partial(site.figures.tallies.add, "streams_cut_total")
        sockets = Together([endpoint, *dict.fromkeys(own.values())])
        return served(
            app, site.settings, port, streams=site.streams, sockets=sockets, on_stalled=cut
        )

    def _endpoints(self, system: System) -> tuple[SocketEndpoint[Speaker], EventStreams[Speaker]]:
        """Make what programs connect to: sockets, and streams of what is told on them."""
        hub: Hub[object, Heard] = Hub(
            EventEncoding(TopicTells(self._topics)),
            subscribe=system.topics.subscribe,
            unsubscribe=system.topics.unsubscribe,
            history=HistoryLimits(),
        )
        settings = EndpointSettings(
            commands=self._table,
            service=TopicService(self._topics),
            hub=hub,
            # What a plain connection hears without asking.
            aliases={"default": self._topics[0].name} if self._topics else {},
            memory=self._commands,
        )
        sockets = SocketEndpoint(
            settings,
            caller_of=caller_of,
            start=self._site.start_socket,
            caps=SocketCaps(per_address=self._site.settings.sockets_per_address_max),
        )
        start = self._site.start_event_stream
        return sockets, EventStreams(settings, sockets, caller_of=caller_of, start=start)

    def _make_health(self) -> Health:
        site = self._site

        def system() -> System:
            return site.system

        components = [
            *site.kept.components,
            *(() if site.among is None else site.among.components),
            supervision_component(system),
            tree_component(system, lambda: (ACTORS, *self._names)),
            streams_component(lambda: site.streams, system),
            *([outside_component(site.outside)] if self._plan.outside else ()),
            *(() if site.mail is None else site.mail.components),
            *self._plan.health(site),
        ]
        now = site.environment.clock.now
        return Health(components, now, lambda: site.is_draining or site.streams.is_draining)


def _event_routes(listening: EventStreams[Speaker]) -> Blueprint:
    routes = Blueprint("events", __name__)

    @routes.get(paths.EVENTS)
    async def events() -> Response:
        return await topic_stream(listening.open)

    return routes


def control_commands(site: OwnSite, root: str) -> dict[str, Command]:
    """Call this for what commands can ask, as of our own site."""
    crowds, metrics = {f"{root}/{STREAMS}", f"{root}/{SOCKETS}"}, site.figures.metrics
    tree = TreeCommands(lambda: site.system, crowds)
    overview = OverviewSource(
        lambda: site.system,
        metrics,
        site.outside.stats,
        (lambda: None) if site.among is None else site.among.nodes,
        site.environment.clock.now,
        closed=crowds,
        is_measured=site.settings.has_metrics,
    )
    overview.read_statements = site.kept.read_statements
    diagnosis = Diagnosis(site.settings, tree, metrics, RECENT)
    more = {"diagnose": diagnosis.tell, "top": TopCommand(overview).tell}
    return live_commands(tree, BreakerCommands(site.outside), more)


class OwnActors(Supervisor):
    """What stands above the plan's children: when they crash too often it ends, and nothing else.

    The root starts it again, ever later; until then routes that ask one of them answer 503,
    `/ready` tells of it, and other pages, files and open streams go on.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def plan(self) -> Plan:
        """The plan's children, treated as it says."""
        return self._plan


def _own_mail(host: Host, relay: partial[MailRelay]) -> None:
    """The nodes send mails as one: a singleton, under its shard's lease."""
    host.own(singletons={MAIL_KIND: lambda token: relay(shard=host.member.lease(token))})


class OwnRoot(Supervisor):
    """The root of a site of one's own: the database, the plan's actors, what serves."""

    def __init__(
        self,
        plan: SitePlan,
        site: OwnSite,
        started: Callable[[Server], None],
        drained: Callable[[DrainResult], None],
    ) -> None:
        self._plan, self._site = plan, site
        self._started, self._drained = started, drained

    def plan(self) -> Plan:
        """Storage first, the server last."""
        site = self._site
        site.attach(self.system)
        web = OwnWeb(self._plan, site)
        web.listen()
        specs = [
            ChildSpec(ACTORS, partial(OwnActors, web.own()), name=ACTORS, backoff=OWN_BACKOFF),
            ChildSpec("panels", partial(PanelsSupervisor, site.watched)),
            streams_child(web.close_streams),
            heartbeats_child(site.streams),
            sockets_child(),
            ChildSpec("health", partial(HealthActor, web.health)),
            *site.figures.children(),
            server_child(partial(self._serving, web), site.settings),
        ]
        if site.among is not None:
            specs[1:1] = site.among.living()
        if site.mail is not None and site.mail.make is not None:
            if site.among is None:
                specs.insert(0, ChildSpec(MAIL_KIND, site.mail.make, name=MAIL_KIND))
            else:
                _own_mail(site.among.host, site.mail.make)
        if site.kept.clean is not None:
            specs.insert(-1, ChildSpec("cleaning", site.kept.clean))
        specs[:0] = site.kept.children
        if site.among is not None:
            if self._plan.owned is not None:
                self._plan.owned(site, site.among.host)
            specs[:0] = site.among.reaching()
        if site.kept.drive is not None:
            # With a state folder there is a place for the socket of operators' commands. It is the
            # first: it can be asked what an end waits for.
            commands = control_commands(site, self._plan.name)
            control = partial(ControlServer, site.settings.state_dir, commands)
            specs[:0] = [ChildSpec("control", control), database_child(site.kept.drive)]
        return Plan(ROOT_FLAGS, specs)

    def _serving(self, web: OwnWeb) -> ServingActor:
        site = self._site
        return ServingActor(
            site.settings.host, lambda: site.port, web.compose, self._started, self._drained
        )
