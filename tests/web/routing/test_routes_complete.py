"""The list of paths and the routes of the application are the same list (SITE-1)."""

from __future__ import annotations

import re
from functools import partial

import pytest

from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.routing import paths
from web.server import WebApp

pytestmark = pytest.mark.slow

# Every route and what it answers to; a new one is added here and to the list of paths.
ROUTES = {
    paths.HOME: "GET",
    paths.LAB: "GET",
    paths.DOCS: "GET",
    paths.DOCS_PAGE: "GET",
    paths.DOCS_SEARCH: "GET",
    paths.WORK: "GET",
    paths.WORK_PAGE: "GET",
    paths.ERROR_TEST: "GET",
    paths.EVENTS: "GET",
    paths.CHAT: "GET",
    paths.LOGIN: "GET,POST",
    paths.LOGIN_SECOND: "POST",
    paths.LOGIN_PASSKEY: "POST",
    paths.LOGIN_SECOND_PASSKEY: "POST",
    paths.API_PASSKEY_NEW: "POST",
    paths.API_PASSKEY_ADD: "POST",
    paths.API_PASSKEY_ASK: "POST",
    paths.API_PASSKEY_ENTER: "POST",
    paths.API_PASSKEYS: "GET",
    paths.API_PASSKEY: "DELETE,GET",
    paths.API_SECOND: "POST",
    paths.API_SESSION: "GET",
    paths.API_LOGOUT: "POST",
    paths.API_LOGOUT_ALL: "POST",
    paths.API_SESSIONS: "DELETE,GET",
    paths.API_SESSION_ONE: "DELETE,GET",
    paths.API_STEP_UP_ASK: "POST",
    paths.API_STEP_UP: "POST",
    paths.REGISTER: "GET,POST",
    paths.NOT_ME: "GET,POST",
    paths.ALLOW: "GET,POST",
    paths.ACCOUNT_DEVICES: "POST",
    paths.ACCOUNT_DEVICE_NAME: "POST",
    paths.API_DEVICES: "GET",
    paths.API_TOKENS: "GET,POST",
    paths.API_TOKEN: "DELETE",
    paths.ACCOUNT_TOKENS: "POST",
    paths.ACCOUNT_TOKEN_REVOKE: "POST",
    paths.API_DEVICE: "DELETE",
    paths.API_DEVICE_TRUST: "POST",
    paths.RECOVERY: "GET,POST",
    paths.RECOVERY_STOP: "GET,POST",
    paths.RECOVERY_FINISH: "GET,POST",
    paths.ACCOUNT_RECOVERY: "POST",
    paths.ADDRESS: "POST",
    paths.ADDRESS_CONFIRM: "GET,POST",
    paths.ADDRESS_BACK: "GET,POST",
    paths.LOGIN_LINK: "GET,POST",
    paths.LOGIN_LINK_OPEN: "GET,POST",
    paths.LINK_SEND: "POST",
    paths.LINK_VERIFY: "GET,POST",
    paths.OAUTH_BEGIN: "GET",
    paths.OAUTH_BACK: "GET",
    paths.OAUTH_LEFT: "POST",
    paths.ACCOUNT_PROVIDER_LINK: "GET",
    paths.ACCOUNT_PROVIDER_UNLINK: "POST",
    paths.ACCOUNT_TOTP_NEW: "POST",
    paths.ACCOUNT_TOTP: "POST",
    paths.ACCOUNT_TOTP_REMOVE: "POST",
    paths.ACCOUNT_CODES: "POST",
    paths.ACCOUNT_PROVE_PASSKEY: "POST",
    paths.ACCOUNT_PASSKEYS: "POST",
    paths.ACCOUNT_PASSKEY_NAME: "POST",
    paths.ACCOUNT_PASSKEY_REMOVE: "POST",
    paths.LOGOUT: "POST",
    paths.LOGOUT_PROVIDER: "GET",
    paths.PROTECTED: "GET",
    paths.ACCOUNT: "GET",
    paths.ACCOUNT_PASSWORD: "POST",
    paths.ACCOUNT_SIGN_INS: "POST",
    paths.ACCOUNT_DELETE: "POST",
    paths.ACCOUNT_SIGN_IN_NAME: "POST",
    paths.ACCOUNT_PROVE: "GET,POST",
    paths.ACCOUNT_EXPORT: "POST",
    paths.CHAT_HISTORY: "GET",
    paths.CHAT_JOIN: "POST",
    paths.CHAT_POST: "POST",
    paths.CHAT_POST_AS_DEMO: "POST",
    paths.MODERATION: "GET,POST",
    paths.AUDIT: "GET",
    paths.LAB_ACTION: "POST",
    paths.LAB_DROP: "POST",
    paths.BURST_PROBE: "GET",
    paths.LAB_SAGAS: "POST",
    paths.LAB_SAGA_ACTION: "POST",
    paths.LAB_LOOK: "POST",
    paths.LAB_RESET: "POST",
    paths.LAB_TREE: "GET",
    paths.DEMO_COUNTER: "POST",
    paths.DEMO_GUARDED: "POST",
    paths.DEMO_CANCEL: "POST",
    paths.DEMO_ERRANDS: "GET",
    paths.DEMO_PANEL: "GET,POST",
    paths.OPERATIONS_FILTER: "POST",
    paths.OPS: "GET",
    paths.OPS_TRACES: "GET",
    paths.LAB_FAILURES: "GET,POST",
    paths.LAB_TRACES: "GET",
    paths.LAB_TRACE: "GET",
    paths.OPS_SIGN_INS: "GET,POST",
    paths.OPS_AUDIT: "GET",
    paths.OPS_OUTSIDE: "GET,POST",
    paths.OPS_DEAD: "GET,POST",
    paths.OPS_LETTER: "GET,POST",
    paths.SOCKET_TICKET: "POST",
    paths.MAIL_BOUNCE: "POST",
    paths.DEV_MAIL: "GET",
    paths.DEV_MAIL_ONE: "GET",
    paths.POLICY_REPORT: "POST",
    paths.STATIC: "GET",
    paths.FAVICON: "GET",
    paths.ROBOTS: "GET",
    paths.LLMS: "GET",
    paths.HEALTH: "GET",
    paths.HEALTH_LIVE: "GET",
    paths.HEALTH_STARTUP: "GET",
    paths.HEALTH_LOAD: "GET",
    paths.METRICS: "GET",
    paths.READY: "GET",
    paths.HEALTH_READY: "GET",
}
# Not a route of the framework: the edge gives it to its own endpoint.
SOCKETS = {paths.SOCKET}
# A link to a place on a page, not a path.
LINKS = {paths.LAB_CHAT, paths.LAB_OPERATIONS}

# What a path with a variable in it is called with.
SAMPLES = {
    paths.WORK_PAGE: "/work/command-sse",
    paths.DOCS_PAGE: "/docs/start/first-actor",
    paths.STATIC: "/static/nothing.js",
    paths.DEMO_PANEL: "/demo/panels/ping",
    paths.DEV_MAIL_ONE: "/dev/mail/en/order",
    paths.API_PASSKEY: "/api/v1/auth/passkeys/00000000-0000-7000-8000-000000000000",
    paths.API_SESSION_ONE: "/api/v1/auth/sessions/00000000-0000-7000-8000-000000000000",
    paths.API_TOKEN: "/api/v1/auth/tokens/00000000-0000-7000-8000-000000000000",
    paths.API_DEVICE: "/api/v1/auth/devices/00000000-0000-7000-8000-000000000000",
    paths.API_DEVICE_TRUST: "/api/v1/auth/devices/00000000-0000-7000-8000-000000000000/trust",
    paths.LAB_ACTION: "/api/lab/actors/999999/crash",
    paths.OPS_LETTER: "/ops/dead/1",
}
# Answers of a GET without anything: a page, or why not.
BARE_GETS = {
    paths.BURST_PROBE: 204,
    paths.API_DEVICES: 401,
    paths.API_TOKENS: 401,
    paths.ERROR_TEST: 500,
    paths.EVENTS: 400,
    # Nobody has a token here.
    paths.METRICS: 404,
    # There is no mail in these tests.
    paths.LOGIN_LINK: 404,
    paths.LOGIN_LINK_OPEN: 404,
    paths.LINK_VERIFY: 404,
    paths.RECOVERY: 404,
    paths.RECOVERY_STOP: 404,
    paths.RECOVERY_FINISH: 404,
    paths.ADDRESS_CONFIRM: 404,
    paths.ADDRESS_BACK: 404,
    # Nor a provider.
    paths.OAUTH_BEGIN: 404,
    paths.OAUTH_BACK: 404,
    paths.LOGOUT_PROVIDER: 404,
    paths.ACCOUNT_PROVIDER_LINK: 303,
    paths.STATIC: 404,
    paths.CHAT: 308,
    paths.API_PASSKEYS: 401,
    paths.API_PASSKEY: 401,
    paths.API_SESSION: 401,
    paths.API_SESSIONS: 401,
    paths.API_SESSION_ONE: 401,
    paths.PROTECTED: 303,
    paths.ACCOUNT: 303,
    paths.ACCOUNT_PROVE: 303,
    paths.MODERATION: 303,
    paths.AUDIT: 303,
    paths.OPS: 303,
    paths.OPS_SIGN_INS: 303,
    paths.OPS_AUDIT: 303,
    paths.OPS_OUTSIDE: 303,
    paths.OPS_DEAD: 303,
    paths.OPS_LETTER: 303,
    paths.OPS_TRACES: 404,
    paths.LAB_TRACE: 404,
}

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PURGE"]


def routes_of(app: WebApp) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for rule in app.url_map.iter_rules():
        found.setdefault(rule.rule, set()).update((rule.methods or set()) - {"HEAD", "OPTIONS"})
    return {path: ",".join(sorted(methods)) for path, methods in found.items()}


async def test_the_list_is_the_applications() -> None:  # SITE-1
    async with open_whole_site() as site:
        assert routes_of(site.apps[0]) == ROUTES
    named = {name: value for name, value in vars(paths).items() if name.isupper()}
    listed = {value for value in named.values() if isinstance(value, str)}
    assert listed == {*ROUTES, *SOCKETS, *LINKS}
    assert listed > paths.PROBES


async def test_every_get_has_a_head_and_every_wrong_method_its_right_ones() -> None:
    async with open_whole_site() as site:  # SITE-1
        for path, method in ROUTES.items():
            await check_methods(site, SAMPLES.get(path, path), path, method)


async def check_methods(site: WholeSite, concrete: str, path: str, right: str) -> None:
    visitor = site.visitor()
    allowed = {*right.split(","), "HEAD"} if "GET" in right else {right}
    if "GET" in right:
        expected = BARE_GETS.get(path, 200)
        got = await in_thread(partial(visitor.request, "GET", concrete))
        head = await in_thread(partial(visitor.request, "HEAD", concrete))
        assert (got.status, head.status, head.body) == (expected, expected, b""), path
    for method in set(METHODS) - allowed:
        headers = {"sec-fetch-site": "same-origin", "content-type": "application/json"}
        answer = await in_thread(partial(visitor.request, method, concrete, b"", headers))
        assert answer.status in {405, 501}, (method, path, answer.status)
        if answer.status == 405:
            assert set(answer.headers["allow"].split(", ")) >= allowed, (method, path)


async def test_no_internal_link_is_broken() -> None:  # SITE-1
    async with open_whole_site() as site:
        visitor, seen, todo = site.visitor(), set[str](), ["/", "/lab", "/nowhere"]
        while todo:
            path = todo.pop()
            if path in seen:
                continue
            seen.add(path)
            if path.startswith("/docs/") and len([one for one in seen if "/docs/" in one]) > 3:
                continue  # the others' links are looked at where no page has to be coloured
            answer = await in_thread(partial(visitor.get, path))
            # One leads to a failure on purpose (SITE-157).
            expected = {"/nowhere": {404}, paths.ERROR_TEST: {500}}.get(path, {200, 308})
            assert answer.status in expected, (path, answer.status)
            if "html" not in answer.headers.get("content-type", ""):
                continue
            # Of tags alone: a page that shows code has such words in its text.
            for found in re.findall(r'<[a-z][^<>]*\s(?:href|src|action)="([^"]+)"', answer.text):
                target = found.partition("#")[0]
                if found.startswith(("http:", "https:", "mailto:")) and path.startswith("/docs/"):
                    continue  # what a document names elsewhere
                assert not found.startswith(("http:", "https:", "//")), found
                # Where a form posts to there is nothing to get.
                if target and "GET" in ROUTES.get(target.partition("?")[0], "GET"):
                    todo.append(target)
        assert {"/", "/lab"} < seen
        assert any(path.startswith("/static/") for path in seen)


async def test_fragments_of_links_are_on_the_page() -> None:  # SITE-8
    async with open_whole_site() as site:
        page = (await in_thread(lambda: site.visitor().get("/lab"))).text
        assert f'id="{paths.LAB_CHAT.partition("#")[2]}"' in page
