"""What `LeanApp` answers, and what it calls on the way, is what Quart's own does.

Two applications are made by the same lines, one of Quart's classes and one of ours, and asked the
same. Compared are the answer, and the list of everything that was called: hooks, signals, ends.
"""

from __future__ import annotations

import gc
import importlib.metadata
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from itertools import product
from typing import cast

import pytest
import trio
from hypercorn.typing import ASGIReceiveEvent, ASGISendEvent, HTTPScope
from itsdangerous import TimestampSigner
from quart import (
    Blueprint,
    Quart,
    Response,
    abort,
    after_this_request,
    g,
    jsonify,
    redirect,
    request,
    session,
    signals,
    url_for,
)
from quart.globals import request_ctx
from quart.routing import QuartMap, QuartRule
from quart.sessions import NullSession, SecureCookieSessionInterface, SessionMixin
from quart.wrappers.base import BaseRequestWebsocket
from quart_trio import QuartTrio
from quart_trio.wrappers.response import TrioResponse
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter
from werkzeug.wrappers import Response as WerkzeugResponse

from tests.patience import PATIENCE_S
from web.server.connection.http.plain import WATCHED
from web.server.dispatch import HOSTS_KEPT, VERSIONS, LeanApp, first_route
from web.server.lean import LeanConnection, LeanRequest

KEY = "a key for the cookie of the session"
SIGNALS = [
    signals.appcontext_pushed,
    signals.request_started,
    signals.request_finished,
    signals.request_tearing_down,
    signals.got_request_exception,
    signals.appcontext_tearing_down,
    signals.appcontext_popped,
]


class Wrong(Exception):
    pass


class Ours(LeanApp):
    asgi_http_class = LeanConnection
    request_class = LeanRequest

    def __init__(self, name: str) -> None:
        super().__init__(name, static_folder=None, template_folder=None)


class Own(SecureCookieSessionInterface):
    """Keeps sessions without a key, as an extension with a store of its own does."""

    async def open_session(  # type: ignore[override]  # reason: any mapping will do here
        self, app: Quart, request: BaseRequestWebsocket
    ) -> SessionMixin:
        return cast("SessionMixin", NullSession() if "none" in request.path else {"who": "she"})

    async def save_session(
        self, app: Quart, session: SessionMixin, response: Response | WerkzeugResponse | None
    ) -> None:
        assert response is not None
        response.headers["x-saved"] = repr(dict(session))


def routes(app: QuartTrio, told: list[str]) -> None:
    """Add routes of every kind."""

    @app.route("/", methods=["GET", "POST"])
    async def home() -> str:
        return "home"

    @app.get("/plain")
    def plain() -> str:
        return "in a thread"

    @app.get("/what/<int:number>/<path:rest>")
    async def what(number: int, rest: str) -> dict[str, object]:
        return {
            "view": [number, rest, request.view_args],
            "asked": [request.url, request.host, request.base_url, request.full_path],
            "args": request.args.to_dict(flat=False),
            "headers": [pair for pair in request.headers if pair[0] != "Date"],
            "cookies": dict(request.cookies),
            "from": [request.remote_addr, request.scheme, request.method, request.is_secure],
            "names": [request.endpoint, request.blueprint, request.blueprints],
            "length": [request.content_length, request.content_type, request.mimetype],
            "links": [url_for("what", number=1, rest="x"), url_for("home", _external=True)],
            "session": [request_ctx.session.__class__.__name__, dict(session), list(g)],
        }

    @app.get("/folder/")
    async def folder() -> Response:
        return jsonify(["a folder"])

    @app.get("/tuple")
    async def made() -> tuple[str, int, dict[str, str]]:
        return "made", 201, {"x-own": "1"}

    @app.get("/nothing")
    async def nothing() -> str:
        return cast("str", None)

    @app.get("/go")
    async def go() -> WerkzeugResponse:
        return redirect(url_for("home"))

    @app.get("/stream")
    async def stream() -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"one"
            yield b"two"

        return TrioResponse(body(), content_type="text/plain")

    @app.get("/lines")
    def lines() -> Response:
        def body() -> Iterator[bytes]:
            yield b"one"
            yield b"two"

        return TrioResponse(body(), content_type="text/plain")

    @app.route("/body", methods=["PUT", "POST"])
    async def body() -> dict[str, object]:
        form, files = await request.form, await request.files
        read = {name: file.read().decode() for name, file in files.items()}
        return {"form": form.to_dict(), "files": read, "length": request.content_length}

    @app.get("/fails/<kind>")
    async def fails(kind: str) -> str:
        if kind == "group":
            raise ExceptionGroup("two", [Wrong("first"), ValueError("second")])
        if kind == "abort":
            abort(418)
        if kind == "answer":
            abort(Response("no", status=402))
        raise Wrong("wrong") if kind == "handled" else ValueError("not handled")

    @app.get("/late")
    async def late() -> str:
        @after_this_request
        async def mark(response: Response | WerkzeugResponse) -> Response | WerkzeugResponse:
            response.headers["x-late"] = "1"
            return response

        return "late"

    @app.get("/keeps/<word>")
    async def keeps(word: str) -> str:
        try:
            session[word] = "kept"
        except RuntimeError as error:
            return str(error)[:40]
        return repr(dict(session))


def nested(app: QuartTrio, told: list[str]) -> None:
    """Add a blueprint in another, each with hooks of its own."""
    outer, inner = Blueprint("outer", __name__), Blueprint("inner", __name__)
    for blueprint in (outer, inner):
        name = blueprint.name

        async def before(name: str = name) -> str | None:
            told.append(f"before {name}")
            return "stopped" if request.args.get("stop") == name else None

        def at_end(error: BaseException | None, name: str = name) -> None:
            told.append(f"end {name} {error!r}")

        async def after(response: Response, name: str = name) -> Response:
            told.append(f"after {name}")
            return response

        blueprint.before_request(before)
        blueprint.teardown_request(at_end)
        blueprint.after_request(after)

    @inner.url_value_preprocessor
    def take(endpoint: str | None, values: dict[str, object] | None) -> None:
        told.append(f"values {endpoint} {values}")

    @inner.get("/in/<word>")
    async def within(word: str) -> dict[str, object]:
        if word == "fails":
            raise Wrong(word)
        return {"names": request.blueprints, "link": url_for(".within", word="y")}

    @inner.errorhandler(Wrong)
    async def of_inner(error: Wrong) -> tuple[str, int]:
        return f"inner: {error}", 422

    outer.register_blueprint(inner, url_prefix="/deep")
    app.register_blueprint(outer, url_prefix="/outer")


def extended(app: QuartTrio, told: list[str]) -> None:
    """Add everything that an extension may."""
    nested(app, told)

    @app.before_request
    def first() -> None:
        told.append(f"before {request.path}")

    @app.after_request
    async def last(response: Response) -> Response:
        told.append("after")
        response.headers["x-after"] = "1"
        if request.args.get("fail") == "after":
            raise ValueError("a hook")
        return response

    @app.teardown_request
    async def ended(error: BaseException | None) -> None:
        told.append(f"end {error!r}")

    @app.teardown_appcontext
    async def left(error: BaseException | None) -> None:
        told.append(f"left {error!r}")

    @app.errorhandler(Wrong)
    async def wrong(error: Wrong) -> tuple[str, int]:
        return str(error), 409

    @app.errorhandler(404)
    async def missing(error: HTTPException) -> tuple[str, int]:
        return f"missing {request.path}", 404

    @app.errorhandler(500)
    async def broken(error: HTTPException) -> tuple[str, int]:
        return "broken", 500


def listening(app: QuartTrio, told: list[str]) -> list[object]:
    """Connect to every signal; the receivers live as long as what is returned."""
    extended(app, told)
    receivers: list[object] = []
    for signal in SIGNALS:

        async def receive(
            sender: object, name: str = signal.name, exc: object = None, **more: object
        ) -> None:
            told.append(f"signal {name} {sorted(more)} {exc!r}")

        signal.connect(receive, app)
        receivers.append(receive)
    return receivers


def keyed(app: QuartTrio, told: list[str]) -> None:
    extended(app, told)
    app.secret_key = KEY


def own_sessions(app: QuartTrio, told: list[str]) -> None:
    app.session_interface = Own()


def named(app: QuartTrio, told: list[str]) -> None:
    app.config["SERVER_NAME"] = "site.test:81"


def bare(app: QuartTrio, told: list[str]) -> None:
    """Add nothing: what most of the site's own requests are."""


KINDS = {
    made.__name__: made for made in (bare, nested, extended, listening, keyed, own_sessions, named)
}
FORM = (b"content-type", b"application/x-www-form-urlencoded")
UPLOAD = (
    b'--x\r\ncontent-disposition: form-data; name="word"\r\n\r\nhello\r\n'
    b'--x\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\n\r\nthe file\r\n'
    b"--x--\r\n"
)
WHAT = "/what/3/of/this"
ASKED: list[tuple[str, str, list[tuple[bytes, bytes]], bytes]] = [
    *[("GET", path, [], b"") for path in (
        "/", "/plain", WHAT, WHAT + "?a=1&b=2&a=3", "/what/x/y", "/folder", "/folder/", "/tuple",
        "/nothing", "/go", "/stream", "/lines", "/fails/group", "/fails/abort", "/fails/answer",
        "/fails/handled", "/fails/other", "/late", "/keeps/word", "/keeps/none", "/nowhere",
        "//double", "/outer/deep/in/x", "/outer/deep/in/fails", "/outer/deep/in/x?stop=outer",
        "/outer/deep/in/x?stop=inner", "/outer/deep/nowhere", "/?fail=after", "/what/3/%C3%A9",
    )],
    *[(method, "/", [], b"") for method in ("HEAD", "OPTIONS", "DELETE", "POST")],
    ("GET", WHAT, [(b"cookie", b"a=1; b=2"), (b"cookie", b"c=3"), (b"x-two", b"1"),
                   (b"x-two", b"2"), (b"accept", b"*/*")], b""),
    ("GET", WHAT, [(b"content-length", b"0"), FORM], b""),
    ("POST", "/body", [FORM], b"word=hello&other=%20"),
    ("PUT", "/body", [(b"content-type", b"multipart/form-data; boundary=x")], UPLOAD),
    ("POST", "/body", [], b""),
    ("GET", "/outer/deep/in/x", [(b"content-type", b"text/plain")], b"a body nobody reads"),
]  # fmt: skip
HOSTS = [b"127.0.0.1:3000", b"LocalHost", b"localhost:80", b"b\xc3\xbccher.test", b"", b"a..b"]


async def ask(
    app: QuartTrio,
    method: str,
    path: str,
    headers: list[tuple[bytes, bytes]],
    body: bytes = b"",
    host: bytes = b"127.0.0.1:3000",
) -> tuple[object, ...]:
    """Ask once, past every server; what was sent, or what came out instead."""
    path, _, query = path.partition("?")
    headers = [(b"host", host), *headers]
    if body:
        headers.append((b"content-length", b"%d" % len(body)))
    scope: dict[str, object] = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "root_path": "", "headers": headers, "client": ("127.0.0.1", 5000),
        "server": ("127.0.0.1", 3000), "state": {}, "extensions": {WATCHED: {}},
    }  # fmt: skip
    pieces = iter([body])
    sent: list[ASGISendEvent] = []

    async def receive() -> ASGIReceiveEvent:
        for piece in pieces:
            return {"type": "http.request", "body": piece, "more_body": False}
        await trio.sleep_forever()
        raise AssertionError

    async def send(message: ASGISendEvent) -> None:
        sent.append(message)

    try:
        await app(cast("HTTPScope", scope), receive, send)
    except Exception as error:  # noqa: BLE001  # reason: it is compared
        while isinstance(error, ExceptionGroup):  # out of Quart's nursery
            (error,) = error.exceptions
        return type(error), str(error)
    start = cast("dict[str, object]", sent[0])
    pieces_sent = [cast("dict[str, bytes]", message)["body"] for message in sent[1:]]
    return start["status"], start["headers"], b"".join(pieces_sent)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:Current server name")
async def test_every_answer_and_every_call_is_quarts(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda _: 1_800_000_000)
    found: list[list[object]] = []
    for made in (QuartTrio, Ours):
        told: list[str] = []
        app = Ours("app") if made is Ours else QuartTrio("app", static_folder=None)
        app.logger.disabled = True
        routes(app, told)
        held = KINDS[kind](app, told)
        answers: list[object] = []
        for asked in ASKED:
            # Twice: what is remembered of the first is used for the second.
            answers += [await ask(app, *asked), await ask(app, *asked), tuple(told)]
            told.clear()
        for host in HOSTS * 2:
            answers.append((host, await ask(app, "GET", WHAT, [], host=host)))
        del held
        found.append(answers)
    quarts, ours = found
    for expected, given in zip(quarts, ours, strict=True):
        assert given == expected


def test_the_versions_are_those_that_were_compared() -> None:
    found = {name: importlib.metadata.version(name) for name in VERSIONS}
    assert found == VERSIONS, (
        "web/server/dispatch.py repeats lines of Quart and was compared with other versions: "
        "read what changed in their ctx.py, app.py and routing.py, then name the new ones there"
    )


async def test_what_nobody_asked_for_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    app = Ours("app")
    routes(app, [])

    async def opened(*_: object) -> None:
        calls.append("session")

    def bound(
        self: QuartMap, request: BaseRequestWebsocket, subdomain: str | None, name: str | None
    ) -> MapAdapter:
        calls.append("bound")
        return bind(self, request, subdomain, name)

    bind = QuartMap.bind_to_request
    monkeypatch.setattr(SecureCookieSessionInterface, "open_session", opened)
    monkeypatch.setattr(QuartMap, "bind_to_request", bound)
    for _ in range(3):
        await ask(app, "GET", "/", [])
    assert calls == ["bound"]
    app.secret_key = KEY
    await ask(app, "GET", "/", [])
    assert calls == ["bound", "session"]


async def test_hosts_are_kept_by_each_application_and_within_a_limit() -> None:
    first, second = Ours("first"), Ours("second")
    routes(first, [])
    routes(second, [])
    for number in range(HOSTS_KEPT + 3):
        await ask(first, "GET", "/", [], host=b"h%d.test" % number)
    assert len(first._hosts) == HOSTS_KEPT
    assert first._hosts.forgotten == 3
    assert len(second._hosts) == 0
    answer = await ask(first, "GET", WHAT, [], host=b"h1.test")
    assert b"http://h1.test/" in cast("bytes", answer[2])


async def test_a_route_that_is_found_by_a_look_leaves_nothing_to_the_collector() -> None:
    app = Ours("app")
    routes(app, [])
    await ask(app, "GET", "/", [])
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            assert (await ask(app, "GET", "/", []))[0] == 200
        assert gc.collect() == 0
    finally:
        gc.enable()


async def test_a_route_that_is_added_later_is_found() -> None:
    app = Ours("app")
    routes(app, [])
    assert [(await ask(app, "GET", path, []))[0] for path in ("/", "/", "/later")] == [
        200,
        200,
        404,
    ]

    async def later() -> str:
        return f"later {request.endpoint}"

    app.url_map.add(QuartRule("/later", methods={"GET"}, endpoint="later"))
    app.url_map.add(QuartRule("/", methods={"DELETE"}, endpoint="later"))
    app.view_functions["later"] = later
    for _ in range(2):
        assert (await ask(app, "GET", "/later", []))[2] == b"later later"
        assert (await ask(app, "DELETE", "/", []))[2] == b"later later"
        assert (await ask(app, "GET", "/", []))[2] == b"home"


def test_a_route_that_is_found_at_first_sight_is_the_one_that_werkzeug_finds() -> None:
    # PERF-63: of each path the same route and arguments, or none; many are found
    routes = QuartMap()
    for path in _RULES:
        routes.add(QuartRule(path, endpoint=path, methods={"GET"}))
    for path, methods, is_loose in (("/a", {"POST"}, False), ("/loose/", {"GET"}, True)):
        strict = not is_loose
        routes.add(QuartRule(path, endpoint="more", methods=methods, strict_slashes=strict))
    routes.add(QuartRule("/sock/<one>", endpoint="sock", websocket=True))
    routes.add(QuartRule("/page", endpoint="page", defaults={"one": "1"}))
    routes.add(QuartRule("/page/<one>", endpoint="page"))
    adapter, found = routes.bind("x", ""), Counter[bool]()
    for path in _paths():
        for method in ("GET", "POST", "HEAD", "BREW"):
            first = first_route(routes, path, method)
            found[first is not None] += 1
            if first is not None:
                assert first == adapter.match(path, method, return_rule=True), (method, path)
    assert found[True] > 150, found
    for path in ("/", "/a", "/a/7", "/a/b/x", "/n/7/x/d", "/tail/"):
        assert first_route(routes, path, "GET") is not None, path


_RULES = (
    "/", "/a", "/a/<one>", "/a/<int:one>", "/a/b", "/a/b/<two>", "/a/<one>/c",
    "/n/<int:one>/x/<two>", "/n/<one>-<two>", "/n/<one>.json", "/rest/<path:all>",
    "/rest/<one>/end", "/tail/", "/tail/<one>/", "/kind/<any(a, b):one>", "/id/<uuid:one>",
)  # fmt: skip


def _paths() -> Iterator[str]:
    parts = ["", "a", "b", "c", "7", "n", "7-8", "x.json", "rest", "end", "tail", "loose", "kind",
             "id", "12345678-1234-5678-1234-567812345678", "sock", "was", "also", "page", "x\n",
             "d", "x"]  # fmt: skip
    for count in range(1, 4):
        yield from ("/" + "/".join(path) for path in product(parts, repeat=count))
    yield from ("/n/7/x/d", "/n/b/x/d", "/n/7/x/", "/a//b", "/rest/a/b/c/d", "/a/b/x/")


async def test_what_binds_the_routes_otherwise_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Ours("app")
    routes(app, [])
    await ask(app, "GET", "/", [])

    def bound(request: BaseRequestWebsocket | None) -> MapAdapter | None:
        return None if request is None else app.url_map.bind("x", path_info="/tuple")

    monkeypatch.setattr(app, "create_url_adapter", bound)
    assert (await ask(app, "GET", "/", []))[2] == b"made"


async def test_what_replaces_a_step_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Ours("app")
    routes(app, [])

    async def instead(context: object = None) -> str:
        return "instead"

    monkeypatch.setattr(app, "preprocess_request", instead)
    assert (await ask(app, "GET", "/", []))[2] == b"instead"


async def test_many_requests_at_once_have_each_their_own_context() -> None:
    # REL-36
    app = Ours("app")
    met = trio.Event()
    inside: list[str] = []

    @app.get("/meet/<word>")
    async def meet(word: str) -> str:
        g.word = word
        inside.append(word)
        if len(inside) == 20:
            met.set()
        await met.wait()
        return f"{g.word} {request.path} {url_for('meet', word=g.word, _external=True)}"

    found: dict[int, tuple[object, ...]] = {}

    async def one(number: int) -> None:
        host = b"h%d.test" % number
        found[number] = await ask(app, "GET", f"/meet/{number}", [], host=host)

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(one, number)
    assert {number: answer[2] for number, answer in found.items()} == {
        n: f"{n} /meet/{n} http://h{n}.test/meet/{n}".encode() for n in range(20)
    }
