"""The pages of traces: a list for operators and for oneself, and one trace as a tree (OBS-8).

Rule 1: a trace is its session's, and operators'; to all others it is not there.
Rule 2: what is asked is read strictly: a search that means nothing is refused, not widened.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from math import isfinite
from typing import Final

import trio
from quart import Blueprint, Response, request

from actors.accounts import Role
from actors.runtime.telling.spans import CORRELATION
from web.observability.operating.recent import RECENT
from web.observability.operating.traces.kept import Kept, matching
from web.observability.operating.traces.of_site import SiteTraces, owner_of
from web.observability.operating.traces.presenting import span_views, trace_view
from web.routing import paths
from web.routing.errors import InvalidInput, NoSuchThing
from web.routing.services import Services
from web.server import RequestState, current_request_state
from web.site.pages import PAGE_LAB, PAGE_OPERATORS, form_response, shell
from web.views import TracePage, TracesPage

# What a person looks through.
SHOWN_MAX: Final = 200
LINES_SHOWN_MAX: Final = 100
# With the beginning of a traceback.
LINE_CHARS_SHOWN_MAX: Final = 2000
# The lines are unpacked once at a time: few look, and it takes a processor for a while.
_READING: Final = trio.CapacityLimiter(1)
_ROUTE_CHARS_MAX: Final = 100
_MIN_MS_MAX: Final = 900_000.0
# A client may have chosen its own, and one that is short stands in lines of anybody.
_FLOW_CHARS_MIN: Final = 16
_FLOWS_MAX: Final = 8
_TRACE = re.compile(r"[0-9a-f]{32}")
_ERRORS: Mapping[str, bool | None] = {"": None, "1": True, "0": False}


def listing_of(services: Services, traces: SiteTraces) -> Callable[[], Response]:
    """Call this for the list of operators; who asks was judged before."""

    def listed() -> Response:
        return _list(services, traces, "", PAGE_OPERATORS)

    return listed


def trace_routes(services: Services, traces: SiteTraces) -> Blueprint:
    """Call this to get the routes."""
    routes = Blueprint("traces", __name__)

    @routes.get(paths.LAB_TRACES)
    async def own() -> Response:
        state = current_request_state()
        return _list(services, traces, owner_of(state.visitor.text), PAGE_LAB)

    @routes.get(paths.LAB_TRACE)
    async def one(trace: str) -> Response:
        state, spans = current_request_state(), traces.spans
        kept = traces.kept.maybe(trace) if _TRACE.fullmatch(trace) else None
        is_operator = _is_operator(state)
        if kept is None or spans is None:
            raise NoSuchThing("no such trace, or not any more")
        if not is_operator and kept.owner != owner_of(state.visitor.text):
            raise NoSuchThing("no such trace, or not any more")
        shown = span_views(kept, spans)
        flows = tuple(dict.fromkeys(filter(None, (one[CORRELATION] for one in kept.records))))
        lines = await _lines_of(trace, flows) if is_operator else ()
        where = PAGE_OPERATORS if is_operator else PAGE_LAB
        page = TracePage(
            shell(services, state, "A trace", where),
            trace_view(kept, traces.time_of),
            shown,
            flows,
            is_operator,
            lines,
        )
        return form_response(services.renderer.trace_page(page))

    return routes


async def _lines_of(trace: str, flows: Sequence[str]) -> tuple[str, ...]:
    """Of the newest that were written; their secrets were hidden when they were."""
    ours = [one for one in flows if len(one) >= _FLOW_CHARS_MIN][:_FLOWS_MAX]
    found = await trio.to_thread.run_sync(
        RECENT.of_trace, trace, ours, LINES_SHOWN_MAX, limiter=_READING, abandon_on_cancel=True
    )
    return tuple(line[:LINE_CHARS_SHOWN_MAX] for line in found)


def _is_operator(state: RequestState) -> bool:
    return state.signed_in is not None and state.signed_in.role == Role.ADMIN.value


def _list(services: Services, traces: SiteTraces, owner: str, where: str) -> Response:
    state, asked = current_request_state(), request.args
    found = _asked(asked, traces.kept.newest(), owner)
    page = TracesPage(
        shell(services, state, "Traces", where),
        {name: asked.get(name, "") for name in ("min", "error", "route")},
        tuple(trace_view(one, traces.time_of) for one in islice(found, SHOWN_MAX)),
        not owner,
        traces.spans is not None,
    )
    return form_response(services.renderer.traces_page(page))


def _asked(asked: Mapping[str, str], found: Iterator[Kept], owner: str) -> Iterator[Kept]:
    least, error, route = (asked.get(name, "").strip() for name in ("min", "error", "route"))
    if error not in _ERRORS:
        raise InvalidInput("error is 1, 0 or nothing")
    if len(route) > _ROUTE_CHARS_MAX or not route.isprintable():
        raise InvalidInput(f"a route has at most {_ROUTE_CHARS_MAX} letters and signs")
    return matching(
        found,
        least_s=_milliseconds(least) / 1000,
        has_error=_ERRORS[error],
        route=route,
        owner=owner,
    )


def _milliseconds(text: str) -> float:
    try:
        value = float(text or 0)
    except ValueError:
        value = -1.0
    if not isfinite(value) or not 0 <= value <= _MIN_MS_MAX:
        raise InvalidInput("min is a number of milliseconds")
    return value
