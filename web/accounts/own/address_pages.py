"""The forms by which an address is changed, confirmed and taken back; plain ones (AUTH-11)."""

from functools import partial

from quart import Blueprint, Response, request

from web.accounts.entering import AccountServices, NotEntered
from web.accounts.identity import member_of
from web.accounts.own.account import AccountPages
from web.accounts.own.mending.addresses import ask_for_address, confirm_address, take_back
from web.accounts.own.mending.disavowing import needs_mailbox
from web.accounts.own.mending.mailed_form import add_mailed_form
from web.accounts.routes import (
    FORM,
    REFUSED,
    answer_form,
    redirect,
    refused,
    to_sign_in,
)
from web.routing import paths
from web.routing.errors import NoSuchThing
from web.routing.services import Services
from web.server import current_request_state, require_media
from web.server.edge.tickets import TICKET_CHARS_MAX
from web.site.pages import PAGE_LOGIN, link_path, shell, sign_in_path
from web.views import ConfirmAddressPage, NotMePage, local_path


def address_routes(services: Services, mine: AccountServices) -> Blueprint:
    """Call this to get the routes."""
    routes, pages = Blueprint("addresses", __name__), AccountPages(services, mine)

    async def check() -> Response | None:
        # Nothing of it is there where no mail leaves.
        if not mine.mails.is_on:
            raise NoSuchThing("mail is switched off")
        return None

    routes.before_request(check)

    @routes.post(paths.ADDRESS)
    async def ask() -> Response:
        require_media(FORM)
        typed, member = (await request.form).get("new_email", ""), member_of(request.scope)
        if member is None:
            return to_sign_in(paths.ACCOUNT)
        try:
            await ask_for_address(mine, current_request_state(), member, typed)
        except REFUSED as error:
            return await pages.show(member, refused(error), new_email=typed)
        return redirect(f"{paths.ACCOUNT}?address=asked")

    _add_confirming(routes, services, mine)
    _add_taking_back(routes, services, mine)
    return routes


def _add_confirming(routes: Blueprint, services: Services, mine: AccountServices) -> None:
    def show(token: str = "", problem: NotEntered | None = None, *, is_done: bool) -> Response:
        state = current_request_state()
        page = ConfirmAddressPage(
            shell=shell(services, state, "Confirm your address", PAGE_LOGIN),
            csrf=services.csrf_of(state),
            token=token[:TICKET_CHARS_MAX],
            is_done=is_done,
            account=local_path(paths.ACCOUNT),
            problems={} if problem is None else problem.problems,
        )
        return answer_form(services.renderer.confirm_address_page(page), problem)

    add_mailed_form(routes, paths.ADDRESS_CONFIRM, show, partial(confirm_address, mine))


def _add_taking_back(routes: Blueprint, services: Services, mine: AccountServices) -> None:
    def show(token: str = "", problem: NotEntered | None = None, *, is_done: bool) -> Response:
        state, by_link = current_request_state(), needs_mailbox(mine)
        page = NotMePage(
            shell=shell(services, state, "This was not me", PAGE_LOGIN),
            csrf=services.csrf_of(state),
            token=token[:TICKET_CHARS_MAX],
            is_done=is_done,
            by_link=by_link,
            sign_in=link_path(paths.ACCOUNT) if by_link else sign_in_path(paths.ACCOUNT),
            problems={} if problem is None else problem.problems,
            of_address=True,
        )
        return answer_form(services.renderer.not_me_page(page), problem)

    add_mailed_form(routes, paths.ADDRESS_BACK, show, partial(take_back, mine))
