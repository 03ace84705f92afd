"""What every `ReadModelSearch` must find, and what it must not take for more than words.

Fixture `searching`: an empty store, and who searches it by `FIELDS`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from actors.persistence import Checkpoint, Cursor, Document, GenerationState, ProjectionBatch
from actors.persistence.errors import InvalidField
from actors.persistence.projections.searching import ReadModelSearch, SearchFields
from actors.persistence.projections.store import ProjectionStore

FIELDS = {
    "concerts": SearchFields(
        texts=("title", "hall.name", "acts.name"), filters=("status", "hall.city"), order="year"
    )
}


@dataclass
class Searching:
    """Where documents are put, and who finds them."""

    store: ProjectionStore
    search: ReadModelSearch

    async def put(self, documents: Mapping[str, Document | None]) -> Checkpoint:
        """Commit documents behind what is there."""
        begun = await self.store.open("concerts", 1, 1, GenerationState.LIVE)
        reached = Cursor(begun.cursor.txid + 1, 1)
        assert await self.store.commit(ProjectionBatch(begun, reached, documents))
        return begun

    async def keys(self, text: str = "", **filters: str) -> list[str]:
        """The keys of what is found, in their order."""
        named = {name.replace("__", "."): value for name, value in filters.items()}
        found = await self.search.search("concerts__g1", text, filters=named)
        return [one.key for one in found]


def concert(
    title: str, year: int = 0, *, status: str = "open", city: str = "Graz", acts: str = ""
) -> dict[str, object]:
    """Call this for a document; `acts` by their names, with spaces between."""
    hall = {"name": "Old Brewery", "city": city}
    return {
        "title": title,
        "year": year,
        "status": status,
        "hall": hall,
        "acts": [{"name": one} for one in acts.split()],
    }


# None of them is a language; each is what somebody may type into a field, or send by hand.
HOSTILE = [
    "*", "?", "title:piano", "status:open OR status:closed", "piano) OR (*:*", "[* TO *]",
    "/.*/", "\\", "~1", "piano^100000000", "NOT piano", "{{", '{"match_all": {}}',
    "'; DROP TABLE documents; --", "%", "_", "<script>alert(1)</script>", "../../_all/_search",
    "\u202e", "\ud7ff", "🎹" * 50, "a" * 200, "(" * 200, "piano AND" * 20, "\r\n\r\nDELETE /_all",
]  # fmt: skip


class SearchingSuite:
    """The conformance suite of `ReadModelSearch`."""

    async def test_documents_are_found_by_all_words_in_any_field(
        self, searching: Searching
    ) -> None:
        # PROJ-13
        await searching.put(
            {
                "a": concert("An evening of Piano", 2024),
                "b": concert("Piano and cello", 2026, acts="Ann Bob"),
                "c": concert("Cello alone", 2025, status="closed", city="Wien"),
            }
        )
        assert await searching.keys("piano") == ["b", "a"]
        assert await searching.keys("PIANO cello") == ["b"]
        assert await searching.keys("bob brewery") == ["b"]
        assert await searching.keys("pian") == []
        assert await searching.keys("") == ["b", "c", "a"]
        assert await searching.keys("cello", status="open") == ["b"]
        assert await searching.keys("cello", hall__city="Wien", status="closed") == ["c"]
        assert await searching.keys("", hall__city="wien") == []
        [found] = await searching.search.search("concerts__g1", "evening")
        assert found.document == concert("An evening of Piano", 2024)

    async def test_what_is_changed_or_removed_is_found_as_it_is_now(
        self, searching: Searching
    ) -> None:
        # PROJ-13: at once
        for round_ in range(3):
            await searching.put({"a": concert(f"word{round_}"), "b": concert("word")})
            assert await searching.keys(f"word{round_}") == ["a"]
            assert await searching.keys(f"word{round_ - 1}") == []
            await searching.put({"b": None})
            assert await searching.keys("word") == []

    async def test_pages_have_each_document_once_whatever_is_written_meanwhile(
        self, searching: Searching
    ) -> None:
        # PROJ-13: by a place, never by counting
        await searching.put({f"k{number:02}": concert("piano", number % 5) for number in range(23)})
        seen, after = list[str](), None
        while True:
            page = await searching.search.search("concerts__g1", "piano", after=after, limit=5)
            if not page:
                break
            seen += [one.key for one in page]
            after = page[-1].place
            # Behind where the reader is, and before it.
            name = f"new{len(seen)}"
            await searching.put({name: concert("piano", 9), f"k{len(seen):02}x": concert("cello")})
        assert len(seen) == len(set(seen)) == 23
        assert seen == sorted(seen, key=lambda key: (-(int(key[1:]) % 5), key))

    async def test_whatever_is_typed_is_words(self, searching: Searching) -> None:
        # PROJ-13: none of it finds what has not its words, and nothing breaks
        await searching.put({"a": concert("An evening of piano"), "b": concert("closed")})
        for text in HOSTILE:
            assert await searching.keys(text) == [], text
            with pytest.raises(InvalidField):
                await searching.search.search("concerts__g1", "", filters={text: "x"})
            assert await searching.keys("", status=text) == []
        for text in ("-piano", '"piano', "+piano!", "(piano", "piano~"):
            assert await searching.keys(text) == ["a"], text
        assert await searching.keys("", status="open") == ["a", "b"]

    async def test_what_cannot_be_asked_is_refused(self, searching: Searching) -> None:
        # PROJ-13
        await searching.put({"a": concert("piano")})
        search, name = searching.search.search, "concerts__g1"
        for limit in (0, -1, 1001, 10**9):
            with pytest.raises(InvalidField, match="limit"):
                await search(name, limit=limit)
        for text in ("x" * 201, "\x00", "\ud800"):
            with pytest.raises(InvalidField, match="text"):
                await search(name, text)
        for after in ((2**63, "a"), (0, "\x00"), (0, "k" * 1025)):
            with pytest.raises(InvalidField, match="after"):
                await search(name, after=after)
        with pytest.raises(InvalidField, match="hall"):
            await search(name, filters={"hall.city": "x" * 513})
        assert await search("concerts__g9", "piano") == []
