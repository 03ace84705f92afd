"""Events that were renamed or split, read on both engines."""

import pytest

from storage.postgres import Database
from storage.testing import EvolvingSuite
from storage.testing.kept import Kept, kept_in_memory, kept_in_postgres
from storage.testing.reading.evolving import INLINE, TYPES


class TestMemoryEvolving(EvolvingSuite):
    @pytest.fixture
    def kept(self) -> Kept:
        return kept_in_memory(INLINE, TYPES)


class TestPostgresEvolving(EvolvingSuite):
    @pytest.fixture
    def kept(self, database: Database) -> Kept:
        return kept_in_postgres(database, INLINE, TYPES)
