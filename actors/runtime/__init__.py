"""Actors on trio: mailboxes, refs, handlers, lifecycle.

Read first: `actor.py` (what an actor can do), `ref.py` (what others can do with it), `exits.py`.
How it works: `mailbox.py` -> `loop.py` -> `life.py` -> `lifecycle.py` -> `cell.py`, and `system.py`
around them. Who restarts whom is not here but in `supervision`, built on the port in `cell.py`.

    async with open_actors() as system:
        stock = await system.start(Stock, "front", name="stock")
        stock.tell(Add("chair", 2))
        chairs = await stock.ask(Total("chair"), timeout=1.0)
"""

from actors.runtime.actor import Actor, AnyActor
from actors.runtime.by_name import ByName
from actors.runtime.cell import Cell
from actors.runtime.changes import Change, Changes, Delta, Ended, Snapshot
from actors.runtime.context import Context, current_context, edge_context
from actors.runtime.dead_letters import DeadLetter, DeadLetters
from actors.runtime.handlers import handler
from actors.runtime.keeper import open_actors, running
from actors.runtime.later import Later
from actors.runtime.overflow import UNBOUNDED, Overflow, latest
from actors.runtime.port import Owner, Status, Watch
from actors.runtime.portal import Portal
from actors.runtime.ref import AnyRef, Ref
from actors.runtime.relations import Down, Exited
from actors.runtime.reports import CrashReport
from actors.runtime.stats import ActorStats, ActorStatus, SystemStats
from actors.runtime.system import AlreadyStarted, System, checked_name
from actors.runtime.timers import IdleTimeout
from actors.runtime.topics import Sink, Topics
from actors.runtime.watchdog import LoopBlocked
from actors.runtime.watching.presenting import presentable
from actors.runtime.wheel import Alarm, Wheel
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
