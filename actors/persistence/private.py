"""Private fields: what an event says of a person, kept so that it can be forgotten.

An event class marks such a field `Private[str]` and says whose it is; the stored bytes hold
it sealed with a key of that *subject*. When the key is deleted nobody can read the field any
more, and what is read is `ERASED`; the event itself stays, as events do.

Here are the words only, and how a class with such fields is taken apart: what may stand in
clear, and what must be sealed (`Unsealed`). The keys, and who seals and opens, stand behind the
ports in `beside_log/subject_keys.py`.

Rule 1: nothing here shows a clear text: neither `repr`, nor a copy, nor a pickle.
"""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import (
    Final,
    Generic,
    Never,
    TypeVar,
    final,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from actors.persistence.errors import InvalidField

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")

# How a stored event says that it has sealed fields, and where they stand in its JSON. No field of
# a class can have that name, so no text of a visitor can be taken for a sealed one.
PRIVATE_CODEC = "json+private"
# Where the sealed fields stand in the body of an event.
PRIVATE_KEY = "$private"

# At the end of a subject: it is left out where a field of its name is empty.
MAY_BE_NOBODY = "?"

# An index entry's worth, as all keys.
SUBJECT_BYTES_MAX = 255

_HIDDEN = "***"


class Erased(StrEnum):
    """The type of `ERASED`."""

    ERASED = "ERASED"


# What a private field holds when its subject was forgotten. A text, so that JSON and people can
# have it; asked for with `is`, since anybody may write the same letters.
ERASED: Final = Erased.ERASED


@final
class Private(Generic[T_co]):
    """A value of a person's in an event; shows `***` wherever it is printed.

    `Private[str]` is the type of an event's field, `Private("Ann")` its value:

    ```python
    @event(subject="customer:{customer_id}")
    @dataclass(frozen=True)
    class CustomerNamed:
        customer_id: str
        name: Private[str]
    ```

    `reveal()` gives the value, or `ERASED` when the subject was forgotten. It cannot be pickled.
    """

    # In a function, not in a field: whatever lists fields and slots finds nothing to print.
    __slots__ = ("_opened",)
    _opened: Callable[[], T_co | Erased]

    def __init__(self, value: T_co | Erased) -> None:
        self._opened = lambda: value

    def reveal(self) -> T_co | Erased:
        """Call this to get the value where it is used, or `ERASED`."""
        return self._opened()

    def or_else(self: Private[T], other: T) -> T:
        """Call this to get the value, or another one when it is erased."""
        value = self._opened()
        return other if value is ERASED else value

    @property
    def is_erased(self) -> bool:
        """Call this to ask whether the subject was forgotten."""
        return self._opened() is ERASED

    def __repr__(self) -> str:
        return f"Private({self})"

    def __str__(self) -> str:
        return str(ERASED) if self.is_erased else _HIDDEN

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Private):
            return NotImplemented
        mine, theirs = self.reveal(), other.reveal()
        # Anybody may write the letters of `ERASED`.
        return (mine is ERASED) == (theirs is ERASED) and bool(mine == theirs)

    def __hash__(self) -> int:
        return hash((Private, self.is_erased, self.reveal()))

    def __copy__(self) -> Private[T_co]:
        return self

    def __deepcopy__(self, memo: object) -> Private[T_co]:
        return self

    def __reduce__(self) -> Never:
        raise TypeError("a Private is not pickled: who writes it down says so with `reveal()`")


@final
class Unsealed:
    """The private fields of an event that is to be stored: whose they are, and their JSON.

    `fields` gives them by name; None stands for one that is erased already.
    """

    __slots__ = ("_opened", "subjects")
    _opened: Callable[[], Mapping[str, bytes | None]]

    def __init__(self, subjects: tuple[str, ...], fields: Mapping[str, bytes | None]) -> None:
        self.subjects = subjects
        self._opened = lambda: fields

    def fields(self) -> Mapping[str, bytes | None]:
        """Call this to get the clear JSON of each field."""
        return self._opened()

    def __repr__(self) -> str:
        return f"<Unsealed fields of {', '.join(self.subjects)}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Unsealed):
            return NotImplemented
        return self.subjects == other.subjects and self.fields() == other.fields()

    def __hash__(self) -> int:
        return hash(self.subjects)

    def __reduce__(self) -> Never:
        raise TypeError("private fields are not pickled")


@final
class Opened:
    """The private fields of a stored event as a store with keys has opened them.

    `fields` gives their JSON by name, None for an erased one. `broken` names those that do not
    open though the key is there: they were changed, or moved from another event. `forgets` is
    how many subjects had been forgotten when they were opened.
    """

    __slots__ = ("_opened", "broken", "forgets", "subjects")
    _opened: Callable[[], Mapping[str, bytes | None]]

    def __init__(
        self,
        subjects: tuple[str, ...],
        fields: Mapping[str, bytes | None],
        *,
        broken: frozenset[str] = frozenset(),
        forgets: int = 0,
    ) -> None:
        self.subjects, self.broken, self.forgets = subjects, broken, forgets
        self._opened = lambda: fields

    def fields(self) -> Mapping[str, bytes | None]:
        """Call this to get the clear JSON of each field."""
        return self._opened()

    def with_fields(self, fields: Mapping[str, bytes | None]) -> Opened:
        """Call this for other fields of the same subjects: what an upcaster made of these."""
        return Opened(self.subjects, fields, forgets=self.forgets)

    def __repr__(self) -> str:
        return f"<Opened fields of {', '.join(self.subjects)}>"

    def __eq__(self, other: object) -> bool:
        # Beside the stored bytes, which say all that makes two events the same.
        return isinstance(other, Opened) or NotImplemented

    def __hash__(self) -> int:
        return hash(self.subjects)

    def __reduce__(self) -> Never:
        raise TypeError("private fields are not pickled")


@dataclasses.dataclass(frozen=True, slots=True)
class PrivateShape:
    """Which fields of an event class are private, by name and stored name, and whose they are."""

    fields: Mapping[str, str]
    subjects: tuple[str, ...]

    def take_apart(self, event: object) -> tuple[bytes, Unsealed]:
        """Call this for the JSON of what may stand in clear, and the rest.

        Raises what the encoder raises, and `InvalidField` for a subject that is none.
        """
        clear = msgspec.to_builtins(event, str_keys=True, enc_hook=_nothing)
        sealed: dict[str, bytes | None] = {}
        for name, stored_name in self.fields.items():
            value = getattr(event, name)
            if value is None:
                continue
            clear.pop(stored_name, None)
            inner = value.reveal()
            sealed[stored_name] = None if inner is ERASED else msgspec.json.encode(inner)
        return msgspec.json.encode(clear), Unsealed(self.subjects_of(event), sealed)

    def subjects_of(self, event: object) -> tuple[str, ...]:
        """Call this for the subjects of an event; `InvalidField` when one cannot be named."""
        found = (_filled(template, event) for template in self.subjects)
        subjects = tuple(one for one in found if one is not None)
        if not subjects:
            raise InvalidField(type(event).__qualname__, "has private fields that are nobody's")
        return subjects


def _nothing(value: object) -> None:
    if not isinstance(value, Private):
        raise TypeError(f"JSON cannot hold a {type(value).__name__}")


def _filled(template: str, event: object) -> str | None:
    """The name of a subject; None where it may be left out, and is."""
    parts = []
    for text, name, _, _ in string.Formatter().parse(template.removesuffix(MAY_BE_NOBODY)):
        parts.append(text)
        if name is None:
            continue
        value = getattr(event, name)
        if value is None or value == "":
            if template.endswith(MAY_BE_NOBODY):
                return None
            where = f"{name} of {type(event).__qualname__}"
            raise InvalidField(where, "is empty, and says whose the private fields are")
        parts.append(str(value))
    return "".join(parts)


def open_private(hint: type, value: object) -> object:
    """Call this as the decoder's hook: makes the `Private` that a field is declared as."""
    if hint is object:
        return value  # whatever JSON had there
    if get_origin(hint) is not Private and hint is not Private:
        raise NotImplementedError(f"no decoder for {hint}")
    if isinstance(value, Erased):
        return Private(ERASED)
    (inner,) = get_args(hint) or (object,)
    try:
        return Private(msgspec.convert(value, inner, str_keys=True))
    except msgspec.ValidationError:
        # Not its own words, which may quote the value.
        raise ValueError("a private field does not hold what is declared") from None


# A private value in a state that is kept as a snapshot, which is sealed as a whole: its JSON is a
# list of it, and an empty one when it is erased, which no value is.


def keep_private(value: object) -> list[object]:
    """Call this as the encoder's hook of a kept state."""
    if not isinstance(value, Private):
        raise TypeError(f"JSON cannot hold a {type(value).__name__}")
    return [] if value.is_erased else [value.reveal()]


def kept_private(hint: type, value: object) -> object:
    """Call this as the decoder's hook of a kept state."""
    if not isinstance(value, list) or len(value) > 1:
        raise ValueError("a private field was kept in another form")
    return open_private(hint, value[0] if value else ERASED)


def private_schema(hint: type) -> dict[str, object]:
    """Call this as the hook of a state's JSON Schema."""
    if get_origin(hint) is not Private and hint is not Private:
        raise NotImplementedError(f"no schema for {hint}")
    return {"private": [str(part) for part in get_args(hint)]}


def private_shape(cls: type, subject: str | Sequence[str] | None) -> PrivateShape | None:
    """Call this when a class is registered; `TypeError` when it promises what it cannot hold."""
    hints, where = get_type_hints(cls), f"{cls.__module__}.{cls.__qualname__}"
    private = {name for name, hint in hints.items() if _is_private(hint)}
    for name in sorted(private):
        if any((get_origin(one) or one) in (list, dict, set) for one in _inner(hints[name])):
            raise TypeError(f"{where}.{name} is mutable; events never change")
    for name, hint in hints.items():
        if name not in private and _holds_private(hint, set()):
            raise TypeError(
                f"{where}.{name} has something private inside; Private is the type of a whole field"
            )
    subjects = (subject,) if isinstance(subject, str) else tuple(subject or ())
    if not private:
        if subjects:
            raise TypeError(f"{where} names a subject and has no field that is Private")
        return None
    if not subjects:
        raise TypeError(
            f"{where} has private fields ({', '.join(sorted(private))}) and does not say whose: "
            '@event(subject="customer:{customer_id}")'
        )
    clear = hints.keys() - private
    templates = tuple(_checked(one, clear, where) for one in subjects)
    return PrivateShape(_stored_names(cls, private, where), templates)


def _checked(template: str, clear: set[str], where: str) -> str:
    if template in clear:
        return f"{{{template}}}"
    names = [
        name
        for _, name, spec, conversion in string.Formatter().parse(template)
        if name is not None and not spec and conversion is None
    ]
    if not names or not clear.issuperset(names) or template.count("{") != len(names):
        raise TypeError(
            f"{where}: the subject {template!r} must name fields of the class that are not "
            'private, as in "customer:{customer_id}"'
        )
    return template


def _stored_names(cls: type, private: set[str], where: str) -> Mapping[str, str]:
    if dataclasses.is_dataclass(cls):
        return {one.name: one.name for one in dataclasses.fields(cls) if one.name in private}
    assert issubclass(cls, msgspec.Struct), "an event is one or the other"
    if cls.__struct_config__.array_like:
        raise TypeError(f"{where} is stored as an array, which has no room for private fields")
    found = {
        one.name: one.encode_name for one in msgspec.structs.fields(cls) if one.name in private
    }
    if PRIVATE_KEY in (one.encode_name for one in msgspec.structs.fields(cls)):
        raise TypeError(f"{where} has a field that is stored as {PRIVATE_KEY}, which is ours")
    return found


def _is_private(hint: object) -> bool:
    """Whether a field is `Private[...]`, or that or None."""
    parts = [part for part in get_args(hint) if part is not type(None)]
    if get_origin(hint) is not Private and len(parts) == 1 and type(None) in get_args(hint):
        (hint,) = parts
    return hint is Private or get_origin(hint) is Private


def _inner(hint: object) -> tuple[object, ...]:
    """What a private field may hold."""
    if get_origin(hint) is Private:
        found = get_args(hint)
        return (*found, *(part for one in found for part in get_args(one)))
    return tuple(part for one in get_args(hint) for part in _inner(one))


def _holds_private(hint: object, seen: set[object]) -> bool:
    if hint is Private or get_origin(hint) is Private:
        return True
    if any(_holds_private(part, seen) for part in get_args(hint)):
        return True
    if not isinstance(hint, type) or hint in seen:
        return False
    seen.add(hint)
    if not (dataclasses.is_dataclass(hint) or issubclass(hint, msgspec.Struct)):
        return False
    return any(_holds_private(part, seen) for part in get_type_hints(hint).values())
