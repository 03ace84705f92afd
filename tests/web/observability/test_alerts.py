"""Operators hear of what should be rare and is not."""

import trio
from trio.testing import MockClock

from actors.accounts.members import refuse_change
from tests.logged import captured
from web.accounts.roles.access import ACCESS
from web.observability.alerts import THRESHOLDS, WAYS_IN, Alert, Alerts, Threshold
from web.observability.metrics.collectors import of_rare
from web.observability.metrics.scraping import Scrape
from web.routing.paths import OAUTH_BACK
from web.server import RequestSpan


async def test_what_is_too_often_is_told_once_a_period(autojump_clock: MockClock) -> None:
    # AUTH-42, SEC-137
    assert THRESHOLDS[Alert.FAILED_SIGN_INS] == Threshold(100, 60.0)
    alerts = Alerts(trio.current_time)
    with captured() as lines:
        for _ in range(100):
            alerts.note(Alert.FAILED_SIGN_INS)
        assert lines == []
        for _ in range(400):
            alerts.note(Alert.FAILED_SIGN_INS)
        (line,) = lines
        assert (line["event"], line["log_level"]) == ("alert", "error")
        assert (line["what"], line["count"], line["limit"]) == ("failed_sign_ins", 101, 100)
        assert alerts.counts()[Alert.FAILED_SIGN_INS] == 500
        assert alerts.counts()[Alert.REFUSED_HANDSHAKES] == 0
        await trio.sleep(61)
        assert alerts.counts()[Alert.FAILED_SIGN_INS] == 0
        for _ in range(101):
            alerts.note(Alert.FAILED_SIGN_INS)
        assert len(lines) == 2


async def test_a_slow_trickle_is_none(autojump_clock: MockClock) -> None:
    # AUTH-42: as many in two minutes are not as many in one
    alerts = Alerts(trio.current_time)
    with captured() as lines:
        for _ in range(400):
            alerts.note(Alert.FAILED_SIGN_INS)
            await trio.sleep(0.62)
    assert lines == []


async def test_what_must_never_be_is_told_each_time(autojump_clock: MockClock) -> None:
    # SEC-137, AUTH-42
    alerts = Alerts(trio.current_time)
    with captured() as lines:
        for _ in range(3):
            alerts.note(Alert.SIGN_INS_UNKNOWN)
    assert [line["what"] for line in lines] == ["sign_ins_unknown"] * 3


def test_each_way_in_that_refuses_somebody_is_counted() -> None:
    # AUTH-42, SEC-137: by a password, a link, a passkey, a second factor behind them, a recovery
    ways = {
        path
        for path, methods in ACCESS.items()
        if "POST" in methods
        and methods["POST"].is_for_all
        and any(word in path for word in ("login", "magic-link", "auth/second"))
        # Those ask for the means only, or take them away.
        and not path.endswith(("/begin", "/send", "/link", "/stop"))
    }
    assert len(ways) == 10
    alerts = Alerts(lambda: 0.0)
    for number, path in enumerate(ways, 1):
        for method, status in (("POST", 401), ("POST", 303), ("GET", 401), ("POST", 422)):
            alerts.note_answer(_span(method, path, status))
        assert alerts.counts()[Alert.FAILED_SIGN_INS] == number, path
    # Who comes back from a provider in vain, whatever its name.
    for status in (400, 303, 503):
        alerts.note_answer(_span("GET", "/api/v1/auth/oauth/x/callback", status, OAUTH_BACK))
    assert alerts.counts()[Alert.FAILED_SIGN_INS] == 11
    alerts.note_answer(_span("POST", "/account/password", 401))
    assert alerts.counts()[Alert.FAILED_SIGN_INS] == 11
    assert set(WAYS_IN) == ways | {OAUTH_BACK}


def _span(method: str, path: str, status: int, route: str | None = None) -> RequestSpan:
    return RequestSpan(
        method=method, path=path, status=status, latency_s=0.01, request_id="r", route=route
    )


async def test_each_is_a_figure_and_so_is_each_attempt_to_change_what_never_changes() -> None:
    # SEC-137, SEC-21: also where the line of the log is lost
    alerts = Alerts(lambda: 0.0)
    alerts.note(Alert.REFUSED_HANDSHAKES)
    before, found = Scrape(), Scrape()
    await of_rare(alerts.counts)(before)
    with captured() as lines:
        refuse_change("user_id")
    await of_rare(alerts.counts)(found)
    assert [line["event"] for line in lines] == ["accounts.fixed_field"]
    (earlier,) = before.numbers["log_critical_total"].values()
    assert found.numbers["log_critical_total"] == {(): earlier + 1}
    assert set(found.numbers["rare"]) == {(one.value,) for one in Alert}
    assert found.numbers["rare"]["refused_handshakes",] == 1


async def test_tokens_that_were_made_up_are_told(autojump_clock: MockClock) -> None:
    # AUTH-42, SEC-137
    alerts = Alerts(trio.current_time)
    with captured() as lines:
        for _ in range(12):
            alerts.note(Alert.FORGED_TOKENS)
    (line,) = lines
    assert (line["what"], line["count"], line["limit"]) == ("forged_tokens", 11, 10)
