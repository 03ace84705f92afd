"""What one form hands to the next through the browser: signed, for a time, and bound to it.

Rule: a ticket proves that it was made here for who brings it, and nothing else. What it says can be
read, and it can be brought twice: what must happen once is the store's to keep.
"""

import base64
import binascii
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Generic, TypeVar

import msgspec

from web.server.edge.visitor import Key

# As long as a link that signs in is good.
TICKET_KEPT = timedelta(minutes=10)
# What a form brings that is longer is none of ours.
TICKET_CHARS_MAX = 1024

T = TypeVar("T", bound=msgspec.Struct)


class _Kept(msgspec.Struct, Generic[T], array_like=True):
    until: int
    bound: str
    said: T


class Tickets:
    """Makes and opens tickets; the class of what they say keeps the kinds apart."""

    def __init__(self, key: Key, now: Callable[[], datetime]) -> None:
        self._key, self._now = key, now

    def make(self, said: msgspec.Struct, bound: str, kept: timedelta = TICKET_KEPT) -> str:
        """Call this for a ticket that opens with the same `bound` only, for as long as said."""
        until = int((self._now() + kept).timestamp())
        data = msgspec.json.encode(_Kept(until, f"{type(said).__name__}:{bound}", said))
        text = base64.urlsafe_b64encode(self._key.sign(data) + data).decode("ascii")
        return text.rstrip("=")

    def open(self, kind: type[T], text: str, bound: str) -> T | None:
        """Call this for what a ticket says; None for one that is over, or none of ours."""
        if len(text) > TICKET_CHARS_MAX or not text.isascii():
            return None
        try:
            given = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except (binascii.Error, ValueError):
            return None
        signature, data = given[:32], given[32:]
        if not self._key.verifies(data, signature):
            return None
        try:
            kept = msgspec.json.decode(data, type=_Kept[kind])  # type: ignore[valid-type]
        except msgspec.MsgspecError:
            return None
        is_good = kept.bound == f"{kind.__name__}:{bound}" and self._now().timestamp() < kept.until
        return kept.said if is_good else None
