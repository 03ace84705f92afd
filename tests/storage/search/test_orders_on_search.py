"""The orders example on a real search server: the same answers as without one (PROJ-13)."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from actors.runtime import Secret
from docs.examples.orders import PLAN
from storage.memory import MemoryDatabase
from storage.search import SearchClient, SearchSettings
from tests.examples.orders import test_orders_search as on_any
from tests.examples.orders.orders_kit import PATIENT
from web.app import open_site


@pytest.mark.parametrize(
    "case",
    [on_any.test_orders_are_found_by_what_somebody_remembers, on_any.test_pages_of_what_is_found],
)
async def test_orders_are_found_on_a_server(
    case: on_any.Case, client: SearchClient, prefix: str, shared_settings: SearchSettings
) -> None:
    # PROJ-13
    # One that was named may want to know who asks, by TLS.
    url = Secret(os.environ.get("SEARCH_URL") or shared_settings.place)
    settings = replace(
        PATIENT, search_url=url, search_tls_ca=shared_settings.ca_file, search_prefix=prefix
    )
    async with open_site(PLAN, settings, store=MemoryDatabase()) as site:
        await case(site.port)
    told = await client.ask("GET", f"/_alias/{prefix}order_search", answer=dict)
    assert told is not None
    assert len(told) == 1
