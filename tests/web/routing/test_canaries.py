"""What is typed or sent, wherever, is in nothing that is written down or shown to others."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlencode
from uuid import uuid4

import msgspec
import pytest
import trio

from actors.accounts import Role
from actors.accounts.kept.risk.words import RiskMode
from actors.runtime import Secret
from storage.memory import MemorySignInLinks
from tests.journeys.visitor import Answer, Visitor
from tests.patience import PATIENCE_S, until
from tests.web.accounts.test_entering import form, get, register
from tests.web.accounts.test_links import Post, let_limits_go, open_post
from tests.web.routing.test_routes_complete import SAMPLES, routes_of
from tests.web.routing.test_sweeps import FORM, everything_logged
from tests.web.whole_site import WholeSite, in_thread
from tests.web.wiring.test_tickets import open_socket
from web.routing import paths

pytestmark = pytest.mark.slow

WEB = Path(__file__).parents[3] / "web"
METRICS_TOKEN = "m" * 40
# What would end the sign-in that goes on asking, or is a stream that does not end.
NOT_ASKED = {paths.LOGOUT, paths.API_LOGOUT, paths.API_LOGOUT_ALL, paths.EVENTS, paths.SOCKET}
# Names of fields that are not in templates: scripts, programs and other sites send them.
FURTHER = ("credential", "logout_token", "csrf", "state", "chatDraftBody", "chatDemoDraftBody")


class Canaries:
    """A word for each kind of input, as what it is for would have it."""

    def __init__(self) -> None:
        self.made: dict[str, str] = {}

    def of(self, kind: str) -> str:
        return self.made.setdefault(kind, f"cnry{uuid4().hex[:12]}")

    def field(self, name: str) -> str:
        word = self.of(f"field {name}")
        return f"{word}@example.org" if "email" in name.lower() else word

    def shown_in(self, text: str) -> list[str]:
        return [kind for kind, word in self.made.items() if word in text]


def form_fields() -> set[str]:
    """Every field of every form there is: those of the templates."""
    texts = [path.read_text() for path in (WEB / "views" / "templates").rglob("*.html")]
    found = {name for text in texts for name in re.findall(r'\bname="([a-z_A-Z]+)"', text)}
    assert len(found) > 20
    return found | set(FURTHER)


def bodies() -> Iterator[tuple[set[str], set[str]]]:
    """Of every body that a program or a page sends: what it needs, and all that it may have."""
    for name, module in sorted(sys.modules.items()):
        if not name.startswith("web."):
            continue
        for kind in vars(module).values():
            is_struct = isinstance(kind, type) and issubclass(kind, msgspec.Struct)
            if is_struct and kind.__module__ == name:
                fields = msgspec.structs.fields(kind)
                needed = {one.encode_name for one in fields if one.required}
                yield needed, {one.encode_name for one in fields}


class Sweep:
    """Puts a canary into every input of each route."""

    def __init__(self, site: WholeSite) -> None:
        self.site, self.canaries, self.sent = site, Canaries(), 0
        self._forms, self._bodies = form_fields(), list(bodies())
        self._signals = set[str]().union(*(every for _, every in self._bodies))

    async def route(self, visitor: Visitor, method: str, path: str, raw: str) -> None:
        canaries = self.canaries
        headers = {
            "authorization": f"Bearer {canaries.of('bearer')}",
            "cookie": f"gr_auth={canaries.of('cookie')}; gr_flow={canaries.of('flow')}",
            "idempotency-key": canaries.of("key"),
            "x-csrf-token": canaries.of("csrf"),
            "x-forwarded-for": canaries.of("forwarded"),
            "referer": f"{self.site.url}/?q={canaries.of('referer')}",
            "user-agent": canaries.of("browser"),
        }
        await self._ask(self.site.visitor(), method, raw, b"", headers)
        query = urlencode({"q": canaries.of("query"), "token": canaries.of("token asked")})
        await self._ask(visitor, method, f"{raw}?{query}", b"", {})
        if method == "GET":
            typed = urlencode({name: canaries.field(name) for name in self._forms})
            await self._ask(visitor, method, f"{raw}?{typed}", None, {})
        elif path.startswith("/api/v1"):
            await self._program(visitor, method, raw)
        else:
            await self._page(visitor, method, raw)

    async def place(self, visitor: Visitor, method: str, path: str) -> None:
        """Put it into the path: in place of each name, or where there is nothing behind it."""
        word = self.canaries.of("named in a path" if "<" in path else "path")
        raw = re.sub(r"<[^>]+>", word, path) if "<" in path else f"{path.rstrip('/')}/{word}"
        await self._ask(visitor, method, raw, b"", {})

    async def pasted(self, visitor: Visitor) -> None:
        """Put what people have in their hands where an address of a page belongs."""
        token = f"{self.canaries.of('token in a path')}{'A' * 27}"
        for word in (f"{self.canaries.of('mail in a path')}@example.org", token):
            for method in ("GET", "POST"):
                await self._ask(visitor, method, f"/nowhere/{word}", b"", {})

    async def lines(self, method: str, raw: str) -> None:
        """Put a line of a head, and of a log, into whatever may become one."""
        broken = f"/lab\r\nx-cnry: {self.canaries.of('line')}\r\n\r\n<b>"
        names = ("next", "redirect_to", "of", "room", "email", "name", "token", "ticket", "state")
        typed = urlencode(dict.fromkeys(names, broken))
        for path, body in ((f"{raw}?{typed}", None), (raw, typed.encode())):
            answer = await self._ask(
                self.site.visitor(), method, path, body, {"content-type": FORM}
            )
            assert "x-cnry" not in answer.headers, (method, raw)
            assert not any("\n" in value for value in answer.headers.values()), (method, raw)

    async def _page(self, visitor: Visitor, method: str, raw: str) -> None:
        typed = {name: self.canaries.field(name) for name in self._forms}
        await self._ask(visitor, method, raw, urlencode(typed).encode(), {"content-type": FORM})
        signals = {name: self.canaries.field(name) for name in self._signals}
        own = {**signals, "commandId": str(uuid4()), "sseTabId": visitor.tab}
        body, more = json.dumps(own).encode(), {"datastar-request": "true"}
        await self._ask(visitor, method, raw, body, {"content-type": "application/json", **more})

    async def _program(self, visitor: Visitor, method: str, raw: str) -> None:
        as_json = {"content-type": "application/json"}
        bare = await self._ask(visitor, method, raw, b"{}", as_json)
        needed = set(re.findall(r'"field":"(\w+)"', bare.text))
        fitting = [every for needs, every in self._bodies if needed and needs == needed]
        for names in [needed, *fitting]:
            value = {name: self.canaries.field(name) for name in names}
            await self._ask(visitor, method, raw, json.dumps(value).encode(), as_json)

    async def _ask(
        self, visitor: Visitor, method: str, path: str, body: bytes | None, more: dict[str, str]
    ) -> Answer:
        let_limits_go(self.site)
        self.sent += 1
        copy = Visitor(self.site.url, dict(visitor.cookies), visitor.tab)
        headers = {"sec-fetch-site": "same-origin", **more}
        return await in_thread(partial(copy.request, method, path, body, headers))

    async def socket(self, visitor: Visitor) -> None:
        """Say it on a socket, too: in what is taken, refused and none."""
        cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
        of = self.canaries.of
        action = {"PostMessage": {"body": of("chat"), "client_id": of("client id")}}
        said: list[object] = [
            {"type": "command", "id": of("command id"), "action": action},
            {"type": "command", "id": "2", "action": {of("action"): {of("argument"): 1}}},
            {"type": "subscribe", "topics": ["room:lobby", f"room:{of('topic')}"]},
            {"type": of("type"), of("name"): of("value")},
        ]
        async with open_socket(self.site, "", cookie=cookie, origin=self.site.url) as socket:
            for one in said:
                await socket.send_message(json.dumps(one))
            await socket.send_message('{"type":"ping"}')
            with trio.fail_after(PATIENCE_S):
                while "pong" not in str(await socket.get_message()):
                    pass
        async with open_socket(self.site, "", cookie=cookie, origin=self.site.url) as socket:
            await socket.send_message(of("no frame"))
            with trio.fail_after(PATIENCE_S):
                await socket.get_message()


async def _crash(sweep: Sweep, guest: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what was typed be in the hands of an actor that crashes."""

    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("planted")

    before = len(sweep.site.system.reports.kept)
    with monkeypatch.context() as patched:
        patched.setattr(MemorySignInLinks, "issue", fail)
        let_limits_go(sweep.site)
        address = f"{sweep.canaries.of('crashed mail')}@example.org"
        assert (await form(guest, paths.LOGIN_LINK, email=address)).status == 303
        await until(lambda: len(sweep.site.system.reports.kept) > before)


async def _shown(sweep: Sweep, operator: Visitor) -> dict[str, str]:
    """All that operators and others are shown."""
    site, eve = sweep.site, sweep.site.visitor()
    own = [paths.OPS_TRACES, paths.OPS_SIGN_INS, paths.OPS_AUDIT, paths.OPS_OUTSIDE]
    shown = {path: (await get(operator, path)).text for path in own}
    assert all(len(text) > 500 for text in shown.values())
    everybodys = [paths.LAB, paths.LAB_TREE, paths.HOME, paths.HEALTH, paths.HEALTH_LOAD]
    for path in (*everybodys, f"{paths.READY}?verbose=1"):
        shown[f"{path} of eve"] = (await get(eve, path)).text
    headers = {"authorization": f"Bearer {METRICS_TOKEN}"}
    scraped = await in_thread(partial(eve.request, "GET", paths.METRICS, None, headers))
    assert (scraped.status, "greenroom_rare" in scraped.text) == (200, True)
    reports = site.system.reports.kept
    database = site.accounts.database
    return shown | {
        "metrics": scraped.text,
        "crash reports": repr([(one, one.stack, one.state) for one in reports]),
        "dead letters": repr(list(site.system.dead_letters)),
        "dead letters of the store": repr(database.dead_letters),
    }


async def _swept(post: Post, monkeypatch: pytest.MonkeyPatch) -> tuple[Sweep, dict[str, str]]:
    site, sweep = post.site, Sweep(post.site)
    ada = await register(site)
    root = await register(site, username="root", email="root@example.org")
    await site.accounts.grant("root", Role.ADMIN)
    for visitor in (ada, root):
        await in_thread(visitor.open_lab)
    for path, methods in routes_of(site.apps[0]).items():
        if path in NOT_ASKED:
            continue
        raw = SAMPLES.get(path) or re.sub(r"<[^>]+>", "x", path)
        for method in methods.split(","):
            await sweep.place(root if path.startswith("/ops") else ada, method, path)
            await sweep.lines(method, raw)
            await sweep.route(root if path.startswith("/ops") else ada, method, path, raw)
    await sweep.pasted(ada)
    await sweep.socket(ada)
    await _crash(sweep, site.visitor(), monkeypatch)
    of = sweep.canaries.of
    await register(
        site, username=of("name"), email=f"{of('mail')}@example.org", password=of("password")
    )
    typed = of("typed password")
    refused = await form(site.visitor(), "/login", email="ada@example.org", password=typed)
    assert refused.status == 401
    assert (await get(site.visitor(), f"/lab?q={of('page')}")).status == 200
    shown = await _shown(sweep, root)
    for name, text in shown.items():
        own = [] if name.startswith("/ops") else [*ada.cookies.values(), "ada@example.org"]
        assert [one for one in own if one in text] == [], name
    return sweep, shown


async def test_what_is_typed_or_sent_is_in_nothing_that_is_kept_or_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # SEC-131, SEC-133: in every field, header, cookie, query, path, body and frame, of each route
    with everything_logged() as lines:
        async with open_post(risk=RiskMode.OFF, metrics_token=Secret(METRICS_TOKEN)) as post:
            sweep, shown = await _swept(post, monkeypatch)
            accounts = repr(post.site.accounts.database.users)
    assert len(lines) > 200
    assert len(sweep.canaries.made) > 60
    assert {"name", "mail"} <= set(sweep.canaries.shown_in(accounts))
    requests, found = capsys.readouterr().out, {}
    assert requests.count("\n") > sweep.sent / 2
    # What is said in the room is for everybody; whose sign-in it is, for operators.
    said = {"chat", "field chatDraftBody", "field chatDemoDraftBody"}
    # Where something was asked for is what the log of requests is for.
    asked = {"path", "named in a path"}
    assert asked <= set(sweep.canaries.shown_in(requests))
    meant = {f"{paths.LAB} of eve": said, paths.OPS_SIGN_INS: {"name"}, "requests": asked}
    for name, text in {**shown, "log": "\n".join(lines), "requests": requests}.items():
        found[name] = set(sweep.canaries.shown_in(text)) - meant.get(name, set())
    assert {name: one for name, one in found.items() if one} == {}
