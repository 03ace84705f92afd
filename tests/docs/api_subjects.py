"""Which subject each public name belongs to, in the order of the pages of `docs/reference/api/`.

Written by hand: a new name of an `__all__` is put where a reader looks for it, what is used daily
first. `api.py` writes the pages from it, and tells what is missing here or not public any more.
"""

from __future__ import annotations

from typing import Final

from tests.docs.api_engines import STORAGE
from tests.docs.api_stored import BUS, PERSISTENCE, SAGAS
from tests.docs.api_web import API, APP, CLIENT, PARTS
from tests.docs.api_words import WRITTEN, Page, Subject

__all__ = ["MADE_BY_US", "PAGES", "Page", "Subject"]

ACTORS: Final = Page(
    "actors.md",
    "actors.runtime",
    "actors.runtime: actors, refs, systems",
    "`from actors.runtime import ...`. To learn it, begin with "
    f"[your first actor](../../start/first-actor.md). {WRITTEN}",
    (
        Subject(
            "Writing an actor",
            (
                "Actor",
                "message",
                "handler",
                "Started",
                "IGNORE",
                "Ignore",
                "AnyActor",
            ),
        ),
        Subject("Answering later, and several at once", ("Ask", "Later", "Batch", "Taken")),
        Subject(
            "Messages that the runtime sends",
            ("Down", "Exited", "IdleTimeout"),
            "An actor gets them when it has asked for them. It needs a handler for each, and does "
            "not name them in `Actor[...]`.",
        ),
        Subject(
            "Reaching an actor",
            ("Ref", "ByName", "Portal", "narrow", "AnyRef"),
        ),
        Subject("A full mailbox", ("Overflow", "latest", "UNBOUNDED")),
        Subject(
            "A running system",
            ("open_actors", "System"),
        ),
        Subject("Topics", ("Topics", "Sink")),
        Subject(
            "How an actor ends",
            (
                "Exit",
                "Normal",
                "Shutdown",
                "Killed",
                "Crashed",
                "StopActor",
                "ExitSummary",
                "ExitJson",
            ),
        ),
        Subject(
            "Errors of an ask",
            (
                "AskError",
                "AskTimeout",
                "ActorCrashed",
                "ActorExited",
                "NoProc",
                "UnhandledMessage",
                "DeadlockError",
                "BadReply",
            ),
        ),
        Subject(
            "Other errors",
            (
                "ActorError",
                "MailboxFull",
                "MailboxOverflow",
                "StashFull",
                "StartError",
                "StartTimeout",
                "StartIgnored",
                "BadReturn",
                "AlreadyStarted",
                "StopTimeout",
                "WrongActor",
                "LinkBroken",
                "CallbackFailed",
            ),
        ),
        Subject(
            "What was lost, and what crashed",
            ("DeadLetters", "DeadLetter", "CrashReport", "LoopBlocked", "Log"),
        ),
        Subject(
            "Figures",
            (
                "ActorStats",
                "ActorStatus",
                "SystemStats",
                "Current",
                "RestartWindow",
                "SetTimer",
                "Level",
                "Status",
            ),
        ),
        Subject("Watching a system live", ("Changes", "Change", "Snapshot", "Delta", "Ended")),
        Subject(
            "Who caused what",
            (
                "Context",
                "current_context",
                "cause_of",
                "carried",
                "current_tallies",
                "edge_context",
            ),
        ),
        Subject(
            "What took how long",
            (
                "span",
                "spanned",
                "span_of",
                "tell_past",
                "current_spans",
                "note_in_trace",
                "sampled_trace",
                "NO_SPAN",
            ),
        ),
        Subject("Secrets, and what may be shown", ("Secret", "presentable")),
        Subject(
            "To build a supervisor of your own",
            (
                "Cell",
                "Owner",
                "Watch",
                "Ready",
                "Ignored",
                "Failed",
                "StartOutcome",
                "Wheel",
                "Alarm",
                "running",
                "checked_name",
            ),
            "`supervision` is built on these; whoever writes and uses actors needs none of them.",
        ),
    ),
    words=(
        "actors.runtime.actor.relations.Monitor",
        "actors.runtime.actor.timers.Timer",
        "actors.runtime.delivery.span.AnySpan",
        "actors.runtime.life.cell.Reason",
        "actors.runtime.life.hooks.AnyHooks",
        "actors.runtime.system.topics.Subscriber",
        "actors.runtime.telling.spans.Value",
        "actors.runtime.watching.changes.Kind",
    ),
)

SUPERVISION: Final = Page(
    "supervision.md",
    "supervision",
    "supervision: who restarts whom",
    "`from supervision import ...`. To understand it, read "
    f"[supervision](../../explain/supervision.md). {WRITTEN}",
    (
        Subject(
            "Opening a tree",
            (
                "serve",
                "open_system",
                "run_until_signal",
                "stopping_signals",
                "GaveUp",
                "ShutdownCoordinator",
                "ShutdownOutcome",
            ),
        ),
        Subject(
            "Supervisors and their children",
            (
                "Supervisor",
                "child",
                "child_method",
                "DeclaredChild",
                "Backoff",
                "AnyChild",
                "Child",
            ),
        ),
        Subject(
            "Many children of one kind",
            (
                "dynamic",
                "dynamic_method",
                "DeclaredDynamic",
                "Dynamic",
                "Partitioned",
                "StartResult",
                "AnyStartResult",
            ),
        ),
        Subject(
            "One ref for several workers",
            ("router", "router_method", "Router", "Route", "by_key", "ByKey", "Pool"),
        ),
        Subject(
            "Specs as data",
            ("ChildSpec", "Flags", "DynamicFlags", "Plan"),
            "What a class body declares is compiled to these; they can be written as well.",
        ),
        Subject(
            "Looking at a tree",
            (
                "tree_of",
                "Tree",
                "TreeSnapshot",
                "Node",
                "TellsOfItself",
                "Window",
                "Absent",
                "TreeHistory",
                "TreeChange",
                "Decision",
                "ChangeSink",
                "Counts",
            ),
        ),
        Subject(
            "Reports",
            ("REPORTS", "Report", "Offender", "IntensityReached", "FailedToStart", "Passivated"),
        ),
        Subject(
            "Changing a running tree",
            ("administer", "Supervising", "handle_of"),
        ),
        Subject(
            "Errors",
            (
                "SupervisionError",
                "SpecError",
                "StartFailed",
                "AlreadyStarted",
                "AlreadyPresent",
                "NotFound",
                "StillRunning",
                "StillRestarting",
                "NotBackingOff",
                "TooManyChildren",
                "KeyRefused",
                "Unsupported",
            ),
        ),
        Subject(
            "All guards around a call",
            (
                "Dependencies",
                "Dependency",
                "DependencyPolicy",
                "ONCE",
                "DependencyTimeout",
                "DependencyStats",
                "UnknownDependency",
            ),
            "Guards need no supervisor, and stand around any call.",
        ),
        Subject(
            "Retries and breakers",
            (
                "retry",
                "RetryPolicy",
                "is_transient",
                "NotRetried",
                "LIGHT_RETRY",
                "EFFECT_RETRY",
                "Breaker",
                "BreakerPolicy",
                "CircuitOpen",
                "NotCalled",
                "BreakerStats",
                "BreakerChange",
                "BREAKERS",
            ),
            "Each of them alone, for who does not want all of them.",
        ),
        Subject(
            "Bulkheads, rates and fallbacks",
            (
                "Bulkhead",
                "BulkheadPolicy",
                "BulkheadFull",
                "BulkheadStats",
                "TokenBucket",
                "BucketPolicy",
                "RateExceeded",
                "BucketStats",
                "Fallback",
                "value_fallback",
                "cached_fallback",
                "queue_fallback",
                "FallbackStats",
            ),
            "Each of them alone, for who does not want all of them.",
        ),
    ),
    words=(
        "supervision.declared.ChildOptions",
        "supervision.declared.DynamicOptions",
        "supervision.guards.breaker.State",
        "supervision.pool.DeclaredRouter",
        "supervision.pool.Key",
        "supervision.pool.RouterOptions",
        "supervision.shutdown.Handler",
        "supervision.shutdown.Result",
        "supervision.specs.specs.AnyFlags",
        "supervision.specs.specs.ErrorClasses",
        "supervision.specs.words.AutoShutdownMode",
        "supervision.specs.words.Budget",
        "supervision.specs.words.ChildType",
        "supervision.specs.words.ErrorClass",
        "supervision.specs.words.RestartType",
        "supervision.specs.words.ShutdownTime",
        "supervision.specs.words.Strategy",
        "supervision.tree.reports.ReportContext",
        "supervision.tree.tree.ChangeKind",
        "supervision.tree.tree.DecisionWord",
    ),
)

REDUCERS: Final = Page(
    "reducers.md",
    "actors.reducers",
    "actors.reducers: reducers and effects",
    "`from actors.reducers import ...`. To understand it, read "
    f"[reducers](../../explain/reducers.md). {WRITTEN}",
    (
        Subject(
            "Writing a reducer",
            ("reducer", "Next", "command", "Refusal", "Environment", "combine", "scope"),
        ),
        Subject("Its actor", ("ReducerActor", "start_reducer", "as_reducer", "ReducerRef")),
        Subject(
            "What a ref gives",
            (
                "EffectHandle",
                "Subscription",
                "Applied",
                "Lagged",
                "Metadata",
                "Drained",
                "Health",
                "OutcomeTimeout",
                "Draining",
                "DrainTimeout",
            ),
        ),
        Subject(
            "Effects",
            (
                "Nothing",
                "Future",
                "Stream",
                "Delay",
                "Cancel",
                "Parallel",
                "Sequential",
                "par",
                "seq",
                "Dispatch",
                "Publish",
                "Reply",
                "EffectTimeout",
                "Outside",
                "Guarded",
                "NothingOutside",
            ),
        ),
        Subject(
            "Delays that outlive their process",
            ("DurableDelays", "Fire", "UnreadableDelay"),
        ),
        Subject(
            "Effects of your own",
            (
                "Effect",
                "effect",
                "Interpreter",
                "Operation",
                "StreamOperation",
                "Callback",
                "check_callback",
            ),
        ),
        Subject(
            "Whether one is pure, and what it is made of",
            ("check_pure", "Case", "NotPure", "Reducer", "ReducerContractError"),
        ),
        Subject("The environment", ("Clock", "Ids", "Random", "RandomOfIds")),
        Subject("Marks of messages", ("is_command", "is_event", "event_type", "mark_event")),
    ),
    words=("actors.reducers.reducer_ref.Track",),
)

TESTING: Final = Page(
    "testing.md",
    "actors.testing",
    "actors.testing: probes, puppets, simulations",
    "`from actors.testing import ...`. How to use it: "
    f"[test your own actors](../../how_to/test-your-own-actors.md). {WRITTEN}",
    (
        Subject("A probe in the place of an actor", ("Probe",)),
        Subject(
            "A simulation",
            ("Simulation", "Scenario", "check_repeatable", "EPOCH"),
        ),
        Subject("Its trace", ("Trace", "Step", "Fault", "Place")),
        Subject("What is called of a port, and how it ends", ("Recorder", "Operation", "Ended")),
        Subject("Who a saga's commands go to, played", ("ParticipantTwin",)),
        Subject(
            "Its errors",
            ("SimulationLeak", "NotRepeatable", "PlaceNeverCame", "SimulationUnavailable"),
        ),
        Subject(
            "Cases of aggregates, reducers, projections and sagas",
            ("given", "ReducerTest", "ProjectionTest", "SagaTest"),
        ),
        Subject(
            "Looks at effects, for `then_effects`",
            ("no_effects", "effects_count", "has_effect", "has_append", "has_publish"),
        ),
        Subject(
            "A reducer step by step",
            ("StepStore", "ActionNotFound", "WrongOrder", "ReceiveTimeout"),
        ),
        Subject(
            "Clock, ids and chance that a test sets",
            ("FixedClock", "test_clock", "FixedIds", "FixedRandom", "fixed_environment"),
        ),
        Subject(
            "Puppets: actors that do what a test tells them",
            (
                "Puppet",
                "AsyncPuppet",
                "TrappingPuppet",
                "AsyncTrappingPuppet",
                "AnyPuppet",
                "Do",
                "Call",
                "Note",
                "PuppetMessage",
                "raising",
                "sleeping",
            ),
        ),
    ),
    words=(
        "actors.sagas.words.words.Outcome",
        "actors.sagas.words.words.SagaInput",
        "actors.testing.cases.telling.Check",
        "actors.testing.puppet.Hook",
        "actors.testing.puppet.StopHook",
    ),
)

PAGES: Final = (
    ACTORS,
    REDUCERS,
    SUPERVISION,
    PERSISTENCE,
    BUS,
    SAGAS,
    STORAGE,
    APP,
    API,
    CLIENT,
    PARTS,
    TESTING,
)

# The runtime makes these, users only get them: how they are made says nothing to a reader.
MADE_BY_US: Final = frozenset(
    {
        "DeclaredRouter",
        "Monitor",
        "Ref",
        "Timer",
        "System",
        "Portal",
        "Later",
        "Batch",
        "Taken",
        "Changes",
        "DeadLetters",
        "Topics",
        "Cell",
        "Wheel",
        "Alarm",
        "Router",
        "Tree",
        "TreeHistory",
        "DeclaredChild",
        "DeclaredDynamic",
        "Probe",
        "Dynamic",
    }
)
