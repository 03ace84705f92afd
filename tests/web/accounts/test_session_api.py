"""A member's sign-ins for client programs: by a bearer token and by a cookie, listed and ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import pytest

from actors.accounts import FRESH_FOR, SIGN_IN_KEPT
from actors.accounts.kept.risk.words import RiskMode
from tests.journeys.visitor import Answer, Visitor
from tests.web.accounts.test_access import let_proofs_age
from tests.web.accounts.test_entering import PASSWORD, form, get, register
from tests.web.accounts.test_second_factors import mailed
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.mail.senders.memory import MemorySender
from web.settings import Settings

pytestmark = pytest.mark.slow

API = "/api/v1/auth"
OWN = {"sec-fetch-site": "same-origin"}

# A program that keeps no cookies comes from a new device each time (AUTH-32).
OBSERVED = Settings(
    port=0, overload_late_ms=60_000, overload_after_ms=60_000, risk=RiskMode.OBSERVE
)


async def api(
    visitor: Visitor,
    method: str,
    path: str,
    value: Mapping[str, object] | None = None,
    token: str | None = None,
    *,
    more: Mapping[str, str] | None = None,
) -> Answer:
    """Ask as a program: with a bearer token, or as a page of the site does."""
    headers = {**(OWN if token is None else {"authorization": f"Bearer {token}"}), **(more or {})}
    if method != "GET":
        headers["content-type"] = "application/json"
    body = None if method == "GET" else json.dumps(value or {}).encode()
    return await in_thread(partial(visitor.request, method, API + path, body, headers))


def told(answer: Answer) -> dict[str, object]:
    found = json.loads(answer.body)
    assert isinstance(found, dict)
    return found


async def by_link(site: WholeSite, sender: MemorySender, count: int, **fields: str) -> Answer:
    """Open a link as a program does, whose mails are `count` by then."""
    program = site.visitor()
    token = await mailed(program, sender, count)
    answer = await api(program, "POST", "/magic-link/verify", {"token": token, **fields})
    assert answer.status == 200, answer.text
    return answer


async def bearer(site: WholeSite, sender: MemorySender, count: int) -> str:
    answer = await by_link(site, sender, count)
    assert "set-cookie" not in answer.headers or "gr_auth" not in answer.headers["set-cookie"]
    return str(told(answer)["session_token"])


async def test_a_program_sees_its_own_sign_in_and_ends_it() -> None:
    # AUTH-20, SEC-37
    sender = MemorySender()
    async with open_whole_site(sender=sender, settings=OBSERVED) as site:
        token, program = await bearer(site, sender, 1), site.visitor()
        answer = await api(program, "GET", "/session", token=token)
        assert answer.status == 200
        assert answer.headers["cache-control"] == "no-store"
        own = told(answer)
        assert set(own) == {"session_id", "email", "expires_at", "last_active", "auth_level"}
        assert (own["email"], own["auth_level"]) == ("ada@example.org", 1)
        (row,) = site.accounts.database.sign_ins.values()
        assert UUID(str(own["session_id"])) == row.reference
        assert datetime.fromisoformat(str(own["expires_at"])) == row.created_at + SIGN_IN_KEPT
        assert datetime.fromisoformat(str(own["last_active"])) <= datetime.now(UTC)
        out = await api(program, "POST", "/logout", token=token)
        assert (out.status, told(out)) == (200, {"message": "Signed out."})
        assert program.cookies == {}, "a program keeps none"
        assert site.accounts.database.sign_ins == {}
        for method, path in (("GET", "/session"), ("POST", "/logout"), ("GET", "/sessions")):
            over = await api(program, method, path, token=token)
            assert (over.status, told(over)["code"]) == (401, "UNAUTHORIZED"), path
            assert over.headers["www-authenticate"] == "Bearer"


async def test_the_token_goes_into_a_cookie_where_a_program_says_so() -> None:
    # AUTH-20, SEC-11
    sender = MemorySender()
    async with open_whole_site(sender=sender, settings=OBSERVED) as site:
        program = site.visitor()
        link = await mailed(program, sender, 1)
        asked = {"token": link, "transport": "cookie"}
        answer = await api(program, "POST", "/magic-link/verify", asked)
        assert set(told(answer)) == {"session_id", "email", "expires_at"}
        token = program.cookies["gr_auth"]
        assert token not in answer.text
        assert (await api(program, "GET", "/session")).status == 200
        assert (await api(program, "POST", "/logout")).status == 200
        assert program.cookies.get("gr_auth", "") == ""
        assert (await api(program, "GET", "/session")).status == 401


async def test_a_token_that_opens_nothing_is_nobody() -> None:
    # SEC-21: it is not taken for a guest, nor is it adopted
    async with open_whole_site() as site:
        visitor = await register(site)
        for text in ("", "x", "A" * 43, "A" * 10_000, "\xc4" * 43, "a b"):
            for path in ("/session", "/sessions"):
                assert (await api(visitor, "GET", path, token=text)).status == 401, text
            shown = {"authorization": f"bearer {text}"}
            lab = await in_thread(partial(visitor.get, "/api/lab/tree", **shown))
            assert lab.status == 401, "not as a guest either"
        assert len(site.accounts.database.sign_ins) == 1
        assert (await get(visitor, "/account")).status == 200, "a page looks at cookies alone"


async def test_a_cookie_beside_a_bearer_token_counts_for_nothing() -> None:
    # SEC-37: four combinations
    sender = MemorySender()
    async with open_whole_site(sender=sender, settings=OBSERVED) as site:
        token, both, alone = await bearer(site, sender, 1), await _bob(site), site.visitor()
        foreign = {"sec-fetch-site": "cross-site"}
        assert told(await api(both, "GET", "/session"))["email"] == "bob@example.org"
        mine = await api(both, "GET", "/session", token=token, more=OWN)
        assert told(mine)["email"] == "ada@example.org"
        refused = await api(both, "POST", "/logout", token=token, more=foreign)
        assert refused.status == 403, "with a cookie its origin is judged"
        bad = await api(both, "GET", "/session", token="A" * 43, more=OWN)
        assert bad.status == 401
        assert (await api(alone, "POST", "/logout", token=token, more=foreign)).status == 200


async def _bob(site: WholeSite) -> Visitor:
    return await register(site, username="bob", email="bob@example.org")


async def test_sign_ins_are_listed_and_ended_by_their_owner_alone() -> None:
    # SEC-19, AUTH-20, AUTH-21
    sender = MemorySender()
    async with open_whole_site(sender=sender, settings=OBSERVED) as site:
        one, program = await bearer(site, sender, 1), site.visitor()
        two, bob = await bearer(site, sender, 2), await _bob(site)
        listed = told(await api(program, "GET", "/sessions", token=two))["sessions"]
        assert isinstance(listed, list)
        assert [row["is_this"] for row in listed] == [True, False]
        assert {row["first_address"] for row in listed} == {"127.0.*.*"}
        own, other = (row["session_id"] for row in listed)
        again = told(await api(program, "GET", f"/sessions/{other}", token=two))
        assert again["session_id"] == other
        unknown = "00000000-0000-7000-8000-000000000000"
        for method in ("GET", "DELETE"):
            for named in (other, unknown, "x"):
                answer = await api(bob, method, f"/sessions/{named}")
                assert answer.status == 404, (method, named)
                assert told(answer)["message"] == f"session with id {named} not found"
        assert (await api(program, "GET", "/session", token=one)).status == 200
        let_proofs_age(site)
        stale = await api(program, "DELETE", f"/sessions/{other}", token=two)
        assert (stale.status, told(stale)["code"]) == (403, "STEP_UP_REQUIRED")
        let_proofs_age(site, -FRESH_FOR + timedelta(minutes=-1))
        let_proofs_age(site, timedelta(minutes=1))
        assert (await api(program, "DELETE", f"/sessions/{other}", token=two)).status == 200
        assert (await api(program, "GET", "/session", token=one)).status == 401
        assert (await api(program, "DELETE", f"/sessions/{own}", token=two)).status == 200
        assert (await api(program, "GET", "/session", token=two)).status == 401
        assert (await api(bob, "GET", "/session")).status == 200


async def test_all_others_end_or_all() -> None:
    # SEC-19, AUTH-21
    sender = MemorySender()
    async with open_whole_site(sender=sender, settings=OBSERVED) as site:
        tokens = [await bearer(site, sender, count) for count in (1, 2, 3)]
        program, bob = site.visitor(), await _bob(site)

        async def alive() -> list[int]:
            return [(await api(program, "GET", "/session", token=t)).status for t in tokens]

        ended = await api(program, "DELETE", "/sessions", token=tokens[2])
        assert told(ended) == {"message": "All other sessions have ended."}
        assert await alive() == [401, 401, 200]
        tokens.append(await bearer(site, sender, 4))
        let_proofs_age(site)
        ended = await api(program, "POST", "/logout/all", token=tokens[2])
        assert told(ended) == {"message": "Signed out everywhere."}, "without a fresh proof"
        assert await alive() == [401] * 4
        assert (await api(bob, "GET", "/session")).status == 200


async def test_a_program_that_proves_again_goes_on_under_another_token() -> None:
    # AUTH-21, AUTH-22, SEC-13
    sender = MemorySender()
    async with open_whole_site(sender=sender, settings=OBSERVED) as site:
        visitor = await register(site)
        token, program = await bearer(site, sender, 1), site.visitor()
        let_proofs_age(site)
        stale = await api(program, "DELETE", "/sessions", token=token)
        assert stale.headers["x-greenroom-step-up"] == "BASIC"
        begun = await api(program, "POST", "/step-up/begin", {"level": 1}, token)
        assert told(begun)["methods"] == ["password"]
        wrong = await api(program, "POST", "/step-up/complete", {"password": "nonsense"}, token)
        assert wrong.status == 422
        assert "session_token" not in wrong.text
        proven = await api(program, "POST", "/step-up/complete", {"password": PASSWORD}, token)
        assert set(told(proven)) == {"auth_level", "session_token"}
        renewed = str(told(proven)["session_token"])
        assert "set-cookie" not in proven.headers
        assert (await api(program, "GET", "/session", token=token)).status == 401
        assert (await api(program, "DELETE", "/sessions", token=renewed)).status == 200
        assert (await get(visitor, "/account")).status == 303, "it was one of the others"
        again = site.visitor()
        entered = await form(again, "/login", email="ada@example.org", password=PASSWORD)
        assert entered.status == 303
        former = again.cookies["gr_auth"]
        by_cookie = await api(again, "POST", "/step-up/complete", {"password": PASSWORD})
        assert told(by_cookie) == {"auth_level": 1}
        assert again.cookies["gr_auth"] != former


async def test_while_the_store_is_away_nobody_is_told_who_they_are() -> None:
    # SEC-3: neither in nor out
    sender = MemorySender()
    async with open_whole_site(sender=sender, settings=OBSERVED) as site:
        token, program = await bearer(site, sender, 1), site.visitor()
        for method, path in (("GET", "/session"), ("POST", "/logout"), ("POST", "/logout/all")):
            site.accounts.fail_next()
            away = await api(program, method, path, token=token)
            assert (away.status, told(away)["code"]) == (503, "SERVICE_UNAVAILABLE"), path
        assert (await api(program, "GET", "/session", token=token)).status == 200
