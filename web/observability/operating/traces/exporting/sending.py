"""One request to a collector of OpenTelemetry: OTLP over HTTP, behind all guards of a dependency.

What it says of passing trouble (429, 502, 503, 504) is tried again when it asks to be, else soon;
any other refusal is an answer: these spans will never be taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from actors.runtime import Secret
from supervision import (
    BreakerPolicy,
    BucketPolicy,
    BulkheadPolicy,
    Dependency,
    DependencyPolicy,
    DependencyTimeout,
    RetryPolicy,
)
from web.observability.operating.traces.exporting.encoding import rejected_of
from web.routing.outward import NoAnswer, ask

OTLP: Final = "otlp"
TRACES_PATH: Final = "/v1/traces"
# Of the answer: how many were not taken, and a sentence about it.
_ANSWER_BYTES_MAX: Final = 64 * 1024
_STEP_S_MAX: Final = 10.0
_PASSING: Final = frozenset({429, 502, 503, 504})
# Who asks for more patience than this is asked again all the same.
_RETRY_AFTER_MAX: Final = 60.0


class NotTaken(Exception):
    """Raised when a collector answers that it has not taken them; `status` is what it said."""

    def __init__(self, status: int, retry_after: float | None = None) -> None:
        super().__init__(f"the collector of traces answered {status}")
        self.status = status
        self.retry_after = None if retry_after is None else min(retry_after, _RETRY_AFTER_MAX)

    @property
    def is_passing(self) -> bool:
        """Call this for whether the same may be taken later."""
        return self.status in _PASSING


def may_pass(error: BaseException) -> bool:
    """Call this for whether what has gone wrong is worth another try."""
    if isinstance(error, NotTaken):
        return error.is_passing
    return isinstance(error, (NoAnswer, DependencyTimeout))


# Nobody waits for it, one request is under way at a time, and what it does not take waits.
OTLP_POLICY: Final = DependencyPolicy(
    deadline=30.0,
    attempt=10.0,
    bulkhead=BulkheadPolicy(concurrent=1, wait=1.0, queue=1),
    breaker=BreakerPolicy(failures=3, least=10, open_for=15.0, successes=1),
    retry=RetryPolicy(attempts=3, first=0.5, max=5.0, least=0.5, retries=may_pass),
    bucket=BucketPolicy(rate=100.0, burst=100),
)


class OtlpCollector:
    """The collector at an endpoint, which is told the headers of the settings with each request."""

    def __init__(self, guard: Dependency, endpoint: str, headers: Secret[str] | None) -> None:
        self._guard, self._url, self._headers = guard, endpoint + TRACES_PATH, headers

    async def take(self, body: bytes) -> int:
        """Call this to send a body; gives how many of it were not taken.

        Raises `NotTaken`, `NoAnswer`, and what its guards raise.
        """
        return await self._guard.call(partial(self._post, body))

    async def _post(self, body: bytes) -> int:
        answer = await ask(
            "POST",
            self._url,
            bytes_max=_ANSWER_BYTES_MAX,
            step_s_max=_STEP_S_MAX,
            headers={**self._told(), **_OURS},
            body=body,
        )
        if not 200 <= answer.status < 300:
            raise NotTaken(answer.status, answer.retry_after)
        return rejected_of(answer.body)

    def _told(self) -> Mapping[str, str]:
        lines = "" if self._headers is None else self._headers.reveal()
        return dict(line.split(": ", 1) for line in lines.splitlines())


_OURS: Final = {
    "content-type": "application/x-protobuf",
    "content-encoding": "gzip",
    "user-agent": "greenroom",
}
