"""What an operator is told of at once: counts of what should be rare, with a line when it is not.

A count is of this process, and of the last minute or hour. A line is written when a limit is
passed, and again after a whole period in which it still is; what must never be is told each time.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from actors.runtime import Log
from web.routing import paths
from web.server import RequestSpan

log = Log("web.alerts")


class Alert(StrEnum):
    """What is counted."""

    FAILED_SIGN_INS = "failed_sign_ins"
    REFUSED_HANDSHAKES = "refused_handshakes"
    RATE_LIMITED = "rate_limited"
    # Passkeys that told a counter from before.
    COUNTERS_FELL = "counters_fell"
    # A cookie of a sign-in that holds what was never a token of this program: made up, or planted.
    FORGED_TOKENS = "forged_tokens"
    # The store of sign-ins did not answer: nobody is let in meanwhile (SEC-3).
    SIGN_INS_UNKNOWN = "sign_ins_unknown"


@dataclass(frozen=True, slots=True)
class Threshold:
    """More than so many within a period is told; 0 tells each."""

    count_max: int
    period_s: float


# SEC-137, AUTH-42: a guesser makes more, and so many people do not mistype in a minute.
THRESHOLDS: Mapping[Alert, Threshold] = {
    Alert.FAILED_SIGN_INS: Threshold(100, 60.0),
    Alert.REFUSED_HANDSHAKES: Threshold(100, 60.0),
    Alert.RATE_LIMITED: Threshold(1000, 3600.0),
    Alert.COUNTERS_FELL: Threshold(5, 3600.0),
    # Nobody's browser makes one up; one that is merely over has the right form, and counts not.
    Alert.FORGED_TOKENS: Threshold(10, 3600.0),
    Alert.SIGN_INS_UNKNOWN: Threshold(0, 60.0),
}
# A period is counted in so many pieces: what is kept does not grow with what happens.
_PIECES = 60
_HANDSHAKE_REFUSED = frozenset({400, 401, 403, 429})


@dataclass(frozen=True, slots=True)
class WayIn:
    """Where somebody says who they are, and the answer to who does not show it."""

    name: str
    http_method: str = "POST"
    failed: int = 401


# By the pattern of the route. Whoever comes back from a provider is led by a link (SEC-91).
WAYS_IN: Mapping[str, WayIn] = {
    paths.LOGIN: WayIn("password"),
    paths.LOGIN_SECOND: WayIn("second_factor"),
    paths.LOGIN_PASSKEY: WayIn("passkey"),
    paths.LOGIN_SECOND_PASSKEY: WayIn("second_factor"),
    paths.LOGIN_LINK_OPEN: WayIn("magic_link"),
    paths.LINK_VERIFY: WayIn("magic_link"),
    paths.API_PASSKEY_ENTER: WayIn("passkey"),
    paths.API_SECOND: WayIn("second_factor"),
    paths.RECOVERY: WayIn("recovery"),
    paths.RECOVERY_FINISH: WayIn("recovery"),
    paths.OAUTH_BACK: WayIn("provider", "GET", 400),
}


class Alerts:
    """Counts; `now` is the loop's clock. `note` returns at once and never raises."""

    def __init__(
        self, now: Callable[[], float], thresholds: Mapping[Alert, Threshold] = THRESHOLDS
    ) -> None:
        self._now, self._thresholds = now, thresholds
        # Of each kind how many in which piece of time; at most `_PIECES` and one.
        self._pieces: dict[Alert, dict[int, int]] = {alert: {} for alert in Alert}
        self._told_at: dict[Alert, float] = dict.fromkeys(Alert, -math.inf)

    def __repr__(self) -> str:
        return f"<Alerts {self.counts()}>"

    def note(self, alert: Alert) -> None:
        """Call this for each time; tells the operator when it was too often."""
        now, threshold = self._now(), self._thresholds[alert]
        piece = int(now * _PIECES / threshold.period_s)
        pieces = self._recent(alert, now)
        pieces[piece] = pieces.get(piece, 0) + 1
        self._pieces[alert] = pieces
        count = sum(pieces.values())
        if count <= threshold.count_max:
            return
        if threshold.count_max and now - self._told_at[alert] < threshold.period_s:
            return
        self._told_at[alert] = now
        log.error(
            "alert",
            what=alert.value,
            count=count,
            limit=threshold.count_max,
            period_s=threshold.period_s,
        )

    def note_answer(self, span: RequestSpan) -> None:
        """Call this with each request that was answered, for what its answer says."""
        if span.status == 429:
            self.note(Alert.RATE_LIMITED)
        if span.path == paths.SOCKET and span.status in _HANDSHAKE_REFUSED:
            self.note(Alert.REFUSED_HANDSHAKES)
        way = WAYS_IN.get(span.route or span.path)
        if way is not None and (span.method, span.status) == (way.http_method, way.failed):
            self.note(Alert.FAILED_SIGN_INS)

    def counts(self) -> Mapping[Alert, int]:
        """Call this for how many of each there were within its period, to the sixtieth of it."""
        now = self._now()
        return {alert: sum(self._recent(alert, now).values()) for alert in Alert}

    def _recent(self, alert: Alert, now: float) -> dict[int, int]:
        piece = int(now * _PIECES / self._thresholds[alert].period_s)
        kept = self._pieces[alert].items()
        return {at: count for at, count in kept if piece - _PIECES < at <= piece}


def watched(
    alerts: Alerts, further: Callable[[RequestSpan], None]
) -> Callable[[RequestSpan], None]:
    """Call this for what is told of each request: it is counted, and `further` hears it too."""

    def tell(span: RequestSpan) -> None:
        further(span)
        alerts.note_answer(span)

    return tell
