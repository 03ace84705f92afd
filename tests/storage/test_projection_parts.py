"""Projections in several parts, on both engines."""

import pytest

from storage.postgres import Database
from storage.testing import ProjectionPartsSuite
from storage.testing.kept import Kept, kept_in_memory, kept_in_postgres


class TestMemoryParts(ProjectionPartsSuite):
    @pytest.fixture
    def kept(self) -> Kept:
        return kept_in_memory()


class TestPostgresParts(ProjectionPartsSuite):
    @pytest.fixture
    def kept(self, database: Database) -> Kept:
        return kept_in_postgres(database)
