"""Operators hear of what should be rare and is not."""

import trio
from trio.testing import MockClock

from tests.logged import captured
from web.accounts.roles.access import ACCESS
from web.observability.alerts import THRESHOLDS, Alert, Alerts, Threshold
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
    alerts.note_answer(_span("POST", "/account/password", 401))
    assert alerts.counts()[Alert.FAILED_SIGN_INS] == 10


def _span(method: str, path: str, status: int) -> RequestSpan:
    return RequestSpan(method=method, path=path, status=status, latency_s=0.01, request_id="r")


async def test_tokens_that_were_made_up_are_told(autojump_clock: MockClock) -> None:
    # AUTH-42, SEC-137
    alerts = Alerts(trio.current_time)
    with captured() as lines:
        for _ in range(12):
            alerts.note(Alert.FORGED_TOKENS)
    (line,) = lines
    assert (line["what"], line["count"], line["limit"]) == ("forged_tokens", 11, 10)
