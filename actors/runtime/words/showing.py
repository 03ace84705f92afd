"""Values of user code as text and as plain data: cut while they are walked, secrets hidden.

Whoever looks at a value must not pay for its size, must not fail because of it, and must not
learn a password from it. So one walk does all three: it goes down from the outside, leaves out
what is too deep, too long or too much, hides what stands under the name of a secret, and never
looks at what it leaves out. `repr` is called for single things only, never for containers: of a
list of a million it would write a million texts, to be thrown away.

What an actor's own `redact` hides, and how much is shown where, is in `watching/presenting.py`.
"""

from __future__ import annotations

import dataclasses
import math
import re
from array import array
from collections import ChainMap, UserDict, UserList, UserString, deque
from collections.abc import Callable, ItemsView, Iterable, KeysView, Mapping, ValuesView
from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import chain, islice
from json.encoder import encode_basestring_ascii
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any, Final, Literal, NamedTuple, TypeGuard

# An error's message is a line to read, not a dump; reports hold the rest.
SHOWN_MAX: Final = 1000
HIDDEN: Final = "***"
MISSING: Final = "(not set)"
CUT: Final = "… (cut)"
# Deeper than this nobody reads.
DEPTH_MAX: Final = 4
# Of the attributes of one object; one that has more is a table in disguise.
FIELDS_MAX: Final = 1000
# Larger numbers no reader of JSON takes.
NUMBER_BITS_MAX: Final = 256
# Beyond 4300 digits Python refuses to write a number, and long before it takes its time.
DECIMAL_BITS_MAX: Final = 3000
# Marks of what was cut, one a level at most, have room beside what is shown.
_ROOM_FOR_MARKS: Final = 400
_NAME_MAX: Final = 200
# An item takes at least a digit, and two characters to the next one.
_ITEM_LEAST: Final = 3
# An entry takes its key as well: a character in quotes, a colon, and two to the next one.
_ENTRY_LEAST: Final = 8

_TELLING = (
    "password|passwd|passphrase|token|secret|cookie|authorization|api[_-]?key|private[_-]?key"
)
_SECRET_NAME = re.compile(f"(?i){_TELLING}")
# A quote may be left open: texts are cut before they are redacted.
_SECRET_IN_TEXT = re.compile(
    rf"(?i)({_TELLING})([\"']?\s*[=:]\s*)"
    r"(\"[^\"]*(?:\"|\Z)|'[^']*(?:'|\Z)|(?:bearer\s+|basic\s+)?[^\s,;&)]+)"
)
# One of these is in whatever the two patterns find.
_IN_SECRETS: Final = (
    "pass",
    "token",
    "secret",
    "cookie",
    "key",
    "authorization",
    "bearer",
    "basic",
)
# Also where the header's name stands elsewhere, as in a list of pairs. A word has no digit.
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+(?=[\w.~+/=-]*\d)[\w.~+/=-]{16,}")
# An address: between `://` and the `@` a name, and behind a colon a password; libpq takes it as a
# parameter too, and one for the key of a client's certificate.
_IN_ADDRESS = re.compile(r"(://[^\s/?#:@]*:)[^\s/?#]*@")
_IN_PARAMETER = re.compile(r"(?i)([?&](?:ssl)?password=)[^\s&#\"']*")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of a value is shown: in all, of one text, of one container, and how deep.

    `total` counts characters of a text, and bytes of JSON of plain data.
    """

    total: int = SHOWN_MAX
    text: int = SHOWN_MAX
    items: int = 1000
    depth: int = DEPTH_MAX


_SHOWN: Final = Bounds()


# As text


def shown(value: object, bounds: Bounds = _SHOWN) -> str:
    """Call this instead of `repr`, for what user code has made: cut, secrets hidden.

    It costs about as much as the text it gives is long, and raises nothing.
    """
    walk = _Text(bounds)
    walk.show(value, bounds.depth)
    return walk.text()


def text_of(value: object) -> str:
    """Call this instead of `str`, for what user code has made; cut to SHOWN_MAX characters."""
    if _is_text(value) and _has_plain_repr(value, str):
        return _cut_text(str.__getitem__(value, slice(SHOWN_MAX + 1)), SHOWN_MAX)
    own: object = type(value).__str__
    if not _is_written_by_user(own):
        # By its class, as everywhere where nothing guards it: `__class__` may be user code too.
        if issubclass(type(value), BaseException):
            assert isinstance(value, BaseException)
            return _called(_text_of_error, value)
        # What `repr` would write; and those whose text is as long as they are large.
        if own is object.__str__ or issubclass(type(value), int | bytes | bytearray):
            return shown(value)
    return _cut_text(_called(str, value), SHOWN_MAX)


def fields_shown(name: str, fields: Mapping[str, object], bounds: Bounds) -> str:
    """Call this to show `fields` as the call that would make them: `Point(x=1, y=2)`."""
    walk = _Text(bounds)
    walk.show_parts(_Parts("fields", f"{name}(", ")", fields.items(), len(fields)), bounds.depth)
    return walk.text()


def _text_of_error(error: object) -> str:
    assert isinstance(error, BaseException)
    # `str` of an error writes out all its arguments, however large they are.
    args = error.args
    if isinstance(error, BaseExceptionGroup):
        return f"{text_of(error.message)} ({len(error.exceptions)} sub-exceptions)"
    if len(args) <= FIELDS_MAX and all(map(_is_small, args)):
        return _cut_text(_called(str, error), SHOWN_MAX)
    if len(args) == 1 and not isinstance(error, KeyError):
        return text_of(args[0])
    return shown(args)


def _is_small(value: object) -> bool:
    if type(value) is str or type(value) is bytes:
        return len(value) <= SHOWN_MAX
    return type(value) in _ATOMS


class _Text:
    """One walk that writes; it stops when `total` is written."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._written: list[str] = []
        # One more than may be shown: whether there was more is seen by that.
        self._left = bounds.total + 1

    def text(self) -> str:
        """What was written, with a mark when there is more."""
        return _cut_text("".join(self._written), self._bounds.total)

    def show(self, value: object, depth: int) -> None:
        """Write a value of which `depth` levels may be shown."""
        parts = _guarded_parts_of(value)
        if parts is None:
            self._write(_leaf(value, min(self._bounds.text, self._left)))
        elif depth <= 0:
            self._write(CUT)
        else:
            self.show_parts(parts, depth)

    def show_parts(self, parts: _Parts, depth: int) -> None:
        """Write what stands inside a value."""
        self._write(parts.opening)
        try:
            for number, (name, inner) in enumerate(islice(parts.pairs, self._bounds.items)):
                if number:
                    self._write(", ")
                if self._left <= 0:
                    return
                if name is None:
                    self.show(inner, depth - 1)
                else:
                    self._show_named(parts.kind, name, inner, depth)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - a container of user code may fail in any way
            self._write(_failed(parts.pairs, error))
        if parts.size > self._bounds.items:
            self._write(f", {parts.size - self._bounds.items} more {CUT}")
        self._write(parts.closing)

    def _show_named(self, kind: _Kind, name: object, inner: object, depth: int) -> None:
        written = _name_of(name)
        is_secret = _SECRET_NAME.search(written) is not None
        if kind in ("fields", "call"):
            self._write(f"{written}=")
        else:
            self._write(f"{written!r}: " if isinstance(name, str) else f"{written}: ")
        if is_secret:
            self._write(HIDDEN)
        else:
            self.show(inner, depth - 1)

    def _write(self, text: str) -> None:
        self._written.append(text)
        self._left -= len(text)


# As plain data


def plain(value: object, *bounds: Bounds) -> object:
    """Call this to make anything ready for JSON, marked where cut; raises nothing.

    The first of `bounds` that a value fits into is taken; into the last one it is made to fit.
    """
    for number, one in enumerate(bounds, 1):
        walk = _Plain(one, must_fit=number == len(bounds))
        try:
            return walk.make(value, one.depth)
        except _TooMuchError:
            continue
    return CUT


class _TooMuchError(Exception):
    """More than the bounds allow, and others are to be tried."""


class _Plain:
    """One walk that makes plain data, and knows how long that is as JSON."""

    def __init__(self, bounds: Bounds, *, must_fit: bool) -> None:
        self._bounds, self._must_fit = bounds, must_fit
        self._left = bounds.total - _ROOM_FOR_MARKS

    def make(self, value: object, depth: int) -> object:
        """Give a value of which `depth` levels may be shown."""
        if _is_plain(value):
            return self._take(value)
        if _is_text(value):
            return self._take(_text(value, self._bounds.text))
        parts = _guarded_parts_of(value)
        if parts is None or parts.kind == "call":
            # What can only be shown as text; a call inside has its own levels in it.
            text_max = self._bounds.text
            return self._take(shown(value, Bounds(text_max, text_max, depth=depth)))
        if depth <= 0:
            return self._take(CUT)
        try:
            return self._inside(parts, depth - 1)
        except _TooMuchError:
            raise
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - a container of user code may fail in any way
            return self._take(_failed(value, error))

    def _inside(self, parts: _Parts, depth: int) -> object:
        if not self._must_fit and parts.size * _ITEM_LEAST > self._left:
            raise _TooMuchError  # As would be seen soon; nothing need be shown for that.
        pairs: _Pairs = islice(parts.pairs, self._bounds.items)
        # Not of a user's class, whose code would be run for what is not shown in the end.
        if not self._must_fit and depth > 0 and parts.opening in ("{", "[", "("):
            pairs = list(pairs)
            if self._least(pairs) > self._left:
                raise _TooMuchError
        listed: list[object] = []
        named: dict[str, object] = {}
        shown_ = 0
        if parts.kind == "fields":
            named["type"] = self._take(parts.opening.rstrip("("))
        for name, inner in pairs:
            if self._left <= 0:
                break
            shown_ += 1
            self._left -= 2  # What stands between two.
            if name is None:
                listed.append(self.make(inner, depth))
                continue
            written = _name_of(name)
            self._take(written)
            is_secret = _SECRET_NAME.search(written) is not None
            named[written] = self._take(HIDDEN) if is_secret else self.make(inner, depth)
        more = parts.size - shown_
        if parts.kind == "items":
            return [*listed, f"{more} more {CUT}"] if more > 0 else listed
        return {**named, CUT: f"{more} more"} if more > 0 else named

    def _least(self, pairs: _Pairs) -> int:
        """What the commonest containers among these take at least, were each item a digit.

        A state of a thousand of them was made into text up to the limit, and once more for each
        of the bounds: 6 ms of a turn.
        """
        least, items = 0, self._bounds.items
        for _, inner in pairs:
            cls = type(inner)
            if cls is dict:
                least += min(len(inner), items) * _ENTRY_LEAST  # type: ignore[arg-type]  # as asked
            elif cls is list or cls is tuple:
                least += min(len(inner), items) * _ITEM_LEAST  # type: ignore[arg-type]  # as asked
        return least

    def _take(self, leaf: object) -> object:
        written = encode_basestring_ascii(leaf) if isinstance(leaf, str) else repr(leaf)
        self._left -= len(written) + 2
        if self._left < 0:
            if not self._must_fit:
                raise _TooMuchError
            return CUT
        return leaf


def _is_plain(value: object) -> bool:
    """Whether JSON takes a number or None as it is."""
    if type(value) is int:
        return value.bit_length() <= NUMBER_BITS_MAX
    if type(value) is float:
        return math.isfinite(value)
    return value is None or type(value) is bool


# The name of a class, past its metaclass: that may have code of its own for what everybody asks.
class_name: Final[Callable[[type], str]] = type.__dict__["__name__"].__get__


# What is in a value

# items: of a list. mapping: of a dict, by key. fields: of an object, by name. call: what an error
# or a partial was made with; as plain data it is a text.
_Kind = Literal["items", "mapping", "fields", "call"]
_Pairs = Iterable[tuple[object, object]]


class _Parts(NamedTuple):
    """The inside of a value, not looked at yet: pairs of a name (None: it has none) and a value."""

    kind: _Kind
    opening: str
    closing: str
    pairs: _Pairs
    size: int


_ATOMS: Final = frozenset({type(None), bool, int, float, complex})
# By name: written out, they would be made anew at each look.
_LISTED: Final = (list, tuple, set, frozenset, deque, array)
# Those of the library that are written in Python; their methods go through all they hold.
_WRAPPERS: Final = (UserDict, UserList, ChainMap)
_VIEWS: Final = (KeysView, ValuesView, ItemsView)
_LISTS: Final = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
    deque: ("deque([", "])"),
}


def _guarded_parts_of(value: object) -> _Parts | None:
    try:
        return _parts_of(value)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - attributes of user code may fail in any way; `repr` says how
        return None


def _parts_of(value: object) -> _Parts | None:
    """What is inside a value; None for a leaf, which `repr` can be asked for."""
    cls = type(value)
    if cls in _ATOMS or cls is str or cls is bytes:
        return None
    # By far the commonest; the questions below take longer than the rest of it.
    if cls is dict:
        assert isinstance(value, dict)
        return _Parts("mapping", "{", "}", value.items(), len(value))
    if cls in _LISTS:
        assert isinstance(value, _LISTED)
        return _listed(value, len(value))
    if isinstance(value, _WRAPPERS):
        return _behind(value)
    if isinstance(value, Mapping):
        pairs: _Pairs = dict.items(value) if isinstance(value, dict) else value.items()
        return _Parts("mapping", f"{class_name(cls)}({{", "})", pairs, len(value))
    if isinstance(value, tuple) and hasattr(cls, "_fields"):
        return _fields(cls, zip(cls._fields, tuple.__iter__(value), strict=False), len(value))
    if isinstance(value, _LISTED):
        return _listed(value, len(value))
    if isinstance(value, _VIEWS):
        return _listed(value, len(value))
    if isinstance(value, BaseException):
        if _is_written_by_user(cls.__repr__):
            return None
        return _Parts("call", f"{class_name(cls)}(", ")", _nameless(value.args), len(value.args))
    if cls is partial:
        assert isinstance(value, partial)
        pairs = chain(_nameless((value.func, *value.args)), value.keywords.items())
        return _Parts("call", "partial(", ")", pairs, 1 + len(value.args) + len(value.keywords))
    return _parts_of_object(value)


def _behind(value: UserDict[Any, Any] | UserList[Any] | ChainMap[Any, Any]) -> _Parts:  # type: ignore[explicit-any]  # of anything
    """What a wrapper holds, without asking the wrapper."""
    name = class_name(type(value))
    if isinstance(value, ChainMap):
        return _Parts("items", f"{name}(", ")", _nameless(value.maps), len(value.maps))
    parts = _parts_of(value.data)
    assert parts is not None, "it holds a dictionary or a list"
    return parts._replace(opening=f"{name}({parts.opening}", closing=f"{parts.closing})")


def _parts_of_object(value: object) -> _Parts | None:
    cls = type(value)
    # A `__repr__` that somebody wrote knows better what of the object is to be seen.
    if isinstance(value, type) or _is_written_by_user(cls.__repr__):
        return None
    if dataclasses.is_dataclass(cls):
        if cls.__repr__ is object.__repr__:
            return None
    elif not isinstance(value, SimpleNamespace) and not (
        hasattr(cls, "__struct_fields__") or hasattr(cls, "__attrs_attrs__")
    ):
        return None
    fields = fields_of(value)
    return _fields(cls, fields.items(), len(fields))


def _fields(cls: type, pairs: _Pairs, size: int) -> _Parts:
    return _Parts("fields", f"{class_name(cls)}(", ")", pairs, size)


def _listed(value: Iterable[object], size: int) -> _Parts:
    cls = type(value)
    if cls in _LISTS:
        opening, closing = _LISTS[cls]
        if cls is tuple and size == 1:
            closing = ",)"
        if cls is set and not size:
            opening, closing = "set(", ")"
        return _Parts("items", opening, closing, _nameless(value), size)
    return _Parts("items", f"{class_name(cls)}([", "])", _nameless(value), size)


def _nameless(values: Iterable[object]) -> _Pairs:
    return ((None, value) for value in values)


def _is_written_by_user(method: object) -> bool:
    """Whether a `__repr__` or `__str__` has a source; those of C and of decorators have none."""
    method = getattr(method, "__wrapped__", method)
    return isinstance(method, FunctionType) and not method.__code__.co_filename.startswith("<")


def _has_plain_repr(value: object, cls: type) -> bool:
    own: object = type(value).__repr__
    return own is cls.__repr__ or isinstance(value, Enum)


# A leaf


def _is_text(value: object) -> TypeGuard[str]:
    return issubclass(type(value), str)


def _leaf(value: object, room: int) -> str:
    """One thing as text, about `room` characters of it."""
    if _is_text(value) and type(value).__repr__ is str.__repr__:
        return repr(redact_text(str.__getitem__(value, slice(room)))) + _mark(len(value), room)
    if issubclass(type(value), UserString):
        assert isinstance(value, UserString)
        return _called(lambda _: _leaf(value.data, room), value)
    if type(value).__repr__ in (bytes.__repr__, bytearray.__repr__):
        assert isinstance(value, bytes | bytearray)
        return repr(value[:room]) + _mark(len(value), room)
    if type(value) is int and value.bit_length() > DECIMAL_BITS_MAX:
        return hex(value >> (value.bit_length() - NUMBER_BITS_MAX)) + CUT
    if type(value) is MethodType:
        # Its own text holds that of the whole object behind it.
        return f"<bound method {_called(_qualified_name, value)}>"
    if type(value) in _ATOMS:
        return repr(value)
    return redact_text(_called(repr, value)[: room + 1])


def _qualified_name(value: object) -> str:
    return str(getattr(value, "__qualname__", class_name(type(value))))


def _mark(length: int, room: int) -> str:
    return CUT if length > room else ""


def _text(value: str, room: int) -> str:
    """A text as it goes into JSON: cut, and without half a surrogate pair."""
    if not _has_plain_repr(value, str):
        return _leaf(value, room)
    whole = str.__getitem__(value, slice(room + 1)).encode(errors="replace").decode()
    return redact_text(whole[:room]) + _mark(len(whole), room)


def _name_of(name: object) -> str:
    if type(name) is str:
        name = name[:_NAME_MAX]
        return name if name.isascii() else name.encode(errors="replace").decode()
    if type(name) is int and name.bit_length() <= NUMBER_BITS_MAX:
        return repr(name)
    return shown(name, Bounds(_NAME_MAX, _NAME_MAX, depth=1))


def _called(show: Callable[[object], object], value: object) -> str:
    """What `repr` or `str` gives for a value of user code, or that it failed."""
    try:
        return str(show(value))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a `__repr__` of user code raises
        return _failed(value, error)


def _failed(value: object, error: BaseException) -> str:
    return f"<{class_name(type(value))}: its text failed with {class_name(type(error))}>"


def _cut_text(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - len(CUT)] + CUT


# Secrets, and fields


def redact_text(text: str) -> str:
    """Call this to hide what follows a word like `password=` or `token:` in free text."""
    text = without_passwords(text)
    # Most texts hold none of it, and looking for words is 20 times faster than for patterns.
    folded = text.casefold()
    if any(word in folded for word in _IN_SECRETS):
        text = _SECRET_IN_TEXT.sub(rf"\1\2{HIDDEN}", text)
        text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    return text


def without_passwords(text: str) -> str:
    """Call this to hide the passwords of addresses, as `scheme://user:password@host` has one."""
    if "://" in text:
        text = _IN_ADDRESS.sub(rf"\1{HIDDEN}@", text)
    return _IN_PARAMETER.sub(rf"\1{HIDDEN}", text) if "=" in text else text


def redact_names(state: dict[str, object]) -> dict[str, object]:
    """Call this to hide values by their names; it is the default of `Actor.redact`.

    It looks at the names of `state` itself, at most 1,000 of them. What lies deeper is left as it
    is: it is hidden by its names when it is shown, and most of it never is.
    """
    names = islice(state.items(), FIELDS_MAX)
    hidden = {name: HIDDEN if _SECRET_NAME.search(name) else value for name, value in names}
    if len(state) > FIELDS_MAX:
        hidden[CUT] = f"{len(state) - FIELDS_MAX} more"
    return hidden


def fields_of(value: object) -> dict[str, object]:
    """Call this to get the public fields of a message or an actor's state, at most 1,000.

    A dataclass field declared with `repr=False` is hidden by the type itself, also when no
    actor is left whose `redact` could be asked.
    """
    cls = type(value)
    if dataclasses.is_dataclass(cls):
        return {
            field.name: getattr(value, field.name, MISSING) if field.repr else HIDDEN
            for field in dataclasses.fields(cls)
        }
    if (names := getattr(cls, "__struct_fields__", None)) is not None:
        return {name: getattr(value, name, MISSING) for name in names}
    if (attributes := getattr(cls, "__attrs_attrs__", None)) is not None:
        return {
            one.name: getattr(value, one.name, MISSING) if one.repr else HIDDEN
            for one in attributes
        }
    fields = attributes_of(value)
    return {"value": value} if fields is None else fields


def attributes_of(value: object, most: int = FIELDS_MAX) -> dict[str, object] | None:
    """Call this to get the attributes of an object, those in slots too; None if it has no place.

    `_life`, by which an instance knows its incarnation, is none of an actor's state.
    """
    slots = slots_of(type(value))
    attributes = getattr(value, "__dict__", None)
    if attributes is None and not slots:
        return None
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    found.update(islice(attributes.items() if attributes else (), most))
    found.pop("_life", None)
    return found


def slots_of(cls: type) -> list[str]:
    """Call this to get the names of the attributes that objects of a class have in slots."""
    names = [name for base in cls.__mro__ for name in _slot_names(base)]
    return [name for name in names if name not in ("_life", "__dict__", "__weakref__")]


def _slot_names(cls: type) -> Iterable[str]:
    """The slots a class itself adds, by the names they are reached by."""
    slots: str | Iterable[str] = cls.__dict__.get("__slots__", ())
    for name in (slots,) if isinstance(slots, str) else slots:
        is_private = name.startswith("__") and not name.endswith("__")
        yield f"_{class_name(cls).lstrip('_')}{name}" if is_private else name
