"""The forms of second factors: plain ones, which need no script.

Who is asked for a code at the sign-in is no member yet; all else is a member's own, and sensitive.
"""

from quart import Blueprint, Response, request

from actors.accounts import Method
from actors.accounts.kept.factors import in_groups, secret_text
from web.accounts.entering import AccountServices, NotEntered
from web.accounts.own.account import AccountPages
from web.accounts.own.second_factors import (
    Offered,
    add_totp,
    offer_again,
    offer_totp,
    remove_totp,
    renew_codes,
)
from web.accounts.routes import (
    FORM,
    REFUSED,
    Forms,
    IsPage,
    answer_form,
    ended_path,
    redirect,
    refused,
    to_sign_in,
    typed_by_somebody,
    user_agent,
)
from web.accounts.second import enter_with_second, has_passkey, is_by_mailbox
from web.routing import paths
from web.routing.services import Services
from web.server import current_request_state, require_media
from web.site.pages import PAGE_ACCOUNT, form_response, shell
from web.views import CodesPage, EnrolPage, form_ticket, otpauth_link, picture_of


def factor_routes(services: Services, mine: AccountServices, is_page: IsPage) -> Blueprint:
    """Call this to get the routes; `is_page` tells whether a path can be asked for by GET."""
    routes, forms = Blueprint("factors", __name__), Forms(services, is_page, mine.methods)
    pages = AccountPages(services, mine)

    @routes.post(paths.LOGIN_SECOND)
    async def second() -> Response:
        require_media(FORM)
        typed, state = await request.form, current_request_state()
        ticket, code = typed.get("ticket", ""), typed.get("code", "")
        try:
            found = await enter_with_second(mine, state, ticket, code, user_agent())
        except REFUSED as error:
            problem = refused(error)
            if problem.status == 401 and "" in problem.problems:
                return forms.sign_in(typed, problem)
            by_passkey = await has_passkey(mine, state, ticket)
            by_mailbox = is_by_mailbox(mine, state, ticket)
            return forms.second(
                typed, ticket, problem, by_passkey=by_passkey, by_mailbox=by_mailbox
            )
        then = forms.next_of(typed)
        return redirect(ended_path(then) if found.ended else then)

    _add_app(routes, services, mine, pages)
    _add_removal(routes, mine, pages)
    _add_codes(routes, services, mine, pages)
    return routes


def _add_app(
    routes: Blueprint, services: Services, mine: AccountServices, pages: AccountPages
) -> None:
    @routes.post(paths.ACCOUNT_TOTP_NEW)
    async def offer() -> Response:
        mine.methods.check(Method.TOTP)
        _, member = await typed_by_somebody()
        if member is None:
            return to_sign_in(paths.ACCOUNT)
        return _enrol_page(services, offer_totp(mine, member))

    @routes.post(paths.ACCOUNT_TOTP)
    async def confirm() -> Response:
        mine.methods.check(Method.TOTP)
        typed, member = await typed_by_somebody()
        if member is None:
            return to_sign_in(paths.ACCOUNT)
        try:
            offered = offer_again(mine, member, typed.get("ticket", ""))
        except NotEntered as error:
            return await pages.show(member, error)
        state = current_request_state()
        try:
            codes = await add_totp(mine, state, member, offered, typed.get("code", ""))
        except REFUSED as error:
            problem = refused(error)
            if problem.status == 409:
                return await pages.show(member, problem)
            return _enrol_page(services, offered, problem)
        return codes_page(services, codes) if codes else redirect(paths.ACCOUNT)


def _add_removal(routes: Blueprint, mine: AccountServices, pages: AccountPages) -> None:
    @routes.post(paths.ACCOUNT_TOTP_REMOVE)
    async def remove() -> Response:
        _, member = await typed_by_somebody()
        if member is None:
            return to_sign_in(paths.ACCOUNT)
        try:
            await remove_totp(mine, current_request_state(), member)
        except REFUSED as error:
            return await pages.show(member, refused(error))
        return redirect(paths.ACCOUNT)


def _add_codes(
    routes: Blueprint, services: Services, mine: AccountServices, pages: AccountPages
) -> None:
    @routes.post(paths.ACCOUNT_CODES)
    async def codes() -> Response:
        mine.methods.check(Method.RECOVERY_CODE)
        _, member = await typed_by_somebody()
        if member is None:
            return to_sign_in(paths.ACCOUNT)
        try:
            made = await renew_codes(mine, current_request_state(), member)
        except REFUSED as error:
            return await pages.show(member, refused(error))
        return codes_page(services, made)


def _enrol_page(
    services: Services, offered: Offered, problem: NotEntered | None = None
) -> Response:
    state = current_request_state()
    page = EnrolPage(
        shell=shell(services, state, "Add an app", PAGE_ACCOUNT),
        csrf=services.csrf_of(state),
        ticket=form_ticket(offered.ticket),
        secret=in_groups(secret_text(offered.secret)),
        link=otpauth_link(offered.link),
        picture=picture_of(offered.link),
        problems={} if problem is None else problem.problems,
    )
    return answer_form(services.renderer.enrol_page(page), problem)


def codes_page(services: Services, codes: tuple[str, ...]) -> Response:
    """Call this to show recovery codes, this once."""
    state = current_request_state()
    frame = shell(services, state, "Your recovery codes", PAGE_ACCOUNT)
    return form_response(services.renderer.codes_page(CodesPage(frame, codes)))
