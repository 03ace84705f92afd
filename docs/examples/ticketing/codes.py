"""What stands on a ticket: a code that nobody else can make. Pure.

`id.issue.event.seat.key.signature`, each part as letters that a QR code takes. The signature is
HMAC-SHA256 over all before it, and says which key made it: a new key makes new codes, and codes of
the old keys stay good as long as these are kept.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

# A shorter one could be tried out.
KEY_BYTES_MIN = 32
CODE_CHARS_MAX = 1000
PART_BYTES_MAX = 100
# Ten years of a new one each month; more are no keys but a mistake.
KEYS_MAX = 120
_KEY_ID = re.compile(r"[a-z0-9]{1,16}", re.ASCII)
# Signed with the rest: a key that signs something else as well makes no tickets.
_PURPOSE = b"greenroom ticket 1\0"


@dataclass(frozen=True)
class Claims:
    """What a code says; `issue` counts the owners that a ticket has had."""

    ticket: str
    issue: int
    show: str
    seat: str


@dataclass(frozen=True)
class KeyRing:
    """Keys by their ids, and which of them signs; ValueError for what is no such ring."""

    keys: Mapping[str, bytes] = field(repr=False)
    current: str

    def __post_init__(self) -> None:
        if not 1 <= len(self.keys) <= KEYS_MAX:
            raise ValueError(f"a ring has 1 to {KEYS_MAX} keys, not {len(self.keys)}")
        for key_id, key in self.keys.items():
            if _KEY_ID.fullmatch(key_id) is None:
                raise ValueError(f"the key id {key_id!r} is not 1 to 16 of a-z and 0-9")
            if len(key) < KEY_BYTES_MIN:
                raise ValueError(f"the key {key_id} has less than {KEY_BYTES_MIN} bytes")
        if self.current not in self.keys:
            raise ValueError(f"the ring has no key {self.current!r} to sign with")

    def rotated(self, key_id: str, key: bytes) -> KeyRing:
        """Call this for a ring that signs with a new key, and reads what the old ones signed."""
        if key_id in self.keys:
            raise ValueError(f"the ring has a key {key_id} already; codes of it would be lost")
        return KeyRing({**self.keys, key_id: key}, key_id)

    def code(self, claims: Claims) -> str:
        """Call this for the code of a ticket."""
        texts = (claims.ticket, str(claims.issue), claims.show, claims.seat)
        told = ".".join((*map(_written, texts), self.current))
        return f"{told}.{_signature(self.keys[self.current], told)}"

    def read(self, code: str) -> Claims | None:
        """Call this for what a code says, or None for one that none of these keys has made."""
        if len(code) > CODE_CHARS_MAX or not code.isascii():
            return None
        told, _, signature = code.rpartition(".")
        parts = told.split(".")
        if len(parts) != 5:
            return None
        key = self.keys.get(parts[4])
        if key is None or not hmac.compare_digest(signature, _signature(key, told)):
            return None
        # Signed by us: what follows can be trusted to be as it was written.
        ticket, issue, show, seat = map(_read, parts[:4])
        return Claims(ticket, int(issue), show, seat)


def _signature(key: bytes, told: str) -> str:
    made = hmac.new(key, _PURPOSE + told.encode(), sha256).digest()
    return urlsafe_b64encode(made).decode().rstrip("=")


def _written(text: str) -> str:
    data = text.encode()
    if len(data) > PART_BYTES_MAX:
        raise ValueError(f"a part of a code has at most {PART_BYTES_MAX} bytes")
    return urlsafe_b64encode(data).decode().rstrip("=")


def _read(part: str) -> str:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode()
