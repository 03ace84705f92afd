"""Private fields in memory pass their suites."""

import pytest

from storage.testing import ForgettingSuite, PrivateFieldsSuite, SubjectKeysSuite
from storage.testing.private import Place, place_in_memory


class TestMemoryPrivateFields(SubjectKeysSuite, PrivateFieldsSuite, ForgettingSuite):
    @pytest.fixture
    def place(self) -> Place:
        return place_in_memory()
