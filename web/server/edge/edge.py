"""The edge: what happens to every request and answer, whatever handles it.

An ASGI application around the real one. In: request id, client address, host, origin, size and
media type are judged before any handler runs. Out: security headers, the visitor cookie, the
request's deadline. WebSocket paths go to their own ASGI endpoints, not through Quart.

Rule 1: no answer leaves without the headers of `answers.py`, errors of this file included.
Rule 2: nothing here reads a body; the CSRF token of a form is checked in `quart_app.py`.
Rule 3: what a request makes actors do carries its id as correlation id, or the one that a client
program gave (WEB-10), and each request, refused
ones too, is told once to whoever keeps the log of them (SITE-121, SITE-133).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus
from uuid import UUID

import trio
from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
    ConnectionState,
    HTTPScope,
    Scope,
    WebsocketScope,
)

from actors.runtime import Context, Log, edge_context
from actors.runtime.telling.log import failure_of
from web.server.connection.gzip import LEVEL_KEPT, gzipped
from web.server.connection.http.answers import (
    NO_HEADERS,
    FixedHeaders,
    date_line,
    head_bytes,
)
from web.server.connection.http.exchange import Exchange, maybe_whole
from web.server.connection.http.plain import AGAIN, EXCHANGE, WATCHED, Ready
from web.server.connection.overload import OVERLOAD_KEY, Overload, Urgency
from web.server.connection.settings import SURPLUS_KEY, ErrorResponse
from web.server.edge.addresses import ClientAddresses, Network, counted_as
from web.server.edge.answers import (
    NONCE_BYTES,
    Answer,
    ErrorRow,
    HeaderList,
    Rendering,
    RenderPage,
    content_type,
    nonce_of,
    plain_page,
    preflight_headers,
    reading_headers,
    render_error,
    row_of_status,
    secured,
    secured_apart,
)
from web.server.edge.checks import (
    KNOWN_METHODS,
    Checks,
    Verdict,
    cut_ticket,
    family_of,
    header_map,
    takes_gzip,
)
from web.server.edge.request_state import STATE_KEY, RequestState
from web.server.edge.span import RequestSpan, TellBegin, TellSpan, user_agent_of
from web.server.edge.turns import REQUESTS_PER_ADDRESS, Place, Turns
from web.server.edge.visitor import (
    KeyRing,
    Visitor,
    VisitorSigner,
    cookie_name,
    read_cookies,
    set_cookie,
)

log = Log(__name__)

# SITE-153: a page that takes longer is not worth waiting for.
REQUEST_S = 10.0
# About what is written in a second here: whoever comes behind that would wait longer than anybody
# likes, and make all others wait too (REL-74).
REQUESTS_MAX = 1000
_CLIENT_ID_MAX = 128
_OVERLOADED = replace(
    Answer.UNAVAILABLE.value, text="Too many are here at once; try again in a moment."
)
_PLAIN = replace(Answer.FORBIDDEN.value, text="This site is served over HTTPS only.")
# RFC 9562 4: as it is written, so that what is told back is what came.
_UUID = re.compile("[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_TRACEPARENT = re.compile("00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_NO_TRACE = "0" * 32
_TOO_MANY_TOLD_EVERY_S = 10.0
# Where in the state of a scope it stands that the loop has time for the request: asked once.
_LET_IN = "greenroom.let_in"
_READS = frozenset({"GET", "HEAD"})
# The target of a request that is about no resource; heads allow it for OPTIONS only.
_WHOLE_SERVER = "*"
# Where the id of a request goes, as long as one (RFC 9562 5.9).
_NO_ID = b"00000000-0000-0000-0000-000000000000"
_NOT_KEPT = (b"cache-control", b"no-store")
_COOKIE_TYPES = frozenset({b"text/html", b"text/event-stream"})
# Probes of machines; they keep no cookies.
_COOKIELESS = ("/static/", "/health", "/ready", "/metrics", "/api/", "/csp-report")


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSettings:
    """Holds what the edge must know of the site: its names, keys, limits and error page.

    `requests_max` may be in hand at once, further ones are answered 503 at once, and of these
    `requests_per_address` of one address, whose further ones wait for their turn. Those for
    `uncounted_paths` are none of them: probes, and streams, which have a limit of their own.
    While the loop cannot keep up those for `urgent_paths`, and streams, are turned away last.
    `tell_begin` is told of every request, `tell_span` again once its answer has begun, or nobody
    waits for one.
    """

    checks: Checks
    ring: KeyRing
    trusted_proxies: tuple[Network, ...] = ()
    request_s: float = REQUEST_S
    requests_max: int = REQUESTS_MAX
    requests_per_address: int = REQUESTS_PER_ADDRESS
    uncounted_paths: frozenset[str] = frozenset()
    urgent_paths: frozenset[str] = frozenset()
    error_page: RenderPage = field(default=plain_page)
    # Off where a proxy in front compresses.
    compresses: bool = True
    # Tells of a visitor's id whether its session is over, as far as this process has heard.
    has_ended: Callable[[UUID], bool] = field(default=lambda visitor_id: False)
    tell_span: TellSpan | None = None
    tell_begin: TellBegin | None = None

    @property
    def is_https(self) -> bool:
        """Tell whether visitors reach the site over HTTPS."""
        return self.checks.own_origin.startswith("https://")


@dataclass(frozen=True, slots=True)
class ReadyAnswer:
    """Holds an answer that is known before anybody asks: a probe's, or a file's.

    `gzip` is the same for who takes gzip, where that is shorter.
    """

    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    gzip: ReadyAnswer | None = None

    def for_client(self, state: RequestState) -> ReadyAnswer:
        """Give what the client of a request takes."""
        return self.gzip if state.takes_gzip and self.gzip is not None else self


def ready_answer(
    content_type: str, body: bytes, *more: tuple[bytes, bytes], has_gzip: bool = False
) -> ReadyAnswer:
    """Call this to make one with its type and length; `more` are further headers."""

    def made(body: bytes, *encoded: tuple[bytes, bytes]) -> ReadyAnswer:
        length = str(len(body)).encode("ascii")
        named = (b"content-type", content_type.encode("ascii")), (b"content-length", length)
        return ReadyAnswer((*named, *more, *encoded), body)

    packed = gzipped(body, LEVEL_KEPT) if has_gzip else body
    if len(packed) >= len(body):
        return made(body)
    vary = (b"vary", b"accept-encoding")
    return replace(made(body, vary), gzip=made(packed, vary, (b"content-encoding", b"gzip")))


class _TurnedAway:
    """What those are told who are turned away, but for the id of each request."""

    __slots__ = ("_date", "_parts", "body", "fixed", "status")

    def __init__(self, status: int, fixed: FixedHeaders, body: bytes) -> None:
        self.status, self.fixed, self.body = status, fixed, body
        self._date = b""
        self._parts: list[bytes] = []

    def ready(self, request_id: str, given: str | None) -> Ready:
        """Give it in its parts; `given` is an API's client's correlation id."""
        encoded = request_id.encode("ascii")
        found = [(b"x-request-id", encoded)]
        if given is not None:
            found.append((b"x-correlation-id", _correlation(given, request_id).encode("ascii")))
        return self.status, found, self.fixed, self.body.replace(_NO_ID, encoded)

    def whole(self, request_id: str) -> bytes:
        """Give all of it at once: thousands are told so in a second, and it is put together anew
        once in it, when its date is another.
        """
        date = date_line()
        if date != self._date:
            head = head_bytes(self.status, [(b"x-request-id", _NO_ID)], self.fixed)
            self._date, self._parts = date, (head + self.body).split(_NO_ID)
        return request_id.encode("ascii").join(self._parts)


class Edge:
    """Wraps an ASGI application; `sockets` maps WebSocket paths to their endpoints.

    A path that ends with `/` stands for each that has one more segment.

    `methods_of` tells which methods a path has; it is asked only for those few know. `ready_answer`
    gives the whole answer to a GET or HEAD of a path, or None where the application is asked.
    """

    def __init__(
        self,
        app: ASGIFramework,
        settings: EdgeSettings,
        *,
        sockets: Mapping[str, ASGIFramework] | None = None,
        methods_of: Callable[[str], Collection[str]] = lambda path: (),
        ready_answer: Callable[[str], ReadyAnswer | None] = lambda path: None,
    ) -> None:
        self._ready_answer = ready_answer
        # The scope with a request's deadline is also the one that ends it when its client leaves.
        self.enters_scope = True
        self._app = app
        self._methods_of = methods_of
        self._settings = settings
        self._sockets = dict(sockets or {})
        self.addresses = ClientAddresses(settings.trusted_proxies)
        self._signer = VisitorSigner(settings.ring)
        self._cookie = cookie_name("visitor", is_https=settings.is_https)
        self._in_hand = 0
        self._none_in_hand = trio.Event()
        self._none_in_hand.set()
        self.turns = Turns(settings.requests_per_address)
        self._too_many_told_at = -math.inf
        # By reader, and whether over HTTPS: few there can be.
        self._refusals: dict[tuple[Rendering, bool], _TurnedAway] = {}
        # How many were turned away because there were too many in hand, or the loop was late.
        self.overloads = 0
        # How many came with a trace that was none, and were given another.
        self.traces_replaced = 0

    @property
    def own_origin(self) -> str:
        """Call this for the one name of this site, for links that leave it (SEC-84)."""
        return self._settings.checks.own_origin

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def maybe_ready(self, scope: HTTPScope) -> Ready | None:
        """Call this before `__call__` for a whole answer that is known at once: with its status.

        None where there is none, or something is wrong with the request: call then. It is judged
        as it would be there, its answer has the same headers, and it is told to the same ear; but
        of those that are turned away, of which there may be thousands, the log has the number.
        """
        ready = self._ready_answer(scope["path"]) if scope["method"] in _READS else None
        if ready is None:
            return self._maybe_turned_away(scope)
        headers, checks = header_map(scope["headers"]), self._settings.checks
        if self._is_plain(scope, headers) and scope["path"] not in checks.probe_paths:
            return None
        if checks.refusal(scope, headers) or checks.origin(scope, headers) is Verdict.FORBIDDEN:
            return None
        state, begin = self._new_state(scope, headers), _Begin()
        if self._settings.tell_begin is not None:
            self._settings.tell_begin(scope["method"], scope["path"], state)
        begin.mark(200)
        self._tell(scope, headers, state, begin)
        ready = ready.for_client(state)
        return 200, *self.dressed(ready.headers, state, scope["path"]), ready.body

    def load(self, scope: HTTPScope | WebsocketScope) -> dict[str, object]:
        """Call this for what operators are shown of how much there is to do, of any request.

        `refused` counts those told 503 because there were too many, since the start; `in_hand` are
        being answered, `waiting` stand in the line of their address. Where the server does not
        measure its turns they are left out.
        """
        overload = (scope.get("state") or ConnectionState({})).get(OVERLOAD_KEY)
        found: dict[str, object] = {
            "refused": self.overloads,
            "in_hand": self._in_hand,
            "waiting": self.turns.waiting_count(),
        }
        if isinstance(overload, Overload):
            load = overload.load()
            found["overloaded"] = load.is_overloaded
            found["turn_ms"] = round(load.turn_s * 1000, 1)
            found["longest_turn_ms"] = round(load.longest_s * 1000, 1)
        return found

    def _maybe_turned_away(self, scope: HTTPScope) -> Ready | None:
        if not self._turns_away(scope):
            return None
        # No more than this: turning away must be a small part of what an answer takes.
        headers, checks = header_map(scope["headers"]), self._settings.checks
        is_https = self._settings.is_https and not self._is_plain(scope, headers)
        key = checks.rendering(scope, headers), is_https
        told = self._refusals.get(key) or self._keep_refusal(*key)
        given = headers.get("x-correlation-id", "") if checks.is_api(scope["path"]) else None
        overload, urgency = scope["state"][OVERLOAD_KEY], self._maybe_urgency(scope)
        assert urgency is not None, "what has none is never turned away"
        scope["state"][AGAIN] = partial(self._maybe_again, overload, urgency, told, given)
        return told.ready(new_uuid(), given)

    def _maybe_again(
        self, overload: Overload, urgency: Urgency, told: _TurnedAway, given: str | None
    ) -> bytes | None:
        """Turn away who asks for the same as one that was; None when there is time for it."""
        if not overload.refuses(urgency):
            return None
        self.overloads += 1
        if given is None:
            return told.whole(new_uuid())
        status, headers, fixed, body = told.ready(new_uuid(), given)
        return head_bytes(status, headers, fixed) + body

    def _keep_refusal(self, rendering: Rendering, is_https: bool) -> _TurnedAway:
        """Make what those are told who are turned away, but for the id of each request."""
        # The plainest page: it has nothing that a policy would have to let in, by a nonce or else.
        no_id = _NO_ID.decode("ascii")
        given, body = render_error(_OVERLOADED, rendering, request_id=no_id, nonce="")
        bare = [pair for pair in given if pair[0] != b"content-type"]
        headers = secured(bare, request_id=no_id, nonce="", is_https=is_https)
        headers = [pair for pair in headers if pair[0] != b"x-request-id"]
        headers += [pair for pair in given if pair[0] == b"content-type"]
        kept = _TurnedAway(_OVERLOADED.status, FixedHeaders(*headers, _NOT_KEPT), body)
        self._refusals[rendering, is_https] = kept
        return kept

    def _turns_away(self, scope: HTTPScope) -> bool:
        """Tell whether the loop has too much to do for this request; asks for each of them once.

        And for those once more that are let in of many: then it is known what was worked for them.
        """
        state = scope.get("state") or ConnectionState({})
        overload = state.get(OVERLOAD_KEY)
        if not isinstance(overload, Overload) or _LET_IN in state:
            return False
        urgency = self._maybe_urgency(scope)
        if urgency is None or not overload.refuses(urgency):
            if urgency is None or not overload.is_shedding:
                state[_LET_IN] = True
            return False
        self.overloads += 1
        return True

    def _is_line_full(self, scope: HTTPScope, state: RequestState) -> bool:
        """Tell whether there is too much to do, and too long a line of the request's address."""
        overload = scope["state"].get(OVERLOAD_KEY)
        if not isinstance(overload, Overload) or not overload.is_on:
            return False
        if not self.turns.is_full(counted_as(state.address)):
            return False
        overload.note_refused()
        self.overloads += 1
        return True

    def _maybe_urgency(self, scope: HTTPScope) -> Urgency | None:
        path, settings = scope["path"], self._settings
        if path in settings.checks.probe_paths:
            return None
        if path in settings.uncounted_paths or path in settings.urgent_paths:
            return Urgency.KEPT
        return Urgency.READ if scope["method"] in _READS else Urgency.COMMAND

    def _overloaded(self, state: RequestState) -> tuple[HeaderList, bytes]:
        # The plainest page: one from a template would take as long as the one asked for.
        return render_error(
            _OVERLOADED, state.rendering, request_id=state.request_id, nonce=state.nonce
        )

    def protocol_error(self, status: int, rule: str, is_tls: bool, peer: str) -> ErrorResponse:
        """Call this to answer bytes that never became a request (SITE-151); the rule is shown.

        Whom a proxy passed on stands in a head, and there is none: it counts for the peer itself.
        """
        request_id, nonce = _new_labels()
        # 501 and 505 are the client's mistake, and not ours as other statuses from 500 on are.
        is_theirs = status in (HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        known = Answer.INVALID.value if is_theirs else row_of_status(status)
        row = replace(known, status=status, text=rule)
        headers, body = render_error(
            row,
            Rendering.PAGE,
            request_id=request_id,
            nonce=nonce,
            page=self._settings.error_page,
        )
        # RFC 6797 7.2: whether a proxy came by HTTPS stands in a head, and there is none.
        is_https = self._settings.is_https and is_tls
        headers = secured(headers, request_id=request_id, nonce=nonce, is_https=is_https)
        if self._settings.tell_span is not None:
            self._settings.tell_span(
                RequestSpan(
                    method="",
                    path="",
                    status=status,
                    latency_s=0.0,
                    request_id=request_id,
                    rule=rule,
                    address=self.addresses.of(peer, None).address,
                )
            )
        return ErrorResponse(status, headers, body)

    async def _http(
        self, scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        headers = header_map(scope["headers"])
        state = self._new_state(scope, headers)
        answer = _Answering(self, scope, state, send)
        if self._settings.tell_begin is not None:
            self._settings.tell_begin(scope["method"], scope["path"], state)
        try:
            await self._judge(scope, headers, receive, answer)
        finally:
            self._tell(scope, headers, state, answer.begin)

    async def _judge(
        self,
        scope: HTTPScope,
        headers: Mapping[str, str],
        receive: ASGIReceiveCallable,
        answer: _Answering,
    ) -> None:
        checks, is_plain = self._settings.checks, answer.state.is_plain
        refused = checks.refusal(scope, headers, is_plain=is_plain)
        if refused is None and is_plain and scope["path"] not in checks.probe_paths:
            self.addresses.note_plain(_peer(scope), headers.get("x-forwarded-proto"))
            await answer.refuse_plain(checks.secure_url(scope, headers))
            return
        if refused is None and scope["method"] not in KNOWN_METHODS:
            # SEC-112: told apart before the origin is asked, which knows no such method as safe.
            allowed = self._methods_of(scope["path"])
            if scope["method"] not in allowed:
                await answer.refuse_method(allowed)
                return
        is_preflight = refused is None and checks.is_preflight(scope, headers)
        if is_preflight and answer.state.reading_origin is not None:
            await answer.send_whole(204, preflight_headers(), b"")
            return
        verdict = Verdict.PASS if refused else checks.origin(scope, headers)
        if verdict is Verdict.FORBIDDEN or is_preflight:
            refused = Answer.FORBIDDEN.value
        if refused is not None:
            await answer.refuse(refused)
            return
        if scope["method"] in _READS and (ready := self._ready_answer(scope["path"])) is not None:
            await answer.tell(ready)
            return
        if scope["path"] == _WHOLE_SERVER:
            await answer.tell_methods()
            return
        if _is_surplus(scope) and scope["path"] not in checks.probe_paths:
            self._note_too_many()
            await answer.refuse(_OVERLOADED)
            return
        if self._turns_away(scope):
            await answer.give(_OVERLOADED.status, *self._overloaded(answer.state))
            return
        answer.state.needs_csrf_token = verdict is Verdict.NEEDS_TOKEN
        if scope["path"] in self._settings.uncounted_paths:
            await self._run(scope, receive, answer, has_turn=True)
            return
        if self._is_line_full(scope, answer.state):
            await answer.give(_OVERLOADED.status, *self._overloaded(answer.state))
            return
        if self._in_hand >= self._settings.requests_max:
            self._note_too_many()
            await answer.refuse(_OVERLOADED)
            return
        self._take()
        try:
            await self._run(scope, receive, answer, has_turn=False)
        finally:
            self._let_go()
            answer.leave()

    async def wait_none_in_hand(self) -> None:
        """Call this to wait until no request is in hand or in a line; streams and probes apart.

        A drain does, when nobody new comes. Cancelled, it changes nothing.
        """
        await self._none_in_hand.wait()

    def _take(self) -> None:
        # An event is set once and for all: the first request after a pause makes a new one.
        if self._in_hand == 0:
            self._none_in_hand = trio.Event()
        self._in_hand += 1

    def _let_go(self) -> None:
        self._in_hand -= 1
        if self._in_hand == 0:
            self._none_in_hand.set()

    def _note_too_many(self) -> None:
        self.overloads += 1
        now = trio.current_time()
        if now - self._too_many_told_at >= _TOO_MANY_TOLD_EVERY_S:
            self._too_many_told_at = now
            log.warning("request.too_many", in_hand=self._in_hand, refused=self.overloads)

    async def _run(
        self, scope: HTTPScope, receive: ASGIReceiveCallable, answer: _Answering, *, has_turn: bool
    ) -> None:
        state = answer.state
        # The length a head tells was judged; a chunked body tells none, so it is counted.
        body = _LimitedBody(receive, self._settings.checks.body_limit(scope["path"]))
        ending = answer.scope = trio.CancelScope(deadline=state.deadline)
        if answer.exchange is not None:
            answer.exchange.ends(ending)
        try:
            with (
                ending,
                edge_context(
                    Context(state.correlation_id or state.request_id, traceparent=state.traceparent)
                ),
            ):
                if not has_turn:
                    # Waiting for it is part of the request's time, and ends when its client leaves.
                    turn = _maybe_turn(scope)
                    answer.place = self.turns.maybe_place(counted_as(state.address), turn)
                    if answer.place is None:
                        visitor = None if state.visitor.is_new else state.visitor.id
                        answer.place = await self.turns.wait_place(
                            counted_as(state.address), visitor, turn
                        )
                await self._app(scope, body.receive, answer.send)
        finally:
            # Also when the client left and this task is being cancelled: they do not wait.
            for end in state.at_end:
                error = failure_of(end)
                if error is not None:
                    log.error("request.end_failed", request_id=state.request_id, exc_info=error)
        # An answer that has begun cannot become another one: it stays cut off, and the client sees
        # that its length is wrong or its last chunk missing.
        if answer.has_started or answer.is_lost:
            return
        if body.is_too_large:
            await answer.refuse(Answer.TOO_LARGE.value)
        elif ending.cancelled_caught and body.is_awaited:
            # REL-14: its client's time is over, by the same ten seconds as ours; that is no
            # failure of the site's, and nothing to wait and try again for.
            await answer.refuse(Answer.LATE.value)
        elif ending.cancelled_caught:
            log.warning("request.deadline_passed", path=scope["path"])
            await answer.refuse(Answer.UNAVAILABLE.value)

    async def _websocket(
        self, scope: WebsocketScope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        headers = header_map(scope["headers"])
        state = self._new_state(scope, headers)
        endpoint = self._sockets.get(family_of(scope["path"], self._sockets))
        row = self._settings.checks.refusal(scope, headers, is_plain=state.is_plain)
        if row is None and state.is_plain:
            self.addresses.note_plain(_peer(scope), headers.get("x-forwarded-proto"))
            row = _PLAIN
        if row is None and _is_surplus(scope):
            row = _OVERLOADED
        if row is None and endpoint is None:
            row = Answer.NOT_FOUND.value
        has_ticket = state.ticket is not None
        verdict = self._settings.checks.handshake(scope, headers, has_ticket=has_ticket)
        if row is None and verdict is Verdict.FORBIDDEN:
            row = Answer.FORBIDDEN.value
        begin = _Begin()

        async def send_secured(message: ASGISendEvent) -> None:
            if message["type"] == "websocket.accept":
                begin.mark(101)
                self._tell(scope, headers, state, begin)
                message = {**message, "headers": self.dress(message.get("headers", []), state)}
            elif message["type"] == "websocket.http.response.start":
                begin.mark(message["status"])
                message = {**message, "headers": self.dress(message["headers"], state)}
            await send(message)

        try:
            if row is None and endpoint is not None:
                await endpoint(scope, receive, send_secured)
            else:
                # `websocket.connect` is taken first, as the protocol of ASGI wants it.
                await receive()
                await self._deny(send_secured, state, row or Answer.NOT_FOUND.value)
        finally:
            if begin.status != 101:
                self._tell(scope, headers, state, begin)

    async def _deny(self, send: ASGISendCallable, state: RequestState, row: ErrorRow) -> None:
        headers, body = render_error(
            row, Rendering.API, request_id=state.request_id, nonce=state.nonce
        )
        await send(
            {
                "type": "websocket.http.response.start",
                "status": row.status,
                "headers": headers,
            }
        )
        await send({"type": "websocket.http.response.body", "body": body, "more_body": False})

    def dress(self, headers: Iterable[tuple[bytes, bytes]], state: RequestState) -> HeaderList:
        """Call this to add our headers to an answer's."""
        own, fixed = self._dress(list(headers), state)
        return [*own, *fixed.pairs]

    def _dress(self, headers: HeaderList, state: RequestState) -> tuple[HeaderList, FixedHeaders]:
        found, fixed = secured_apart(
            headers,
            request_id=state.request_id,
            nonce=state.nonce,
            # RFC 6797 7.2: over plain HTTP nobody is told to stay on HTTPS.
            is_https=self._settings.is_https and not state.is_plain,
        )
        if state.correlation_id is not None:
            found.append((b"x-correlation-id", state.correlation_id.encode("ascii")))
        if state.rendering is Rendering.API:
            found += state.rate_limits
        if state.reading_origin is not None:
            found += reading_headers(state.reading_origin)
        return found, fixed

    def dressed(
        self, headers: Iterable[tuple[bytes, bytes]], state: RequestState, path: str
    ) -> tuple[HeaderList, FixedHeaders]:
        """Call this for the whole head of an answer to a path: our headers, and its cookies.

        First what is this answer's own, then what all of its kind have.
        """
        given = list(headers)
        found, fixed = self._dress(given, state)
        if _sets_cookie(given, state.visitor, path):
            found.append(self.visitor_cookie(state))
        found += state.set_cookies
        return found, fixed

    def visitor_cookie(self, state: RequestState) -> tuple[bytes, bytes]:
        """Call this to get the header that makes the browser keep its visitor id."""
        value = self._signer.value(state.visitor.id)
        return set_cookie(self._cookie, value, is_https=self._settings.is_https)

    def error_answer(self, row: ErrorRow, state: RequestState) -> tuple[HeaderList, bytes]:
        """Call this to get an error as the request's reader understands it."""
        return render_error(
            row,
            state.rendering,
            request_id=state.request_id,
            nonce=state.nonce,
            page=self._settings.error_page,
            visitor_id=state.visitor.id,
            signed_in=state.signed_in,
            came_from=state.came_from(),
        )

    def _tell(
        self,
        scope: HTTPScope | WebsocketScope,
        headers: Mapping[str, str],
        state: RequestState,
        begin: _Begin,
    ) -> None:
        if self._settings.tell_span is None:
            return
        self._settings.tell_span(
            RequestSpan(
                method=scope["method"] if scope["type"] == "http" else "GET",
                path=scope["raw_path"].decode("ascii", "backslashreplace"),
                status=begin.status,
                latency_s=(begin.at or trio.current_time()) - begin.since,
                request_id=state.request_id,
                address=state.address,
                route=state.route,
                client_request_id=state.client_request_id,
                correlation_id=state.correlation_id,
                session_id=None if state.visitor.is_new else state.visitor.text,
                user_id=None if state.signed_in is None else str(state.signed_in.user_id),
                user_agent=user_agent_of(headers.get("user-agent")),
                began=begin.since,
                traceparent=state.traceparent,
                above=state.above,
            )
        )

    def _new_state(
        self, scope: HTTPScope | WebsocketScope, headers: Mapping[str, str]
    ) -> RequestState:
        cookie = read_cookies(scope["headers"]).get(self._cookie) if "cookie" in headers else None
        known = self._signer.maybe_visitor_id(cookie) if cookie else None
        if known is not None and self._settings.has_ended(known):
            known = None  # as a cookie that was not signed here: the browser is given another
        # First of all: nobody behind us sees it, and so no log line, error or report can.
        ticket, scope["query_string"] = cut_ticket(scope["query_string"])
        client = self.addresses.of(_peer(scope), headers.get("x-forwarded-for"))
        request_id, nonce = _new_labels()
        is_api = self._settings.checks.is_api(scope["path"])
        state = RequestState(
            request_id=request_id,
            client_request_id=_client_id(headers),
            nonce=nonce,
            address=client.address,
            is_near=client.is_near,
            visitor=Visitor(known, is_new=known is None),
            rendering=self._settings.checks.rendering(scope, headers),
            needs_csrf_token=False,
            takes_gzip=self._settings.compresses and takes_gzip(headers.get("accept-encoding")),
            deadline=trio.current_time() + self._settings.request_s,
            is_plain=self._is_plain(scope, headers),
            ticket=ticket,
            came_from=self._came_from(scope, headers.get("referer")),
            traceparent=self._traceparent(headers.get("traceparent")),
            correlation_id=_correlation(headers.get("x-correlation-id", ""), request_id)
            if is_api
            else None,
            reading_origin=self._settings.checks.reading_origin(headers),
        )
        if scope.get("state") is None:  # other servers need not give one
            scope["state"] = ConnectionState({})
        scope["state"][STATE_KEY] = state
        return state

    def _traceparent(self, given: str | None) -> str | None:
        """The trace that a request goes on with; of one that is malformed nothing is kept.

        It opens nothing here, it is only told on.
        """
        if given is None or _is_trace(given):
            return given
        self.traces_replaced += 1
        return _new_trace()

    def _is_plain(self, scope: HTTPScope | WebsocketScope, headers: Mapping[str, str]) -> bool:
        if not self._settings.is_https:
            return False
        told = headers.get("x-forwarded-proto")
        return self.addresses.is_plain(_peer(scope), scope["scheme"], told)

    def _came_from(
        self, scope: HTTPScope | WebsocketScope, referer: str | None
    ) -> Callable[[], str]:
        if referer is None:
            return str
        # Of the scope what it needs: the whole holds the state that holds this.
        is_get = scope["type"] == "http" and scope["method"] == "GET"
        asked, query = scope["raw_path"], scope["query_string"]
        return partial(self._settings.checks.came_from, referer, asked, query, is_get=is_get)


def _correlation(given: str, request_id: str) -> str:
    return given if _UUID.fullmatch(given) else request_id


def _client_id(headers: Mapping[str, str]) -> str | None:
    given = headers.get("x-request-id", "")[:_CLIENT_ID_MAX]
    return given if given.isprintable() and given else None


def _is_trace(given: str) -> bool:
    if not _TRACEPARENT.fullmatch(given):
        return False
    return given[3:35] != _NO_TRACE and given[36:52] != _NO_TRACE[:16]


def _new_trace() -> str:
    # Not sampled, as far as is known here; random as W3C Trace Context asks for.
    return f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-00"


class _Begin:
    """When an answer began, and with which status; both None while none did."""

    __slots__ = ("at", "since", "status")

    def __init__(self) -> None:
        self.since = trio.current_time()
        self.at: float | None = None
        self.status: int | None = None

    def mark(self, status: int) -> None:
        self.status, self.at = status, trio.current_time()


class _Answering:
    """One answer on its way out: remembers whether it started, dresses its head."""

    def __init__(
        self, edge: Edge, scope: HTTPScope, state: RequestState, send: ASGISendCallable
    ) -> None:
        self._edge, self._path, self.state, self._send = edge, scope["path"], state, send
        self.begin = _Begin()
        # None for what is answered without asking the application.
        self.scope: trio.CancelScope | None = None
        watched = (scope.get("extensions") or {}).get(WATCHED)
        self.exchange: Exchange | None = None if watched is None else watched.get(EXCHANGE)
        self.place: Place | None = None

    def leave(self) -> None:
        if self.place is not None:
            self.place.leave()

    @property
    def has_started(self) -> bool:
        return self.begin.status is not None

    @property
    def is_lost(self) -> bool:
        return self.exchange is not None and self.exchange.is_lost

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start":
            given = list(message.get("headers", []))
            own, fixed = self._begin(message["status"], given)
            message = {**message, "headers": [*own, *fixed.pairs]}
            if self.state.is_long or content_type(given) == b"text/event-stream":
                # REL-16: streams have no total time limit.
                self.state.deadline = math.inf
                if self.scope is not None and not self.is_lost:
                    self.scope.deadline = math.inf
        await self._send(message)

    async def send_whole(
        self, status: int, headers: HeaderList, body: bytes, fixed: FixedHeaders = NO_HEADERS
    ) -> None:
        own, ours = self._begin(status, [*headers, *fixed.pairs])
        whole = maybe_whole(self._send)
        if whole is not None:
            await whole(status, own, body, ours)
            return
        headers = [*own, *ours.pairs]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    def _begin(self, status: int, given: HeaderList) -> tuple[HeaderList, FixedHeaders]:
        self.begin.mark(status)
        # What is still to do is its client's to take, and streams are long.
        self.leave()
        return self._edge.dressed(given, self.state, self._path)

    async def tell(self, ready: ReadyAnswer) -> None:
        ready = ready.for_client(self.state)
        await self.send_whole(200, [*ready.headers], ready.body)

    async def tell_methods(self) -> None:
        """Say what may be asked for here at all (RFC 9110 9.3.7): a ping, for most who ask."""
        names = ", ".join(sorted(KNOWN_METHODS)).encode("ascii")
        await self.send_whole(200, [(b"allow", names), (b"content-length", b"0")], b"")

    async def refuse_method(self, allowed: Collection[str]) -> None:
        if not allowed:
            await self.refuse(Answer.UNKNOWN_METHOD.value)
            return
        names = ", ".join(sorted(allowed)).encode("ascii")
        await self.refuse(Answer.METHOD.value, (b"allow", names))

    async def refuse_plain(self, secure_url: bytes | None) -> None:
        if secure_url is None:
            await self.refuse(_PLAIN)
            return
        # Not kept: one that was sent because of a wrong setting would lead to itself for ever.
        given = [(b"location", secure_url), (b"cache-control", b"no-store")]
        headers = self._edge.dress([*given, (b"content-length", b"0")], self.state)
        self.begin.mark(308)
        await self._send({"type": "http.response.start", "status": 308, "headers": headers})
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def refuse(self, row: ErrorRow, *more: tuple[bytes, bytes]) -> None:
        headers, body = self._edge.error_answer(row, self.state)
        await self.give(row.status, [*headers, *more], body)

    async def give(self, status: int, given: HeaderList, body: bytes) -> None:
        headers = self._edge.dress(given, self.state)
        self.begin.mark(status)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


class _LimitedBody:
    """Counts a body; one byte over the limit and the handler's client is gone.

    `is_awaited` tells whether a handler waits for a part that did not come, or did when it ended.
    """

    def __init__(self, receive: ASGIReceiveCallable, limit: int) -> None:
        self._receive, self._left = receive, limit
        self.is_too_large = self.is_awaited = False
        self._is_whole = False

    async def receive(self) -> ASGIReceiveEvent:
        # Behind the whole body only the client's end is waited for.
        self.is_awaited = not self._is_whole
        message = await self._receive()
        self.is_awaited = False
        if message["type"] == "http.request":
            self._is_whole = not message.get("more_body", False)
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                self.is_too_large = True
                return {"type": "http.disconnect"}
        return message


def _sets_cookie(headers: HeaderList, visitor: Visitor, path: str) -> bool:
    if visitor.must_be_set:
        return True
    if not visitor.is_new or path.startswith(_COOKIELESS):
        return False
    return content_type(headers) in _COOKIE_TYPES


def _peer(scope: HTTPScope | WebsocketScope) -> str:
    return (scope.get("client") or ("", 0))[0]


def _maybe_turn(scope: HTTPScope) -> int | None:
    overload = scope["state"].get(OVERLOAD_KEY)
    return overload.turn if isinstance(overload, Overload) else None


def _is_surplus(scope: HTTPScope | WebsocketScope) -> bool:
    return SURPLUS_KEY in (scope.get("state") or ())


def _new_labels() -> tuple[str, str]:
    """Draw an id and a nonce, by one call of the system."""
    drawn = os.urandom(16 + NONCE_BYTES)
    return _new_id(drawn[:16]), nonce_of(drawn[16:])


# Of these none was given yet; as many as are drawn at once, and no more. A system call for each
# would be a tenth of what it takes to turn somebody away.
_ids: list[str] = []
_IDS_AT_ONCE = 64
# Two processes must not give the same ones.
os.register_at_fork(after_in_child=_ids.clear)


def new_uuid() -> str:
    """Call this for a random id, as a text."""
    try:
        return _ids.pop()
    except IndexError:
        drawn = os.urandom(16 * _IDS_AT_ONCE)
    made = [_new_id(drawn[at : at + 16]) for at in range(0, len(drawn), 16)]
    _ids.extend(made[1:])
    return made[0]


def _new_id(drawn: bytes) -> str:
    # A random UUID (RFC 9562 5.4) of 16 bytes, in a fifth of the time that the class takes for it.
    digits = drawn.hex()
    variant = "89ab"[drawn[8] >> 6]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
