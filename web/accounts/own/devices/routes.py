"""The forms for devices on the page of an account, and their addresses for client programs."""

from datetime import datetime
from uuid import UUID

import msgspec
from quart import Blueprint, Response, request

from actors.accounts import Member
from actors.accounts.kept.devices.words import DEVICES_MAX, DEVICES_PAGE, Device
from web.accounts.entering import AccountServices, NotEntered
from web.accounts.identity import member_of
from web.accounts.own.account import AccountPages
from web.accounts.own.devices.owning import name_device, revoke_device, trust_device
from web.accounts.routes import FORM, REFUSED, redirect, refused, to_sign_in
from web.api import body, not_found, ok, unauthorized, validation
from web.routing import paths
from web.routing.errors import NoSuchThing
from web.routing.services import Services
from web.server import FieldProblem, current_request_state, require_media


class TrustDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device is trusted; with a `name` it is called that as well."""

    name: str | None = None


class OwnDevice(msgspec.Struct, frozen=True):
    """A device as its owner sees it."""

    id: UUID
    name: str
    browser: str
    trust: str
    logins: int
    first_seen_at: datetime
    seen_at: datetime


def device_routes(services: Services, mine: AccountServices) -> Blueprint:
    """Call this to get the routes."""
    routes = Blueprint("devices", __name__)
    _add_api(routes, mine)
    pages = AccountPages(services, mine)

    async def act(member: Member, typed: dict[str, str]) -> bool:
        device, state = typed.get("device", ""), current_request_state()
        match typed.get("act", ""):
            case "trust":
                return await trust_device(mine, state, member, device)
            case "revoke":
                return await revoke_device(mine, state, member, device) is not None
        return False

    @routes.post(paths.ACCOUNT_DEVICES)
    async def change() -> Response:
        require_media(FORM)
        typed, member = dict(await request.form), member_of(request.scope)
        if member is None:
            return to_sign_in(paths.ACCOUNT)
        if not await act(member, typed):
            raise NoSuchThing("no device of this member")
        return redirect(paths.ACCOUNT)

    @routes.post(paths.ACCOUNT_DEVICE_NAME)
    async def name() -> Response:
        require_media(FORM)
        typed, member = await request.form, member_of(request.scope)
        if member is None:
            return to_sign_in(paths.ACCOUNT)
        try:
            is_known = await name_device(
                mine, member, typed.get("device", ""), typed.get("name", "")
            )
        except REFUSED as error:
            return await pages.show(member, refused(error))
        if not is_known:
            raise NoSuchThing("no device of this member")
        return redirect(paths.ACCOUNT)

    return routes


def _add_api(routes: Blueprint, mine: AccountServices) -> None:
    @routes.get(paths.API_DEVICES)
    async def devices() -> Response:
        member, offset = _member(), _offset(request.args.get("offset", "0"))
        found = await mine.devices.of_user(member.user_id, offset=offset)
        has_more = len(found) == DEVICES_PAGE
        return ok({
            "devices": [_shown(one) for one in found],
            "next_offset": offset + len(found) if has_more else None,
        })  # fmt: skip

    @routes.delete(paths.API_DEVICE)
    async def revoke(device: str) -> Response:
        ended = await revoke_device(mine, current_request_state(), _member(), device)
        if ended is None:
            raise not_found("device", device)
        return ok({"message": "Device removed.", "sessions_ended": ended})

    @routes.post(paths.API_DEVICE_TRUST)
    async def trust(device: str) -> Response:
        member, asked = _member(), await body(TrustDevice, when_empty=TrustDevice())
        try:
            is_known = True
            if asked.name is not None:
                is_known = await name_device(mine, member, device, asked.name)
            is_known = is_known and await trust_device(
                mine, current_request_state(), member, device
            )
        except NotEntered as error:
            problem = FieldProblem("name", next(iter(error.problems.values())))
            raise validation("a field breaks its rule", [problem]) from error
        if not is_known:
            raise not_found("device", device)
        return ok({"message": "Device trusted."})


def _shown(one: Device) -> OwnDevice:
    return OwnDevice(
        one.id, one.name, one.browser, one.trust.value, one.logins, one.first_seen_at, one.seen_at
    )


def _offset(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and int(text) <= DEVICES_MAX):
        problem = FieldProblem("offset", f"is a number from 0 to {DEVICES_MAX}")
        raise validation("a field breaks its rule", [problem])
    return int(text)


def _member() -> Member:
    member = member_of(request.scope)
    if member is None:
        raise unauthorized("this needs a sign-in")
    return member
