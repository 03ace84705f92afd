"""The site's event bus: which engine it is, what is published on it, and who hears of it here.

What the site publishes it appends to the outbox with its events; here stands what sends that on.
Without a cluster one relay does it. The nodes of a cluster own the parts of the outbox as they own
all else: each part is relayed by the one that has its shard, which is its lease. There a node also
hears what the others publish, in a group of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Never
from uuid import uuid4

import trio

from actors.cluster import Host, MakeSingleton, Member
from actors.persistence import InvalidField, OutboxEntry, OutboxRelay, Shard, ShardLease
from actors.persistence.beside_log.outbox import PARTITIONS, Send
from actors.persistence.bus import (
    BusNotTrusted,
    BusRejected,
    BusUnavailable,
    CloudEvents,
    Engine,
    Guard,
    Handler,
    OnFailure,
    StartAt,
    SubscribeOptions,
    SubscriptionActor,
    publisher,
)
from actors.persistence.bus.relaying import BUS, awaited_bus
from actors.reducers import Environment
from actors.runtime import Actor, Exit, Log
from storage.bus import PostgresBus, Retention
from storage.postgres import Database, PostgresDeadLetters, PostgresOutbox
from supervision import (
    ChildSpec,
    Dependency,
    DependencyTimeout,
    Flags,
    NotCalled,
    Plan,
    Supervisor,
)
from web.app.clustering import node_name
from web.app.hosting import host_children
from web.lab import lasting
from web.observability.bus_lag import BusLags, LagWatch
from web.settings import Bus, Settings, Switch
from web.wiring.environment import SystemClock, SystemIds
from web.wiring.frame.serving import UnderWay

# What the site publishes, each with its partitions; and what its nodes hear of each other.
TOPICS = {lasting.TOPIC: lasting.TOPIC_PARTITIONS}
HEARD = (lasting.TOPIC,)
# A client that flushes knows within its own limit of 8 s what became of all it has in hand; at a
# stop all of that has been told already, or is in the outbox still.
CLOSE_S_MAX = 2.0
# Who a site without PUBLIC_ORIGIN is to readers of CloudEvents.
SOURCE = "urn:greenroom:site"
# A bus that is away is asked again for a topic this often.
AWAITED_EVERY_S = 1.0

log = Log(__name__)


class BusRefused(Exception):
    """Raised at a start with a bus that will not have us; the text is `NAME: reason`."""


@dataclass(frozen=True, slots=True)
class SiteBus:
    """The bus of a site, and what it stands on; `close` says goodbye to a broker.

    `lags` keep how far its groups are behind.
    """

    engine: Engine
    lags: BusLags
    database: Database
    # Days that come, and those that are over, of the bus in the database.
    purge: Callable[[int], Awaitable[int]]
    close: Callable[[], Awaitable[None]] | None = None


def make_bus(settings: Settings, database: Database) -> SiteBus:
    """Call this for the bus of the settings; nothing is asked yet. Raises `BusRefused`."""
    beside = PostgresBus(database, retention=Retention(settings.bus_retention))
    if settings.bus is Bus.POSTGRES:
        return SiteBus(beside, BusLags(beside), database, beside.purge)
    try:
        # They need an extra, which a site without a broker has not.
        from storage.bus.kafka import KafkaBus  # noqa: PLC0415
        from storage.bus.kafka_words import KafkaSecurity, KafkaSettings  # noqa: PLC0415
    except ImportError as error:
        raise BusRefused(
            "BUS: kafka needs the package confluent-kafka; pip install 'greenroom[kafka]'"
        ) from error
    mechanism, tls = settings.kafka_sasl_mechanism, map(_text, _tls_files(settings))
    security = KafkaSecurity(
        None if mechanism is None else mechanism.value,
        settings.kafka_username,
        settings.kafka_password,
        *tls,
    )
    try:
        asked = KafkaSettings(settings.kafka_brokers or "", settings.kafka_prefix, security)
        engine = KafkaBus(asked, parking=beside.parking, dead_letters=beside.dead_letters)
    except InvalidField as error:
        raise BusRefused(f"{_SET_BY.get(error.field, 'KAFKA_BROKERS')}: {error}") from error
    return SiteBus(engine, BusLags(engine), database, beside.purge, engine.close)


# Which of our settings a field of the client's is.
_SET_BY = {
    "mechanism": "KAFKA_SASL_MECHANISM",
    "ca_file": "KAFKA_TLS_CA",
    "certificate_file": "KAFKA_TLS_CERT",
    "key_file": "KAFKA_TLS_KEY",
}


def _tls_files(settings: Settings) -> Sequence[Path | None]:
    return settings.kafka_tls_ca, settings.kafka_tls_cert, settings.kafka_tls_key


def _text(file: Path | None) -> str | None:
    return None if file is None else str(file)


async def check_bus(settings: Settings, bus: SiteBus) -> None:
    """Call this at a start: a broker that will not have us is told at once, as `BusRefused`.

    One that is away is not waited for: what is published waits in the outbox.
    """
    if settings.bus is Bus.POSTGRES:
        return
    try:
        await bus.engine.topics()
    except BusNotTrusted as error:
        raise BusRefused(
            f"{'KAFKA_TLS_CERT' if error.is_ours else 'KAFKA_TLS_CA'}: {error}"
        ) from error
    except BusRejected as error:
        raise BusRefused(
            f"KAFKA_BROKERS: the broker refuses us ({error.reason}); see KAFKA_SASL_MECHANISM, "
            "KAFKA_USERNAME and KAFKA_PASSWORD"
        ) from error
    except BusUnavailable as error:
        log.warning("bus.broker_awaited", reason=error.reason)


class NobodySends(Exception):
    """Raised for a message in the outbox that is none of the bus: the site sends no others."""

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"the site sends no messages of kind {kind}; nothing was sent. A program that does "
            "needs a store of its own"
        )
        self.kind = kind


def cloud_events(settings: Settings) -> CloudEvents | None:
    """Call this for the headers that records have besides; None without."""
    if settings.bus_cloudevents is Switch.OFF:
        return None
    return CloudEvents(settings.public_origin or SOURCE)


def sender(
    engine: Engine, marks: CloudEvents | None = None, guard: Dependency | None = None
) -> Send:
    """Call this for what a relay sends with; the site's own topics are declared on the way.

    A bus that is a program of its own is published to through its dependency, `guard`.
    """
    declared: set[str] = set()
    publish = guarded(publisher(engine, marks), guard)

    async def send(entry: OutboxEntry) -> None:
        if entry.kind != BUS:
            raise NobodySends(entry.kind)
        if entry.target in TOPICS and entry.target not in declared:
            with awaited_bus(entry):
                await engine.declare(entry.target, TOPICS[entry.target])
            declared.add(entry.target)
        await publish(entry)

    return send


def guarded(publish: Send, guard: Dependency | None) -> Send:
    """Call this to put a guard before what publishes; a broker left alone is one that is away."""
    if guard is None:
        return publish

    async def send(entry: OutboxEntry) -> None:
        try:
            await guard.call(partial(publish, entry))
        except (NotCalled, DependencyTimeout) as error:
            with awaited_bus(entry):
                raise BusUnavailable(str(error)) from error

    return send


class Listener(SubscriptionActor):
    """Hears what the nodes of the cluster publish; first sees to it that there are the topics."""

    def __init__(self, engine: Engine, group: str, hear: Handler) -> None:
        # What it shows is replaced by the next record: one that fails needs no second try.
        options = SubscribeOptions(
            Guard.IDEMPOTENT, on_failure=OnFailure.SKIP, start_at=StartAt.LATEST
        )
        super().__init__(engine, HEARD, group, hear, options)
        self._engine = engine

    async def on_start(self) -> None:
        """Begin to read."""
        self.start_soon(self._listen)

    async def _listen(self) -> None:
        for topic in HEARD:
            await declared(self._engine, topic)
        await self.subscription.run()


async def declared(engine: Engine, topic: str) -> None:
    """Call this to have a topic of the site; a bus that is away is waited for."""
    while True:
        try:
            return await engine.declare(topic, TOPICS[topic])
        except BusUnavailable:
            await trio.sleep(AWAITED_EVERY_S)


class Door(Actor[Never]):
    """Holds a broker's client open; started before whoever uses it, so it closes behind them."""

    def __init__(self, close: Callable[[], Awaitable[None]]) -> None:
        self._close = close

    async def on_stop(self, exit: Exit) -> None:  # noqa: A002  (the runtime's word)
        """Say goodbye."""
        with trio.move_on_after(CLOSE_S_MAX):
            await self._close()


class BusSupervisor(Supervisor):
    """Restarts each alone: what waits in the outbox or on the bus waits for it."""

    def __init__(self, specs: Sequence[ChildSpec]) -> None:
        self._specs = specs

    def plan(self) -> Plan:
        """Whoever ends first stands last."""
        return Plan(Flags(intensity=10, period=5.0), self._specs)


def bus_tree(
    settings: Settings,
    bus: SiteBus,
    host: Host | None,
    hear: Handler,
    guard: Dependency | None = None,
    under_way: UnderWay | None = None,
) -> Callable[[], BusSupervisor]:
    """Call this for how the supervisor of the bus is made; `hear` is given what others publish.

    A broker is published to through its dependency, `guard`. With a `host` the parts of the outbox
    are singletons of the cluster, which the host begins.
    """
    process, outbox = str(uuid4()), PostgresOutbox(bus.database)
    under_way = under_way or UnderWay()
    heard = under_way.around(hear)
    letters, env = PostgresDeadLetters(bus.database), Environment(SystemClock(), SystemIds())

    def relay(owner: str, parts: Sequence[int], shard: ShardLease | None = None) -> OutboxRelay:
        send = under_way.around(sender(bus.engine, cloud_events(settings), guard))
        return OutboxRelay(
            outbox, send, env, owner, dead_letters=letters, partitions=parts, shard=shard
        )

    def owned_relay(part: int, member: Member, token: Shard) -> OutboxRelay:
        return relay(f"{process}-{part}-{token.epoch}", [part], member.lease(token))

    specs = [] if bus.close is None else [ChildSpec("door", partial(Door, bus.close))]
    if host is None:
        specs.append(ChildSpec("relay", partial(relay, process, range(PARTITIONS))))
    else:
        parts: dict[str, MakeSingleton] = {
            f"outbox-{part}": partial(owned_relay, part, host.member) for part in range(PARTITIONS)
        }
        host.own(singletons=parts)
        group = f"site-{node_name(settings)}"
        specs += [
            *host_children(host),
            ChildSpec("listener", partial(Listener, bus.engine, group, heard)),
            ChildSpec("lags", partial(LagWatch, bus.lags)),
        ]
    return partial(BusSupervisor, specs)
