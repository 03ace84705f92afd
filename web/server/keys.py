"""Keys for signing, derived from one secret, one for each purpose (SITE-181).

The current secret signs; it and the previous one verify, so a secret can be rotated without
signing everyone out. What is signed: `visitor.py`, `csrf.py`.
"""

from __future__ import annotations

import hashlib
import hmac

from web.server.errors import SecretTooShort

# 256 bits of entropy are enough for HMAC-SHA256; the site asks for 64 bytes (SEC-125).
SECRET_BYTES_MIN = 32


class Key:
    """Signs and verifies for one purpose. Its repr and str show no key material."""

    __slots__ = ("_material", "_previous", "purpose")

    def __init__(self, purpose: str, material: bytes, previous: bytes | None) -> None:
        self.purpose, self._material, self._previous = purpose, material, previous

    def __repr__(self) -> str:
        return f"<Key for {self.purpose}>"

    def sign(self, data: bytes) -> bytes:
        """Call this to get the 32 bytes that prove `data` came from here."""
        return hmac.digest(self._material, data, "sha256")

    def verifies(self, data: bytes, signature: bytes) -> bool:
        """Call this to check a signature in constant time, by the current or previous secret."""
        if hmac.compare_digest(self.sign(data), signature):
            return True
        if self._previous is None:
            return False
        return hmac.compare_digest(hmac.digest(self._previous, data, "sha256"), signature)


class KeyRing:
    """Derives a `Key` for each purpose from the secrets.

    Raises `SecretTooShort` at construction.
    """

    __slots__ = ("_previous", "_secret")

    def __init__(self, secret: bytes, previous: bytes | None = None) -> None:
        for given in (secret, previous):
            if given is not None and len(given) < SECRET_BYTES_MIN:
                raise SecretTooShort(len(given), SECRET_BYTES_MIN)
        self._secret, self._previous = secret, previous

    def __repr__(self) -> str:
        return "<KeyRing>"

    def key(self, purpose: str) -> Key:
        """Call this to get the key for `purpose`; the same words give the same key for ever."""
        previous = None if self._previous is None else _derive(self._previous, purpose)
        return Key(purpose, _derive(self._secret, purpose), previous)


def _derive(secret: bytes, purpose: str) -> bytes:
    return hmac.digest(secret, b"greenroom/" + purpose.encode(), hashlib.sha256)
