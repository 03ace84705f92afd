"""Reading documents for a batch of events: at once those that it will ask for.

These are what the projection names (`Projection.reads`), and those of its streams where these are
read. Most read models keep a document for each stream. Read one by one, a hundred events of a
hundred streams are a hundred questions to the database, and a rebuild waits for nothing else.
"""

from collections.abc import Collection, Mapping, Sequence

from actors.persistence.projections.projection import Document
from actors.persistence.projections.store import ProjectionStore


class DocumentReader:
    """What the documents of one generation are read with; learns what a projection reads.

    Exact only for who alone writes that generation: what was read ahead is as it was when the
    batch began, and the batch's commit fails when somebody else has moved the checkpoint.
    """

    def __init__(self, store: ProjectionStore) -> None:
        self._store = store
        self._collection = ""
        self._streams: frozenset[str] = frozenset()
        self._ahead: dict[str, Document | None] = {}
        # Of the batch in hand: what was read, and how much of that by the name of a stream.
        self._read = self._of_streams = 0
        self._reads_streams = False

    async def begin(
        self, collection: str, streams: Sequence[str], hinted: Collection[str] = ()
    ) -> None:
        """Call this before a batch; reads ahead when the last one would have gained by it.

        `hinted` are keys that are read ahead in any case.
        """
        if self._read:
            self._reads_streams = self._of_streams > self._read // 2
        self._collection, self._streams = collection, frozenset(streams)
        self._read = self._of_streams = 0
        self._ahead = {}
        wanted = set(hinted)
        if self._reads_streams:
            wanted.update(streams)
        if len(wanted) > 1:
            found: Mapping[str, Document] = await self._store.get_many(collection, sorted(wanted))
            self._ahead = {key: found.get(key) for key in wanted}

    async def read(self, key: str) -> Document | None:
        """Call this for a document as the last commit left it."""
        self._read += 1
        if key in self._streams:
            self._of_streams += 1
        if key in self._ahead:
            # Once: it is the caller's now, who may change it.
            return self._ahead.pop(key)
        return await self._store.get(self._collection, key)
