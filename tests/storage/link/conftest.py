"""A real server for each test, and settings of a node that may connect to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nats_server import NatsServer, missing


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    if missing():
        pytest.skip(missing())
    with NatsServer(tmp_path / "server") as started:
        yield started
