"""How Quart is called on our own server: without a nursery and two tasks for every request.

Quart's own class reads the body in one task and handles the request in another, so that a client
that leaves cancels the handler. Here the server cancels it anyway (an entry `WATCHED` in the
scope's extensions says so), so the body is read by whoever asks for it, in the handler's own task,
and an answer that is ready leaves in one piece. A stream whose body is a `KeptBody` is handed to
its connection when its first bytes are out, and nothing of its request stays; others still get a
task that listens.

Under any other server, and over HTTP/2, everything is as Quart does it. The seams are those Quart
made for this: `asgi_http_class`, `request_class`, `body_class`; what is touched of its inside is
told in `dispatch.py`, which is how a request goes on from here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from functools import cached_property, lru_cache, partial
from types import TracebackType
from typing import Self, cast

import trio
from hypercorn.typing import (
    ASGIReceiveCallable,
    ASGISendCallable,
    HTTPResponseBodyEvent,
    HTTPResponseStartEvent,
    HTTPScope,
)
from quart import Request, Response
from quart.formparser import FormDataParser
from quart.utils import encode_headers
from quart.wrappers.request import Body
from quart.wrappers.response import DataBody, ResponseBody
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers.request import TrioBody, TrioRequest
from werkzeug.datastructures import Headers, ImmutableMultiDict
from werkzeug.exceptions import BadRequestKeyError
from werkzeug.wrappers import Response as WerkzeugResponse

from web.server.connection.http.exchange import maybe_whole
from web.server.connection.http.keeping import Kept
from web.server.connection.http.plain import HAND_OVER, WATCHED

# What tells that a request has a body (RFC 9112 6).
_BODY_FIELDS = frozenset({b"content-length", b"transfer-encoding"})
# Answers that never have one (RFC 9110 6.4.1).
_BODILESS = frozenset({204, 304})


@lru_cache(256)
def _titled(name: bytes) -> str:
    """Spell a field's name as Quart does; what browsers send is the same few names."""
    return name.decode("latin1").title()


def _peer(scope: HTTPScope) -> str:
    return (scope.get("client") or ("<local>", 0))[0]


class LateHeaders(Headers):
    """A request's headers, put into Quart's form once somebody asks for one of them."""

    _scope: HTTPScope

    @classmethod
    def of(cls, scope: HTTPScope) -> Self:
        """Call this with a scope that was read here: its names are in lower case."""
        made = cls.__new__(cls)
        made._scope = scope
        return made

    @cached_property
    def _list(self) -> list[tuple[str, str]]:  # type: ignore[override]  # reason: it can be written to all the same
        # Put in its place and not added one by one: each would be looked at for line ends, which
        # no field of a request has that was read here.
        scope = self._scope
        return [
            ("Remote-Addr", _peer(scope)),
            *[(_titled(name), value.decode("latin1")) for name, value in scope["headers"]],
        ]

    def _get_key(self, key: str) -> str:
        """Give a field; of several lines one list, as the edge has it (`header_map`)."""
        lines = self.getlist(key)
        if not lines:
            raise BadRequestKeyError(key)
        return ("; " if key.lower() == "cookie" else ", ").join(lines)

    @property
    def host(self) -> str | None:
        """Tell the name that the client has asked for, as it is or was changed to."""
        if "_list" in self.__dict__:
            return self.get("host")
        for name, value in self._scope["headers"]:
            if name == b"host":
                return value.decode("latin1")
        return None


class LazyBody(TrioBody):
    """A body that is read when somebody asks for it; filled from outside as Quart's own is."""

    _receive: ASGIReceiveCallable | None = None
    _scope: trio.CancelScope
    _turn: trio.Lock

    def read_by(self, receive: ASGIReceiveCallable, scope: trio.CancelScope) -> None:
        """Call this before the handler runs; a client that leaves cancels `scope`."""
        self._receive, self._scope, self._turn = receive, scope, trio.Lock()

    def __await__(self) -> Generator[object, None, bytes]:
        return self._whole().__await__()

    async def __anext__(self) -> bytes:
        if self._receive is not None and not self._data and not self._complete.is_set():
            await self._more(self._receive)
        return await super().__anext__()

    async def _whole(self) -> bytes:
        while self._receive is not None and not self._complete.is_set():
            await self._more(self._receive)
        await self._complete.wait()
        if self._must_raise is not None:
            raise self._must_raise
        return bytes(self._data)

    async def _more(self, receive: ASGIReceiveCallable) -> None:
        async with self._turn:
            if self._complete.is_set():
                return  # another task read it to its end meanwhile
            message = await receive()
            if message["type"] == "http.request":
                self.append(message.get("body", b""))
                if not message.get("more_body", False):
                    self.set_complete()
                return
            # Left, or sent more than it may. Nobody is there to be answered by the handler.
            self._scope.cancel()
            await trio.lowlevel.checkpoint()


class FormFields(ImmutableMultiDict[str, str]):
    """The fields of a form; of one that was sent twice the last counts, as of a key of JSON."""

    def __getitem__(self, key: str) -> str:
        """Give a field as `get` and `dict` of a form do."""
        sent = self.getlist(key)
        return sent[-1] if sent else super().__getitem__(key)


class LeanRequest(TrioRequest):
    """Quart's request with a body that is read when it is wanted."""

    body_class = LazyBody

    def __init__(
        self,
        method: str,
        scheme: str,
        path: str,
        query_string: bytes,
        headers: Headers,
        root_path: str,
        http_version: str,
        scope: HTTPScope,
        *,
        max_content_length: int | None = None,
        body_timeout: int | None = None,
        send_push_promise: Callable[[str, Headers], Awaitable[None]],
    ) -> None:
        has_body = _has_body(scope)
        if not has_body:
            # What Quart would find out by looking for two fields in the list of all.
            self.__dict__["content_length"] = None
        if has_body or not _is_watched(scope):
            super().__init__(
                method,
                scheme,
                path,
                query_string,
                headers,
                root_path,
                http_version,
                scope,
                max_content_length=max_content_length,
                body_timeout=body_timeout,
                send_push_promise=send_push_promise,
            )
            return
        # The lines of its four bases, but for a body and a lock that nobody may ask for.
        self.method, self.scheme, self.server = method.upper(), scheme, scope.get("server")
        self.root_path, self.path = root_path.rstrip("/"), "/" + path.lstrip("/")
        self.query_string, self.headers = query_string, headers
        self.remote_addr = _peer(scope)
        self.http_version, self.scope = http_version, scope
        self.body_timeout = body_timeout
        self._cached_json = {False: Ellipsis, True: Ellipsis}
        self._form = self._files = None
        self._send_push_promise = send_push_promise

    def make_form_data_parser(self) -> FormDataParser:
        """Have forms read as JSON is (SEC-120)."""
        parser = super().make_form_data_parser()
        parser.cls = FormFields
        return parser

    @cached_property
    def body(self) -> Body:  # type: ignore[override]  # reason: it can be written to all the same
        """The body of a request that has none."""
        made = self.body_class(None, None)
        made.set_complete()
        return made

    @cached_property
    def _parsing_lock(self) -> trio.Lock:  # type: ignore[override]  # reason: as above
        return self.lock_class()

    @property
    def blueprints(self) -> list[str]:
        """Tell the blueprints of the route, the innermost first."""
        return [] if self.url_rule is None else list(_blueprints_of(self.url_rule.endpoint))

    async def close(self) -> None:
        """Close the files that came with the request, if any did."""
        if self._files:
            await super().close()


class WholeResponse(Response):
    """An answer of status 200 whose body is here, with headers that were written here."""

    def __init__(self, body: bytes, headers: Iterable[tuple[str, str]]) -> None:
        """`headers` need no check: they hold nothing of anybody's; the length is added."""
        # The lines of both bases, but for looking each header up among the others.
        self.headers = made = Headers()
        made._list = [*headers, ("Content-Length", str(len(body)))]
        self._status, self._status_code = "200 OK", 200
        self.timeout = Ellipsis
        self.response = self.data_body_class(body)


class KeptBody(ResponseBody):
    """The body of a stream that outlives its request, where the server can keep it.

    `opening` is asked first, then `take_lane` for the stream that goes on by itself, and where
    there is no lane for it `generate` for its bytes. `close` is called when the answer is over, or
    failed before it was handed over.
    """

    _bytes: AsyncGenerator[bytes, None] | None = None

    @abstractmethod
    def opening(self) -> bytes:
        """Give the first bytes; called once."""

    @abstractmethod
    def take_lane(self) -> Kept | None:
        """Have the stream write to its connection from here on; None where only Quart may."""

    @abstractmethod
    def generate(self) -> AsyncGenerator[bytes, None]:
        """Give the bytes behind the opening ones; called once, where there is no lane."""

    @abstractmethod
    def close(self) -> None:
        """Called when the answer is over; returns at once."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bytes is not None:
            await self._bytes.aclose()
        self.close()

    def __aiter__(self) -> AsyncGenerator[bytes, None]:
        self._bytes = self._all()
        return self._bytes

    async def _all(self) -> AsyncGenerator[bytes, None]:
        yield self.opening()
        # Asked for the next piece, so Quart has sent the head and the first one and holds nothing
        # that could come later.
        kept = self.take_lane()
        if kept is not None:
            await kept.wait_over()
            yield await kept.last()
            return
        pieces = self.generate()
        try:
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()


class LeanConnection(TrioASGIHTTPConnection):
    """One request through Quart."""

    def _create_request_from_scope(self, send: ASGISendCallable) -> Request:
        scope = self.scope
        if not _is_watched(scope) or scope["http_version"] < "1.1" or scope["path"][:1] != "/":
            return super()._create_request_from_scope(send)
        config = self.app.config
        return self.app.request_class(
            scope["method"],
            scope["scheme"],
            scope["path"],
            scope["query_string"],
            LateHeaders.of(scope),
            "",
            scope["http_version"],
            max_content_length=config["MAX_CONTENT_LENGTH"],
            body_timeout=config["BODY_TIMEOUT"],
            send_push_promise=partial(self._send_push_promise, send),
            scope=scope,
        )

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Handle the request in this task where the server watches its client."""
        if not _is_watched(self.scope):
            await super().__call__(receive, send)
            return
        request = self._create_request_from_scope(send)
        if not _has_body(self.scope):
            await self._answer(request, receive, send)
            return
        with trio.CancelScope() as scope:
            assert isinstance(request.body, LazyBody), "WebApp's request class makes these"
            request.body.read_by(receive, scope)
            await self._answer(request, receive, send)

    async def _answer(
        self, request: Request, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        response = await self.app.handle_request(request)
        ready = _ready_body(response)
        if ready is not None:
            whole = maybe_whole(send)
            if whole is not None:
                await whole(response.status_code, encode_headers(response.headers), ready)
                return
            await send(_start(response))
            await send(_body(ready, is_last=True))
            return
        hand_over = self.scope["extensions"][WATCHED].get(HAND_OVER)
        body = getattr(response, "response", None)
        if hand_over is None or not isinstance(body, KeptBody):
            await self._stream(receive, send, response)
            return
        is_kept = False
        try:
            await send(_start(response))
            await send(_body(body.opening(), is_last=False))
            kept = body.take_lane()
            assert kept is not None, "a server that can keep a stream has a lane for it"
            hand_over(kept)
            is_kept = True
        finally:
            if not is_kept:
                body.close()

    async def _stream(
        self,
        receive: ASGIReceiveCallable,
        send: ASGISendCallable,
        response: Response | WerkzeugResponse,
    ) -> None:
        async def listen() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass  # a body that nobody asked for
            nursery.cancel_scope.cancel()

        timeout = getattr(response, "timeout", ...)
        if timeout is ...:
            timeout = self.app.config["RESPONSE_TIMEOUT"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            with trio.move_on_after(float("inf") if timeout is None else timeout):
                await self._send_response(send, response)
            nursery.cancel_scope.cancel()


def _start(response: Response | WerkzeugResponse) -> HTTPResponseStartEvent:
    start = {
        "type": "http.response.start",
        "status": response.status_code,
        "headers": encode_headers(response.headers),
    }
    return cast("HTTPResponseStartEvent", start)


def _body(data: bytes, *, is_last: bool) -> HTTPResponseBodyEvent:
    body = {"type": "http.response.body", "body": data, "more_body": not is_last}
    return cast("HTTPResponseBodyEvent", body)


def _is_watched(scope: HTTPScope) -> bool:
    return WATCHED in (scope.get("extensions") or ())


def _has_body(scope: HTTPScope) -> bool:
    # Over HTTP/2 a body needs neither (RFC 9113 8.1): only `receive` knows.
    is_told = scope["http_version"] == "1.1" or not _is_watched(scope)
    return not is_told or not _BODY_FIELDS.isdisjoint([name for name, _ in scope["headers"]])


@lru_cache(256)
def _blueprints_of(endpoint: str) -> tuple[str, ...]:
    name, dot, _ = endpoint.rpartition(".")
    return (name, *_blueprints_of(name)) if dot else ()


def _ready_body(response: Response | WerkzeugResponse) -> bytes | None:
    """Give all bytes of an answer that has them; None for one that makes them as it goes."""
    if response.status_code in _BODILESS and not isinstance(response.response, KeptBody):
        return b""
    if isinstance(response, WerkzeugResponse):
        return response.get_data() if response.is_sequence else None
    found = response.response
    return found.data[found.begin : found.end] if isinstance(found, DataBody) else None
