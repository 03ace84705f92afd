"""What a provider gave is renewed before it is over, by a provider that is asked over real HTTP."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import cast

import pytest
import trio

from actors.accounts.ways.provider.identities import REFRESH_KEPT
from actors.accounts.ways.provider.renewing import LookForRenewals
from actors.accounts.ways.provider.words import ProviderTokens
from actors.runtime import Ref
from storage.memory.database import IdentityRow
from tests.logged import captured
from tests.patience import until
from tests.web.accounts.provider.town import Town, open_town, path_of
from tests.web.accounts.test_entering import get
from web.accounts.ways.provider.calling import PROVIDER

pytestmark = pytest.mark.slow


def row_of(town: Town) -> IdentityRow:
    (row,) = town.site.accounts.database.identities.values()
    return row


def tokens_of(town: Town) -> ProviderTokens:
    found = row_of(town).tokens
    assert found is not None
    return found


def make_due(town: Town) -> None:
    """Have the site's own renewer find that it is time."""
    row_of(town).renew_at = town.site.accounts.database.now()
    renewer = town.site.system.at("site/renewing")
    assert renewer is not None
    cast("Ref[LookForRenewals]", renewer.ref).tell(LookForRenewals())


def _begun(town: Town, tries: int) -> bool:
    return row_of(town).renewals_begun == tries


async def test_the_site_renews_what_is_due() -> None:
    # AUTH-6: with a refresh token that comes anew each time, and with one that stays
    async with open_town() as town:
        assert (await town.sign_in(town.site.visitor())).status == 303
        first = tokens_of(town)
        make_due(town)
        await until(lambda: tokens_of(town) != first)
        second = tokens_of(town)
        assert first.refresh is not None
        assert second.refresh is not None
        assert second.refresh.reveal() != first.refresh.reveal()
        assert second.access.reveal() != first.access.reveal()
        assert (row_of(town).renewals_begun, town.provider.calls["/token"]) == (0, 2)
        town.provider.rotates = False
        make_due(town)
        await until(lambda: tokens_of(town) != second)
        third = tokens_of(town)
        assert third.access.reveal() != second.access.reveal()
        # It keeps its age: its thirty days go on.
        assert (third.refresh, third.refresh_since) == (second.refresh, second.refresh_since)


async def test_what_is_refused_is_dropped_and_told() -> None:
    # AUTH-6, SEC-131
    async with open_town() as town:
        guest = town.site.visitor()
        assert (await town.sign_in(guest)).status == 303
        refused = tokens_of(town)
        town.provider.refresh.clear()
        with captured() as records:
            make_due(town)
            await until(lambda: row_of(town).tokens is None)
        told = [one for one in records if "accounts.tokens_dropped" in str(one)]
        assert len(told) == 1
        assert refused.refresh is not None
        for secret in (refused.access.reveal(), refused.refresh.reveal(), "ada-first"):
            assert secret not in repr(records)
        database = town.site.accounts.database
        assert [row.action for row in database.audit][-1] == "account.provider_tokens"
        assert row_of(town).renew_at is None
        # Its owner finds it on their page, and has others from there by the link that stands there.
        page = (await get(guest, "/account")).text
        assert "It takes no more what it gave" in page
        (again,) = set(re.findall(r'<a href="(/account/providers/[^"]+/link)"', page))
        to_provider = (await get(guest, again)).headers["location"]
        back = await get(guest, path_of(town.provider.agree(to_provider)))
        assert back.headers["location"] == "/account"
        assert row_of(town).renew_at is not None
        assert "It takes no more" not in (await get(guest, "/account")).text
        # So it is when they sign in by it.
        row_of(town).tokens = row_of(town).renew_at = None
        assert (await town.sign_in(guest)).status == 303
        assert row_of(town).renew_at is not None


async def test_one_that_is_away_is_tried_again_later_and_left_alone_meanwhile() -> None:
    # AUTH-6, SEC-95
    async with open_town() as town:
        assert (await town.sign_in(town.site.visitor())).status == 303
        kept = tokens_of(town)
        # Else what it gave with the answers that were lost is the only one it takes.
        town.provider.rotates = False
        town.lie(status={"/token": 500})
        for tries in range(1, PROVIDER.breaker.failures + 3):
            make_due(town)
            await until(partial(_begun, town, tries))
        asked = 1 + PROVIDER.breaker.failures
        await until(lambda: town.provider.calls["/token"] == asked)
        assert tokens_of(town) == kept
        town.lie()
        town.asked.caller.reset()  # half a minute later
        make_due(town)
        await until(lambda: tokens_of(town) != kept)
        assert (row_of(town).renewals_begun, town.provider.calls["/token"]) == (0, asked + 1)


async def test_while_the_store_is_away_nothing_is_asked() -> None:
    # AUTH-6
    async with open_town() as town:
        assert (await town.sign_in(town.site.visitor())).status == 303
        kept = tokens_of(town)
        with captured() as records:
            make_due(town)
            # For all who ask: another actor may come first.
            town.site.accounts.database.faults.fail_next(times=1_000_000)
            await until(lambda: "accounts.renewals_wait" in repr(records))
            town.site.accounts.database.faults.fail_next(times=0)
        assert town.provider.calls["/token"] == 1
        make_due(town)
        await until(lambda: tokens_of(town) != kept)


async def test_a_refresh_token_that_is_over_its_term_is_thrown_away() -> None:
    # AUTH-6
    async with open_town() as town:
        assert (await town.sign_in(town.site.visitor())).status == 303
        row, kept = row_of(town), tokens_of(town)
        assert kept.refresh_since is not None
        row.tokens = replace(kept, refresh_since=kept.refresh_since - REFRESH_KEPT)
        make_due(town)
        await until(lambda: tokens_of(town).refresh is None)
        assert (row.renew_at, town.provider.calls["/token"]) == (None, 1)


async def test_a_site_that_ends_while_it_asks_leaves_what_there_was() -> None:
    # AUTH-6
    async with open_town() as town:
        assert (await town.sign_in(town.site.visitor())).status == 303
        kept, database = tokens_of(town), town.site.accounts.database
        town.lie(held={"/token": trio.Event()})
        make_due(town)
        await until(lambda: town.provider.calls["/token"] == 2)
    (row,) = database.identities.values()
    assert row.tokens == kept
