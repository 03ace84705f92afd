"""One client goes every wrong way against sign-in by a passkey, on the page and at the API."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

import pytest

from actors.accounts.ways.passkeys import CHALLENGE_KEPT
from tests.journeys.visitor import Answer, Visitor
from tests.passkeys import Authenticator, Ways
from tests.web.accounts.passkeys.test_passkeys_site import (
    WRONG,
    api,
    begun,
    challenge_in,
    device,
    made,
    snapshot,
    used,
    with_key,
)
from tests.web.accounts.test_entering import form
from tests.web.whole_site import WholeSite, open_whole_site

pytestmark = pytest.mark.slow


@dataclass
class Scene:
    """Ada, who is signed in, and her device; Eve, who has a passkey of her own; and a thief.

    The thief has Ada's device in their hands: all that is wrong is how it is used.
    """

    site: WholeSite
    ada: Visitor
    device: Authenticator
    eves: Authenticator
    thief: Visitor

    async def replayed(self) -> str:
        """The browser is the same: what was used is wrong."""
        credential = await used(self.thief, self.device)
        copy = Visitor(self.site.url, dict(self.thief.cookies))
        assert (await form(copy, "/login/passkey", credential=credential)).status == 303
        return credential

    async def of_another_browser(self) -> str:
        """Begun in one, brought by another."""
        return await used(self.site.visitor(), self.device)

    async def of_a_registration(self) -> str:
        """Its challenge is good for a new key only."""
        told = await begun(self.ada, "/passkey/register/begin", {})
        return json.dumps(self.device.use(challenge_in(told)))

    async def of_a_proof(self) -> str:
        """Its challenge is bound to a sign-in."""
        told = await begun(self.ada, "/step-up/begin", {})
        return json.dumps(self.device.use(challenge_in(told)))

    async def over(self) -> str:
        """After five minutes."""
        credential = await used(self.thief, self.device)
        for row in self.site.accounts.database.passkey_challenges.values():
            row_over = row.expires_at - CHALLENGE_KEPT - timedelta(seconds=1)
            object.__setattr__(row, "expires_at", row_over)
        return credential

    async def a_made_key(self) -> str:
        """What a registration answers is no sign-in."""
        told = await begun(self.thief, "/passkey/login/begin", {})
        return json.dumps(device(self.site).make(challenge_in(told), b"x"))

    async def of_nobody(self) -> str:
        """A key that nobody keeps."""
        stranger = device(self.site)
        stranger.make(b"c" * 32, self.device.keys[0].user_handle)
        return await used(self.thief, stranger)

    async def of_another_member(self) -> str:
        """Asked for with one address, and answered by another's key."""
        return await used(self.thief, self.eves, {"email": "ada@example.org"})

    async def in_anothers_name(self) -> str:
        """Eve's key says that it is Ada's."""
        ways = Ways(user_handle=self.device.keys[0].user_handle)
        return await used(self.thief, self.eves, ways=ways)

    async def under_anothers_id(self) -> str:
        """Eve's key under the id of Ada's."""
        ada = self.device.keys[0]
        ways = Ways(user_handle=ada.user_handle, change={"id": lambda _: ada.credential_id})
        return await used(self.thief, self.eves, ways=ways)

    async def of_a_key_that_is_gone(self) -> str:
        """Removed between the question and the answer."""
        spare, database = device(self.site), self.site.accounts.database
        credential = json.loads(await made(self.ada, spare))
        value = {"credential": credential, "end_others": False}
        added = json.loads((await api(self.ada, "/passkey/register/complete", value)).body)
        answer = await used(self.thief, spare)
        gone = await api(self.ada, f"/passkeys/{added['id']}?end_others=0", method="DELETE")
        assert gone.status == 200
        assert len(database.passkeys) == 2
        return answer

    async def asked_for_nobody(self) -> str:
        """An address that nobody has is asked with a made-up id; no key answers for it."""
        return await used(self.thief, self.device, {"email": "nobody@example.org"})


def changed(ways: Ways) -> Callable[[Scene], Awaitable[str]]:
    async def way(scene: Scene) -> str:
        return await used(scene.thief, scene.device, ways=ways)

    return way


WAYS: dict[str, Callable[[Scene], Awaitable[str]]] = {
    "replayed": Scene.replayed,
    "of another browser": Scene.of_another_browser,
    "of a registration": Scene.of_a_registration,
    "of a proof": Scene.of_a_proof,
    "over": Scene.over,
    "of nobody": Scene.of_nobody,
    "of another member": Scene.of_another_member,
    "in another's name": Scene.in_anothers_name,
    "under another's id": Scene.under_anothers_id,
    "of a key that is gone": Scene.of_a_key_that_is_gone,
    "asked for nobody": Scene.asked_for_nobody,
}
# A program is told of a shape that is none by its field, as for all bodies.
ON_THE_PAGE = {**WAYS, "a made key": Scene.a_made_key}
# On the page `test_passkeys_site.py` goes those of answers that were changed.
AT_THE_API = {**WAYS, **{f"changed, {number}": changed(one) for number, one in enumerate(WRONG)}}


@pytest.mark.parametrize(
    ("by_api", "ways"), [(False, ON_THE_PAGE), (True, AT_THE_API)], ids=["page", "api"]
)
async def test_every_wrong_way_is_one_answer_and_changes_nothing(
    by_api: bool, ways: Mapping[str, Callable[[Scene], Awaitable[str]]]
) -> None:
    # AUTH-43, SEC-100, SEC-101, SEC-104, SEC-106
    assert len(WRONG) + len(WAYS) >= 20
    async with open_whole_site() as site:
        ada, by, _ = await with_key(site, counts=False)
        _, eves, _ = await with_key(site, counts=False, username="eve", email="eve@example.org")
        database, told = site.accounts.database, set[tuple[object, ...]]()
        for name, way in ways.items():
            scene = Scene(site, ada, by, eves, site.visitor())
            credential = await way(scene)
            before = snapshot(database)
            answer = await brought(scene.thief, credential, by_api=by_api)
            assert answer.status == 401, f"{name}: {answer.text}"
            assert "gr_auth" not in scene.thief.cookies, name
            assert snapshot(database) == before, name
            told.add(_told(answer))
            database.attempts.clear()
        assert len(told) == 1, told
        other = site.visitor()
        right = await used(other, by)
        assert (await brought(other, right, by_api=by_api)).status in {303, 200}


async def brought(visitor: Visitor, credential: str, *, by_api: bool) -> Answer:
    if not by_api:
        return await form(visitor, "/login/passkey", credential=credential)
    return await api(visitor, "/passkey/login/complete", {"credential": json.loads(credential)})


def _told(answer: Answer) -> tuple[object, ...]:
    if answer.headers["content-type"] == "application/json":
        return tuple(re.findall(r'"(?:code|message)":"([^"]+)"', answer.text))
    return tuple(re.findall(r'role="alert">([^<]+)<', answer.text))
