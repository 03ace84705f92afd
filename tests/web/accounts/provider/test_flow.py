"""Somebody signs in by a provider, which is asked over real HTTP."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import msgspec
import pytest
import trio
from structlog.testing import capture_logs

from actors.accounts.ways.provider.judging import STATE_KEPT_S
from tests.journeys.visitor import Visitor
from tests.logged import configured_for
from tests.web.accounts.provider.lying import CLIENT, SECRET, curve, query_of, rsa
from tests.web.accounts.provider.town import BACK, BEGIN, open_town
from tests.web.accounts.test_entering import get
from web.accounts.ways.provider.returning import (
    RETURNS_PER_ADDRESS_MAX,
    WRONG,
    open_state,
)

pytestmark = pytest.mark.slow


async def test_who_comes_first_is_made_a_member_and_is_found_again() -> None:
    # AUTH-4, AUTH-6, SEC-90, SEC-13
    async with open_town() as town:
        site, guest = town.site, town.site.visitor()
        login = (await get(guest, "/login?next=/lab")).text
        assert 'href="/api/v1/auth/oauth/example/authorize?redirect_to=%2Flab"' in login
        before = guest.cookies["gr_visitor"]
        entered = await town.sign_in(guest)
        assert (entered.status, entered.headers["location"]) == (303, "/lab"), entered.text
        assert guest.cookies["gr_visitor"] != before
        assert guest.cookies["gr_flow"] == ""
        # OBS-3: that somebody was sent there, and came back.
        told = site.spans("auth.provider")
        assert [one.error for one in told] == ["", ""]
        assert "elsewhere.org" not in repr(told)
        page = (await get(guest, "/account")).text
        assert "ada@elsewhere.org" in page
        users = site.accounts.database.users.items()
        (user_id,) = [id_ for id_, user in users if user.email == "ada@elsewhere.org"]
        assert (await town.sign_in(site.visitor())).status == 303
        rows = site.accounts.database.sign_ins.values()
        assert {row.user_id for row in rows} == {user_id}
        assert {row.method for row in rows} == {"oauth_example"}
        assert set(town.provider.redirects) == {f"{site.url}/api/v1/auth/oauth/example/callback"}


async def test_what_one_is_sent_with_is_fresh_each_time() -> None:
    # SEC-90, SEC-91, SEC-11
    async with open_town() as town:
        guest = town.site.visitor()
        asked = []
        for _ in range(2):
            answer = await town.begin(guest)
            assert answer.headers["cache-control"] == "no-store"
            asked.append(query_of(answer.headers["location"]))
        for name in ("state", "nonce", "code_challenge"):
            assert asked[0][name] != asked[1][name], name
        for one in asked:
            assert re.fullmatch(r"[\w-]{43}\.[\w-]+", one["state"])
            assert re.fullmatch(r"[\w-]{43}", one["nonce"])
            assert re.fullmatch(r"[\w-]{43}", one["code_challenge"])
            assert guest.cookies["gr_flow"] not in str(one)
            assert one["scope"] == "openid email"
        # A long way back is led elsewhere: a state is part of an address.
        answer = await town.begin(guest, then="/lab?" + "x" * 600)
        assert len(answer.headers["location"]) < 1500


async def test_a_program_is_given_its_session_in_the_answer() -> None:
    # AUTH-4
    async with open_town() as town:
        guest = town.site.visitor()
        answer = await town.sign_in(guest, then=None)
        said = msgspec.json.decode(answer.body)
        assert (answer.status, said["email"]) == (200, "ada@elsewhere.org")
        assert re.fullmatch(r"[\w-]{43}", said["session_token"])
        assert "gr_auth" not in guest.cookies
        assert (await get(guest, "/account")).status == 303
        guest.cookies["gr_auth"] = said["session_token"]
        assert (await get(guest, "/account")).status == 200


async def test_what_is_no_provider_or_no_page_is_told() -> None:
    # AUTH-4, AUTH-5, SEC-67
    async with open_town() as town:
        guest = town.site.visitor()
        for path in (BEGIN, BACK):
            assert (await get(guest, path.format("nobody"))).status == 404
        for bad in ("https://evil.example", "//evil.example", "/%5cevil", "/no/page", "lab", ""):
            answer = await town.begin(guest, then=bad)
            assert answer.status == 400, bad
            assert "gr_flow" not in guest.cookies
        assert not town.provider.calls
    async with open_town(providers=()) as town:
        guest = town.site.visitor()
        assert (await town.begin(guest)).status == 404
        assert "/oauth/" not in (await get(guest, "/login")).text


async def test_a_state_is_of_one_browser_one_provider_and_one_use() -> None:
    # SEC-91, SEC-92: swapped browsers, replay, another provider, none, twice, made up
    async with open_town("example", "other") as town:
        ada, eve = town.site.visitor(), town.site.visitor()
        for one in (ada, eve):
            await town.begin(one)  # both have a flow
        back = await town.agreed(ada)
        state = query_of(back)["state"]
        before = town.kept()
        random, _, ticket = state.partition(".")
        told = set()
        for visitor, path in (
            (eve, back),
            (town.site.visitor(), back),
            (ada, back.replace("/example/", "/other/")),
            (ada, back.replace(state, random)),
            (ada, back.replace(state, f"{'a' * 43}.{ticket}")),
            (ada, back.replace(state, state[:-4] + "AAAA")),
            (ada, back + f"&state={state}"),
            (ada, BACK.format("example")),
        ):
            answer = await get(visitor, path)
            assert answer.status == 400, path
            told.add(msgspec.json.decode(answer.body)["message"])
        assert told == {WRONG}
        assert town.kept() == before
        assert town.provider.calls["/token"] == 0
        flow = ada.cookies["gr_flow"]
        assert (await get(ada, back)).status == 303
        # Used up: also where the flow it was of is still there.
        ada.cookies["gr_flow"] = flow
        assert (await get(ada, back)).status == 400


async def test_fifty_at_once_come_back_with_one_state() -> None:
    # SEC-91
    async with open_town() as town:
        guest = town.site.visitor()
        back, cookies = await town.agreed(guest), dict(guest.cookies)
        found: list[int] = []

        async def one() -> None:
            found.append((await get(Visitor(town.site.url, dict(cookies)), back)).status)

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(one)
        assert found.count(303) == 1
        assert set(found) <= {303, 400, 429}
        assert len(town.site.accounts.database.sign_ins) == 1
        assert town.provider.calls["/token"] == 1


async def test_a_state_is_over_after_five_minutes() -> None:
    # SEC-91
    async with open_town() as town:
        guest, services = town.site.visitor(), town.site.web.providers
        assert services is not None
        query = list(query_of(await town.agreed(guest)).items())
        now = services.accounts.now()
        for so_long, is_good in ((STATE_KEPT_S - 2, True), (STATE_KEPT_S + 1, False)):
            later = now + timedelta(seconds=so_long)
            mine = replace(services.accounts, now=partial(_same, later))
            opened = open_state(
                replace(services, accounts=mine), "example", query, dict(guest.cookies)
            )
            assert (opened is not None) is is_good


async def test_keys_change_while_somebody_is_away() -> None:
    # AUTH-4, AUTH-13, SEC-95: a key that is not known is looked for, once a minute at most
    async with open_town() as town:
        guest = town.site.visitor()
        assert (await town.sign_in(guest)).status == 303
        back = await town.agreed(guest)
        town.provider.keys = [rsa("one"), curve("two")]
        town.asked.looked_at = float("-inf")  # a minute later
        assert (await get(guest, back)).status == 303
        assert town.provider.calls["/keys"] == 2
        assert (await town.sign_in(guest)).status == 303
        assert town.provider.calls["/keys"] == 2
        assert town.provider.calls["/.well-known/openid-configuration"] == 1


async def test_the_address_may_come_from_elsewhere_and_secrets_in_the_body() -> None:
    # AUTH-4
    async with open_town() as town:
        guest = town.site.visitor()
        town.provider.has_email = False
        methods = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
        town.lie(discovery=lambda document: document.update(methods))
        assert (await town.sign_in(guest)).status == 303
        assert town.provider.calls["/userinfo"] == 1


async def test_who_tries_in_vain_too_often_waits() -> None:
    # AUTH-4, SEC-130
    async with open_town() as town:
        guest = town.site.visitor()
        town.lie(tokens=lambda answer: answer.pop("id_token"))
        for _ in range(RETURNS_PER_ADDRESS_MAX):
            assert (await town.sign_in(guest)).status == 400
        refused = await town.sign_in(guest)
        assert (refused.status, "Too many tries" in refused.text) == (429, True)
        assert int(refused.headers["retry-after"]) > 600
        assert town.provider.calls["/token"] == RETURNS_PER_ADDRESS_MAX


async def test_no_secret_of_a_flow_is_logged_or_shown() -> None:
    # SEC-131, SEC-11, SEC-95
    async with open_town() as town:
        guest = town.site.visitor()
        with configured_for(logging.INFO), capture_logs() as lines:
            back = await town.agreed(guest)
            cookies = dict(guest.cookies)
            assert (await get(guest, back)).status == 303
            replay = await get(guest, back)
            town.lie(back=lambda query: query.update(error="canary of the provider"))
            refused = await town.sign_in(guest)
            town.lie(body={"/token": b"canary of the provider"})
            broken = await town.sign_in(guest)
        assert (replay.status, refused.status, broken.status) == (400, 400, 503)
        seen = repr(lines) + replay.text + refused.text + broken.text
        query = query_of(back)
        for secret in (
            query["code"], query["state"], query["state"][:43], cookies["gr_flow"], SECRET, CLIENT,
            "access-1", "access-2", "refresh-", "canary of the provider", "ada-first", "elsewhere",
        ):  # fmt: skip
            assert secret not in seen, secret
        tried = [one for one in lines if one["event"] == "accounts.sign_in"]
        assert [(one["outcome"], one["method"]) for one in tried] == [
            ("accepted", "oauth_example"),
            ("refused", "oauth_example"),
            ("refused", "oauth_example"),
            ("failed", "oauth_example"),
        ]


def _same(moment: datetime) -> datetime:
    return moment
