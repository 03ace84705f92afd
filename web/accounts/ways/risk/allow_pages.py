"""The page behind the link of a mail that tells of an attempt: one button, without a sign-in."""

from functools import partial

from quart import Blueprint, Response

from web.accounts.entering import AccountServices, NotEntered
from web.accounts.own.mending.mailed_form import add_mailed_form
from web.accounts.routes import answer_form
from web.accounts.ways.risk.allowing import allow
from web.routing import paths
from web.routing.services import Services
from web.server import current_request_state
from web.server.edge.tickets import TICKET_CHARS_MAX
from web.site.pages import PAGE_LOGIN, shell, sign_in_path
from web.views import AllowPage


def allow_routes(services: Services, mine: AccountServices) -> Blueprint:
    """Call this to get the routes."""
    routes = Blueprint("allow", __name__)

    def show(token: str = "", problem: NotEntered | None = None, *, is_done: bool) -> Response:
        state = current_request_state()
        page = AllowPage(
            shell=shell(services, state, "An attempt to sign in", PAGE_LOGIN),
            csrf=services.csrf_of(state),
            token=token[:TICKET_CHARS_MAX],
            is_done=is_done,
            sign_in=sign_in_path(paths.ACCOUNT),
            problems={} if problem is None else problem.problems,
        )
        return answer_form(services.renderer.allow_page(page), problem)

    add_mailed_form(routes, paths.ALLOW, show, partial(allow, mine))
    return routes
