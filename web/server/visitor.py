"""Who the browser is before anyone signs in: a signed random id in a cookie (SITE-43).

A cookie with a bad signature counts as none. The id keys the session actor; it is no proof of
a sign-in. Headers are set by `edge.py`.
"""

from __future__ import annotations

import base64
import binascii
import uuid

from web.server.keys import Key, KeyRing


class Visitor:
    """The browser of one request. `rotate` when someone signs in or out (SEC-13)."""

    __slots__ = ("id", "is_new", "must_be_set")

    def __init__(self, visitor_id: uuid.UUID, *, is_new: bool) -> None:
        self.id = visitor_id
        self.is_new = is_new
        self.must_be_set = False

    def rotate(self) -> uuid.UUID:
        """Call this to give the browser another id with this answer; returns the new one."""
        self.id = uuid.uuid4()
        self.is_new = self.must_be_set = True
        return self.id


class VisitorSigner:
    """Turns ids into cookie values and back."""

    __slots__ = ("_key",)

    def __init__(self, ring: KeyRing) -> None:
        self._key: Key = ring.key("visitor cookie")

    def value(self, visitor_id: uuid.UUID) -> str:
        """Call this to get the cookie value of an id."""
        return f"{visitor_id.hex}.{_text(self._key.sign(visitor_id.bytes))}"

    def maybe_visitor_id(self, value: str) -> uuid.UUID | None:
        """Call this with what the browser sent; None unless it was signed here."""
        name, _, signature = value.partition(".")
        try:
            visitor_id = uuid.UUID(hex=name)
            given = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
        except (ValueError, binascii.Error):
            return None
        # The spelling counts too: one id has one cookie value.
        if name != visitor_id.hex or not self._key.verifies(visitor_id.bytes, given):
            return None
        return visitor_id


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
