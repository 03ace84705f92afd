"""Every port on PostgreSQL, through asyncpg on an asyncio thread of its own.

One file a port lies here, named as its twin in `storage/memory`; below them four chapters,
each needing only those above it in this list (hence twelve entries):

- `connecting/`: from a trio task to an open session; the `Database` every adapter is given;
- `embedded/`: the server that comes with the package;
- `schema/`: migrations, and renumbering a store that was moved;
- `events/`: the statements of the log;
- then `event_store.py`, which ties the log to what stands beside it, and the other ports.

Words of our own: a *loop* is the asyncio event loop on its thread, which may be *lost* (it
died, or fell silent) and is then made anew; *twin* is the adapter of the same port in memory.

Only this package names asyncpg, and `storage.testing`, which makes databases for tests.
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
from storage.postgres.schema.rewind import Rewound, accept_rewind
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
    "Rewound",
    "StoreHealth",
    "accept_rewind",
    "check_health",
    "check_migrations",
    "migrate",
    "migrate_down",
    "open_database",
    "open_embedded",
    "plan_migrations",
    "renumber",
]
