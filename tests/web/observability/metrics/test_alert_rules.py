"""The shipped alerts name metrics that exist, and each fires for its cause and for nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from web.observability.metrics import METRICS, PREFIX
from web.observability.metrics.words import MetricKind

ROOT = Path(__file__).parents[4]
RULES = ROOT / "web" / "observability" / "shipped" / "alerts.yml"
PAGE = ROOT / "docs" / "how_to" / "observe.md"

# Of each alert: series with what they are each minute, when it fires, and when it does not.
_SERIES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "DeadLettersFull": ({"dead_letters_fullness_ratio": "0.81x30"},
                        {"dead_letters_fullness_ratio": "0.8x30"}),
    "DeadLettersPending": ({'dead_letters{status="pending"}': "101x30"},
                           {'dead_letters{status="pending"}': "100x30",
                            'dead_letters{status="resolved"}': "999x30"}),
    "ErrorRate": ({'http_requests_total{route="/",status="5xx"}': "0+6x30",
                   'http_requests_total{route="/",status="2xx"}': "0+94x30"},
                  {'http_requests_total{route="/",status="5xx"}': "0+4x30",
                   'http_requests_total{route="/",status="4xx"}': "0+96x30"}),
    # Each minute it is asked once, and that call takes its time: half open is not well.
    "BreakerOpen": ({'breaker_state{name="mail"}': " ".join(["1", "2"] * 16)},
                    {'breaker_state{name="mail"}': "2x30"}),
    "SlowRequests": ({'http_request_seconds_bucket{le="1.0"}': "0+90x30",
                      'http_request_seconds_bucket{le="2.5"}': "0+100x30",
                      'http_request_seconds_bucket{le="+Inf"}': "0+100x30"},
                     {'http_request_seconds_bucket{le="0.5"}': "0+100x30",
                      'http_request_seconds_bucket{le="1.0"}': "0+100x30",
                      'http_request_seconds_bucket{le="+Inf"}': "0+100x30"}),
    "PoolExhausted": ({"pool_waiting": "1x30"}, {"pool_waiting": "0x30"}),
    "ProjectionBehind": ({'projection_lag_seconds{projection="a"}': "31x30"},
                         {'projection_lag_seconds{projection="a"}': "30x30"}),
    "BusBehind": ({'bus_lag_records{topic="t",group="g"}': "1001x30"},
                  {'bus_lag_records{topic="t",group="g"}': "1000x30"}),
    "SagaStuck": ({'saga_stuck{saga="checkout"}': "1x30"}, {'saga_stuck{saga="checkout"}': "0x30"}),
    "CacheMisses": ({'cache_hits_total{projection="a"}': "0+600x30",
                     'cache_misses_total{projection="a"}': "0+400x30"},
                    {'cache_hits_total{projection="a"}': "0+800x30",
                     'cache_misses_total{projection="a"}': "0+200x30"}),
    "SignInsFail": ({'rare{what="failed_sign_ins"}': "101x30"},
                    {'rare{what="failed_sign_ins"}': "100x30",
                     'rare{what="rate_limited"}': "900x30"}),
    "PasskeyCountersFell": ({"passkey_counters_fell_total": "0+1x30"},
                            {"passkey_counters_fell_total": "5x30"}),
    "HandshakesRefused": ({'rare{what="refused_handshakes"}': "101x30"},
                          {'rare{what="refused_handshakes"}': "100x30",
                           'rare{what="failed_sign_ins"}': "900x30"}),
    "TokensForged": ({'rare{what="forged_tokens"}': "11x30"},
                     {'rare{what="forged_tokens"}': "10x30"}),
    "FixedFieldWritten": ({"log_critical_total": "0+1x30"}, {"log_critical_total": "5x30"}),
    "OldTransaction": ({"store_oldest_transaction_seconds": "61x30"},
                       {"store_oldest_transaction_seconds": "60x30"}),
    # What failed once is tried again after a minute.
    "ArchiveBehind": ({"store_archive_waiting_seconds": "181x30"},
                      {"store_archive_waiting_seconds": "180x30"}),
}  # fmt: skip


def names_in(text: str) -> set[str]:
    """Call this for the metrics that a text names, without what a histogram adds."""
    named = set(re.findall(rf"\b{PREFIX}(\w+)", text))
    histograms = [one.name for one in METRICS.values() if one.kind is MetricKind.HISTOGRAM]
    parts = {f"{name}_{part}": name for name in histograms for part in ("bucket", "sum", "count")}
    return {parts.get(name, name) for name in named}


def test_every_metric_that_a_rule_names_exists() -> None:  # OBS-6
    named = names_in(RULES.read_text())
    assert len(named) > len(_SERIES) // 2
    assert named - set(METRICS) == set()
    assert names_in("greenroom_no_such_thing > 1") - set(METRICS) == {"no_such_thing"}


def test_no_window_is_too_short_for_a_prometheus_as_it_comes() -> None:
    # OBS-6: it scrapes once a minute; with one sample in it a window has no rate, and no alert
    windows = re.findall(r"\[(\d+)([mh])\]", RULES.read_text())
    assert len(windows) >= 5
    assert [one for one in windows if int(one[0]) * (60 if one[1] == "h" else 1) < 4] == []


def test_every_alert_has_its_cases_and_says_what_to_do() -> None:  # OBS-6
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    assert alerts == list(_SERIES)
    assert re.findall(r"^\| \*\*(\w+)\*\* \|", PAGE.read_text(), re.MULTILINE) == alerts


@pytest.mark.skipif(shutil.which("promtool") is None, reason="not run: promtool is not installed")
def test_the_rules_are_rules_to_prometheus_itself(tmp_path: Path) -> None:
    # OBS-9: and nonsense is none, or this would say nothing
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(RULES.read_text().replace("expr: ", "expr: ) ", 1))
    for file, code in ((RULES, 0), (wrong, 1)):
        done = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True)  # noqa: PLW1510 - its code is looked at
        assert done.returncode == code, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="not run: promtool is not installed")
def test_every_alert_fires_for_its_cause_and_not_short_of_it(tmp_path: Path) -> None:
    # OBS-6, OBS-9: by Prometheus's own program
    tests = []
    for alert, (bad, good) in _SERIES.items():
        for series, fires in ((bad, True), (good, False)):
            given = [
                {
                    "series": PREFIX + name,
                    "values": each if "+" in each else each.replace("x", "+0x"),
                }
                for name, each in series.items()
            ]
            # Only that it fires is asked, at the end of half an hour; its labels are the rule's.
            expr = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)'
            asked = [{"expr": f"({expr}) > bool 0", "eval_time": "30m",
                      "exp_samples": [{"labels": "{}", "value": float(fires)}]}]  # fmt: skip
            tests.append({"interval": "1m", "name": alert, "input_series": given,
                          "promql_expr_test": asked})  # fmt: skip
    file = tmp_path / "cases.yml"
    # What is JSON is YAML, too.
    file.write_text(json.dumps({
        "rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests,
    }))  # fmt: skip
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True)  # noqa: PLW1510 - its words are looked at
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
