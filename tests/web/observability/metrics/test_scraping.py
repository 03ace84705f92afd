"""A scrape asks who counts, and is written as a text that scrapers read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trio
from prometheus_client import Metric as Family
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as parsed

from actors.runtime.words.counting import COUNTERS
from actors.runtime.words.tallies import LABEL_SETS_MAX, Tallies
from tests.logged import captured
from web.observability.metrics import METRICS, Metrics, Scrape
from web.observability.metrics.collectors import RUNTIME_BOUNDS, coarser, of_tallies
from web.observability.metrics.words import MetricKind
from web.observability.metrics.writing import LINES_AT_ONCE, wants_openmetrics, written


def parsed_openmetrics(text: str) -> list[Family]:
    return list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]  # theirs


ROOT = Path(__file__).parents[4]
PAGE = ROOT / "docs" / "reference" / "metrics.md"


def test_the_page_and_the_table_are_the_same() -> None:
    # OBS-1: by name, type, labels and words
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) ?\| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    told = {name: (kind, tuple(re.findall(r"`(\w+)`", labels)), words)
            for name, kind, labels, words in rows}  # fmt: skip
    assert len(rows) == len(told)
    assert told == {one.name: (one.kind.value, one.labels, one.words) for one in METRICS.values()}
    for one in METRICS.values():
        assert one.name.endswith("_total") == (one.kind is MetricKind.COUNTER), one.name


def test_every_figure_that_code_counts_is_in_the_table_with_its_labels() -> None:
    # OBS-1: a name that is made up would be seen at the first scrape only
    called = re.compile(r"(?:add|count|histogram|put)\(\s*\"([a-z_]+)\"")
    texts = [path.read_text() for folder in ("actors", "supervision", "storage", "web")
             for path in (ROOT / folder).rglob("*.py")]  # fmt: skip
    named = {name for text in texts if "tallies" in text or "scrape" in text
             for name in called.findall(text)}  # fmt: skip
    assert len(named) > 20
    assert {name for name in named if "_" in name} - set(METRICS) == set()


@pytest.mark.parametrize("name", ["no_such_metric", "pool_waiting"])
def test_what_is_in_no_table_is_refused(name: str) -> None:  # OBS-1
    with pytest.raises(ValueError, match=name):
        Scrape().put(name, 1, "label")


async def test_all_metrics_are_written_whether_or_not_anybody_tells_them() -> None:
    # OBS-1: counts without labels as 0, all others by name: what is not known is no 0, with which
    # an alert would end while the database is away
    text, kind = await written(Scrape())
    assert kind.startswith("text/plain")
    found = {one.name: one for one in parsed(text.decode())}
    assert {name + ("_total" if one.type == "counter" else "") for name, one in found.items()} == {
        one.full_name for one in METRICS.values()
    }
    spans_lost = [sample.value for sample in found["greenroom_spans_lost"].samples]
    assert spans_lost == [0.0]
    gauges = [one for one in found.values() if one.type == "gauge"]
    assert gauges
    assert [one.name for one in gauges if one.samples] == []
    lags = {sample.name: sample.value for sample in found["greenroom_loop_lag_seconds"].samples}
    assert lags["greenroom_loop_lag_seconds_count"] == 0


async def test_openmetrics_is_written_for_who_reads_it() -> None:  # OBS-7
    tallies = Tallies()
    tallies.add("http_requests_total", 'a "route"\n\\', "2xx")
    tallies.histogram("http_request_seconds", "/").note(0.003)
    scrape = await Metrics([of_tallies(tallies)]).collect()
    text, kind = await written(scrape, {"node": "one"}, is_openmetrics=True)
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")
    assert text.count(b"# EOF") == 1
    found = {one.name: one for one in parsed_openmetrics(text.decode())}
    (sample,) = found["greenroom_http_requests"].samples
    assert sample.labels == {"node": "one", "route": 'a "route"\n\\', "status": "2xx"}
    samples = found["greenroom_http_request_seconds"].samples
    buckets = {one.labels["le"]: one.value for one in samples if "le" in one.labels}
    assert (buckets["0.0025"], buckets["0.005"], buckets["+Inf"]) == (0, 1, 1)
    assert wants_openmetrics("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert not wants_openmetrics("text/html,*/*")


async def test_a_metric_in_several_parts_is_one_family() -> None:
    # OBS-2: written in parts, so that no turn of the loop is long
    scrape = Scrape()
    for number in range(LABEL_SETS_MAX):
        scrape.put_buckets("handle_seconds", RUNTIME_BOUNDS, [1] * 17, 2.0, f"Kind{number}")
    scrape.put_buckets("handle_seconds", RUNTIME_BOUNDS, [1] * 17, 2.0, "Kind7")
    scrape.put_buckets("handle_seconds", RUNTIME_BOUNDS, [1] * 17, 2.0, "One too many")
    plain, _ = await written(scrape)
    text, _ = await written(scrape, is_openmetrics=True)
    for one in (plain, text):
        assert one.count(b"# TYPE greenroom_handle_seconds histogram") == 1
    (family,) = [
        one for one in parsed_openmetrics(text.decode()) if one.name == "greenroom_handle_seconds"
    ]
    counts = {one.labels["kind"]: one.value
              for one in family.samples if one.name.endswith("_count")}  # fmt: skip
    assert len(counts) == LABEL_SETS_MAX + 1
    assert (counts["Kind7"], counts["Kind8"], counts["other"]) == (34, 17, 17)
    assert len(family.samples) > LINES_AT_ONCE


async def test_a_collector_that_fails_takes_only_its_own_away() -> None:  # OBS-1
    async def bad(scrape: Scrape) -> None:
        raise KeyError("hunter2")

    tallies = Tallies()
    tallies.add("timers_fired_total")
    with captured() as lines:
        scrape = await Metrics([bad, of_tallies(tallies)]).collect()
    assert scrape.numbers["timers_fired_total"] == {(): 1}
    (line,) = [line for line in lines if line["event"] == "metrics.collector_failed"]
    assert line["error"] == "KeyError"
    assert "hunter2" not in str(line)


async def test_one_that_hangs_is_left_behind(autojump_clock: object) -> None:  # OBS-1
    async def hang(scrape: Scrape) -> None:
        scrape.put("pool_waiting", 3)
        await trio.sleep_forever()

    scrape = await Metrics([hang]).collect()
    assert scrape.numbers["pool_waiting"] == {(): 3}


def test_counters_of_the_runtime_become_buckets() -> None:  # OBS-2
    # Counter i is of times up to 2**i us, so each bound here is a bound there.
    counters = list(range(COUNTERS))
    found = coarser(counters)
    assert len(found) == len(RUNTIME_BOUNDS) + 1
    assert sum(found) == sum(counters)
    assert found[0] == sum(range(10))
    assert found[1] == 10
    assert RUNTIME_BOUNDS[:2] == (0.000512, 0.001024)
