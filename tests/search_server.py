"""A search server of its own for tests: one node of OpenSearch, from the jars of `make opensearch`.

`SEARCH_JARS` names their folder. It keeps its indices in its folder, so it can be killed and
started again with what it had, or with nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from actors.runtime import Secret
from storage.search import SearchSettings
from tests.processes.own_server import OwnServer
from tests.processes.ports import free_port

_PROGRAM = Path(__file__).parent / "conformance" / "search" / "SearchServer.java"


def missing() -> str:
    """Call this for why no server can be had; empty when one can."""
    if not os.environ.get("SEARCH_JARS"):
        return "not run: no OpenSearch; `make opensearch` fetches and runs one"
    return "" if shutil.which("java") else "not run: no Java"


@dataclass
class SearchServer(OwnServer):
    """One node; see `OwnServer`."""

    between: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        """For `SEARCH_URL`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def settings(self) -> SearchSettings:
        """For a client."""
        return SearchSettings.of(Secret(self.url))

    def command(self) -> Sequence[str]:
        """A program of one file needs no compiling."""
        jars = Path(os.environ["SEARCH_JARS"]).resolve()
        tools = ("java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
        places = (str(self.folder), str(self.port), str(self.between))
        return [*tools, "-cp", f"{jars}/*", str(_PROGRAM), *places]

    def start(self) -> None:
        """Start it, and wait until its indices are there."""
        super().start()
        self.until(self._is_well)

    def empty(self) -> None:
        """Have it forget what it had; while it is not running."""
        shutil.rmtree(self.folder / "data")

    def _is_well(self) -> bool:
        try:
            health = httpx.get(f"{self.url}/_cluster/health", trust_env=False).json()
        except (httpx.HTTPError, ValueError):
            return False
        return bool(health.get("initializing_shards") == 0 and health.get("status") != "red")
