"""Actors on trio: what an author writes, how it is reached, and how it runs.

    async with open_actors() as system:
        stock = await system.start(Stock, "front", name="stock")
        stock.tell(Add("chair", 2))
        chairs = await stock.ask(Total("chair"), timeout=1.0)

Read `actor/actor.py` (what an actor can do) and `delivery/ref.py` (what others can do with it)
first; whoever only writes actors needs no more. How it works, in the order of one message:
`delivery/envelope.py`, `delivery/mailbox.py`, `life/loop.py`; of one actor: `life/cell.py`,
`life/lifecycle.py`; and around them `system/system.py`. Each chapter's front page says what is in
it; a chapter imports only those below it:

    actor/      what an author writes and calls
    system/     one running system: opened, actors started and found, topics
    watching/   figures, changes, reports, dead letters; nothing here is needed to run actors
    life/       one actor: what stays of it, and its incarnations
    delivery/   from a ref into a mailbox, and whose turn it is
    telling/    log lines, which never raise
    words/      messages, exits, errors, counts: data that all others speak with

Three words of our own. A *cell* is what stays of an actor while it is restarted: id, path, ref,
mailbox, sums. An *incarnation* is one run of it, from `__init__` to its exit; its state is a `Life`
inside, and nothing of it passes to the next but the mailbox. The *clock* of a system is a wheel
(`Wheel`): deadlines of asks fall into buckets of 10 ms that fire as a whole, everything rarer is an
`Alarm` to the instant; it is trio's time, so a virtual clock moves all of it.

An actor is *dispatched* when its class has only `def` handlers: the system's dispatcher gives it
turns. With an `async def` among them it has a *task* of its own. Both keep the same promises.

Who restarts whom is not here but in `supervision`, built on the port in `life/cell.py`: an `Owner`
holds cells, calls them, and is told.
"""

from actors.runtime.actor.actor import Actor, AnyActor
from actors.runtime.actor.relations import Down, Exited
from actors.runtime.actor.timers import IdleTimeout
from actors.runtime.delivery.batch import Batch, Taken
from actors.runtime.delivery.clock import Alarm, Wheel
from actors.runtime.delivery.envelope import (
    Context,
    Later,
    cause_of,
    current_context,
    current_tallies,
    edge_context,
)
from actors.runtime.delivery.mailbox import UNBOUNDED
from actors.runtime.delivery.overflow import Overflow, latest
from actors.runtime.delivery.ref import AnyRef, Ref
from actors.runtime.delivery.span import (
    NO_SPAN,
    carried,
    current_spans,
    note_in_trace,
    sampled_trace,
    span,
    span_of,
    spanned,
    tell_past,
)
from actors.runtime.life.cell import Cell, Owner, Status, Watch
from actors.runtime.life.handlers import handler
from actors.runtime.system.opening import open_actors, running
from actors.runtime.system.reaching import ByName, Portal
from actors.runtime.system.system import AlreadyStarted, System, WrongActor, checked_name, narrow
from actors.runtime.system.topics import Sink, Topics
from actors.runtime.telling.log import Log
from actors.runtime.watching.changes import Change, Changes, Delta, Ended, Snapshot
from actors.runtime.watching.dead_letters import DeadLetter, DeadLetters
from actors.runtime.watching.presenting import presentable
from actors.runtime.watching.reports import CrashReport
from actors.runtime.watching.stats import (
    ActorStats,
    ActorStatus,
    Current,
    RestartWindow,
    SetTimer,
    SystemStats,
)
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
    ExitSummary,
    Failed,
    Ignored,
    Killed,
    Normal,
    Ready,
    Shutdown,
    StartOutcome,
)
from actors.runtime.words.messages import IGNORE, Ask, Ignore, Started, message
from actors.runtime.words.secret import Secret

__all__ = [
    "IGNORE",
    "NO_SPAN",
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
    "Batch",
    "ByName",
    "CallbackFailed",
    "Cell",
    "Change",
    "Changes",
    "Context",
    "CrashReport",
    "Crashed",
    "Current",
    "DeadLetter",
    "DeadLetters",
    "DeadlockError",
    "Delta",
    "Down",
    "Ended",
    "Exit",
    "ExitJson",
    "ExitSummary",
    "Exited",
    "Failed",
    "IdleTimeout",
    "Ignore",
    "Ignored",
    "Killed",
    "Later",
    "Level",
    "LinkBroken",
    "Log",
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
    "RestartWindow",
    "Secret",
    "SetTimer",
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
    "Taken",
    "Topics",
    "UnhandledMessage",
    "Watch",
    "Wheel",
    "WrongActor",
    "carried",
    "cause_of",
    "checked_name",
    "current_context",
    "current_spans",
    "current_tallies",
    "edge_context",
    "handler",
    "latest",
    "message",
    "narrow",
    "note_in_trace",
    "open_actors",
    "presentable",
    "running",
    "sampled_trace",
    "span",
    "span_of",
    "spanned",
    "tell_past",
]
