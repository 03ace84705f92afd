"""The risk of sign-ins on the whole site: the outcomes in every way in, and what each leaves."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import asdict
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from actors.accounts.kept.devices.fingerprint import WEIGHTS as PARTS
from actors.accounts.kept.risk.places import parse_places
from actors.accounts.kept.risk.port import JudgedLogin
from actors.accounts.kept.risk.rules import WEIGHTS, RiskRules, parse_weights
from actors.accounts.kept.risk.words import RiskMode
from actors.runtime import open_actors
from tests.journeys.visitor import Answer, Visitor
from tests.logged import captured, configured_for
from tests.patience import until
from tests.web.accounts.passkeys.test_passkeys_site import (
    TYPED,
    api,
    begun,
    challenge_in,
    used,
    with_key,
)
from tests.web.accounts.provider.town import open_town
from tests.web.accounts.test_entering import PASSWORD, form, get, register
from tests.web.accounts.test_links import OPEN, Post, open_post
from tests.web.accounts.test_second_factors import ticket_of
from tests.web.routing.test_sweeps import everything_logged
from tests.web.whole_site import WholeSite
from web.accounts.ways.risk.places_file import Breached, BreachedWatch, Places, PlacesWatch
from web.settings import Fingerprints

pytestmark = pytest.mark.slow

ADA, ALLOW = "ada@example.org", "/account/allow"
NL, ES = "127.0.0.1,NL,52.37,4.90,", "127.0.0.1,ES,40.42,-3.70,"
# What every sign-in is, with these for borders.
MEDIUM, HIGH, CRITICAL = (0.0, 1.0, 1.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)


def is_at(site: WholeSite, line: str) -> None:
    """Say where this machine is, as the operator's table does."""
    site.web.places.table = parse_places([line])


def so_long_ago(site: WholeSite, ago: timedelta) -> None:
    """Let all sign-ins have been made earlier, as those are told that come."""
    for row in site.accounts.database.logins.values():
        object.__setattr__(row.past, "at", row.past.at - ago)


def newest(site: WholeSite) -> JudgedLogin:
    return list(site.accounts.database.logins.values())[-1].login


async def links_to(post: Post, number: int) -> dict[str, str]:
    """The tokens of a mail, by the page they lead to."""
    await until(lambda: len(post.sender.outbox_of(ADA)) >= number)
    text = post.sender.outbox_of(ADA)[number - 1].mail.text
    return dict(re.findall(r"https?://[^/]+(/\S+)\?token=(\S+)", text))


def code_of(answer: Answer) -> str:
    return str(json.loads(answer.body)["code"])


async def log_in(visitor: Visitor) -> Answer:
    return await form(visitor, "/login", **TYPED)


async def test_a_first_sign_in_and_a_known_browser_are_as_ever() -> None:
    # AUTH-24, AUTH-30, SEC-10: a visitor of today is asked for nothing more
    async with open_post() as post:
        site = post.site
        visitor = await register(site)
        cookie = visitor.cookies["gr_device"]
        answer = await form(visitor, "/logout")
        answer = await log_in(visitor)
        assert answer.status == 303
        assert re.search(
            r"gr_device=[0-9a-f]{32}\.[\w-]{43}; Path=/; HttpOnly; SameSite=Lax; Max-Age=31536000",
            answer.headers["set-cookie"],
        )
        assert visitor.cookies["gr_device"] == cookie
        found = newest(site)
        assert (found.level, found.factors) == ("low", "password +0.15, account_young +0.05")
        assert (await form(visitor, "/account/sessions/revoke", others="1")).status == 303
        assert post.sender.outbox_of(ADA) == []
        page = await get(visitor, "/account")
        assert "Your devices" in page.text
        assert "unlike your others" not in page.text
        (device,) = site.accounts.database.devices.values()
        assert device.logins == 2
        # A forged one is none: another device, which is not known.
        # Not by its last sign, of which not all bits count.
        visitor.cookies["gr_device"] = (
            cookie[:-2] + ("A" if cookie[-2] != "A" else "B") + cookie[-1]
        )
        await log_in(visitor)
        assert len(site.accounts.database.devices) == 2


async def test_a_new_device_changes_nothing_for_a_day() -> None:
    # AUTH-32, SEC-80: medium, without a second factor
    async with open_post() as post:
        site = post.site
        owner = await register(site)
        other = site.visitor()
        with configured_for(logging.INFO), capture_logs() as lines:
            answer = await log_in(other)
        assert answer.status == 303
        assert "0.4" not in str(lines), "the parts are of the audit"
        await until(lambda: len(post.sender.outbox_of(ADA)) == 1)
        assert "a device it was not used from before" in post.sender.outbox_of(ADA)[0].mail.text
        page = await get(other, "/account")
        assert "unlike your others" in page.text
        assert "device_new" not in page.text
        for path in ("/account/sessions/revoke", "/account/factors/app/new", "/account/delete"):
            refused = await form(other, path, others="1", password=PASSWORD)
            assert refused.status == 403, path
            assert refused.headers["x-greenroom-step-up"] == "MULTIFACTOR", "as programs are told"
            assert "nobody has confirmed it" in refused.text
            assert 'name="password"' not in refused.text, "no proof there is would be enough"
        (_, device) = site.accounts.database.devices
        refused = await api(other, f"/devices/{device}", method="DELETE")
        assert (refused.status, code_of(refused)) == (
            403, "STEP_UP_REQUIRED",
        )  # fmt: skip
        assert len(site.accounts.database.sign_ins) == 2, "nothing was done"
        assert (await form(owner, "/account/sessions/revoke", others="1")).status == 303
        login = newest(site)
        assert (login.score, login.level, login.outcome) == (0.40, "medium", "limited")
        stream = site.accounts.database.streams[f"user-{login.user_id}"]
        told = [json.loads(one.data) for one in stream if one.type == "UserLoggedIn"][-1]
        assert (told["risk"], told["risk_level"], told["risk_outcome"]) == (
            "0.40", "medium", "limited",
        )  # fmt: skip
        assert told["risk_factors"] == login.factors


@pytest.mark.parametrize("is_new_device", [False, True], ids=["high", "critical"])
async def test_a_traveller_of_a_quarter_comes_in_by_the_mail_and_changes_nothing(
    is_new_device: bool,
) -> None:
    # AUTH-30, AUTH-32, SEC-80: 1,480 km away after 15 minutes
    async with open_post(risk_weights=parse_weights("hour_new=0")) as post:
        site = post.site
        is_at(site, NL)
        owner = await register(site)
        registered = next(iter(site.accounts.database.logins.values()))
        assert registered.login.country == "NL"
        so_long_ago(site, timedelta(minutes=15))
        is_at(site, ES)
        visitor = site.visitor() if is_new_device else owner
        await form(visitor, "/logout")
        sign_ins = len(site.accounts.database.sign_ins)
        with configured_for(logging.INFO), capture_logs() as lines:
            refused = await log_in(visitor)
        assert (refused.status, visitor.cookies.get("gr_auth", "")) == (403, "")
        assert ("was refused" if is_new_device else "A mail is on its way") in refused.text
        assert len(site.accounts.database.sign_ins) == sign_ins
        login = newest(site)
        assert login.level == ("critical" if is_new_device else "high")
        assert "travel +0.40" in login.factors
        assert "travel" not in refused.text
        (told,) = [one for one in lines if one.get("outcome") == "withheld"]
        assert told["login_id"] == str(login.id)
        links = await links_to(post, 1)
        assert links.keys() == {ALLOW, "/account/not-me"}
        token = links[ALLOW]
        reader = site.visitor()
        for _ in range(2):
            page = await get(reader, f"{ALLOW}?token={token}")
            assert "Was it you who tried to sign in?" in page.text
        assert (await log_in(visitor)).status == 403, "looking allows nothing"
        allowed = await form(reader, ALLOW, token=token)
        assert (allowed.status, allowed.headers["location"]) == (303, f"{ALLOW}?done=1")
        assert "One more attempt" in (await get(reader, f"{ALLOW}?done=1")).text
        again = [await form(reader, ALLOW, token=one) for one in (token, f"{token}=", "x", "")]
        assert {one.status for one in again} == {401}
        assert (await log_in(site.visitor())).status == 403, "it is of that device"
        entered = await log_in(visitor)
        assert entered.status == 303
        refused = await form(visitor, "/account/sessions/revoke", others="1")
        assert refused.status == 403
        await form(visitor, "/logout")
        so_long_ago(site, timedelta(0))
        assert (await get(visitor, "/account")).status == 303


async def test_who_has_a_passkey_is_asked_for_it() -> None:
    # AUTH-30, AUTH-33: high, by a code; then by the key
    async with open_post(risk_weights=parse_weights("hour_new=0")) as post:
        site = post.site
        is_at(site, NL)
        visitor, by, codes = await with_key(site)
        so_long_ago(site, timedelta(minutes=15))
        is_at(site, ES)
        half = await log_in(visitor)
        asked = await form(visitor, "/login/second", ticket=ticket_of(half), code=codes[0])
        assert (asked.status, newest(site).outcome) == (403, "asked_passkey")
        assert "one of your passkeys" in asked.text
        told = await begun(visitor, "/passkey/login/begin", {"ticket": ticket_of(asked)})
        credential = json.dumps(by.use(challenge_in(told)))
        entered = await form(
            visitor, "/login/second/passkey", ticket=ticket_of(asked), credential=credential
        )
        assert (entered.status, newest(site).outcome) == (303, "entered"), entered.text
        assert (await form(visitor, "/account/sessions/revoke", others="1")).status == 303


async def test_each_way_in_of_critical_risk_is_refused() -> None:
    # AUTH-30, AUTH-33: nobody is signed in, by a password, a link, a provider, a passkey
    async with open_post(risk_levels=CRITICAL) as post:
        site = post.site
        visitor, by, _ = await with_key(site)
        site.accounts.database.sign_ins.clear()
        for body in ({}, {"transport": "cookie"}):
            credential = json.loads(await used(visitor, by))
            answer = await api(
                visitor, "/passkey/login/complete", {"credential": credential, **body}
            )
            assert (answer.status, code_of(answer)) == (403, "FORBIDDEN")
        page = await form(visitor, "/login/passkey", credential=await used(visitor, by))
        assert page.status == 403
        bob = await register(site, username="bob", email="bob@example.org")
        await form(bob, "/logout")
        assert (await form(bob, "/login", email="bob@example.org", password=PASSWORD)).status == 403
        link = await post.ask(bob, "bob@example.org", 2)
        assert (await form(bob, OPEN, token=link)).status == 403
        program = site.visitor()
        link = await post.ask(program, "bob@example.org", 4)
        told = await api(program, "/magic-link/verify", {"token": link})
        assert (told.status, code_of(told)) == (403, "FORBIDDEN")
        assert site.accounts.database.sign_ins == {}
    async with open_town(risk_levels=CRITICAL) as town:
        guest = town.site.visitor()
        assert (await town.sign_in(guest)).status == 403
        assert town.site.accounts.database.sign_ins == {}
        assert "gr_auth" not in guest.cookies


async def test_what_each_way_in_is_asked_of_high_and_medium_risk() -> None:
    # AUTH-30, AUTH-33: a link is the mailbox, a passkey is both factors
    async with open_post(risk_levels=HIGH) as post:
        site = post.site
        visitor, by, _ = await with_key(site)
        credential = await used(visitor, by)
        assert (await form(visitor, "/login/passkey", credential=credential)).status == 303
        assert newest(site).outcome == "entered"
        guest = site.visitor()
        token = await post.ask(guest, "new@example.org")
        assert (await form(guest, OPEN, token=token)).status == 303
        assert newest(site).outcome == "limited"
    async with open_town(risk_levels=HIGH) as town:
        assert (await town.sign_in(town.site.visitor())).status == 403
        assert newest(town.site).outcome == "asked_mail"
    async with open_town(risk_levels=MEDIUM, has_mail=False) as town:
        assert (await town.sign_in(town.site.visitor())).status == 303
        assert newest(town.site).outcome == "limited"


async def test_a_program_is_known_by_what_its_device_shows() -> None:
    # AUTH-24, SEC-114: by twelve parts of thirteen, of one account, and told and kept nowhere
    parts = {name: f"the very {name}" for name in PARTS}
    with everything_logged() as lines:
        async with open_post(fingerprints=Fingerprints.ON) as post:
            site = post.site
            _, by, _ = await with_key(site)
            rows = site.accounts.database.devices

            async def come(shown: object, visitor: Visitor | None = None, **more: str) -> Answer:
                program = visitor or site.visitor()
                credential = json.loads(await used(program, by))
                given = {"credential": credential, "fingerprint": shown, **more}
                return await api(program, "/passkey/login/complete", given)

            for shown in (parts, {**parts, "memory": "more"}):
                assert (await come(shown)).status == 200
            assert [one.logins for one in rows.values()] == [1, 2]
            assert "device_new" not in newest(site).factors
            keeper = site.visitor()
            assert (await come(parts, keeper, transport="cookie")).status == 200
            assert (await come(None, keeper)).status == 200
            assert [one.logins for one in rows.values()] == [1, 4], "the cookie is that of it"
            assert (await come({**parts, "canvas": "x", "webgl": "x"})).status == 200
            assert (len(rows), "device_new" in newest(site).factors) == (3, True)
            assert (await come({"cpu": "8"})).status == 200
            assert len(rows) == 3, "one part tells no device"
            for wrong, name in (
                ({**parts, "colour": "x"}, "`colour`"), ({"cpu": 8}, "fingerprint.cpu"),
                ({"cpu": "x" * 65_537}, "fingerprint.cpu"), ({"cpu": "\0"}, "fingerprint.cpu"),
                ([], "fingerprint"), ("x", "fingerprint"),
            ):  # fmt: skip
                refused = await come(wrong)
                assert (refused.status, name in refused.text) == (422, True), wrong
            bob = await register(site, username="bob", email="bob@example.org")
            link = await post.ask(bob, "bob@example.org")
            bob.cookies.pop("gr_device")
            answer = await api(bob, "/magic-link/verify", {"token": link, "fingerprint": parts})
            assert answer.status == 200, answer.text
            assert "device_new" in newest(site).factors
            hers, his = list(rows.values())[1], list(rows.values())[-1]
            assert hers.fingerprint is not None
            assert his.fingerprint is not None
            assert not {hers.fingerprint[at : at + 32] for at in range(0, 416, 32)} & {
                his.fingerprint[at : at + 32] for at in range(0, 416, 32)
            }
            events = repr(site.accounts.database.streams) + repr(site.accounts.database.audit)
    assert "the very" not in repr(lines) + events


async def test_the_site_collects_nothing_that_devices_show() -> None:
    # AUTH-24, SEC-114: the field is one that is not known
    async with open_post() as post:
        visitor, by, _ = await with_key(post.site)
        before = len(post.site.accounts.database.sign_ins)
        for path, more in (
            ("/passkey/login/complete", {"credential": json.loads(await used(visitor, by))}),
            ("/magic-link/verify", {"token": "x"}), ("/second", {"ticket": "x", "code": "1"}),
        ):  # fmt: skip
            refused = await api(visitor, path, {**more, "fingerprint": {"cpu": "8"}})
            assert (refused.status, "fingerprint" in refused.text) == (422, True), path
        assert len(post.site.accounts.database.sign_ins) == before


async def test_observed_or_off_nothing_is_asked() -> None:
    # AUTH-33
    async with open_post(risk=RiskMode.OBSERVE, risk_levels=CRITICAL) as post:
        site = post.site
        visitor = await register(site)
        await form(visitor, "/logout")
        assert (await log_in(visitor)).status == 303
        found = newest(site)
        assert (found.outcome, found.unobserved, found.level) == ("entered", "refused", "critical")
        assert (await form(visitor, "/account/sessions/revoke", others="1")).status == 303
        assert post.sender.outbox_of(ADA) == []
    async with open_post(risk=RiskMode.OFF, risk_levels=CRITICAL) as post:
        visitor = await register(post.site)
        assert (await log_in(visitor)).status == 303
        assert (newest(post.site).score, newest(post.site).level) == (None, "")
        assert len(post.site.accounts.database.devices) == 1


async def test_without_mail_nobody_is_locked_out_and_the_gravest_is_refused() -> None:
    # AUTH-30
    async with open_town(risk_levels=HIGH, has_mail=False) as town:
        assert (await town.sign_in(town.site.visitor())).status == 303
    async with open_town(risk_levels=CRITICAL, has_mail=False) as town:
        refused = await town.sign_in(town.site.visitor())
        assert refused.status == 403
        assert "by mail" not in refused.text


async def test_own_devices_are_listed_named_trusted_and_removed() -> None:
    # AUTH-24, AUTH-25, SEC-19
    async with open_post() as post:
        site = post.site
        ada = await register(site)
        bob = await register(site, username="bob", email="bob@example.org")
        listed = json.loads((await api(ada, "/devices", method="GET")).body)
        (device,) = listed["devices"]
        assert (device["trust"], device["logins"], listed["next_offset"]) == ("unknown", 1, None)
        path = f"/devices/{device['id']}"
        for who, wrong in ((bob, path), (ada, "/devices/nonsense"), (ada, f"/devices/{'0' * 32}")):
            for method, way in (("DELETE", wrong), ("POST", f"{wrong}/trust")):
                answer = await api(who, way, method=method)
                assert answer.status == 404, way
                assert code_of(answer) == "NOT_FOUND"
        named = await api(ada, f"{path}/trust", {"name": "<b>"})
        assert named.status == 422
        assert (await api(ada, f"{path}/trust", {"name": "laptop"})).status == 200
        for offset in ("-1", "1001", "x", "99999"):
            assert (await api(ada, f"/devices?offset={offset}", method="GET")).status == 422
        page = (await get(ada, "/account")).text
        assert "<bdi>laptop</bdi>" in page
        assert '<span class="badge">trusted</span>' in page
        fields = {"device": device["id"]}
        wrong_name = await form(ada, "/account/devices/name", **fields, name='"x')
        assert (wrong_name.status, "without &lt; &gt;" in wrong_name.text) == (422, True)
        assert (await form(ada, "/account/devices/name", **fields, name="phone")).status == 303
        assert (await form(bob, "/account/devices/name", **fields, name="mine")).status == 404
        assert (await form(bob, "/account/devices", **fields, act="revoke")).status == 404
        assert (await form(ada, "/account/devices", **fields, act="nothing")).status == 404
        assert (await form(ada, "/account/devices", **fields, act="trust")).status == 303
        removed = await api(ada, path, method="DELETE")
        assert json.loads(removed.body)["sessions_ended"] == 1
        assert (await get(ada, "/account")).status == 303
        assert (await get(bob, "/account")).status == 200


async def test_a_mailbox_of_a_breach_weighs_and_is_told_to_nobody(tmp_path: Path) -> None:
    # AUTH-30, AUTH-31, SEC-131: from the file of the setting, through the site's own tree
    file = tmp_path / "breached.txt"
    file.write_text(f"# of a spring\n{sha256(ADA.encode()).hexdigest()}\nnonsense\n")
    with captured() as lines:
        async with open_post(risk_breached=file, risk_weights=parse_weights("hour_new=0")) as post:
            site = post.site
            owner, eve = await register(site), site.visitor()
            await form(owner, "/logout")
            answer = await log_in(owner)
            assert (answer.status, "breach" in answer.text) == (303, False)
            assert "breached +0.15" in newest(site).factors
            await register(site, username="eve", email="eve@example.org")
            typed = {"email": "eve@example.org", "password": PASSWORD}
            assert (await form(eve, "/login", **typed)).status == 303
            assert "breached" not in newest(site).factors
    told = [one for one in lines if str(one["event"]).startswith("risk.breached")]
    assert [one["event"] for one in told] == ["risk.breached_line"]
    assert (site.web.breached.table.lines_count, site.web.breached.table.broken_count) == (2, 1)
    assert "nonsense" not in str(told)


async def test_the_list_of_breaches_is_read_again_when_it_changed(tmp_path: Path) -> None:
    # AUTH-31: one that cannot be read leaves the former
    file, breached = tmp_path / "breached.txt", Breached()
    file.write_text(f"{ADA}\n")

    async with open_actors() as system:
        await system.start(lambda: BreachedWatch(breached, file, 0.005))
        assert breached.has(ADA), "before anybody is served"
        with captured() as lines:
            file.unlink()
            await until(lambda: "risk.breached_unread" in str(lines))
        assert breached.has(ADA)
        file.write_text("eve@example.org\n\n")
        await until(lambda: breached.has("eve@example.org"))
        assert not breached.has(ADA)


async def test_the_table_of_addresses_is_read_again_when_it_changed(tmp_path: Path) -> None:
    # AUTH-31
    file, places = tmp_path / "places.csv", Places()
    file.write_text(f"{NL}\nbroken\n")

    async def seen(country: str) -> None:
        await until(lambda: places.of("127.0.0.1").country == country)

    async with open_actors() as system:
        await system.start(lambda: PlacesWatch(places, file, 0.005))
        assert places.of("127.0.0.1").country == "NL", "before anybody is served"
        assert places.table.problems == ["line 2: has 1 fields, not 5"]
        file.unlink()
        file.write_text(f"{ES}\n\n")
        await seen("ES")
        file.unlink()
        # What cannot be read leaves the former; and a new one is seen.
        file.write_text(f"{NL}\n# again\n")
        await seen("NL")


def test_the_figures_of_the_page_are_those_of_the_program() -> None:
    # AUTH-30
    page = (Path(__file__).parents[3] / "docs/explain/security.md").read_text()
    told = dict(re.findall(r"\| `([a-z_]+)` \| (-?[\d.]+) \|", page))
    assert {name: float(weight) for name, weight in told.items()} == asdict(WEIGHTS)
    rules = RiskRules()
    for border in (rules.medium, rules.high, rules.critical):
        assert f"| from {border:.2f} |" in page
