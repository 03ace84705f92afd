"""Actors on trio: mailboxes, refs, handlers, lifecycle.

Read first: `actor.py` (what an actor can do), `ref.py` (what others can do with it), `exits.py`.
How it works: `mailbox.py` -> `loop.py` -> `life.py` -> `lifecycle.py` -> `cell.py`, and `system.py`
around them. Who restarts whom is not here but in `supervision`, built on the port in `cell.py`.

    async with open_actors() as system:
        stock = await system.start(Stock, "front", name="stock")
        stock.tell(Add("chair", 2))
        chairs = await stock.ask(Total("chair"), timeout=1.0)
"""

from actors.runtime.actor.actor import Actor, AnyActor
from actors.runtime.actor.relations import Down, Exited
from actors.runtime.actor.timers import IdleTimeout
from actors.runtime.delivery.clock import Alarm, Wheel
from actors.runtime.delivery.envelope import Context, Later, current_context, edge_context
from actors.runtime.delivery.mailbox import UNBOUNDED, Overflow, latest
from actors.runtime.delivery.ref import AnyRef, Ref
from actors.runtime.life.cell import Cell, Owner, Status, Watch
from actors.runtime.life.handlers import handler
from actors.runtime.system.opening import open_actors, running
from actors.runtime.system.reaching import ByName, Portal
from actors.runtime.system.system import AlreadyStarted, System, checked_name
from actors.runtime.system.topics import Sink, Topics
from actors.runtime.watching.changes import Change, Changes, Delta, Ended, Snapshot
from actors.runtime.watching.dead_letters import DeadLetter, DeadLetters
from actors.runtime.watching.presenting import presentable
from actors.runtime.watching.reports import CrashReport
from actors.runtime.watching.stats import ActorStats, ActorStatus, SystemStats
from actors.runtime.watching.watchdog import LoopBlocked
from actors.runtime.words.counting import Level
from actors.runtime.words.errors import (
    ActorCrashed,
    ActorError,
    ActorExited,
    AskError,
    AskTimeout,
    BadReply,
    BadReturn,
    CallbackFailed,
    DeadlockError,
    LinkBroken,
    MailboxFull,
    MailboxOverflow,
    NoProc,
    StartError,
    StartIgnored,
    StartTimeout,
    StashFull,
    StopActor,
    StopTimeout,
    UnhandledMessage,
)
from actors.runtime.words.exits import (
    Crashed,
    Exit,
    ExitJson,
    Failed,
    Ignored,
    Killed,
    Normal,
    Ready,
    Shutdown,
    StartOutcome,
)
from actors.runtime.words.messages import IGNORE, Ask, Ignore, Started, message

__all__ = [
    "IGNORE",
    "UNBOUNDED",
    "Actor",
    "ActorCrashed",
    "ActorError",
    "ActorExited",
    "ActorStats",
    "ActorStatus",
    "Alarm",
    "AlreadyStarted",
    "AnyActor",
    "AnyRef",
    "Ask",
    "AskError",
    "AskTimeout",
    "BadReply",
    "BadReturn",
    "ByName",
    "CallbackFailed",
    "Cell",
    "Change",
    "Changes",
    "Context",
    "CrashReport",
    "Crashed",
    "DeadLetter",
    "DeadLetters",
    "DeadlockError",
    "Delta",
    "Down",
    "Ended",
    "Exit",
    "ExitJson",
    "Exited",
    "Failed",
    "IdleTimeout",
    "Ignore",
    "Ignored",
    "Killed",
    "Later",
    "Level",
    "LinkBroken",
    "LoopBlocked",
    "MailboxFull",
    "MailboxOverflow",
    "NoProc",
    "Normal",
    "Overflow",
    "Owner",
    "Portal",
    "Ready",
    "Ref",
    "Shutdown",
    "Sink",
    "Snapshot",
    "StartError",
    "StartIgnored",
    "StartOutcome",
    "StartTimeout",
    "Started",
    "StashFull",
    "Status",
    "StopActor",
    "StopTimeout",
    "System",
    "SystemStats",
    "Topics",
    "UnhandledMessage",
    "Watch",
    "Wheel",
    "checked_name",
    "current_context",
    "edge_context",
    "handler",
    "latest",
    "message",
    "open_actors",
    "presentable",
    "running",
]
