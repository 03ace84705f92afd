"""The overview of operators: its page, its stream, and the same in a terminal (OBS-11)."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, fields, replace
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from actors.accounts import Role
from actors.chat import LOBBY
from actors.runtime import open_actors
from actors.testing import Puppet
from tests.journeys.visitor import Visitor
from tests.patience import until
from tests.web.accounts.test_entering import get, register
from tests.web.accounts.test_operating import operator
from tests.web.cli.commanding import Commands
from tests.web.views import samples
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.cli.live.showing import COLUMNS, fitted, top_lines
from web.observability.metrics.scraping import Metrics, Scrape
from web.observability.operating.overview.reading import Handled, OverviewSource, lags_of, late_ms
from web.routing import paths
from web.settings import Settings
from web.views.moderation import Lagging, OverviewView

MANY_HANDLED = Handled(1_000, 60, 3.0)


@pytest.mark.parametrize(
    ("now", "busy_s"),
    [
        # Of 160 that were handled since 10 were timed, a hundredth of a second each.
        (Handled(1_160, 70, 3.1), 1.6),
        # None of those was timed: as all that were.
        (Handled(1_004, 60, 3.0), 0.2),
        # Times began anew, and were taken of some since.
        (Handled(1_100, 5, 0.01), 0.2),
        (Handled(1_100, 0, 0.0), 0.0),
        (MANY_HANDLED, 0.0),
    ],
)
def test_how_busy_an_actor_is_counts_those_that_are_not_timed(now: Handled, busy_s: float) -> None:
    # OBS-11
    assert now.busy_s(MANY_HANDLED) == pytest.approx(busy_s)


async def test_an_actor_that_works_all_the_time_is_told_so(autojump_clock: MockClock) -> None:
    # OBS-11: whatever part of its messages is timed
    async with open_actors() as system:
        ref = await system.start(Puppet, name="at-work")
        source = OverviewSource(lambda: system, Metrics(), tuple, lambda: None, lambda: samples.AT)
        with source.watching():
            await source.read()
            cell = system.at("at-work")
            assert cell is not None
            assert cell.meter is not None
            # As a handler does that takes 0.05 s, of which one in sixteen is timed.
            cell.counts.handled += 32
            for _ in range(2):
                cell.meter.note(0.0, 0.0, 0.05)
            await trio.sleep(2.0)
            (found,) = (await source.read()).busiest
            assert (found.path, found.busy_percent) == ("at-work", 80.0)
            assert found.handled_per_s == 16.0
        await ref.stop()


TOPIC = "arn:aws:sns:eu-west-1:123456789012:mail"
SETTINGS = Settings(port=0, overload_late_ms=60_000, overload_after_ms=60_000, ses_topic=TOPIC)


def is_measured(site: WholeSite) -> bool:
    cell = site.system.at(f"site/rooms/{LOBBY.lower()}")
    return cell is not None and cell.meter is not None


async def refused(visitor: Visitor) -> int:
    await in_thread(visitor.open_lab)
    stream = await in_thread(lambda: visitor.open_stream_of("overview"))
    with stream:
        return stream.status


@pytest.mark.slow
async def test_operators_alone_see_the_running_site_and_it_goes_on(
    tmp_path: Path, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # OBS-11
    run, words = Commands(database_url, capsys), ("top", "--once", "--state-dir", str(tmp_path))
    async with open_whole_site(settings=SETTINGS, has_documents=False, control_in=tmp_path) as site:
        guest, ada, grace = site.visitor(), await register(site), await operator(site)
        await site.accounts.grant("ada", Role.MODERATOR)
        assert (await get(guest, paths.OPS)).status == 303
        assert (await get(ada, paths.OPS)).status == 403
        assert await refused(guest) == 401
        assert await refused(ada) == 403
        await in_thread(grace.open_lab)
        page = await get(grace, paths.OPS)
        assert page.status == 200
        assert page.headers["cache-control"] == "no-store"
        for shown in (
            'id="overview"',
            "<code>sns</code>",
            "Busiest actors",
            "not known",
            "spans lost",
        ):
            assert shown in page.text, shown
        assert set(re.findall(r'href="(/ops[^"]*)"', page.text)) == {
            paths.OPS, paths.OPS_DEAD, paths.OPS_TRACES, paths.OPS_OUTSIDE, paths.OPS_SIGN_INS,
            paths.OPS_AUDIT,
        }  # fmt: skip
        for path in set(re.findall(r'href="(/ops[^"]*)"', page.text)):
            other = await get(grace, path)
            assert (other.status, f'href="{path}" aria-current="page"' in other.text) == (200, True)
        assert not is_measured(site), "with nobody watching no times are taken"
        stream = await in_thread(lambda: grace.open_stream_of("overview"))
        with stream:
            # Who is busiest needs a second look.
            await in_thread(lambda: stream.read_until(b'id="overview"', b"<code>site/"))
            assert is_measured(site)
        await until(lambda: not is_measured(site))
        assert await in_thread(lambda: run(*words, "--json")) == 0
        # Beside the lines of requests, which the site in this process writes.
        (row,) = (json.loads(line) for line in run.out.splitlines() if line.startswith("{"))
        assert sorted(row) == sorted(field.name for field in fields(OverviewView))
        assert row["breakers"] == [{"name": "sns", "state": "closed", "retry_in_s": 0}]
        assert row["messages_per_s"] is not None
        assert await in_thread(lambda: run(*words)) == 0
        assert "CALLED OUTSIDE\nsns " in run.out
        await until(lambda: not is_measured(site))
    assert await in_thread(lambda: run(*words)) == 5


def as_row(view: OverviewView) -> dict[str, object]:
    return msgspec.json.decode(msgspec.json.encode(asdict(view)), type=dict[str, object])


def test_a_terminal_of_80_columns_holds_it() -> None:
    # OBS-11
    known = top_lines(as_row(samples.overview("x" * 200)))
    unknown = top_lines(as_row(samples.overview(is_known=False)))
    assert max(map(len, [*known, *unknown])) <= COLUMNS
    assert "messages/s not known   events/s not known" in unknown
    for said in (
        "orders                   1200 events, 7.2 s, 40.5/s, in 29.6 s, rebuilt 12.5 %",
        "to send 3   oldest 2.0 s   dead letters 1   spans lost 0",
    ):
        assert said in top_lines(as_row(samples.overview("orders"))), said
    assert "\x1b" not in "".join(top_lines(as_row(samples.overview("\x1b[2Jx\ny"))))


def test_a_screen_keeps_the_first_lines_of_what_is_longer() -> None:
    # OBS-11
    lines = [f"{number} {'x' * 90}" for number in range(40)]
    for rows in (24, 41, 40, 2, 1):
        shown = fitted(lines, 50, rows)
        assert len(shown) == min(40, max(2, rows - 1))
        assert shown[0] == lines[0][:50]
        assert max(map(len, shown)) == 50
    assert fitted(lines, 80, 24)[-1].startswith("... and 18 lines more")
    assert fitted(lines[:23], 80, 24)[-1] == lines[22][:80]


def test_of_a_projection_it_is_told_how_fast_it_is_and_when_it_is_there() -> None:
    # PROJ-5, PROJ-8
    scrape = Scrape()
    scrape.put("bus_lag_records", 4, "mail", "orders")
    told = (("lag_events", 90), ("lag_seconds", 7), ("events_per_second", 3.04))
    for name, number in (*told, ("eta_seconds", 29.605), ("rebuild_ratio", 0.25)):
        scrape.put(f"projection_{name}", number, "orders")
    scrape.put("projection_lag_events", 2, "sums")
    scrape.put("projection_rebuild_ratio", 1.0, "sums")
    orders, of_bus, sums = lags_of(scrape)
    assert orders == Lagging("orders", 90, 7, 3.0, 29.6, 25.0)
    assert (of_bus, sums) == (Lagging("orders of mail", 4, 0.0), Lagging("sums", 2, 0.0))
    shown = samples.renderer().overview(replace(samples.overview(), lags=(orders, sums)))
    assert "(rebuilt: 25.0 %)" in shown
    assert '<td>3.0</td><td>29.6 <span class="unit">s</span></td>' in shown
    assert shown.count("rebuilt") == 1


def test_how_late_turns_come_is_told_without_the_latest_of_a_hundred() -> None:
    # 99 turns of at most 2 ms, one of at most 16 ms: counter i holds those of i bits
    before, now = [0] * 32, [0] * 32
    now[11], now[14] = 990, 10
    assert late_ms(now, before) == pytest.approx(2.048)
    now[14] = 11
    assert late_ms(now, before) == pytest.approx(16.384)
    assert late_ms(now, now) is None
