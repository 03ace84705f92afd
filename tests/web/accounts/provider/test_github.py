"""GitHub, which has no id token: who somebody is stands in its API. As it answers, recorded."""

from __future__ import annotations

import msgspec
import pytest

from actors.accounts.ways.provider.words import Kind
from tests.web.accounts.provider.lying import open_provider
from tests.web.accounts.provider.town import Town, path_of
from tests.web.accounts.test_entering import get
from tests.web.whole_site import open_whole_site
from web.mail.senders.memory import MemorySender
from web.settings import Settings

pytestmark = pytest.mark.slow

_USER = msgspec.json.encode({"login": "ada", "id": 583231, "email": None, "type": "User"})
_EMAILS = [
    {"email": "old@elsewhere.org", "primary": False, "verified": True, "visibility": None},
    {"email": "ada@elsewhere.org", "primary": True, "verified": True, "visibility": "private"},
]
_DENIED = {"error": "bad_verification_code", "error_description": "The code is incorrect."}
_MISMATCH = {"error": "redirect_uri_mismatch", "error_description": "It must match."}


async def test_who_somebody_is_comes_from_its_api() -> None:
    # AUTH-4
    async with open_provider("github") as provider:
        url = provider.issuer
        github = provider.settings(
            kind=Kind.GITHUB,
            authorize_url=f"{url}/authorize",
            token_url=f"{url}/token",
            userinfo_url=f"{url}/user",
            scopes=("read:user", "user:email"),
        )
        settings = Settings(
            port=0, overload_late_ms=60_000, overload_after_ms=60_000, providers=(github,)
        )
        sender = MemorySender()
        async with open_whole_site(sender=sender, settings=settings) as site:
            town = Town(site, sender, [provider])

            async def come_back(emails: object = _EMAILS, **lies: object) -> tuple[int, str]:
                body = {"/user": _USER, "/user/emails": msgspec.json.encode(emails)}
                status = {"/user": 200, "/user/emails": 200}
                more = lies.pop("more", {})
                assert isinstance(more, dict)
                town.lie(body={**body, **more}, status=status, **lies)
                guest = site.visitor()
                began = await town.begin(guest, "github")
                # It says nothing of who it is.
                back = provider.agree(began.headers["location"]).split("&iss=")[0]
                answer = await get(guest, path_of(back))
                return answer.status, answer.text

            assert (await come_back())[0] == 303
            (row,) = site.accounts.database.identities.items()
            assert (row[0].subject, row[1].provider) == ("583231", "github")
            for emails in ([], [_EMAILS[0]], [{**_EMAILS[1], "verified": False}]):
                assert (await come_back(emails))[0] == 400
            # It says what is wrong with a 200.
            denied = {"/token": msgspec.json.encode(_DENIED)}
            assert (await come_back(more=denied))[0] == 400
            # Our own settings are wrong: another address is registered there than ours.
            mismatch = {"/token": msgspec.json.encode(_MISMATCH)}
            status, text = await come_back(more=mismatch)
            assert (status, "does not answer just now" in text) == (503, True)
            assert len(site.accounts.database.identities) == 1
