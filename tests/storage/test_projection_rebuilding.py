"""Generations of a projection side by side, on both engines."""

import pytest

from storage.postgres import Database
from storage.testing import ProjectionRebuildSuite
from storage.testing.kept import Kept, kept_in_memory, kept_in_postgres


class TestMemoryRebuilding(ProjectionRebuildSuite):
    @pytest.fixture
    def kept(self) -> Kept:
        return kept_in_memory()


class TestPostgresRebuilding(ProjectionRebuildSuite):
    @pytest.fixture
    def kept(self, database: Database) -> Kept:
        return kept_in_postgres(database)
