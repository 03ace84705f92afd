"""The nouns of sagas: ids, statuses, outcomes, what a saga is told, what it sends.

Frozen data only. What is stored stands in `log.py`, what it adds up to in `state.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from hashlib import sha1
from typing import Literal, NamedTuple, TypeAlias, TypeVar, get_args
from uuid import UUID

import msgspec

from actors.persistence import EventTypes, InvalidField, StreamId
from actors.persistence.words import check_tenant, owned_name, split_name
from actors.reducers.environment import uuid_of
from actors.reducers.messages import here
from actors.sagas.words.errors import InvalidSagaId

T = TypeVar("T")

# A saga within a saga within a saga ...: deeper is a graph that nobody can read.
DEPTH_MAX = 5
# With its kind and the names of four steps it has room in a stream's name: 50 + 1 + 80 + 4 * 31.
KIND_CHARS_MAX = 50
ID_CHARS_MAX = 80
STEP_CHARS_MAX = 30
# What a person says about a saga, and what a participant gives as its reason; longer is cut.
REASON_CHARS_MAX = 1000

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[a-z_][a-z0-9_]*)*")
_KIND = re.compile(r"[a-z][a-z0-9_]*")
_STEP = re.compile(r"[a-z_][a-z0-9_]*")

# Ids of messages and timers are made of their names, so that the same one is known again.
_NAMES = UUID("7c1f8f0a-4f0d-5c3b-9a6e-2f3f5d1c8e11").bytes
# Version 5 and the variant of RFC 9562, and all other bits.
_NAMED_MARKS = 5 << 76 | 2 << 62
_NAMED_MASK = ~(0xF << 76 | 3 << 62)


def named_id(*parts: object) -> UUID:
    """Call this for the id of a thing with this name: always the same."""
    whole = ":".join([str(one) for one in parts])
    # As `uuid5`, which takes three times as long to make the same.
    digest = sha1(_NAMES + whole.encode(), usedforsecurity=False).digest()
    return uuid_of(int.from_bytes(digest[:16]) & _NAMED_MASK | _NAMED_MARKS)


def is_kind(text: str) -> bool:
    """Call this to ask whether a kind can be the category of streams."""
    return len(text) <= KIND_CHARS_MAX and _KIND.fullmatch(text) is not None


def is_step(name: str) -> bool:
    """Call this to ask whether a step's name can be a part of a saga's id."""
    return _STEP.fullmatch(name) is not None


class SagaId(NamedTuple):
    """Which saga: its kind and its own name; of a nested one `{parent}/{step}`; and whose.

    `str` and `parse` are its text: `checkout-42`, and `@acme/checkout-42` of a tenant. It is the
    name by which messages and timers of all tenants are told apart.
    """

    kind: str
    name: str
    tenant: str | None = None

    def __str__(self) -> str:
        return owned_name(self.tenant, f"{self.kind}-{self.name}")

    @classmethod
    def of(cls, kind: str, name: str, tenant: str | None = None) -> SagaId:
        """Call this for a checked id; raises `InvalidSagaId`, and `InvalidTenant`."""
        if tenant is not None:
            check_tenant(tenant)
        if not is_kind(kind):
            raise InvalidSagaId(kind, "a kind is lower case letters, digits and _")
        if _ID.fullmatch(name) is None:
            raise InvalidSagaId(name, "it is letters, digits, dot, - and _")
        if len(name.partition("/")[0]) > ID_CHARS_MAX or len(f"{kind}-{name}") > 255:
            raise InvalidSagaId(name, f"it is longer than {ID_CHARS_MAX} characters")
        if name.count("/") >= DEPTH_MAX:
            raise InvalidSagaId(name, f"sagas nest {DEPTH_MAX} deep at most")
        return cls(kind, name, tenant)

    @classmethod
    def parse(cls, text: str) -> SagaId:
        """Call this to read `checkout-42`; raises `InvalidSagaId`."""
        return _parsed(text)

    @property
    def stream(self) -> StreamId:
        """Call this for the stream that is its log, by its name among its tenant's."""
        return StreamId(f"{self.kind}-{self.name}")

    @property
    def key(self) -> str:
        """Call this for the name of its actor: as its text, with what a path can hold."""
        return str(self).replace("/", ":")

    @classmethod
    def of_key(cls, key: str) -> SagaId:
        """Call this for the saga that an actor's name stands for."""
        return cls.parse(key.replace(":", "/"))

    def child(self, kind: str, step: str) -> SagaId:
        """Call this for the saga that a step of this one is."""
        return SagaId.of(kind, f"{self.name}/{step}", self.tenant)


# Each message of a saga has it: of as many as are under way at a time it is read once.
@lru_cache(maxsize=4096)
def _parsed(text: str) -> SagaId:
    tenant, own = split_name(text)
    kind, hyphen, name = own.partition("-")
    if not hyphen:
        raise InvalidSagaId(text, "it has the form kind-name")
    return SagaId.of(kind, name, tenant)


class Status(StrEnum):
    """Where a saga stands; `COMPLETED` and `FAILED` are final."""

    NEW = "new"
    RUNNING = "running"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    FAILED = "failed"
    STUCK = "stuck"


FINAL = frozenset({Status.COMPLETED, Status.FAILED})


# What comes of a command. A participant gives one of the first three.


def _check_reason(cls: type, name: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(
            f"{cls.__name__}.{name} is {value!r}; it must be a text that says why ({here()})"
        )


@dataclass(frozen=True, slots=True)
class Succeeded:
    """It was done, or had been; `result` is what later steps may need: a mapping or an event."""

    result: object = None


@dataclass(frozen=True, slots=True)
class Refused:
    """It was not done and never will be, for a reason of the domain: the saga compensates.

    ValueError without a reason: a person reads it where the saga failed.
    """

    reason: str

    def __post_init__(self) -> None:
        _check_reason(type(self), "reason", self.reason)


@dataclass(frozen=True, slots=True)
class Unavailable:
    """It could not be done now: a time-out, a lost connection, 429 or 503. It is tried again.

    ValueError without a reason, as `Refused`.
    """

    reason: str

    def __post_init__(self) -> None:
        _check_reason(type(self), "reason", self.reason)


@dataclass(frozen=True, slots=True)
class ChildStuck:
    """The saga that a step is waits for a person; `path` names the one that does."""

    path: str

    def __post_init__(self) -> None:
        _check_reason(type(self), "path", self.path)


# What a participant says of a command: done, never to be done, not now, or a nested saga is stuck.
Outcome: TypeAlias = Succeeded | Refused | Unavailable | ChildStuck


def plain(result: object) -> Mapping[str, object]:
    """Call this for a result as the log gives it back; `TypeError` for what is no mapping there.

    In one process and in the next it is the same: a tuple is a list, and what has no order of its
    own is sorted. What JSON cannot hold is `InvalidField`.
    """
    if result is None:
        return {}
    try:
        made = msgspec.to_builtins(result, str_keys=True, order="deterministic")
        found = msgspec.json.decode(msgspec.json.encode(made))
    except (ValueError, OverflowError, RecursionError) as error:
        # Not the encoder's own words, which may quote what somebody wrote.
        why = f"cannot be written as JSON ({type(error).__name__})"
        raise InvalidField(type(result).__name__, why) from None
    if not isinstance(found, dict):
        raise TypeError(f"a result is a mapping, an event or None, not {type(result).__name__}")
    return found


def short(reason: str) -> str:
    """Call this for a reason that can be stored: some participants quote a whole page."""
    text = reason.replace("\x00", "\ufffd")[:REASON_CHARS_MAX]
    return text.encode(errors="replace").decode()


# What a saga is told. Its actor is asked to `Execute` one of these.


@dataclass(frozen=True, slots=True)
class Parent:
    """The step of another saga that a saga is, and the token of that step's attempt."""

    saga: str
    step: str
    token: str


@dataclass(frozen=True, slots=True)
class Start:
    """Begins a saga; a repeat with the same data changes nothing."""

    data: Mapping[str, object]
    parent: Parent | None = None


@dataclass(frozen=True, slots=True)
class TakeReply:
    """What came of the command of a step, do or undo, as its token says."""

    step: str
    token: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class TakeTimer:
    """A timer of a saga is due."""

    name: str
    token: str


@dataclass(frozen=True, slots=True)
class TakeSignal:
    """Something a step may wait for; one with a `key` that came before changes nothing."""

    name: str
    message: Mapping[str, object]
    key: str = ""


@dataclass(frozen=True, slots=True)
class Compensate:
    """The step that a saga is has to be undone; the answer goes to `token` of the parent."""

    token: str
    reason: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """The owner wants no more of it: what is done is undone; ValueError without who and why."""

    by: str
    reason: str

    def __post_init__(self) -> None:
        _check_who_and_why(self.by, self.reason)


@dataclass(frozen=True, slots=True)
class Wake:
    """A saga is resumed: its steps may have changed since, see `Saga.migrate`."""


@dataclass(frozen=True, slots=True)
class Break:
    """A saga's own code failed too often: a person must look."""

    reason: str


Action: TypeAlias = Literal["retry", "skip", "compensate", "fail"]
"""What a person may have done with a saga that waits."""


@dataclass(frozen=True, slots=True)
class Intervene:
    """What a person decides; who and why are kept in the log. ValueError for anything else."""

    action: Action
    by: str
    reason: str

    def __post_init__(self) -> None:
        if self.action not in get_args(Action):
            raise ValueError(f"{self.action!r} is none of {', '.join(get_args(Action))}")
        _check_who_and_why(self.by, self.reason)


def _check_who_and_why(by: object, reason: object) -> None:
    for name, value in (("by", by), ("reason", reason)):
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{name} is empty; say who wants it, and why: the log keeps both")


# Whatever a saga may be told: its start, what comes back, what people and time decide.
SagaInput: TypeAlias = (
    Start | TakeReply | TakeTimer | TakeSignal | Compensate | Cancel | Wake | Break | Intervene
)
"""All that a saga can be told."""


# What a saga sends.


@dataclass(frozen=True, slots=True)
class SagaCommand:
    """A command as its participant gets it.

    `key` is `saga:step:attempt` (`saga:step:undo` for an undo). `work` names what is to be done
    once however often it is tried: `saga:step`, or `saga:step:undo`. A participant keeps what it
    did under `work`, and answers a repeat as it answered the first.
    """

    name: str
    target: str
    body: Mapping[str, object]
    saga: str
    step: str
    attempt: int
    token: str
    is_undo: bool
    due_at: datetime
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def work(self) -> str:
        """Call this for the name of what is to be done once."""
        return f"{self.saga}:{self.step}" + (":undo" if self.is_undo else "")

    @property
    def key(self) -> str:
        """Call this for the idempotency key of this attempt."""
        return self.work if self.is_undo else f"{self.work}:{self.attempt}"

    def read(self, cls: type[T]) -> T:
        """Call this for the command as a class; raises `ValidationError` of msgspec."""
        return msgspec.convert(self.body, cls, str_keys=True)

    def opened(self) -> object:
        """Call this for the command as the class that was marked with its name.

        Raises `LookupError` when this program has none, and `ValidationError` of msgspec.
        """
        if self.name not in _classes:
            raise LookupError(f"this program has no command {self.name}; nothing was read")
        return self.read(_classes[self.name])


COMMANDS = EventTypes()
_targets: dict[type, str] = {}
_classes: dict[str, type] = {}
# Targets of our own: sagas themselves, and the dead letters of those that are stuck.
SAGA_TARGET, LETTER_TARGET = "$saga", "$dead_letter"


def command(
    target: str, *, name: str | None = None, version: int = 1
) -> Callable[[type[T]], type[T]]:
    """Call this as a decorator to say to which participant a class is sent.

    A plain class becomes a frozen dataclass, as by `@event`; a frozen one stays what it is. A
    mutable class or field, a name or a target that cannot be: `TypeError`.
    """
    given: object = target
    if not isinstance(given, str) or not given or given.startswith("$"):
        raise TypeError(f"{target!r} is no target: a text that does not begin with $ ({here()})")

    def mark(cls: type[T]) -> type[T]:
        made = COMMANDS.event(name=name, version=version)(cls)
        _targets[made], _classes[COMMANDS.name_of(made)] = target, made
        return made

    return mark


def target_of(cls: type) -> str | None:
    """Call this for the participant that a class is sent to; None when it is no command."""
    return _targets.get(cls)
