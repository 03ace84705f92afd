"""The forms that begin, stop and finish a recovery; plain ones, which need no script (AUTH-10)."""

from functools import partial
from typing import Protocol

from quart import Blueprint, Response, request

from actors.accounts import Method
from web.accounts.entering import AccountServices, NotEntered
from web.accounts.identity import member_of
from web.accounts.own.mending.mailed_form import ShowForm, add_mailed_form
from web.accounts.own.mending.recovering import (
    finish_recovery,
    recover_by_code,
    start_recovery,
    stop_own_recovery,
    stop_recovery,
)
from web.accounts.routes import (
    FORM,
    REFUSED,
    answer_form,
    redirect,
    refused,
    to_sign_in,
    user_agent,
)
from web.routing import paths
from web.routing.services import Services
from web.server import current_request_state, require_media
from web.server.edge.tickets import TICKET_CHARS_MAX
from web.site.pages import PAGE_LOGIN, link_path, shell
from web.views import RecoveryForm, RecoveryPage

_TITLES = {
    RecoveryForm.STARTED: "Your account is being recovered",
    RecoveryForm.STOP: "Stop the recovery",
    RecoveryForm.STOPPED: "The recovery is stopped",
    RecoveryForm.FINISH: "Recover your account",
    RecoveryForm.FINISHED: "Your account is recovered",
}


class Show(Protocol):
    """Shows a step of a recovery, again with what was wrong."""

    def __call__(
        self, form: RecoveryForm, token: str = "", problem: NotEntered | None = None
    ) -> Response:
        """See `recovery_routes`."""
        ...


def recovery_routes(services: Services, mine: AccountServices) -> Blueprint:
    """Call this to get the routes; without links by mail there are none."""
    routes = Blueprint("recovery", __name__)
    mine.methods.keep_switched(routes, Method.MAGIC_LINK)

    def show(form: RecoveryForm, token: str = "", problem: NotEntered | None = None) -> Response:
        state = current_request_state()
        page = RecoveryPage(
            shell=shell(services, state, _TITLES[form], PAGE_LOGIN),
            csrf=services.csrf_of(state),
            form=form,
            token=token[:TICKET_CHARS_MAX],
            by_link=link_path(paths.ACCOUNT),
            problems={} if problem is None else problem.problems,
        )
        return answer_form(services.renderer.recovery_page(page), problem)

    @routes.get(paths.RECOVERY)
    async def started() -> Response:
        return show(RecoveryForm.STARTED)

    @routes.post(paths.RECOVERY)
    async def start() -> Response:
        require_media(FORM)
        typed, state = await request.form, current_request_state()
        ticket, code = typed.get("ticket", ""), typed.get("code", "")
        try:
            if code.strip():
                await recover_by_code(mine, state, ticket, code, user_agent())
                return redirect(f"{paths.RECOVERY_FINISH}?done=1")
            await start_recovery(mine, state, ticket, user_agent())
        except REFUSED as error:
            return show(RecoveryForm.STARTED, problem=refused(error))
        # A reload begins nothing again.
        return redirect(paths.RECOVERY)

    stop = _either(show, RecoveryForm.STOP, RecoveryForm.STOPPED)
    add_mailed_form(routes, paths.RECOVERY_STOP, stop, partial(stop_recovery, mine))
    finish = _either(show, RecoveryForm.FINISH, RecoveryForm.FINISHED)
    add_mailed_form(routes, paths.RECOVERY_FINISH, finish, partial(finish_recovery, mine))

    @routes.post(paths.ACCOUNT_RECOVERY)
    async def stop_own() -> Response:
        require_media(FORM)
        member = member_of(request.scope)
        if member is None:
            return to_sign_in(paths.ACCOUNT)
        await stop_own_recovery(mine, current_request_state(), member, user_agent())
        return redirect(paths.ACCOUNT)

    return routes


def _either(show: Show, asked: RecoveryForm, done: RecoveryForm) -> ShowForm:
    def shown(token: str = "", problem: NotEntered | None = None, *, is_done: bool) -> Response:
        return show(done) if is_done else show(asked, token, problem)

    return shown
