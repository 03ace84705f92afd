"""CSRF tokens for browsers that tell neither `Sec-Fetch-Site`, `Origin` nor `Referer` (SEC-32).

A token proves the page was rendered for this visitor and sign-in. It is masked with fresh random
bytes each time, so a compressed page never holds the same secret twice.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import uuid

from web.server.keys import KeyRing

_SIZE = 32


class CsrfTokens:
    """Makes and checks tokens under a key of their own."""

    __slots__ = ("_key",)

    def __init__(self, ring: KeyRing) -> None:
        self._key = ring.key("csrf token")

    def make(self, visitor: uuid.UUID, sign_in: str = "") -> str:
        """Call this once a form; `sign_in` is the auth session's reference, empty for guests."""
        mask = secrets.token_bytes(_SIZE)
        proof = self._key.sign(_subject(visitor, sign_in))
        return base64.urlsafe_b64encode(mask + _xor(mask, proof)).decode("ascii")

    def verifies(self, token: str, visitor: uuid.UUID, sign_in: str = "") -> bool:
        """Call this with the field or header a request brought; never raises."""
        try:
            raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError):
            return False
        if len(raw) != 2 * _SIZE:
            return False
        proof = _xor(raw[:_SIZE], raw[_SIZE:])
        return self._key.verifies(_subject(visitor, sign_in), proof)


def _subject(visitor: uuid.UUID, sign_in: str) -> bytes:
    return visitor.bytes + sign_in.encode()


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
