"""A real Prometheus scrapes a running site, answers the dashboard and fires a shipped alert."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from tests.journeys.kinds import StartSite
from tests.journeys.visitor import Visitor
from tests.patience import PATIENCE_S
from tests.processes.ports import free_ports, is_listening, wait_for
from tests.web.observability.metrics.test_alert_rules import RULES
from tests.web.observability.metrics.test_dashboard import queries
from web.routing import paths

PROGRAM = os.environ.get("PROMETHEUS") or shutil.which("prometheus") or ""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROGRAM, reason="not run: no prometheus; PROMETHEUS names a program"),
]

CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: greenroom
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
# So many sagas, projections and groups a new site has: none.
EMPTY = frozenset({"Sagas", "Projections behind", "Records of the bus not handled"})


class _Data(msgspec.Struct):
    result: list[object] = msgspec.field(default_factory=list)
    alerts: list[dict[str, object]] = msgspec.field(default_factory=list)


class _Answer(msgspec.Struct):
    data: _Data


class Prometheus:
    """One that runs; `ask` gives the series of a query."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, expr: str) -> list[object]:
        return self._get("query?" + urllib.parse.urlencode({"query": expr})).data.result

    def firing(self) -> set[str]:
        found = self._get("alerts").data.alerts
        labels = (msgspec.convert(one["labels"], dict[str, str]) for one in found)
        return {
            name["alertname"]
            for name, one in zip(labels, found, strict=True)
            if one["state"] == "firing"
        }

    def _get(self, what: str) -> _Answer:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/v1/{what}") as answer:
            return msgspec.json.decode(answer.read(), type=_Answer)


@contextmanager
def prometheus(folder: Path, port_of_site: int) -> Iterator[Prometheus]:
    """Run one that scrapes a port every second; alerts fire at once instead of after minutes."""
    (port,) = free_ports(1)
    rules, config = folder / "alerts.yml", folder / "prometheus.yml"
    told = RULES.read_text().splitlines()
    rules.write_text("\n".join(line for line in told if not line.strip().startswith("for:")))
    config.write_text(CONFIG.format(rules=rules, port=port_of_site))
    command = [
        PROGRAM,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'series'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
        "--log.level=warn",
    ]
    log = folder / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        wait_for(lambda: _is_ready(port), process, log.read_text)
        yield Prometheus(port)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _is_ready(port: int) -> bool:
    # It listens before it has read what it kept.
    if not is_listening(port):
        return False
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready"):
            return True
    except urllib.error.HTTPError:
        return False


def _until(is_so: Callable[[], bool], missing: Callable[[], object]) -> None:
    """Wait for a program that tells nobody; `missing` is what there is not after a while."""
    ends_at = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < ends_at, missing()
        time.sleep(0.2)


def test_a_prometheus_answers_every_panel_and_fires_an_alert(
    tmp_path: Path, start_site: StartSite
) -> None:
    # OBS-6, OBS-9: its provider is away, so its breaker opens
    port, nowhere = free_ports(2)
    site = start_site(
        METRICS_PORT=str(port),
        OAUTH_ACME_CLIENT_ID="site",
        OAUTH_ACME_CLIENT_SECRET="a secret of no use",
        OAUTH_ACME_ISSUER=f"http://127.0.0.1:{nowhere}",
    )
    visitor = Visitor(site.url)
    visitor.open_lab()
    with visitor.open_stream() as stream, prometheus(tmp_path, port) as watching:

        def is_up() -> bool:
            return watching.ask('up{job="greenroom"} == 1') != []

        _until(is_up, lambda: "the site is not scraped")
        assert visitor.post("scraped soon").status == 202
        stream.read_until(b"scraped soon")
        assert visitor.get("/login").status == 200
        nobody = {"email": "nobody@example.org", "password": "wrong words"}
        assert visitor.form("/login", nobody).status == 401
        begin = paths.OAUTH_BEGIN.replace("<provider>", "acme")
        for _ in range(8):
            visitor.get(begin)
        wanted = {(title, expr.replace("$__rate_interval", "1m")) for title, expr in queries()}

        def unanswered() -> list[tuple[str, str]]:
            asked = (one for one in wanted if one[0] not in EMPTY)
            return [one for one in asked if not watching.ask(one[1])]

        _until(lambda: not unanswered(), unanswered)
        _until(lambda: "BreakerOpen" in watching.firing(), watching.firing)
        assert "PoolExhausted" not in watching.firing()
