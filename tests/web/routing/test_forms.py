"""What each form of a page may say: no other field, and of one that is sent twice the last."""

from __future__ import annotations

from functools import partial
from urllib.parse import urlencode

import pytest

from actors.accounts import Role
from tests.web.accounts.passkeys.test_passkeys_site import snapshot
from tests.web.accounts.test_entering import PASSWORD, form, register
from tests.web.accounts.test_links import open_post
from tests.web.routing.test_routes_complete import SAMPLES
from tests.web.routing.test_sweeps import A_PROVIDER
from tests.web.whole_site import in_thread, open_whole_site
from web.accounts.roles.access import ACCESS
from web.routing import paths
from web.routing.forms import FORM, FORMS

pytestmark = pytest.mark.slow

# What is sent by machines of others.
ELSEWHERE = {paths.POLICY_REPORT, paths.MAIL_BOUNCE, paths.OAUTH_LEFT}
# What reads its form by a type (`read_command`).
COMMANDS = {
    paths.CHAT_JOIN, paths.CHAT_POST, paths.CHAT_POST_AS_DEMO, paths.DEMO_PANEL,
    paths.DEMO_COUNTER, paths.DEMO_GUARDED, paths.DEMO_CANCEL,
}  # fmt: skip


async def test_a_form_with_a_field_that_nobody_knows_is_refused_by_its_name() -> None:
    # SEC-114: each of them, by whoever may use it, and nothing is done
    async with open_post(providers=(A_PROVIDER,)) as post:
        site = post.site
        visitor = await register(site)
        database = site.accounts.database
        user = next(one for one in database.users.values() if one.username == "ada")
        swept = set[str]()
        for path, methods in ACCESS.items():
            access = methods.get("POST")
            if access is None or path.startswith("/api/") or path in ELSEWHERE:
                continue
            user.role = (access.role or Role.USER).value
            before = snapshot(database)
            sample = SAMPLES.get(path, path).replace("<provider>", A_PROVIDER.name)
            for name in ("role", "user_id", "status"):
                answer = await form(visitor, sample, **{name: "admin"})
                assert (answer.status, f"{name}: is not known here" in answer.text) == (
                    422, True,
                ), (path, answer.text)  # fmt: skip
            hidden = await form(visitor, sample, **{"my secret words": "x"})
            assert (hidden.status, "secret words" in hidden.text) == (422, False), path
            assert snapshot(database) == before, path
            swept.add(path)
        assert swept == FORMS.keys() | COMMANDS
        assert len(swept) > 42


async def test_of_a_field_that_was_sent_twice_the_last_counts_as_in_json() -> None:
    # SEC-114, SEC-120
    async with open_whole_site() as site:
        await register(site)
        for words, status in (((PASSWORD, "wrong words"), 401), (("wrong words", PASSWORD), 303)):
            pairs = [("email", "ada@example.org"), *(("password", one) for one in words)]
            answer = await in_thread(
                partial(
                    site.visitor().request, "POST", "/login", urlencode(pairs).encode(),
                    {"content-type": FORM, "sec-fetch-site": "same-origin"},
                )
            )  # fmt: skip
            assert answer.status == status
