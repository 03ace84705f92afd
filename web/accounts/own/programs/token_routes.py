"""API tokens: their addresses for client programs, and the forms on the page of an account."""

from datetime import datetime
from uuid import UUID

import msgspec
from quart import Blueprint, Response, request

from actors.accounts import Member
from actors.accounts.kept.tokens import ApiToken, Scope
from web.accounts.entering import AccountServices, NotEntered
from web.accounts.identity import member_of
from web.accounts.own.account import AccountPages
from web.accounts.own.programs.tokens import NAME_FIELD, add_token, revoke_token
from web.accounts.routes import FORM, REFUSED, redirect, refused, to_sign_in
from web.api import body, conflict, created, not_found, ok, unauthorized, validation
from web.routing import paths
from web.routing.errors import NoSuchThing
from web.routing.services import Services
from web.server import FieldProblem, current_request_state, require_media
from web.site.pages import PAGE_ACCOUNT, form_response, shell
from web.views import TokenPage


class AskedToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token is asked for."""

    name: str
    scopes: list[Scope]


class OwnToken(msgspec.Struct, frozen=True):
    """A token as its owner sees it."""

    id: UUID
    name: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime
    last_used: datetime | None


class MadeToken(msgspec.Struct, frozen=True):
    """A token, this once: `token` is shown as `Authorization: Bearer`."""

    id: UUID
    token: str
    name: str
    scopes: tuple[Scope, ...]
    expires_at: datetime


def token_routes(services: Services, mine: AccountServices) -> Blueprint:
    """Call this to get the routes."""
    routes = Blueprint("tokens", __name__)
    _add_api(routes, mine)
    pages = AccountPages(services, mine)

    @routes.post(paths.ACCOUNT_TOKENS)
    async def add() -> Response:
        require_media(FORM)
        typed, member = await request.form, member_of(request.scope)
        if member is None:
            return to_sign_in(paths.ACCOUNT)
        state, name = current_request_state(), typed.get("token_name", "")
        scopes = typed.getlist("scope")
        try:
            token, made = await add_token(mine, state, member, name, scopes)
        except REFUSED as error:
            return await pages.show(member, refused(error), token=(name, scopes))
        frame = shell(services, state, "Your API token", PAGE_ACCOUNT)
        page = TokenPage(frame, token, made.name, made.expires_at)
        return form_response(services.renderer.token_page(page))

    @routes.post(paths.ACCOUNT_TOKEN_REVOKE)
    async def revoke() -> Response:
        require_media(FORM)
        typed, member = await request.form, member_of(request.scope)
        if member is None:
            return to_sign_in(paths.ACCOUNT)
        token = typed.get("token", "")
        if not await revoke_token(mine, current_request_state(), member, token):
            raise NoSuchThing("no token of this member")
        return redirect(paths.ACCOUNT)

    return routes


def _add_api(routes: Blueprint, mine: AccountServices) -> None:
    @routes.get(paths.API_TOKENS)
    async def tokens() -> Response:
        found = await mine.tokens.of_user(_member().user_id)
        return ok({"tokens": [_shown(one) for one in found]})

    @routes.post(paths.API_TOKENS)
    async def add_one() -> Response:
        member, asked = _member(), await body(AskedToken)
        try:
            token, made = await add_token(
                mine, current_request_state(), member, asked.name, asked.scopes
            )
        except NotEntered as error:
            if error.status == 409:
                raise conflict(next(iter(error.problems.values()))) from error
            problems = [
                FieldProblem("name" if name == NAME_FIELD else name, text)
                for name, text in error.problems.items()
            ]
            raise validation("a field breaks its rule", problems) from error
        shown = MadeToken(made.id, token, made.name, made.scopes, made.expires_at)
        return created(shown, at=f"{paths.API_TOKENS}/{made.id}")

    @routes.delete(paths.API_TOKEN)
    async def revoke_one(token: str) -> Response:
        if not await revoke_token(mine, current_request_state(), _member(), token):
            raise not_found("token", token)
        return ok({"message": "Token revoked."})


def _shown(one: ApiToken) -> OwnToken:
    return OwnToken(one.id, one.name, one.scopes, one.created_at, one.expires_at, one.used_at)


def _member() -> Member:
    member = member_of(request.scope)
    if member is None:
        raise unauthorized("this needs a sign-in")
    return member
