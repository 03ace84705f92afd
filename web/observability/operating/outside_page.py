"""The page of operators about what the site calls outside of itself: what is left alone, and why.

Rule 1: who may come here is declared in `web.accounts.roles.access`: the role, and a fresh proof.
Rule 2: breakers are of this process; a node tells of its own, and closes its own.
Rule 3: who closes one stands in the audit, with why, before it is closed. Where no row can be
        written nothing is done.
"""

from quart import Blueprint, Response, request

from actors.accounts import Audit
from actors.accounts.kept.audit import WHY_BYTES_MAX, Operated, Operation
from actors.runtime import Log
from supervision import Dependencies, DependencyStats, UnknownDependency
from web.accounts.entering import origin_of
from web.accounts.routes import redirect, typed_by_member, user_agent
from web.routing import paths
from web.routing.errors import InvalidInput, NoSuchThing
from web.routing.services import Services
from web.server import current_request_state
from web.site.pages import PAGE_OPERATORS, form_response, shell
from web.views import OutsidePage, OutsideView, local_path

log = Log("web.outside")


def outside_routes(services: Services, outside: Dependencies, audit: Audit) -> Blueprint:
    """Call this to get the routes."""
    routes = Blueprint("outside", __name__)

    @routes.get(paths.OPS_OUTSIDE)
    async def look() -> Response:
        state = current_request_state()
        asked = request.args.get("tried", "")
        page = OutsidePage(
            shell(services, state, "What is called outside", PAGE_OPERATORS),
            services.csrf_of(state),
            tuple(map(outside_view, outside.stats())),
            asked if outside.maybe(asked) is not None else "",
        )
        return form_response(services.renderer.outside_page(page))

    @routes.post(paths.OPS_OUTSIDE)
    async def reset() -> Response:
        typed, member = await typed_by_member()
        try:
            found = outside.dependency(typed.get("dependency", ""))
        except UnknownDependency as error:
            raise NoSuchThing("nothing of that name is called outside") from error
        before = found.stats().breaker.state
        why = typed.get("reason", "").strip()
        if len(why.encode(errors="replace")) > WHY_BYTES_MAX or not why.isprintable():
            raise InvalidInput("a reason is one line")
        origin = origin_of(current_request_state(), user_agent(), method="operator")
        await audit.operated(
            Operation(
                Operated.OUTSIDE_RESET,
                member.user_id,
                found.name,
                origin,
                why,
                {"before": before},
            )
        )
        found.reset()
        log.info("outside.reset", dependency=found.name, before=before, user_id=str(member.user_id))
        return redirect(local_path(f"{paths.OPS_OUTSIDE}?tried={found.name}"))

    return routes


def outside_view(stats: DependencyStats) -> OutsideView:
    """Call this for what is shown of one thing that is called outside."""
    breaker, bulkhead = stats.breaker, stats.bulkhead
    return OutsideView(
        stats.name,
        breaker.state,
        round(breaker.retry_in),
        breaker.calls,
        breaker.failures,
        round(100 * breaker.failure_rate),
        breaker.rejections + bulkhead.refused + stats.bucket.refused,
        stats.timed_out,
        bulkhead.running,
        bulkhead.waiting,
    )
