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


def problems_of(value: object, kind: object, *, is_lenient: bool = False) -> list[FieldProblem]:
    """Call this with decoded JSON for what keeps it from being a `kind`: at most 20, in order.

    Unknown fields are problems unless `is_lenient`. Of a union the member that the value's tag
    names is looked at, or the only struct in it.
    """
    return list(islice(_problems(value, kind, "", is_lenient), DETAILS_MAX))


@cache
def refuses_unknown(kind: object) -> bool:
    """Call this to learn whether msgspec refuses unknown fields of every struct in a type.

    Raises TypeError for a type that has fields and is no Struct: of those nobody could tell.
    """
    # All are looked at before any is judged: a type that cannot be told is so in any company.
    return all([*_refusing(kind, set())])


def _refusing(kind: object, seen: set[object]) -> Iterator[bool]:
    kind = _plain(kind)
    if _is_struct(kind):
        if kind not in seen:
            seen.add(kind)
            yield kind.__struct_config__.forbid_unknown_fields
            for field in _fields(kind):
                yield from _refusing(field.type, seen)
        return
    if isinstance(kind, type) and (
        hasattr(kind, "__dataclass_fields__")
        or hasattr(kind, "__attrs_attrs__")
        or hasattr(kind, "__total__")
    ):
        raise TypeError(f"{kind.__qualname__} must be a msgspec.Struct to be read from a body")
    for part in get_args(kind):
        yield from _refusing(part, seen)


@cache
def _fields(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(kind)


def _problems(value: object, kind: object, path: str, is_lenient: bool) -> Iterator[FieldProblem]:
    plain = _member(value, _plain(kind))
    if _is_struct(plain) and isinstance(value, dict) and not plain.__struct_config__.array_like:
        yield from _of_struct(value, plain, path, is_lenient)
        return
    item = _item_type(plain)
    if item is not None and isinstance(value, list):
        found = False
        for number, one in enumerate(value):
            for problem in _problems(one, item, f"{path}[{number}]", is_lenient):
                found = True
                yield problem
        if found:
            return
    yield from _of_value(value, kind, path)


def _of_struct(
    value: dict[object, object], kind: type[msgspec.Struct], path: str, is_lenient: bool
) -> Iterator[FieldProblem]:
    config = kind.__struct_config__
    known = {field.encode_name: field for field in _fields(kind)}
    found = False
    for name, field in known.items():
        place = f"{path}.{name}" if path else name
        if name in value:
            for problem in _problems(value[name], field.type, place, is_lenient):
                found = True
                yield problem
        elif field.required:
            found = True
            yield FieldProblem(place, "is missing")
    for extra in value:
        # A struct that forbids them is not read with them, however lenient its route is.
        is_refused = config.forbid_unknown_fields or not is_lenient
        if is_refused and extra not in known and extra != config.tag_field:
            found = True
            yield FieldProblem(f"{path}.{extra}" if path else str(extra), "is not known here")
    if not found:
        # A tag, or what the struct itself checks when it is made.
        yield from _of_value(value, kind, path)


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
