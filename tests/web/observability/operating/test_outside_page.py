"""The page of operators about what is called outside, over HTTP (RES-9)."""

from __future__ import annotations

import re

import pytest

from actors.accounts import Role
from storage.memory import MemoryAudit
from supervision import CircuitOpen
from tests.logged import captured
from tests.web.accounts.test_entering import form, get, register
from tests.web.accounts.test_operating import operator
from tests.web.whole_site import open_whole_site
from web.mail.routes.amazon import SNS
from web.routing import paths
from web.settings import Settings

pytestmark = pytest.mark.slow

TOPIC = "arn:aws:sns:eu-west-1:123456789012:mail"
SETTINGS = Settings(port=0, overload_late_ms=60_000, overload_after_ms=60_000, ses_topic=TOPIC)


async def _away() -> None:
    raise TimeoutError


async def _there() -> None:
    return


async def test_an_operator_sees_what_is_left_alone_and_has_it_called_again() -> None:
    # RES-9
    async with open_whole_site(settings=SETTINGS, has_documents=False) as site:
        grace = await operator(site)
        dependency = site.web.outside.dependency(SNS)
        quiet = (await get(grace, paths.OPS_OUTSIDE)).text
        assert re.search(r"<code>sns</code></th><td>called</td><td>0</td>", quiet)
        with captured():
            for _ in range(dependency.policy.breaker.failures):
                with pytest.raises(TimeoutError):
                    await dependency.call(_away)
        with pytest.raises(CircuitOpen):
            await dependency.call(_there)
        page = await get(grace, paths.OPS_OUTSIDE)
        assert page.headers["cache-control"] == "no-store"
        assert re.search(r"<strong>left alone</strong>, \d+ s more", page.text)
        assert "<td>5</td><td>5</td><td>100 %</td><td>1</td>" in page.text
        assert (await form(grace, paths.OPS_OUTSIDE, dependency=SNS, reason="a\nb")).status == 400
        answer = await form(grace, paths.OPS_OUTSIDE, dependency=SNS, reason="Amazon <is> back")
        assert (answer.status, answer.headers["location"]) == (303, "/ops/outside?tried=sns")
        assert "is called again at once" in (await get(grace, "/ops/outside?tried=sns")).text
        await dependency.call(_there)
        # RES-3: who did it, and why, whatever they wrote
        audit = (await get(grace, f"{paths.OPS_AUDIT}?act=outside.reset")).text
        assert audit.count("<td><code>outside.reset</code></td><td>done</td>") == 1
        assert "because: <bdi>Amazon &lt;is&gt; back</bdi>" in audit


async def test_a_reset_that_cannot_be_audited_is_none() -> None:
    # RES-3
    async with open_whole_site(settings=SETTINGS, has_documents=False) as site:
        grace, dependency = await operator(site), site.web.outside.dependency(SNS)
        with captured():
            for _ in range(dependency.policy.breaker.failures):
                with pytest.raises(TimeoutError):
                    await dependency.call(_away)
        audit = site.web.accounts.audit
        assert isinstance(audit, MemoryAudit)
        audit.fail_next()
        assert (await form(grace, paths.OPS_OUTSIDE, dependency=SNS)).status == 503
        assert dependency.stats().breaker.state == "open"


async def test_nobody_else_sees_or_changes_it_and_nonsense_is_no_name() -> None:
    # RES-9
    async with open_whole_site(settings=SETTINGS, has_documents=False) as site:
        grace, ada = await operator(site), await register(site)
        await site.accounts.grant("ada", Role.MODERATOR)
        assert (await get(ada, paths.OPS_OUTSIDE)).status == 403
        assert (await form(ada, paths.OPS_OUTSIDE, dependency=SNS)).status == 403
        for unknown in ("nobody", "", "<b>", "x" * 500):
            assert (await form(grace, paths.OPS_OUTSIDE, dependency=unknown)).status == 404
        assert (await form(grace, paths.OPS_OUTSIDE)).status == 404
        shown = (await get(grace, "/ops/outside?tried=%3Cb%3Enobody")).text
        assert "nobody" not in shown


async def test_a_site_that_calls_nothing_says_so() -> None:
    async with open_whole_site(has_documents=False) as site:
        page = await get(await operator(site), paths.OPS_OUTSIDE)
        assert "no mail server, no provider, no broker is set" in page.text
