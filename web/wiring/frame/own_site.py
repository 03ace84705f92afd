"""A site of one's own: what its plan says, and what the functions of the plan are handed.

A plan names five functions. Each is handed the running `OwnSite` and gives a list, or routes:

- `tree`: the children of the supervision tree, in start order; give those a `name` that routes ask
- `pages`: a Quart blueprint with the routes of pages and forms
- `panels`: parts of pages that follow a topic, live
- `topics`: what client programs hear and may ask for on `/ws`
- `health`: components of `/ready` beside those that every site has

Beside them stands what the plan's actors call outside, by name (`outside`).

All the rest is there: visitors' signed cookies, origin checks, headers, limits, probes, figures for
who scrapes (`METRICS_PORT`, `METRICS_TOKEN`), what `greenroom tree`, `top`, `breakers` and
`diagnose` ask, static files, a drain. It is made of the same parts as our own site, see
`serving.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol, TypeVar, cast
from uuid import uuid4

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from jinja2 import Environment as Templates
from jinja2 import StrictUndefined, Template
from markupsafe import Markup
from quart import Blueprint, Response

from actors.accounts import Accounts, RateLimiter
from actors.accounts.ways.links import SignInLinks
from actors.accounts.ways.tokens import ApiTokens
from actors.cluster import Cluster, Host
from actors.persistence import (
    DeadLetters,
    DurableTimers,
    EventStore,
    Keyring,
    MailStates,
    Outbox,
    Projection,
    ProjectionStore,
)
from actors.persistence.beside_log.idempotency import Idempotency
from actors.persistence.beside_log.outbox import MAIL_KIND, LookAtOutbox
from actors.persistence.bus import Engine
from actors.persistence.projections.searching import ReadModelSearch, SearchFields
from actors.reducers import Environment
from actors.runtime import Actor, AnyActor, NoProc, Ref, System
from supervision import BREAKERS, ChildSpec, Dependencies, DependencyPolicy, Flags
from web.mail.delivering import MailRelay
from web.mail.sealing import MailSeal
from web.mail.senders.guarded import MAIL, MAIL_POLICY
from web.observability.alerts import Alerts
from web.observability.health import Component
from web.observability.metrics import Collector
from web.observability.metrics.collectors import SocketsLike, of_dependencies
from web.observability.metrics.of_site import SiteMetrics
from web.observability.operating.overview.reading import ReadStatements, no_statements
from web.realtime import StreamCaps, Streams
from web.routing import paths
from web.server import (
    WITH_CAMERA,
    CsrfTokens,
    ErrorTable,
    KeyRing,
    current_request_state,
    gzipped,
    sign_in_of,
)
from web.server.quart_app import Identify, nobody
from web.settings import MailSender, Settings
from web.views import LocalPath, NodesView, StaticTable
from web.views.static import DATASTAR
from web.wiring.environment import SystemClock, SystemIds
from web.wiring.frame.finding import Finder
from web.wiring.frame.mailing import DESK_ADDRESS, SiteMail, maybe_sender
from web.wiring.frame.outside import told
from web.wiring.frame.panels import LIVE, Panel, PanelOf, Shown, Watched, shown_of
from web.wiring.frame.topics import Topic

M = TypeVar("M")
T = TypeVar("T")

# Templates are texts of the program; a page that makes them up as it goes must not fill memory.
TEMPLATES_KEPT = 256

# `web/views/static/connection.js` decides when the stream is opened, given up and opened again, as
# on our own site: by beats, so a dead line is noticed, and for few pages of a browser at once. What
# it knows is shown while the page is not live.
_SCRIPTS = {"connection": "connection.js", "runtime": DATASTAR}
_LIVE = Markup(
    '<script type="module" nonce="{nonce}" src="{connection}"></script>'
    '<script type="module" nonce="{nonce}" src="{runtime}"></script>'
    '<div id="stale" hidden><p>Not live: what stands here is as of <span></span>.</p>'
    '<p id="connection-pill"><span class="pill-word" role="status"></span> '
    '<span class="pill-detail"></span> <button type="button" hidden>try now</button></p></div>'
    '<div id="stream" hidden data-on:greenroom-open__window="@get(\'{path}\', {{filterSignals: '
    "{{include: /^$/}}, openWhenHidden: true, requestCancellation: evt.detail.request, "
    "retry: 'never', retryMaxCount: 0}})\"></div>"
)


@dataclass(frozen=True, slots=True)
class Beside:
    """What else the database of a site's events keeps: what sagas and read models stand on."""

    outbox: Outbox
    timers: DurableTimers
    dead_letters: DeadLetters
    projections: ProjectionStore


@dataclass(frozen=True, slots=True)
class Searching:
    """Read models that are found by words: a runner fills `projections`, `by_words` searches them.

    On a search server with `SEARCH_URL`; else they are those beside the events, and looked through.
    """

    projections: ProjectionStore
    by_words: ReadModelSearch


@dataclass(frozen=True, slots=True)
class Members:
    """Who can sign in on a site of one's own: kept beside its events, as on ours.

    `limiter` counts tries, for all processes; mails lie sealed in the outbox where there is a
    `seal`.
    """

    accounts: Accounts
    links: SignInLinks
    tokens: ApiTokens
    limiter: RateLimiter
    mail_states: MailStates
    seal: MailSeal | None = None


class Among(Protocol):
    """This process among others: what it owns, and the way to all of them.

    `host` is told what may live here, `name` is what people call this node.
    """

    name: str
    host: Host

    def cluster(self) -> Cluster:
        """Call this, once the tree begins to start, for refs to actors wherever they live."""
        ...

    @property
    def components(self) -> Sequence[Component]:
        """Call this for the components of health that a node has."""
        ...

    def reaching(self) -> Sequence[ChildSpec]:
        """Call this for what stands behind the database: the link first, the node last."""
        ...

    def living(self) -> Sequence[ChildSpec]:
        """Call this for what stands above all that this node owns."""
        ...

    def nodes(self) -> NodesView | None:
        """Call this for who serves together; None until this process has looked at the others."""
        ...

    async def hand_over(self) -> None:
        """Call this before a stop: others own what was owned here, while all of it still serves."""
        ...


# The engine of a bus that reaches nobody else.
IN_MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class OwnBus:
    """An event bus as a site of one's own has it; `children` stand in the tree before its users.

    With `is_shared` it reaches other processes; else it is in the memory of this one.
    """

    engine: Engine
    is_shared: bool
    children: Sequence[ChildSpec] = ()


class NothingBeside(Exception):
    """Raised by `OwnSite.beside` when the site was opened with an event store alone.

    Nothing was done. Open it with a `MemoryDatabase`, or with none, for PostgreSQL.
    """

    def __init__(self) -> None:
        super().__init__(
            "the site was opened with an event store alone, so there is no outbox, timer, dead "
            "letter, projection or member beside it; hand open_site a MemoryDatabase"
        )


@dataclass(frozen=True, slots=True)
class Kept:
    """Where a site keeps its events and keys, what drives that store, and whether it is well.

    `components` are those of its health. `beside` is None where only an event store was
    handed in. `drive` makes the actor that stands first in the tree, `clean` the one that removes
    what was kept long enough; None for a store that needs none. `keyring` seals private fields.
    """

    store: EventStore
    idempotency: Idempotency
    components: Sequence[Component]
    beside: Beside | None = None
    keyring: Keyring | None = None
    drive: Callable[[], AnyActor] | None = None
    clean: Callable[[], AnyActor] | None = None
    # What of the store is told with the site's figures.
    collectors: Sequence[Collector] = ()
    read_statements: ReadStatements = no_statements
    members: Members | None = None
    searching: Searching | None = None
    # What drives the servers beside the database; what of them is called, and by whose guards.
    children: Sequence[ChildSpec] = ()
    outside: Mapping[str, DependencyPolicy] = field(default_factory=dict)
    attach: Callable[[Dependencies], None] = lambda outside: None
    # What makes this process a node, with `CLUSTER=on`.
    among: Callable[[Finder], Among] | None = None
    open_bus: Callable[[str], OwnBus] | None = None


class OwnSite(Finder):
    """A running site of one's own.

    `store` is where aggregates keep their events, and `keyring` what seals private fields of them
    (None in memory); `idempotency` and `ring` are what `IdempotencyKeys` and `Pages` of `web.api`
    are made with; `outside` is what the plan says it calls, behind its guards; `environment` has
    the real clock and ids, and `outside`; `system` is the running system, whose `topics` bring
    panels and sockets what happens.
    """

    def __init__(
        self,
        settings: Settings,
        ring: KeyRing,
        static: StaticTable,
        kept: Kept,
        calls: Mapping[str, DependencyPolicy],
        *,
        sends_mail: bool = False,
    ) -> None:
        super().__init__()
        self.settings, self.kept = settings, kept
        self.store, self.keyring = kept.store, kept.keyring
        self.idempotency = kept.idempotency
        self.ring, self.static, self.csrf = ring, static, CsrfTokens(ring)
        if sends_mail and settings.mail_by is MailSender.SMTP:
            calls = {MAIL: MAIL_POLICY, **calls}
        calls = {**kept.outside, **calls}
        self.outside = told(calls, lambda change: self.system.topics.publish(BREAKERS, change))
        kept.attach(self.outside)
        self.environment = Environment(SystemClock(), SystemIds(), outside=self.outside)
        caps = StreamCaps(per_address=settings.streams_per_address_max)
        self.streams = Streams(
            caps=caps, start_actor=lambda stream: self.start_stream(stream, lambda _: None)
        )
        self.mail = self._make_mail() if sends_mail else None
        self.among = None if kept.among is None else kept.among(self)
        self.watched: dict[str, Watched] = {}
        self.port = settings.port
        self.is_draining = False
        # As many as the plan has functions that are made once.
        self._made: dict[Callable[[OwnSite], object], object] = {}
        self.sockets: SocketsLike | None = None
        self.alerts = Alerts(trio.current_time)
        self.figures = SiteMetrics(
            settings,
            lambda: self.system,
            lambda: self.streams,
            lambda: self.sockets,
            self.alerts,
        )
        self.figures.metrics.register(of_dependencies(self.outside.stats))
        for collector in kept.collectors:
            self.figures.metrics.register(collector)
        if self.among is not None:
            self.figures.metrics.labels["node"] = self.among.name
        templates = Templates(autoescape=True, undefined=StrictUndefined)
        self._compiled: Callable[[str], Template] = lru_cache(TEMPLATES_KEPT)(templates.from_string)

    def __repr__(self) -> str:
        return f"<OwnSite {self.url} streams={len(self.streams)}>"

    def attach(self, system: System) -> None:
        """Call this when the tree starts, before any of its actors looks for another."""
        super().attach(system)
        self.figures.begin(system)

    @property
    def beside(self) -> Beside:
        """Call this for outbox, timers, dead letters and projections; raises `NothingBeside`."""
        if self.kept.beside is None:
            raise NothingBeside
        return self.kept.beside

    @property
    def cluster(self) -> Cluster | None:
        """Call this for refs to what the nodes own, wherever it lives; None with `CLUSTER=off`."""
        return None if self.among is None else self.among.cluster()

    @property
    def searching(self) -> Searching:
        """Call this for read models that are found by words; raises `NothingBeside`."""
        if self.kept.searching is None:
            raise NothingBeside
        return self.kept.searching

    def open_bus(self, kind: str = IN_MEMORY) -> OwnBus:
        """Call this once for an event bus: in the `memory` of this process, `postgres` or `kafka`.

        Raises `CannotStart` for one that this store or machine cannot have, and `NothingBeside`.
        """
        if self.kept.open_bus is None:
            raise NothingBeside
        return self.kept.open_bus(kind)

    @property
    def members(self) -> Members:
        """Call this for accounts, links, tokens and limits; raises `NothingBeside`."""
        if self.kept.members is None:
            raise NothingBeside
        return self.kept.members

    def _make_mail(self) -> SiteMail:
        return SiteMail(
            maybe_sender(self.settings, self.outside),
            self.settings.mail_from or DESK_ADDRESS,
            self.beside.outbox,
            self.members.mail_states,
            self.beside.dead_letters,
            self._wake_mail,
            self.members.seal,
        )

    def _wake_mail(self) -> None:
        with suppress(NoProc):
            self._find(MAIL_KIND, MailRelay).tell(LookAtOutbox())

    @property
    def url(self) -> str:
        """Call this for where the site is, once it listens."""
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return self.settings.public_origin or f"http://{host}:{self.port}"

    def ref(self, name: str, kind: type[Actor[M]]) -> Ref[M]:
        """Call this at each use for the actor of a name; raises `NoProc` while it is away.

        A route may let that pass: it is answered 503, as is every `AskError`.
        """
        return self._find(name, kind)

    def once(self, make: Callable[[OwnSite], T]) -> T:
        """Call this for what functions of the plan share: `make(site)`, made once."""
        if make not in self._made:
            self._made[make] = make(self)
        return cast("T", self._made[make])

    def file_url(self, name: str) -> LocalPath:
        """Call this for the address of a file of the plan's folder; raises `UnknownFile`."""
        return self.static.url(name)

    def render(self, template: str, **values: object) -> Markup:
        """Call this to fill a Jinja2 template; values are escaped, unknown names are errors."""
        return Markup(self._compiled(template).render(values))

    async def page(
        self,
        template: str,
        *,
        panels: Collection[str] = (),
        status: int = 200,
        is_compressed: bool = True,
        uses_camera: bool = False,
        **values: object,
    ) -> Response:
        """Call this in a route for a page; raises what panels raise, `KeyError` for unknown ones.

        Beside `values` the template knows `panel.<name>` (each panel as it is now; `name:key` of
        a `PanelOf`), `live` (what keeps them so; put it at the end), `csrf` (a hidden field for
        its forms), `nonce` (for scripts of its own) and `file_url`.

        It is compressed for who takes gzip. Say `is_compressed=False` where the page has a secret
        of yours beside words that a stranger can make it show: its length would tell of it.
        Say `uses_camera=True` where its scripts may ask for the camera; others may not.
        """
        state = current_request_state()
        shown: dict[str, Markup] = {}
        for one in panels:
            named = shown_of(self.watched, one)
            if named is None:
                raise KeyError(one)
            html = await self._shown(named)
            shown[named.name] = shown.get(named.name, Markup()) + html
        token = self.csrf.make(state.visitor.id, sign_in_of(state))
        text = self.render(
            template,
            **values,
            panel=shown,
            live=self._live(panels, state.nonce) if panels else "",
            csrf=Markup('<input type="hidden" name="csrf" value="{}">').format(token),
            nonce=state.nonce,
            file_url=self.file_url,
        )
        # It holds a nonce and a token, so no cache keeps it (SEC-60). Both are others in each
        # answer, so the length of what is compressed tells nothing of them (SEC-32).
        headers, body = {"cache-control": "no-store", "vary": "accept-encoding"}, text.encode()
        if is_compressed and state.takes_gzip:
            body = gzipped(body)
            headers["content-encoding"] = "gzip"
        if uses_camera:
            name, value = WITH_CAMERA
            headers[name.decode()] = value.decode()
        return Response(body, status, headers, content_type="text/html; charset=utf-8")

    async def _shown(self, shown: Shown) -> Markup:
        html = Markup(await self.watched[shown.name].render(shown.key))
        return Markup('<div id="{}">{}</div>').format(shown.element, html)

    def _live(self, panels: Collection[str], nonce: str) -> Markup:
        names = "".join(f"&panel={name}" for name in panels)
        path = f"{LIVE}?tab={uuid4()}{names}"
        scripts = {name: self.static.url(file) for name, file in _SCRIPTS.items()}
        return _LIVE.format(nonce=nonce, path=path, **scripts)


class OwnSockets(Protocol):
    """A WebSocket endpoint of one's own: served, counted, and let go of in a drain."""

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """See `SocketEndpoint.__call__`."""

    def __len__(self) -> int:
        """See `SocketEndpoint.__len__`."""

    def begin_drain(self) -> None:
        """See `SocketEndpoint.begin_drain`."""

    async def wait_answered(self) -> None:
        """See `SocketEndpoint.wait_answered`."""

    async def close_all(self) -> None:
        """See `SocketEndpoint.close_all`."""


def no_children(_: OwnSite) -> Sequence[ChildSpec]:
    """Have no actors of one's own."""
    return ()


def no_pages(_: OwnSite) -> Blueprint:
    """Have no pages."""
    return Blueprint("pages", __name__)


def no_panels(_: OwnSite) -> Sequence[Panel]:
    """Have no live panels."""
    return ()


def no_topics(_: OwnSite) -> Sequence[Topic]:
    """Have no topics, and no `/ws`."""
    return ()


def no_health(_: OwnSite) -> Sequence[Component]:
    """Have no components of health of one's own."""
    return ()


def no_endpoints(_: OwnSite) -> Mapping[str, OwnSockets]:
    """Have no sockets beside those of the topics."""
    return {}


def nobody_signs_in(_: OwnSite) -> Identify:
    """Have guests only."""
    return nobody


def no_errors(_: ErrorTable) -> None:
    """Have no errors of one's own: what routes raise beside ours is answered 500."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePlan:
    """What a site of one's own is made of; see the top of this file.

    `name` is the root of every actor's path and what is said at the start. `inline` are projections
    that are applied in the transaction of each append. `files` is a folder
    whose files are served under `/static/` with their hash in the name. `errors` adds to the table
    which of one's own errors are answered how. `flags` are how the children of `tree` are treated:
    those who crash too often end together, and are started again, ever later; the site stays up.
    `outside` are the names and policies of what its actors call outside of the process.
    `sockets` are the paths of the WebSocket, and `alive` the text of `/health`: for programs that
    know them by other names; without a text it says what `/health/live` does. `programs` are what
    the paths of client programs begin with: they are answered in JSON. `endpoints` are WebSockets
    that speak in words of their own; a path that ends with `/` stands for each that has one more
    segment. `identify` gives what finds out who is signed in, such as an `Identity` of
    `web.accounts` on `site.members`. One that `sends_mail` has `site.mail`, whose `mails` write
    them; they leave as the settings say. `owned` tells the host what of the program one node at a
    time has: a plan without cannot be run with `CLUSTER=on`, where each node would have all of it.
    """

    name: str = "site"
    tree: Callable[[OwnSite], Sequence[ChildSpec]] = no_children
    pages: Callable[[OwnSite], Blueprint] = no_pages
    panels: Callable[[OwnSite], Sequence[Panel | PanelOf]] = no_panels
    topics: Callable[[OwnSite], Sequence[Topic]] = no_topics
    health: Callable[[OwnSite], Sequence[Component]] = no_health
    errors: Callable[[ErrorTable], None] = no_errors
    inline: Sequence[Projection] = ()
    outside: Mapping[str, DependencyPolicy] = field(default_factory=dict)
    files: Path | None = None
    sockets: Sequence[str] = (paths.SOCKET,)
    alive: str | None = "OK"
    programs: Sequence[str] = ("/api/",)
    endpoints: Callable[[OwnSite], Mapping[str, OwnSockets]] = no_endpoints
    identify: Callable[[OwnSite], Identify] = nobody_signs_in
    sends_mail: bool = False
    owned: Callable[[OwnSite, Host], None] | None = None
    # What of the read models in `site.searching` is searched, by the projection's name.
    searched: Mapping[str, SearchFields] = field(default_factory=dict)
    # As our own root: more than ten restarts in five seconds is nothing that heals at once.
    flags: Flags = field(default_factory=lambda: Flags(intensity=10, period=5.0))
