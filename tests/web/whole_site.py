"""The whole site in this process: the real tree, server and routes, on the store in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TypeVar

import trio

from actors.chat import LOBBY, ROOM_NAMES, ChatEnvironment
from actors.runtime import Secret, System
from actors.runtime.telling.spans import SpanRead
from actors.sagas import SagaIndex
from storage.memory import (
    MemoryAccounts,
    MemoryAddresses,
    MemoryApiTokens,
    MemoryAudit,
    MemoryChatLog,
    MemoryDeadLetters,
    MemoryDevices,
    MemoryDisavowals,
    MemoryEventStore,
    MemoryFactors,
    MemoryHoldings,
    MemoryIdentities,
    MemoryLogins,
    MemoryMailStates,
    MemoryOutbox,
    MemoryPasskeys,
    MemoryProjections,
    MemoryRateLimiter,
    MemoryRecoveries,
    MemorySessionEnds,
    MemorySignInLinks,
    MemorySocketTickets,
    MemoryTimers,
)
from supervision import open_system
from tests.journeys.visitor import Visitor
from tests.web.views.samples import static
from web.accounts.hashing import Passwords
from web.documentation import Documents, maybe_documents
from web.lab.demos.checkout.visitors import CheckoutPorts
from web.mail.senders.port import Sender
from web.observability.health import Component, Finding, healthy, unhealthy
from web.observability.operating.control.serving import ControlServer
from web.observability.operating.letters.handing import LetterDesk
from web.realtime import StreamCaps
from web.server import DrainResult, Server, WebApp
from web.settings import Settings
from web.wiring.composition import Secrets, Store, Web
from web.wiring.directory import Directory
from web.wiring.environment import SystemClock, SystemIds
from web.wiring.frame.mailing import DESK_ADDRESS, SiteMail
from web.wiring.site_tree import Site, SiteParts
from web.wiring.stopping import Served, ServingActor

R = TypeVar("R")

MANY = 10**6


@dataclass
class WholeSite:
    """A running site and what is inside of it."""

    site: Site
    web: Web
    directory: Directory
    log: MemoryChatLog
    ends: MemorySessionEnds
    accounts: MemoryAccounts
    events: MemoryEventStore
    mail_states: MemoryMailStates
    apps: list[WebApp] = field(default_factory=list)
    servers: list[Server] = field(default_factory=list)
    drains: list[DrainResult] = field(default_factory=list)
    port: int = 0
    is_store_up: bool = True

    @property
    def system(self) -> System:
        return self.directory.system

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def passwords(self) -> Passwords:
        return self.web.accounts.passwords

    def spans(self, name: str) -> list[SpanRead]:
        """Those of a name that were told in the last seconds."""
        spans = self.web.traces.spans
        assert spans is not None, "this site records"
        return [one for one in map(spans.read, spans.ring) if one.name == name]

    def visitor(self) -> Visitor:
        return Visitor(self.url)

    def hold_limits(self) -> None:
        """Stop the store's clock: what is limited stays so, however slow the machine."""
        database = self.accounts.database
        moment = database.now()
        database.now = lambda: moment

    def compose(self, system: System, port: int) -> Served:
        served = self.web.compose(system, port)
        self.apps.append(served.app)
        return served

    def started(self, server: Server) -> None:
        self.port = server.port
        self.servers.append(server)

    async def check_store(self) -> Finding:
        return healthy() if self.is_store_up else unhealthy("the database does not answer")


@cache
def the_documents() -> Documents | None:
    """Call this for the documents, which all sites of a process share."""
    return maybe_documents(Path(__file__).parents[2] / "docs", "As it is.")


async def in_thread(work: Callable[[], R]) -> R:
    """Call this to use a visitor, who blocks, beside the site."""
    return await trio.to_thread.run_sync(work)


@asynccontextmanager
async def open_whole_site(
    *,
    caps: StreamCaps | None = None,
    posts_max: int = MANY,
    log: MemoryChatLog | None = None,
    settings: Settings | None = None,
    has_documents: bool = True,
    sender: Sender | None = None,
    control_in: Path | None = None,
) -> AsyncIterator[WholeSite]:
    """Open the site on a free port of this machine; mail leaves it by `sender`, if at all.

    Commands of operators can ask it by its socket in the folder `control_in`.
    """
    clock, directory = SystemClock(), Directory()
    store = log or MemoryChatLog()
    await store.ensure_rooms(ROOM_NAMES)
    ends = MemorySessionEnds(store.database)
    accounts, events = MemoryAccounts(store.database), MemoryEventStore(store.database)
    kit: list[WholeSite] = []
    mail_states = MemoryMailStates(store.database)
    mail = SiteMail(
        sender,
        DESK_ADDRESS,
        MemoryOutbox(store.database),
        mail_states,
        MemoryDeadLetters(store.database),
        directory.wake_mail,
    )

    async def check_store() -> Finding:
        return await kit[0].check_store()

    settings = settings or Settings(port=0, overload_late_ms=60_000, overload_after_ms=60_000)
    web = Web(
        replace(settings, chat_posts_per_author_max=posts_max),
        Secrets(Secret(b"s" * 64), None),
        clock,
        static(),
        directory=directory,
        store_health=[Component("event_store", check_store)],
        store=Store(
            chat_log=store,
            session_ends=ends,
            socket_tickets=MemorySocketTickets(store.database),
            accounts=accounts,
            audit=MemoryAudit(store.database),
            limiter=MemoryRateLimiter(store.database),
            holdings=MemoryHoldings(store),
            factors=MemoryFactors(store.database),
            events=events,
            links=MemorySignInLinks(store.database),
            passkeys=MemoryPasskeys(store.database),
            identities=MemoryIdentities(store.database),
            disavowals=MemoryDisavowals(store.database),
            addresses=MemoryAddresses(store.database),
            devices=MemoryDevices(store.database),
            logins=MemoryLogins(store.database),
            recoveries=MemoryRecoveries(store.database),
            tokens=MemoryApiTokens(store.database),
            mails=mail.mails,
            mail_states=mail.states,
            letters=LetterDesk(
                MemoryDeadLetters(store.database), MemoryProjections(store.database)
            ),
            checkouts=CheckoutPorts(
                MemoryEventStore(store.database, inline=[SagaIndex()]),
                MemoryOutbox(store.database),
                MemoryTimers(store.database),
                MemoryDeadLetters(store.database),
                MemoryProjections(store.database),
            ),
        ),
        ids=SystemIds(),
        stream_caps=caps,
        documents=the_documents() if has_documents else None,
    )
    parts = SiteParts(
        directory=directory,
        database=None,
        chat=ChatEnvironment(clock, SystemIds(), store, posts_max, posts_max, directory.newest),
        web=web,
        server=lambda: ServingActor(
            "127.0.0.1",
            lambda: kit[0].port,
            kit[0].compose,
            kit[0].started,
            kit[0].drains.append,
        ),
        server_shutdown_s=7.0,
        ending=web.session_end_watch,
        sweeping=web.sign_in_sweeper,
        mail=mail.make,
        control=None
        if control_in is None
        else lambda: ControlServer(control_in, web.control_commands()),
    )
    # The root's handle is known once it is open; its children start before.
    kit.append(WholeSite(Site(parts), web, directory, store, ends, accounts, events, mail_states))
    async with open_system(Site, parts, name="site") as site:
        kit[0].site = site
        yield kit[0]


LOBBY_ACTOR = f"room-{LOBBY.lower()}"
