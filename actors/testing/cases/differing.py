"""What differs between what was expected and what came, field by field."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import msgspec


def difference(wanted: object, got: object, name: str) -> str:
    """Call this for a text with a line for each part that differs; empty when they are equal."""
    return "\n".join(_lines(wanted, got, name))


def _lines(wanted: object, got: object, name: str) -> Iterator[str]:
    if wanted == got:
        return
    if type(wanted) is type(got):
        if isinstance(wanted, list | tuple) and isinstance(got, Sequence):
            yield from _lines_of_several(wanted, got, name)
            return
        fields = _fields(wanted)
        if fields:
            before = len(fields)
            for field in fields:
                lines = list(_lines(getattr(wanted, field), getattr(got, field), f"{name}.{field}"))
                before -= bool(lines)
                yield from lines
            if before < len(fields):
                return
    yield f"{name}: expected {wanted!r}, got {got!r}"


def _lines_of_several(wanted: Sequence[object], got: Sequence[object], name: str) -> Iterator[str]:
    for at, (one, other) in enumerate(zip(wanted, got, strict=False)):
        yield from _lines(one, other, f"{name}[{at}]")
    for at in range(len(got), len(wanted)):
        yield f"{name}[{at}]: expected {wanted[at]!r}, got nothing"
    for at in range(len(wanted), len(got)):
        yield f"{name}[{at}]: expected nothing, got {got[at]!r}"


def _fields(value: object) -> tuple[str, ...]:
    if isinstance(value, msgspec.Struct):
        return value.__struct_fields__
    if dataclasses.is_dataclass(value):
        return tuple(one.name for one in dataclasses.fields(value))
    return ()
