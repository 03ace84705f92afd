"""What an operator wishes of projections and dead letters, on both engines."""

import pytest

from storage.postgres import Database
from storage.testing import HandingBackSuite, ProjectionWishesSuite
from storage.testing.kept import Kept, kept_in_memory, kept_in_postgres


class TestMemoryWishes(ProjectionWishesSuite, HandingBackSuite):
    @pytest.fixture
    def kept(self) -> Kept:
        return kept_in_memory()


class TestPostgresWishes(ProjectionWishesSuite, HandingBackSuite):
    @pytest.fixture
    def kept(self, database: Database) -> Kept:
        return kept_in_postgres(database)
