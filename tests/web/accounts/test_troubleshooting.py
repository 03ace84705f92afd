"""What the page of a trouble tells is what is seen: each row is brought about here."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.logged import captured, configured_for
from tests.passkeys import RIGHT, Authenticator, Ways, b64
from tests.web.accounts.passkeys.test_passkeys_site import used, with_key
from tests.web.accounts.provider.town import open_town
from tests.web.accounts.test_entering import form, get
from tests.web.whole_site import WholeSite, open_whole_site
from web.accounts.ways.passkeys.passkeys import WRONG
from web.settings import BadSettings, read_settings

PAGE = (Path(__file__).parents[3] / "docs" / "how_to" / "sign_in.md").read_text()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"PUBLIC_ORIGIN": "https://a.example", "WEBAUTHN_RP_ID": "b.example"},
            "WEBAUTHN_RP_ID: must be the host of PUBLIC_ORIGIN",
        ),
        (
            {"PUBLIC_ORIGIN": "https://192.0.2.1", "SIGN_IN_METHODS": "password,passkey"},
            "SIGN_IN_METHODS: passkey needs a PUBLIC_ORIGIN with a name",
        ),
    ],
)
def test_a_domain_that_cannot_be_is_refused_at_the_start(
    given: Mapping[str, str], told: str
) -> None:
    # AUTH-7, SEC-101
    with pytest.raises(BadSettings) as caught:
        read_settings(given)
    assert any(told in problem for problem in caught.value.problems)
    assert f"`{told}`" in PAGE


@pytest.mark.slow
async def test_a_passkey_of_another_domain_or_origin_is_told_in_the_log() -> None:
    # DOC-4, AUTH-7, SEC-101: wrong rp id
    async with open_whole_site() as site:
        _, by, _ = await with_key(site, counts=False)
        for reason, ways in {
            "rp_id": Ways(rp_id="former.example"),
            "origin": Ways(client={"origin": f"http://127.0.0.1:{site.port}"}),
            "challenge": Ways(client={"challenge": b64(b"c" * 32)}),
        }.items():
            assert await refusal(site, by, ways) == reason
        assert await refusal(site, by, Ways(sign_count=5)) is None
        assert await refusal(site, by, Ways(sign_count=5)) == "counter"
        # What the script of the page compares the name it was opened by with.
        page = (await get(site.visitor(), "/login")).text
        assert 'name="domain" value="localhost"' in page


async def refusal(site: WholeSite, by: Authenticator, ways: Ways = RIGHT) -> str | None:
    """Sign in; why it was refused, as the log and the page say it."""
    visitor = site.visitor()
    with configured_for(logging.INFO), capture_logs() as lines:
        answer = await form(
            visitor, "/login/passkey", credential=await used(visitor, by, ways=ways)
        )
    site.accounts.database.attempts.clear()
    told = [one for one in lines if one["event"] == "accounts.passkey"]
    if not told:
        assert answer.status == 303
        return None
    assert WRONG in answer.text
    assert WRONG.split(".")[0] in PAGE
    reason = str(told[0]["reason"])
    assert f"with `{reason}` |" in PAGE
    return reason


@pytest.mark.slow
async def test_another_redirect_address_at_the_provider_is_told_in_the_log() -> None:
    # DOC-4, AUTH-5, SEC-90: told when the code is exchanged; who signs in has the other ways
    async with open_town() as town:
        for reason in ("redirect_uri_mismatch", "invalid_client"):
            town.asked.caller.reset()
            body = f'{{"error":"{reason}"}}'.encode()
            town.lie(status={"/token": 400}, body={"/token": body})
            with captured() as lines:
                answer = await town.sign_in(town.site.visitor())
            assert answer.status == 503
            assert "does not answer just now" in answer.text
            (line,) = [one for one in lines if one["event"] == "accounts.provider_refuses_us"]
            assert line["reason"] == reason
            assert f"`{reason}`" in PAGE
    assert "`accounts.provider_refuses_us`" in PAGE
