"""The forms of passkeys. A script fills one field, `credential`; all else is as in any form.

Without scripts there is no passkey, and all other ways are there.
"""

from collections.abc import Callable, Mapping
from functools import partial

from quart import Blueprint, Response, request

from actors.accounts import Method
from actors.accounts.ways.passkeys import MadeAnswer, UseAnswer
from web.accounts.own.account import AccountPages
from web.accounts.own.factor_routes import codes_page
from web.accounts.routes import (
    FORM,
    REFUSED,
    Forms,
    IsPage,
    ended_path,
    redirect,
    refused,
    to_sign_in,
    typed_by_somebody,
    user_agent,
)
from web.accounts.second import has_passkey, is_by_mailbox
from web.accounts.ways.passkeys.answers import MadeCredential, UseCredential, read_credential
from web.accounts.ways.passkeys.passkeys import (
    PasskeyServices,
    add_key,
    enter_by_key,
    enter_with_key,
    prove_with_key,
    remove_key,
    rename_key,
)
from web.routing import paths
from web.routing.errors import NoSuchThing
from web.routing.services import Services
from web.server import current_request_state, require_media


def passkey_routes(services: Services, mine: PasskeyServices, is_page: IsPage) -> Blueprint:
    """Call this to get the routes; `is_page` tells whether a path can be asked for by GET."""
    routes = Blueprint("passkeys", __name__)
    accounts = mine.accounts
    accounts.methods.keep_switched(routes, Method.PASSKEY)
    forms = Forms(services, is_page, accounts.methods)
    pages = AccountPages(services, accounts)

    @routes.post(paths.LOGIN_PASSKEY)
    async def enter() -> Response:
        require_media(FORM)
        typed, state = await request.form, current_request_state()
        try:
            found = await enter_by_key(mine, state, use_in(typed), user_agent())
        except REFUSED as error:
            return forms.sign_in(typed, refused(error))
        if found.half is not None:
            by_passkey = await has_passkey(accounts, state, found.half)
            return forms.second(typed, found.half, by_passkey=by_passkey)
        then = forms.next_of(typed)
        return redirect(ended_path(then) if found.entered.ended else then)

    @routes.post(paths.LOGIN_SECOND_PASSKEY)
    async def second() -> Response:
        require_media(FORM)
        typed, state = await request.form, current_request_state()
        ticket = typed.get("ticket", "")
        try:
            found = await enter_with_key(mine, state, ticket, use_in(typed), user_agent())
        except REFUSED as error:
            problem = refused(error)
            by_passkey = await has_passkey(accounts, state, ticket)
            if not by_passkey:  # the ticket is over
                return forms.sign_in(typed, problem)
            by_mailbox = is_by_mailbox(accounts, state, ticket)
            return forms.second(typed, ticket, problem, by_passkey=True, by_mailbox=by_mailbox)
        then = forms.next_of(typed)
        return redirect(ended_path(then) if found.ended else then)

    @routes.post(paths.ACCOUNT_PROVE_PASSKEY)
    async def prove() -> Response:
        typed, member = await typed_by_somebody()
        if member is None:
            return to_sign_in(paths.ACCOUNT)
        then = forms.next_of(typed)
        try:
            await prove_with_key(mine, current_request_state(), member, use_in(typed))
        except REFUSED as error:
            return await pages.prove(member, then, refused(error))
        return redirect(then)

    _add_own(routes, services, mine, pages)
    return routes


def _add_own(
    routes: Blueprint, services: Services, mine: PasskeyServices, pages: AccountPages
) -> None:
    @routes.post(paths.ACCOUNT_PASSKEYS)
    async def add() -> Response:
        typed, member = await typed_by_somebody()
        if member is None:
            return to_sign_in(paths.ACCOUNT)
        name, ends_others = typed.get("name", ""), typed.get("end_others") == "1"
        state, made = current_request_state(), partial(_made, typed)
        try:
            _, codes = await add_key(mine, state, member, made, name, ends_others=ends_others)
        except REFUSED as error:
            return await pages.show(member, refused(error))
        return codes_page(services, codes) if codes else redirect(paths.ACCOUNT)

    @routes.post(paths.ACCOUNT_PASSKEY_NAME)
    async def name() -> Response:
        typed, member = await typed_by_somebody()
        if member is None:
            return to_sign_in(paths.ACCOUNT)
        try:
            is_own = await rename_key(mine, member, typed.get("passkey", ""), typed.get("name", ""))
        except REFUSED as error:
            return await pages.show(member, refused(error))
        if not is_own:
            raise NoSuchThing("no passkey of this member")
        return redirect(paths.ACCOUNT)

    @routes.post(paths.ACCOUNT_PASSKEY_REMOVE)
    async def remove() -> Response:
        typed, member = await typed_by_somebody()
        if member is None:
            return to_sign_in(paths.ACCOUNT)
        id_, ends_others = typed.get("passkey", ""), typed.get("end_others") == "1"
        state = current_request_state()
        try:
            is_gone = await remove_key(mine, state, member, id_, ends_others=ends_others)
        except REFUSED as error:
            return await pages.show(member, refused(error))
        if not is_gone:
            raise NoSuchThing("no passkey of this member")
        return redirect(paths.ACCOUNT)


def use_in(typed: Mapping[str, str]) -> Callable[[], UseAnswer]:
    """Call this with a form for what reads the answer in it; that raises `BadAnswer`."""
    return lambda: read_credential(UseCredential, typed.get("credential", "")).answer()


def _made(typed: Mapping[str, str]) -> MadeAnswer:
    return read_credential(MadeCredential, typed.get("credential", "")).answer()
