"""Read models in memory pass the suite of their port."""

import pytest

from storage.testing import ProjectionSuite
from storage.testing.kept import Kept, kept_in_memory


class TestMemoryProjections(ProjectionSuite):
    @pytest.fixture
    def kept(self) -> Kept:
        return kept_in_memory()
