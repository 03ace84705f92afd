"""Every port on PostgreSQL, through asyncpg on an asyncio thread of its own.

Read first:

- `database`: the handle that trio tasks call; behind it `asyncio_thread` and `pool`;
- `embedded`: the server that comes with the package, kept alive by `embedded_keeper`;
- `migrate` and `migrations/`: the schema;
- then one file per port, named as its twin in `storage/memory`.

Only this package names asyncpg.
"""

from storage.postgres.chat_log import PostgresChatLog
from storage.postgres.connecting.database import Database, DatabaseActor, LoopLost, open_database
from storage.postgres.connecting.health import OldestTransaction, StoreHealth, check_health
from storage.postgres.connecting.pool import PoolSettings, PoolStats
from storage.postgres.connecting.session import Connection
from storage.postgres.dead_letters import PostgresDeadLetters
from storage.postgres.embedded.server import EmbeddedServer, open_embedded
from storage.postgres.event_store import PostgresEventStore
from storage.postgres.idempotency import PostgresIdempotency
from storage.postgres.outbox import PostgresOutbox
from storage.postgres.projections import PostgresProjections
from storage.postgres.schema.migrate import (
    MigrationPlan,
    check_migrations,
    migrate,
    migrate_down,
    plan_migrations,
)
from storage.postgres.schema.renumber import Renumbered, renumber
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
