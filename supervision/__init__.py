"""Supervision: who restarts whom, as Erlang does it, on trio.

Read first: `specs.py` and `plans.py` (what a person writes), `supervisor.py` and
`dynamic_supervisor.py` (the two kinds of supervisor), `opening.py` (`open_system`).
How it decides: `policy.py`, `budget.py` -> `decisions.py`, `dynamic_decisions.py`, pure state
machines; how it does: `hands.py`, the only file that touches children. What it tells:
`reports.py`, `snapshot.py`.

    class Shop(Supervisor, strategy="rest_for_one", intensity=3, period=5.0):
        front = child(Stock, "front")
        shelves = dynamic(Stock, key="shelf", restart="transient", passivate_after=300.0)

    async with open_system(Shop) as shop:
        shop.shelves["oak"].tell(Add("chair", 2))
"""

from .declared import child, child_method, dynamic, dynamic_method
from .dynamic_supervisor import Dynamic
from .errors import (
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
from .opening import GaveUp, open_system
from .plans import DynamicFlags, Flags, Plan
from .reports import REPORTS, Offender, Report
from .snapshot import ChangeSink, Tree, tree_of
from .specs import Backoff, ChildSpec
from .supervising import Supervising, administer, handle_of
from .supervisor import Supervisor
from .tree import Node, TreeChange, TreeSnapshot, Window
from .words import Child, Counts, StartResult

__all__ = [
    "REPORTS",
    "AlreadyPresent",
    "AlreadyStarted",
    "Backoff",
    "ChangeSink",
    "Child",
    "ChildSpec",
    "Counts",
    "Dynamic",
    "DynamicFlags",
    "FailedToStart",
    "Flags",
    "GaveUp",
    "IntensityReached",
    "KeyRefused",
    "Node",
    "NotBackingOff",
    "NotFound",
    "Offender",
    "Passivated",
    "Plan",
    "Report",
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
    "TreeSnapshot",
    "Unsupported",
    "Window",
    "administer",
    "child",
    "child_method",
    "dynamic",
    "dynamic_method",
    "handle_of",
    "open_system",
    "tree_of",
]
