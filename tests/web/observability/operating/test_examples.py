"""From a slow bucket to a trace, for every figure that spans know of."""

from __future__ import annotations

from typing import cast

import pytest

from actors.runtime.telling.spans import Record, Value
from actors.runtime.words.tallies import LABEL_SETS_MAX, SECONDS, SIZES
from web.observability.metrics.collectors import RUNTIME_BOUNDS
from web.observability.metrics.scraping import EXAMPLE_S, Scrape
from web.observability.metrics.words import METRICS, MetricKind
from web.observability.operating.traces.examples import Examples

TRACE = f"{'a' * 24}{10:08x}"


class Weigher:
    """Lives at `site/scales`."""


def record(
    name: str, took: float = 0.3, error: str = "", at: float = 10.0, **fields: Value
) -> Record:
    above = f"00-{TRACE}-{'1' * 16}-01"
    return (name, above, -1, None, 0, at - took, at, "site/scales", "c", error, fields)


def shown(
    examples: Examples, name: str, *labels: str, now: float = 20.0
) -> dict[int, tuple[float, str]]:
    """What a scrape shows in which something was counted in each bucket but the first."""
    scrape, bounds = Scrape(), RUNTIME_BOUNDS if name == "handle_seconds" else SECONDS
    scrape.put_buckets(name, bounds, [0] + [1] * len(bounds), 1.0, *labels)
    examples.put(scrape, now)
    return dict(scrape.buckets[name][labels].examples)


@pytest.mark.parametrize(
    ("span", "name", "labels"),
    [
        (record("actor.handle"), "handle_seconds", ("Weigher",)),
        (record("reducer.reduce", action="Add"), "reducer_seconds", ("Weigher",)),
        (record("effect.Send"), "effect_seconds", ("Weigher", "Send")),
        (record("store.append", stream="room-lobby"), "store_append_seconds", ("ok",)),
        (record("store.append", 0.3, "ConditionFailed"), "store_append_seconds", ("conflict",)),
        (record("store.append", 0.3, "StoreUnavailable"), "store_append_seconds", ("error",)),
        (record("store.load", stream="@acme/order-1-2"), "store_load_seconds", ("order",)),
        (record("bus.publish", topic="orders"), "bus_publish_seconds", ("orders",)),
        (record("bus.handle", topic="o", group="g", attempt=1), "bus_handle_seconds", ("o", "g")),
        (record("projection.apply", projection="p"), "projection_apply_seconds", ("p",)),
    ],
)
def test_a_span_that_is_kept_is_an_example_of_its_figure(
    span: Record, name: str, labels: tuple[str, ...]
) -> None:
    # OBS-2, OBS-7
    assert METRICS[name].kind is MetricKind.HISTOGRAM
    assert len(METRICS[name].labels) == len(labels)
    examples = Examples(lambda path: Weigher if path == "site/scales" else None)
    examples.note([record("http.request", route="/"), record("saga.step"), span])
    (found,) = shown(examples, name, *labels).items()
    bounds = RUNTIME_BOUNDS if name == "handle_seconds" else SECONDS
    assert (round(found[1][0], 6), found[1][1]) == (0.3, TRACE)
    assert bounds[found[0] - 1] < 0.3 <= bounds[found[0]]


def test_how_long_a_message_was_queued_leads_to_its_trace_where_that_was_measured() -> None:
    # OBS-7
    examples = Examples(lambda _: Weigher)
    timed = (*record("actor.handle", 0.001)[:-1], (Weigher, 0.3))
    examples.note([record("actor.handle"), cast("Record", timed)])
    scrape = Scrape()
    for name in ("queue_seconds", "handle_seconds"):
        assert METRICS[name].labels == ("kind",)
        scrape.put_buckets(name, RUNTIME_BOUNDS, [1] * (len(RUNTIME_BOUNDS) + 1), 1.0, "Weigher")
    examples.put(scrape, 20.0)
    (queued,) = scrape.buckets["queue_seconds"]["Weigher",].examples.values()
    assert queued == (0.3, TRACE), "of the one that was timed alone"
    assert len(scrape.buckets["handle_seconds"]["Weigher",].examples) == 2


def test_of_an_append_how_many_events_it_had_leads_to_it_too() -> None:
    # OBS-7
    examples = Examples(lambda _: None)
    examples.note([record("store.append", stream="@acme/order-1-2", events=5)])
    examples.note([record("store.append", stream="order-7", events=400, error="StoreUnavailable")])
    examples.note([record("store.append", stream="order-8")])
    scrape = Scrape()
    scrape.put_buckets("store_append_events", SIZES, [1] * (len(SIZES) + 1), 1.0, "order")
    examples.put(scrape, 20.0)
    assert scrape.buckets["store_append_events"]["order",].examples == {SIZES.index(8): (5, TRACE)}


def test_an_example_stands_where_something_was_counted_as_long_as_its_trace_is_kept() -> None:
    # OBS-7
    examples = Examples(lambda _: None)
    examples.note([record("actor.handle"), record("store.append", 0.0001)])
    assert shown(examples, "handle_seconds", "Weigher") == {}, "whose class nobody knows any more"
    assert shown(examples, "store_append_seconds", "ok") == {}, "nothing was counted there"
    examples.note([record("store.append", 0.3), record("store.append", 0.4, at=11.0)])
    (found,) = shown(examples, "store_append_seconds", "ok").values()
    assert (round(found[0], 6), found[1]) == (0.4, TRACE)
    assert shown(examples, "store_append_seconds", "ok", now=11.0 + EXAMPLE_S + 0.1) == {}
    assert shown(examples, "store_append_seconds", "error") == {}


def test_labels_that_somebody_made_up_are_bounded() -> None:
    # OBS-1
    examples = Examples(lambda _: None)
    examples.note(record("bus.publish", topic=f"{n}") for n in range(LABEL_SETS_MAX + 1))
    assert shown(examples, "bus_publish_seconds", f"{LABEL_SETS_MAX - 1}")
    assert not shown(examples, "bus_publish_seconds", f"{LABEL_SETS_MAX}")
