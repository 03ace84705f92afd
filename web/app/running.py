"""The composition root: settings in, supervised tree out. The only place that names adapters.

`run_site` opens things in this order and closes them in reverse: state folder, secret,
embedded PostgreSQL (unless DATABASE_URL names a server), migrations, then the tree of
`wiring/site_tree.py`, whose last child listens. A signal leaves the tree; everything after that is
its reverse order.
"""

import gc
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import trio

from actors.chat import ROOM_NAMES, ChatEnvironment, NewestCache, RoomName
from actors.cluster import LEAVE_S_MAX
from actors.persistence import AggregateRef, Cleaner, ForgettingWatch, Purge
from actors.persistence.bus import Engine
from actors.persistence.projections.store import RETIRED_KEPT
from actors.reducers import Environment
from actors.runtime import Log, Secret
from actors.sagas import (
    ENDED_KEPT,
    SagaAdministration,
    SagaId,
    SagaIndex,
    SagaKinds,
    SagaParts,
    Sagas,
)
from storage.errors import (
    BackupRefused,
    EmbeddedFailed,
    EmbeddedOutdated,
    MasterKeyMissing,
    StateDirInUse,
    StoreError,
    StoreRejected,
    StoreRewound,
    StoreUnavailable,
)
from storage.keyring import SubjectKeyring
from storage.postgres import (
    Archive,
    Database,
    DatabaseActor,
    PoolSettings,
    PostgresAccounts,
    PostgresAddresses,
    PostgresApiTokens,
    PostgresAudit,
    PostgresChatLog,
    PostgresDeadLetters,
    PostgresDevices,
    PostgresDisavowals,
    PostgresEventStore,
    PostgresFactors,
    PostgresHoldings,
    PostgresIdempotency,
    PostgresIdentities,
    PostgresLogins,
    PostgresMailStates,
    PostgresNodes,
    PostgresOutbox,
    PostgresPasskeys,
    PostgresProjections,
    PostgresRateLimiter,
    PostgresRecoveries,
    PostgresSessionEnds,
    PostgresSignInLinks,
    PostgresSocketTickets,
    PostgresSubjectKeys,
    PostgresTimers,
    accept_rewind,
    check_migrations,
    migrate,
    open_database,
    open_embedded,
    remove_tombstoned,
)
from storage.redis import (
    RedisActor,
    RedisClient,
    RedisRateLimiter,
    RedisRejected,
    RedisSettings,
    open_redis,
)
from supervision import Dependencies, StartFailed, open_system
from web.app.bus import BusRefused, SiteBus, bus_tree, check_bus, make_bus
from web.app.clustering import (
    EXIT_SETTINGS,
    Refused,
    SiteNode,
    check_company,
    node_name,
    part_of,
)
from web.app.health import (
    redis_components,
    slow_statements,
    store_collectors,
    store_components,
)
from web.app.linking import EXIT_ABSENT, check_link
from web.app.reaching import together
from web.documentation import Documents, ReadingPathBroken, maybe_documents
from web.documentation.work import BadContent, load_mechanisms
from web.lab.demos.checkout.counterparts import CATEGORY as STEPS_CATEGORY
from web.lab.demos.checkout.steps import Checkout
from web.lab.demos.checkout.visitors import CheckoutPorts
from web.lab.sandbox.recording import CATEGORY, LEFT_AFTER, end_left_streams
from web.mail.sealing import MailSeal
from web.observability import first_leaf
from web.observability.health.of_guards import outside_component
from web.observability.health.of_store import bus_component
from web.observability.metrics.collectors import of_stop
from web.observability.metrics.serving import LOOPBACK
from web.observability.operating.control.place import LOCK_NAME, SOCKET_NAME
from web.observability.operating.control.serving import ControlServer
from web.observability.operating.letters.handing import LetterDesk
from web.server import PortBusy, PortForbidden, open_listeners
from web.settings import Cluster, HeadingFont, Migrate, Settings, StoreTimeline
from web.timeline.collector import statements_teller
from web.views import StaticTable, load
from web.views.fetched import browser_runtime, heading_font
from web.views.fetched.wheels import NotFetched
from web.views.static import HEADING_FONT
from web.wiring.composition import Secrets, Store, Web
from web.wiring.directory import Directory
from web.wiring.environment import SystemClock, SystemIds
from web.wiring.frame.mailing import DESK_ADDRESS, SiteMail, maybe_sender
from web.wiring.frame.outside import BROKER, REDIS, StoreGuard, outside_of
from web.wiring.frame.serving import server_shutdown_s
from web.wiring.leaving import WayOut
from web.wiring.secret import FILE_NAME as SECRET_FILE_NAME
from web.wiring.secret import (
    PRIVATE_FILE_NAME,
    SecretUnusable,
    load_private_key,
    load_secret,
)
from web.wiring.site_tree import Site, SiteParts
from web.wiring.stopping import ServingActor, Stopping

log = Log(__name__)

STATE_DIR_MODE = 0o700
# What tells a state folder of ours from any other one.
EXAMPLES_FOLDER = "examples"
_KEPT_NAMES = frozenset(
    {
        SECRET_FILE_NAME,
        PRIVATE_FILE_NAME,
        LOCK_NAME,
        SOCKET_NAME,
        "datastar",
        "heading",
        "postgres",
        "postgres.lock",
        EXAMPLES_FOLDER,
    }
)
# PERF-24: how many objects come into being beyond those that go, until the youngest are looked
# through; how many such passes until those that stayed are, and how many of these until all are.
# By default it is 700, 10 and 10, and two thousand clients that came back were a dozen full
# collections, of a third of a second each: four tenths of what they cost. The last is a million
# here, the worst that circles of references can hold meanwhile.
# REL-74: the first is large, for thousands of connections that are asked again and again change
# some forty objects each with every request, and all that changed since the last pass is walked,
# cold, though nothing is found: at 5000 that was a tenth of the processor at twice the peak, and
# stops of 150 ms.
COLLECTED_AFTER = (50_000, 4, 5)

_ROOT = Path(__file__).parents[2]
_DATASTAR = _ROOT / "build" / "datastar" / browser_runtime.FILE_NAME
_HEADING = _ROOT / "build" / "heading" / heading_font.FILE_NAME


class CannotStart(Exception):
    """Raised when the site cannot start; the text is one line: the setting and what to do.

    `code` is what the process ends with: 2, 1 when a server that it needs does not answer or cannot
    be started, or 4 when others serve the store in another way.
    """

    def __init__(self, words: str, code: int = EXIT_SETTINGS) -> None:
        super().__init__(words)
        self.code = code


async def run_site(settings: Settings) -> int:
    """Call this to run the site until SIGINT, SIGTERM or SIGHUP; returns the exit code.

    0 when everything ended by itself, 1 when something had to be cut. Raises `CannotStart`.
    """
    prepare_state_dir(settings)
    check_port(settings)
    secrets = Secrets(read_secret(settings), settings.session_secret_previous)
    files = await trio.to_thread.run_sync(_files, settings)
    stopping = Stopping(settings)
    with WayOut(settings.drain_budget_s, stopping.left) as way_out:
        async with open_server(settings) as (url, trouble):
            await prepare_database(settings, url)
            await prepare_link(settings)
            await prepare_redis(settings)
            # Told by a site that starts, not by one that is refused.
            if HEADING_FONT not in files.static.hashed_names and (
                settings.heading_font is HeadingFont.FETCHED
            ):
                log.warning("heading_font.missing", instead="the system's serif", have_it="make")
            await _run_tree(settings, secrets, files, url, trouble, stopping, way_out)
            if settings.database_url is None:
                stopping.enter("database server")
        return stopping.exit_code()


def prepare_state_dir(settings: Settings) -> None:
    """Call this first: makes the state folder, for its owner only; raises `CannotStart`.

    One that exists is taken when it is empty or holds what we keep in one. Any other is refused
    and stays as it is: `/tmp`, closed to all others, would be the end of much else.
    """
    folder = settings.state_dir
    try:
        try:
            folder.mkdir(mode=STATE_DIR_MODE, parents=True)
        except FileExistsError:
            problem = _why_not_ours(folder)
            if problem is not None:
                raise CannotStart(
                    f"STATE_DIR: {folder} {problem}; nothing was touched, name another"
                ) from None
            folder.chmod(STATE_DIR_MODE)
    except OSError as error:
        raise CannotStart(
            f"STATE_DIR: {folder} cannot be used ({error.strerror}); name another"
        ) from error


def _why_not_ours(folder: Path) -> str | None:
    status = folder.stat()
    if not stat.S_ISDIR(status.st_mode):
        return "is no folder"
    if status.st_uid != os.geteuid() != 0:
        return "belongs to another user"
    if status.st_mode & (stat.S_IWOTH | stat.S_ISVTX):
        return "is one where everybody may write"
    # A mounted disk has a folder of its own for what it finds when it is repaired.
    found = {entry.name for entry in folder.iterdir()} - {"lost+found"}
    return "holds other things" if found and not found & _KEPT_NAMES else None


def check_port(settings: Settings) -> None:
    """Call this before anything slow: a port that is taken is told at once."""
    if settings.metrics_port is not None:
        try:
            for listener in open_listeners(LOOPBACK, settings.metrics_port):
                listener.close()
        except (PortBusy, PortForbidden) as error:
            raise CannotStart(f"METRICS_PORT: {error}") from error
    try:
        for listener in open_listeners(settings.host, settings.port):
            listener.close()
    except (PortBusy, PortForbidden) as error:
        raise CannotStart(f"PORT: {error}") from error
    except OSError as error:
        raise CannotStart(
            f"HOST: {settings.host} cannot be listened on ({error.strerror or error})"
        ) from error


async def prepare_database(
    settings: Settings, url: Secret[str], rooms: Sequence[RoomName] = ROOM_NAMES
) -> None:
    """Call this to bring the schema up, or only look (`MIGRATE=off`), and have the `rooms`.

    Raises `CannotStart`.
    """
    try:
        async with open_database(
            url,
            part=part_of(settings, "start"),
            settings=PoolSettings(connections_max=1, connections_min=1),
            wait_s=settings.database_wait_s,
        ) as database:
            await _migrate(settings, database)
            await check_company(settings, PostgresNodes(database))
            keyring = make_keyring(settings, database)
            await keyring.check_masters()
            if rooms:
                await PostgresChatLog(database, keyring).ensure_rooms(rooms)
    except* Refused as group:
        refused = first_leaf(group)
        raise CannotStart(str(refused), getattr(refused, "code", EXIT_SETTINGS)) from group
    except* StoreError as group:
        # The nurseries on the way wrap what is raised in them.
        error = first_leaf(group)
        name = "PRIVATE_KEY" if isinstance(error, MasterKeyMissing) else "DATABASE_URL"
        is_away = isinstance(error, StoreUnavailable)
        code = EXIT_ABSENT if is_away else EXIT_SETTINGS
        raise CannotStart(f"{name}: {error}", code) from group


async def prepare_link(settings: Settings) -> None:
    """Call this to see whether a node can speak with others; raises `CannotStart`."""
    try:
        await check_link(settings)
    except Refused as refused:
        raise CannotStart(str(refused), refused.code) from refused


async def prepare_redis(settings: Settings) -> None:
    """Call this to see whether tries can be counted where the settings say; raises `CannotStart`.

    The connection is closed again: the tree opens its own.
    """
    if settings.redis_url is None:
        return
    try:
        async with open_redis(redis_settings(settings), wait_s=settings.database_wait_s):
            pass
    except* (RedisRejected, OSError) as group:
        raise CannotStart(f"REDIS_URL: {first_leaf(group)}") from group
    except* StoreUnavailable as group:
        # Its text goes on with what is known of a write, and nothing was written here.
        reason = getattr(first_leaf(group), "reason", "")
        raise CannotStart(f"REDIS_URL: {reason}", EXIT_ABSENT) from group


def maybe_redis(settings: Settings, outside: Dependencies) -> RedisClient | None:
    """Call this for the client of the Redis that the settings name, behind its dependency."""
    if settings.redis_url is None:
        return None
    return RedisClient(redis_settings(settings), guard=StoreGuard(outside.dependency(REDIS)))


def redis_settings(settings: Settings) -> RedisSettings:
    """Call this where there is a `REDIS_URL`."""
    assert settings.redis_url is not None
    return RedisSettings.of(settings.redis_url, settings.redis_tls_ca)


def make_keyring(settings: Settings, database: Database) -> SubjectKeyring:
    """Call this for what seals and opens private texts; raises `CannotStart`."""
    try:
        key = load_private_key(settings)
    except SecretUnusable as error:
        raise CannotStart(str(error)) from error
    table = PostgresSubjectKeys(database)
    return SubjectKeyring(table, key, *settings.private_keys_previous)


async def _migrate(settings: Settings, database: Database) -> None:
    look = check_migrations if settings.migrate is Migrate.OFF else migrate
    try:
        await look(database)
    except StoreRewound:
        if settings.store_timeline is not StoreTimeline.FOLLOW:
            raise
        await accept_rewind(database, is_lossless=True)
        await look(database)


# Why the embedded server is away; empty while it is not, and always for another's server.
Trouble = Callable[[], str]


@asynccontextmanager
async def open_server(settings: Settings) -> AsyncIterator[tuple[Secret[str], Trouble]]:
    """Open the embedded server, or take that of the settings; raises `CannotStart`."""
    if settings.database_url is not None:
        yield settings.database_url, str
        return
    try:
        archive = None
        if settings.backup_dir is not None:
            archive = Archive(settings.backup_dir.absolute(), settings.backup_every_s)
        async with open_embedded(settings.state_dir, archive=archive) as server:
            yield Secret(server.url), lambda: server.trouble
    except StateDirInUse as error:
        raise CannotStart(f"STATE_DIR: {error}") from error
    except EmbeddedOutdated as error:
        raise CannotStart(f"STATE_DIR: {error}") from error
    except EmbeddedFailed as error:
        raise CannotStart(f"STATE_DIR: {error}", EXIT_ABSENT) from error
    except BackupRefused as error:
        raise CannotStart(f"BACKUP_DIR: {error}") from error


def read_secret(settings: Settings) -> Secret[bytes]:
    """Call this for what cookies are signed with; raises `CannotStart`."""
    try:
        return load_secret(settings)
    except SecretUnusable as error:
        raise CannotStart(str(error)) from error


@dataclass(frozen=True, slots=True)
class _Files:
    """What the site shows of what lies beside the program."""

    static: StaticTable
    documents: Documents | None


def _files(settings: Settings) -> _Files:
    try:
        load_mechanisms()
    except (BadContent, OSError) as error:
        raise CannotStart(f"web/documentation/work/content: {error}") from error
    return _Files(load_static(settings, font=maybe_heading_font(settings)), _documents())


def _documents() -> Documents | None:
    try:
        return maybe_documents(_ROOT / "docs", _licence())
    except OSError as error:
        raise CannotStart(f"docs: {error.filename} cannot be read ({error.strerror})") from error
    except ReadingPathBroken as error:
        raise CannotStart(f"docs: {error}") from error


def _licence() -> str:
    """Read our licence: it lies in a clone, or with what an installed package tells of itself."""
    file = _ROOT / "LICENSE"
    try:
        if file.is_file():
            return file.read_text(encoding="utf-8")
        return distribution("greenroom").read_text("licenses/LICENSE") or ""
    except PackageNotFoundError:
        return ""


def maybe_heading_font(settings: Settings, made: Path = _HEADING) -> Path | None:
    """Call this, in a thread, for the font of headings; None if there is none.

    `made` is where a clone's `make` puts it; what it could not have is not asked for again. An
    installed package has no build folder: its first start fetches the font, kept with the data.
    """
    if settings.heading_font is HeadingFont.SYSTEM:
        return None
    if heading_font.is_kept(made):
        return made
    try:
        if _DATASTAR.is_file():
            raise NotFetched(f"{made} is not there or another file; remove it and run make")
        return heading_font.fetch(settings.state_dir / "heading")
    except (OSError, NotFetched) as error:
        log.debug("heading_font.not_had", reason=str(error))
        return None


def load_static(
    settings: Settings, own: Path | None = None, font: Path | None = None
) -> StaticTable:
    """Call this, in a thread, for the files under `/static/`, those of the folder `own` too."""
    script = settings.datastar_js or _DATASTAR
    try:
        if settings.datastar_js is None and not script.is_file():
            # An installed package has no build folder: the runtime is kept with the data.
            script = browser_runtime.fetch(settings.state_dir / "datastar")
        return load(script, own, font)
    except (OSError, NotFetched) as error:
        raise CannotStart(f"DATASTAR_JS: {error}; name a copy of the browser runtime") from error


def spare_what_stays() -> None:
    """Call this once all is imported and made: later collections of garbage pass it over.

    What was made until now, some 150,000 objects, is there to the end. To walk them was most of a
    full collection, and that one turn of the loop held everybody for half a second (PERF-42).
    From here on collections are also rarer, see `COLLECTED_AFTER`.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTED_AFTER)


async def _run_tree(
    settings: Settings,
    secrets: Secrets,
    files: _Files,
    url: Secret[str],
    trouble: Trouble,
    stopping: Stopping,
    way_out: WayOut,
) -> None:
    database = site_database(settings, url)
    directory, clock, keyring = Directory(), SystemClock(), make_keyring(settings, database)
    nodes = together(settings, database, keyring, directory)
    outside = outside_of(settings, directory.tell_breaker)
    redis = maybe_redis(settings, outside)
    bus = await _bus_of(settings, database, directory)
    log, told = nodes.log, directory.tell_forgotten
    mail = _mail_of(settings, database, directory, outside)
    web = Web(
        settings,
        secrets,
        clock,
        files.static,
        directory=directory,
        store_health=[
            *store_components(database, settings, clock.now, trouble),
            *nodes.components(),
            bus_component(bus.engine, bus.lags, is_needed=False),
            *mail.components,
            *redis_components(redis),
            outside_component(outside),
        ],
        store=_with_desks(store_of(database, log, keyring, redis), database, mail, bus.engine),
        ids=SystemIds(),
        documents=files.documents,
        outside=outside,
    )
    database.tell_statements = statements_teller(web.timeline)
    _tell_figures(settings, web, database, bus, stopping)
    parts = SiteParts(
        directory=directory,
        database=lambda: DatabaseActor(database),
        chat=_chat_of(settings, clock, log, directory.newest),
        web=web,
        server=lambda: _serving(settings, stopping, web),
        cleaning=partial(
            make_cleaner, database, keyring, told, settings.projections_kept, purge_bus=bus.purge
        ),
        forgetting=lambda: ForgettingWatch(keyring, told),
        ending=web.session_end_watch,
        sweeping=web.sign_in_sweeper,
        server_shutdown_s=server_shutdown_s(settings),
        redis=None if redis is None else partial(RedisActor, redis),
        nodes=nodes.children(web),
        control=lambda: ControlServer(settings.state_dir, web.control_commands()),
        bus=bus_tree(
            settings, bus, nodes.host, web.hear, outside.maybe(BROKER), directory.under_way
        ),
        mail=nodes.mail_child(mail),
    )
    await _serve_tree(parts, stopping, way_out, nodes.node)


def _tell_figures(
    settings: Settings, web: Web, database: Database, bus: SiteBus, stopping: Stopping
) -> None:
    web.figures.metrics.register(of_stop(lambda: stopping.phases))
    web.overview.read_statements = partial(slow_statements, database)
    for collector in store_collectors(database, bus.lags.newest):
        web.figures.metrics.register(collector)
    if settings.cluster is Cluster.ON:
        web.figures.metrics.labels["node"] = node_name(settings)


async def _bus_of(settings: Settings, database: Database, directory: Directory) -> SiteBus:
    try:
        bus = make_bus(settings, database)
        await check_bus(settings, bus)
    except BusRefused as error:
        raise CannotStart(str(error)) from error
    directory.bus_lags = bus.lags.newest
    return bus


async def _serve_tree(
    parts: SiteParts, stopping: Stopping, way_out: WayOut, node: SiteNode | None
) -> None:
    web = parts.web
    spare_what_stays()
    way_out.open()  # around the tree: a signal while it starts is kept, and leaves it when it is up
    try:
        async with open_system(Site, parts, name="site") as site:
            number = await way_out.first()
            web.begin_drain()
            if node is None:
                stopping.begin(number, site.system)
            else:
                # First of all: streams that are told to come again find what they show elsewhere.
                stopping.begin(number, site.system, "shards")
                with trio.move_on_after(LEAVE_S_MAX):
                    await node.member.hand_over()
                stopping.enter("actors")
    except StartFailed as error:
        raise start_problem(error) from error


def _serving(settings: Settings, stopping: Stopping, web: Web) -> ServingActor:
    return ServingActor(
        settings.host, stopping.port, web.compose, stopping.started, stopping.drained
    )


def _mail_of(
    settings: Settings, database: Database, directory: Directory, outside: Dependencies
) -> SiteMail:
    return SiteMail(
        maybe_sender(settings, outside),
        settings.mail_from or DESK_ADDRESS,
        PostgresOutbox(database),
        PostgresMailStates(database),
        PostgresDeadLetters(database),
        directory.wake_mail,
        MailSeal(load_private_key(settings), settings.private_keys_previous),
        directory.under_way.around,
    )


def site_database(settings: Settings, url: Secret[str]) -> Database:
    pool = PoolSettings(connections_max=settings.db_connections_max)
    return Database(url, part=part_of(settings, "site"), settings=pool)


def _chat_of(
    settings: Settings, clock: SystemClock, log: PostgresChatLog, newest: NewestCache
) -> ChatEnvironment:
    return ChatEnvironment(
        clock,
        SystemIds(),
        log,
        settings.chat_posts_per_author_max,
        settings.chat_posts_per_address_max,
        newest,
        settings.chat_waiting_per_author_max,
        settings.chat_waiting_per_address_max,
    )


def store_of(
    database: Database,
    log: PostgresChatLog,
    keyring: SubjectKeyring,
    redis: RedisClient | None = None,
) -> Store:
    """Call this for the ports that the web half needs: of one database, and of Redis if any."""
    return Store(
        chat_log=log,
        session_ends=PostgresSessionEnds(database),
        socket_tickets=PostgresSocketTickets(database),
        accounts=PostgresAccounts(database),
        audit=PostgresAudit(database),
        limiter=PostgresRateLimiter(database) if redis is None else RedisRateLimiter(redis),
        holdings=PostgresHoldings(database, keyring),
        factors=PostgresFactors(database, keyring),
        events=PostgresEventStore(database),
        checkouts=CheckoutPorts(
            PostgresEventStore(database, inline=[SagaIndex()]),
            PostgresOutbox(database),
            PostgresTimers(database),
            PostgresDeadLetters(database),
            PostgresProjections(database),
        ),
        links=PostgresSignInLinks(database),
        passkeys=PostgresPasskeys(database),
        identities=PostgresIdentities(database, keyring),
        disavowals=PostgresDisavowals(database),
        addresses=PostgresAddresses(database),
        devices=PostgresDevices(database),
        logins=PostgresLogins(database),
        recoveries=PostgresRecoveries(database),
        tokens=PostgresApiTokens(database),
    )


def _with_desks(store: Store, database: Database, mail: SiteMail, bus: Engine) -> Store:
    """The store with what is about mail, and where operators find dead letters."""
    desk = LetterDesk(PostgresDeadLetters(database), PostgresProjections(database), bus)
    return replace(store, mails=mail.mails, mail_states=mail.states, letters=desk)


def make_cleaner(
    database: Database,
    keyring: SubjectKeyring,
    tell_forgotten: Callable[[], None] = lambda: None,
    projections_kept: timedelta = RETIRED_KEPT,
    sagas_kept: timedelta = ENDED_KEPT,
    purge_bus: Callable[[int], Awaitable[int]] | None = None,
    more: Mapping[str, Purge] | None = None,
) -> Cleaner:
    """Call this for the actor that removes what each port has kept long enough."""
    log, events = PostgresChatLog(database, keyring), PostgresEventStore(database)

    async def end_lab_streams(limit: int) -> int:
        before, ended = SystemClock().now() - LEFT_AFTER, 0
        for category in (CATEGORY, STEPS_CATEGORY):
            ended += await end_left_streams(events, before, limit - ended, category)
        with suppress(StoreRejected):  # a role that may not: who owns the tables removes them
            await remove_tombstoned(database)
        return ended

    async def purge_messages(limit: int) -> int:
        gone = await log.purge_messages(limit)
        if gone:
            tell_forgotten()  # pages show the newest ones, however old they are
        return gone

    return Cleaner(
        {
            "outbox": PostgresOutbox(database).purge,
            "timers": PostgresTimers(database).purge,
            "idempotency": PostgresIdempotency(database).purge,
            "dead_letters": PostgresDeadLetters(database).purge,
            "projections": partial(
                PostgresProjections(database).purge, older_than=projections_kept
            ),
            "chat_messages": purge_messages,
            "chat_texts": log.purge_texts,
            "audit": log.purge_audit,
            "chat_limits": log.purge_limits,
            "session_ends": PostgresSessionEnds(database).purge,
            "logins": PostgresLogins(database).purge,
            "attempts": PostgresRateLimiter(database).purge,
            "mails": PostgresMailStates(database).purge,
            "sagas": _sagas_of(database, sagas_kept).purge_all,
            "lab_sagas": partial(_sagas_of(database, LEFT_AFTER).purge, kind=Checkout.kind),
            **({} if purge_bus is None else {"bus": purge_bus}),
            **(more or {}),
            "lab_streams": end_lab_streams,
            # Removes the need of a former master key.
            "former_wrappings": keyring.rewrap,
        }
    )


def _sagas_of(database: Database, kept: timedelta) -> SagaAdministration:
    """The sagas of a database, whoever runs them: to be removed when they are long over."""

    def nobody(saga: SagaId) -> AggregateRef:
        raise AssertionError(f"{saga} is told nothing here")

    store = PostgresEventStore(database, inline=[SagaIndex()])
    parts = SagaParts(SagaKinds(), store, Environment(SystemClock(), SystemIds()))
    return SagaAdministration(
        Sagas(parts, nobody, {}),
        store,
        PostgresProjections(database),
        PostgresTimers(database),
        PostgresOutbox(database),
        kept=kept,
    )


def start_problem(error: StartFailed) -> Exception:
    """Call this for what is told when a tree did not start."""
    # The port was free a moment ago; somebody was faster.
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, CannotStart):
            return cause  # of a plan's function
        if isinstance(cause, PortBusy | PortForbidden):
            return CannotStart(f"PORT: {cause}")
        cause = cause.__cause__
    return error
