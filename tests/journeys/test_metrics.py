"""A running site is scraped after a visit: names, labels and what they say."""

from __future__ import annotations

import re
import urllib.request
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed

from tests.journeys.kinds import StartSite
from tests.journeys.site_process import ROOT
from tests.journeys.visitor import Visitor
from tests.processes.ports import free_ports

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "reference" / "metrics.md"
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}|[0-9a-f]{32}|127\.0\.0\.1|@")


Labels: TypeAlias = tuple[tuple[str, str], ...]


def scraped(port: int) -> Mapping[str, Mapping[Labels, float]]:
    """Give every sample by its name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    found: dict[str, dict[Labels, float]] = {}
    for family in parsed(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        known = found.setdefault(name, {})
        for sample in family.samples:
            told = found.setdefault(sample.name, known if sample.name == name else {})
            told[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def told(found: Mapping[str, Mapping[Labels, float]], name: str) -> float:
    return sum(found[f"greenroom_{name}"].values())


def test_names_and_figures_of_a_visit(start_site: StartSite) -> None:
    # OBS-1, OBS-2, SITE-190: nothing documented is absent, nothing told is undocumented
    (port,) = free_ports(1)
    site = start_site(METRICS_PORT=str(port))
    visitor = Visitor(site.url)
    visitor.open_lab()
    with visitor.open_stream() as stream:
        assert visitor.post("scraped soon").status == 202
        stream.read_until(b"scraped soon")
        open_now = scraped(port)
    assert visitor.get("/nowhere").status == 404
    found = scraped(port)

    documented = set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE))
    parts = ("_bucket", "_count", "_sum")
    names = {name for name in found if not name.endswith(parts) or name in documented}
    assert {name.removeprefix("greenroom_") for name in names} == documented

    assert open_now["greenroom_streams_open"][("transport", "sse"),] == 1
    assert told(found, "messages_total") > told(open_now, "messages_total") / 2
    assert found["greenroom_actors"][("kind", "RoomActor"),] >= 1
    assert found["greenroom_store_appends_total"][("category", "room"), ("result", "ok")] == 1
    assert told(found, "pool_acquire_seconds_count") > 0
    assert told(found, "store_head_position") > 0
    assert told(found, "stream_sent_total") > 0
    routes = found["greenroom_http_requests_total"]
    assert routes[("route", "/lab"), ("status", "2xx")] == 1
    assert routes[("route", "none"), ("status", "4xx")] >= 1
    assert told(found, "loop_lag_seconds_count") > 0
    for name, samples in found.items():
        for labels in samples:
            # Never whose: no id, address or path with one.
            assert not [value for _, value in labels if ID.search(value)], (name, labels)


def test_counters_go_on_when_actors_are_restarted(start_site: StartSite) -> None:
    # OBS-2: the room is crashed by its visitor, and what it counted is there
    (port,) = free_ports(1)
    site = start_site(METRICS_PORT=str(port))
    visitor = Visitor(site.url)
    visitor.open_lab()
    with visitor.open_stream() as stream:
        assert visitor.post("before").status == 202
        stream.read_until(b"before")
        before = scraped(port)["greenroom_messages_total"]
        page = visitor.page("/lab").text
        target = re.search(r"/api/lab/actors/(\d+)/crash", page)
        assert target is not None, "the page offers to crash something"
        fields: dict[str, object] = {"commandId": str(uuid.uuid4()), "sseTabId": visitor.tab}
        assert visitor.command(target.group(), fields).status == 202
        stream.read_until(b"CrashedOnPurpose")
        assert visitor.post("after").status == 202
        stream.read_until(b"after")
    found = scraped(port)
    after = found["greenroom_messages_total"]
    assert told(found, "crashes_total") == 1
    assert told(found, "restarts_total") == 1
    assert {kind for kind in before if after[kind] < before[kind]} == set()


def test_a_port_that_is_taken_ends_the_start(tmp_path: Path, start_site: StartSite) -> None:
    # OBS-1: told by the name of its setting, before anything is opened
    (port,) = free_ports(1)
    start_site(METRICS_PORT=str(port))
    with pytest.raises(AssertionError, match=f"METRICS_PORT: .*{port}"):
        start_site(METRICS_PORT=str(port))
