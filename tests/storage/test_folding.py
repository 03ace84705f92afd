"""States and views on request, on both engines."""

import pytest

from storage.postgres import Database
from storage.testing import FoldingSuite
from storage.testing.kept import Kept, kept_in_memory, kept_in_postgres
from storage.testing.reading.folding import TYPES


class TestMemoryFolding(FoldingSuite):
    @pytest.fixture
    def kept(self) -> Kept:
        return kept_in_memory(event_types=TYPES)


class TestPostgresFolding(FoldingSuite):
    @pytest.fixture
    def kept(self, database: Database) -> Kept:
        return kept_in_postgres(database, event_types=TYPES)
