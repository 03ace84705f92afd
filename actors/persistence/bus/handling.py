"""How one record is handled for a group: tried, tried again, or made a dead letter.

Rule 1: a record that cannot be read is a dead letter with its raw bytes, whatever the policy.
Rule 2: what is given up is kept before its offset is passed: first as a dead letter, which is the
same one however often this is tried, then on the topic's `.dead`. Where one of them cannot be, the
record is not given up.
Rule 3: a letter says whether it has the whole record; only then can it be put back on its topic.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from uuid import UUID

import trio

from actors.persistence.beside_log.dead_letters import (
    HANDED_BACK,
    LETTER_METADATA_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    NewDeadLetter,
    NotHandedBack,
    StoredDeadLetter,
    chain_of,
    storable,
    words_of,
)
from actors.persistence.bus.errors import BusCodecError, PublishFailed
from actors.persistence.bus.port import (
    Engine,
    Handler,
    HandlerInTransaction,
    Member,
    PutsBack,
)
from actors.persistence.bus.words import (
    DEAD,
    EVENT_ID,
    RETRY,
    Guard,
    Part,
    RawRecord,
    Received,
    Record,
    SubscribeOptions,
)
from actors.persistence.errors import AlreadyHandled, StoreError
from actors.persistence.words import Cursor
from actors.runtime import Log, current_tallies, span_of

RETRY_GROUP = "retry_group"
# Of a key that cannot be read, and of others' headers, a letter has so much.
SHOWN_CHARS = 255
# Of all headers together: with what the letter says itself they fit into its metadata.
SHOWN_BYTES_MAX = LETTER_METADATA_BYTES_MAX // 2
BUS_KEY, BUS_PLACE, BUS_IS_WHOLE = "bus_key", "bus_place", "bus_is_whole"
# What others than the publisher note beside its headers; the last when a letter is taken in hand.
_NOTED = frozenset({BUS_KEY, BUS_PLACE, BUS_IS_WHOLE, RETRY_GROUP, "retry_of"})

_log = Log("actors.bus")


class PartLost(Exception):
    """Ends the reader of a partition that another member has by now."""


@dataclass(frozen=True, slots=True)
class At:
    """Where a reader stands: its partition and epoch, and the topic that it reads for."""

    part: Part
    epoch: int

    @property
    def topic(self) -> str:
        """The topic where its records were published."""
        return self.part.topic.removesuffix(RETRY)


class Handling:
    """What a member does with the records of its group."""

    def __init__(
        self,
        engine: Engine,
        member: Member,
        group: str,
        handler: Handler | HandlerInTransaction,
        options: SubscribeOptions,
    ) -> None:
        self.engine, self.member, self.group = engine, member, group
        self.options = options
        self._handler: object = handler
        self.handled = self.given_up = self.put_aside = 0

    @property
    def is_in_transaction(self) -> bool:
        """Whether an offset is noted with each record that was handled."""
        return self.options.guard is Guard.TRANSACTION

    async def try_once(
        self, at: At, raw: RawRecord, record: Record, attempt: int, offset: Cursor | None
    ) -> Exception | None:
        """Call this to handle a record; gives what the handler raised.

        In a transaction `offset` is noted with it. Raises `PartLost`.
        """
        received = Received(
            at.topic, raw.part.partition, raw.offset, record, raw.published_at, attempt
        )
        began, result = trio.current_time(), "ok"
        handling = span_of(
            "bus.handle", record.headers, topic=at.topic, group=self.group, attempt=attempt
        )
        try:
            with handling:
                await self._handle(at, received, offset)
        except (AlreadyHandled, PartLost) as told:
            if isinstance(told, PartLost):
                raise
            result = "known"
        except Exception as error:  # noqa: BLE001  (whatever a handler raises is a failure)
            self._count(at, began, "failed")
            return error
        self._count(at, began, result)
        self.handled += 1
        return None

    async def _handle(self, at: At, received: Received, offset: Cursor | None) -> None:
        handler = self._handler
        if not self.is_in_transaction:
            await handler(received)  # type: ignore[operator]
            return
        is_ours = await self.member.transact(at.part, at.epoch, received, handler, offset)  # type: ignore[arg-type]
        if not is_ours:
            raise PartLost

    def _count(self, at: At, began: float, result: str) -> None:
        tallies, took = current_tallies(), trio.current_time() - began
        tallies.add("bus_handled_total", at.topic, self.group, result)
        tallies.histogram("bus_handle_seconds", at.topic, self.group).note(took)

    async def try_in_place(self, at: At, raw: RawRecord, record: Record) -> Exception | None:
        """Call this to handle a record, three times more by default; gives the last error."""
        error = await self.try_once(at, raw, record, 1, raw.offset)
        for attempt, delay_s in enumerate(self.options.place_delays_s, 2):
            if error is None or isinstance(error, BusCodecError):
                break
            await trio.sleep(delay_s)
            error = await self.try_once(at, raw, record, attempt, raw.offset)
        return error

    async def park(self, at: At, raw: RawRecord, record: Record, delay_s: float) -> None:
        """Call this to put a record aside, behind those of its key that are."""
        aside = Part(at.topic + RETRY, raw.part.partition)
        marked = replace(raw, headers={**raw.headers, RETRY_GROUP: self.group.encode()})
        parking = self.engine.parking
        # The row first: one without a record is made good by the redelivery, a record without a
        # row would be passed over.
        await parking.park(self.group, at.topic, record.key, record.event_id, 0, delay_s)
        await self.engine.publish_raw(*aside, [marked])
        self.put_aside += 1

    async def give_up(
        self, at: At, raw: RawRecord, error: Exception, event_id: UUID | None = None
    ) -> None:
        """Call this to make a dead letter of a record, its raw bytes on the topic's `.dead`."""
        await self.engine.dead_letters.add(self._letter(at, raw, error, event_id))
        await self.engine.publish_raw(at.topic + DEAD, raw.part.partition, [raw])
        self.given_up += 1
        if isinstance(error, BusCodecError):
            current_tallies().add("bus_codec_errors_total", at.topic, self.group)
        _log.warning(
            "bus.record_given_up",
            topic=at.topic,
            partition=raw.part.partition,
            offset=str(raw.offset),
            group=self.group,
            error=type(error).__name__,
        )

    def _letter(
        self, at: At, raw: RawRecord, error: Exception, event_id: UUID | None
    ) -> NewDeadLetter:
        where = f"{raw.part.topic}/{raw.part.partition}/{raw.offset}"
        headers = {name: text for name, text in raw.headers.items() if name not in _NOTED}
        shown = _shown(headers)
        is_whole = (
            event_id is not None
            and not (_NOTED - {RETRY_GROUP}) & raw.headers.keys()
            and len(raw.value) <= PAYLOAD_BYTES_MAX
            and _text(raw.key).encode() == raw.key
            and {name: text.encode() for name, text in shown.items()} == headers
        )
        marks = {BUS_KEY: _text(raw.key), BUS_PLACE: where}
        if is_whole:
            marks[BUS_IS_WHOLE] = "yes"
        return NewDeadLetter(
            kind="bus",
            source=f"{at.topic}/{self.group}",
            message_id=where if event_id is None else str(event_id),
            error_message=words_of(error),
            error_details=chain_of(error),
            # A larger one stands on the topic's `.dead`.
            payload=raw.value if len(raw.value) <= PAYLOAD_BYTES_MAX else None,
            metadata={**shown, **marks},
        )


def check_whole(stored: StoredDeadLetter) -> tuple[str, Record]:
    """Call this for the topic and the record of a letter; raises `NotHandedBack` without."""
    letter = stored.letter
    if letter.kind != "bus":
        raise NotHandedBack(stored.id, "it speaks of no record of the bus")
    if letter.payload is None or BUS_IS_WHOLE not in letter.metadata:
        topic, _, _ = letter.source.partition("/")
        raise NotHandedBack(
            stored.id,
            f"it has not the whole record, or one that nobody can read; see {topic}{DEAD}",
        )
    headers = {name: text for name, text in letter.metadata.items() if name not in _NOTED}
    event_id = UUID(headers.pop(EVENT_ID))
    record = Record(event_id, letter.metadata[BUS_KEY], letter.payload, headers)
    return letter.source.partition("/")[0], record


async def put_back(engine: Engine, id_: int, by: str) -> StoredDeadLetter:
    """Call this to publish a letter's record on its topic again, and settle the letter.

    All groups get it again; those that handled it know it by its event id. Gives the letter as it
    is then. Raises `NotHandedBack` when the letter has not all of it, or the topic is not on this
    bus; `BusUnavailable`, and cancelled: it is published or not, and the letter stays open. An
    engine that `PutsBack` does both in one commit: then a letter that is open was not published.
    """
    if isinstance(engine, PutsBack):
        try:
            return await engine.put_back(id_, by)
        except PublishFailed as error:
            raise NotHandedBack(id_, error.reason) from error
    letters = engine.dead_letters
    topic, record = check_whole(await letters.get(id_))
    await letters.retry(id_, by)
    try:
        await engine.publish(topic, record)
    except PublishFailed as error:
        await letters.failed_again(id_, words_of(error), by)
        raise NotHandedBack(id_, error.reason) from error
    except StoreError as error:
        await letters.failed_again(id_, words_of(error), by)
        raise
    await letters.resolve(id_, by, HANDED_BACK)
    return await letters.get(id_)


def _shown(headers: Mapping[str, bytes]) -> dict[str, str]:
    """Headers as a letter has them: of anybody, so as many and as long as fit."""
    shown: dict[str, str] = {}
    size = 0
    for name, value in headers.items():
        key, text = _text(name.encode()), _text(value)
        size += len(key.encode()) + len(text.encode())
        if size > SHOWN_BYTES_MAX:
            break
        shown[key] = text
    return shown


def _text(value: bytes) -> str:
    return storable(value.decode(errors="replace"))[:SHOWN_CHARS]
