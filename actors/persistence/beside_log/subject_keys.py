"""The keys of subjects: one for each person or thing whose private fields can be forgotten.

`SubjectKeys` is the table: keys as they are kept, each wrapped by a master key that is no part
of the store, and the subjects that were forgotten. `Keyring` is what a program gives its stores:
it has the master keys, seals what is written, opens what is read, and forgets.

A tenant has subjects of its own: in the table, and wherever an event that was read names them,
`user-7` of `acme` is `@acme/user-7`. So one keyring serves all views of a store.

Rule 1: a forgotten subject stays in the table, without a key. So an append that comes later is
refused (`SubjectForgotten`) and makes no new key in silence; one that was under way is stored,
and reads `ERASED` as if it had come before.
Rule 2: each forgetting counts `forgets` up, in its transaction. Who wrote down clear text (a
projection, in its documents) says at its commit which number it had seen, and is refused when
it is an older one: no cache in any process can bring back what was forgotten.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec
import trio

from actors.persistence.errors import (
    InvalidField,
    KeyringMissing,
    StoreError,
    SubjectForgotten,
)
from actors.persistence.private import SUBJECT_BYTES_MAX, Unsealed
from actors.persistence.words import (
    INT_MAX,
    TENANT_BYTES_MAX,
    AppendRequest,
    NewEvent,
    Snapshot,
    StoredEvent,
    check_integer,
    check_tenant,
    check_text,
    owned_name,
    split_name,
)
from actors.runtime import Actor, Log, message

# How long another process may go on using a key that was deleted: so often a keyring that is in
# use asks what was forgotten. A query a second at most, and none while it rests.
FRESH_S = 1.0

# No JSON begins so: a sealed snapshot is told from one in clear.
SEALED = b"\x00sealed1"

_log = Log("actors.persistence")


@dataclass(frozen=True, slots=True)
class SubjectKey:
    """The key of a subject as it is kept; without `wrapped` the subject was forgotten.

    `number` tells the keys of one subject apart: it has a second one only after `readmit`.
    """

    subject: str
    number: int
    master: str | None
    wrapped: bytes | None

    def __post_init__(self) -> None:
        check_subjects([self.subject])
        check_integer("number", self.number, 0, INT_MAX)

    @property
    def is_forgotten(self) -> bool:
        """Call this to ask whether its key was deleted."""
        return self.wrapped is None


class SubjectKeys(Protocol):
    """The table of subjects' keys; every adapter passes `storage.testing.SubjectKeysSuite`."""

    async def find(self, subjects: Sequence[str]) -> Mapping[str, SubjectKey]:
        """Call this for what is kept of subjects; those never heard of are left out."""
        ...

    async def add(self, keys: Sequence[SubjectKey]) -> Mapping[str, SubjectKey]:
        """Call this to keep new keys; gives what is kept of their subjects then.

        That is another's key where one was there already, and no key of a forgotten subject.
        """
        ...

    async def forget(self, subject: str, *, by: str) -> bool:
        """Call this to delete a subject's key, in one transaction with all that follows from it.

        Counts `forgets` up, audits `subject.forget` with who did it, and marks the generations of
        projections that were made of private fields of this subject: they are built anew. False
        when it was forgotten before; nothing was done then. A subject never heard of is forgotten
        in advance.
        """
        ...

    async def readmit(self, key: SubjectKey, *, by: str) -> bool:
        """Call this to give a forgotten subject a new key; audited as `subject.readmit`.

        False when it is not forgotten, or `key.number` is not the next. What was sealed with the
        former key stays erased.
        """
        ...

    async def forgets(
        self, since: int | None = None, *, limit: int = 1000
    ) -> tuple[int, Sequence[str]]:
        """Call this for how many were forgotten so far, and the subjects of those after `since`."""
        ...

    async def masters(self) -> Mapping[str, int]:
        """Call this for the master keys that wrap any key here, by id, and how many each."""
        ...

    async def wrapped_by_others(self, master: str, *, limit: int = 1000) -> Sequence[SubjectKey]:
        """Call this for keys that another master key wraps."""
        ...

    async def rewrap(self, old: SubjectKey, new: SubjectKey) -> bool:
        """Call this to replace a wrapping; False when the key is not as `old` any more."""
        ...


class Keyring(Protocol):
    """Seals and opens private fields; the one there is stands in `storage.keyring`."""

    async def seal(self, requests: Sequence[AppendRequest]) -> Sequence[AppendRequest]:
        """Call this before an append: private fields are sealed, keys made where there are none.

        The same event gives the same bytes each time, so that a repeat is known as one. Raises
        `SubjectForgotten`, `MasterKeyMissing`, `EventTooLarge`, and what the store raises.
        """
        ...

    async def open(self, events: Sequence[StoredEvent]) -> Sequence[StoredEvent]:
        """Call this after reading: gives events with `private` where they have sealed fields."""
        ...

    async def seal_bytes(self, place: str, subjects: Iterable[str], data: bytes) -> bytes:
        """Call this to seal something derived from private fields; opens at this place only.

        Raises `SubjectForgotten` when one of the subjects has no key.
        """
        ...

    async def open_bytes(self, place: str, sealed: bytes) -> bytes | None:
        """Call this to open it; None when a key is gone, or it was changed or moved."""
        ...

    async def forget(self, subject: str, *, by: str, tenant: str | None = None) -> bool:
        """Call this to forget a subject, of a tenant or of none; see `SubjectKeys.forget`.

        Here it holds at once.
        """
        ...

    async def forgets(self) -> int:
        """Call this for how many subjects were forgotten, as far as this process has heard."""
        ...

    def has_forgotten(self, subjects: frozenset[str], since: int) -> bool:
        """Call this to ask whether one of them was forgotten after so many.

        True also where it is not known any more, long ago.
        """
        ...


def check_subjects(subjects: Iterable[str]) -> None:
    """Call this before any I/O with names of subjects in the table; raises `InvalidField`."""
    for subject in subjects:
        check_text("subject", subject, SUBJECT_BYTES_MAX + TENANT_BYTES_MAX + 2)
        if not check_text("subject", split_name(subject)[1], SUBJECT_BYTES_MAX):
            raise InvalidField("subject", "is empty")


def owned_subject(tenant: str | None, subject: str) -> str:
    """Call this for the name in the table of a tenant's subject, or of one of no tenant.

    Raises `InvalidTenant`, and `InvalidField` for a name that nobody can have.
    """
    if tenant is not None:
        check_tenant(tenant)
    if not check_text("subject", subject, SUBJECT_BYTES_MAX):
        raise InvalidField("subject", "is empty")
    if tenant is None and split_name(subject)[0] is not None:
        raise InvalidField("subject", "has the form of a tenant's, @tenant/name; name the tenant")
    return owned_name(tenant, subject)


async def seal_requests(
    keyring: Keyring | None, requests: Sequence[AppendRequest]
) -> Sequence[AppendRequest]:
    """Call this first in an engine's append; `KeyringMissing` where nobody could seal."""
    private = [event for one in requests for event in one.events if event.private is not None]
    if not private:
        return requests
    if keyring is None:
        raise KeyringMissing(private[0].type)
    whose = [with_events(one, [_with_subjects(event) for event in one.events]) for one in requests]
    try:
        return await keyring.seal(whose)
    except SubjectForgotten as error:
        # By the name that it was given.
        raise SubjectForgotten(split_name(error.subject)[1]) from None


def _with_subjects(event: NewEvent) -> NewEvent:
    """The event with the names of its subjects in the table."""
    if event.private is None:
        return event
    subjects = tuple(owned_subject(event.tenant, one) for one in event.private.subjects)
    private = Unsealed(subjects, event.private.fields())
    return msgspec.structs.replace(event, private=private)


async def seal_request(keyring: Keyring | None, request: AppendRequest) -> AppendRequest:
    """Call this as `seal_requests`, for one."""
    for event in request.events:
        if event.private is not None:
            return (await seal_requests(keyring, [request]))[0]
    return request


async def open_events(
    keyring: Keyring | None, events: Sequence[StoredEvent]
) -> Sequence[StoredEvent]:
    """Call this last in an engine's read; without a keyring sealed fields stay sealed."""
    return events if keyring is None else await keyring.open(events)


async def seal_snapshot(keyring: Keyring | None, snapshot: Snapshot, key: str) -> Snapshot:
    """Call this before a snapshot is kept; `KeyringMissing`, or `SubjectForgotten` meanwhile.

    `key` is its stream's name among those of all tenants: it opens under no other.
    """
    if not snapshot.subjects:
        return snapshot
    if keyring is None:
        raise KeyringMissing(f"the snapshot of {snapshot.stream_id}")
    sealed = await keyring.seal_bytes(_place_of(snapshot, key), snapshot.subjects, snapshot.data)
    return replace(snapshot, data=SEALED + sealed, subjects=frozenset())


async def open_snapshot(
    keyring: Keyring | None, kept: Snapshot | None, key: str
) -> Snapshot | None:
    """Call this with a kept snapshot; None when it cannot be read any more."""
    if kept is None or not kept.data.startswith(SEALED):
        return kept
    if keyring is None:
        return None
    sealed = kept.data.removeprefix(SEALED)
    data = await keyring.open_bytes(_place_of(kept, key), sealed)
    if data is None:
        return None
    subjects = frozenset(msgspec.json.decode(sealed, type=SealedFields).keys)
    return replace(kept, data=data, subjects=subjects)


def _place_of(snapshot: Snapshot, key: str) -> str:
    return f"snapshot {key} {snapshot.version} {snapshot.schema}"


def with_events(request: AppendRequest, events: Sequence[NewEvent]) -> AppendRequest:
    """Call this for a request with its events sealed."""
    return replace(request, events=events)


class SealedFields(msgspec.Struct, frozen=True):
    """What stands under `$private` in a stored event: whose keys sealed which fields.

    Also of a sealed text that stands elsewhere. The keys are named by subject and number.
    """

    keys: Mapping[str, int]
    # None is a field that was erased when it was stored.
    fields: Mapping[str, bytes | None]


@message
class LookForForgotten:
    """Tells the watch to look now; it tells itself so every second."""


class ForgettingWatch(Actor[LookForForgotten]):
    """Calls `tell` when a subject was forgotten, in whatever process; each second it looks.

    For what holds texts that were opened before, such as a page that is shown: whoever reads again
    reads `ERASED`. Start it before those who read. A look is one short query.
    """

    def __init__(self, keyring: Keyring, tell: Callable[[], None]) -> None:
        self._keyring, self._tell = keyring, tell
        # How many had been forgotten when it last looked; None: the store was away at the start.
        self._forgets: int | None = None
        self._is_away = False

    async def on_start(self) -> None:
        """Look, so that only what is forgotten from here on is told."""
        with trio.move_on_after(FRESH_S):
            self._forgets = await self._maybe_count()
        self.after(FRESH_S, LookForForgotten(), key="look")

    async def on_look_for_forgotten(self, message: LookForForgotten) -> None:
        """Look, and tell."""
        count = await self._maybe_count()
        if count is not None and count != self._forgets:
            self._forgets = count
            self._tell()
        self.after(FRESH_S, LookForForgotten(), key="look")

    async def _maybe_count(self) -> int | None:
        try:
            count = await self._keyring.forgets()
        except StoreError as error:
            if not self._is_away:
                _log.warning("persistence.forgetting_waits", code=error.code)
            self._is_away = True
            return None
        self._is_away = False
        return count
