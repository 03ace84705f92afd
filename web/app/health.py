"""The components of health that a site has of its database.

What PostgreSQL alone can tell is looked at here: whether it takes writes, what holds its order of
events back, and how its connections are used. The rest is told by the ports, in memory too.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from actors.persistence import EventStore
from actors.persistence.beside_log.dead_letters import ROWS_MAX
from storage.errors import StoreError
from storage.memory import (
    MemoryDatabase,
    MemoryDeadLetters,
    MemoryOutbox,
    MemoryProjections,
    MemoryTimers,
)
from storage.postgres import (
    Database,
    PostgresDeadLetters,
    PostgresEventStore,
    PostgresOutbox,
    PostgresProjections,
    PostgresTimers,
    check_archive,
    check_health,
    judge_archive,
    judge_pool,
    read_figures,
    read_slow,
)
from storage.redis import RedisClient
from storage.search import SearchClient
from web.observability.bus_lag import GroupLag
from web.observability.health import Component, Finding, degraded, healthy, unhealthy
from web.observability.health.of_store import (
    AWAY,
    LateAfter,
    letters_component,
    outbox_component,
    projections_component,
    store_component,
    timers_component,
)
from web.observability.metrics import Collector
from web.observability.metrics.collectors import of_tallies
from web.observability.metrics.stored import of_bus, of_pool, of_projections, of_store
from web.settings import Settings
from web.views.moderation import StatementsView, StatementView


def store_components(
    database: Database,
    settings: Settings,
    now: Callable[[], datetime],
    trouble: Callable[[], str] = str,
) -> list[Component]:
    """Call this for those of a PostgreSQL database; `trouble` says why an embedded one is away."""
    late, events = late_after(settings), PostgresEventStore(database)
    return [
        Component("event_store", partial(check_store, database, trouble)),
        Component("pool", partial(check_pool, database)),
        Component("archive", partial(check_archiving, database)),
        outbox_component(PostgresOutbox(database), late),
        timers_component(PostgresTimers(database), now, late),
        projections_component(PostgresProjections(database), events, late),
        letters_component(PostgresDeadLetters(database)),
    ]


def redis_components(redis: RedisClient | None) -> list[Component]:
    """Call this for that of Redis, where tries are counted by it."""
    return [] if redis is None else [Component("redis", partial(check_redis, redis))]


def check_redis(redis: RedisClient) -> Finding:
    """Call this for how it is. While it is away nobody signs in, and whoever is in goes on."""
    now = redis.statistics()
    if not now.is_up:
        return degraded("nobody can sign in: tries cannot be counted", down_s=round(now.down_s, 1))
    return healthy(version=now.version, connects=now.connects, waiting=now.waiting)


def check_redis_models(redis: RedisClient) -> Finding:
    """Call this for how it is where it has documents of read models, which cannot be read then."""
    now = redis.statistics()
    if not now.is_up:
        return degraded("read models cannot be read", down_s=round(now.down_s, 1))
    return healthy(version=now.version, connects=now.connects, waiting=now.waiting)


async def check_search(client: SearchClient) -> Finding:
    """Call this for how the search server is; while it is away nothing is found."""
    try:
        return healthy(version=await client.check())
    except StoreError as error:
        return degraded("read models cannot be searched", code=error.code)


def store_collectors(
    database: Database, lags: Callable[[], Sequence[GroupLag]] = tuple
) -> list[Collector]:
    """Call this for the figures of a PostgreSQL database, and of the bus, for who scrapes."""
    return [
        of_tallies(database.tallies),
        of_pool(database.pool_stats),
        of_store(partial(read_figures, database), ROWS_MAX),
        of_projections(PostgresProjections(database), PostgresEventStore(database)),
        of_bus(lags),
    ]


async def slow_statements(database: Database) -> StatementsView:
    """Call this for the statements that took longest, for operators."""
    found = await read_slow(database)
    return StatementsView(
        tuple(
            StatementView(one.text, one.calls, one.mean_ms, one.total_s) for one in found.statements
        ),
        found.is_own,
    )


def memory_components(
    database: MemoryDatabase,
    events: EventStore,
    settings: Settings,
    now: Callable[[], datetime],
) -> list[Component]:
    """Call this for those of a store in memory, which has no connections."""
    late = late_after(settings)
    return [
        store_component(events),
        outbox_component(MemoryOutbox(database), late),
        timers_component(MemoryTimers(database), now, late),
        projections_component(MemoryProjections(database), events, late),
        letters_component(MemoryDeadLetters(database)),
    ]


def late_after(settings: Settings) -> LateAfter:
    """Call this for when something counts as late."""
    return LateAfter(
        outbox_s=settings.health_outbox_age_s,
        timers_s=settings.health_timers_late_s,
        projections_s=settings.health_projection_lag_s,
        passed_over=settings.health_projections_passed_over,
    )


async def check_store(database: Database, trouble: Callable[[], str] = str) -> Finding:
    """Call this to learn whether the database answers, takes writes and gives its events."""
    health = await check_health(database)
    held_back_s = round(health.held_back_s, 1)
    match health.status:
        case "healthy":
            return healthy(health.message, held_back_s=held_back_s)
        case "degraded":
            # It names the client that holds the order back, never a host or a secret.
            return degraded(health.message, held_back_s=held_back_s)
    why = trouble()
    return unhealthy(AWAY + (f": {why}" if why else ""))


def check_pool(database: Database) -> Finding:
    """Call this to learn whether there are enough connections for who needs one."""
    stats = database.pool_stats()
    text = judge_pool(stats)
    numbers = {
        "in_use": stats.in_use,
        "idle": stats.idle,
        "waiting": stats.waiting,
        "connections_max": stats.connections_max,
    }
    return degraded(text, **numbers) if text else healthy(**numbers)


async def check_archiving(database: Database) -> Finding:
    """Call this to learn whether the database's log is archived, where it is to be.

    Never unhealthy: what is served needs no archive, and who is away for want of one gains none.
    """
    try:
        state = await check_archive(database)
    except StoreError:
        return degraded("the archive cannot be asked about")
    if not state.is_on:
        return healthy(is_on=False)
    numbers = {"is_on": True, "waiting": state.waiting, "waiting_s": round(state.waiting_s, 1)}
    text = judge_archive(state)
    return degraded(text, **numbers) if text else healthy(**numbers)
