"""The page behind the link of a mail that tells of an attempt: one button, without a sign-in."""

from quart import Blueprint, Response, request

from web.accounts.entering import AccountServices, NotEntered
from web.accounts.routes import FORM, REFUSED, answer_form, redirect, refused, user_agent
from web.accounts.ways.risk.allowing import allow
from web.routing import paths
from web.routing.services import Services
from web.server import current_request_state, require_media
from web.server.edge.tickets import TICKET_CHARS_MAX
from web.site.pages import PAGE_LOGIN, form_response, shell, sign_in_path
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
        html = services.renderer.allow_page(page)
        return form_response(html) if problem is None else answer_form(html, problem)

    @routes.get(paths.ALLOW)
    async def form() -> Response:
        # Behind the form that was taken: a reload sends nothing again.
        return show(request.args.get("token", ""), is_done=request.args.get("done") == "1")

    @routes.post(paths.ALLOW)
    async def act() -> Response:
        require_media(FORM)
        token = (await request.form).get("token", "")
        try:
            await allow(mine, current_request_state(), token, user_agent())
        except REFUSED as error:
            return show(token, refused(error), is_done=False)
        return redirect(f"{paths.ALLOW}?done=1")

    return routes
