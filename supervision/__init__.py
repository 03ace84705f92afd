"""Supervision: who restarts whom, as Erlang does it, on trio.

    class Shop(Supervisor, strategy="rest_for_one", intensity=3, period=5.0):
        front = child(Stock, "front")
        shelves = dynamic(Stock, key="shelf", restart="transient", passivate_after=300.0)

    async with open_system(Shop) as shop:
        shop.shelves["oak"].tell(Add("chair", 2))

Read first what a person uses: `serving.py` (`serve`, a program that runs until Ctrl-C),
`supervisor.py` and `dynamic_supervisor.py` (the two kinds of supervisor), `declared.py` (children
in a class body), `opening.py` (`open_system`), `partition.py` (one dynamic supervisor split by
key), `pool.py` (one ref for several workers), `shutdown.py` (the end of what is no actor). Then the
chapters, each with a front page of its own; imports go down this list, never up. That makes
thirteen entries: what users name stands here, everything else in a chapter.

    doing/     the actor behind every supervisor, and its hands
    deciding/  what it decides, as pure state machines: the heart of the matter
    tree/      what others see: the tree, its past, reports
    guards/    retry, breaker, bulkhead, token bucket, fallback: around any call, no supervisor
               needed; all of them in one, by name: a dependency
    specs/     what a person writes, checked; errors; words

Words of our own. A **machine** decides: events in, moves out. A **move** is one thing decided, as
data (`Start`, `Stop`, `AwaitRestart`, ...). The **hands** of a supervisor carry its moves out and
own its children's cells (a *cell* is the runtime's word: one actor over all its incarnations). A
**slot** is one child's place under its supervisor; it outlives the child's cell. A **group** is
one start or restart of several children, under way. A **handle** looks like the supervisor and
reaches whatever incarnation of it runs now. An idle child of a key is **parked** (passivated): it
ends, its ref stays true, and the key's cell is **dormant** until the next message.
"""

from supervision.declared import (
    DeclaredChild,
    DeclaredDynamic,
    child,
    child_method,
    dynamic,
    dynamic_method,
)
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
from supervision.guards.bucket import BucketPolicy, BucketStats, RateExceeded, TokenBucket
from supervision.guards.bulkhead import Bulkhead, BulkheadFull, BulkheadPolicy, BulkheadStats
from supervision.guards.dependency import (
    ONCE,
    Dependencies,
    Dependency,
    DependencyPolicy,
    DependencyStats,
    DependencyTimeout,
    UnknownDependency,
)
from supervision.guards.fallback import (
    Fallback,
    FallbackStats,
    cached_fallback,
    queue_fallback,
    value_fallback,
)
from supervision.guards.retry import (
    EFFECT_RETRY,
    LIGHT_RETRY,
    NotRetried,
    RetryPolicy,
    is_transient,
    retry,
)
from supervision.opening import GaveUp, open_system
from supervision.partition import Partitioned
from supervision.pool import ByKey, Pool, Route, Router, by_key, router, router_method
from supervision.serving import run_until_signal, serve, stopping_signals
from supervision.shutdown import ShutdownCoordinator, ShutdownOutcome
from supervision.specs.errors import (
    AlreadyPresent,
    AlreadyStarted,
    FailedToStart,
    IntensityReached,
    KeyRefused,
    NotBackingOff,
    NotCalled,
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
from supervision.specs.specs import Backoff, ChildSpec, DynamicFlags, Flags, Plan
from supervision.specs.words import AnyChild, AnyStartResult, Child, Counts, StartResult
from supervision.supervisor import Supervisor
from supervision.tree.history import TreeHistory
from supervision.tree.reports import REPORTS, Offender, Report
from supervision.tree.tree import (
    Absent,
    ChangeSink,
    Decision,
    Node,
    TellsOfItself,
    Tree,
    TreeChange,
    TreeSnapshot,
    Window,
    tree_of,
)

__all__ = [
    "BREAKERS",
    "EFFECT_RETRY",
    "LIGHT_RETRY",
    "ONCE",
    "REPORTS",
    "Absent",
    "AlreadyPresent",
    "AlreadyStarted",
    "AnyChild",
    "AnyStartResult",
    "Backoff",
    "Breaker",
    "BreakerChange",
    "BreakerPolicy",
    "BreakerStats",
    "BucketPolicy",
    "BucketStats",
    "Bulkhead",
    "BulkheadFull",
    "BulkheadPolicy",
    "BulkheadStats",
    "ByKey",
    "ChangeSink",
    "Child",
    "ChildSpec",
    "CircuitOpen",
    "Counts",
    "Decision",
    "DeclaredChild",
    "DeclaredDynamic",
    "Dependencies",
    "Dependency",
    "DependencyPolicy",
    "DependencyStats",
    "DependencyTimeout",
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
    "NotCalled",
    "NotFound",
    "NotRetried",
    "Offender",
    "Partitioned",
    "Passivated",
    "Plan",
    "Pool",
    "RateExceeded",
    "Report",
    "RetryPolicy",
    "Route",
    "Router",
    "ShutdownCoordinator",
    "ShutdownOutcome",
    "SpecError",
    "StartFailed",
    "StartResult",
    "StillRestarting",
    "StillRunning",
    "Supervising",
    "SupervisionError",
    "Supervisor",
    "TellsOfItself",
    "TokenBucket",
    "TooManyChildren",
    "Tree",
    "TreeChange",
    "TreeHistory",
    "TreeSnapshot",
    "UnknownDependency",
    "Unsupported",
    "Window",
    "administer",
    "by_key",
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
    "router",
    "router_method",
    "run_until_signal",
    "serve",
    "stopping_signals",
    "tree_of",
    "value_fallback",
]
