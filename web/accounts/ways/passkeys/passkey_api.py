"""Passkeys and step-up for client programs, at the addresses of `/api/v1/auth`.

The script of the pages begins here as well; what it brings back it hands on in a form.
"""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from quart import Blueprint, Response, request

from actors.accounts import SIGN_IN_KEPT, Level, Member, Method
from web.accounts.entering import NotEntered, renewed
from web.accounts.identity import member_of
from web.accounts.own.managing import has_password, prove_again
from web.accounts.routes import REFUSED, refused, user_agent
from web.accounts.second import prove_with_second
from web.accounts.ways.half import ask_for_second, second_methods
from web.accounts.ways.passkeys.answers import MadeCredential, UseCredential, b64
from web.accounts.ways.passkeys.passkeys import (
    Offer,
    PasskeyServices,
    add_key,
    enter_by_key,
    offer_new,
    offer_proof,
    offer_second,
    offer_sign_in,
    prove_with_key,
    remove_key,
)
from web.accounts.ways.risk.shown import Shown, take_shown
from web.api import (
    body,
    conflict,
    created,
    forbidden,
    not_found,
    ok,
    too_many,
    unauthorized,
    unavailable,
    validation,
)
from web.routing import paths
from web.server import ErrorAnswer, FieldProblem, current_request_state

ADDED = "Passkey registered."
# A program says which level it needs; the names are those of `Level`.
LevelNumber = Annotated[int, msgspec.Meta(ge=1, le=4)]


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A passkey is to be made; whose it is the session says (SEC-105)."""

    device_name: str = ""
    user_id: UUID | None = None


class Made(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A passkey was made."""

    credential: MadeCredential
    device_name: str = ""
    end_others: bool = True
    user_id: UUID | None = None


class AskToEnter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody wants to sign in; `ticket` stands for a first factor that was given."""

    email: str = ""
    ticket: str = ""


class Enter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A challenge was signed; `transport` says where the session's token goes."""

    credential: UseCredential
    transport: Literal["body", "cookie"] = "body"
    fingerprint: Shown | None = None


class AskToProve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stronger sign-in is needed, of that level."""

    level: LevelNumber = 2


class Prove(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One proof: a passkey's, a code, or a password."""

    credential: UseCredential | None = None
    code: str | None = None
    password: str | None = None


class KeptKey(msgspec.Struct, frozen=True):
    """A passkey as its owner sees it."""

    id: UUID
    credential_id: str
    name: str
    added_at: datetime
    used_at: datetime | None
    is_synced: bool
    is_flagged: bool


def passkey_api_routes(mine: PasskeyServices) -> Blueprint:
    """Call this to get the routes of passkeys."""
    routes = Blueprint("passkey_api", __name__)
    mine.accounts.methods.keep_switched(routes, Method.PASSKEY)
    _add_registering(routes, mine)
    _add_signing_in(routes, mine)

    @routes.get(paths.API_PASSKEYS)
    async def kept() -> Response:
        return ok({"passkeys": await _kept(mine)})

    @routes.get(paths.API_PASSKEY)
    async def one(passkey: str) -> Response:
        for found in await _kept(mine):
            if str(found.id) == passkey.lower():
                return ok(found)
        raise not_found("passkey", passkey)

    @routes.delete(paths.API_PASSKEY)
    async def remove(passkey: str) -> Response:
        member, state = _member(), current_request_state()
        ends_others = request.args.get("end_others", "1") != "0"
        try:
            is_gone = await remove_key(mine, state, member, passkey, ends_others=ends_others)
        except REFUSED as error:
            raise answer_of(refused(error)) from error
        if not is_gone:
            raise not_found("passkey", passkey)
        return ok({"message": "Passkey removed.", **renewed(state)})

    return routes


async def _kept(mine: PasskeyServices) -> list[KeptKey]:
    return [
        KeptKey(
            one.id,
            b64(one.credential_id),
            one.name,
            one.added_at,
            one.used_at,
            one.is_backed_up,
            one.flagged_at is not None,
        )
        for one in await mine.passkeys.of_user(_member().user_id)
    ]


def _add_registering(routes: Blueprint, mine: PasskeyServices) -> None:
    @routes.post(paths.API_PASSKEY_NEW)
    async def begin_new() -> Response:
        member, asked = _member(), await body(NewKey, when_empty=NewKey())
        _only_own(member, asked.user_id)
        try:
            offer = await offer_new(mine, current_request_state(), member)
        except REFUSED as error:
            raise answer_of(refused(error)) from error
        user = offer.options["user"]
        assert isinstance(user, dict)
        return ok({
            "challenge": b64(offer.challenge),
            "rp_id": mine.party.rp_id,
            "user": {
                "id": user["id"], "name": user["name"], "display_name": user["displayName"],
            },
            "options": offer.options,
        })  # fmt: skip

    @routes.post(paths.API_PASSKEY_ADD)
    async def add() -> Response:
        member, asked = _member(), await body(Made, lenient="browsers add fields of their own")
        _only_own(member, asked.user_id)
        try:
            id_, codes = await add_key(
                mine,
                current_request_state(),
                member,
                asked.credential.answer,
                asked.device_name,
                ends_others=asked.end_others,
            )
        except REFUSED as error:
            raise answer_of(refused(error)) from error
        told = {"message": ADDED, "credential_id": asked.credential.id, "id": str(id_)}
        told |= renewed(current_request_state())
        if codes:
            return created({**told, "recovery_codes": codes}, at=f"{paths.API_PASSKEYS}/{id_}")
        return created(told, at=f"{paths.API_PASSKEYS}/{id_}")


def _add_signing_in(routes: Blueprint, mine: PasskeyServices) -> None:
    @routes.post(paths.API_PASSKEY_ASK)
    async def begin() -> Response:
        asked, state = await body(AskToEnter, when_empty=AskToEnter()), current_request_state()
        try:
            if asked.ticket:
                offer = await offer_second(mine, state, asked.ticket)
            else:
                offer = await offer_sign_in(mine, state, asked.email)
        except REFUSED as error:
            raise answer_of(refused(error)) from error
        return ok(_offered(offer))

    @routes.post(paths.API_PASSKEY_ENTER)
    async def enter() -> Response:
        asked = await body(Enter, lenient="browsers add fields of their own")
        state, by_cookie = current_request_state(), asked.transport == "cookie"
        take_shown(mine.accounts, state, asked.fingerprint)
        try:
            found = await enter_by_key(
                mine, state, asked.credential.answer, user_agent(), by_cookie=by_cookie
            )
        except REFUSED as error:
            raise answer_of(refused(error)) from error
        if found.half is not None:
            return await ask_for_second(mine.accounts, state, found.half)
        return ok({
            "session_id": str(found.reference),
            **({} if by_cookie else {"session_token": found.token.reveal()}),
            "email": found.entered.email,
            "expires_at": mine.accounts.now() + SIGN_IN_KEPT,
        })  # fmt: skip


def step_up_routes(mine: PasskeyServices) -> Blueprint:
    """Call this to get the routes by which a program proves again who is signed in."""
    routes = Blueprint("step_up_api", __name__)

    @routes.post(paths.API_STEP_UP_ASK)
    async def begin() -> Response:
        asked = await body(AskToProve, when_empty=AskToProve())
        member, state = _member(), current_request_state()
        methods = await _methods(mine, member, Level(asked.level))
        if not methods:
            raise conflict("This account has nothing that proves this level.")
        told: dict[str, object] = {"level": asked.level, "methods": methods}
        if Method.PASSKEY in methods:
            try:
                told |= _offered(await offer_proof(mine, state, member))
            except REFUSED as error:
                raise answer_of(refused(error)) from error
        return ok(told)

    @routes.post(paths.API_STEP_UP)
    async def complete() -> Response:
        asked = await body(Prove, lenient="browsers add fields of their own")
        member, state = _member(), current_request_state()
        level = max(member.level, Level.MULTI_FACTOR)
        try:
            if asked.credential is not None and mine.accounts.methods.has(Method.PASSKEY):
                level = await prove_with_key(mine, state, member, asked.credential.answer)
            elif asked.code is not None:
                await prove_with_second(mine.accounts, state, member, asked.code)
            elif asked.password is not None and not member.has_second:
                level = member.level
                await prove_again(mine.accounts, state, member, asked.password)
            else:
                raise validation("give one proof", [FieldProblem("body", "has no proof")])
        except REFUSED as error:
            raise answer_of(refused(error)) from error
        return ok({"auth_level": int(level), **renewed(state)})

    return routes


async def _methods(mine: PasskeyServices, member: Member, level: Level) -> list[Method]:
    if not member.has_second:
        is_known = level is Level.BASIC and await has_password(mine.accounts, member)
        return [Method.PASSWORD] if is_known else []
    if level <= Level.MULTI_FACTOR:
        return await second_methods(mine.accounts, member.user_id)
    if level is Level.HARDWARE_BACKED and mine.accounts.methods.has(Method.PASSKEY):
        keys = await mine.passkeys.of_user(member.user_id)
        if any(one.is_attested and not one.is_backup_eligible for one in keys):
            return [Method.PASSKEY]
    return []


def _offered(offer: Offer) -> dict[str, object]:
    return {
        "challenge": b64(offer.challenge),
        "allowed_credentials": [b64(one) for one in offer.allowed],
        "options": offer.options,
    }


def _member() -> Member:
    member = member_of(request.scope)
    if member is None:
        raise unauthorized("this needs a sign-in")
    return member


def _only_own(member: Member, user_id: UUID | None) -> None:
    if user_id is not None and user_id != member.user_id:
        raise forbidden("A passkey is added to the account that is signed in.")


def answer_of(problem: NotEntered) -> ErrorAnswer:
    """Call this with what a form would show for what a program is told."""
    text = next(iter(problem.problems.values()), "")
    match problem.status:
        case 401:
            return unauthorized(text)
        case 403:
            return forbidden(text)
        case 409:
            return conflict(text)
        case 429:
            return too_many(problem.retry_after or 1.0)
        case 503:
            return unavailable(text)
    found = [FieldProblem(name or "body", text) for name, text in problem.problems.items()]
    return validation("a field breaks its rule", found)
