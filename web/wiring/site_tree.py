"""The supervision tree of the site: who is there, in start order, and who restarts whom.

    site                one_for_one
      control           the socket that commands of operators ask
      database          the asyncio loop under the event store
      redis             with REDIS_URL: the connection to where tries are counted
      link              with CLUSTER=on: the connection to the other nodes
      reaching          with CLUSTER=on, one_for_one: the way to the others' actors
      node              with CLUSTER=on: beats, and owns shards
      bus               one_for_one: what publishes the outbox, and with CLUSTER=on what hears of
                        the other nodes' records; there all lives that this node owns
      forgetting        tells open pages when somebody was forgotten, in whatever process
      rooms             one_for_one: lobby, demo, support
      places            with RISK_PLACES: reads the operator's table of addresses
      breached          with RISK_BREACHED: reads the operator's list of mailboxes that leaked
      sessions          dynamic, one actor per browser session, passivated when idle
      feeds             one_for_one: a feed per room, the sockets', the tree, the proof, the
                        queue, the figures of operators, the timeline and who tells it
      elsewhere         tells the rooms what other processes have stored in them
      streams           dynamic, one actor per open page
      heartbeats        sends something to pages that heard nothing for long
      sockets           dynamic, one actor per WebSocket
      recorder          stores what visitors do in the lab
      survivals         stores which crashes the site has survived
      counters          dynamic, one actor per browser session that counts, passivated when idle
      desks             dynamic, one actor per open page that runs errands
      sandboxes         dynamic, one supervisor per visitor of the lab, restarted by nobody
      keeper            starts, heals and ends the sandboxes
      checkouts         one_for_one: sagas that visitors of the lab begin, one actor each, those who
                        carry out their steps, and what sends their commands and tells the time
      letters           hands dead letters back that an operator wants tried again
      mail              sends what waits in the outbox, when mail is switched on; with CLUSTER=on
                        one node does, beside the bus
      ending            closes what browser sessions that are over have open
      recoveries        tells that recoveries of accounts are ready, where links are sent
      renewing          renews the tokens of providers, where there are any
      sweeping          ends sign-ins by their age
      cleaning          removes hourly what was kept long enough
      health            runs the checks of who asks whether the site is well
      server            HTTP; started last, so it is the first to stop and drains the rest

Every actor others must find is registered by a name, because a supervisor that was itself
restarted gives its children new refs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from actors.accounts import SessionActor
from actors.chat import ROOM_NAMES, ChatEnvironment, RoomActor, Rooms, RoomsWatch
from actors.runtime import AnyActor
from supervision import ChildSpec, Dynamic, DynamicFlags, Flags, Plan, Supervisor
from web.lab.demos.counter import CounterActor, Counters
from web.lab.demos.desk import DemoParts, DeskActor
from web.wiring.composition import Web
from web.wiring.directory import (
    COUNTERS,
    DESKS,
    FAILURES_FEED,
    FLOWS,
    KEEPER,
    LETTERS,
    MAIL,
    MODERATION_FEED,
    OVERVIEW_FEED,
    PANELS_FEED,
    PASSKEY_FLOWS,
    PROOF_FEED,
    PROVIDER_FLOWS,
    RECORDER,
    SANDBOXES,
    SESSIONS,
    STAGE_FEED,
    TIMELINE_FEED,
    TREE_FEED,
    Directory,
    feed_name,
    room_name,
)
from web.wiring.frame.serving import (
    CONNECTIONS_MAX,
    database_child,
    feeds_plan,
    heartbeats_child,
    sockets_child,
    streams_child,
)

# A visitor who is gone for this long starts afresh; nothing but tab bindings is lost.
SESSION_IDLE_S = 900.0
# An idle session with a tab takes 7 KiB; a script that drops its cookies fills 280 MiB of them.
SESSIONS_MAX = 40_000
# Its number is kept elsewhere, so an idle one costs for nothing.
COUNTER_IDLE_S = 60.0


@dataclass(frozen=True, slots=True)
class SiteParts:
    """How each part is made; called anew for every incarnation."""

    directory: Directory
    database: Callable[[], AnyActor] | None
    chat: ChatEnvironment
    # Makes what serves the pages: feeds, sandboxes, what they remember.
    web: Web
    server: Callable[[], AnyActor]
    server_shutdown_s: float
    cleaning: Callable[[], AnyActor] | None = None
    forgetting: Callable[[], AnyActor] | None = None
    ending: Callable[[], AnyActor] | None = None
    sweeping: Callable[[], AnyActor] | None = None
    redis: Callable[[], AnyActor] | None = None
    # With `CLUSTER=on` what makes this process a node, in the order of starts.
    nodes: Sequence[ChildSpec] = ()
    bus: Callable[[], AnyActor] | None = None
    mail: Callable[[], AnyActor] | None = None
    # What answers commands of operators; where there is a state folder for its socket.
    control: Callable[[], AnyActor] | None = None


class RoomsSupervisor(Supervisor):
    """Restarts a room alone; rooms hold nothing the store does not know."""

    def __init__(self, environment: ChatEnvironment) -> None:
        self._environment = environment

    def plan(self) -> Plan:
        """One room after the other."""
        specs = [
            ChildSpec(
                room.lower(), partial(RoomActor, room, self._environment), name=room_name(room)
            )
            for room in ROOM_NAMES
        ]
        # A visitor may crash the Lobby for fun; five times in ten seconds is more than that.
        return Plan(Flags(intensity=5, period=10.0), specs)


class FeedsSupervisor(Supervisor):
    """Restarts a feed alone; its readers are kept and are sent everything anew."""

    def __init__(self, parts: SiteParts) -> None:
        self._parts = parts

    def plan(self) -> Plan:
        """A feed for each room, one for the sockets that hear it, then the panels."""
        specs = [
            ChildSpec(room.lower(), partial(self._parts.web.room_feed, room), name=feed_name(room))
            for room in ROOM_NAMES
        ]
        specs += [
            ChildSpec(f"{room.lower()}-sockets", partial(self._parts.web.socket_feed, room))
            for room in ROOM_NAMES
        ]
        specs.append(ChildSpec("tree", self._parts.web.tree_feed, name=TREE_FEED))
        specs.append(ChildSpec("stage", self._parts.web.stage_feed, name=STAGE_FEED))
        specs.append(ChildSpec("panels", self._parts.web.panels_feed, name=PANELS_FEED))
        specs.append(ChildSpec("proof", self._parts.web.proof_feed, name=PROOF_FEED))
        specs.append(ChildSpec("moderation", self._parts.web.moderation_feed, name=MODERATION_FEED))
        specs.append(ChildSpec("overview", self._parts.web.overview_feed, name=OVERVIEW_FEED))
        specs.append(ChildSpec("failures", self._parts.web.failures_feed, name=FAILURES_FEED))
        specs.append(ChildSpec("timeline", self._parts.web.timeline_feed, name=TIMELINE_FEED))
        specs.append(ChildSpec("collector", self._parts.web.timeline_collector))
        return feeds_plan(specs)


class Site(Supervisor):
    """The root."""

    def __init__(self, parts: SiteParts) -> None:
        self._parts = parts

    def plan(self) -> Plan:
        """Storage first, the server last."""
        parts = self._parts
        parts.web.attach(self.system)
        specs = [
            *_places(parts.web),
            ChildSpec("rooms", partial(RoomsSupervisor, parts.chat)),
            ChildSpec(
                SESSIONS, partial(_sessions, parts.web.rooms), name=SESSIONS, type="supervisor"
            ),
            ChildSpec(FLOWS, parts.web.link_flows, name=FLOWS, type="supervisor"),
            ChildSpec(
                PASSKEY_FLOWS, parts.web.passkey_flows, name=PASSKEY_FLOWS, type="supervisor"
            ),
            ChildSpec(
                PROVIDER_FLOWS,
                parts.web.provider_flows,
                name=PROVIDER_FLOWS,
                type="supervisor",
            ),
            ChildSpec("feeds", partial(FeedsSupervisor, parts)),
            ChildSpec("elsewhere", partial(RoomsWatch, parts.chat.log, parts.web.rooms)),
            streams_child(parts.web.close_streams),
            heartbeats_child(parts.web.streams),
            sockets_child(),
            ChildSpec("recorder", parts.web.recorder, name=RECORDER),
            ChildSpec("survivals", parts.web.survivals),
            ChildSpec(
                COUNTERS,
                partial(_counters, parts.web.demos.counters),
                name=COUNTERS,
                type="supervisor",
            ),
            ChildSpec(DESKS, partial(_desks, parts.web.demos), name=DESKS, type="supervisor"),
            ChildSpec(SANDBOXES, parts.web.sandboxes_supervisor, name=SANDBOXES, type="supervisor"),
            ChildSpec("keeper", parts.web.keeper, name=KEEPER),
            ChildSpec("health", parts.web.health_actor),
            ChildSpec("server", parts.server, shutdown=parts.server_shutdown_s),
        ]
        if parts.web.checkouts is not None:
            specs.insert(-1, ChildSpec("checkouts", parts.web.checkouts.supervisor))
        if parts.web.has_letters:
            specs.insert(-1, ChildSpec("letters", parts.web.retries_actor, name=LETTERS))
        if parts.mail is not None:
            specs.insert(-1, ChildSpec("mail", parts.mail, name=MAIL))
        if parts.ending is not None:
            specs.insert(-1, ChildSpec("ending", parts.ending))
        specs[-1:-1] = [*_of_accounts(parts.web), *_watching(parts.web)]
        if parts.sweeping is not None:
            specs.insert(-1, ChildSpec("sweeping", parts.sweeping))
        if parts.cleaning is not None:
            specs.insert(-1, ChildSpec("cleaning", parts.cleaning))
        if parts.forgetting is not None:
            # Before whoever reads: what is forgotten from then on is told.
            specs.insert(0, ChildSpec("forgetting", parts.forgetting))
        if parts.bus is not None:
            # Before whoever publishes, so that it ends behind them.
            specs.insert(0, ChildSpec("bus", parts.bus))
        specs[:0] = [*_stores(parts), *parts.nodes]
        return Plan(Flags(intensity=10, period=5.0), specs)


def _stores(parts: SiteParts) -> list[ChildSpec]:
    """What all others stand on; before it who tells operators what an end waits for."""
    specs = [] if parts.control is None else [ChildSpec("control", parts.control)]
    if parts.database is not None:
        specs.append(database_child(parts.database))
    return specs if parts.redis is None else [*specs, ChildSpec("redis", parts.redis)]


def _watching(web: Web) -> list[ChildSpec]:
    return [*web.figures.children(), *web.traces.children()]


def _of_accounts(web: Web) -> list[ChildSpec]:
    specs: list[ChildSpec] = []
    if web.has_recoveries:
        specs.append(ChildSpec("recoveries", web.recovery_teller))
    if web.has_providers:
        # It may be asking somebody: what is cut off is asked again by the next process.
        specs.append(ChildSpec("renewing", web.token_renewer, shutdown=1.0))
    return specs


def _sessions(rooms: Rooms) -> Dynamic[object]:
    flags = DynamicFlags(
        key="session_id", passivate_after=SESSION_IDLE_S, max_children=SESSIONS_MAX
    )
    return Dynamic(flags, ChildSpec("session", partial(SessionActor, rooms=rooms)))


def _counters(counters: Counters) -> Dynamic[object]:
    flags = DynamicFlags(
        key="session_id", passivate_after=COUNTER_IDLE_S, max_children=SESSIONS_MAX
    )
    return Dynamic(flags, ChildSpec("counter", partial(CounterActor, counters=counters)))


def _desks(parts: DemoParts) -> Dynamic[object]:
    flags = DynamicFlags(key="tab", max_children=CONNECTIONS_MAX)
    # What it ran ends with it; the next click makes another.
    return Dynamic(flags, ChildSpec("desk", partial(DeskActor, parts=parts), restart="temporary"))


def _places(web: Web) -> Sequence[ChildSpec]:
    """What reads the operator's files of risk, where there are some; before anybody signs in."""
    places, breached = web.places_watch, web.breached_watch
    found = [] if places is None else [ChildSpec("places", places)]
    return found + ([] if breached is None else [ChildSpec("breached", breached)])
