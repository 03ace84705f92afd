"""Mails with what signs in lie sealed in the outbox until they leave (SEC-83).

AES-256-GCM with a fresh nonce; the message's id is bound to it, so the mail of one row opens in no
other. The key is derived from the master key of private texts, which is not in the database: who
has a copy of that alone reads no link.
"""

import hmac
import os
from collections.abc import Sequence
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from actors.runtime import Secret

# The header of a message that is sealed; its value names the key.
SEALED = "sealed"
_NONCE_BYTES = 12


class CannotOpen(Exception):
    """Raised for a mail that no key of this program opens; it stays as it is."""


class MailSeal:
    """Seals mails with a key, and opens those that were sealed with it or a former one."""

    def __init__(self, key: Secret[bytes], former: Sequence[Secret[bytes]] = ()) -> None:
        self._ciphers = dict(map(_derived, reversed([key, *former])))
        self.key_id = _derived(key)[0]

    def __repr__(self) -> str:
        return f"<MailSeal {self.key_id}>"

    def seal(self, message_id: UUID, payload: bytes) -> bytes:
        """Call this for what lies in the outbox; with the header `SEALED` of `key_id`."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._ciphers[self.key_id].encrypt(nonce, payload, message_id.bytes)

    def open(self, key_id: str, message_id: UUID, sealed: bytes) -> bytes:
        """Call this with what lies there; raises `CannotOpen`."""
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise CannotOpen("its key is none of this program's")
        try:
            return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], message_id.bytes)
        except (InvalidTag, ValueError):
            raise CannotOpen("it is not what was sealed") from None


def _derived(key: Secret[bytes]) -> tuple[str, AESGCM]:
    made = hmac.digest(key.reveal(), b"greenroom mails", "sha256")
    return hmac.digest(made, b"id", "sha256")[:6].hex(), AESGCM(made)
