"""Waiting for projections, on both engines."""

import pytest

from storage.postgres import Database
from storage.testing import ProjectionWaitingSuite
from storage.testing.kept import Kept, kept_in_memory, kept_in_postgres


class TestMemoryWaiting(ProjectionWaitingSuite):
    @pytest.fixture
    def kept(self) -> Kept:
        return kept_in_memory()


class TestPostgresWaiting(ProjectionWaitingSuite):
    @pytest.fixture
    def kept(self, database: Database) -> Kept:
        return kept_in_postgres(database)
