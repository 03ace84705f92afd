"""Readiness: checks in parallel, each bounded, one run a second for all who ask."""

from __future__ import annotations

import pytest
import structlog.testing
import trio
from trio.testing import MockClock

from web.site.health import CHECK_S_MAX, KEPT_S, Degraded, Health, Unhealthy


class Checks:
    """Three checks and how often they ran."""

    def __init__(self) -> None:
        self.runs = 0
        self.error: Exception | None = None
        self.takes_s = 0.0

    async def good(self) -> None:
        self.runs += 1
        await trio.sleep(self.takes_s)

    async def other(self) -> None:
        await trio.sleep(self.takes_s)
        if self.error is not None:
            raise self.error

    def health(self, *, is_draining: bool = False) -> Health:
        return Health({"good": self.good, "other": self.other}, lambda: is_draining)


async def test_checks_run_side_by_side(autojump_clock: MockClock) -> None:  # SITE-183
    checks = Checks()
    checks.takes_s = 2.0
    began = trio.current_time()
    report = await checks.health().report()
    assert trio.current_time() - began == pytest.approx(2.0)
    assert report.is_ready
    assert list(report.components) == ["good", "other"]
    assert report.to_json()["status"] == "healthy"


async def test_a_report_is_kept_for_a_second(autojump_clock: MockClock) -> None:  # SITE-183
    checks = Checks()
    health = checks.health()
    for _ in range(10):
        await health.report()
    assert checks.runs == 1
    await trio.sleep(KEPT_S + 0.1)
    await health.report()
    assert checks.runs == 2


async def test_a_doubted_report_is_made_anew(autojump_clock: MockClock) -> None:
    # SITE-155, SITE-183: also when the doubt came while it was being made
    checks = Checks()
    health = checks.health()
    assert (await health.report()).is_ready
    checks.error = Unhealthy("the database does not answer")
    assert (await health.report()).is_ready
    health.doubt()
    assert not (await health.report()).is_ready
    await trio.sleep(KEPT_S + 0.1)
    checks.takes_s = 1.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(health.report)
        await trio.sleep(0.5)
        health.doubt()
    runs = checks.runs
    await health.report()
    assert checks.runs == runs + 1


async def test_many_who_ask_during_a_slow_run_share_it(autojump_clock: MockClock) -> None:
    checks = Checks()
    checks.takes_s = 3.0
    health = checks.health()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(health.report)
    assert checks.runs == 1
    assert trio.current_time() - began == pytest.approx(3.0)


async def test_a_check_that_hangs_is_unhealthy(autojump_clock: MockClock) -> None:  # SITE-183
    checks = Checks()
    checks.takes_s = 100.0
    began = trio.current_time()
    report = await checks.health().report()
    assert trio.current_time() - began == pytest.approx(CHECK_S_MAX)
    assert not report.is_ready
    assert report.components["good"].error == "took too long"


async def test_a_failing_check_tells_its_fixed_words() -> None:  # SITE-183
    checks = Checks()
    checks.error = Unhealthy("the database does not answer")
    report = await checks.health().report()
    shown = report.to_json()["components"]
    assert isinstance(shown, dict)
    assert shown["other"]["error"] == "the database does not answer"
    assert shown["good"]["healthy"] is True
    assert not report.is_ready


async def test_a_bug_in_a_check_tells_nothing() -> None:  # SEC-131
    checks = Checks()
    checks.error = ValueError("password=hunter2")
    with structlog.testing.capture_logs() as logged:
        report = await checks.health().report()
    assert "hunter2" not in str(report.to_json())
    assert report.components["other"].error == "the check failed"
    assert [entry["event"] for entry in logged] == ["health.check_failed"]


async def test_while_draining_nothing_is_checked() -> None:  # SITE-183 SITE-185
    checks = Checks()
    report = await checks.health(is_draining=True).report()
    assert report.to_json() == {"ready": False, "status": "draining"}
    assert not report.is_ready
    assert checks.runs == 0


async def test_a_degraded_component_is_told_and_still_serves(autojump_clock: MockClock) -> None:
    checks = Checks()  # WEB-20
    checks.error = Degraded("a transaction holds the order of events back")
    report = await checks.health().report()
    told = report.to_json()
    assert report.is_ready
    assert told["status"] == "degraded"
    components = told["components"]
    assert isinstance(components, dict)
    assert components["other"]["healthy"] is True
    assert components["other"]["error"] == "a transaction holds the order of events back"


async def test_it_has_started_for_good_once_all_of_it_was_well(autojump_clock: MockClock) -> None:
    # WEB-20
    checks = Checks()
    checks.error = Unhealthy("the database does not answer")
    health = checks.health()
    assert not await health.has_started()
    checks.error = Degraded("slow")
    await trio.sleep(KEPT_S + 0.1)
    assert await health.has_started()
    checks.error = Unhealthy("the database does not answer")
    await trio.sleep(KEPT_S + 0.1)
    assert not (await health.report()).is_ready
    runs = checks.runs
    assert await health.has_started()
    assert checks.runs == runs
    # Who stops before it was ever well has not started.
    assert not await Checks().health(is_draining=True).has_started()
