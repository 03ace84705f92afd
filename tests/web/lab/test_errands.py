"""Errands of one page: who runs, who waits, who was cancelled. Pure."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from web.lab.demos.errands import ORIGINAL, WAITING_MAX, Errands


def test_the_guarded_run_one_after_the_other() -> None:  # SITE-104
    errands = Errands()
    first = errands.guard("a")
    assert first is not None
    assert (first.number, errands.guard("b"), errands.guard("c")) == (1, None, None)
    assert errands.status == "running #1 · queued #2 · queued #3"
    second = errands.finish(1)
    assert second is not None
    assert second.number == 2
    assert errands.status == "finished #1 · running #2 · queued #3"
    assert errands.finish(2) is not None
    assert errands.finish(3) is None
    assert (errands.message, errands.status) == (ORIGINAL, "finished #3")


def test_ten_wait_and_no_more() -> None:  # SITE-104
    errands = Errands()
    for number in range(1 + WAITING_MAX):
        assert not errands.is_full
        errands.guard(str(number))
    assert errands.is_full
    errands.finish(1)
    assert not errands.is_full


def test_another_kind_cancels_whatever_runs_and_only_the_last_finishes() -> None:  # SITE-105
    errands = Errands()
    for number in range(1, 6):
        assert errands.replace("a").number == number
    assert errands.status == "cancelled #4 · running #5"
    for number in range(1, 5):
        assert errands.finish(number) is None, "it was cancelled"
    assert errands.finish(5) is None
    assert (errands.started, errands.cancelled, errands.finished) == (5, 4, 1)
    assert errands.message == ORIGINAL


@given(st.lists(st.sampled_from(["guard", "replace", "finish", "stale"]), max_size=60))
def test_every_started_one_comes_to_one_end(acts: list[str]) -> None:  # SITE-104, SITE-105
    errands = Errands()
    started = 0
    for act in acts:
        running = errands.running
        if act == "guard" and not errands.is_full:
            started += errands.guard("a") is not None
        elif act == "replace":
            errands.replace("a")
            started += 1
        elif act == "finish" and running is not None:
            started += errands.finish(running.number) is not None
        elif act == "stale" and running is not None:
            assert errands.finish(running.number - 1) is None
            assert errands.running is running
        assert errands.started == started
        assert errands.started == errands.cancelled + errands.finished + (
            errands.running is not None
        )
        assert errands.running is not None or "queued" not in errands.status
