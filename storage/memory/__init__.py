"""Every port in plain Python: small, real, and read first.

The twins of `storage/postgres` under the same names, used by fast tests and by anyone who
wants to try an actor without a database.

Read `database.py` (the tables that adapters share, and what a transaction is here), then
`event_store.py` and the rest, one file a port (hence their number). `faults.py` has the switches
that make a twin fail, `twin.py` is what all of them are.
"""

from storage.memory.accounts.audit import MemoryAudit
from storage.memory.accounts.factors import MemoryFactors
from storage.memory.accounts.holdings import MemoryHoldings
from storage.memory.accounts.kept.logins import MemoryLogins
from storage.memory.accounts.kept.rate_limits import MemoryRateLimiter
from storage.memory.accounts.kept.tokens import MemoryApiTokens
from storage.memory.accounts.links import MemorySignInLinks
from storage.memory.accounts.members import MemoryAccounts
from storage.memory.accounts.sessions import MemorySessionEnds, MemorySocketTickets
from storage.memory.accounts.ways.addresses import MemoryAddresses
from storage.memory.accounts.ways.devices import MemoryDevices
from storage.memory.accounts.ways.disavowals import MemoryDisavowals
from storage.memory.accounts.ways.identities import MemoryIdentities
from storage.memory.accounts.ways.passkeys import MemoryPasskeys
from storage.memory.accounts.ways.recoveries import MemoryRecoveries
from storage.memory.chat_log import MemoryChatLog
from storage.memory.database import MemoryDatabase
from storage.memory.dead_letters import MemoryDeadLetters
from storage.memory.event_store import MemoryEventStore
from storage.memory.faults import HeldCommit, Switches
from storage.memory.idempotency import MemoryIdempotency
from storage.memory.mails import MemoryMailStates
from storage.memory.nodes import MemoryNodes
from storage.memory.outbox import MemoryOutbox
from storage.memory.projections import MemoryProjections
from storage.memory.snapshots import MemorySnapshots
from storage.memory.subject_keys import MemorySubjectKeys
from storage.memory.timers import MemoryTimers
from storage.memory.twin import Twin

__all__ = [
    "HeldCommit",
    "MemoryAccounts",
    "MemoryAddresses",
    "MemoryApiTokens",
    "MemoryAudit",
    "MemoryChatLog",
    "MemoryDatabase",
    "MemoryDeadLetters",
    "MemoryDevices",
    "MemoryDisavowals",
    "MemoryEventStore",
    "MemoryFactors",
    "MemoryHoldings",
    "MemoryIdempotency",
    "MemoryIdentities",
    "MemoryLogins",
    "MemoryMailStates",
    "MemoryNodes",
    "MemoryOutbox",
    "MemoryPasskeys",
    "MemoryProjections",
    "MemoryRateLimiter",
    "MemoryRecoveries",
    "MemorySessionEnds",
    "MemorySignInLinks",
    "MemorySnapshots",
    "MemorySocketTickets",
    "MemorySubjectKeys",
    "MemoryTimers",
    "Switches",
    "Twin",
]
