"""Lists in pieces: every item once, and no cursor but ours."""

from __future__ import annotations

import base64

import pytest
from quart import Response

from tests.web.api.api_kit import RING, Api, Stores, engine, error, open_api, register, stores, told
from web.api import PAGE_LIMIT, Pages
from web.api.pages import CURSOR_CHARS_MAX
from web.server import WebApp

__all__ = ["engine", "stores"]

PARCELS = "/api/v1/parcels"
NUMBERS = "/api/numbers"


def add_numbers(app: WebApp, path: str, count: int) -> None:
    pages = Pages(RING, int)

    async def listed() -> Response:
        page = pages.read()
        first = 0 if page.after is None else page.after + 1
        rows = list(range(count))[first : first + page.limit + 1]
        return pages.answer(page, rows, lambda row: row, lambda row: {"number": row})

    app.add_url_rule(path, path, view_func=listed)


async def all_of(api: Api, path: str, query: str = "") -> list[list[object]]:
    """Follow the pages to their end."""
    found, after = [], ""
    while True:
        page = told(await api.ask(f"GET {path}?{query}{after}"))
        items = page["items"]
        assert isinstance(items, list)
        found.append(items)
        if page["next"] is None:
            return found
        after = f"&after={page['next']}"


@pytest.mark.parametrize(
    ("count", "query", "sizes"),
    [
        (0, "", [0]),
        (20, "", [20]),
        (21, "", [20, 1]),
        (5, "limit=2", [2, 2, 1]),
        (4, "limit=2", [2, 2]),
        (150, "limit=100", [100, 50]),
        (3, "limit=1", [1, 1, 1]),
    ],
)
async def test_every_item_comes_once(count: int, query: str, sizes: list[int]) -> None:
    # WEB-15
    assert PAGE_LIMIT == 20
    async with open_api(more=lambda api: add_numbers(api.app, NUMBERS, count)) as api:
        pages = await all_of(api, NUMBERS, query)
        assert [len(page) for page in pages] == sizes
        assert [item for page in pages for item in page] == [{"number": n} for n in range(count)]


async def test_the_parcels_of_a_store_come_in_pages(stores: Stores) -> None:
    # WEB-15
    async with open_api(stores) as api:
        names = [f"abc{n}" for n in range(5)]
        for name in names:
            await register(api, name)
        pages = await all_of(api, PARCELS, "limit=2")
        assert pages == [
            ["parcel-abc0", "parcel-abc1"],
            ["parcel-abc2", "parcel-abc3"],
            ["parcel-abc4"],
        ]


@pytest.mark.parametrize(
    "limit", ["0", "101", "-1", "1.5", "x", "", "%201", "+1", "1000", "1_0", "%D9%A1"]
)
async def test_a_limit_out_of_its_range_is_422(limit: str) -> None:
    # WEB-15
    async with open_api() as api:
        reply = await api.ask(f"GET {PARCELS}?limit={limit}")
        assert error(reply) == (422, "VALIDATION_ERROR")
        assert told(reply)["details"] == [
            {"field": "limit", "problem": "must be a whole number from 1 to 100"}
        ]


async def test_a_cursor_that_was_not_made_here_is_400() -> None:
    # WEB-15
    def more(api: Api) -> None:
        add_numbers(api.app, NUMBERS, 50)
        add_numbers(api.app, "/api/others", 50)

    async with open_api(more=more) as api:
        made = str(told(await api.ask(f"GET {NUMBERS}"))["next"])
        assert (await api.ask(f"GET {NUMBERS}?after={made}")).status == 200
        raw = base64.urlsafe_b64decode(made)
        tampered = [
            base64.urlsafe_b64encode(raw[:n] + bytes([raw[n] ^ 1]) + raw[n + 1 :]).decode()
            for n in range(len(raw))
        ]
        strange = [
            "",
            "0",
            "19",
            "%20",
            "x" * (CURSOR_CHARS_MAX + 1),
            "%F0%9F%90%88",
            made + "=",
            made[:-2],
        ]
        for after in [*tampered, *strange]:
            reply = await api.ask(f"GET {NUMBERS}?after={after}")
            assert error(reply) == (400, "BAD_REQUEST"), after
        # Nor one of another list, nor two.
        assert (await api.ask(f"GET /api/others?after={made}")).status == 400
        assert (await api.ask(f"GET {NUMBERS}?after={made}&after={made}")).status == 400
        assert (await api.ask(f"GET {NUMBERS}?limit=1&limit=1")).status == 400
