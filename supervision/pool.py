"""Routers: one ref for several workers that do the same, each of them restarted alone.

    class Shop(Supervisor):
        clerks = router(Clerk, "front", size=8, route="least_busy")

    shop.clerks.tell(Count("chair"))            # to one of the eight
    price = await shop.clerks.ask(Price("chair"))

`shop.clerks` is a `Router`: a ref like any other, for `tell`, `send`, `ask`, a name, a monitor.
What stands behind it is a `Pool`, the supervisor of the workers `shop/clerks/0` to
`shop/clerks/7`.

Who gets a message is decided where it is sent, in the caller's own `tell`; the pool has no part in
it and cannot be a bottleneck. Only what comes while it does not run, or past the router (a topic's
message), goes through its mailbox, in order and ahead of whatever is sent later.

    round_robin    the next one that runs
    least_busy     of those that run the one with the fewest messages queued and in hand; of equals
                   the next one
    by_key(f)      always the same one for `f(message)`, as long as their number stays

Rule 1: with the first two a worker that does not run is passed over; only when none runs the
message waits for one that is being restarted. With a key it waits for its own worker.
Rule 2: with nobody left to wait for, `ask` and `send` raise NoProc, and a tell is a dead letter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import (
    ClassVar,
    Final,
    Generic,
    Literal,
    Never,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypedDict,
    TypeVar,
    TypeVarTuple,
    Unpack,
    cast,
    overload,
)

import trio

from actors.runtime import (
    Actor,
    AnyRef,
    Ask,
    AskError,
    Cell,
    Exit,
    Ignore,
    NoProc,
    Ref,
    UnhandledMessage,
)
from actors.runtime.delivery.envelope import NO_DEADLINE, REPLY
from actors.runtime.delivery.ref import ASK_TIMEOUT_S, Target
from actors.runtime.life.cell import cell_of
from actors.runtime.words.exits import without_cancelled
from supervision.deciding.slots import Slot
from supervision.declared import Declared
from supervision.doing.supervising import Supervising, administer
from supervision.partition import RESTARTS_EACH, partition_of
from supervision.specs.arguments import check_arguments, split
from supervision.specs.errors import SpecError
from supervision.specs.specs import Backoff, ChildSpec, ErrorClasses, Flags, Maker, Plan
from supervision.specs.words import RestartType, ShutdownTime
from supervision.supervisor import Supervisor

M = TypeVar("M")
M_contra = TypeVar("M_contra", contravariant=True)
R = TypeVar("R")
O = TypeVar("O", bound=Supervising)  # noqa: E741  the owner
P = ParamSpec("P")
Ts = TypeVarTuple("Ts")

# The key of a message: what has the same text in every process.
Key: TypeAlias = str | int


@dataclass(frozen=True, slots=True)
class ByKey(Generic[M_contra]):
    """The route by key; see `by_key`."""

    key: Callable[[M_contra], Key]


# How a router chooses: one after another, whoever has the fewest messages waiting and in hand, or
# by a key of the message (`by_key`).
Route: TypeAlias = Literal["round_robin", "least_busy"] | ByKey[M]


def by_key(key: Callable[[M], Key]) -> ByKey[M]:
    """Call this for a route on which messages of one key go to one worker, in order.

    The worker is `partition_of(key, size)`, the same in every process and every run; another size
    moves most keys. A message whose key cannot be found, for `key` raised, is unhandled.
    """
    return ByKey(key)


# What others hold


class Router(Ref[M_contra], Generic[M_contra]):
    """The ref of a pool. What is told, sent and asked goes to one of its workers, by its route.

    Everything else a ref can do concerns the pool: it has its path, and a stop or a monitor is of
    all of it.
    """

    __slots__ = ("_pool", "_stands_for")

    def __init__(self, cell: Target) -> None:
        super().__init__(cell)
        # The incarnation that has workers now.
        self._pool: Pool[M_contra] | None = None
        self._stands_for: type | None = None

    def __repr__(self) -> str:
        return f"<Router {self.path}#{self._cell.id} {self._cell.status}>"

    def tell(self, message: M_contra, *, deadline: float = NO_DEADLINE) -> None:
        """Call this to pass a message on to one of the workers; see `Ref.tell`."""
        pool = self._routing()
        worker = None if pool is None else pool.pick(message)
        if worker is None:
            super().tell(message, deadline=deadline)  # `Pool.receive` sees to it.
        else:
            worker.tell(message, deadline=deadline)

    async def send(
        self, message: M_contra, timeout: float | None = None, *, deadline: float = NO_DEADLINE
    ) -> None:
        """Call this to deliver a message to one of the workers, waiting for room; see `Ref.send`.

        Who shall get it is chosen at once; it waits for room there. While the pool itself is being
        restarted it is delivered to that, which passes it on as it would a tell.
        """
        pool = self._routing()
        if pool is None:
            await super().send(message, timeout, deadline=deadline)
        else:
            worker = await self._worker_of(pool, message)
            await worker.send(message, timeout, deadline=deadline)

    async def ask(self, message: Ask[R], timeout: float | None = ASK_TIMEOUT_S) -> R:
        """Call this to get the reply of one of the workers; see `Ref.ask`."""
        pool = self._routing()
        if pool is None:
            return await super().ask(message, timeout)
        worker = await self._worker_of(pool, cast(M_contra, message))
        return await worker.ask(message, timeout)

    @property
    def size(self) -> int:
        """How many workers there are, running or not. Raises NoProc when the pool does not run."""
        return self._administered().size

    @property
    def workers(self) -> list[Ref[M_contra]]:
        """Their refs, in order, of those that have not ended for good. Raises NoProc."""
        return self._administered().workers

    async def resize(self, size: int) -> None:
        """Call this to have another number of workers; see `Pool.resize`."""
        await self._administered().resize(size)

    def _administered(self) -> Pool[M_contra]:
        pool = administer(cast(AnyRef, self))
        assert isinstance(pool, Pool)
        return pool

    def _routing(self) -> Pool[M_contra] | None:
        """The pool, if a message may go straight to a worker; else it goes by the pool's mailbox.

        What waits there was sent before, and must not be overtaken.
        """
        cell = self._cell
        return self._pool if cell.status == "running" and not cell.mailbox.queued else None

    async def _worker_of(self, pool: Pool[M_contra], message: M_contra) -> Ref[M_contra]:
        worker = pool.pick(message)
        if worker is None:
            await trio.lowlevel.checkpoint_if_cancelled()
            raise pool.refusal(message)
        return worker

    def _target(self, message: M_contra) -> Target:
        pool = self._routing()
        worker = None if pool is None else pool.pick(message)
        return self._cell if worker is None else worker._target(message)


# Who stands behind it


class Place(Protocol):
    """The place of a worker (a slot of the machine); its cell is None when that has ended."""

    @property
    def cell(self) -> Cell | None: ...


def _place(slot: Slot) -> Place:
    # What the hands put there is a cell; decisions need less of it, and so know less.
    return cast(Place, slot)


class Pool(Supervisor, Generic[M]):
    """The supervisor of `size` workers made from one template, each restarted alone.

    `ChildSpec("clerks", partial(Pool, ChildSpec("clerk", Clerk), 8, "least_busy"))`, where
    `router(...)` in a class body will not do. Its own budget allows each worker three restarts in
    five seconds, unless `flags` say otherwise.
    """

    ref_class = Router

    def __init__(
        self,
        template: object,
        size: int,
        route: Route[M] = "round_robin",
        flags: Flags | None = None,
    ) -> None:
        self._template = _checked_template(template)
        self._size = _checked_size(size)
        self._flags = flags or Flags(intensity=RESTARTS_EACH * size)
        self._route = route
        self._choose: Callable[[M], Cell | None] = self._next
        if isinstance(route, ByKey):
            self._choose = partial(self._of_key, route)
        elif _checked_route(route) == "least_busy":
            self._choose = self._least_busy
        # The places of the workers, by number; a place stays when its worker is another actor.
        self._places: list[Place] = []
        # Of the place that had the last message.
        self._turn = -1
        self._resizing = trio.Lock()

    # The router is told of the end before the workers end.
    __replaces__: ClassVar[frozenset[str]] = frozenset({"wind_down"})

    def plan(self) -> Plan | Ignore:
        """Called at each start: as many workers as were declared, named by their numbers."""
        return Plan(self._flags, [self._spec(number) for number in range(self._size)])

    async def on_start(self) -> object:
        """Called at each start: from then on the router goes to the workers without the pool."""
        outcome = await super().on_start()
        if outcome is None:
            slots = self._machine().slots
            self._places = [_place(slots[str(number)]) for number in range(self._size)]
            self._bind(self)
        return outcome

    async def wind_down(self, exit: Exit) -> None:  # noqa: A002  the runtime's word for it
        """Called by the runtime last: the router lets go of this incarnation."""
        self._bind(None)
        await super().wind_down(exit)

    def _bind(self, pool: Pool[M] | None) -> None:
        # A pool made by a factory that does not tell its class has a plain ref: then everything
        # goes by its mailbox, which is slower and just as true.
        ref = cell_of(self.ref).ref
        if isinstance(ref, Router):
            ref._pool = pool
            for place in self._places:
                if place.cell is not None:
                    ref._stands_for = place.cell.actor_class

    def receive(self, message: object) -> object:
        """Called with what came to the pool itself, past the router; it is passed on."""
        worker = self.pick(cast(M, message))
        if worker is not None:
            return self.forward(worker)
        envelope = self._activity.envelope
        assert envelope is not None
        refusal, reply = self.refusal(cast(M, message)), envelope[REPLY]
        if reply is not None:
            reply.fail(refusal)
        else:
            is_gone = isinstance(refusal, NoProc)
            reason: Literal["no_such_actor", "unhandled"] = (
                "no_such_actor" if is_gone else "unhandled"
            )
            self.system.dead_letters.add(self.cell, envelope, reason, note=str(refusal))
        return None

    # -- who gets a message ------------------------------------------------------------------

    def pick(self, message: M) -> Ref[M] | None:
        """Called for each message: the worker that shall have it, or None (see `refusal`)."""
        cell = self._choose(message)
        return None if cell is None else cast("Ref[M]", cell.ref)

    def refusal(self, message: M) -> AskError:
        """Called for the error of a message that nobody can have."""
        kind, path = type(message), self.ref.path
        if isinstance(self._route, ByKey):
            try:
                number = self._number_for(self._route, message)
            except BaseException as error:  # noqa: BLE001  it is the cause
                unhandled = UnhandledMessage(path, kind)
                unhandled.__cause__ = without_cancelled(error)
                return unhandled
            return NoProc(f"{path}/{number}", kind, "the worker of its key has ended for good")
        return NoProc(path, kind, f"all of its {len(self._places)} workers have ended for good")

    def _number_for(self, route: ByKey[M], message: M) -> int:
        return partition_of(str(route.key(message)), len(self._places))

    def _of_key(self, route: ByKey[M], message: M) -> Cell | None:
        try:
            number = self._number_for(route, message)
        except BaseException as error:  # noqa: BLE001  a tell never raises: it belongs to nobody
            without_cancelled(error)  # But a Ctrl-C does.
            return None
        return self._places[number].cell

    def _next(self, _: M) -> Cell | None:
        places = self._places
        count = len(places)
        waiting: Cell | None = None
        for step in range(1, count + 1):
            turn = (self._turn + step) % count
            cell = places[turn].cell
            if cell is None:
                continue
            if cell.status == "running":
                self._turn = turn
                return cell
            # Nobody may run: then the first of those that come back, which keep their mail.
            waiting = waiting or cell
        self._turn += 1
        return waiting

    def _least_busy(self, message: M) -> Cell | None:
        places = self._places
        count = len(places)
        found: int | None = None
        fewest = math.inf
        for step in range(1, count + 1):
            turn = (self._turn + step) % count
            cell = places[turn].cell
            if cell is None or cell.status != "running":
                continue
            if cell.mailbox.idle:
                self._turn = turn
                return cell
            # Written out: it is asked of every worker for every message.
            mailbox, life = cell.mailbox, cell.life
            load = len(mailbox.inbox) + len(mailbox.batch) - mailbox.index
            if mailbox.waiting is not None:
                load += len(mailbox.waiting)
            if life is not None and life.activity.envelope is not None:
                load += life.activity.cell is cell
            if load < fewest:
                found, fewest = turn, load
        if found is None:
            return self._next(message)
        self._turn = found
        return places[found].cell

    # -- administration ------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """How many workers there are, running or not."""
        return len(self._actor()._places)

    @property
    def workers(self) -> list[Ref[M]]:
        """The refs of the workers, in order, of those that have not ended for good."""
        places = self._actor()._places
        return [cast("Ref[M]", place.cell.ref) for place in places if place.cell is not None]

    async def resize(self, size: int) -> None:
        """Call this to have another number of workers; returns when all of it is done.

        New ones are started one by one. Those that are too many, the last ones, get no messages
        any more, handle what they have within their shutdown time, and end. With `by_key` most
        keys get another worker: what workers remember does not move along. A pool that is
        restarted has its declared size again.

        Raises SpecError for a size below 1, StartFailed (the size is what was reached) and NoProc.
        Cancelled, it stops growing; those that are to end do so.
        """
        _checked_size(size)
        actor = self._actor()
        async with actor._resizing:
            if size < len(actor._places):
                await actor._shrink(size)
            for number in range(len(actor._places), size):
                await actor._add(number)

    async def _add(self, number: int) -> None:
        slots, spec = self._machine().slots, self._spec(number)
        # One that was to end when somebody lost patience, or started when somebody did.
        before = slots.get(spec.id)
        if before is not None and before.cell is not None:
            is_leaving = before.spec.restart != spec.restart or before.cell.status == "stopping"
            if not is_leaving:
                self._places.append(_place(before))
                return
            await self.system.wait_down(before.cell.ref, final=True)
        if spec.id in slots:
            await self.restart_child(spec.id)
        else:
            await self.start_child(spec)
        self._places.append(_place(slots[spec.id]))

    async def _shrink(self, size: int) -> None:
        leaving = self._places[size:]
        del self._places[size:]
        # As temporary children nobody starts them again.
        specs = [
            slot.spec.as_one_of(slot.spec.id, "temporary") if _place(slot) in leaving else slot.spec
            for slot in self._machine().slots.values()
        ]
        await self.reconfigure(Plan(self._machine().flags, specs))
        async with trio.open_nursery() as nursery:
            for number, place in enumerate(leaving, size):
                if place.cell is not None:
                    nursery.start_soon(_drained, place.cell.ref)
                else:  # It has ended already; its place goes too.
                    nursery.start_soon(self.terminate_child, str(number))

    def _spec(self, number: int) -> ChildSpec:
        return self._template.as_one_of(str(number), self._template.restart)

    def _actor(self) -> Pool[M]:
        """The incarnation there is now; a handle has no state of its own. Raises NoProc."""
        self._reach()
        life = cell_of(self.ref).life
        assert life is not None, "`_reach` has found one"
        assert isinstance(life.instance, Pool)
        return life.instance


async def _drained(ref: AnyRef) -> None:
    try:
        await ref.stop(timeout=None, drain=True)
    except NoProc:
        pass  # It has ended meanwhile, which is all that is wanted.


def _checked_template(value: object) -> ChildSpec:
    template = ChildSpec.parse(value)
    if template.name is not None:  # One name for several.
        raise SpecError("bad_combination", "name", template.name)
    if template.significant:
        raise SpecError("bad_combination", "significant", template.significant)
    return template


def _checked_size(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise SpecError("bad_limit", "size", value)
    return value


def _checked_route(value: Route[M]) -> Route[M]:
    if not isinstance(value, ByKey) and value not in ("round_robin", "least_busy"):
        raise SpecError("bad_route", "route", value)
    return value


# Declared in a class body


class RouterOptions(TypedDict, total=False):
    """The options of a router: of each of its workers, of its own budget, and its name."""

    restart: RestartType
    shutdown: ShutdownTime
    backoff: Backoff
    restart_on: ErrorClasses
    stop_on: ErrorClasses
    escalate_on: ErrorClasses
    intensity: int
    period: float
    name: str


_OPTIONS: Final = frozenset({"size", "route", *RouterOptions.__annotations__})


class DeclaredRouter(Declared, Generic[M]):
    """A pool declared in a class body; on a handle it reads as `Router[M]`."""

    def __init__(self, start: Maker, options: Mapping[str, object], *, is_method: bool) -> None:
        super().__init__(start, is_method=is_method)
        self._given = options
        rest = dict(options)
        # Still to be given, when the arguments of the class were given by name.
        self._size = _checked_size(rest.pop("size")) if "size" in rest else None
        self._route = _checked_route(cast("Route[M]", rest.pop("route", "round_robin")))
        budget = {name: rest.pop(name) for name in ("intensity", "period") if name in rest}
        budget = {"intensity": RESTARTS_EACH * (self._size or 1), **budget}
        self._flags = Flags(**cast("dict[str, Never]", budget))
        self._name = cast("str | None", rest.pop("name", None))
        self._worker = cast("dict[str, Never]", rest)

    def options(
        self, *, size: int, route: Route[M] = "round_robin", **options: Unpack[RouterOptions]
    ) -> DeclaredRouter[M]:
        """Call this for the same with these options: `router(Clerk, shop="x").options(size=8)`."""
        changed = {**self._given, **options, "size": size, "route": route}
        return DeclaredRouter(self._start, changed, is_method=self._is_method)

    def spec(self, name: str, supervisor: Supervising | None) -> ChildSpec:
        """Call this to compile the declaration to the spec of a pool."""
        self._id = name
        template = ChildSpec("worker", self.bound_to(supervisor), **self._worker)
        pool = partial(Pool, template, _checked_size(self._size), self._route, self._flags)
        return ChildSpec(name, pool, type="supervisor", name=self._name)

    @overload
    def __get__(self, instance: None, owner: type) -> DeclaredRouter[M]: ...
    @overload
    def __get__(self, instance: Supervising, owner: type) -> Router[M]: ...
    def __get__(self, instance: Supervising | None, owner: type) -> DeclaredRouter[M] | Router[M]:
        if instance is None:
            return self
        return cast("Router[M]", instance.ref_of(self._id))


@overload
def router(
    start: Callable[[Unpack[Ts]], Actor[M]],
    /,
    *args: *Ts,
    size: int,
    route: Route[M] = "round_robin",
    **options: Unpack[RouterOptions],
) -> DeclaredRouter[M]: ...
@overload
def router(
    start: Callable[P, Actor[M]], /, *args: P.args, **kwargs: P.kwargs
) -> DeclaredRouter[M]: ...
def router(start: object, /, *args: object, **given: object) -> object:
    """Call this in a class body to declare `size` workers behind one ref.

    `clerks = router(Clerk, "front", size=8, route="least_busy")`: the class and arguments of a
    worker, then how many, who gets a message, and options. `restart`, `shutdown`, `backoff` and
    the error classes are those of each worker; `intensity` and `period` the budget they share, by
    default three restarts each in five seconds; `name` registers the router.

    Names that are no options are arguments of the class, as with `child`, and raise as there. For
    the checkers: `router(Clerk, shop="front").options(size=8)`.
    """
    made, options = split(start, args, given, _OPTIONS)
    check_arguments(made)
    return DeclaredRouter(made, options, is_method=False)


@overload
def router_method(
    *,
    size: int,
    route: Literal["round_robin", "least_busy"] = "round_robin",
    **options: Unpack[RouterOptions],
) -> _RouterMethod: ...
@overload
def router_method(
    *, size: int, route: ByKey[M], **options: Unpack[RouterOptions]
) -> _KeyedRouterMethod[M]: ...
def router_method(
    *, size: int, route: Route[M] = "round_robin", **options: Unpack[RouterOptions]
) -> _RouterMethod | _KeyedRouterMethod[M]:
    """Call this as a decorator of a method that makes a worker, called anew per incarnation.

    ```python
    @router_method(size=4)
    def clerks(self) -> Clerk:
        return Clerk(self.settings.shelf)
    ```
    """
    return _RouterMethod({**options, "size": size, "route": route})


class _RouterMethod:
    """The decorator made by `router_method`."""

    def __init__(self, given: Mapping[str, object]) -> None:
        self._given = given

    def __call__(self, method: Callable[[O], Actor[M]]) -> DeclaredRouter[M]:
        return DeclaredRouter(cast("Maker", method), self._given, is_method=True)


class _KeyedRouterMethod(Protocol[M]):
    """The same where the route says already which messages there are."""

    def __call__(self, method: Callable[[O], Actor[M]]) -> DeclaredRouter[M]: ...
