"""What a member does with the devices of their own account (AUTH-24, AUTH-25).

Each act is logged as a try is (SEC-130). Of another's device, and of none, nothing is told apart.
"""

from uuid import UUID

from actors.accounts import Member
from actors.accounts.kept.devices.words import DEVICE_NAME_MAX
from actors.persistence.errors import InvalidField
from web.accounts.entering import AccountServices, NotEntered, origin_of, tell
from web.server import RequestState

NAME_PROBLEM = (
    f"Use up to {DEVICE_NAME_MAX} characters, without < > \" ' & and what cannot be seen."
)


async def trust_device(
    services: AccountServices, state: RequestState, member: Member, device: str
) -> bool:
    """Call this when a member trusts one of their devices; False for none such."""
    id_ = parse_device(device)
    is_done = id_ is not None and await services.devices.trust(
        member.user_id, id_, origin_of(state)
    )
    _tell(state, member, "accounts.device_trust", is_done=is_done)
    return is_done


async def revoke_device(
    services: AccountServices, state: RequestState, member: Member, device: str
) -> int | None:
    """Call this to know a device no more: how many sign-ins on it ended; None for none such."""
    id_ = parse_device(device)
    revoked = None
    if id_ is not None:
        revoked = await services.devices.revoke(member.user_id, id_, origin_of(state))
    _tell(state, member, "accounts.device_revoke", is_done=revoked is not None)
    return None if revoked is None else revoked.ended


async def name_device(services: AccountServices, member: Member, device: str, name: str) -> bool:
    """Call this to call a device something; False for none such. Raises `NotEntered` 422."""
    id_ = parse_device(device)
    if id_ is None:
        return False
    try:
        return await services.devices.rename(member.user_id, id_, name)
    except InvalidField as error:
        raise NotEntered(422, {"device_name": NAME_PROBLEM}) from error


def parse_device(text: str) -> UUID | None:
    """Call this with what somebody says is a device; None for what is no id."""
    try:
        return UUID(text)
    except ValueError:
        return None


def _tell(state: RequestState, member: Member, act: str, *, is_done: bool) -> None:
    tell(state, act, "accepted" if is_done else "refused", "", user_id=str(member.user_id))
