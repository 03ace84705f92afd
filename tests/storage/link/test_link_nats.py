"""The link over NATS passes the suite of its port, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from actors.cluster.link import Link
from storage.link.nats import open_nats_link
from storage.link.nats_words import NatsCredentials, NatsSettings
from storage.testing.link import KeptLinks, LinkSuite
from tests.nats_server import PASSWORD, USER, NatsServer, missing
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


class TestNatsLink(LinkSuite):
    @pytest.fixture
    def kept(self, tmp_path: Path) -> Iterator[KeptLinks]:
        password = tmp_path / "password"
        password.write_text(PASSWORD)

        @asynccontextmanager
        async def open_link(name: str) -> AsyncIterator[Link]:
            settings = NatsSettings(
                (server.url,),
                name,
                "gr.suite",
                NatsCredentials(user=USER, password_file=password),
            )
            async with open_nats_link(settings, wait_s=PATIENCE_S) as link:
                yield link

        with NatsServer(tmp_path / "server") as server:
            yield KeptLinks(open_link, server.kill, server.start)
