"""How a request goes through Quart here: the same steps, without the work that nobody asked for.

Quart asks at each request whether a session is kept, sends six signals to nobody, reads the `Host`
again, looks for a route as if there were many that fit, and at every function whether it is async.
`LeanApp` does each of these steps where somebody needs it: where a secret key or another session
interface is set, where a signal has a receiver, where a host was not seen before or a path is not
clear at first sight. What an extension registers is therefore called as ever.

Rule 1: a method here does what Quart's of the same name does, and is replaced only by its name; so
        an application or extension that replaces one of them again is asked as ever.
Rule 2: nothing is remembered of a request but its host, and that by the application itself: two of
        them in one process share nothing.

All methods are public, but they repeat what Quart's do. `SharedContext`, `LeanRequest` and
`WholeResponse` set what their bases would, `Headers._list`, the two context variables and the
states of werkzeug's matcher are used where they are, and `LateRule` takes the place of what
compiles a route. That is right for the versions that `VERSIONS` names; a test says so when others
are installed, and `tests/web/server/test_dispatch.py` compares every kind of answer with an
application that has nothing of this.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from inspect import CO_COROUTINE, isasyncgen
from operator import length_hint
from types import CodeType
from typing import ParamSpec, TypeAlias, TypeVar, cast, overload

from quart import Response, signals
from quart.ctx import AppContext, RequestContext, _sentinel
from quart.globals import _cv_app, _cv_request, request_ctx
from quart.routing import QuartMap, QuartRule
from quart.sessions import NullSession, SecureCookieSessionInterface, SessionMixin
from quart.typing import ResponseReturnValue
from quart.utils import run_sync_iterable
from quart.wrappers.base import BaseRequestWebsocket
from quart.wrappers.response import IterableBody
from quart_trio import QuartTrio
from quart_trio.wrappers.request import TrioRequest
from quart_trio.wrappers.response import TrioIterableBody
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, MapAdapter, Rule, ValidationError
from werkzeug.routing.matcher import State
from werkzeug.routing.rules import RulePart
from werkzeug.wrappers import Response as WerkzeugResponse

from web.server.bounded import BoundedMap
from web.server.lean import LateHeaders

P = ParamSpec("P")
T = TypeVar("T")

# What this file was compared with. Before others are pinned, read what they changed in their
# modules ctx, app and routing, let `tests/web/server/test_dispatch.py` compare, and name them here.
VERSIONS = {"quart": "0.22.0", "quart-trio": "0.12.0", "werkzeug": "3.1.9"}
# A site has a handful of names; probes come by any. Some 200 bytes each.
HOSTS_KEPT = 64

# Makes a host and a path of a route's values; which ones it takes is compiled into it.
_Builder: TypeAlias = Callable[..., tuple[str, str]]  # type: ignore[explicit-any]  # reason: as it is in werkzeug

# Answers that have no body, nor its length (RFC 9110 6.4.1).
_BODILESS = frozenset({204, 304})
# What quart's own class has step through a list.
_ASYNCIO_STEPS = getattr(run_sync_iterable(iter(())), "ag_code", None)


class SharedContext(RequestContext):
    """A request's context that is entered and left without what nobody asked for.

    It opens no session where none can be kept, and binds the routes to its request only for who
    asks for a link, or a path that is not clear at first sight.
    """

    app: LeanApp

    def __init__(
        self, app: LeanApp, request: TrioRequest, session: SessionMixin | None = None
    ) -> None:
        # The lines of both of Quart's classes, but for the adapter.
        self.app, self.request_websocket, self.session = app, request, session
        request.routing_exception = None
        request.json_module = app.json
        self.preserved, self.flashes = False, None
        self._cv_tokens = []
        self._after_request_functions = []
        self._adapter: MapAdapter | None = None
        self._found = app.maybe_route(request)
        self._is_bound = self._found is None
        if self._is_bound:
            self._adapter = app.create_url_adapter(request)

    @property
    def url_adapter(self) -> MapAdapter | None:
        """The routes, as they look to this request."""
        if not self._is_bound:
            self._is_bound, self._adapter = True, self.app.create_url_adapter(self.request)
        return self._adapter

    @url_adapter.setter
    def url_adapter(self, adapter: MapAdapter | None) -> None:
        self._is_bound, self._adapter, self._found = True, adapter, None

    def match_request(self) -> None:
        """Find the route of the request."""
        if self._found is None:
            super().match_request()
            return
        request = self.request_websocket
        request.url_rule, request.view_args = self._found

    async def push(self) -> None:
        """Make it the context of this task."""
        if self.session is None:
            interface = self.app.session_interface
            # Exactly Quart's own: one that was derived may keep sessions without a key.
            if type(interface) is SecureCookieSessionInterface and not self.app.secret_key:
                self.session = interface.null_session_class()
        if self.session is None or signals.appcontext_pushed.receivers:
            await super().push()
            return
        request_token, app_context = _cv_request.set(self), _cv_app.get(None)
        if app_context is None or app_context.app is not self.app:
            app_context = self.app.app_context()
            app_context._cv_tokens.append(_cv_app.set(app_context))
        else:
            app_context = None
        self._cv_tokens.append((request_token, app_context))
        if self._found is not None or self._adapter is not None:
            self.match_request()

    async def pop(self, exc: BaseException | None = _sentinel) -> None:  # type: ignore[assignment]  # reason: Quart's own line
        """Make it the context of this task no more."""
        app_context = self._cv_tokens[-1][1] if len(self._cv_tokens) == 1 else None
        if (
            exc is _sentinel
            or app_context is None
            or len(app_context._cv_tokens) != 1
            or type(app_context) is not AppContext
            or signals.appcontext_popped.receivers
        ):
            await super().pop(exc)
            return
        # The lines of both, but for a signal that nobody hears.
        try:
            await self.app.do_teardown_request(exc, self)
            await self.request.close()
        finally:
            request_context, (token, _) = _cv_request.get(), self._cv_tokens.pop()
            _cv_request.reset(token)
            try:
                await self.app.do_teardown_appcontext(exc)
            finally:
                found = _cv_app.get()
                _cv_app.reset(app_context._cv_tokens.pop())
                if found is not app_context:
                    raise AssertionError(f"Popped wrong app context. ({found!r})")
            if request_context is not self:
                raise AssertionError(f"Popped wrong request context. ({request_context!r})")


class LateRule(QuartRule):
    """Quart's route, whose way back from its name to a path is compiled when it is first asked.

    Few routes are ever asked for it, and compiling both ways of a hundred takes as long as all
    else of them. A route that is bound again is asked anew.
    """

    def _compile_builder(self, append_unknown: bool = True) -> _Builder:
        way = super()._compile_builder
        compiled: list[_Builder] = []

        def build(rule: LateRule, **values: object) -> tuple[str, str]:
            if not compiled:
                compiled.append(way(append_unknown).__get__(rule, None))
            return compiled[0](**values)

        return build


def first_route(routes: Map, path: str, method: str) -> tuple[QuartRule, dict[str, object]] | None:
    """Call this for the route of a path, and its arguments, where the first that is tried fits.

    None where it does not, where parts are not one argument each, or where a redirect may come of
    it: then `MapAdapter.match` has to look. It tries in this order, so what is found is the same.
    """
    routes.update()
    state, values = routes._matcher._root, list[str]()
    # The first part is that of the host.
    for part in ("", *path.split("/")):
        following = state.static.get(part)
        if following is None:
            taken = _taken(state.dynamic, part)
            if taken is None:
                return None
            following, value = taken
            values.append(value)
        state = following
    for rule in state.rules:
        if (rule.methods is None or method in rule.methods) and not rule.websocket:
            return _with_arguments(routes, rule, values)
    return None


def _taken(ways: Sequence[tuple[RulePart, State]], part: str) -> tuple[State, str] | None:
    for test, following in ways:
        if test.final or test.suffixed:
            return None  # it takes more than this part
        found = re.match(test.content, part)
        if found is not None:
            values = list(found.groupdict().values())
            return (following, values[0]) if len(values) == 1 else None
    return None


def _with_arguments(
    routes: Map, rule: Rule, values: list[str]
) -> tuple[QuartRule, dict[str, object]] | None:
    others = routes._rules_by_endpoint[rule.endpoint]
    if rule.alias or rule.redirect_to is not None or any(one.defaults for one in others):
        return None
    try:
        arguments = {
            name: converter.to_python(value)
            for (name, converter), value in zip(rule._converters.items(), values, strict=True)
        }
    except ValidationError:
        return None
    return cast("QuartRule", rule), arguments


class LeanApp(QuartTrio):
    """Quart, with each step of a request taken only where somebody needs it."""

    url_rule_class = LateRule  # type: ignore[assignment]  # reason: as Quart's own is one of QuartRule

    def __init__(
        self, import_name: str, *, static_folder: str | None, template_folder: str | None
    ) -> None:
        super().__init__(import_name, static_folder=static_folder, template_folder=template_folder)
        self._hosts: BoundedMap[tuple[str, str], tuple[str, str, str | None]] = BoundedMap(
            HOSTS_KEPT
        )

    @overload
    def ensure_async(self, func: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]: ...

    @overload
    def ensure_async(self, func: Callable[P, T]) -> Callable[P, Awaitable[T]]: ...

    def ensure_async(
        self, func: Callable[P, Awaitable[T]] | Callable[P, T]
    ) -> Callable[P, Awaitable[T]]:
        """Give `func` if it is async, and Quart's wrapper of it if not."""
        code = getattr(func, "__code__", None)
        if isinstance(code, CodeType) and code.co_flags & CO_COROUTINE:
            return cast("Callable[P, Awaitable[T]]", func)
        return super().ensure_async(cast("Callable[P, T]", func))

    def request_context(self, request: TrioRequest) -> RequestContext:  # type: ignore[override]  # reason: quart-trio makes no other
        """Give a request its context."""
        return SharedContext(self, request)

    def create_url_adapter(self, request: BaseRequestWebsocket | None) -> MapAdapter | None:
        """Bind the routes to a request; of a host that was seen before nothing is read again."""
        if request is None or not self._may_remember(request):
            return super().create_url_adapter(request)
        host = _host_of(request)
        if host is None:
            return super().create_url_adapter(request)
        known = self._hosts.get((request.scheme, host))
        if known is None:
            made = super().create_url_adapter(request)
            if made is not None:
                known = made.server_name, made.script_name, made.subdomain
                self._hosts.put((request.scheme, host), known)
            return made
        name, script, subdomain = known
        return MapAdapter(
            self.url_map,
            name,
            script,
            subdomain,
            request.scheme,
            request.path,
            request.method,
            request.query_string.decode(),
        )

    def maybe_route(
        self, request: BaseRequestWebsocket
    ) -> tuple[QuartRule, dict[str, object]] | None:
        """Give the route of a request and its arguments, of a host that was seen before."""
        own = getattr(self.create_url_adapter, "__func__", None)
        if own is not LeanApp.create_url_adapter or not self._may_remember(request):
            return None
        host, path = _host_of(request), request.path
        if host is None or (request.scheme, host) not in self._hosts:
            return None
        # What is merged, or comes from another class of map, is not clear at first sight.
        if path[:1] != "/" or path[:2] == "//" or type(self.url_map) is not QuartMap:
            return None
        return first_route(self.url_map, path, request.method)

    def _may_remember(self, request: BaseRequestWebsocket) -> bool:
        return (
            self.config["SERVER_NAME"] is None
            and not request.root_path
            and request.trusted_hosts is None
            and not self.url_map.host_matching
            and not self.subdomain_matching
        )

    async def full_dispatch_request(
        self, request_context: RequestContext | None = None
    ) -> Response | WerkzeugResponse:
        """Take a request through its hooks and its handler."""
        if signals.request_started.receivers:
            return await super().full_dispatch_request(request_context)
        try:
            result: ResponseReturnValue | HTTPException | None
            result = await self.preprocess_request(request_context)
            if result is None:
                result = await self.dispatch_request(request_context)
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001  # reason: Quart's own line; the hook below decides of every error
            result = await self.handle_user_exception(error)
        return await self.finalize_request(result, request_context)

    async def preprocess_request(
        self, request_context: RequestContext | None = None
    ) -> ResponseReturnValue | None:
        """Call the hooks before a request, the application's and then its blueprints'."""
        request = (request_context or request_ctx).request
        names = [None, *reversed(request.blueprints)]
        if self.url_value_preprocessors:
            for name in names:
                for processor in self.url_value_preprocessors.get(name, ()):
                    processor(request.endpoint, request.view_args)
        for name in names:
            for function in self.before_request_funcs.get(name, ()):
                result = await self.ensure_async(function)()
                if result is not None:
                    return cast("ResponseReturnValue", result)
        return None

    async def finalize_request(
        self,
        result: ResponseReturnValue | HTTPException,
        request_context: RequestContext | None = None,
        from_error_handler: bool = False,
    ) -> Response | WerkzeugResponse:
        """Make an answer of what a handler gave, and call the hooks behind it."""
        if from_error_handler or signals.request_finished.receivers:
            return await super().finalize_request(result, request_context, from_error_handler)
        return await self.process_response(await self.make_response(result), request_context)

    async def make_response(
        self, result: ResponseReturnValue | HTTPException
    ) -> Response | WerkzeugResponse:
        """Make an answer of what a handler gave; one of Quart's own class works here too."""
        if isinstance(result, Response) and type(result.response) is not IterableBody:
            return result
        response = await super().make_response(result)
        if isinstance(response, Response) and type(response.response) is IterableBody:
            _leave_asyncio(response, response.response)
        return response

    async def process_response(
        self,
        response: Response | WerkzeugResponse,
        request_context: RequestContext | None = None,
    ) -> Response | WerkzeugResponse:
        """Call the hooks behind a handler, and keep the session, if there is either."""
        context = request_context or request_ctx
        if (
            context._after_request_functions
            or any(self.after_request_funcs.values())
            or type(context.session) is not NullSession
            or type(self.session_interface) is not SecureCookieSessionInterface
        ):
            return await super().process_response(response, request_context)
        return response

    async def do_teardown_request(
        self, exc: BaseException | None, request_context: RequestContext | None = None
    ) -> None:
        """Call what was registered for the end of a request, if anything was."""
        if any(self.teardown_request_funcs.values()) or signals.request_tearing_down.receivers:
            await super().do_teardown_request(exc, request_context)

    async def do_teardown_appcontext(self, exc: BaseException | None) -> None:
        """Call what was registered for the end of a context, if anything was."""
        if self.teardown_appcontext_funcs or signals.appcontext_tearing_down.receivers:
            await super().do_teardown_appcontext(exc)


def _host_of(request: BaseRequestWebsocket) -> str | None:
    headers = request.headers
    return headers.host if isinstance(headers, LateHeaders) else headers.get("host")


def _leave_asyncio(response: Response, body: IterableBody) -> None:
    """Have trio's threads step through what Quart's own class was given, a list or nothing at all.

    Its own body asks asyncio for them, which does not run here; `response_class` has another.
    """
    pieces = body.iter
    if not isasyncgen(pieces) or pieces.ag_code is not _ASYNCIO_STEPS or pieces.ag_frame is None:
        return  # made for any loop
    iterable: Iterator[bytes] = pieces.ag_frame.f_locals["iterable"]
    # Only what can tell is asked: a list's iterator, not a generator.
    if length_hint(iterable, 1) or response.status_code in _BODILESS:
        response.response = TrioIterableBody(iterable)
    else:
        response.set_data(b"")
