"""Every port on PostgreSQL, through asyncpg on an asyncio thread of its own.

Read first:

- `database`: the handle that trio tasks call; behind it `asyncio_thread` and `pool`;
- `embedded`: the server that comes with the package, kept alive by `embedded_keeper`;
- `migrate` and `migrations/`: the schema;
- then one file per port, named as its twin in `storage/memory`.

Only this package names asyncpg.
"""

from storage.postgres.chat_log import PostgresChatLog
from storage.postgres.database import Database, LoopLost, open_database
from storage.postgres.database_actor import DatabaseActor
from storage.postgres.dead_letters import PostgresDeadLetters
from storage.postgres.embedded import EmbeddedServer
from storage.postgres.embedded_keeper import open_embedded
from storage.postgres.event_store import PostgresEventStore
from storage.postgres.health import OldestTransaction, StoreHealth, check_health
from storage.postgres.idempotency import PostgresIdempotency
from storage.postgres.migrate import (
    MigrationPlan,
    check_migrations,
    migrate,
    migrate_down,
    plan_migrations,
)
from storage.postgres.outbox import PostgresOutbox
from storage.postgres.pool_settings import PoolSettings, PoolStats
from storage.postgres.projections import PostgresProjections
from storage.postgres.renumber import Renumbered, renumber
from storage.postgres.session import Connection
from storage.postgres.snapshots import PostgresSnapshots
from storage.postgres.timers import PostgresTimers

__all__ = [
    "Connection",
    "Database",
    "DatabaseActor",
    "EmbeddedServer",
    "LoopLost",
    "MigrationPlan",
    "OldestTransaction",
    "PoolSettings",
    "PoolStats",
    "PostgresChatLog",
    "PostgresDeadLetters",
    "PostgresEventStore",
    "PostgresIdempotency",
    "PostgresOutbox",
    "PostgresProjections",
    "PostgresSnapshots",
    "PostgresTimers",
    "Renumbered",
    "StoreHealth",
    "check_health",
    "check_migrations",
    "migrate",
    "migrate_down",
    "open_database",
    "open_embedded",
    "plan_migrations",
    "renumber",
]
