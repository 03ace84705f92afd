"""The clock of the store and that of a process jump while people sign in."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from actors.accounts.kept.risk.words import RiskMode
from tests.journeys.visitor import Visitor
from tests.web.accounts.passkeys.test_passkeys_site import begun, challenge_in, used, with_key
from tests.web.accounts.test_entering import form, get
from tests.web.accounts.test_links import OPEN, Post, open_post
from tests.web.accounts.test_second_factors import half_in
from web.wiring.environment import SystemClock

pytestmark = pytest.mark.slow

NEW, HOUR = "new@example.org", timedelta(hours=1)


def real_now() -> datetime:
    return datetime.now(UTC)


async def statuses(post: Post, jump: timedelta) -> dict[str, int]:
    """What is answered to what was begun before the store's clock jumped, and to what is behind."""
    site = post.site
    ada, by, _ = await with_key(site)
    database, guest, other = site.accounts.database, site.visitor(), site.visitor()
    before = await post.ask(guest, NEW)
    told = await begun(other, "/passkey/login/begin", {})
    database.now = lambda: real_now() + jump
    answer = json.dumps(by.use(challenge_in(told)))
    found = {
        "passkey": (await form(other, "/login/passkey", credential=answer)).status,
        "link": (await form(guest, OPEN, token=before)).status,
        "still in": (await get(ada, "/account")).status,
        "fresh": (await form(ada, "/account/factors/app/new")).status,
    }
    further = await used(site.visitor(), by)
    assert (await form(site.visitor(), "/login/passkey", credential=further)).status == 401
    visitor = site.visitor()
    signed = await used(visitor, by)
    found["passkey behind it"] = (await form(visitor, "/login/passkey", credential=signed)).status
    found["a sign-in behind it"] = (await get(visitor, "/account")).status
    return found


async def test_what_the_stores_clock_has_passed_is_over_and_one_that_goes_back_proves_nothing() -> (
    None
):
    # SEC-14, SEC-82, SEC-100, AUTH-22: a jump ends what it passes, and makes nobody fresh
    behind = {"passkey behind it": 303, "a sign-in behind it": 200}
    async with open_post(risk=RiskMode.OFF) as post:
        assert await statuses(post, HOUR) == {
            "passkey": 401, "link": 401, "still in": 200, "fresh": 403, **behind,
        }  # fmt: skip
    async with open_post(risk=RiskMode.OFF) as post:
        assert await statuses(post, -HOUR) == {
            "passkey": 303, "link": 303, "still in": 200, "fresh": 403, **behind,
        }  # fmt: skip


async def test_half_a_sign_in_is_over_by_the_clock_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # SEC-85, AUTH-9: a jump forwards ends it; behind it one begins anew
    ahead = [timedelta()]
    monkeypatch.setattr(SystemClock, "now", lambda _: real_now() + ahead[0])

    async def second(visitor: Visitor, ticket: str, code: str) -> int:
        return (await form(visitor, "/login/second", ticket=ticket, code=code)).status

    async with open_post(risk=RiskMode.OFF) as post:
        _, _, codes = await with_key(post.site)
        visitor, ticket = await half_in(post.site)
        ahead[0] = HOUR
        assert await second(visitor, ticket, codes[0]) == 401
        visitor, ticket = await half_in(post.site)
        assert await second(visitor, ticket, codes[0]) == 303, "the code was not used up"
        ahead[0] = -HOUR
        visitor, ticket = await half_in(post.site)
        assert await second(visitor, ticket, codes[0]) == 401, "no clock brings a code back"
        assert await second(visitor, ticket, codes[1]) == 303
