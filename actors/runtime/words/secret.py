"""A value that must not be shown: its type hides it, whoever prints or copies its holder."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Generic, Never, TypeVar, final

from actors.runtime.words.showing import HIDDEN

V = TypeVar("V", str, bytes)


@final
class Secret(Generic[V]):
    """Holds a password, a key, a token or an address with one; shows `***` wherever it is printed.

    Give it to whoever must have it; `reveal()` is the one way to the value::

        key = Secret(os.environ["API_KEY"])
        print(key)                      # ***
        client.sign_in(key.reveal())

    Its repr, str and format hide it, so do a dataclass or an actor's state that holds it, in logs
    and crash reports. It cannot be pickled, and no serializer knows it. Copies are itself. Two are
    equal when their values are, compared in constant time.
    """

    # In a function, not in a field: whatever lists fields and slots, a debugger or a report of
    # somebody else's, finds nothing to print.
    __slots__ = ("_opened",)
    _opened: Callable[[], V]

    def __init__(self, value: V) -> None:
        if not isinstance(value, str | bytes):
            raise TypeError(f"a Secret holds str or bytes, not {type(value).__name__}")
        self._opened = lambda: value

    def reveal(self) -> V:
        """Call this to get the value, where it is used and nowhere before."""
        return self._opened()

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})"

    def __str__(self) -> str:
        return HIDDEN

    def __format__(self, spec: str) -> str:
        return format(HIDDEN, spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_bytes(self.reveal()), _bytes(other.reveal()))

    def __hash__(self) -> int:
        return hash((Secret, _bytes(self.reveal())))

    def __copy__(self) -> Secret[V]:
        return self

    def __deepcopy__(self, memo: object) -> Secret[V]:
        return self

    def __reduce__(self) -> Never:
        raise TypeError("a Secret is not pickled: who writes it down says so with `reveal()`")


def _bytes(value: str | bytes) -> bytes:
    # One byte apart, or the text "a" were the same secret as the bytes b"a".
    if isinstance(value, bytes):
        return b"b" + value
    return b"s" + value.encode("utf-8", "surrogatepass")
