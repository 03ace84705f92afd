"""Searching without a search server finds what one finds, as long as there is little (PROJ-13)."""

from __future__ import annotations

import pytest

from actors.persistence import Cursor, GenerationState, ProjectionBatch
from actors.persistence.projections.searching import SearchFields, searchable
from storage.memory import MemoryProjections
from storage.search import ScanningSearch, TooManyToScan, scanning
from storage.testing import SearchingSuite
from storage.testing.projections.searching import FIELDS, Searching, concert


class TestScanningSearch(SearchingSuite):
    # PROJ-13

    @pytest.fixture
    def searching(self) -> Searching:
        store = MemoryProjections()
        return Searching(store, ScanningSearch(store, FIELDS))


async def test_what_is_too_large_to_be_scanned_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # PROJ-13: instead of a part of what there is
    monkeypatch.setattr(scanning, "SCANNED_MAX", 3)
    store = MemoryProjections()
    searching = Searching(store, ScanningSearch(store, FIELDS))
    await searching.put({key: concert("piano") for key in "abc"})
    assert await searching.keys("piano") == ["a", "b", "c"]
    await searching.put({"d": concert("piano")})
    with pytest.raises(TooManyToScan, match="SEARCH_URL"):
        await searching.keys("piano")


async def test_a_document_that_no_server_takes_is_passed_over() -> None:
    # PROJ-13
    store = MemoryProjections()
    searching = Searching(store, ScanningSearch(store, FIELDS))
    await searching.put({"a": {"title": {"of": "a piano"}}, "b": concert("piano")})
    assert await searching.keys("piano") == ["b"]
    begun = await store.open("others", 1, 1, GenerationState.LIVE)
    assert await store.commit(ProjectionBatch(begun, Cursor(1, 1), {"a": {"title": "piano"}}))
    # Nobody has said what of it is searched.
    assert await searching.search.search("others__g1", "piano") == []


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"title": ["a", {"b": 1}]}, "title is a dict"),
        ({"status": {"is": "open"}}, "status is a dict"),
        ({"status": "x" * 513}, "too long for a filter"),
        ({"status": "\ud800"}, "surrogates"),
        ({"year": "1999"}, "year is no whole number"),
        ({"year": True}, "year is no whole number"),
        ({"year": 1.5}, "year is no whole number"),
        ({"year": [1, 2]}, "year is no whole number"),
        ({"year": 2**63}, "64 bits"),
    ],
)
def test_what_cannot_be_searched_is_refused(document: dict[str, object], said: str) -> None:
    # PROJ-13: before anything is written
    fields = SearchFields(("title",), ("status",), "year")
    with pytest.raises(ValueError, match=said):
        searchable(fields, document)


def test_what_a_document_is_found_by() -> None:
    # PROJ-13
    fields = SearchFields(("title", "acts.name"), ("tags", "is_open", "at.x.y"), "year")
    found = searchable(
        fields,
        {
            "title": "One",
            "acts": [{"name": "Ann"}, {"name": None}, {}, {"name": ["B", 3]}],
            "tags": ["x", "x", "y"],
            "is_open": False,
            "at": {"x": 5},
            "year": 7,
        },
    )
    assert found.texts == ("One", "Ann", "B", "3")
    assert found.filters == ("tags=x", "tags=y", "is_open=false")
    assert found.order == 7
    assert searchable(fields, {"year": None}).order == 0
