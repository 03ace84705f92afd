"""Who may use which route: every one is declared, and what is declared is kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from uuid import UUID

import pytest

from actors.accounts import FRESH_FOR, Level, Role
from storage.memory import MemoryAudit, MemoryRateLimiter
from tests.journeys.visitor import Answer, Visitor
from tests.web.accounts.test_entering import PASSWORD, form, get, problems, register
from tests.web.routing.test_routes_complete import SAMPLES
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.accounts.roles.access import (
    ACCESS,
    Access,
    NotDeclared,
    Owner,
    keep_access,
    requires,
    undeclared,
)
from web.observability.alerts import Alert
from web.routing import paths

pytestmark = pytest.mark.slow


def declared() -> Iterator[tuple[str, str, Access]]:
    for path, methods in ACCESS.items():
        for method, access in methods.items():
            yield SAMPLES.get(path, path), method, access


async def asked(visitor: Visitor, method: str, path: str, **fields: str) -> Answer:
    """Ask as a page would, or below `/api` as a program."""
    if method == "GET":
        return await get(visitor, path)
    if not path.startswith("/api/v1/auth"):
        return await form(visitor, path, **fields)
    headers = {"content-type": "application/json", "sec-fetch-site": "same-origin"}
    return await in_thread(partial(visitor.request, method, path, b"", headers))


def let_proofs_age(site: WholeSite, by: timedelta = FRESH_FOR) -> None:
    for row in site.accounts.database.sign_ins.values():
        row.proven_at -= by


async def test_a_route_that_nobody_declared_stops_the_start() -> None:
    # AUTH-23
    async with open_whole_site() as site:
        (app,) = site.apps
        assert undeclared(app, ACCESS) == []
        assert set(ACCESS) == {rule.rule for rule in app.url_map.iter_rules()}
        for path, methods in ACCESS.items():
            for method in methods:
                fewer = {**ACCESS, path: {one: methods[one] for one in methods if one != method}}
                assert undeclared(app, fewer) == [f"{method} {path}"]
        with pytest.raises(NotDeclared, match="GET /lab"):
            keep_access(app, lambda _member, _level, _then: None, {})  # type: ignore[arg-type, return-value]


async def test_what_needs_a_sign_in_asks_guests_for_one() -> None:
    # AUTH-23, SITE-41: none of them reaches a handler, so none changes anything
    async with open_whole_site() as site:
        swept = 0
        for path, method, access in declared():
            if access.is_for_all:
                continue
            visitor = site.visitor()
            answer = await asked(visitor, method, path)
            swept += 1
            if path.startswith("/api/"):
                assert answer.status == 401, path
                continue
            assert answer.status == 303, path
            assert answer.headers["location"].startswith("/login?next="), path
        assert swept == 58


async def test_what_needs_a_role_refuses_who_has_another() -> None:
    # AUTH-23, SEC-117
    async with open_whole_site() as site:
        visitor = await register(site)
        for role in Role:
            site.accounts.database.users[_user(site)].role = role.value
            for path, method, access in declared():
                if access.role not in (None, role):
                    ask = get(visitor, path) if method == "GET" else form(visitor, path)
                    assert (await ask).status == 403, (path, role)
        site.accounts.database.users[_user(site)].role = Role.MODERATOR.value
        assert (await get(visitor, "/demo/chat/moderation")).status == 200


async def test_what_needs_a_fresh_proof_asks_for_one_and_goes_on() -> None:
    # AUTH-22, AUTH-23, SEC-13, SEC-19, SEC-20
    async with open_whole_site() as site:
        visitor = await register(site)
        other = site.visitor()
        typed = {"email": "ada@example.org", "password": PASSWORD}
        assert (await form(other, "/login", **typed)).status == 303
        sensitive = [one for one in declared() if one[2].is_fresh]
        # Each has tests of its own.
        elsewhere = (
            "/factors/",
            "/providers/",
            "passkey",
            "/address",
            "/ops",
            "/devices",
            "/tokens",
            "/recovery",
        )
        paths_of = [path for path, _, _ in sensitive if not any(one in path for one in elsewhere)]
        assert paths_of == [
            "/api/v1/auth/sessions",
            "/api/v1/auth/sessions/00000000-0000-7000-8000-000000000000",
            "/account/sessions/revoke",
        ]
        let_proofs_age(site, FRESH_FOR - timedelta(minutes=1))
        page = await get(visitor, "/account")
        (reference,) = _others(page.text)
        let_proofs_age(site)
        refused = await form(visitor, "/account/sessions/revoke", session_ref=reference)
        assert refused.status == 403
        assert refused.headers["x-greenroom-step-up"] == "BASIC"
        assert 'action="/account/prove"' in refused.text
        assert 'name="next" value="/account"' in refused.text
        assert (await get(other, "/account")).status == 200, "nothing was done"
        command = await in_thread(
            partial(
                visitor.request, "POST", "/account/sessions/revoke", b"",
                {
                    "content-type": "application/x-www-form-urlencoded",
                    "sec-fetch-site": "same-origin", "accept": "application/json",
                    "datastar-request": "true",
                },
            )
        )  # fmt: skip
        assert command.status == 403
        wrong = await form(visitor, "/account/prove", password="wrong words", next="/account")
        assert (wrong.status, set(problems(wrong))) == (422, {"password"})
        token = visitor.cookies["gr_auth"]
        proven = await form(visitor, "/account/prove", password=PASSWORD, next="//evil.example")
        assert (proven.status, proven.headers["location"]) == (303, "/protected")
        assert visitor.cookies["gr_auth"] != token
        old = Visitor(site.url, {**visitor.cookies, "gr_auth": token})
        assert (await get(old, "/account")).status == 303
        ended = await form(visitor, "/account/sessions/revoke", session_ref=reference)
        assert ended.status == 303
        assert (await get(other, "/account")).status == 303


async def test_a_sign_in_is_named_by_its_owner_and_shows_where_it_began() -> None:
    # SEC-19
    async with open_whole_site() as site:
        visitor = await register(site)
        eve = await register(site, username="eve", email="eve@example.org")
        page = await get(visitor, "/account")
        assert "first from" in page.text
        assert "127.0.0.1" not in page.text
        (own,) = re.findall(
            r'sessions/name"[^>]*><[^>]*>.*?session_ref" value="([^"]+)"', page.text
        )
        path = "/account/sessions/name"
        for name in ("<b>the old</b> laptop", "", "my laptop"):
            assert (await form(visitor, path, session_ref=own, name=name)).status == 303
            assert "<b>the old</b>" not in (await get(visitor, "/account")).text
        assert "<bdi>my laptop</bdi>" in (await get(visitor, "/account")).text
        assert (await form(visitor, path, session_ref=own, name="x" * 41)).status == 422
        for reference in (own, "nonsense", ""):
            assert (await form(eve, path, session_ref=reference, name="mine")).status == 404
        assert "<bdi>my laptop</bdi>" in (await get(visitor, "/account")).text


async def test_a_sixth_sign_in_says_what_it_ended() -> None:
    # SEC-19, AUTH-20
    async with open_whole_site() as site:
        await register(site)
        typed = {"email": "ada@example.org", "password": PASSWORD, "next": "/lab"}
        visitors = [site.visitor() for _ in range(5)]
        answers = [await form(visitor, "/login", **typed) for visitor in visitors]
        places = [answer.headers["location"] for answer in answers]
        assert places == ["/lab"] * 4 + ["/account?ended=1&next=%2Flab"]
        page = await get(visitors[-1], places[-1])
        assert "the one used longest ago was ended" in page.text
        assert '<a href="/lab">Back' in page.text
        assert "was ended" not in (await get(visitors[-1], "/account")).text


async def test_while_a_store_of_sign_ins_is_away_nobody_gets_in_and_nobody_is_a_guest() -> None:
    # SEC-3, SEC-137: 503, never access, and never 401 for what is valid
    async with open_whole_site() as site:
        visitor, guest = await register(site), site.visitor()
        typed = {"email": "ada@example.org", "password": PASSWORD}
        limiter, audit = site.web.accounts.limiter, site.web.accounts.audit
        assert isinstance(limiter, MemoryRateLimiter)
        assert isinstance(audit, MemoryAudit)
        limiter.fail_next()
        assert (await form(guest, "/login", **typed)).status == 503
        limiter.fail_next()
        asked = {**typed, "username": "eve", "email": "eve@example.org"}
        assert (await form(guest, "/register", **asked)).status == 503
        # A try that cannot be kept is told to nobody: it is counted, and refused all the same.
        audit.fail_next()
        wrong = {**typed, "password": "wrong words"}
        assert (await form(guest, "/login", **wrong)).status == 503
        assert "gr_auth" not in guest.cookies
        for path in ("/account", "/protected", "/demo/chat/moderation", "/lab"):
            site.accounts.fail_next()
            assert (await get(visitor, path)).status == 503, path
        assert site.web.alerts.counts()[Alert.SIGN_INS_UNKNOWN] == 4
        assert site.web.alerts.counts()[Alert.FAILED_SIGN_INS] == 0
        assert (await form(guest, "/login", **wrong)).status == 401
        assert site.web.alerts.counts()[Alert.FAILED_SIGN_INS] == 1
        assert (await get(visitor, "/account")).status == 200


def test_a_role_or_a_proof_needs_a_sign_in() -> None:
    # AUTH-23
    assert requires().is_for_all
    for access in (requires(fresh=True), requires(role=Role.ADMIN), requires(level=Level.BASIC)):
        assert access.level is Level.BASIC


def _user(site: WholeSite) -> UUID:
    users = site.accounts.database.users.items()
    return next(user_id for user_id, row in users if row.username == "ada")


def _others(page: str) -> list[str]:
    return re.findall(r'sessions/revoke"><[^>]*>.*?session_ref" value="([^"]+)"', page)


# What a member does with the own account that is not sensitive, and why.
HARMLESS = {
    paths.ACCOUNT_DEVICE_NAME: "a name", paths.ACCOUNT_SIGN_IN_NAME: "a name",
    paths.ACCOUNT_PASSKEY_NAME: "a name",
    paths.ACCOUNT_PROVE: "it is the proof", paths.ACCOUNT_PROVE_PASSKEY: "it is the proof",
    paths.API_STEP_UP_ASK: "it is the proof", paths.API_STEP_UP: "it is the proof",
    paths.API_LOGOUT: "ends what is theirs", paths.API_LOGOUT_ALL: "ends what is theirs",
}  # fmt: skip


def test_what_changes_an_account_and_all_of_operation_is_sensitive() -> None:
    # AUTH-32: computed, so that a new route is sensitive or named above. Sensitive is: no sign-in
    # of some risk, and with a second factor its level and a fresh proof. There is no refund here,
    # and in the lab nobody reaches beyond the own sandbox at all (LAB-90).
    swept = set[str]()
    for path, methods in ACCESS.items():
        for method, access in methods.items():
            is_change = access.owner is Owner.MEMBER and method != "GET"
            if access.role is Role.ADMIN:
                assert (access.is_fresh, access.is_sensitive) == (True, True), path
            elif is_change:
                assert access.is_sensitive is (path not in HARMLESS), path
            else:
                continue
            assert access.level is not None
            assert access.scope is None, "no API token may"
            swept.add(path)
    assert swept > HARMLESS.keys()
    assert len(swept) > 35
