"""How a program's own event classes become stored events, and back.

A class is marked once with `@event`, which gives it its stored name, `OrderPlaced.v1`. The
stored bytes never change: when the class does, it gets a new version and an upcaster from
the old one, a pure function on the decoded mapping.

Rule 1: what a class cannot promise (immutable fields, a unique name, no secrets) is refused
when its module is imported, not when the first event is stored.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar, get_origin, get_type_hints
from uuid import UUID

import msgspec

from actors.persistence.errors import CodecError, InvalidField, UnknownEventType
from actors.persistence.words import NewEvent, StoredEvent
from actors.runtime import Log

T = TypeVar("T")
Fields = dict[str, object]
Upcaster = Callable[[Fields], Fields]

# Above this an event is allowed and worth a look (the limit is 64 KiB).
EVENT_BYTES_NOTABLE = 10 * 1024

# Events are for ever; what is in these fields must not be.
_SECRET_WORDS = ("password", "passwd", "token", "secret", "cvv", "pan")

_MUTABLE = (list, dict, set, bytearray)

_log = Log("actors.persistence")


class EventTypes:
    """A set of event classes with their names and upcasters; `EVENTS` is everyone's own."""

    def __init__(self) -> None:
        self._classes: dict[str, type] = {}  # current class by plain name
        self._marks: dict[type, tuple[str, int]] = {}
        self._upcasters: dict[tuple[str, int], Upcaster] = {}
        self._decoders: dict[type, Callable[[bytes], object]] = {}
        self._noted: set[str] = set()

    def __repr__(self) -> str:
        return f"<EventTypes {len(self._marks)} classes, {len(self._upcasters)} upcasters>"

    def event(
        self, *, name: str | None = None, version: int = 1, allow: Collection[str] = ()
    ) -> Callable[[type[T]], type[T]]:
        """Call this as a decorator to give a frozen class its stored name.

        `allow` names fields that look like secrets and are none. A mutable class or field, a
        suspicious field, or a name that is taken: `TypeError` naming both places.
        """

        def mark(cls: type[T]) -> type[T]:
            self._register(cls, name or cls.__name__, version, allow)
            return cls

        return mark

    def upcaster(self, old: str, new: str) -> Callable[[Upcaster], Upcaster]:
        """Call this as a decorator: `upcaster("OrderPlaced.v1", "OrderPlaced.v2")`."""
        name, version = _split(old)
        new_name, new_version = _split(new)
        if (new_name, new_version) != (name, version + 1):
            raise TypeError(f"an upcaster goes one version up, not from {old} to {new}")

        def register(function: Upcaster) -> Upcaster:
            if (name, version) in self._upcasters:
                known = self._upcasters[name, version]
                raise TypeError(f"{old} has an upcaster already: {_place(known)}")
            self._upcasters[name, version] = function
            return function

        return register

    def check(self) -> None:
        """Call this at start: every chain of upcasters must reach its class; else `TypeError`."""
        for name, version in sorted(self._upcasters):
            cls = self._classes.get(name)
            if cls is None:
                raise TypeError(f"{name}.v{version} has an upcaster and no class")
            current = self._marks[cls][1]
            for step in range(version, current):
                if (name, step) not in self._upcasters:
                    raise TypeError(f"the upcaster from {name}.v{step} is missing")
            if version >= current:
                raise TypeError(f"{name}.v{version} has an upcaster, the class is v{current}")

    def name_of(self, cls: type) -> str:
        """Call this for the stored name of a class, `OrderPlaced.v1`; `TypeError` if unmarked."""
        if cls not in self._marks:
            raise TypeError(f"{cls.__qualname__} is no event; mark it with @event")
        name, version = self._marks[cls]
        return f"{name}.v{version}"

    def is_event(self, value: object) -> bool:
        """Call this to ask whether a value is of a marked class."""
        return type(value) in self._marks

    def encode(
        self,
        event: object,
        *,
        event_id: UUID,
        metadata: Mapping[str, str] | None = None,
        tenant: str | None = None,
    ) -> NewEvent:
        """Call this to make an event storable; `EventTooLarge` above 64 KiB.

        One that JSON cannot hold, such as half of a surrogate pair, is `InvalidField`.
        """
        self.name_of(type(event))
        name, version = self._marks[type(event)]
        try:
            data = msgspec.json.encode(event)
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
            metadata=metadata or {},
            tenant=tenant,
        )

    def knows(self, stored: StoredEvent) -> bool:
        """Call this to ask whether a class is registered for a stored event."""
        return stored.type in self._classes

    def decode(self, stored: StoredEvent) -> object:
        """Call this to get an event back as its class, through upcasters when it is older.

        Unknown fields are ignored, missing ones get their defaults. Raises
        `UnknownEventType`, or `CodecError` naming the field, or the upcaster that raised.
        """
        cls = self._classes.get(stored.type)
        if cls is None:
            raise UnknownEventType(stored.type, stored.stream_id, stored.version)
        try:
            if stored.schema_version == self._marks[cls][1]:
                return self._decoders[cls](stored.data)
            return self._upcast(cls, stored)
        except msgspec.ValidationError as error:
            reason, _, at = str(error).partition(" - at ")
            raise CodecError(stored.type, stored.version, at.strip("`") or "$", reason) from error
        except msgspec.DecodeError as error:
            raise CodecError(stored.type, stored.version, "$", str(error)) from error

    def _upcast(self, cls: type, stored: StoredEvent) -> object:
        fields: Fields = msgspec.json.decode(stored.data, type=dict[str, object])
        for step in range(stored.schema_version, self._marks[cls][1]):
            function = self._upcasters.get((stored.type, step))
            if function is None:
                break
            try:
                fields = function(fields)
            except Exception as error:
                why = f"the upcaster {_place(function)} raised {type(error).__name__}"
                raise CodecError(f"{stored.type}.v{step}", stored.version, "$", why) from error
        else:
            if stored.schema_version < self._marks[cls][1]:
                return msgspec.convert(fields, cls)
        raise CodecError(
            f"{stored.type}.v{stored.schema_version}",
            stored.version,
            "$",
            f"no upcaster leads to v{self._marks[cls][1]}",
        )

    def _register(self, cls: type, name: str, version: int, allow: Collection[str]) -> None:
        _check_class(cls, allow)
        if version < 1:
            raise TypeError(f"{cls.__qualname__}: versions count from 1, got {version}")
        known = self._classes.get(name)
        if known is not None and _place(known) != _place(cls):
            raise TypeError(f"{name} is the name of {_place(known)} and of {_place(cls)}")
        self._classes[name] = cls
        self._marks[cls] = (name, version)
        self._decoders[cls] = msgspec.json.Decoder(cls).decode


def _check_class(cls: type, allow: Collection[str]) -> None:
    if issubclass(cls, msgspec.Struct):
        is_frozen = bool(cls.__struct_config__.frozen)
    else:
        is_frozen = dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    if not is_frozen:
        raise TypeError(f"{_place(cls)} is no frozen dataclass or msgspec.Struct(frozen=True)")
    for field, hint in get_type_hints(cls).items():
        if (get_origin(hint) or hint) in _MUTABLE:
            raise TypeError(f"{_place(cls)}.{field} is mutable; events never change")
        words = field.lower().split("_")
        if field not in allow and any(word in words for word in _SECRET_WORDS):
            raise TypeError(
                f"{_place(cls)}.{field} looks like a secret, and events are for ever; "
                "leave it out, or allow it by name"
            )


def _split(full: str) -> tuple[str, int]:
    name, dot, version = full.rpartition(".v")
    if not dot or not version.isdigit():
        raise TypeError(f"{full!r} is no stored name; it has the form OrderPlaced.v1")
    return name, int(version)


def _place(thing: object) -> str:
    module = getattr(thing, "__module__", "?")
    return f"{module}.{getattr(thing, '__qualname__', thing)}"


# The types of this program. A set of its own is for tests and for libraries.
EVENTS = EventTypes()
event = EVENTS.event
upcaster = EVENTS.upcaster
