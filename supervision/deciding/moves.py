"""What a supervisor decides to do, as data: the answer of `decisions.py` to each event.

`supervisor.py` carries the moves out in order; a table test reads them. None of them waits.
"""

from dataclasses import dataclass
from typing import TypeAlias

from actors.runtime import Exit
from supervision.deciding.slots import Slot
from supervision.tree.reports import Report
from supervision.tree.tree import DecisionWord


class Call:
    """Who waits for an answer; decisions only hand it back."""

    __slots__ = ()


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
class Hold:
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
    """The child is idle: leave its ref valid, without incarnation until a message comes."""

    slot: Slot


@dataclass(slots=True)
class Forget:
    """The child is out of the list: nothing of it is kept."""

    slot: Slot


@dataclass(slots=True)
class Wake:
    """Call `due(token)` at this time."""

    at: float
    token: int


@dataclass(slots=True)
class Unwake:
    """A wake has become void."""

    token: int


@dataclass(slots=True)
class Note:
    """Publish a report."""

    report: Report


@dataclass(slots=True)
class Answer:
    """Answer a call with a plain value."""

    call: Call
    value: object


@dataclass(slots=True)
class Up:
    """Answer a start: the child's ref and its info, or neither (`slot` is None: it ignored)."""

    call: Call
    slot: Slot | None
    info: object


@dataclass(slots=True)
class Refuse:
    """Answer a call with an error."""

    call: Call
    error: Exception


@dataclass(slots=True)
class Ended:
    """Answer a call: the supervisor is ending, so there is nobody to do this."""

    call: Call


@dataclass(slots=True)
class Decided:
    """What an ending calls for, for whoever watches; nothing has to be done about it.

    `affected` are the children it concerns, in start order; `backoff` is the wait before.
    """

    slot: Slot
    decision: DecisionWord
    affected: tuple[Slot, ...]
    backoff: float | None


@dataclass(slots=True)
class Ready:
    """All children are up."""


@dataclass(slots=True)
class Finish:
    """No child is left; the supervisor ends so."""

    exit: Exit


Move: TypeAlias = (
    Start
    | Stop
    | Kill
    | Hold
    | Retire
    | Park
    | Forget
    | Wake
    | Unwake
    | Note
    | Answer
    | Up
    | Refuse
    | Ended
    | Decided
    | Ready
    | Finish
)
