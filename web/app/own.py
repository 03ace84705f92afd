"""Opens a site of one's own: in a test or another program, or as the process itself."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from functools import partial

import trio

from actors.cluster import LEAVE_S_MAX
from actors.persistence import EventStore
from actors.runtime import Secret
from storage.bus import BusTables, MemoryBus, PostgresBus
from storage.memory import (
    MemoryAccounts,
    MemoryApiTokens,
    MemoryDatabase,
    MemoryDeadLetters,
    MemoryEventStore,
    MemoryIdempotency,
    MemoryMailStates,
    MemoryOutbox,
    MemoryProjections,
    MemoryRateLimiter,
    MemorySignInLinks,
    MemoryTimers,
)
from storage.postgres import (
    Database,
    DatabaseActor,
    PostgresAccounts,
    PostgresApiTokens,
    PostgresDeadLetters,
    PostgresEventStore,
    PostgresIdempotency,
    PostgresMailStates,
    PostgresOutbox,
    PostgresProjections,
    PostgresRateLimiter,
    PostgresSignInLinks,
    PostgresTimers,
)
from supervision import ChildSpec, StartFailed, open_system
from web.app.bus import BusRefused, Door, make_bus
from web.app.health import (
    memory_components,
    slow_statements,
    store_collectors,
    store_components,
)
from web.app.hosting import among_nodes
from web.app.read_models import open_read_models
from web.app.running import (
    CannotStart,
    check_port,
    load_static,
    make_cleaner,
    make_keyring,
    open_server,
    prepare_database,
    prepare_link,
    prepare_state_dir,
    read_secret,
    site_database,
    spare_what_stays,
    start_problem,
)
from web.app.serving import run_program
from web.mail.sealing import MailSeal
from web.observability.health.of_store import store_component
from web.observability.metrics.collectors import of_tallies
from web.server import KeyRing
from web.settings import SECRET_BYTES_MIN, Bus, Cluster, Settings
from web.views import ViewError
from web.wiring.environment import SystemClock
from web.wiring.frame.composing import OwnRoot
from web.wiring.frame.own_site import IN_MEMORY, Beside, Kept, Members, OwnBus, OwnSite, SitePlan
from web.wiring.leaving import WayOut
from web.wiring.secret import load_private_key
from web.wiring.stopping import Stopping

# Of a bus in memory; who is further behind reads the log.
BUS_KEPT = 2000


@asynccontextmanager
async def open_site(
    plan: SitePlan,
    settings: Settings | None = None,
    *,
    store: EventStore | MemoryDatabase | None = None,
) -> AsyncIterator[OwnSite]:
    """Call this to run a site as long as the block: `async with open_site(plan) as site`.

    It listens when the block begins; leaving the block is the drain, in the order of every stop.
    Without a `store` events are kept as the `settings` say: in PostgreSQL of one's own, or in the
    embedded one in `STATE_DIR`. With one nothing is written to disk: idempotency keys are kept in
    memory, and sessions end with the site unless `session_secret` is set. A `MemoryDatabase` has
    all that PostgreSQL has; with an event store alone there is no `site.beside`, and `plan.inline`
    is the store's own matter. `PORT` 0 takes any free port; `site.url` tells it.

    Raises `CannotStart`; what the plan's functions raise comes as the cause of `StartFailed`.
    """
    settings = settings or Settings()
    stopping = Stopping(settings, say=lambda _: None)
    async with (
        _keeping(plan, settings, store) as kept,
        _run(plan, settings, kept, stopping) as site,
    ):
        yield site


def serve_site(
    plan: SitePlan,
    environment: Mapping[str, str] = os.environ,
    *,
    store: MemoryDatabase | None = None,
) -> int:
    """Call this as the last line of a program: runs a site until a signal, gives the exit code.

    Settings come from the environment, as those of `greenroom serve`, and so do log lines, exit
    codes (0 clean, 1 failed or cut, 2 settings) and the stop by SIGINT, SIGTERM or SIGHUP. With a
    `store` nothing outlives the process, see `open_site`.
    """
    return run_program(environment, partial(_serve, plan, store))


async def _serve(plan: SitePlan, store: MemoryDatabase | None, settings: Settings) -> int:
    data = "" if store is None else "in memory; gone when it stops"
    stopping = Stopping(settings, name=plan.name, pages={}, data=data)
    with WayOut(settings.drain_budget_s, stopping.left) as way_out:
        async with _keeping(plan, settings, store) as kept:
            spare_what_stays()
            # Around the tree: a signal while it starts is kept, and leaves it as soon as it is up.
            way_out.open()
            async with _run(plan, settings, kept, stopping) as site:
                number = await way_out.first()
                site.is_draining = True
                stopping.begin(number, site.system, "actors" if site.among is None else "shards")
            if store is None and settings.database_url is None:
                stopping.enter("database server")
        return stopping.exit_code()


def _keeping(
    plan: SitePlan, settings: Settings, store: EventStore | MemoryDatabase | None
) -> AbstractAsyncContextManager[Kept]:
    if settings.cluster is Cluster.ON and store is not None:
        raise CannotStart("CLUSTER: what is in memory is no other process's; leave it off")
    match store:
        case None:
            return _keep(plan, settings)
        case MemoryDatabase():
            return _keep_in_memory(plan, settings, store)
    return nullcontext(Kept(store, MemoryIdempotency(), [store_component(store)]))


@asynccontextmanager
async def _keep_in_memory(
    plan: SitePlan, settings: Settings, database: MemoryDatabase
) -> AsyncIterator[Kept]:
    events = MemoryEventStore(database, inline=plan.inline)
    async with open_read_models(settings, MemoryProjections(database), plan.searched) as models:
        components = memory_components(database, events, settings, SystemClock().now)
        yield Kept(
            events,
            MemoryIdempotency(database),
            [*components, *models.components],
            Beside(
                MemoryOutbox(database),
                MemoryTimers(database),
                MemoryDeadLetters(database),
                models.projections,
            ),
            members=Members(
                MemoryAccounts(database),
                MemorySignInLinks(database),
                MemoryApiTokens(database),
                MemoryRateLimiter(database),
                MemoryMailStates(database),
            ),
            collectors=[of_tallies(models.tallies)],
            searching=models.searching,
            children=models.children,
            outside=models.policies,
            attach=models.attach,
            open_bus=partial(_open_bus, settings, database),
        )


@asynccontextmanager
async def _keep(plan: SitePlan, settings: Settings) -> AsyncIterator[Kept]:
    if settings.cluster is Cluster.ON and plan.owned is None:
        raise CannotStart(
            "CLUSTER: this program does not say what its nodes own (SitePlan.owned), so each would "
            "have all of it; leave it off"
        )
    prepare_state_dir(settings)
    check_port(settings)
    async with open_server(settings) as (url, trouble):
        await prepare_database(settings, url, rooms=())
        await prepare_link(settings)
        database = site_database(settings, url)
        keyring = make_keyring(settings, database)
        books = PostgresProjections(database)
        async with open_read_models(settings, books, plan.searched) as models:
            components = store_components(database, settings, SystemClock().now, trouble)
            yield Kept(
                PostgresEventStore(database, inline=plan.inline),
                PostgresIdempotency(database),
                [*components, *models.components],
                Beside(
                    PostgresOutbox(database),
                    PostgresTimers(database),
                    PostgresDeadLetters(database),
                    models.projections,
                ),
                keyring,
                lambda: DatabaseActor(database),
                partial(
                    make_cleaner,
                    database,
                    keyring,
                    projections_kept=settings.projections_kept,
                    more=models.purges,
                    purge_bus=PostgresBus(database).purge,
                ),
                [*store_collectors(database), of_tallies(models.tallies)],
                partial(slow_statements, database),
                Members(
                    PostgresAccounts(database),
                    PostgresSignInLinks(database),
                    PostgresApiTokens(database),
                    PostgresRateLimiter(database),
                    PostgresMailStates(database),
                    MailSeal(load_private_key(settings), settings.private_keys_previous),
                ),
                models.searching,
                models.children,
                models.policies,
                models.attach,
                among_nodes(settings, database),
                partial(_open_bus, settings, database),
            )


def _open_bus(settings: Settings, database: Database | MemoryDatabase, kind: str) -> OwnBus:
    """The bus of a site of one's own, see `OwnSite.open_bus`."""
    if kind == IN_MEMORY:
        if isinstance(database, MemoryDatabase):
            return OwnBus(MemoryBus(BusTables(database, kept=BUS_KEPT)), is_shared=False)
        # What cannot be read is found where all that failed is.
        letters = PostgresDeadLetters(database)
        return OwnBus(MemoryBus(BusTables(kept=BUS_KEPT), dead_letters=letters), is_shared=False)
    if isinstance(database, MemoryDatabase):
        raise CannotStart(f"{kind} needs a store in PostgreSQL; or take a bus in memory")
    try:
        bus = make_bus(replace(settings, bus=Bus(kind)), database)
    except BusRefused as error:
        raise CannotStart(str(error)) from error
    door = [] if bus.close is None else [ChildSpec("bus-door", partial(Door, bus.close))]
    return OwnBus(bus.engine, is_shared=True, children=door)


@asynccontextmanager
async def _run(
    plan: SitePlan, settings: Settings, kept: Kept, stopping: Stopping
) -> AsyncIterator[OwnSite]:
    if plan.files is not None and not plan.files.is_dir():
        raise CannotStart(f"files of the plan: {plan.files} is no folder")
    try:
        static = await trio.to_thread.run_sync(load_static, settings, plan.files)
    except ViewError as error:
        raise CannotStart(f"files of the plan: {error}") from error
    # With a store that was handed in there may be no state folder.
    is_kept = kept.drive is not None or settings.session_secret is not None
    secret = read_secret(settings) if is_kept else Secret(secrets.token_bytes(SECRET_BYTES_MIN))
    ring = KeyRing(secret, settings.session_secret_previous)
    site = OwnSite(settings, ring, static, kept, plan.outside, sends_mail=plan.sends_mail)
    root = partial(OwnRoot, plan, site, stopping.started, stopping.drained)
    try:
        async with open_system(root, name=plan.name):
            yield site
            site.is_draining = True
            if site.among is not None:
                # First of all: streams that are told to come again find what they show elsewhere.
                with trio.move_on_after(LEAVE_S_MAX):
                    await site.among.hand_over()
                stopping.enter("actors")
    except StartFailed as error:
        raise start_problem(error) from error
