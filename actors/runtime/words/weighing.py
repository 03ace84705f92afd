"""About how many bytes a value holds on to, found out in a few microseconds.

For bounds on what is kept. It looks at a bounded number of objects: of a container the first few
stand for all of them. It is an estimate: what several hold together counts for each, and what
stands behind an object that is no plain data (a ref, a socket) is not counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import chain, islice
from sys import getsizeof
from typing import Final, TypeAlias

# Objects looked at in all, and of one container: enough to tell ten bytes from ten megabytes.
LOOKS_MAX: Final = 40
SAMPLE: Final = 10
DEPTH_MAX: Final = 5
# Numbers, None and the like: small, and often shared.
_SMALL: Final = frozenset({int, float, bool, type(None)})
_SMALL_SIZE: Final = 32
# By name: written out, it would be made anew at each look.
_CONTAINERS: Final = (list, tuple, set, frozenset, deque, dict)
_Container: TypeAlias = (
    list[object]
    | tuple[object, ...]
    | set[object]
    | frozenset[object]
    | deque[object]
    | dict[object, object]
)


def weight_of(value: object) -> int:
    """Call this to estimate the bytes of a message, an error or a state; raises nothing."""
    try:
        names = getattr(type(value), "__dataclass_fields__", None)
        if names is not None:
            # A small message, by far the commonest: this is on the road of every lost one.
            weight = _SMALL_SIZE
            for name in names:
                inner = getattr(value, name, None)
                cls = type(inner)
                if cls in _SMALL:
                    weight += _SMALL_SIZE
                elif cls is str or cls is bytes:
                    weight += getsizeof(inner)
                else:
                    break
            else:
                return weight
        return _Weighing(value).weigh(value, DEPTH_MAX)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - a `__sizeof__`, or an attribute, of user code
        return _SMALL_SIZE


class _Weighing:
    def __init__(self, top: object) -> None:
        self._top, self._looks = top, LOOKS_MAX

    def weigh(self, value: object, depth: int) -> int:
        cls = type(value)
        self._looks -= 1
        weight = getsizeof(value)
        if cls is str or cls is bytes or depth == 0 or self._looks <= 0:
            return weight
        if isinstance(value, _CONTAINERS):
            return weight + self._weigh_items(value, depth - 1)
        names = getattr(cls, "__dataclass_fields__", None) or getattr(
            cls, "__struct_fields__", None
        )
        if names is not None and cls is not value:
            for name in names:
                inner = getattr(value, name, None)
                weight += _SMALL_SIZE if type(inner) in _SMALL else self.weigh(inner, depth - 1)
            return weight
        if isinstance(value, memoryview):
            return weight + value.nbytes  # It holds on to what it is a view of.
        if isinstance(value, BaseException):
            weight += self.weigh(value.args, depth - 1)
        elif value is not self._top:
            # Attributes of other objects lead everywhere: to the whole system, if they like.
            return weight
        attributes = getattr(value, "__dict__", None)
        if type(attributes) is dict:
            weight += self._weigh_items(attributes, depth - 1)
        return weight

    def _weigh_items(self, value: _Container, depth: int) -> int:
        items: Iterable[object] = value
        size = len(value)
        if isinstance(value, dict):
            items, size = chain.from_iterable(dict.items(value)), 2 * size
        weight = seen = 0
        for one in islice(items, SAMPLE):
            cls, seen = type(one), seen + 1
            if cls in _SMALL:
                weight += _SMALL_SIZE
            elif cls is str or cls is bytes:
                weight += getsizeof(one)
            else:
                weight += self.weigh(one, depth)
        return weight * size // seen if seen else 0
