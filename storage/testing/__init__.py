"""How adapters are proven: one conformance suite per port, run on every adapter.

Subclass a suite in a test file and give it a fixture that makes the adapter; the suite does
the work. `planted` runs a suite against an adapter with a known fault, to show that it can
fail. `temporary` gives tests a PostgreSQL of their own with a fresh database each.

The suites use pytest and pytest-trio; nothing of the running program imports this package.
"""

from storage.testing.chat_log import ChatLogSuite
from storage.testing.dead_letters import DeadLettersSuite
from storage.testing.event_order import EventOrderSuite
from storage.testing.event_store import EventStoreSuite
from storage.testing.inline_projections import InlineProjectionsSuite
from storage.testing.planted import failing_cases
from storage.testing.projection_parts import ProjectionPartsSuite
from storage.testing.projection_waiting import ProjectionWaitingSuite
from storage.testing.projections import ProjectionSuite
from storage.testing.temporary import TemporaryServer
from storage.testing.with_append import WithAppendSuite

__all__ = [
    "ChatLogSuite",
    "DeadLettersSuite",
    "EventOrderSuite",
    "EventStoreSuite",
    "InlineProjectionsSuite",
    "ProjectionPartsSuite",
    "ProjectionSuite",
    "ProjectionWaitingSuite",
    "TemporaryServer",
    "WithAppendSuite",
    "failing_cases",
]
