"""Read models in PostgreSQL pass the suite of their port."""

import pytest

from storage.postgres import Database
from storage.testing import ProjectionSuite
from storage.testing.kept import Kept, kept_in_postgres


class TestPostgresProjections(ProjectionSuite):
    @pytest.fixture
    def kept(self, database: Database) -> Kept:
        return kept_in_postgres(database)
