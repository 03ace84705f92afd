"""The two roads of HTTP/1.1: what holds for one holds for the other. And a certificate for TLS."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from tests.web.server import serving_kit
from tests.web.server.certificate import make_contexts


@pytest.fixture(params=["plain", "library"])
def road(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Take one road for all of a test's connections: our own lines, or hypercorn's."""
    monkeypatch.setattr(serving_kit, "USES_LIBRARY", request.param == "library")
    return str(request.param)


@pytest.fixture(scope="session")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make the server's side and the client's of one certificate, which signs itself."""
    folder: Path = tmp_path_factory.mktemp("tls")
    return make_contexts(folder)
