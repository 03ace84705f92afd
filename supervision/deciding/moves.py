"""All that a supervisor can decide to do: what its machine answers to an event, as data.

`doing/hands.py` carries the moves out in order; the tables of the tests read them. None of them
waits.

Moves about a child: `Start`, `Stop`, `Kill`, `AwaitRestart`, `Retire`, `Park`. Answers to a call:
`Answer`, `AnswerStart`, `Refuse`, `RefuseEnding`. The supervisor's own: `Ready`, `Finish`, `Crash`.
Beside them `Wake` and `Unwake`, which set the time, and `Publish` and `Decided`, which only tell.
"""

from dataclasses import dataclass
from typing import TypeAlias

from actors.runtime import Exit
from supervision.deciding.slots import Call, Slot
from supervision.tree.reports import Report
from supervision.tree.tree import DecisionWord

# -- a child -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Start:
    """Begin an incarnation of this child, of a new cell if it has none."""

    slot: Slot


@dataclass(slots=True)
class Stop:
    """Ask the child to stop with Shutdown; it is killed if not over `within` seconds."""

    slot: Slot
    because: str
    within: float
    info: object = None


@dataclass(slots=True)
class Kill:
    """End the child by force."""

    slot: Slot
    because: str


@dataclass(slots=True)
class AwaitRestart:
    """Keep name, ref and mailbox: a restart follows, at `at` if that is known."""

    slot: Slot
    status: str
    at: float | None


@dataclass(slots=True)
class Retire:
    """No restart follows: the ref is dead for good, what is queued is returned.

    `cause` is the error of a failed start, which those who asked are told.
    """

    slot: Slot
    cause: BaseException | None = None


@dataclass(slots=True)
class Park:
    """The child was idle: leave its ref valid, without incarnation until a message comes."""

    slot: Slot


# -- an answer to a call -------------------------------------------------------------------------


@dataclass(slots=True)
class Answer:
    """Answer with a plain value."""

    call: Call
    value: object


@dataclass(slots=True)
class AnswerStart:
    """Answer a start: the child's ref and its info, or neither (`slot` is None: it ignored)."""

    call: Call
    slot: Slot | None
    info: object


@dataclass(slots=True)
class Refuse:
    """Answer with an error."""

    call: Call
    error: Exception


@dataclass(slots=True)
class RefuseEnding:
    """Answer that the supervisor is ending: there is nobody to do this any more."""

    call: Call


# -- the supervisor itself -----------------------------------------------------------------------


@dataclass(slots=True)
class Ready:
    """All children are up."""


@dataclass(slots=True)
class Finish:
    """No child is left; the supervisor ends so."""

    exit: Exit


@dataclass(slots=True)
class Crash:
    """What a person has written for the decisions to call has raised `error`: it crashes so.

    Decisions go on with a stand-in for what was asked; the parent decides what follows.
    """

    error: BaseException


# -- time, and what is only told -----------------------------------------------------------------


@dataclass(slots=True)
class Wake:
    """Call the machine's `due(token)` at this time."""

    at: float
    token: int


@dataclass(slots=True)
class Unwake:
    """A wake has become void."""

    token: int


@dataclass(slots=True)
class Publish:
    """Publish a report; a quiet one is told to somebody in another way, and hardly logged."""

    report: Report
    is_quiet: bool = False


@dataclass(slots=True)
class Decided:
    """What an ending calls for, for whoever watches; nothing has to be done about it.

    `affected` are the children it concerns, in start order; `backoff` is the wait before.
    """

    slot: Slot
    decision: DecisionWord
    affected: tuple[Slot, ...]
    backoff: float | None


Move: TypeAlias = (
    Start
    | Stop
    | Kill
    | AwaitRestart
    | Retire
    | Park
    | Answer
    | AnswerStart
    | Refuse
    | RefuseEnding
    | Ready
    | Finish
    | Crash
    | Wake
    | Unwake
    | Publish
    | Decided
)
