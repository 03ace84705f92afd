"""The subjects of the engines: what `storage` gives programs.

See `api_subjects.py`.
"""

from __future__ import annotations

from typing import Final

from tests.docs.api_words import WRITTEN, Page, Subject


def _of(package: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{package}.{name}" for name in names)


_ACCOUNTS: Final = (
    "Accounts",
    "Addresses",
    "ApiTokens",
    "Audit",
    "Devices",
    "Disavowals",
    "Factors",
    "Holdings",
    "Identities",
    "Logins",
    "Passkeys",
    "RateLimiter",
    "Recoveries",
    "SessionEnds",
    "SignInLinks",
    "SocketTickets",
)

_SUITES: Final = (
    "Subclass one with the fixture that it names; its tests are what the port promises. How to: "
    "[an engine of your own](../../../how_to/break-your-program.md)."
)
_PEOPLE: Final = (
    "What the site's accounts stand on; a program that asks nobody who they are needs none of it. "
    "What each promises stands in the port that it names."
)

STORAGE: Final = Page(
    "storage.md",
    "storage",
    "storage: the engines of the ports",
    "The ports stand in [actors.persistence](persistence.md); here is what keeps them. Each name "
    "is imported from the package below its heading. Which engine to take: "
    f"[the database](../../how_to/database.md). {WRITTEN}",
    (
        Subject(
            "In memory",
            _of(
                "storage.memory",
                "MemoryEventStore",
                "MemorySnapshots",
                "MemoryProjections",
                "MemoryOutbox",
                "MemoryTimers",
                "MemoryIdempotency",
                "MemoryDeadLetters",
                "MemorySubjectKeys",
                "MemoryMailStates",
                "MemoryNodes",
                "MemoryChatLog",
            ),
            "For tests, and for who wants to try an aggregate without a database. All engines that "
            "shall share transactions stand on one `MemoryDatabase`.",
        ),
        Subject(
            "The database in memory",
            _of("storage.memory", "MemoryDatabase"),
            "Made with nothing it is a whole one; what else it has is for the engines.",
        ),
        Subject(
            "Faults in memory",
            _of("storage.memory", "Switches", "HeldCommit", "Twin"),
            "For a test of what a program does when its store is slow, away, or late.",
        ),
        Subject(
            "A database of PostgreSQL",
            _of(
                "storage.postgres",
                "open_database",
                "Database",
                "DatabaseActor",
                "PoolSettings",
                "PoolStats",
                "LoopLost",
                "Connection",
                "open_embedded",
                "EmbeddedServer",
                "find_embedded",
                "has_embedded",
            ),
        ),
        Subject(
            "The ports on PostgreSQL",
            _of(
                "storage.postgres",
                "PostgresEventStore",
                "PostgresSnapshots",
                "PostgresProjections",
                "PostgresOutbox",
                "PostgresTimers",
                "PostgresIdempotency",
                "PostgresDeadLetters",
                "PostgresSubjectKeys",
                "PostgresMailStates",
                "PostgresNodes",
                "PostgresChatLog",
                "Gatherer",
                "GatherSettings",
                "GatherStats",
            ),
        ),
        Subject(
            "Its schema",
            _of(
                "storage.postgres",
                "migrate",
                "check_migrations",
                "plan_migrations",
                "migrate_down",
                "read_migrations",
                "Migration",
                "MigrationPlan",
            ),
        ),
        Subject(
            "How a server and a store are",
            _of(
                "storage.postgres",
                "check_health",
                "StoreHealth",
                "check_store",
                "StoreCheck",
                "Problem",
                "read_figures",
                "StoreFigures",
                "read_slow",
                "OldestTransaction",
                "OLDEST_WARNED_S",
                "judge_pool",
                "server_facts",
                "ServerFacts",
                "check_archive",
                "judge_archive",
                "kept_archive",
                "Archive",
                "check_cluster",
            ),
        ),
        Subject(
            "After a restore, and changes by hand",
            _of(
                "storage.postgres",
                "renumber",
                "Renumbered",
                "accept_rewind",
                "Rewound",
                "remove_tombstoned",
                "Removed",
                "audited",
                "system_user",
            ),
        ),
        Subject(
            "What is known of people",
            _of("storage.postgres", *(f"Postgres{one}" for one in _ACCOUNTS)),
            f"{_PEOPLE} These keep it on PostgreSQL.",
        ),
        Subject(
            "What is known of people, in memory",
            _of("storage.memory", *(f"Memory{one}" for one in _ACCOUNTS)),
            f"{_PEOPLE} These are for tests.",
        ),
        Subject(
            "The event bus",
            (
                *_of("storage.bus", "MemoryBus", "BusTables", "PostgresBus", "Retention"),
                *_of("storage.bus.kafka", "KafkaBus"),
                *_of("storage.bus.kafka_words", "KafkaSettings", "KafkaSecurity"),
            ),
            "What they promise, and which to take: [event bus](../../event_bus.md).",
        ),
        Subject(
            "Read models on Redis",
            _of(
                "storage.redis",
                "open_redis",
                "RedisClient",
                "RedisActor",
                "RedisSettings",
                "RedisProjections",
                "RedisRateLimiter",
                "Script",
                "RedisRefused",
                "RedisRejected",
                "ReadModelLost",
            ),
        ),
        Subject(
            "Read models that are searched",
            _of(
                "storage.search",
                "open_search",
                "SearchClient",
                "SearchSettings",
                "SearchStatistics",
                "SearchProjections",
                "ScanningSearch",
                "SearchRefused",
                "SearchRejected",
                "ReadModelLost",
                "TooManyToScan",
            ),
        ),
        Subject(
            "Keys of persons",
            ("storage.keyring.SubjectKeyring",),
            "With them what is said of a person can be forgotten.",
        ),
        Subject(
            "Faults, and programs that are killed",
            _of(
                "storage.testing",
                "ToxicProxy",
                "Toxic",
                "KillLoop",
                "Told",
                "TemporaryServer",
                "failing_cases",
            ),
            "How to use them: [break your program](../../../how_to/break-your-program.md).",
        ),
        Subject(
            "Suites for an event store of your own",
            _of(
                "storage.testing",
                "EventStoreSuite",
                "EventOrderSuite",
                "BackwardsSuite",
                "ClosedStreamsSuite",
                "TaggingSuite",
                "WithAppendSuite",
                "TenantsSuite",
                "SnapshotsSuite",
                "InlineProjectionsSuite",
                "EvolvingSuite",
                "FoldingSuite",
                "PrivateFieldsSuite",
                "ForgettingSuite",
                "SubjectKeysSuite",
            ),
            _SUITES,
        ),
        Subject(
            "Calls in any order",
            (
                "storage.testing.machines.StoreMachine",
                *_of("storage.testing.kept", "Kept", "kept_in_memory"),
            ),
            "Hypothesis makes up the calls: "
            "[break your program](../../../how_to/break-your-program.md).",
        ),
        Subject(
            "Suites for what stands beside events",
            _of(
                "storage.testing",
                "OutboxSuite",
                "InboxSuite",
                "IdempotencySuite",
                "TimersSuite",
                "DeadLettersSuite",
                "HandingBackSuite",
                "ProjectionSuite",
                "ProjectionPartsSuite",
                "ProjectionRebuildSuite",
                "ProjectionPoisonSuite",
                "ProjectionHaltSuite",
                "ProjectionCrashSuite",
                "ProjectionWaitingSuite",
                "ProjectionWishesSuite",
                "SearchingSuite",
                "RateLimiterSuite",
                "NodesSuite",
                "LinkSuite",
            ),
            _SUITES,
        ),
        Subject(
            "Suites for what is known of people",
            _of(
                "storage.testing",
                "ChatLogSuite",
                "ChatForgettingSuite",
                "AccountsSuite",
                "AddressesSuite",
                "DevicesSuite",
                "DisavowalsSuite",
                "FactorsSuite",
                "IdentitiesSuite",
                "LateActsSuite",
                "LoginsSuite",
                "PasskeysSuite",
                "ProviderSessionsSuite",
                "RecoveriesSuite",
                "SessionsSuite",
                "SignInLinksSuite",
                "TokensSuite",
            ),
            _SUITES,
        ),
    ),
    words=(
        "storage.postgres.connecting.pool.Work",
        "storage.redis.codec.Part",
        "storage.redis.codec.Reply",
    ),
    packages=(
        "storage.memory",
        "storage.postgres",
        "storage.bus",
        "storage.redis",
        "storage.search",
        "storage.testing",
    ),
)
