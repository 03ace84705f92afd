"""Projections that are part of an append: for small invariants, such as a name taken once.

The engine applies them in the append's transaction; what one raises refuses the append.
They make each append of their events slower and let it wait for others that read the same
key, so keep them few and small; everything else is a runner's (`runner.py`).

Rule 1: `apply` waits for its `tx` only; the transaction is open meanwhile.
Rule 2: a document is locked by reading it: of two appends that read one key, one comes after
the other and sees what it wrote.
Rule 3: what a tenant appends is applied to documents of that tenant: a name that is taken once is
taken once for each.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence

from actors.persistence.errors import StoreError
from actors.persistence.projections.projection import (
    Document,
    Projection,
    ProjectionTx,
    check_key,
    check_projections,
    collection_of,
)
from actors.persistence.words import (
    AppendRequest,
    NewEvent,
    StoredEvent,
    check_tenant,
    owned_name,
)


class InlineProjectionFailed(StoreError):
    """Raised when an inline projection refused an append; nothing was written.

    `error` is what the projection raised: a rule of yours that was broken, or a bug in it.
    """

    code = "inline_projection_failed"

    def __init__(self, name: str, stream_id: str, error: Exception) -> None:
        # A database's further lines quote stored values, which do not belong into logs.
        first_line = (str(error).splitlines() or [""])[0]
        super().__init__(
            f"projection {name} refused the append to {stream_id}: "
            f"{type(error).__name__}: {first_line}. Nothing was written."
        )
        self.name, self.stream_id, self.error = name, stream_id, error


def inline_collection(projection: Projection, *, tenant: str | None = None) -> str:
    """Call this for the collection of an inline projection's documents.

    There is one for each version and tenant, and no checkpoint: what is appended is there. Events
    from before the projection was declared are not in it. Raises `InvalidTenant`.
    """
    if tenant is not None:
        check_tenant(tenant)
    return owned_name(tenant, collection_of(projection.name, projection.version))


class InlineProjections:
    """The inline projections of one store, by the events they want."""

    def __init__(self, projections: Sequence[Projection] = ()) -> None:
        check_projections(projections)
        self._wanted: list[tuple[Projection, frozenset[str]]] = []
        for one in projections:
            if not one.inline:
                raise TypeError(f"{one.name} is not inline; a ProjectionRunner fills it")
            if any(one.types.is_private(cls) for cls in one.handles):
                # Its documents are built from nothing else: nobody could take a text out again.
                raise TypeError(f"{one.name} is inline and handles events with private fields")
            one.types.check()
            self._wanted.append((one, frozenset(one.types.stored_as(*one.handles))))

    def wanting(self, events: Iterable[NewEvent | StoredEvent]) -> list[Projection]:
        """Call this for the projections that some of these events concern."""
        if not self._wanted:
            return []
        present = {event.type for event in events}
        return [one for one, names in self._wanted if names & present]

    def check_batch(self, requests: Sequence[AppendRequest]) -> None:
        """Call this before any I/O: a batch is one statement, and has room for events only."""
        if not all(request.is_plain for request in requests):
            raise ValueError("a batch takes plain appends only: events and what is expected")
        for request in requests:
            for one in self.wanting(request.events):
                raise ValueError(
                    f"{request.stream_id} has events of the inline projection {one.name}; "
                    "append them one by one"
                )

    def reads(self, projection: Projection, events: Sequence[StoredEvent]) -> list[str]:
        """Call this for what a projection will ask for; raises `InlineProjectionFailed`."""
        names = self._names(projection)
        keys: list[str] = []
        for event in events:
            if event.type in names:
                try:
                    asked = projection.reads(event)
                    for key in asked:
                        check_key(key)
                except StoreError:
                    raise
                except Exception as error:
                    raise InlineProjectionFailed(projection.name, event.stream_id, error) from error
                keys += asked
        return keys

    async def apply(
        self,
        projection: Projection,
        events: Sequence[StoredEvent],
        read: Callable[[str], Awaitable[Document | None]],
    ) -> ProjectionTx:
        """Call this in the append's transaction; what it gives is to be written there."""
        names = self._names(projection)
        tx = ProjectionTx(read)
        for event in events:
            if event.type not in names:
                continue
            try:
                for part in projection.types.parts(event, projection.handles):
                    await projection.apply(part, tx)
            except StoreError:
                raise  # the store is away, or the event unreadable: that says more
            except Exception as error:
                raise InlineProjectionFailed(projection.name, event.stream_id, error) from error
            tx.keep()
        return tx

    def _names(self, projection: Projection) -> frozenset[str]:
        return next(names for one, names in self._wanted if one is projection)
