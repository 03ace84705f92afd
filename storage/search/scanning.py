"""Searching without a search server: a look at all documents, for tests and small read models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from actors.persistence import ProjectionStore
from actors.persistence.projections.projection import projection_of
from actors.persistence.projections.searching import (
    Found,
    Place,
    SearchFields,
    check_question,
    searchable,
)
from actors.persistence.words import READ_LIMIT_MAX, split_name
from storage.errors import StoreMisuse

# Some tenth of a second; what is larger wants a server.
SCANNED_MAX = 10_000
_WORD = re.compile(r"\w+")
_NO_FIELDS = SearchFields(())


class TooManyToScan(StoreMisuse):
    """Raised when a read model has grown too large to be searched without a search server.

    Nothing was found. Set `SEARCH_URL`.
    """

    code = "too_many_to_scan"

    def __init__(self, collection: str) -> None:
        super().__init__(
            f"{collection} has more than {SCANNED_MAX} documents, too many to be searched one by "
            "one; have a search server do it (SEARCH_URL)"
        )
        self.collection = collection


class ScanningSearch:
    """`ReadModelSearch` on any `ProjectionStore`; `fields` as those of `SearchProjections`.

    A document that could not be searched on a server is passed over.
    """

    def __init__(self, store: ProjectionStore, fields: Mapping[str, SearchFields]) -> None:
        self._store, self._fields = store, dict(fields)

    async def search(
        self,
        collection: str,
        text: str = "",
        *,
        filters: Mapping[str, str] | None = None,
        after: Place | None = None,
        limit: int = 20,
    ) -> Sequence[Found]:
        """See `ReadModelSearch.search`."""
        name = projection_of(collection)[0]
        fields = self._fields.get(name) or self._fields.get(split_name(name)[1], _NO_FIELDS)
        wanted = set(check_question(fields, collection, text, filters or {}, after, limit))
        words = words_of([text])
        if text and not words:
            return []
        found = list[Found]()
        for key, document in await self._all(collection):
            try:
                one = searchable(fields, document)
            except ValueError:
                continue
            if words <= words_of(one.texts) and wanted <= set(one.filters):
                found.append(Found(key, document, (one.order, key)))
        found.sort(key=lambda one: _standing(one.place))
        if after is not None:
            found = [one for one in found if _standing(one.place) > _standing(after)]
        return found[:limit]

    async def _all(self, collection: str) -> Sequence[tuple[str, Mapping[str, object]]]:
        found = await self._store.query(collection, limit=min(SCANNED_MAX, READ_LIMIT_MAX))
        if len(found) == SCANNED_MAX and await self._store.query(
            collection, after=found[-1][0], limit=1
        ):
            raise TooManyToScan(collection)
        return found


def words_of(texts: Iterable[str]) -> set[str]:
    """Call this for the words of texts, as they are compared."""
    return {word.lower() for text in texts for word in _WORD.findall(text)}


def _standing(place: Place) -> tuple[int, bytes]:
    return -place[0], place[1].encode()
