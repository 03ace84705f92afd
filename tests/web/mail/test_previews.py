"""Templates of mail shown to who writes them: all of them, on this machine only."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import default
from functools import partial
from pathlib import Path

import pytest

from tests.web.accounts.test_entering import get
from tests.web.views import samples
from tests.web.whole_site import in_thread, open_whole_site
from web.mail.templates import FOLDER, TEMPLATES, MailTemplates
from web.settings import Settings

PAGE = "/dev/mail"


@pytest.mark.slow
async def test_all_templates_are_shown_with_both_parts() -> None:
    # MAIL-9
    async with open_whole_site(has_documents=False) as site:
        page = await get(site.visitor(), PAGE)
        assert page.status == 200
        text = samples.read(page.text).text
        for template in TEMPLATES:
            said = MailTemplates().render(template, template.sample)  # type: ignore[misc]  # reason: each is of its own context
            assert template.name in text
            for part in (said.subject, said.text, said.html):
                assert " ".join(part.split()) in " ".join(text.split()), template.name
            whole = await get(site.visitor(), f"{PAGE}/en/{template.name}")
            assert whole.headers["content-type"] == "message/rfc822"
            message = message_from_bytes(whole.body, policy=default)
            assert message["subject"] == said.subject
            kinds = [part.get_content_type() for part in message.iter_parts()]
            assert kinds == ["text/plain", "text/html"]
        for nothing in ("de/order", "en/frame", "en/nothing", "..%2fen/order", "EN/order"):
            assert (await get(site.visitor(), f"{PAGE}/{nothing}")).status == 404, nothing


@pytest.mark.slow
async def test_nobody_from_elsewhere_is_shown_them() -> None:
    # MAIL-9
    open_to_all = Settings(host="0.0.0.0", port=0)  # noqa: S104 - it is what is tried
    https = Settings(port=0, public_origin="https://greenroom.example")
    assert [Settings(port=0).is_desk, open_to_all.is_desk, https.is_desk] == [True, False, False]
    async with open_whole_site(settings=open_to_all, has_documents=False) as site:
        for path in (PAGE, f"{PAGE}/en/order"):
            assert (await get(site.visitor(), path)).status == 404
    async with open_whole_site(has_documents=False) as site:
        for path in (PAGE, f"{PAGE}/en/order"):
            proxied = partial(site.visitor().get, path, **{"x-forwarded-for": "203.0.113.9"})
            assert (await in_thread(proxied)).status == 404, "somebody stands in between"


def test_a_template_has_the_languages_in_which_all_of_it_is(tmp_path: Path) -> None:
    # MAIL-9
    for language, parts in (
        ("en", ("subject.txt", "txt", "html")),
        ("de", ("subject.txt", "txt", "html")),
        ("fr", ("subject.txt", "txt")),
    ):
        (tmp_path / language).mkdir()
        for part in parts:
            (tmp_path / language / f"order.{part}").write_text("x")
    found = MailTemplates(tmp_path)
    assert found.languages("order") == ["en", "de"]
    assert {one.name for one in FOLDER.iterdir()} == {"en"}
    assert MailTemplates().languages("order") == ["en"]
