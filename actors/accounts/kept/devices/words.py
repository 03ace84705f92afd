"""Devices as nouns, and how trust in one grows: pure.

Rule 1: trust is never lowered; a device that is revoked, or disavowed, is gone, and begins anew.
Rule 2: what tells a device is kept as its SHA-256 only.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from actors.persistence.errors import InvalidField
from actors.persistence.words import check_text

# AUTH-25.
RECOGNIZED_LOGINS, RECOGNIZED_AFTER = 5, timedelta(days=7)
FAMILIAR_LOGINS, FAMILIAR_AFTER = 20, timedelta(days=30)
DEVICES_PAGE = 100
# Of an account; the one that was not seen for the longest makes room for a further one.
DEVICES_MAX = 1000
DEVICE_NAME_MAX = 255
# What would be markup if a service forgot to escape it.
_REFUSED_SIGNS = frozenset("<>\"'&")


class Trust(StrEnum):
    """How far a device is trusted, from below; in this order it grows."""

    UNKNOWN = "unknown"
    RECOGNIZED = "recognized"
    FAMILIAR = "familiar"
    # By its owner, never by use.
    TRUSTED = "trusted"
    # Trusted, and a passkey was used from it that is still there.
    HIGHLY_TRUSTED = "highly_trusted"


_ORDER = tuple(Trust)


@dataclass(frozen=True, slots=True)
class Device:
    """A device of an account, as its owner sees it; `name` is theirs or empty."""

    id: UUID
    browser: str
    name: str
    trust: Trust
    logins: int
    first_seen_at: datetime
    seen_at: datetime


def grown(trust: Trust, logins: int, age: timedelta) -> Trust:
    """Call this when a device is used, with how often it was and for how long it is known."""
    by_use = Trust.UNKNOWN
    if logins >= RECOGNIZED_LOGINS or age >= RECOGNIZED_AFTER:
        by_use = Trust.RECOGNIZED
    if logins >= FAMILIAR_LOGINS or age >= FAMILIAR_AFTER:
        by_use = Trust.FAMILIAR
    return max(trust, by_use, key=_ORDER.index)


def shown_trust(kept: Trust, *, has_passkey: bool) -> Trust:
    """Call this for what trust counts: a trusted one with a passkey bound to it counts most."""
    return Trust.HIGHLY_TRUSTED if kept is Trust.TRUSTED and has_passkey else kept


def check_device_name(name: object) -> str:
    """Call this with what an owner calls a device; raises `InvalidField`."""
    check_text("name", name)
    text = str(name).strip()
    if not 1 <= len(text) <= DEVICE_NAME_MAX:
        raise InvalidField("name", f"has 1 to {DEVICE_NAME_MAX} characters")
    if not text.isprintable() or _REFUSED_SIGNS.intersection(text):
        raise InvalidField("name", "has no < > \" ' & and nothing that cannot be seen")
    return text
