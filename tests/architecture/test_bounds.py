"""Everything that can grow has a bound (REL-71).

Three rules, each of a kind of growth: a queue says how long it may get, a module keeps nothing that
is written while the program runs, and what the site's actors and servers keep by a name or an id is
a `BoundedMap`, or stands here with what bounds it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.architecture.layers import Module, read_modules

ROOT = Path(__file__).parents[2]

_QUEUES = frozenset({"deque", "Queue", "SimpleQueue", "LifoQueue", "PriorityQueue"})
_LIMITS = frozenset({"maxlen", "maxsize"})
_MAPS = frozenset(
    {
        *("dict", "set", "defaultdict", "OrderedDict", "Counter"),
        *("WeakSet", "WeakKeyDictionary", "WeakValueDictionary"),
    }
)
_KEEPS = _MAPS | {"list", "deque"}
_WRITES = frozenset(
    {
        *("add", "append", "appendleft", "extend", "insert", "put", "setdefault", "update"),
        *("pop", "popitem", "popleft", "remove", "discard", "clear"),
    }
)
# Where what clients send is kept by name: in front, and in the actors that stand for visitors.
_BY_CLIENTS = ("actors.accounts", "actors.chat", "actors.timeline", "web")
# A command line is over when its command is; who uses the client chooses what it says.
_BY_OPERATORS = ("web.cli", "web.client")
# What is made within an expression, and given away at once.
IN_PASSING = "(in passing)"
# Suites and simulations end.
_OF_TESTS = ("actors.testing", "storage.testing")

QUEUES_BOUNDED_BY: Mapping[str, Sequence[str]] = {
    "one for each actor, child or task that is alive": (
        "actors.runtime.delivery.dispatcher:Dispatcher._chores",
        "actors.runtime.delivery.dispatcher:Dispatcher._queue",
        "actors.runtime.life.cell:Cell.chores",
        "supervision.doing.hands:Hands._events",
        # Each came by a message of a bounded mailbox, and waits for its turn (CORE-14).
        "actors.reducers.performing:Places._queue",
    ),
    "looked at before it grows: who asks beyond it is refused": (
        "storage.redis.client:_Connection.waiting",
    ),
    "looked at before it grows: what is beyond is dropped, and counted": (
        "actors.cluster.reaching.talking.speaking:Speaking.inbox",
        "actors.cluster.reaching.talking.speaking:Speaking.loose",
    ),
    "one for each task that waits for it, under a deadline of its own": (
        "storage.postgres.connecting.pool:Pool._waiters",
        "storage.gathering:Gathering._by_age",
        "storage.gathering:Gathering._leaving",
        "storage.gathering:Gathering._queues",
        "web.server.edge.turns:_Line",
    ),
    "HAND_OVER_MAX of AsyncioThread, whose callers wait": (
        "storage.asyncio_thread:AsyncioThread._to_loop",
        "storage.asyncio_thread:AsyncioThread._to_trio",
    ),
    "INCOMING_BYTES_MAX and OUTGOING_BYTES_MAX of the link, whose senders wait": (
        "storage.link.nats_session:Session._outgoing",
        "storage.link.nats_session:Session.incoming",
    ),
    "a constant beside it, by count or by bytes": (
        "actors.cluster.link.window:Sending._under",
        "actors.reducers.reducer_ref:Subscription._items",
        "actors.runtime.watching.changes:Changes._queue",
        "actors.runtime.watching.dead_letters:DeadLetters._kept",
        "actors.runtime.watching.reports:Reports._weights",
        "actors.runtime.watching.reports:Reports.kept",
        "supervision.tree.history:TreeHistory._changes",
        "web.lab.demos.errands:Errands._waiting",
        "web.lab.sandbox.recording:Ledger.waiting",
        "web.realtime.broadcast:Broadcast._kept",
    ),
    "the restart budget: one more than it and the supervisor gives up": (
        "supervision.deciding.policy:RestartWindow._times",
    ),
    "the batch that was fetched": (
        "actors.persistence.beside_log.timers:_InHand.timers",
        # A subscription's `buffer`, of which each record has a place.
        "actors.persistence.bus.reading:ParkedReader",
        "web.realtime.socket.topics:Missed._taken",
    ),
    "one for each reader of a member, which waits for it; HIGH, behind which it fetches no more": (
        "storage.bus.kafka_member:KafkaMember._asked",
        "storage.bus.kafka_member:_Part.records",
    ),
    "settings of the client, whose program chooses them": (
        "web.client.client:Client._outgoing",
        "web.client.client:Subscription._waiting",
    ),
    "an operator's signals, of which the second ends the process": (
        "web.wiring.leaving:WayOut._numbers",
    ),
}

MODULE_STATE: Mapping[str, Sequence[str]] = {
    "one for each class of the program": (
        "actors.reducers.messages:_COMMANDS",
        "actors.reducers.messages:_EVENTS",
        "actors.runtime.words.messages:REMOTE",
        "actors.sagas.words.words:_classes",
        "actors.sagas.words.words:_targets",
        "web.api.shapes:_deep",
        "web.api.shapes:_fields",
        "web.api.shapes:_known",
        "web.api.shapes:_structs",
        "web.api.shapes:refuses_unknown",
    ),
    "drawn so many at once when there are none": ("web.server.edge.edge:_ids",),
    "weak: they go with what they are of": (
        "actors.persistence.projections.waiting:_calls",
        "actors.persistence.projections.waiting:_watches",
        "supervision.specs.arguments:_known",
    ),
    "one at a time": ("actors.runtime.telling.log:_written",),
}

MAPS_BOUNDED_BY: Mapping[str, Sequence[str]] = {
    "Redis and a search server": (
        "web.app.read_models:OpenedModels._guards",
        "web.app.read_models:OpenedModels.policies",
        "web.app.read_models:OpenedModels.purges",
    ),
    "the dead letters that are kept of a sandbox": ("web.lab.sandbox.sandboxes:Sandbox.settled",),
    "the projections that the program's store has": (
        "web.observability.metrics.stored:_Pace._before",
    ),
    "the actors there are, made anew with each look": (
        "web.observability.operating.overview.reading:_Before.cells",
    ),
    "open streams, and PANELS_OF_STREAM_MAX of each": ("web.wiring.frame.panels:Watched._readers",),
    "the class that all others are to be": ("web.server.bounded:BoundedMap._kept",),
    "routes of the application, and LABEL_SETS_MAX of any metric": (
        "web.observability.metrics.collectors:RequestTallies._counts",
        "web.observability.metrics.collectors:RequestTallies._times",
        "web.observability.metrics.scraping:Buckets.examples",
        "web.observability.metrics.scraping:Scrape.buckets",
        "web.observability.metrics.scraping:Scrape.numbers",
        "web.observability.operating.traces.examples:Examples._found",
    ),
    "constants beside it, over several levels or by age": (
        "actors.accounts.session:SessionActor._tabs",
        "actors.timeline.memory:ExitWatch._waiting",
        "web.observability.operating.traces.kept:KeptTraces._kept",
        "actors.timeline.memory:Timeline._flows",
        "actors.timeline.memory:Timeline._sessions",
        "actors.timeline.memory:Timeline._unpatched",
        "web.lab.sandbox.recording:Ledger.over",
        "web.lab.tree.feed:TreeSource._trees",
        "web.realtime.broadcast:Hub._idle",
        "web.realtime.broadcast:Hub._topics",
        "web.realtime.socket.commands:CommandMemory._all",
        "web.realtime.socket.commands:CommandMemory._clients",
        "web.realtime.socket.commands:CommandMemory._shares",
        "web.realtime.socket.commands:CommandMemory._sizes",
        "web.routing.decided:Decided._all",
        "web.routing.decided:Decided._sessions",
        "web.views.renderer:Filling._packed",
        "web.views.renderer:Renderer._parts",
        "web.views.renderer:_Shelf._kept",
    ),
    "the templates of the program": ("web.views.renderer:_CompiledTemplates._codes",),
    "open streams and sockets, which SEC-48 limits": (
        "web.chat.moderation:QueueReaders._who",
        "web.chat.readers:Presence._here",
        "web.chat.readers:Presence._leaving",
        "web.chat.readers:Readers._by_session",
        "web.chat.readers:Readers._members",
        "web.chat.readers:Readers._moderators",
        "web.chat.readers:Readers._people",
        "web.chat.readers:Readers.watching",
        "web.chat.readers:ShownRooms._shown",
        "web.lab.demos.counter:Counters._pages",
        "web.lab.panels.failures_feed:FailuresFeed._shown",
        "web.lab.panels.feed:PanelsFeed._opened",
        "web.lab.panels.feed:PanelsFeed._sent",
        "web.lab.panels.open_now:OpenNow._members",
        "web.lab.panels.open_now:OpenNow._opened",
        "web.lab.sandbox.sandboxes:Sandbox.viewers",
        "web.lab.sandbox.sandboxes:Sandboxes.newcomers",
        "web.lab.sandbox.sandboxes:Sandboxes.viewers",
        "web.lab.stage.feed:_Shown.pages",
        "web.realtime.audience:Audience._readers",
        "web.realtime.audience:Audience._waiting",
        "web.realtime.broadcast:Broadcast._members",
        "web.realtime.socket.endpoint:SocketEndpoint._open",
        "web.realtime.socket.endpoint:SocketEndpoint._per_address",
        "web.realtime.socket.endpoint:SocketEndpoint._by_user",
        "web.realtime.sse.heartbeats:Heartbeats._slot_of",
        "web.realtime.sse.heartbeats:Heartbeats._slots",
        "web.realtime.sse.streams:Streams._by_session",
        "web.realtime.sse.streams:Streams._per_address",
        "web.timeline.feed:Viewers._by_session",
        "web.timeline.feed:Viewers._due",
    ),
    "connections and requests in hand, which the server limits": (
        "web.api.idempotency:IdempotencyKeys._turns",
        "web.routing.decided:Decided._under_way",
        "web.server.connection.http.exchange:Watchman._new",
        "web.server.connection.http.exchange:Watchman._old",
        "web.server.connection.http.http2:Http2._streams",
        "web.server.connection.http.shedding:Shedder._due",
        "web.server.connection.http.shedding:Shedder._due_of",
        "web.server.connection.http.shedding:Shedder._resting",
        "web.server.edge.turns:Turns._begun",
        "web.server.edge.turns:Turns._lines",
        "web.server.edge.turns:_Line._in_hand",
        "web.server.edge.turns:_Line._waiting",
        "web.server.serving:Server.connections",
    ),
    "as many as a relay sends at a time, and one of each part of the bus that is read": (
        "web.wiring.frame.serving:UnderWay._in_hand",
    ),
    "topics of one connection, which its protocol limits": (
        "web.realtime.socket.outlet:SocketBacklog._missed",
        "web.realtime.socket.protocol:ServerProtocol.topics",
        "web.realtime.socket.topics:Topics._joined",
    ),
    "SANDBOXES_MAX, and the places of one": (
        "web.lab.sandbox.recording:Ledger.written",
        "web.lab.sandbox.sandboxes:Sandbox.in_hand",
        "web.lab.sandbox.sandboxes:Sandbox.killed",
        "web.lab.sandbox.sandboxes:Sandbox.told",
        "web.lab.sandbox.sandboxes:Sandboxes._by_key",
        "web.lab.sandbox.sandboxes:Sandboxes._own",
        "web.lab.sandbox.stories:Story.back_at",
        "web.lab.sandbox.words:Props.began",
        "web.lab.sandbox.words:Props.cracks",
        "web.lab.sandbox.words:Props.made",
        "web.lab.stage.feed:StageFeed._shown",
        "web.lab.stage.feed:_Shown.chips",
    ),
    "who was ever let into a room, as the store tells it": ("actors.chat.room:RoomActor._members",),
    "the closed set of rooms that the store has": (
        "actors.chat.newest:NewestCache._kept",
        "actors.chat.newest:NewestCache._renewing",
        "actors.chat.watching:RoomsWatch._told",
        "web.app.rooms:RoomsAcross._heard",
        "web.app.rooms:RoomsAcross._told",
    ),
    "a few names of our own: rooms, panels, kinds of connection": (
        "web.lab.panels.failures_feed:FailuresFeed._looking",
        "web.chat.presenting:PageViews._kept",
        "web.lab.tree.feed:TreeFeed._rests",
        "web.realtime.broadcast:Kept.frames",
        "web.realtime.sse.stream:StreamBacklog._panels",
        "web.server.connection.framing:Bundle._wires",
    ),
    "what the program is made of: documents, classes, checks, files, signals, its actors": (
        "actors.accounts.kept.risk.breached:BreachedList._digests",
        "actors.accounts.kept.risk.places:PlaceTable._by_prefix",
        "web.documentation.library:Library._articles",
        "web.documentation.markdown:_Anchors.given",
        "web.documentation.presenting:DocumentViews._parts",
        "web.observability.health.health:Health._components",
        "web.observability.health.health:Health._under_way",
        "web.observability.health.health:_Round.awaited",
        "web.observability.health.health:_Round.found",
        "web.realtime.socket.messages:CommandTable._decoders",
        "web.server.edge.answers:ErrorTable._rows",
        "web.server.edge.edge:Edge._refusals",
        "web.wiring.frame.own_site:OwnSite._made",
        "web.wiring.frame.own_site:OwnSite.watched",
        "web.wiring.leaving:WayOut._before",
        "web.wiring.stopping:Stopping._cut",
        "web.wiring.stopping:Stopping._over",
    ),
}


def endless_queues(modules: Sequence[Module]) -> list[str]:
    """List the queues and channels that are made without a limit, by who holds them."""
    found = set()
    for module in modules:
        for owner, node in _owned(module.tree, ""):
            if isinstance(node, ast.Call) and _is_endless(node):
                found.add(f"{module.name}:{owner or IN_PASSING}")
    return sorted(found)


def _is_endless(call: ast.Call) -> bool:
    name = _name(call.func)
    if name == "open_memory_channel":
        return not call.args or "inf" in ast.unparse(call.args[0])
    if name not in _QUEUES:
        return False
    place = 1 if name == "deque" else 0
    limits = [one.value for one in call.keywords if one.arg in _LIMITS]
    limits += call.args[place : place + 1]
    return not limits or (isinstance(limits[0], ast.Constant) and not limits[0].value)


def written_module_state(modules: Sequence[Module]) -> list[str]:
    """List what modules keep and write while the program runs, caches without a limit too."""
    found = set()
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (
                node.args.args and any(map(_is_endless_cache, node.decorator_list))
            ):
                found.add(f"{module.name}:{node.name}")
        kept = {
            name
            for statement in module.tree.body
            if isinstance(statement, ast.Assign | ast.AnnAssign) and _keeps(statement.value)
            for name in _targets(statement)[1]
        }
        found |= {f"{module.name}:{name}" for name in kept & _written(module.tree)}
    return sorted(found)


def _is_endless_cache(decorator: ast.expr) -> bool:
    if isinstance(decorator, ast.Call):
        limits = [*decorator.args, *(one.value for one in decorator.keywords)]
        is_none = any(isinstance(one, ast.Constant) and one.value is None for one in limits)
        return _name(decorator.func) == "lru_cache" and is_none
    return _name(decorator) == "cache"


def _written(tree: ast.Module) -> set[str]:
    """Give the names that functions of a module write into."""
    found = set()
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        for node in ast.walk(function):
            target: ast.expr | None = None
            if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
                target = node.value
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                target = node.func.value if node.func.attr in _WRITES else None
            if isinstance(target, ast.Name):
                found.add(target.id)
    return found


def unbounded_maps(modules: Sequence[Module]) -> list[str]:
    """List the maps and sets that objects of the site hold, but for bounded ones."""
    return sorted(
        {
            f"{module.name}:{owner}"
            for module in modules
            if _is_below(module.name, _BY_CLIENTS) and not _is_below(module.name, _BY_OPERATORS)
            for owner, node in _owned(module.tree, "")
            if isinstance(node, ast.Assign | ast.AnnAssign)
            and "." in owner
            and node.value is not None
            and _is_map(node.value)
        }
    )


def _owned(tree: ast.AST, owner: str, *, is_field: bool = False) -> Iterator[tuple[str, ast.AST]]:
    """Give every node with who holds it: `Class.attribute`, a variable's name, or nothing."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            if not _is_frozen(node):
                yield from _owned(node, f"{node.name}.", is_field=True)
            continue
        here = owner
        if isinstance(node, ast.Assign | ast.AnnAssign):
            attributes, names = _targets(node)
            of = owner.partition(".")[0]
            if attributes or (names and is_field):
                here = f"{of}.{(attributes or names)[0]}" if of else (attributes or names)[0]
            elif names:
                here = names[0]
        yield here.rstrip("."), node
        is_inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _owned(node, here, is_field=is_field and not is_inside)


def _is_frozen(made: ast.ClassDef) -> bool:
    """Tell of a message or a view: nothing is added to it once it is there."""
    told = [
        one for call in made.decorator_list if isinstance(call, ast.Call) for one in call.keywords
    ]
    return any(one.arg == "frozen" for one in [*made.keywords, *told])


def _targets(statement: ast.Assign | ast.AnnAssign) -> tuple[list[str], list[str]]:
    """Give the attributes that a statement sets or sets something in, and the variables."""
    attributes, names = [], []
    for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
        for one in target.elts if isinstance(target, ast.Tuple) else [target]:
            inner = one.value if isinstance(one, ast.Subscript) else one
            if isinstance(inner, ast.Attribute):
                attributes.append(inner.attr)
            elif isinstance(inner, ast.Name):
                names.append(inner.id)
    return attributes, names


def _keeps(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Dict | ast.List | ast.Set):
        return True
    return isinstance(value, ast.Call) and _name(value.func) in _KEEPS


def _is_map(value: ast.expr) -> bool:
    if isinstance(value, ast.Dict):
        return not value.keys
    if not isinstance(value, ast.Call):
        return False
    if _name(value.func) == "field":
        return any(
            one.arg == "default_factory" and _name(one.value) in _MAPS for one in value.keywords
        )
    return _name(value.func) in _MAPS and not value.args


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _is_below(name: str, packages: Sequence[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in packages)


def _of_the_program() -> list[Module]:
    return [one for one in read_modules(ROOT) if not _is_below(one.name, _OF_TESTS)]


def _differences(found: Sequence[str], reasons: Mapping[str, Sequence[str]]) -> list[str]:
    """List what has no reason, and reasons of what is not there any more."""
    known = [one for names in reasons.values() for one in names]
    assert len(known) == len(set(known))
    return [
        *(f"{one} has no bound, and no reason here" for one in found if one not in known),
        *(f"{one} needs no reason any more" for one in known if one not in found),
    ]


def test_every_queue_says_how_long_it_may_get() -> None:  # REL-71
    assert _differences(endless_queues(_of_the_program()), QUEUES_BOUNDED_BY) == []


def test_no_module_keeps_what_is_written_while_the_program_runs() -> None:  # REL-71
    assert _differences(written_module_state(_of_the_program()), MODULE_STATE) == []


def test_what_is_kept_by_a_name_of_clients_is_bounded() -> None:  # REL-71
    modules = _of_the_program()
    assert _differences(unbounded_maps(modules), MAPS_BOUNDED_BY) == []
    text = "".join(ast.unparse(module.tree) for module in modules)
    assert text.count(" = BoundedMap(") >= 7, "the class is used"


def _planted(folder: Path, text: str) -> list[Module]:
    (folder / "web").mkdir()
    (folder / "web" / "x.py").write_text(text)
    return read_modules(folder)


def test_planted_queues_are_found(tmp_path: Path) -> None:  # REL-71
    modules = _planted(
        tmp_path,
        "class Line:\n"
        "    old: deque[int] = field(default_factory=lambda: deque())\n"
        "    def __init__(self):\n"
        "        self.a = deque()\n"
        "        self.b: deque[int] = deque([1])\n"
        "        self.c = deque(maxlen=None)\n"
        "        self.good = deque(maxlen=5), deque((), 5), Queue(5), open_memory_channel(5)\n"
        "        self.d = queue.Queue()\n"
        "        self.e, self.f = trio.open_memory_channel(math.inf), 1\n"
        "        self.lines.setdefault(1, deque()).append(1)\n"
        "        self.by[1] = deque()\n"
        "        late = deque()\n",
    )
    held = [f"Line.{name}" for name in ("a", "b", "by", "c", "d", "e", "old")]
    assert endless_queues(modules) == sorted(f"web.x:{one}" for one in ["Line", "late", *held])


def test_planted_module_state_is_found(tmp_path: Path) -> None:  # REL-71
    modules = _planted(
        tmp_path,
        "TABLE = {1: 2}\n"
        "seen = {}\n"
        "names: list[str] = []\n"
        "ends = set()\n"
        "def use(one):\n"
        "    seen[one] = TABLE[1]\n"
        "    names.append(one)\n"
        "    ends.add(one)\n"
        "@cache\n"
        "def known(one): ...\n"
        "@lru_cache(maxsize=None)\n"
        "def known_too(one): ...\n"
        "@lru_cache(maxsize=8)\n"
        "def good(one): ...\n"
        "@cache\n"
        "def once(): ...\n",
    )
    found = ("ends", "known", "known_too", "names", "seen")
    assert written_module_state(modules) == [f"web.x:{name}" for name in found]


def test_planted_maps_are_found(tmp_path: Path) -> None:  # REL-71
    modules = _planted(
        tmp_path,
        "@dataclass\n"
        "class Held:\n"
        "    tabs: set[str] = field(default_factory=set)\n"
        "@dataclass(frozen=True)\n"
        "class Word:\n"
        "    fields: dict[str, str] = field(default_factory=dict)\n"
        "class Front:\n"
        "    def __init__(self, given):\n"
        "        self._by_address: dict[str, int] = {}\n"
        "        self._count = Counter()\n"
        "        self._given = dict(given)\n"
        "        self._good = BoundedMap(5)\n"
        "        local = {}\n",
    )
    found = ("Front._by_address", "Front._count", "Held.tabs")
    assert unbounded_maps(modules) == [f"web.x:{name}" for name in found]


def test_a_reason_that_nobody_needs_is_told() -> None:
    assert _differences(["web.x:A.b"], {"why": ["web.x:A.b"]}) == []
    assert len(_differences(["web.x:A.b"], {"why": ["web.x:A.c"]})) == 2
