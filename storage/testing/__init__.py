"""How adapters are proven: one conformance suite per port, run on every adapter.

Subclass a suite in a test file and give it a fixture that makes the adapter; the suite does
the work. Read `event_store.py` first, and `memory/event_store.py` beside it; the other suites
are `streams.py`, `reading/`, `with_append.py`, `dead_letters.py`, `private.py`,
`projections/`, `sessions.py`, `accounts/`, `chat_log.py`, `nodes.py` and `link.py`.

What they stand on: `samples.py` (events and the like), `kept.py` (all ports of one database),
`servers/` (a PostgreSQL with a fresh database for each test, a bad network before any server, a
program killed at random),
`faulty_adapters.py` (runs a suite against an adapter with a known fault, to show that it can fail).

The suites use pytest and pytest-trio; nothing of the running program imports this package.
"""

from storage.testing.accounts.devices import DevicesSuite, LoginsSuite
from storage.testing.accounts.identities import IdentitiesSuite
from storage.testing.accounts.late_acts import LateActsSuite
from storage.testing.accounts.links import SignInLinksSuite
from storage.testing.accounts.members import AccountsSuite, FactorsSuite, RateLimiterSuite
from storage.testing.accounts.mending.addresses import AddressesSuite
from storage.testing.accounts.mending.disavowals import DisavowalsSuite
from storage.testing.accounts.mending.recoveries import RecoveriesSuite
from storage.testing.accounts.passkeys import PasskeysSuite
from storage.testing.accounts.provider_sessions import ProviderSessionsSuite
from storage.testing.accounts.tokens import TokensSuite
from storage.testing.chat_log import ChatForgettingSuite, ChatLogSuite
from storage.testing.dead_letters import DeadLettersSuite
from storage.testing.event_store import EventOrderSuite, EventStoreSuite
from storage.testing.faulty_adapters import failing_cases
from storage.testing.link import LinkSuite
from storage.testing.nodes import NodesSuite
from storage.testing.private import ForgettingSuite, PrivateFieldsSuite, SubjectKeysSuite
from storage.testing.projections.crashing import ProjectionCrashSuite
from storage.testing.projections.filling import ProjectionSuite
from storage.testing.projections.inline import InlineProjectionsSuite
from storage.testing.projections.parts import ProjectionPartsSuite
from storage.testing.projections.poison import ProjectionHaltSuite, ProjectionPoisonSuite
from storage.testing.projections.rebuilding import ProjectionRebuildSuite
from storage.testing.projections.searching import SearchingSuite
from storage.testing.projections.waiting import ProjectionWaitingSuite
from storage.testing.projections.wishes import HandingBackSuite, ProjectionWishesSuite
from storage.testing.reading.evolving import EvolvingSuite
from storage.testing.reading.folding import FoldingSuite
from storage.testing.reading.tagging import TaggingSuite
from storage.testing.reading.tenants import TenantsSuite
from storage.testing.servers.kill_loop import KillLoop, Told
from storage.testing.servers.temporary import TemporaryServer
from storage.testing.servers.toxic_proxy import Toxic, ToxicProxy
from storage.testing.sessions import SessionsSuite
from storage.testing.streams import BackwardsSuite, ClosedStreamsSuite
from storage.testing.with_append import (
    IdempotencySuite,
    InboxSuite,
    OutboxSuite,
    SnapshotsSuite,
    TimersSuite,
    WithAppendSuite,
)

__all__ = [
    "AccountsSuite",
    "AddressesSuite",
    "BackwardsSuite",
    "ChatForgettingSuite",
    "ChatLogSuite",
    "ClosedStreamsSuite",
    "DeadLettersSuite",
    "DevicesSuite",
    "DisavowalsSuite",
    "EventOrderSuite",
    "EventStoreSuite",
    "EvolvingSuite",
    "FactorsSuite",
    "FoldingSuite",
    "ForgettingSuite",
    "HandingBackSuite",
    "IdempotencySuite",
    "IdentitiesSuite",
    "InboxSuite",
    "InlineProjectionsSuite",
    "KillLoop",
    "LateActsSuite",
    "LinkSuite",
    "LoginsSuite",
    "NodesSuite",
    "OutboxSuite",
    "PasskeysSuite",
    "PrivateFieldsSuite",
    "ProjectionCrashSuite",
    "ProjectionHaltSuite",
    "ProjectionPartsSuite",
    "ProjectionPoisonSuite",
    "ProjectionRebuildSuite",
    "ProjectionSuite",
    "ProjectionWaitingSuite",
    "ProjectionWishesSuite",
    "ProviderSessionsSuite",
    "RateLimiterSuite",
    "RecoveriesSuite",
    "SearchingSuite",
    "SessionsSuite",
    "SignInLinksSuite",
    "SnapshotsSuite",
    "SubjectKeysSuite",
    "TaggingSuite",
    "TemporaryServer",
    "TenantsSuite",
    "TimersSuite",
    "TokensSuite",
    "Told",
    "Toxic",
    "ToxicProxy",
    "WithAppendSuite",
    "failing_cases",
]
