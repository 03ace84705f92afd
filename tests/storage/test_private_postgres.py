"""Private fields in PostgreSQL pass their suites."""

import pytest

from storage.postgres import Database
from storage.testing import ForgettingSuite, PrivateFieldsSuite, SubjectKeysSuite
from storage.testing.private import Place, place_in_postgres


class TestPostgresPrivateFields(SubjectKeysSuite, PrivateFieldsSuite, ForgettingSuite):
    @pytest.fixture
    def place(self, database: Database) -> Place:
        return place_in_postgres(database)
