"""How a program's own event classes become stored events, and back.

A class is marked once with `@event`, which gives it its stored name, `OrderPlaced.v1`. The
stored bytes never change. When the class does, it gets a new version and an upcaster from the
old one, a pure function on the decoded mapping; when it is renamed, an alias; and when it
becomes several, a splitter. Which road leads from which name is `roads.py`.

Rule 1: what a class cannot promise (immutable fields, a unique name, no secrets) is refused
when its module is imported, not when the first event is stored.
Rule 2: what an event is split into stands where it stands: its parts have its version, cursor
and id. Who reads a stored event has read all of it or nothing.
"""

import dataclasses
from abc import ABCMeta
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import TypeVar, cast, dataclass_transform, get_type_hints, overload
from uuid import UUID

import msgspec

from actors.persistence.errors import (
    CodecError,
    InvalidField,
    KeyringMissing,
    UnknownEventType,
)
from actors.persistence.private import (
    ERASED,
    PRIVATE_CODEC,
    PRIVATE_KEY,
    Opened,
    PrivateShape,
    open_private,
    private_shape,
)
from actors.persistence.roads import Fields, Place, Roads, Step, check_targets, parsed, shown, where
from actors.persistence.words import APPEND_EVENTS_MAX, NewEvent, Query, StoredEvent, Tagged
from actors.reducers import is_command, is_event, mark_event
from actors.reducers.messages import here, is_mutable
from actors.runtime import Log

T = TypeVar("T")
Upcaster = Callable[[Fields], Fields]
Splitter = Callable[[Fields], Iterable[tuple[str, Fields]]]

# Above this an event is allowed and worth a look (the limit is 64 KiB).
EVENT_BYTES_NOTABLE = 10 * 1024

# An event is read as at most so many: as an append may bring. More is a splitter without an end.
PARTS_MAX = APPEND_EVENTS_MAX

# Events are for ever; what is in these fields must not be.
_SECRET_WORDS = ("password", "passwd", "token", "secret", "cvv", "pan")

_log = Log("actors.persistence")


class EventTypes:
    """A set of event classes with their names and upcasters; `EVENTS` is everyone's own."""

    def __init__(self) -> None:
        self._classes: dict[str, type] = {}  # current class by plain name
        self._marks: dict[type, tuple[str, int]] = {}
        self._roads = Roads()
        self._decoders: dict[type, Callable[[bytes], object]] = {}
        self._private: dict[type, PrivateShape] = {}
        # By name and version of an event, and the classes that somebody wants.
        self._parts_of: dict[tuple[str, int, tuple[type, ...] | None], int | None] = {}
        self._noted: set[str] = set()

    def __repr__(self) -> str:
        return f"<EventTypes {len(self._marks)} classes, {len(self._roads)} upcasters>"

    def event(
        self,
        *,
        name: str | None = None,
        version: int = 1,
        allow: Collection[str] = (),
        aliases: Collection[str] = (),
        subject: str | Sequence[str] | None = None,
    ) -> Callable[[type[T]], type[T]]:
        """Call this as a decorator to give a class of events its stored name.

        A plain class becomes a frozen dataclass, as by `@command`; a frozen dataclass or Struct
        stays what it is.

        `allow` names fields that look like secrets and are none. `aliases` are names under which
        its events were stored before, of any version: versions go on under the new name.
        `subject` says whose its `Private` fields are: the name of a field, or a text such as
        `"customer:{customer_id}"`; of several subjects each can be forgotten alone, and takes the
        fields along, and one that ends in `?` is left out where its field is empty. A mutable
        class or field, a suspicious field, or a name that is taken: `TypeError` naming both
        places.
        """

        def mark(cls: type[T]) -> type[T]:
            cls = _frozen(cls)
            shape = private_shape(cls, subject)
            self._register(cls, cls.__name__ if name is None else name, version, allow, aliases)
            if shape is not None:
                self._private[cls] = shape
            return cls

        return mark

    def upcaster(self, old: str, new: str) -> Callable[[Upcaster], Upcaster]:
        """Call this as a decorator: `upcaster("OrderPlaced.v1", "OrderPlaced.v2")`.

        One version up, or to another name: `upcaster("OrderPlaced.v2", "OrderOpened.v1")`. The
        function is pure: it gets the decoded mapping and gives that of the next version.
        """
        place, target = parsed(old), parsed(new)
        if target[0] == place[0] and target[1] != place[1] + 1:
            raise TypeError(f"an upcaster goes one version up, not from {old} to {new}")

        def register(function: Upcaster) -> Upcaster:
            self._parts_of.clear()
            self._roads.lead(place, Step(function, (target,), is_split=False))
            return function

        return register

    def splitter(self, old: str, *new: str) -> Callable[[Splitter], Splitter]:
        """Call this as a decorator to read one stored event as several, as none, or as another.

        ```python
        @splitter("OrderPlaced.v1", "OrderOpened.v1", "ItemAdded.v1")
        def split(fields: dict[str, object]) -> Iterable[tuple[str, dict[str, object]]]:
            yield "OrderOpened.v1", {"customer": fields["customer"]}
            for item in fields["items"]:
                yield "ItemAdded.v1", {"item": item}
        ```

        The pure function gives names out of `new` with their fields, in the order in which they
        are applied, at most `PARTS_MAX` (1,000); without `new` the event is read as nothing.
        Their own upcasters follow.
        """
        place, targets = parsed(old), tuple(parsed(one) for one in new)
        check_targets(place, targets)

        def register(function: Splitter) -> Splitter:
            self._parts_of.clear()
            self._roads.lead(place, Step(function, targets, is_split=True))
            return function

        return register

    def check(self) -> None:
        """Call this at start: every road must end at a class; else `TypeError`.

        Refused are a missing link, a circle, two upcasters for one step, also by an alias, and
        an upcaster from what is written today. Aggregates and projections call it when they
        start.
        """
        self._roads.check()

    def name_of(self, cls: type) -> str:
        """Call this for the stored name of a class, `OrderPlaced.v1`; `TypeError` if unmarked."""
        if cls not in self._marks:
            raise TypeError(f"{cls.__qualname__} is no event; mark it with @event")
        name, version = self._marks[cls]
        return f"{name}.v{version}"

    def check_marked(self, classes: AbstractSet[type]) -> None:
        """Call this with classes that are to be events; `TypeError` for one that is unmarked."""
        if not classes <= self._marks.keys():
            for cls in classes:
                self.name_of(cls)

    def is_event(self, value: object) -> bool:
        """Call this to ask whether a value is of a marked class."""
        return type(value) in self._marks

    def is_private(self, cls: type) -> bool:
        """Call this to ask whether a class has private fields."""
        return cls in self._private

    def has_private(self, classes: AbstractSet[type]) -> bool:
        """Call this to ask whether one of these classes has private fields."""
        return not self._private.keys().isdisjoint(classes)

    def encode(
        self,
        event: object,
        *,
        event_id: UUID,
        metadata: Mapping[str, str] | None = None,
        tenant: str | None = None,
        tags: Sequence[str] = (),
    ) -> NewEvent:
        """Call this to make an event storable; `EventTooLarge` above 64 KiB.

        One that JSON cannot hold, such as half of a surrogate pair, is `InvalidField`, and so is
        one that could not be read back, such as a number that is none, or a text where its class
        declares another type: it would end its stream. Private fields stand beside the bytes, for
        the store to seal; an event that has them is not read back here.
        """
        self.name_of(type(event))
        name, version = self._marks[type(event)]
        shape, private = self._private.get(type(event)), None
        try:
            if shape is None:
                data = msgspec.json.encode(event)
                self._decoders[type(event)](data)
            else:
                data, private = shape.take_apart(event)
        except InvalidField:
            raise
        except msgspec.ValidationError as error:
            # What is expected, and where: not what was given.
            raise InvalidField(f"{name}.v{version}", f"cannot be read back: {error}") from None
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            # Not the encoder's own words, which may quote what somebody wrote.
            why = f"cannot be written as JSON ({type(error).__name__})"
            raise InvalidField(f"{name}.v{version}", why) from None
        if len(data) > EVENT_BYTES_NOTABLE and name not in self._noted:
            self._noted.add(name)
            _log.warning("persistence.large_event", event_type=name, bytes=len(data))
        return NewEvent(
            event_id=event_id,
            type=name,
            schema_version=version,
            data=data,
            codec="json" if private is None else PRIVATE_CODEC,
            metadata=metadata or {},
            tenant=tenant,
            private=private,
            tags=tags,
        )

    def knows(self, stored: StoredEvent) -> bool:
        """Call this to ask whether a class, an alias or an upcaster has a stored event's name."""
        return self._roads.knows(stored.type)

    def decode(self, stored: StoredEvent) -> object:
        """Call this to get an event back as its class, through upcasters when it is older.

        Unknown fields are ignored, missing ones get their defaults. Raises
        `UnknownEventType`, or `CodecError` naming the field, or the upcaster that raised, or
        that it is read as none or several today, which `decode_all` gives; and `KeyringMissing`
        when its private fields were not opened.
        """
        cls = self._classes.get(stored.type)
        if cls is not None and stored.schema_version == self._marks[cls][1]:
            return self._decode(cls, stored.data, stored.private, stored)
        found = self.decode_all(stored)
        if len(found) != 1:
            why = f"is read as {len(found)} events today; read it with decode_all"
            raise CodecError(shown((stored.type, stored.schema_version)), stored.version, "$", why)
        return found[0]

    def decode_all(self, stored: StoredEvent) -> Sequence[object]:
        """Call this as `decode`, for an event that may be read as none or several, in order.

        The store's own, which say what became of a stream, are read as none.
        """
        if stored.is_system:
            return ()
        cls = self._classes.get(stored.type)
        if cls is not None and stored.schema_version == self._marks[cls][1]:
            return (self._decode(cls, stored.data, stored.private, stored),)
        return [
            self._decode(self._classes[name], data, private, stored)
            for name, data, private in self._travel(stored)
        ]

    def parts(
        self, stored: StoredEvent, wanted: Sequence[type] | None = None
    ) -> Sequence[StoredEvent]:
        """Call this for the stored events that a stored event is read as today, of some classes.

        The event itself where no splitter stands on its road, whatever it is named: `decode`
        reads it. Else its parts, named as today, in order: all have its version, cursor and id,
        and `part` counts them from 0. One that cannot be read is given as it is, for `decode`
        to tell why; a splitter that raises is a `CodecError`.
        """
        # Found out once for each kind of event, of which a program has some hundreds: this is asked
        # of every event that a projection is given. -1 is "not yet".
        key = (stored.type, stored.schema_version, None if wanted is None else tuple(wanted))
        count = self._parts_of.get(key, -1)
        if count == -1:
            count = self._parts_of[key] = self._count_parts(key[:2], wanted)
        if count is not None:
            return (stored,) * count
        names = self._names(wanted)
        return [
            msgspec.structs.replace(
                stored,
                type=name,
                schema_version=self._version_of(name),
                data=data,
                part=number,
                private=private,
            )
            for number, (name, data, private) in enumerate(self._travel(stored))
            if names is None or name in names
        ]

    def _count_parts(self, place: Place, wanted: Sequence[type] | None) -> int | None:
        """0 or 1 for an event that is given as it is, if at all; None for one that is split."""
        names, ends = self._names(wanted), self._roads.ends(place)
        if ends is None:
            return int(names is None or place[0] in self._roads.stored_as(names))
        if names is not None and not names & ends:
            return 0
        return None if self._roads.splits(place) else 1

    def stored_as(self, *classes: type) -> Sequence[str]:
        """Call this for the names under which events of these classes are stored: to filter by.

        Today's names, their aliases, and those from which an upcaster or splitter leads there.
        """
        return sorted(self._roads.stored_as(self._names(classes) or frozenset()))

    def widened(self, names: Sequence[str] | None) -> Sequence[str] | None:
        """Call this with the names of a filter: those of today bring those of before with them."""
        if names is None:
            return None
        today = frozenset(name for name in names if name in self._classes)
        return sorted({*names, *self._roads.stored_as(today)})

    def widened_query(self, query: Query) -> Query:
        """Call this with a query: its types of today bring those of before with them."""
        return [
            one if not one.types else Tagged(one.tags, self.widened(one.types) or ())
            for one in query
        ]

    def roads_to(self, classes: Collection[type]) -> Sequence[str]:
        """Call this for the steps that lead to these classes, as texts: other ones, other states.

        Classes that are no events are left out.
        """
        marked = [self._marks[cls][0] for cls in classes if cls in self._marks]
        return list(self._roads.leading_to(marked))

    def beside(self, classes: Collection[type]) -> Sequence[str]:
        """Call this for names of events that come out of a splitter together with these classes."""
        names = frozenset(self._marks[cls][0] for cls in classes if cls in self._marks)
        return sorted(self._roads.beside(names))

    def _names(self, classes: Sequence[type] | None) -> frozenset[str] | None:
        if classes is None:
            return None
        return frozenset(self.name_of(cls).rpartition(".v")[0] for cls in classes)

    def _version_of(self, name: str) -> int:
        return self._marks[self._classes[name]][1]

    def _decode(
        self, cls: type, data: bytes, private: Opened | None, stored: StoredEvent
    ) -> object:
        try:
            if stored.codec != PRIVATE_CODEC:
                return self._decoders[cls](data)
            fields = _clear_fields(data, private, stored)
            return msgspec.convert(fields, cls, dec_hook=open_private, str_keys=True)
        except msgspec.ValidationError as error:
            reason, _, at = str(error).partition(" - at ")
            raise CodecError(stored.type, stored.version, at.strip("`") or "$", reason) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise CodecError(stored.type, stored.version, "$", str(error)) from error

    def _travel(self, stored: StoredEvent) -> list[tuple[str, bytes, Opened | None]]:
        """What a stored event is read as: names of today, each with its bytes, in order.

        What is private stands beside the bytes then too.
        """
        if not self._roads.knows(stored.type):
            raise UnknownEventType(stored.type, stored.stream_id, stored.version)
        place = (stored.type, stored.schema_version)
        if self._roads.is_end(place):
            return [(self._roads.today(stored.type), stored.data, stored.private)]
        try:
            fields = _clear_fields(stored.data, stored.private, stored)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise CodecError(shown(place), stored.version, "$", str(error)) from error
        done: list[tuple[str, bytes, Opened | None]] = []
        # The last is the next: what a step gives goes on before what stands behind it.
        ahead: list[tuple[Place, object, int]] = [(place, fields, 0)]
        while ahead:
            at, value, steps = ahead.pop()
            if self._roads.is_end(at):
                name = self._roads.today(at[0])
                shape = self._private.get(self._classes[name])
                done.append((name, *_encoded(value, at, stored, shape)))
                continue
            made = self._make(at, value, stored)
            # More steps than there are would be a circle that nobody looked for with `check`.
            if steps > len(self._roads) or len(done) + len(ahead) + len(made) > PARTS_MAX:
                why = f"its upcasters come to no end, or to more than {PARTS_MAX} events"
                raise CodecError(shown(at), stored.version, "$", why)
            ahead += [(target, one, steps + 1) for target, one in reversed(made)]
        return done

    def _make(
        self, place: Place, value: object, stored: StoredEvent
    ) -> Sequence[tuple[Place, object]]:
        """What the step from a place makes of an event there."""
        step = self._roads.step(place)
        if step is None:
            why = "no upcaster leads on from it"
            if (name := self._roads.today(place[0])) in self._classes:
                why = f"no upcaster leads to v{self._version_of(name)}"
            raise CodecError(shown(place), stored.version, "$", why)
        try:
            if not step.is_split:
                return [(step.targets[0], step.function(cast("Fields", value)))]
            given = self._given(step, value)
        except Exception as error:  # noqa: BLE001  (whatever it raises is told as one error)
            why = f"the upcaster {where(step.function)} raised {type(error).__name__}"
            raise CodecError(shown(place), stored.version, "$", why) from _cause(error, stored)
        for target, _ in given:
            if target not in step.targets:
                why = f"the splitter {where(step.function)} gave {shown(target)}, not declared"
                raise CodecError(shown(place), stored.version, "$", why)
        return given

    def _given(self, step: Step, value: object) -> list[tuple[Place, object]]:
        found = cast("Iterable[tuple[str, object]]", step.function(cast("Fields", value)))
        pairs = islice(found, PARTS_MAX + 1)
        return [((self._roads.today(at[0]), at[1]), one) for at, one in _read(pairs)]

    def _register(
        self,
        cls: type,
        name: str,
        version: int,
        allow: Collection[str],
        aliases: Collection[str],
    ) -> None:
        _check_class(cls, allow)
        _check_plain(cls, name)
        if version < 1:
            raise TypeError(f"{where(cls)}: versions count from 1, got {version} ({here()})")
        known = self._classes.get(name)
        if known is not None and where(known) != where(cls):
            raise TypeError(f"{name} is the name of {where(known)} and of {where(cls)} ({here()})")
        _check_aliases(cls, aliases)
        mark_event(cls, f"{name}.v{version}")
        self._parts_of.clear()
        self._roads.write(name, version, aliases)
        self._classes[name] = cls
        self._marks[cls] = (name, version)
        self._decoders[cls] = msgspec.json.Decoder(cls, dec_hook=open_private).decode


def _clear_fields(data: bytes, private: Opened | None, stored: StoredEvent) -> Fields:
    """What an upcaster sees: plain values, private ones too, or `ERASED`."""
    fields: Fields = msgspec.json.decode(data, type=dict[str, object])
    if stored.codec != PRIVATE_CODEC:
        return fields
    fields.pop(PRIVATE_KEY, None)
    if private is None:
        raise KeyringMissing(stored.type)
    if private.broken:
        why = "does not open: it was changed, or moved from another event, or its key is damaged"
        place = (stored.type, stored.schema_version)
        raise CodecError(shown(place), stored.version, ", ".join(sorted(private.broken)), why)
    for name, value in private.fields().items():
        fields[name] = ERASED if value is None else msgspec.json.decode(value)
    return fields


def _cause(error: Exception, stored: StoredEvent) -> Exception | None:
    """What is told with an error: of an event with private fields nothing, which it may quote."""
    return None if stored.codec == PRIVATE_CODEC else error


def _frozen(cls: type[T]) -> type[T]:
    """A plain class as a frozen dataclass; what has a nature of its own is left as it is."""
    if not isinstance(cls, type):
        raise TypeError(
            f"@event makes a class of events, not {cls!r}; a name is given by `name=` ({here()})"
        )
    is_plain = type(cls) in (type, ABCMeta) and not issubclass(cls, (tuple, BaseException))
    if not is_plain or "__dataclass_fields__" in vars(cls):
        return cls
    # What is made is another class, for its slots; a mark of this one would be lost.
    if is_command(cls) or is_event(cls):
        raise TypeError(f"{where(cls)} is a command or an event already ({here()})")
    return dataclasses.dataclass(frozen=True, slots=True)(cls)


def _check_class(cls: type, allow: Collection[str]) -> None:
    if issubclass(cls, msgspec.Struct):
        is_frozen = bool(cls.__struct_config__.frozen)
    else:
        is_frozen = dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    if not is_frozen:
        raise TypeError(
            f"{where(cls)} is no frozen dataclass or msgspec.Struct(frozen=True); of a plain class "
            f"@event makes one ({here()})"
        )
    for field, hint in get_type_hints(cls).items():
        if is_mutable(hint):
            raise TypeError(f"{where(cls)}.{field} is mutable; events never change ({here()})")
        words = field.lower().split("_")
        if field not in allow and any(word in words for word in _SECRET_WORDS):
            raise TypeError(
                f"{where(cls)}.{field} looks like a secret, and events are for ever; "
                f"leave it out, or allow it by name ({here()})"
            )


def _check_aliases(cls: type, aliases: Collection[str]) -> None:
    if isinstance(aliases, str):
        raise TypeError(f"{where(cls)}: aliases is one text; give a list of names ({here()})")
    for alias in aliases:
        _check_plain(cls, alias)


def _check_plain(cls: type, name: object) -> None:
    if not isinstance(name, str) or not name or name.rpartition(".v")[2].isdigit():
        raise TypeError(f"{where(cls)}: {name!r} is no plain name, such as OrderPlaced ({here()})")


def _read(pairs: Iterable[tuple[str, object]]) -> Iterable[tuple[Place, object]]:
    for name, fields in pairs:
        yield parsed(name), fields


def _encoded(
    fields: object, place: Place, stored: StoredEvent, shape: PrivateShape | None
) -> tuple[bytes, Opened | None]:
    """The bytes of what an upcaster gave; what its class has as private stands beside them."""
    try:
        if stored.private is None or not isinstance(fields, dict):
            return msgspec.json.encode(fields), stored.private
        names = frozenset() if shape is None else frozenset(shape.fields.values())
        private = {
            name: None if value is ERASED else msgspec.json.encode(value)
            for name, value in fields.items()
            if name in names and value is not None
        }
        clear = {name: value for name, value in fields.items() if name not in private}
        return msgspec.json.encode(clear), stored.private.with_fields(private)
    except Exception as error:  # noqa: BLE001  (whatever it raises is told as one error)
        why = f"an upcaster gave what JSON cannot hold ({type(error).__name__})"
        raise CodecError(shown(place), stored.version, "$", why) from _cause(error, stored)


# The types of this program. A set of its own is for tests and for libraries.
EVENTS = EventTypes()
# Those of `EVENTS`, the types of a program that has one set of them.
upcaster = EVENTS.upcaster
# See the line above.
splitter = EVENTS.splitter


@overload
@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def event(cls: type[T], /) -> type[T]: ...
@overload
def event(
    *, name: str | None = None, version: int = 1, allow: Collection[str] = (),
    aliases: Collection[str] = (), subject: str | Sequence[str] | None = None,
) -> Callable[[type[T]], type[T]]: ...  # fmt: skip
def event(
    cls: type[T] | None = None, /, *, name: str | None = None, version: int = 1,
    allow: Collection[str] = (), aliases: Collection[str] = (),
    subject: str | Sequence[str] | None = None,
) -> type[T] | Callable[[type[T]], type[T]]:  # fmt: skip
    """Call this (as a decorator) to make a class of events of this program: see `EventTypes.event`.

    ```python
    @event
    class Deposited:
        cents: int

    @event(name="Taken", version=2)
    class Withdrawn:
        cents: int
    ```
    """
    mark = EVENTS.event(name=name, version=version, allow=allow, aliases=aliases, subject=subject)
    return mark if cls is None else mark(cls)
