"""Supervision: who restarts whom, as Erlang does it, on trio.

Read first: `specs.py` and `plans.py` (what a person writes), `supervisor.py` and
`dynamic_supervisor.py` (the two kinds of supervisor), `opening.py` (`open_system`).
How it decides: `policy.py`, `budget.py` -> `decisions.py`, `dynamic_decisions.py`, pure state
machines; how it does: `hands.py`, the only file that touches children. What it tells:
`reports.py`, `snapshot.py`, `history.py`. Guards around calls to others: `retry.py`,
`breaker.py`, `bulkhead.py`, `fallback.py`.

    class Shop(Supervisor, strategy="rest_for_one", intensity=3, period=5.0):
        front = child(Stock, "front")
        shelves = dynamic(Stock, key="shelf", restart="transient", passivate_after=300.0)

    async with open_system(Shop) as shop:
        shop.shelves["oak"].tell(Add("chair", 2))
"""

from supervision.declared import child, child_method, dynamic, dynamic_method
from supervision.doing.supervising import Supervising, administer, handle_of
from supervision.dynamic_supervisor import Dynamic
from supervision.guards.breaker import (
    BREAKERS,
    Breaker,
    BreakerChange,
    BreakerPolicy,
    BreakerStats,
    CircuitOpen,
)
from supervision.guards.bulkhead import Bulkhead, BulkheadFull, BulkheadPolicy, BulkheadStats
from supervision.guards.fallback import (
    Fallback,
    FallbackStats,
    cached_fallback,
    queue_fallback,
    value_fallback,
)
from supervision.guards.retry import NotRetried, RetryPolicy, is_transient, retry
from supervision.opening import GaveUp, open_system
from supervision.partition import Partitioned
from supervision.specs.errors import (
    AlreadyPresent,
    AlreadyStarted,
    FailedToStart,
    IntensityReached,
    KeyRefused,
    NotBackingOff,
    NotFound,
    Passivated,
    SpecError,
    StartFailed,
    StillRestarting,
    StillRunning,
    SupervisionError,
    TooManyChildren,
    Unsupported,
)
from supervision.specs.plans import DynamicFlags, Flags, Plan
from supervision.specs.specs import Backoff, ChildSpec
from supervision.specs.words import Child, Counts, StartResult
from supervision.supervisor import Supervisor
from supervision.tree.history import TreeHistory
from supervision.tree.reports import REPORTS, Offender, Report
from supervision.tree.snapshot import ChangeSink, Tree, tree_of
from supervision.tree.tree import Decision, Node, TreeChange, TreeSnapshot, Window

__all__ = [
    "BREAKERS",
    "REPORTS",
    "AlreadyPresent",
    "AlreadyStarted",
    "Backoff",
    "Breaker",
    "BreakerChange",
    "BreakerPolicy",
    "BreakerStats",
    "Bulkhead",
    "BulkheadFull",
    "BulkheadPolicy",
    "BulkheadStats",
    "ChangeSink",
    "Child",
    "ChildSpec",
    "CircuitOpen",
    "Counts",
    "Decision",
    "Dynamic",
    "DynamicFlags",
    "FailedToStart",
    "Fallback",
    "FallbackStats",
    "Flags",
    "GaveUp",
    "IntensityReached",
    "KeyRefused",
    "Node",
    "NotBackingOff",
    "NotFound",
    "NotRetried",
    "Offender",
    "Partitioned",
    "Passivated",
    "Plan",
    "Report",
    "RetryPolicy",
    "SpecError",
    "StartFailed",
    "StartResult",
    "StillRestarting",
    "StillRunning",
    "Supervising",
    "SupervisionError",
    "Supervisor",
    "TooManyChildren",
    "Tree",
    "TreeChange",
    "TreeHistory",
    "TreeSnapshot",
    "Unsupported",
    "Window",
    "administer",
    "cached_fallback",
    "child",
    "child_method",
    "dynamic",
    "dynamic_method",
    "handle_of",
    "is_transient",
    "open_system",
    "queue_fallback",
    "retry",
    "tree_of",
    "value_fallback",
]
