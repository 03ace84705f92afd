"""Operators hear of what should be rare and is not."""

import trio
from trio.testing import MockClock

from tests.logged import captured
from web.observability.alerts import THRESHOLDS, Alert, Alerts, Threshold


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
