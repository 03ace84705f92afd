"""Every port on PostgreSQL, through asyncpg on an asyncio thread of its own.

One file a port lies here, named as its twin in `storage/memory`; below them five chapters,
each needing only those above it in this list (hence fifteen entries):

- `connecting/`: from a trio task to an open session; the `Database` every adapter is given;
- `embedded/`: the server that comes with the package;
- `schema/`: migrations, and what is done by hand: checking, renumbering, taking note of a rewind;
- `events/`: the statements of the log, and the keys of its private fields;
- `accounts/`: accounts, sign-ins, what is kept of both;
- then `event_store.py`, which ties the log to what stands beside it, with the statement of
  `whole_appends.py` where nothing else must be looked at; and the other ports.

Words of our own: a *loop* is the asyncio event loop on its thread, which may be *lost* (it
died, or fell silent) and is then made anew; *twin* is the adapter of the same port in memory.

Only this package names asyncpg, and `storage.testing`, which makes databases for tests.
"""

from storage.gathering import GatherStats
from storage.postgres.accounts.audit import PostgresAudit
from storage.postgres.accounts.factors import PostgresFactors
from storage.postgres.accounts.holdings import PostgresHoldings
from storage.postgres.accounts.kept.logins import PostgresLogins
from storage.postgres.accounts.kept.rate_limits import PostgresRateLimiter
from storage.postgres.accounts.kept.tokens import PostgresApiTokens
from storage.postgres.accounts.links import PostgresSignInLinks
from storage.postgres.accounts.members import PostgresAccounts
from storage.postgres.accounts.sessions import PostgresSessionEnds, PostgresSocketTickets
from storage.postgres.accounts.ways.addresses import PostgresAddresses
from storage.postgres.accounts.ways.devices import PostgresDevices
from storage.postgres.accounts.ways.disavowals import PostgresDisavowals
from storage.postgres.accounts.ways.identities import PostgresIdentities
from storage.postgres.accounts.ways.passkeys import PostgresPasskeys
from storage.postgres.accounts.ways.recoveries import PostgresRecoveries
from storage.postgres.chat_log import PostgresChatLog
from storage.postgres.connecting.database import Database, DatabaseActor, LoopLost, open_database
from storage.postgres.connecting.figures import StoreFigures, read_figures
from storage.postgres.connecting.health import (
    OLDEST_WARNED_S,
    OldestTransaction,
    ServerFacts,
    StoreHealth,
    check_archive,
    check_health,
    judge_archive,
    judge_pool,
    server_facts,
)
from storage.postgres.connecting.pool import PoolSettings, PoolStats
from storage.postgres.connecting.session import Connection
from storage.postgres.connecting.slow import read_slow
from storage.postgres.dead_letters import PostgresDeadLetters
from storage.postgres.embedded.archive import Archive, kept_archive
from storage.postgres.embedded.server import (
    EmbeddedServer,
    find_embedded,
    has_embedded,
    open_embedded,
)
from storage.postgres.event_store import PostgresEventStore
from storage.postgres.events.closing import Removed, remove_tombstoned
from storage.postgres.events.gathering import Gatherer, GatherSettings
from storage.postgres.events.snapshots import PostgresSnapshots
from storage.postgres.events.subject_keys import PostgresSubjectKeys
from storage.postgres.idempotency import PostgresIdempotency
from storage.postgres.mails import PostgresMailStates
from storage.postgres.nodes import PostgresNodes
from storage.postgres.outbox import PostgresOutbox
from storage.postgres.projections import PostgresProjections
from storage.postgres.schema.audit import audited, system_user
from storage.postgres.schema.checking import Problem, StoreCheck, check_store
from storage.postgres.schema.migrate import (
    Migration,
    MigrationPlan,
    check_cluster,
    check_migrations,
    migrate,
    migrate_down,
    plan_migrations,
    read_migrations,
)
from storage.postgres.schema.renumber import Renumbered, renumber
from storage.postgres.schema.rewind import Rewound, accept_rewind
from storage.postgres.timers import PostgresTimers

__all__ = [
    "OLDEST_WARNED_S",
    "Archive",
    "Connection",
    "Database",
    "DatabaseActor",
    "EmbeddedServer",
    "GatherSettings",
    "GatherStats",
    "Gatherer",
    "LoopLost",
    "Migration",
    "MigrationPlan",
    "OldestTransaction",
    "PoolSettings",
    "PoolStats",
    "PostgresAccounts",
    "PostgresAddresses",
    "PostgresApiTokens",
    "PostgresAudit",
    "PostgresChatLog",
    "PostgresDeadLetters",
    "PostgresDevices",
    "PostgresDisavowals",
    "PostgresEventStore",
    "PostgresFactors",
    "PostgresHoldings",
    "PostgresIdempotency",
    "PostgresIdentities",
    "PostgresLogins",
    "PostgresMailStates",
    "PostgresNodes",
    "PostgresOutbox",
    "PostgresPasskeys",
    "PostgresProjections",
    "PostgresRateLimiter",
    "PostgresRecoveries",
    "PostgresSessionEnds",
    "PostgresSignInLinks",
    "PostgresSnapshots",
    "PostgresSocketTickets",
    "PostgresSubjectKeys",
    "PostgresTimers",
    "Problem",
    "Removed",
    "Renumbered",
    "Rewound",
    "ServerFacts",
    "StoreCheck",
    "StoreFigures",
    "StoreHealth",
    "accept_rewind",
    "audited",
    "check_archive",
    "check_cluster",
    "check_health",
    "check_migrations",
    "check_store",
    "find_embedded",
    "has_embedded",
    "judge_archive",
    "judge_pool",
    "kept_archive",
    "migrate",
    "migrate_down",
    "open_database",
    "open_embedded",
    "plan_migrations",
    "read_figures",
    "read_migrations",
    "read_slow",
    "remove_tombstoned",
    "renumber",
    "server_facts",
    "system_user",
]
