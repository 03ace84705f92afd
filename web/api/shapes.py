"""Whether JSON fits a type, and if not where: every wrong field at once, by its path.

Pure. msgspec decodes, and stops at the first thing that is wrong; a client that mends one field at
a time asks twenty times. So what did not fit is walked over again here, field by field.
"""

import re
import types
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import Annotated, NewType, TypeGuard, Union, get_args, get_origin

import msgspec

from web.server import FieldProblem
from web.server.edge.answers import DETAILS_MAX

# SEC-119: no shape of ours is a third as deep, and readers of deeper ones recurse.
DEPTH_MAX = 32
# Where a whole body is wrong, and no field of it.
WHOLE = "body"

_TEXTS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_ALIKE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKET = bytes(set(range(256)) - set(b"{}[]"))
# How msgspec ends its sentence; `$` is the value that was given to it.
_INDEX = re.compile(r" - at `\$\[(\d+)\]")
_WHERE = re.compile(r" - at `\$([^`]*)`$")


def is_too_deep(data: bytes) -> bool:
    """Call this with JSON to learn whether it is nested more than `DEPTH_MAX` deep.

    Pairs of brackets are taken out from within, a level each turn: a megabyte takes some
    milliseconds, whatever is in it. Of what is no JSON it says nothing.
    """
    if data.count(b"[") + data.count(b"{") <= DEPTH_MAX:
        return False
    left = _TEXTS.sub(b"", data).translate(None, _NO_BRACKET).translate(_ALIKE)
    for _ in range(DEPTH_MAX):
        inner = left.replace(b"[]", b"")
        if inner == left:
            return False
        left = inner
    return b"[]" in left


def why_unread(data: bytes) -> str:
    """Call this with JSON before it is decoded for why it is refused, whatever it is to become.

    Empty when it is not. What a decoder passes over, it does not look at: so each road asks here
    first, and none takes what another refuses (SEC-120).
    """
    if is_too_deep(data):
        return f"JSON is nested more than {DEPTH_MAX} deep"
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError as error:
            return f"JSON is malformed: text that is not UTF-8 (byte {error.start})"
    return ""


def problems_of(value: object, kind: object, *, is_lenient: bool = False) -> list[FieldProblem]:
    """Call this with decoded JSON for what keeps it from being a `kind`: at most 20.

    First what is missing or wrong, in order, then unknown fields unless `is_lenient`. Of a union
    the member that the value's tag names is looked at, or the only struct in it.
    """
    found = list(islice(_shapes(value, kind, ""), DETAILS_MAX))
    if not is_lenient:
        found += unknown_fields(value, kind)
    if not found:
        # What a struct checks when it is made, and its tag; or what it forbids on a lenient route.
        found = list(_of_value(value, kind, ""))
    return found[:DETAILS_MAX]


def unknown_fields(value: object, kind: object) -> list[FieldProblem]:
    """Call this with decoded JSON for the fields that no struct of `kind` has: at most 20.

    Only structs are looked into, so a long list of numbers costs nothing.
    """
    return list(islice(_unknown(value, kind, ""), DETAILS_MAX))


@cache
def refuses_unknown(kind: object) -> bool:
    """Call this to learn whether msgspec refuses unknown fields of every struct in a type.

    Raises TypeError for a type that has fields and is no Struct: of those nobody could tell.
    """
    return all(one.__struct_config__.forbid_unknown_fields for one in _structs(kind))


@cache
def _structs(kind: object) -> tuple[type[msgspec.Struct], ...]:
    """All structs in a type, however deep."""
    return tuple(_structs_in(kind, set()))


def _structs_in(kind: object, seen: set[object]) -> Iterator[type[msgspec.Struct]]:
    kind = _plain(kind)
    if _is_struct(kind):
        if kind not in seen:
            seen.add(kind)
            yield kind
            for field in _fields(kind):
                yield from _structs_in(field.type, seen)
        return
    if isinstance(kind, type) and (
        hasattr(kind, "__dataclass_fields__")
        or hasattr(kind, "__attrs_attrs__")
        or hasattr(kind, "__total__")
    ):
        raise TypeError(f"{kind.__qualname__} must be a msgspec.Struct to be read from a body")
    for part in get_args(kind):
        yield from _structs_in(part, seen)


@cache
def _fields(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(kind)


@cache
def _known(kind: type[msgspec.Struct]) -> frozenset[str]:
    """The names a struct has in JSON, its tag among them."""
    tag = kind.__struct_config__.tag_field
    names = {field.encode_name for field in _fields(kind)}
    return frozenset(names if tag is None else names | {tag})


@cache
def _deep(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """The fields of a struct that have structs in them."""
    return tuple(field for field in _fields(kind) if _structs(field.type))


def _unknown(value: object, kind: object, path: str) -> Iterator[FieldProblem]:
    plain = _member(value, _plain(kind))
    if isinstance(value, list):
        item = _plain(_item_type(plain))
        # Of a flat struct one comparison says it: such a list may have a hundred thousand items.
        known = _known(item) if _is_struct(item) and not _deep(item) else None
        for number, one in enumerate(value) if _structs(item) else ():
            if known is None or not isinstance(one, dict) or not known >= one.keys():
                yield from _unknown(one, item, f"{path}[{number}]")
    elif isinstance(value, dict) and _is_struct(plain):
        known = _known(plain)
        if not known >= value.keys():
            for name in value:
                if name not in known:
                    yield FieldProblem(_below(path, name), "is not known here")
        for field in _deep(plain):
            if field.encode_name in value:
                name = field.encode_name
                yield from _unknown(value[name], field.type, _below(path, name))
    elif isinstance(value, dict) and get_origin(plain) is dict:
        for name, one in value.items():
            yield from _unknown(one, get_args(plain)[1], _below(path, name))


def _shapes(value: object, kind: object, path: str) -> Iterator[FieldProblem]:
    plain = _member(value, _plain(kind))
    item = _item_type(plain)
    if _is_struct(plain) and isinstance(value, dict) and not plain.__struct_config__.array_like:
        for field in _fields(plain):
            place = _below(path, field.encode_name)
            if field.encode_name in value:
                yield from _shapes(value[field.encode_name], field.type, place)
            elif field.required:
                yield FieldProblem(place, "is missing")
    elif item is not None and isinstance(value, list):
        found = False
        for problem in _of_items(value, item, path):
            found = True
            yield problem
        if not found:
            yield from _of_length(value, kind, path)
    else:
        yield from _of_value(value, kind, path)


def _of_items(value: list[object], item: object, path: str) -> Iterator[FieldProblem]:
    """Let msgspec look for the next wrong item, as fast as it reads, and tell about that one."""
    first = 0
    # Each look reads the rest: an item that is only refused for an unknown field counts as well.
    for _ in range(DETAILS_MAX):
        try:
            msgspec.convert(value[first:], list[item])  # type: ignore[valid-type]
        except (msgspec.ValidationError, RecursionError) as error:
            where = _INDEX.search(str(error))
            if where is None:
                return
            first += int(where[1])
            yield from _shapes(value[first], item, f"{path}[{first}]")
            first += 1
        else:
            return


def _of_length(value: list[object], kind: object, path: str) -> Iterator[FieldProblem]:
    """Tell how many items there may be, where only that is wrong."""
    for problem in _of_value(value, kind, path):
        if problem.field in (path, WHOLE):
            yield problem


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else str(name)


def _of_value(value: object, kind: object, path: str) -> Iterator[FieldProblem]:
    try:
        msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        text = str(error)
        where = _WHERE.search(text)
        below = where[1] if where else ""
        place = (path + below).removeprefix(".") or WHOLE
        yield FieldProblem(place, _WHERE.sub("", text))


def _plain(kind: object) -> object:
    """The type without what is annotated, and behind its new names."""
    while True:
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        elif isinstance(kind, NewType):
            kind = kind.__supertype__
        else:
            return kind


def _member(value: object, kind: object) -> object:
    """Of a union the struct or list that the value means to be, if that can be told."""
    if get_origin(kind) not in (Union, types.UnionType):
        return kind
    members = [_plain(member) for member in get_args(kind)]
    if isinstance(value, list):
        lists = [member for member in members if _item_type(member) is not None]
        return lists[0] if len(lists) == 1 else kind
    structs = [member for member in members if _is_struct(member)]
    if isinstance(value, dict):
        for one in structs:
            config = one.__struct_config__
            if config.tag is not None and value.get(config.tag_field) == config.tag:
                return one
        if len(structs) == 1 and structs[0].__struct_config__.tag is None:
            return structs[0]
    return kind


def _item_type(kind: object) -> object | None:
    """What a list holds; None for what is none, or says nothing of its items."""
    origin = get_origin(kind)
    args: tuple[object, ...] = get_args(kind)
    is_list = origin in (list, set, frozenset) and len(args) == 1
    is_tuple = origin is tuple and len(args) == 2 and args[1] is Ellipsis
    return args[0] if is_list or is_tuple else None


def _is_struct(kind: object) -> TypeGuard[type[msgspec.Struct]]:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)
