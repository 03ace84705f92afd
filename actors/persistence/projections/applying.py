"""Applying events in memory, and what becomes of one that cannot be applied.

Nothing is written here: what an attempt comes to, documents and dead letters alike, is
committed by the runner in one transaction with the checkpoint.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias
from uuid import UUID

from actors.persistence.beside_log.dead_letters import NewDeadLetter, chain_of, words_of
from actors.persistence.errors import StoredDataError, StoreError, StoreMisuse, UnknownEventType
from actors.persistence.projections.projection import (
    Document,
    Projection,
    ProjectionTx,
    is_key,
)
from actors.persistence.words import Cursor, StoredEvent

Read: TypeAlias = Callable[[str], Awaitable[Document | None]]

# What is told of an error in a letter or a checkpoint: its first line, for people.
ERROR_CHARS_MAX = 500

BEHIND = "behind a parked event of its stream"
LEFT_OUT = "left out by hand, where it had halted the projection"


@dataclass(slots=True)
class Attempt:
    """What a batch comes to; `done` is the last event that it has dealt with."""

    tx: ProjectionTx
    done: Cursor | None = None
    applied: int = 0
    letters: list[NewDeadLetter] = field(default_factory=list)
    has_failed: bool = False
    halted: str | None = None
    # The event that halts it.
    poison: UUID | None = None


async def attempt(
    projection: Projection,
    events: Sequence[StoredEvent],
    parked: Collection[str],
    read: Read,
    source: str,
    *,
    refused: Exception | None = None,
    left_out: UUID | None = None,
) -> Attempt:
    """Call this to apply events as the policy says; `parked` are the streams set aside before.

    By their names among those of all tenants.

    With `refused` the (one) event is known to fail so; `left_out` is not tried at all. Raises when
    the store is away.
    """
    made, held = Attempt(ProjectionTx(read)), set(parked)
    for event in events:
        if event.stream_key in held:
            made.letters.append(letter(event, source, BEHIND, is_parked=True))
            made.done = event.cursor
            continue
        if event.event_id == left_out:
            made.letters.append(letter(event, source, LEFT_OUT, is_parked=False))
            made.done = event.cursor
            continue
        error = refused or await try_apply(projection, event, made.tx)
        if error is None:
            made.applied += 1
            made.done = event.cursor
            continue
        made.has_failed = True
        if projection.on_poison == "halt":
            made.halted, made.poison = said_of(event, error), event.event_id
            break
        is_parked = projection.on_poison == "park"
        if is_parked:
            held.add(event.stream_key)
        text, chain = said_of(event, error), chain_of_event(event, error)
        made.letters.append(letter(event, source, text, chain, is_parked=is_parked))
        made.done = event.cursor
    return made


async def try_apply(
    projection: Projection, event: StoredEvent, tx: ProjectionTx
) -> Exception | None:
    """Call this to apply one event; what it breaks leaves no trace in `tx` and is returned.

    One that a splitter makes several of is applied with all its parts or not at all.
    """
    try:
        if projection.strict and not projection.types.knows(event):
            raise UnknownEventType(event.type, event.stream_id, event.version)
        for part in projection.types.parts(event, projection.handles):
            await projection.apply(part, tx)
    except (StoredDataError, StoreMisuse) as error:
        tx.forget()
        return error  # of this event: it cannot be read, or asks for what there cannot be
    except StoreError:
        tx.forget()
        raise  # the store is away: the event is not to blame
    except Exception as error:  # noqa: BLE001  (whatever an event breaks is its poison)
        tx.forget()
        return error
    tx.keep()
    return None


def hinted(projection: Projection, events: Iterable[StoredEvent]) -> set[str]:
    """Call this for the documents that a projection says it will ask for.

    Where it cannot say, nothing: `apply` meets what is wrong with an event, and tells it.
    """
    keys: set[str] = set()
    for event in events:
        with suppress(Exception):
            keys.update(key for key in projection.reads(event) if is_key(key))
    return keys


def said(error: Exception) -> str:
    """Call this for an error in words that every table takes.

    A database's further lines quote stored values, which do not belong there; and the text
    may quote what made the event a poison, such as a NUL.
    """
    return words_of(error).splitlines()[0][:ERROR_CHARS_MAX]


def said_of(event: StoredEvent, error: Exception) -> str:
    """Call this for what an event's error says: of one with private fields, only its class.

    What it was raised with may quote them.
    """
    return said(error) if event.private is None else type(error).__name__


def chain_of_event(event: StoredEvent, error: Exception) -> str:
    """Call this for what led to an event's error; of one with private fields without texts."""
    return chain_of(error, has_texts=event.private is None)


def forgets_of(events: Iterable[StoredEvent]) -> int | None:
    """Call this for how many subjects had been forgotten when these events were read.

    None when they have nothing private.
    """
    return min((one.private.forgets for one in events if one.private is not None), default=None)


def subjects_of(events: Iterable[StoredEvent]) -> frozenset[str]:
    """Call this for the subjects whose private fields these events have."""
    private = (event.private for event in events)
    return frozenset(name for one in private if one is not None for name in one.subjects)


def letter(
    event: StoredEvent, source: str, text: str, chain: str = "", *, is_parked: bool
) -> NewDeadLetter:
    """Call this for the letter of an event that a generation of a projection sets aside.

    Keyed by the event's id, which a renumbering of the order leaves as it is. Only a parked
    one has a place in its stream: nothing waits behind one that was skipped.
    """
    return NewDeadLetter(
        kind="projection",
        source=source,
        message_id=str(event.event_id),
        error_message=text,
        error_details=chain,
        payload=event.data,
        metadata=event.metadata,
        stream_id=event.stream_id,
        tenant=event.tenant,
        event_id=event.event_id,
        event_type=event.type,
        event_version=event.schema_version,
        stream_version=event.version if is_parked else None,
    )
