"""Which traces are kept, and how they are shown."""

from __future__ import annotations

import pytest

from actors.runtime.telling.spans import KEPT_MAX, Record, SpanRead, Spans, Value
from web.observability.operating.traces import kept as keeping
from web.observability.operating.traces.kept import (
    KEPT_FOR_S,
    OWNER,
    RECORD_BYTES,
    SPANS_OF_ONE_MAX,
    KeptTraces,
    matching,
)
from web.observability.operating.traces.presenting import WIDTH, in_order, span_views

SAMPLED, OTHER, THIRD = (f"{'a' * 24}{number:08x}" for number in (10, 11, 12))


def spans_of(*records: Record) -> Spans:
    spans = Spans(lambda number, actor: f"{number:08x}{actor:08x}", lambda: 0.0)
    for one in records:
        spans.add(one)
    return spans


def record(
    trace: str,
    began: float = 0.0,
    ended: float = 0.5,
    error: str = "",
    name: str = "actor.handle",
    span: str = "1" * 16,
    parent: str = "0" * 16,
    **fields: Value,
) -> Record:
    return (
        name,
        f"00-{trace}-{parent}-00",
        span,
        None,
        0,
        began,
        ended,
        "site",
        "c",
        error,
        fields,
    )


def request(trace: str, route: str, owner: str, took: float) -> Record:
    return record(trace, 0.0, took, name="http.request", route=route, **{OWNER: owner})


def test_one_by_its_id_and_whole_ones_in_which_something_went_wrong() -> None:  # OBS-4
    kept = KeptTraces()
    spans = spans_of(
        record(OTHER), record(SAMPLED), record(THIRD), record(OTHER, error="cancelled")
    )
    assert [one[1][3:35] for one in kept.look(spans, 1.0)] == [SAMPLED]
    # What came before the error is there too, though an earlier look passed it over.
    spans.add(record(OTHER, error="ValueError"))
    spans.add(record(THIRD, 0.0, 1.5))
    added = kept.look(spans, 2.0)
    assert [one[1][3:35] for one in added].count(OTHER) == 3
    assert [one[1][3:35] for one in added].count(THIRD) == 2
    assert {one.trace: one.why for one in kept.newest()} == {
        SAMPLED: "chance", OTHER: "error", THIRD: "slow"
    }  # fmt: skip
    spans.add(record(OTHER))
    assert len(kept.look(spans, 2.5)) == 1, "and what comes later"
    assert kept.look(spans, 3.0) == []


@pytest.mark.parametrize(
    "traceparent",
    ["", "of-some-later-version", f"00-{'g' * 32}-{'1' * 16}-01", f"00-{SAMPLED}-{'1' * 16}"],
)
def test_what_another_program_says_for_a_trace_harms_no_trace_of_ours(traceparent: str) -> None:
    # OBS-4
    kept = KeptTraces()
    one = record(SAMPLED, error="KeyError")
    foreign: Record = (one[0], traceparent, *one[2:])
    added = kept.look(spans_of(foreign, record(SAMPLED), foreign), 1.0)
    assert [one[1][3:35] for one in added] == [SAMPLED]


@pytest.mark.parametrize(
    ("name", "error"), [("dead.letter", "stopped"), ("actor.handle", "deadline")]
)
def test_a_dead_letter_and_a_missed_deadline_keep_their_trace(name: str, error: str) -> None:
    # OBS-4
    kept = KeptTraces()
    kept.look(spans_of(record(OTHER, name=name, error=error)), 1.0)
    (found,) = kept.newest()
    assert (found.why, found.has_error) == ("error", True)


def test_what_is_kept_has_an_end_in_time_and_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    # OBS-8
    kept = KeptTraces()
    kept.look(spans_of(record(SAMPLED)), 1.0)
    kept.look(spans_of(), KEPT_FOR_S)
    assert (len(kept), kept.span_count) == (1, 1)
    kept.look(spans_of(), KEPT_FOR_S + 1.1)
    assert (len(kept), kept.span_count, kept.forgotten) == (0, 0, 0)
    monkeypatch.setattr(keeping, "KEPT_BYTES_MAX", 5 * RECORD_BYTES)
    traces = [f"{'a' * 24}{10 * number:08x}" for number in range(1, 9)]
    kept.look(spans_of(*map(record, traces)), 2.0)
    assert [one.trace for one in kept.newest()] == traces[:2:-1]
    assert (kept.span_count, kept.forgotten) == (5, 3)


def test_a_trace_without_end_takes_no_more_than_its_share() -> None:  # OBS-8
    kept = KeptTraces()
    kept.look(spans_of(*[record(SAMPLED)] * (SPANS_OF_ONE_MAX + 7)), 1.0)
    (found,) = kept.newest()
    assert (len(found.records), found.left_out) == (SPANS_OF_ONE_MAX, 7)


def test_a_search_means_what_it_says() -> None:  # OBS-8
    kept = KeptTraces()
    slow, failed = request(OTHER, "/lab", "ada", 2.0), request(SAMPLED, "/", "eve", 0.1)
    kept.look(spans_of(slow, failed, record(SAMPLED, error="KeyError")), 1.0)

    def found(**asked: object) -> set[str]:
        return {one.trace for one in matching(kept.newest(), **asked)}  # type: ignore[arg-type]

    assert found() == {OTHER, SAMPLED}
    assert found(least_s=1.0) == found(has_error=False) == found(owner="ada") == {OTHER}
    assert found(has_error=True) == found(owner="eve") == {SAMPLED}
    assert found(route="lab") == {OTHER}
    assert found(route="lab", has_error=True) == set()


def test_spans_stand_below_what_caused_them_and_a_circle_has_an_end() -> None:  # OBS-8
    kept = KeptTraces()
    ids = [f"{number}" * 16 for number in range(1, 6)]
    kept.look(
        spans_of(
            record(SAMPLED, 3.0, 4.0, span=ids[2], parent=ids[1], **{OWNER: "somebody"}, n=1),
            record(SAMPLED, 2.0, 9.0, span=ids[1], parent=ids[0]),
            record(SAMPLED, 1.0, 2.0, span=ids[0], name="http.request"),
            record(SAMPLED, 5.0, 6.0, span=ids[3], parent="f" * 16, error="KeyError"),
        ),
        9.0,
    )
    (found,) = kept.newest()
    views = span_views(found, spans_of())
    assert [one.depth for one in views] == [0, 1, 2, 0]
    assert [(one.left, one.width) for one in views] == [
        (0, 125),
        (125, 875),
        (250, 125),
        (500, 125),
    ]
    assert all(one.left + one.width <= WIDTH for one in views)
    assert views[2].fields == "n 1", "whose it is is shown to nobody"
    assert (views[3].error, found.took_s) == ("KeyError", 8.0)

    def one(span: str, parent: str) -> SpanRead:
        return SpanRead("n", SAMPLED, span, parent, 0.0, 1.0, "", "", "")

    circle = [one(ids[0], ""), one(ids[1], ids[0]), one(ids[0], ids[1]), one(ids[4], ids[4])]
    assert len(in_order(circle)) <= KEPT_MAX
    assert {each.span for _, each in in_order(circle)} == {ids[0], ids[1], ids[4]}
