"""Sagas: work over several participants that is done as a whole, or undone.

    class Checkout(Saga[Order]):
        place = step(PlaceOrder, undo=CancelOrder, result=OrderPlaced)
        pay = step(ProcessPayment, undo=RefundPayment, result=PaymentCompleted)
        reserve = step(ReserveInventory, undo=ReleaseInventory)

Read in this order; each part needs only those above it:

- `words/`: ids, outcomes, what a saga is told; the events of its log, and the state they make;
- `definition`: what a person writes, checked when the class is made;
- `deciding/`: what follows from what, purely, and what goes into the append of a decision;
- `doing/`: the actor of one saga, and how the rest of a program reaches sagas;
- `graph`: a saga as a picture, marked with what happened.

A saga's log is its stream, `checkout-42`. Each thing that comes (a reply, a timer, a person's
wish) is one append: the facts, the next commands in the outbox, and their timers. Between two
appends there is nothing that could be lost.

Words of our own: the *work* of a command is what is to be done once, however often it is tried;
its *token* says which attempt a reply belongs to. *Stuck* is a saga that waits for a person.
"""

from actors.sagas.deciding.aggregate import SagaLog, WrongCommand, read_command
from actors.sagas.deciding.decisions import IGNORED, KNOWN, NOTHING_TO_UNDO, in_flight
from actors.sagas.definition import (
    DEADLINE_S,
    RETRY_DELAYS_S,
    STEP_TIMEOUT_S,
    AnySaga,
    Definition,
    Facts,
    Group,
    Saga,
    Step,
    StepNotDone,
    Unit,
    child,
    group,
    step,
    wait,
)
from actors.sagas.doing.actor import SagaActor
from actors.sagas.doing.administration import (
    ENDED_KEPT,
    PURGED,
    SagaAdministration,
    SagaView,
)
from actors.sagas.doing.facts import saga_facts
from actors.sagas.doing.index import SagaIndex, SagaLine, lines
from actors.sagas.doing.parts import SagaKinds, SagaParts, SagaStats
from actors.sagas.doing.sagas import Participant, Resumed, SagaHistory, Sagas, is_moment
from actors.sagas.doing.serving import BesideLog, saga_clock, saga_relay
from actors.sagas.graph import kind_graph, saga_graph
from actors.sagas.words.errors import (
    InvalidSagaId,
    InvalidSagaTransition,
    NoParticipant,
    SagaDefinitionError,
    SagaError,
    SagaExists,
    SagaVersionsUnknown,
    SignalRefused,
    UnknownSaga,
    UnknownSagaKind,
)
from actors.sagas.words.log import (
    CompensationStarted,
    SagaCompleted,
    SagaEvent,
    SagaFailed,
    SagasPurged,
    SagaStarted,
    SagaStuck,
    StepFailed,
    StepStarted,
    StepSucceeded,
)
from actors.sagas.words.state import SagaState, StepState, apply
from actors.sagas.words.words import (
    DEPTH_MAX,
    Break,
    Cancel,
    ChildStuck,
    Compensate,
    Intervene,
    Outcome,
    Parent,
    Refused,
    SagaCommand,
    SagaId,
    SagaInput,
    Start,
    Status,
    Succeeded,
    TakeReply,
    TakeSignal,
    TakeTimer,
    Unavailable,
    Wake,
    command,
)

__all__ = [
    "DEADLINE_S",
    "DEPTH_MAX",
    "ENDED_KEPT",
    "IGNORED",
    "KNOWN",
    "NOTHING_TO_UNDO",
    "PURGED",
    "RETRY_DELAYS_S",
    "STEP_TIMEOUT_S",
    "AnySaga",
    "BesideLog",
    "Break",
    "Cancel",
    "ChildStuck",
    "Compensate",
    "CompensationStarted",
    "Definition",
    "Facts",
    "Group",
    "Intervene",
    "InvalidSagaId",
    "InvalidSagaTransition",
    "NoParticipant",
    "Outcome",
    "Parent",
    "Participant",
    "Refused",
    "Resumed",
    "Saga",
    "SagaActor",
    "SagaAdministration",
    "SagaCommand",
    "SagaCompleted",
    "SagaDefinitionError",
    "SagaError",
    "SagaEvent",
    "SagaExists",
    "SagaFailed",
    "SagaHistory",
    "SagaId",
    "SagaIndex",
    "SagaInput",
    "SagaKinds",
    "SagaLine",
    "SagaLog",
    "SagaParts",
    "SagaStarted",
    "SagaState",
    "SagaStats",
    "SagaStuck",
    "SagaVersionsUnknown",
    "SagaView",
    "Sagas",
    "SagasPurged",
    "SignalRefused",
    "Start",
    "Status",
    "Step",
    "StepFailed",
    "StepNotDone",
    "StepStarted",
    "StepState",
    "StepSucceeded",
    "Succeeded",
    "TakeReply",
    "TakeSignal",
    "TakeTimer",
    "Unavailable",
    "Unit",
    "UnknownSaga",
    "UnknownSagaKind",
    "Wake",
    "WrongCommand",
    "apply",
    "child",
    "command",
    "group",
    "in_flight",
    "is_moment",
    "kind_graph",
    "lines",
    "read_command",
    "saga_clock",
    "saga_facts",
    "saga_graph",
    "saga_relay",
    "step",
    "wait",
]
