"""The page behind "this was not me": one button, which needs no sign-in and no script (AUTH-16)."""

from quart import Blueprint, Response, request

from web.accounts.entering import AccountServices, NotEntered
from web.accounts.own.mending.disavowing import disavow, needs_mailbox
from web.accounts.routes import FORM, REFUSED, answer_form, redirect, refused, user_agent
from web.routing import paths
from web.routing.services import Services
from web.server import current_request_state, require_media
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

    @routes.get(paths.NOT_ME)
    async def form() -> Response:
        # Behind the form that was taken: a reload sends nothing again.
        return show(request.args.get("token", ""), is_done=request.args.get("done") == "1")

    @routes.post(paths.NOT_ME)
    async def act() -> Response:
        require_media(FORM)
        token = (await request.form).get("token", "")
        try:
            await disavow(mine, current_request_state(), token, user_agent())
        except REFUSED as error:
            return show(token, refused(error), is_done=False)
        return redirect(f"{paths.NOT_ME}?done=1")

    return routes
