"""The Quart application class of the site: the edge around it, errors by the table.

Subclassing keeps composition short: `app = WebApp(__name__, settings, table)`. What the edge does
is in `edge/edge.py`; which error becomes which answer in `edge/answers.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import trio
from hypercorn.typing import ASGIFramework, HTTPScope, WebsocketScope
from quart import Response, current_app, g, request
from quart.globals import request_ctx
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as WerkzeugResponse

from actors.runtime import Log
from actors.runtime.telling.log import failure_of
from web.server.bounded import BoundedMap
from web.server.dispatch import LeanApp
from web.server.edge.answers import Answer, ErrorRow, ErrorTable, Rendering, row_of_status
from web.server.edge.edge import Edge, EdgeSettings, ReadyAnswer
from web.server.edge.request_state import RequestState, request_state
from web.server.edge.visitor import CsrfTokens
from web.server.lean import LeanConnection, LeanRequest

log = Log(__name__)

OnRefused = Callable[[RequestState, ErrorRow], None]
# Finds out who is signed in and sets `signed_in`, before any route and its token; what it raises is
# the answer.
Identify = Callable[[RequestState, HTTPScope | WebsocketScope], Awaitable[None]]


async def nobody(state: RequestState, scope: HTTPScope | WebsocketScope) -> None:
    """Say that all are guests: for a site without accounts."""


class CsrfTokenMissing(Exception):
    """Raised when a request needs a CSRF token and brought none that is right; answered 403."""


class MediaTypeRefused(Exception):
    """Raised by a route that reads another media type than the body's; answered 415."""


# What is away is told at once, and then so often while it stays away.
AWAY_TOLD_EVERY_S = 60.0
# Classes of errors that are 503; there are a dozen.
AWAY_KINDS_MAX = 64


class AwayLog:
    """Logs what is known to happen while something is away: once, and not at each request.

    The requests between two lines are counted in the second; each has a line at `debug`.
    """

    def __init__(self) -> None:
        # By class of error: when it was told, and how many were not since.
        self._told: BoundedMap[str, tuple[float, int]] = BoundedMap(AWAY_KINDS_MAX)

    def tell(self, error: BaseException, state: RequestState) -> None:
        """Call this for a request that was answered 503."""
        kind, now = type(error).__name__, trio.current_time()
        facts = {
            "request_id": state.request_id,
            "correlation_id": state.correlation_id,
            "kind": kind,
            "error": str(error),
        }
        known = self._told.get(kind)
        if known is not None and now - known[0] < AWAY_TOLD_EVERY_S:
            self._told.put(kind, (known[0], known[1] + 1))
            log.debug("request.unavailable", **facts)
            return
        self._told.put(kind, (now, 0))
        log.warning("request.unavailable", **facts, others=0 if known is None else known[1])


class WebApp(LeanApp):
    """A Quart application behind the edge.

    `sockets` maps WebSocket paths to ASGI endpoints. `on_refused` is told of every error answered
    to a command, so that its tab's stream can show it (SITE-101). `identify` finds out who is
    signed in; CSRF tokens are bound to that sign-in. `ready_answer` gives the whole answer to a GET
    of a path where it needs nothing of Quart; its route is registered all the same, for every other
    method.
    """

    asgi_http_class = LeanConnection
    request_class = LeanRequest

    def __init__(
        self,
        import_name: str,
        settings: EdgeSettings,
        table: ErrorTable,
        *,
        sockets: Mapping[str, ASGIFramework] | None = None,
        on_refused: OnRefused | None = None,
        identify: Identify = nobody,
        ready_answer: Callable[[str], ReadyAnswer | None] = lambda path: None,
        template_folder: str | None = None,
    ) -> None:
        # Static files have their own route with hashed names, so Quart's is off.
        super().__init__(import_name, static_folder=None, template_folder=template_folder)
        # The edge and the transport keep these limits, with better reasons to tell.
        self.config.update(MAX_CONTENT_LENGTH=None, BODY_TIMEOUT=None, RESPONSE_TIMEOUT=None)
        for own in (CsrfTokenMissing, MediaTypeRefused):
            answer = Answer.FORBIDDEN if own is CsrfTokenMissing else Answer.MEDIA_TYPE
            if own not in table:
                table.add(own, answer)
        self.error_table = table
        self.csrf = CsrfTokens(settings.ring)
        self._on_refused = on_refused
        self.away = AwayLog()
        self._identify = identify
        self.edge = Edge(
            self.asgi_app,
            settings,
            sockets=sockets,
            methods_of=self._methods_of,
            ready_answer=ready_answer,
        )
        self.maybe_ready, self.enters_scope = self.edge.maybe_ready, self.edge.enters_scope
        self.asgi_app = self.edge  # type: ignore[method-assign]  # reason: Quart's documented place for middleware
        self.before_request(self._check_token)
        self.context_processor(self._template_words)

    async def handle_user_exception(self, error: BaseException) -> Response | WerkzeugResponse:
        """Answer an error by the table; the cause is logged, a failure's with traceback."""
        if isinstance(error, HTTPException) and (error.code or 0) < 400:
            return error.get_response()  # a redirect of the router
        if isinstance(error, BaseExceptionGroup):
            cancelled, others = error.split(trio.Cancelled)
            if cancelled is not None:
                # Out of a nursery of the handler: its client left, or its time is over. That is for
                # whoever cancelled it to answer, and no failure; what else failed is.
                if others is not None:
                    log.error("request.failed", exc_info=others)
                raise cancelled
        state = request_state(request.scope)
        row = self._row(error)
        if row.status == Answer.LATE.value.status and state.rendering is not Rendering.API:
            row = Answer.UNAVAILABLE.value  # SITE-153: a person is told to try again
        if row.status == Answer.UNAVAILABLE.value.status and not row.is_refusal:
            self.away.tell(error, state)
        elif row.status >= 500 and not row.is_refusal:
            log.error(
                "request.failed",
                request_id=state.request_id,
                correlation_id=state.correlation_id,
                exc_info=error,
            )
        else:
            log.debug("request.refused", request_id=state.request_id, status=row.status)
        if self._on_refused is not None:
            failed = failure_of(self._on_refused, state, row)
            if failed is not None:
                log.error("request.refusal_not_told", exc_info=failed)
        headers, body = self.edge.error_answer(row, state)
        response = Response(body, status=row.status)
        response.headers.clear()
        for name, value in [*headers, *_allow(error)]:
            response.headers.add(name.decode("ascii"), value.decode("latin-1"))
        return response

    def _methods_of(self, path: str) -> list[str]:
        return list(self.url_map.bind("").allowed_methods(path))

    def _row(self, error: BaseException) -> ErrorRow:
        if isinstance(error, HTTPException) and error.code is not None:
            return row_of_status(error.code)
        if isinstance(error, trio.TooSlowError) and trio.TooSlowError not in self.error_table:
            return Answer.UNAVAILABLE.value
        return self.error_table.row(error)

    async def _check_token(self) -> None:
        # Asked once, and not for each of them.
        asked, kept = request_ctx.request, g._get_current_object()
        state = request_state(asked.scope)
        kept.edge, kept.csp_nonce = state, state.nonce
        state.route = None if asked.url_rule is None else asked.url_rule.rule
        await self._identify(state, asked.scope)
        if not state.needs_csrf_token:
            return
        token = asked.headers.get("x-csrf-token", "")
        if not token and asked.mimetype == "application/x-www-form-urlencoded":
            token = (await asked.form).get("csrf", "")
        if not self.csrf.verifies(token, state.visitor.id, sign_in_of(state)):
            raise CsrfTokenMissing

    def _template_words(self) -> dict[str, object]:
        state = request_state(request.scope)

        def csrf_token() -> str:
            return self.csrf.make(state.visitor.id, sign_in_of(state))

        return {
            "csp_nonce": state.nonce,
            "csrf_token": csrf_token,
            "request_id": state.request_id,
        }


def sign_in_of(state: RequestState) -> str:
    """Call this for what a CSRF token is bound to beside the visitor; empty for guests."""
    return "" if state.signed_in is None else state.signed_in.reference.hex


def current_request_state() -> RequestState:
    """Call this inside a Quart request to get what the edge knows about it."""
    return request_state(request.scope)


def current_load() -> dict[str, object]:
    """Call this inside a Quart request for how much the server has to do (`Edge.load`)."""
    assert isinstance(current_app, WebApp), "the site has one application"
    return current_app.edge.load(request.scope)


def tell_unavailable(error: BaseException) -> None:
    """Call this inside a Quart request that shows a 503 in a form of its own.

    It is logged as those that are raised: once while something is away, and then counted.
    """
    assert isinstance(current_app, WebApp), "the site has one application"
    current_app.away.tell(error, current_request_state())


def require_media(media_type: str) -> None:
    """Call this at the top of a route that reads a body; raises `MediaTypeRefused` (SEC-33)."""
    if request.mimetype != media_type:
        raise MediaTypeRefused(f"this address reads {media_type} only")


def _allow(error: BaseException) -> list[tuple[bytes, bytes]]:
    methods = getattr(error, "valid_methods", None)
    if not methods:
        return []
    return [(b"allow", ", ".join(sorted(methods)).encode("ascii"))]
