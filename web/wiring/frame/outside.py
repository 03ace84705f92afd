"""What the site calls outside of itself, by name, each behind all guards (RES-9).

- `mail`: the relay of mails, when `MAIL_SENDER=smtp`. The outbox asks again: after 1, 5 and 30
  minutes, 2 and 12 hours.
- `sns`: a report of Amazon SES whose certificate is not known yet, when `SES_TOPIC` is set. The
  report comes again.
- each provider of the settings: who signs in by it, and asks again themselves.
- `bus`: the relay of the outbox, when `BUS=kafka`. The outbox asks again while the broker is away.
- `otlp`: the collector of traces, when `OTEL_EXPORTER_OTLP_ENDPOINT` is set. What it has not taken
  the exporter keeps, up to a bound.
- `redis`: whoever counts tries, when `REDIS_URL` is set. Without it nobody is let in. On a site of
  one's own, who reads a read model, with `READ_MODELS=redis`.
- `search`: on a site of one's own, who searches a read model, when `SEARCH_URL` is set.

None but `otlp` is tried again by its guard: each is asked again by something that outlives the
process, or must not be asked twice.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

from actors.persistence import NotSent, StoreUnavailable
from actors.persistence.bus import BusUnavailable
from actors.runtime import Log
from supervision import (
    ONCE,
    BreakerChange,
    BreakerPolicy,
    BucketPolicy,
    BulkheadPolicy,
    Dependencies,
    Dependency,
    DependencyPolicy,
    DependencyTimeout,
    NotCalled,
)
from web.accounts.ways.provider.calling import PROVIDER, dependency_of
from web.mail.routes.amazon import SNS, SNS_POLICY
from web.mail.senders.guarded import MAIL, MAIL_POLICY
from web.observability.operating.traces.exporting.sending import OTLP, OTLP_POLICY
from web.settings import Bus, MailSender, Settings, Tracing

BROKER: Final = "bus"


def _is_bus_away(error: BaseException) -> bool:
    """A record that the broker refuses is the record's trouble, not the broker's."""
    cause = error.__cause__ if isinstance(error, NotSent) else error
    return isinstance(cause, (BusUnavailable, DependencyTimeout))


# The client has limits of its own within these. A relay publishes what waits side by side; the
# broker's own answers are what slows it. Half open, one record at a time tells whether it is back.
BUS_POLICY: Final = DependencyPolicy(
    deadline=30.0,
    attempt=30.0,
    bulkhead=BulkheadPolicy(concurrent=1000, wait=30.0, queue=10_000),
    breaker=BreakerPolicy(failures=20, least=100, open_for=5.0, successes=1),
    retry=ONCE,
    bucket=BucketPolicy(rate=100_000.0, burst=100_000),
    counts=_is_bus_away,
)

REDIS: Final = "redis"


def _is_store_away(error: BaseException) -> bool:
    """A command that it refuses is ours, not the server's."""
    return isinstance(error, (StoreUnavailable, DependencyTimeout))


# A request waits for it, and all of them share one connection. It is asked again soon: while it is
# left alone nobody is let in.
REDIS_POLICY: Final = DependencyPolicy(
    deadline=5.0,
    attempt=5.0,
    bulkhead=BulkheadPolicy(concurrent=1000, wait=5.0, queue=10_000),
    breaker=BreakerPolicy(failures=10, least=100, open_for=2.0, successes=1),
    retry=ONCE,
    bucket=BucketPolicy(rate=100_000.0, burst=100_000),
    counts=_is_store_away,
)

T = TypeVar("T")
log = Log("web.outside")


SEARCH: Final = "search"

# A search may take a second; a batch of a rebuild is five megabytes. A runner asks again by itself.
SEARCH_POLICY: Final = DependencyPolicy(
    deadline=15.0,
    attempt=15.0,
    bulkhead=BulkheadPolicy(concurrent=100, wait=5.0, queue=1000),
    breaker=BreakerPolicy(failures=10, least=20, open_for=2.0, successes=1),
    retry=ONCE,
    bucket=BucketPolicy(rate=10_000.0, burst=10_000),
    counts=_is_store_away,
)


class StoreGuard:
    """A dependency in front of a store: what it does not let pass is a store that is away."""

    def __init__(self, dependency: Dependency) -> None:
        self._dependency = dependency

    async def call(self, make: Callable[[], Awaitable[T]]) -> T:
        """Call this to make a call; raises `StoreUnavailable` for what the guards refuse."""
        try:
            return await self._dependency.call(make)
        except NotCalled as error:
            raise StoreUnavailable(str(error), nothing_written=True) from error
        except DependencyTimeout as error:
            raise StoreUnavailable(str(error)) from error


def outside_of(
    settings: Settings, tell: Callable[[BreakerChange], object] = lambda change: None
) -> Dependencies:
    """Call this for what a site with these settings calls; `tell` hears of breakers, too."""
    policies: dict[str, DependencyPolicy] = {}
    if settings.mail_by is MailSender.SMTP:
        policies[MAIL] = MAIL_POLICY
    if settings.ses_topic is not None:
        policies[SNS] = SNS_POLICY
    for provider in settings.providers:
        policies[dependency_of(provider)] = PROVIDER
    if settings.redis_url is not None:
        policies[REDIS] = REDIS_POLICY
    if settings.bus is Bus.KAFKA:
        policies[BROKER] = BUS_POLICY
    if settings.otlp_endpoint is not None and settings.tracing is Tracing.ON:
        policies[OTLP] = OTLP_POLICY

    return told(policies, tell)


def told(
    policies: Mapping[str, DependencyPolicy], tell: Callable[[BreakerChange], object]
) -> Dependencies:
    """Call this for dependencies of whose breakers the log hears, and `tell`."""

    def changed(change: BreakerChange) -> None:
        line = log.warning if change.state == "open" else log.info
        line("outside.breaker", dependency=change.name, before=change.before, state=change.state)
        tell(change)

    return Dependencies(policies, on_change=changed)
