"""The site behind a proxy that speaks HTTPS: its cookies, and where changes may come from."""

from __future__ import annotations

from functools import partial
from http.cookies import SimpleCookie
from ipaddress import ip_network

from tests.journeys.visitor import Answer, Visitor
from tests.web.whole_site import in_thread, open_whole_site
from web.settings import Settings

ORIGIN = "https://site.example"
BEHIND_PROXY = Settings(port=0, public_origin=ORIGIN, trusted_proxies=(ip_network("127.0.0.0/8"),))
ADA = b"username=ada&email=ada%40example.org&password=x9+qv%2C+tz%21"
UPGRADE = {
    "host": "site.example",
    "upgrade": "websocket",
    "connection": "upgrade",
    "sec-websocket-version": "13",
    "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


async def ask(
    visitor: Visitor, path: str, form: bytes | None = None, origin: str = ORIGIN
) -> Answer:
    """As the proxy passes it on: the name the browser asked for, and what it says of itself."""
    headers = {"host": "site.example"}
    if form is None:
        return await in_thread(partial(visitor.request, "GET", path, None, headers))
    headers |= {"origin": origin, "content-type": "application/x-www-form-urlencoded"}
    return await in_thread(partial(visitor.request, "POST", path, form, headers))


def check_cookies(answer: Answer, *names: str) -> SimpleCookie:
    """Each is for the whole of this host alone, over HTTPS only, and out of reach of scripts."""
    found = SimpleCookie()
    for header in answer.headers.get("set-cookie", "").split(", "):
        found.load(header)
    assert sorted(found) == sorted(names), answer.headers
    for one in found.values():
        assert one["secure"]
        assert one["httponly"]
        assert (one["path"], one["samesite"], one["domain"]) == ("/", "Lax", "")
    return found


async def test_cookies_are_for_https_and_this_host_alone() -> None:
    # SEC-10, SEC-11, SITE-38
    async with open_whole_site(settings=BEHIND_PROXY) as site:
        visitor = site.visitor()
        first = await ask(visitor, "/")
        assert first.status == 200
        assert "strict-transport-security" in first.headers
        check_cookies(first, "__Host-gr_visitor")
        entered = await ask(visitor, "/register", ADA)
        assert entered.status == 303
        names = ("__Host-gr_auth", "__Host-gr_device", "__Host-gr_visitor")
        found = check_cookies(entered, *names)
        assert found["__Host-gr_device"]["max-age"] == "31536000"
        assert (await ask(visitor, "/account")).status == 200

        # The names of the other mode may be set by whoever speaks plain HTTP: they open nothing.
        planted = Visitor(
            site.url, {name.removeprefix("__Host-"): kept for name, kept in visitor.cookies.items()}
        )
        assert (await ask(planted, "/account")).status == 303

        left = await ask(visitor, "/logout", b"")
        found = check_cookies(left, "__Host-gr_auth", "__Host-gr_visitor")
        assert found["__Host-gr_auth"]["max-age"] == "0"
        assert (await ask(visitor, "/account")).status == 303


async def test_changes_come_from_the_sites_own_https_pages() -> None:
    # SEC-30, SEC-40, SEC-84
    async with open_whole_site(settings=BEHIND_PROXY) as site:
        visitor = site.visitor()
        await ask(visitor, "/")
        for foreign in ("http://site.example", "https://site.example:8443", "null", site.url):
            assert (await ask(visitor, "/register", ADA, foreign)).status == 403
            upgrade = {**UPGRADE, "origin": foreign}
            assert await in_thread(partial(visitor.handshake, "/ws", upgrade)) == 403
        assert (
            await in_thread(partial(visitor.handshake, "/ws", {**UPGRADE, "origin": ORIGIN})) == 101
        )
        # By its address it is nobody's site, but for the probes of machines.
        assert (await in_thread(partial(visitor.get, "/"))).status == 421
        assert (await in_thread(partial(visitor.get, "/ready"))).status == 200


async def test_what_came_over_plain_http_is_sent_to_https_or_refused() -> None:
    # SEC-41
    async with open_whole_site(settings=BEHIND_PROXY) as site:
        visitor = site.visitor()
        plain = {"host": "site.example", "x-forwarded-proto": "http"}

        def visit() -> None:
            for path in ("/", "/lab?tab=1", "/static/no-such-file", "/favicon.ico"):
                page = visitor.request("GET", path, None, plain)
                assert (page.status, page.headers["location"]) == (308, ORIGIN + path)
                assert "set-cookie" not in page.headers
                assert "strict-transport-security" not in page.headers
            stream = visitor.request("GET", visitor.stream_path, None, plain)
            entered = visitor.request("POST", "/register", ADA, {**plain, "origin": ORIGIN})
            program = visitor.request("POST", "/api/v1/ws-ticket", None, plain)
            assert [stream.status, entered.status, program.status] == [403, 403, 403]
            assert visitor.cookies == {}
            upgrade = {**UPGRADE, "origin": ORIGIN}
            assert visitor.handshake("/ws", {**upgrade, "x-forwarded-proto": "http"}) == 403
            assert visitor.handshake("/ws", {**upgrade, "x-forwarded-proto": "https"}) == 101
            assert visitor.request("GET", "/ready", None, plain).status == 200
            over_https = {**plain, "x-forwarded-proto": "https"}
            assert visitor.request("GET", "/", None, over_https).status == 200

        await in_thread(visit)
