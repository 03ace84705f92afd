"""The pages of operators, over HTTP (SEC-18, AUTH-42)."""

import re
from datetime import timedelta
from uuid import uuid4

import pytest

from actors.accounts import FRESH_FOR, Role
from tests.journeys.visitor import Visitor
from tests.web.accounts.test_entering import PASSWORD, form, get, register
from tests.web.whole_site import WholeSite, open_whole_site
from web.routing import paths

pytestmark = pytest.mark.slow

SESSIONS, AUDIT = paths.OPS_SIGN_INS, paths.OPS_AUDIT


async def operator(site: WholeSite) -> Visitor:
    visitor = await register(site, username="grace", email="grace@example.org")
    assert await site.accounts.grant("grace", Role.ADMIN) is Role.USER
    return visitor


async def test_an_operator_ends_one_those_of_a_member_and_all() -> None:
    # SEC-18
    async with open_whole_site() as site:
        grace, ada = await operator(site), await register(site)
        typed = {"email": "ada@example.org", "password": PASSWORD}
        other, third = site.visitor(), site.visitor()
        for visitor in (other, third):
            assert (await form(visitor, "/login", **typed)).status == 303
        page = await get(grace, f"{SESSIONS}?user=ADA")
        assert page.status == 200
        assert page.headers["cache-control"] == "no-store"
        assert "grace</bdi> <span" not in page.text
        newest, *_ = re.findall(r'session_ref" value="([^"]+)"', page.text)
        answer = await form(grace, SESSIONS, session_ref=newest)
        assert (answer.status, answer.headers["location"]) == (303, f"{SESSIONS}?ended=1")
        assert "1 ended." in (await get(grace, answer.headers["location"])).text
        assert (await get(third, "/account")).status == 303, "its sign-in was the newest"
        assert (await get(other, "/account")).status == 200
        for unknown in (newest, str(uuid4()), "nonsense"):
            assert (await form(grace, SESSIONS, session_ref=unknown)).status == 404, unknown
        for unknown in ("nobody", "<b>", str(uuid4())):
            assert (await form(grace, SESSIONS, user=unknown)).status == 404, unknown
        assert (await form(grace, SESSIONS)).status == 400
        assert (await get(ada, "/account")).status == 200, "nothing was done"
        assert (await form(grace, SESSIONS, user="ada")).status == 303
        assert (await get(ada, "/account")).status == 303
        await register(site, username="eve", email="eve@example.org")
        assert (await form(grace, SESSIONS, all="1")).headers["location"].endswith("ended=2")
        assert (await get(grace, SESSIONS)).status == 303, "the operator's own ended too"


async def test_the_audit_is_searched_by_member_act_day_and_outcome() -> None:
    # AUTH-42, SEC-134
    async with open_whole_site() as site:
        grace = await operator(site)
        await register(site)
        await form(site.visitor(), "/login", email="ada@example.org", password="wrong words")
        assert (await form(grace, SESSIONS, user="ada")).status == 303
        whole = await get(grace, AUDIT)
        assert whole.status == 200
        for kept_out in ("example.org", "127.0.0.1", "grace@", PASSWORD, "wrong words"):
            assert kept_out not in whole.text
        acts = re.compile(r"<td><code>([a-z_.]+)</code>")
        assert acts.findall(whole.text) == [
            "account.sign_in_end", "account.sign_in", "account.device_add", "account.register",
            "account.role", "account.device_add", "account.register",
        ]  # fmt: skip
        for query, found in (
            ("user=ada&act=account.register", 1),
            ("outcome=refused", 1),
            ("outcome=accepted&user=ada", 3),
            ("since=2020-01-01&until=2020-01-02", 0),
            (f"since=2020-01-01&user={uuid4()}", 0),
            ("before=1", 0),
        ):
            assert len(acts.findall((await get(grace, f"{AUDIT}?{query}")).text)) == found, query
        (ended,) = re.findall(
            r"<code>account\.sign_in_end</code>.*?</tr>", whole.text, flags=re.DOTALL
        )
        assert '<span class="fact">by <bdi>' in ended
        wrong = ("since=yesterday", "outcome=maybe", "before=0", "before=x", f"act={'x' * 99}")
        assert [(await get(grace, f"{AUDIT}?{one}")).status for one in wrong] == [400] * 5
        assert (await get(grace, f"{AUDIT}?user=nobody")).status == 404


async def test_who_is_no_operator_or_proved_it_long_ago_sees_and_ends_nothing() -> None:
    # SEC-18, SEC-20
    async with open_whole_site() as site:
        grace, ada = await operator(site), await register(site)
        await site.accounts.grant("ada", Role.MODERATOR)
        for path in (SESSIONS, AUDIT):
            assert (await get(ada, path)).status == 403
            assert (await get(site.visitor(), path)).status == 303
        assert (await form(ada, SESSIONS, all="1")).status == 403
        for row in site.accounts.database.sign_ins.values():
            row.proven_at -= FRESH_FOR + timedelta(seconds=1)
        refused = await form(grace, SESSIONS, all="1")
        assert (refused.status, refused.headers["x-greenroom-step-up"]) == (403, "BASIC")
        for path in (SESSIONS, AUDIT):
            assert (await get(grace, path)).status == 403
        assert (await get(ada, "/account")).status == 200
