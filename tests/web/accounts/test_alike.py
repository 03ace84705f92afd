"""Nobody learns whose an address is: each form answers alike, with the same work (SEC-77)."""

from __future__ import annotations

import json
import re

import pytest

from storage.memory.database import UserRow
from tests.journeys.visitor import Answer, Visitor
from tests.web.accounts.test_entering import form, get, register
from tests.web.accounts.test_links import ASK, OPEN, SEND, Post, let_limits_go, open_post, post
from tests.web.accounts.test_second_factors import with_app
from tests.web.whole_site import WholeSite

pytestmark = pytest.mark.slow

WRONG = "wrong words"


def user(site: WholeSite, email: str) -> UserRow:
    (found,) = [one for one in site.accounts.database.users.values() if one.email == email]
    return found


async def everybody(town: Post) -> list[str]:
    """Make an account of each kind there is; gives their addresses, and such as nobody has."""
    site = town.site
    await register(site)
    await with_app(site, username="second", email="second@example.org")
    guest = site.visitor()
    token = await town.ask(guest, "link@example.org")
    assert (await form(guest, OPEN, token=token)).status == 303
    for name in ("doubted", "guarded"):
        await register(site, username=name, email=f"{name}@example.org")
    now = site.accounts.database.now()
    user(site, "doubted@example.org").doubted_since = now
    user(site, "guarded@example.org").guarded_until = now
    let_limits_go(site)
    known = ["ada", "second", "link", "doubted", "guarded"]
    return [f"{name}@example.org" for name in (*known, "nobody", "blocked")]


def shown(answer: Answer) -> tuple[object, ...]:
    """What an answer tells, without what is made anew for each."""
    text = re.sub(r'"[\w=-]{88}"|nonce="[^"]+"|<bdi>[^<]+</bdi>', "", answer.text)
    headers = {name: answer.headers[name] for name in sorted(answer.headers) if name in TOLD}
    return (answer.status, *headers.items(), re.sub(r'value="[^"]*"', "", text))


TOLD = {"content-type", "location", "www-authenticate", "cache-control", "retry-after"}


async def test_a_wrong_password_is_one_answer_and_one_hash_for_whomever() -> None:
    # SEC-77, SITE-35: with a second factor, without a password, doubted, guarded, and for nobody
    async with open_post() as town:
        site = town.site
        addresses = [*await everybody(town), "ADA@EXAMPLE.ORG ", "no address", "a\0b@example.org"]
        told = set[tuple[object, ...]]()
        for email in addresses:
            let_limits_go(site)
            before = site.passwords.made
            answer = await form(site.visitor(), "/login", email=email, password=WRONG)
            assert (answer.status, site.passwords.made) == (401, before + 1), email
            told.add(shown(answer))
        assert len(told) == 1


async def test_who_asks_for_a_link_is_told_the_same_without_a_hash() -> None:
    # SEC-77, AUTH-2: by the form and by the API
    async with open_post() as town:
        site, told = town.site, set[tuple[object, ...]]()
        addresses = await everybody(town)
        before = site.passwords.made
        for email in addresses:
            let_limits_go(site)
            told.add(shown(await form(site.visitor(), ASK, email=email)))
            by_api = await post(site.visitor(), SEND, email=email)
            told.add((by_api.status, by_api.text.replace(email, "")))
        assert len(told) == 2
        assert site.passwords.made == before


async def test_who_asks_for_a_challenge_is_told_the_same_shape() -> None:
    # SEC-77, SEC-106: of nobody the ids are made up, and stay what they are
    async with open_post() as town:
        site = town.site
        addresses = await everybody(town)
        shapes, seen = set[str](), dict[str, list[str]]()
        for email in [*addresses, *addresses]:
            let_limits_go(site)
            answer = await post(site.visitor(), "/api/v1/auth/passkey/login/begin", email=email)
            assert answer.status == 200, answer.text
            found = json.loads(answer.body)
            ids = found["allowed_credentials"]
            assert seen.setdefault(email, ids) == ids, "the same each time"
            asked = found["options"].pop("allowCredentials")
            assert [one["id"] for one in asked] == ids
            assert len(ids) in (1, 2), "as people have them"
            found["options"]["challenge"] = found["challenge"] = ""
            found["allowed_credentials"] = []
            shapes.add(json.dumps([found, {*map(tuple, asked)} == {("type", "id")}]))
        assert len(shapes) == 1, shapes
        page: Visitor = site.visitor()
        assert "link@example.org" not in (await get(page, "/login")).text
