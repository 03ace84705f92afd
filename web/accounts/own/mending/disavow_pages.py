"""The page behind "this was not me": one button, which needs no sign-in and no script (AUTH-16)."""

from functools import partial

from quart import Blueprint, Response

from web.accounts.entering import AccountServices, NotEntered
from web.accounts.own.mending.disavowing import disavow, needs_mailbox
from web.accounts.own.mending.mailed_form import add_mailed_form
from web.accounts.routes import answer_form
from web.routing import paths
from web.routing.services import Services
from web.server import current_request_state
from web.server.edge.tickets import TICKET_CHARS_MAX
from web.site.pages import PAGE_LOGIN, link_path, shell, sign_in_path
from web.views import NotMePage


def disavow_routes(services: Services, mine: AccountServices) -> Blueprint:
    """Call this to get the routes."""
    routes = Blueprint("disavow", __name__)

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
        )
        return answer_form(services.renderer.not_me_page(page), problem)

    add_mailed_form(routes, paths.NOT_ME, show, partial(disavow, mine))
    return routes
