"""Every port in plain Python: small, real, and read first.

The twins of `storage/postgres` under the same names, used by fast tests and by anyone who
wants to try an actor without a database. `MemoryDatabase` is the shared set of tables.
"""

from storage.memory.chat_log import MemoryChatLog
from storage.memory.database import MemoryDatabase
from storage.memory.dead_letters import MemoryDeadLetters
from storage.memory.event_store import MemoryEventStore
from storage.memory.held_commit import HeldCommit
from storage.memory.idempotency import MemoryIdempotency
from storage.memory.outbox import MemoryOutbox
from storage.memory.projections import MemoryProjections
from storage.memory.snapshots import MemorySnapshots
from storage.memory.timers import MemoryTimers

__all__ = [
    "HeldCommit",
    "MemoryChatLog",
    "MemoryDatabase",
    "MemoryDeadLetters",
    "MemoryEventStore",
    "MemoryIdempotency",
    "MemoryOutbox",
    "MemoryProjections",
    "MemorySnapshots",
    "MemoryTimers",
]
