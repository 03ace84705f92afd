"""Health: checks at once, each bounded, none twice; one round a second for all who ask."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

import pytest
import structlog.testing
import trio
from trio.testing import MockClock

from actors.runtime import open_actors
from supervision import ONCE, BreakerPolicy, Dependencies, DependencyPolicy, value_fallback
from supervision.guards.fallback import DEGRADED_FOR
from web.observability.health import (
    CHECK_S_MAX,
    KEPT_S,
    Component,
    Finding,
    Health,
    HealthActor,
    degraded,
    healthy,
    unhealthy,
)
from web.observability.health.of_guards import fallback_component, outside_component
from web.observability.health.words import DETAILS_MAX, TEXT_CHARS_MAX

AT = datetime(2026, 3, 1, tzinfo=UTC)
WHO = ContextVar("who", default="nobody")


class Checks:
    """Two checks, and how often the first ran."""

    def __init__(self) -> None:
        self.runs = 0
        self.found = healthy()
        self.error: Exception | None = None
        self.takes_s = 0.0
        self.is_draining = False

    async def good(self) -> Finding:
        self.runs += 1
        await trio.sleep(self.takes_s)
        return healthy(free=3)

    async def other(self) -> Finding:
        await trio.sleep(self.takes_s)
        if self.error is not None:
            raise self.error
        return self.found

    @asynccontextmanager
    async def health(self, *more: Component) -> AsyncIterator[Health]:
        two = [Component("good", self.good), Component("other", self.other)]
        health = Health([*two, *more], lambda: AT, lambda: self.is_draining)
        async with running(health):
            yield health


@asynccontextmanager
async def running(health: Health) -> AsyncIterator[Health]:
    async with trio.open_nursery() as nursery:
        health.attach(nursery.start_soon)
        yield health
        nursery.cancel_scope.cancel()


async def test_checks_run_side_by_side(autojump_clock: MockClock) -> None:  # SITE-183, RES-40
    checks = Checks()
    checks.takes_s = 2.0
    async with checks.health() as health:
        began = trio.current_time()
        report = await health.report()
        assert trio.current_time() - began == pytest.approx(2.0)
    assert report.is_ready
    assert list(report.components) == ["good", "other"]


async def test_a_component_is_shown_as_probes_know_it(autojump_clock: MockClock) -> None:
    # WEB-20, RES-40: `verbose` is for people, and has the numbers too
    checks = Checks()
    checks.takes_s = 0.5
    checks.found = unhealthy("the printer is on fire", pages=7)
    async with checks.health() as health:
        report = await health.report()
    good = {"healthy": True, "status": "healthy", "duration_ms": 500.0}
    other = {**good, "healthy": False, "status": "unhealthy", "error": "the printer is on fire"}
    shown = {"ready": False, "status": "unhealthy", "duration_ms": 500.0}
    assert report.to_json() == {**shown, "components": {"good": good, "other": other}}
    at = {"checked_at": AT.isoformat()}
    assert report.to_json(is_verbose=True)["components"] == {
        "good": {**good, **at, "details": {"free": 3}},
        "other": {**other, **at, "details": {"pages": 7}},
    }
    assert report.to_public_json() == {"ready": False, "status": "unhealthy"}


async def test_the_worst_component_counts_and_a_degraded_one_serves(
    autojump_clock: MockClock,
) -> None:
    checks = Checks()  # WEB-20, RES-40
    checks.found = degraded("a transaction holds the order of events back")
    async with checks.health() as health:
        report = await health.report()
        assert (report.status, report.is_ready) == ("degraded", True)
        components = report.to_json()["components"]
        assert isinstance(components, dict)
        assert components["other"]["healthy"] is True
        assert components["other"]["message"] == "a transaction holds the order of events back"
        assert "error" not in components["other"]
        checks.error = RuntimeError()
        await trio.sleep(KEPT_S + 0.1)
        report = await health.report()
        assert (report.status, report.is_ready) == ("unhealthy", False)


async def test_a_report_is_kept_for_a_second(autojump_clock: MockClock) -> None:
    # SITE-183, RES-40
    checks = Checks()
    async with checks.health() as health:
        for _ in range(10):
            await health.report()
        assert checks.runs == 1
        await trio.sleep(KEPT_S + 0.1)
        await health.report()
    assert checks.runs == 2


async def test_a_doubted_report_is_made_anew(autojump_clock: MockClock) -> None:
    # SITE-155, SITE-183: also when the doubt came while it was being made
    checks = Checks()
    async with checks.health() as health:
        assert (await health.report()).is_ready
        checks.found = unhealthy("the database does not answer")
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
            # Who asks behind the doubt is not given what was found before it.
            await health.report()
            assert checks.runs == runs + 1
        assert checks.runs == runs + 1


async def test_many_who_ask_during_a_slow_round_share_it(autojump_clock: MockClock) -> None:
    checks = Checks()  # RES-40
    checks.takes_s = 3.0
    async with checks.health() as health:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(health.report)
        assert checks.runs == 1
        assert trio.current_time() - began == pytest.approx(3.0)


async def test_who_asks_may_go_and_the_others_are_told(autojump_clock: MockClock) -> None:
    checks = Checks()  # RES-40
    checks.takes_s = 3.0
    async with checks.health() as health, trio.open_nursery() as nursery:
        with trio.move_on_after(1.0) as left:
            await health.report()
        assert left.cancelled_caught
        nursery.start_soon(health.report)
        report = await health.report()
        assert trio.current_time() == pytest.approx(3.0)
    assert (report.is_ready, checks.runs) == (True, 1)


async def test_a_check_that_takes_too_long_is_cut_and_unhealthy(autojump_clock: MockClock) -> None:
    # SITE-183, WEB-20, RES-40
    checks = Checks()
    checks.takes_s = 100.0
    async with checks.health() as health:
        report = await health.report()
        assert trio.current_time() == pytest.approx(CHECK_S_MAX)
        assert not report.is_ready
        assert report.components["good"].message == "took longer than 5 s"
        assert report.components["good"].duration_ms == pytest.approx(CHECK_S_MAX * 1000)
        await trio.sleep(KEPT_S + 0.1)
        await health.report()
        assert checks.runs == 2  # it let itself be cancelled, so it may be tried again


async def test_a_check_that_hangs_is_not_started_twice(autojump_clock: MockClock) -> None:
    # RES-40: nothing piles up behind it, and the others are checked as ever
    checks, begun, back = Checks(), 0, trio.Event()

    async def hangs() -> Finding:
        nonlocal begun
        begun += 1
        # As a thread that cannot be interrupted.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1000):
            await back.wait()
        return healthy()

    async with checks.health(Component("hangs", hangs)) as health:
        report = await health.report()
        assert report.components["hangs"].message == "took longer than 5 s"
        for round_ in range(2, 5):
            await trio.sleep(KEPT_S + 0.1)
            asked_at = trio.current_time()
            report = await health.report()
            assert trio.current_time() == asked_at  # nobody waits for it again
            assert not report.is_ready
            assert "has not come back for" in report.components["hangs"].message
            assert report.components["good"].status == "healthy"
            assert (begun, checks.runs) == (1, round_)
        back.set()
        await trio.sleep(KEPT_S + 0.1)
        assert (await health.report()).is_ready
        assert begun == 2


async def test_what_is_only_looked_at_is_looked_at_before_the_rest_begins(
    autojump_clock: MockClock,
) -> None:
    """So the checks themselves are not among those who wait for a connection."""
    seen: list[str] = []

    def looks() -> Finding:
        seen.append("looks")
        return healthy()

    async def waits() -> Finding:
        seen.append("waits")
        return healthy()

    parts = [Component("a", waits), Component("b", looks), Component("c", waits)]
    async with running(Health(parts, lambda: AT)) as health:
        report = await health.report()
    assert seen == ["looks", "waits", "waits"]
    assert list(report.components) == ["a", "b", "c"]


async def nothing() -> None:
    """Forget to say what was found."""


def raises() -> Finding:
    raise ValueError("password=hunter2")


@pytest.mark.parametrize("bad", [raises, nothing])
async def test_a_bug_in_a_check_tells_nothing(bad: Callable[[], Finding]) -> None:
    # SEC-131, WEB-20
    with structlog.testing.capture_logs() as logged:
        async with Checks().health(Component("bad", bad)) as health:
            report = await health.report()
    assert "hunter2" not in str(report.to_json(is_verbose=True))
    assert (report.components["bad"].message, report.is_ready) == ("the check failed", False)
    assert report.components["good"].status == "healthy"
    assert [entry["log_level"] for entry in logged] == ["error"]
    assert logged[0]["component"] == "bad"


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("connect to postgres://app:hunter2@db.internal:5432/shop failed", "connect to *** failed"),
        ("FATAL for app@db.internal", "FATAL for ***"),
        ("10.1.2.3:5432 refused", "*** refused"),
        ("fe80:0:0:1::7 refused", "*** refused"),
        ("no room in /home/alice/data", "no room in ***"),
        ("password=hunter2", "password=***"),
        ("two\nlines\tand more", "two lines and more"),
        ("site/rooms/lobby waits since 12:30", "site/rooms/lobby waits since 12:30"),
    ],
)
def test_what_others_said_is_shown_without_places_and_secrets(told: str, shown: str) -> None:
    # WEB-20, RES-40
    found = degraded(told, last=told)
    assert (found.message, found.details["last"]) == (shown, shown)


def test_what_a_check_tells_is_bounded() -> None:
    # RES-40
    found = degraded("x" * 100_000, text="y" * 100_000)
    assert len(found.message) == TEXT_CHARS_MAX
    assert len(str(found.details["text"])) == TEXT_CHARS_MAX
    with pytest.raises(ValueError, match="at most 16 details, got 17"):
        Finding("healthy", "", {f"n{at}": at for at in range(DETAILS_MAX + 1)})
    with pytest.raises(ValueError, match="names no detail"):
        Finding("healthy", "", {"Größe": 1})
    with pytest.raises(ValueError, match="has over 63 bits"):
        healthy(n=2**63)
    with pytest.raises(TypeError, match="is a list, no number or text"):
        Finding("healthy", "", {"all": []})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="a status is one of"):
        Finding("well")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="names no component"):
        Component("Event Store", healthy)
    with pytest.raises(ValueError, match="two components are called 'a'"):
        Health([Component("a", healthy)] * 2, lambda: AT)


async def test_while_draining_nothing_is_checked(autojump_clock: MockClock) -> None:
    # SITE-183, SITE-185, WEB-20
    checks = Checks()
    async with checks.health() as health:
        checks.is_draining = True
        report = await health.report()
        assert report.to_json(is_verbose=True) == {"ready": False, "status": "draining"}
        assert (report.is_ready, checks.runs) == (False, 0)
        # Also for who had asked before.
        checks.is_draining, checks.takes_s = False, 2.0
        told: list[bool] = []

        async def ask() -> None:
            told.append((await health.report()).is_ready)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(1.0)
            checks.is_draining = True
            assert (await health.report()).is_draining
        # What it is told was true when it asked; who asks from now on is told the other.
        assert len(told) == 1


async def test_it_has_started_for_good_once_all_of_it_served(autojump_clock: MockClock) -> None:
    # WEB-20
    checks = Checks()
    checks.found = unhealthy("the database does not answer")
    async with checks.health() as health:
        assert not await health.has_started()
        # A read model that is filled for the first time serves nobody yet.
        checks.found = Finding("degraded", "is filled", is_starting=True)
        await trio.sleep(KEPT_S + 0.1)
        assert (await health.report()).is_ready
        assert not await health.has_started()
        checks.found = degraded("slow")
        await trio.sleep(KEPT_S + 0.1)
        assert await health.has_started()
        checks.found = Finding("unhealthy", "away", is_starting=True)
        await trio.sleep(KEPT_S + 0.1)
        assert not (await health.report()).is_ready
        runs = checks.runs
        assert await health.has_started()
        assert checks.runs == runs
    # Who stops before it was ever well has not started.
    stopping = Checks()
    stopping.is_draining = True
    async with stopping.health() as health:
        assert not await health.has_started()


async def test_its_actor_may_be_killed_at_any_time(autojump_clock: MockClock) -> None:
    # RES-40: who waits is told, and the next incarnation goes on
    checks = Checks()
    parts = [Component("good", checks.good)]
    health = Health(parts, lambda: AT)
    no_report = (await health.report()).components["good"]
    assert (no_report.status, no_report.message) == ("unhealthy", "the checks do not run")
    async with open_actors() as system:
        for kills in range(1, 4):
            actor = await system.start(HealthActor, health)
            checks.takes_s = 0.0
            assert (await health.report()).is_ready
            await trio.sleep(KEPT_S + 0.1)
            checks.takes_s = 3.0
            told: list[bool] = []

            async def ask(told: list[bool] = told) -> None:
                told.append((await health.report()).is_ready)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                await trio.sleep(1.0)
                actor.kill()
            assert told == [False]
            assert not (await health.report()).is_ready
            await system.wait_down(actor)
            assert checks.runs == 2 * kills


async def test_checks_are_no_part_of_the_request_that_asked(autojump_clock: MockClock) -> None:
    """What they do is not drawn as something a visitor has caused."""
    seen: list[str] = []

    async def check() -> Finding:
        seen.append(WHO.get())
        return healthy()

    async with running(Health([Component("a", check)], lambda: AT)) as health:
        WHO.set("a visitor")
        await health.report()
    assert seen == ["nobody"]


async def test_what_is_answered_by_a_fallback_is_degraded_for_a_minute(
    autojump_clock: MockClock,
) -> None:
    # RES-6
    fallback = value_fallback("weather", "as yesterday")
    component = fallback_component(fallback)
    async with running(Health([component], lambda: AT)) as health:
        assert (await health.report()).status == "healthy"

        async def away() -> str:
            raise TimeoutError

        assert await fallback.call(away) == "as yesterday"
        for after_s, status in [(KEPT_S + 0.1, "degraded"), (DEGRADED_FOR, "healthy")]:
            await trio.sleep(after_s)
            found = (await health.report()).components["weather"]
            assert (found.status, found.finding.details["uses"]) == (status, 1)


async def test_what_is_left_alone_outside_is_degraded(autojump_clock: MockClock) -> None:
    # RES-9
    policy = DependencyPolicy(retry=ONCE, breaker=BreakerPolicy(failures=1, successes=1))
    outside = Dependencies({"mail": policy, "provider.big-one": policy})
    async with running(Health([outside_component(outside)], lambda: AT)) as health:
        assert (await health.report()).status == "healthy"

        async def away() -> None:
            raise TimeoutError

        with pytest.raises(TimeoutError):
            await outside.dependency("provider.big-one").call(away)
        await trio.sleep(KEPT_S + 0.1)
        found = (await health.report()).components["outside"]
        assert (found.status, found.finding.message) == (
            "degraded",
            "left alone for now: provider.big-one",
        )
        assert found.finding.details == {"mail": "closed", "provider_big_one": "open"}


def test_a_check_may_be_any_of_these() -> None:
    """Types: a coroutine function, a plain one, a method, a partial."""
    checks: list[Callable[[], Finding | Awaitable[Finding]]] = [Checks().good, healthy]
    assert [Component("a", check).name for check in checks] == ["a", "a"]
