"""The two roads of HTTP/1.1: what holds for one holds for the other."""

from __future__ import annotations

import pytest

from tests.web.server import serving_kit


@pytest.fixture(params=["plain", "library"])
def road(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Take one road for all of a test's connections: our own lines, or hypercorn's."""
    monkeypatch.setattr(serving_kit, "USES_LIBRARY", request.param == "library")
    return str(request.param)
