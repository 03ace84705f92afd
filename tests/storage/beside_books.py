"""Forgetting where documents are on another server than the books (`storage/beside_books.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from actors.persistence import GenerationState, ProjectionBatch, ProjectionStore
from storage.keyring import SubjectKeyring
from storage.testing import ForgettingSuite
from storage.testing.private import MASTER, Place


class LookingRing(SubjectKeyring):
    """A keyring after whose forgetting somebody looks, as a runner does within a second."""

    projections: ProjectionStore

    async def forget(self, subject: str, *, by: str, tenant: str | None = None) -> bool:
        """Forget, and look."""
        is_new = await super().forget(subject, by=by, tenant=tenant)
        await self.projections.checkpoints("names")
        return is_new


@dataclass
class LookingPlace(Place):
    """A place whose keyrings are such."""

    def ring(self, *, fresh_s: float = 0.0) -> SubjectKeyring:
        """See `Place.ring`."""
        ring = LookingRing(self.keys, MASTER, fresh_s=fresh_s)
        ring.projections = self.projections
        return ring


class BesideBooksForgettingSuite(ForgettingSuite):
    """As anywhere, but that what is being removed is removed by the next piece."""

    async def test_what_is_being_removed_says_nothing_of_who_is_forgotten(
        self, place: Place
    ) -> None:
        # STORE-44: the books know nothing of it any more
        store, ring = place.projections, place.ring()
        begun = await store.open("names", 1, 1, GenerationState.LIVE)
        names = {str(number): {"name": "Ann Clear"} for number in range(3)}
        subjects = frozenset({"customer:ann"})
        batch = ProjectionBatch(begun, begun.cursor, names, forgets=0, subjects=subjects)
        assert await store.commit(batch)
        await store.open("names", 2, 2, GenerationState.LIVE)
        await store.swap("names", 2)
        assert await store.purge(1, older_than=timedelta(0)) == 1
        await ring.forget("customer:ann", by="admin")
        assert await store.purge(older_than=timedelta(0)) == 3
        assert b"Ann Clear" not in await place.dump()
        assert await store.query("names__g1") == []
