"""What the owner of an account does with its devices, as a port (AUTH-24, AUTH-25).

Kept by `storage/postgres/accounts/ways/devices.py` and its twin in `storage/memory`; both pass
`storage.testing.DevicesSuite`. A device is added, and its trust grows, in the transaction of the
sign-in from it. Raises `StoreUnavailable` and its kin, `InvalidField` before any I/O.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from actors.accounts.kept.audit import Origin
from actors.accounts.kept.devices.words import DEVICES_MAX, DEVICES_PAGE, Device, check_device_name
from actors.persistence.words import check_a, check_integer, check_text, check_uuid


@dataclass(frozen=True, slots=True)
class Revoked:
    """A device is not known any more; so many sign-ins on it ended."""

    ended: int


class Devices(Protocol):
    """Devices of accounts. Of another's, and of one that is unknown, all is answered alike."""

    async def of_user(
        self, user_id: UUID, *, offset: int = 0, limit: int = DEVICES_PAGE
    ) -> Sequence[Device]:
        """Call this for somebody's devices, the one that was used last first; 100 a page."""
        ...

    async def trust(self, user_id: UUID, id_: UUID, origin: Origin) -> bool:
        """Call this when its owner trusts a device; False for none of theirs."""
        ...

    async def rename(self, user_id: UUID, id_: UUID, name: str) -> bool:
        """Call this to call a device something; False for none of theirs. Empty takes it away."""
        ...

    async def revoke(self, user_id: UUID, id_: UUID, origin: Origin) -> Revoked | None:
        """Call this to know a device no more, in one transaction with the end of its sign-ins.

        None for none of theirs. Whoever comes with it next comes with one that is unknown.
        """
        ...


def check_page(user_id: object, offset: object, limit: object) -> None:
    """Call this with what `of_user` takes; raises `InvalidField`."""
    check_uuid("user_id", user_id)
    check_integer("offset", offset, 0, DEVICES_MAX)
    check_integer("limit", limit, 1, DEVICES_PAGE)


def check_one(user_id: object, id_: object, origin: object) -> None:
    """Call this with a device and who asks; raises `InvalidField`."""
    check_uuid("user_id", user_id)
    check_uuid("id_", id_)
    check_a("origin", origin, Origin)


def check_rename(user_id: object, id_: object, name: object) -> str:
    """Call this with what `rename` takes, for the name in its one form; raises `InvalidField`."""
    check_uuid("user_id", user_id)
    check_uuid("id_", id_)
    return check_device_name(name) if check_text("name", name) else ""
