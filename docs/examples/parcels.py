"""A parcel desk for client programs: the four ways to answer, and what a route refuses.

`greenroom example parcels` serves it on PORT 3000; `--store postgres` keeps it. Read
`parcel_routes` first: each route reads, asks an actor, and answers. Above it stands what it asks:
a parcel that decides, and a courier who takes his time.

    curl -i http://127.0.0.1:3000/api/v1/parcels -H 'content-type: application/json' \
        -H 'idempotency-key: a-random-key-of-mine' \
        -d '{"parcel_id": "abcd", "receiver": "Ada", "weights": [200, 300]}'
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

import msgspec
import trio
from quart import Blueprint, Response

from actors.persistence import (
    Aggregate,
    AggregateActor,
    AggregateRef,
    Decision,
    EventStore,
    Refusal,
    event,
    execute,
)
from actors.reducers import Environment
from actors.runtime import Actor, message
from supervision import ChildSpec, Supervisor, child_method, dynamic_method, handle_of
from web.api import (
    IdempotencyKeys,
    Pages,
    Refusals,
    accept,
    accepted,
    body,
    carry_out,
    created,
    not_found,
    ok,
    read_state,
    wait_milestone,
)
from web.app import OwnSite, SitePlan, serve_site
from web.server import Answer

PARCELS = "/api/v1/parcels"
PARCEL_ID = "[a-z0-9]{4,32}"


# What is asked and what happens.


class Register(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    parcel_id: Annotated[str, msgspec.Meta(pattern=f"^{PARCEL_ID}$")]
    receiver: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    weights: Annotated[list[Annotated[int, msgspec.Meta(gt=0)]], msgspec.Meta(min_length=1)]


class Collect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    by: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class Deliver(msgspec.Struct, frozen=True):
    pass


@event()
@dataclass(frozen=True)
class ParcelRegistered:
    receiver: str
    grams: int


@event()
@dataclass(frozen=True)
class ParcelOut:
    pass


@event()
@dataclass(frozen=True)
class ParcelCollected:
    by: str


@dataclass(frozen=True)
class Parcel:
    receiver: str = ""
    grams: int = 0
    status: str = ""


Command = Register | Collect | Deliver
Happened = ParcelRegistered | ParcelOut | ParcelCollected


class Parcels(Aggregate[Parcel, Command, Happened]):
    category = "parcel"
    state_type = Parcel

    def initial(self) -> Parcel:
        return Parcel()

    def decide(self, state: Parcel, command: Command, env: Environment) -> Decision[Happened]:
        match command:
            case Register() if state.status:
                return Refusal("known", "There is a parcel of this id already")
            case Register():
                return [ParcelRegistered(command.receiver, sum(command.weights))]
            case _ if not state.status:
                return Refusal("unknown", "There is no parcel of this id")
            case _ if state.status == "collected":
                return Refusal("gone", "The parcel was collected before")
            case Collect() if command.by != state.receiver:
                return Refusal("stranger", "A parcel is given to its receiver only")
            case Collect():
                return [ParcelCollected(command.by)]
            case Deliver():
                return [ParcelOut()]

    def apply(self, state: Parcel, event: Happened) -> Parcel:
        match event:
            case ParcelRegistered(receiver, grams):
                return Parcel(receiver, grams, "here")
            case ParcelOut():
                return replace(state, status="out")
            case ParcelCollected():
                return replace(state, status="collected")


# Who does it.


@message
class Bring:
    parcel_id: str


class Courier(Actor[Bring]):
    """Takes parcels out, and tells each parcel's topic what became of it."""

    def __init__(
        self, find: Callable[[str], AggregateRef], walk: Callable[[], Awaitable[None]]
    ) -> None:
        self._find, self._walk = find, walk

    async def on_bring(self, message: Bring) -> None:
        await self._walk()
        done = await execute(self._find(message.parcel_id), Deliver())
        happened = done if isinstance(done, Refusal) else done.events[0]
        self.system.topics.publish(f"parcel-{message.parcel_id}", happened)


class Desk(Supervisor, intensity=10, period=5.0):
    """Parcels by their ids, each started by its first message, and one courier."""

    def __init__(
        self, store: EventStore, env: Environment, walk: Callable[[], Awaitable[None]]
    ) -> None:
        self.store, self.env, self.walk = store, env, walk

    @dynamic_method(key="parcel_id")
    def by_id(self, parcel_id: str) -> AggregateActor[Parcel, Command, Happened]:
        return AggregateActor(Parcels(), parcel_id, self.store, self.env)

    @child_method()
    def courier(self) -> Courier:
        return Courier(self.by_id.__getitem__, self.walk)


# How programs reach it.

REFUSALS = Refusals(
    {
        "known": Answer.CONFLICT,
        "unknown": Answer.NOT_FOUND,
        "gone": Answer.CONFLICT,
        "stranger": Answer.FORBIDDEN,
    }
)


def parcel_routes(
    desk: Callable[[], Desk], store: EventStore, keys: IdempotencyKeys, pages: Pages[str]
) -> Blueprint:
    routes = Blueprint("parcels", __name__)

    @routes.post(PARCELS)
    @keys.once(required=True)
    async def register() -> Response:
        asked = await body(Register)
        await carry_out(desk().by_id[asked.parcel_id], asked, REFUSALS)
        told = {"parcel_id": asked.parcel_id, "grams": sum(asked.weights)}
        return created(told, at=f"{PARCELS}/{asked.parcel_id}")

    @routes.get(f"{PARCELS}/<parcel_id>")
    async def look(parcel_id: str) -> Response:
        return ok(await read_state(parcel(desk(), parcel_id), Parcel, "Parcel", parcel_id))

    @routes.post(f"{PARCELS}/<parcel_id>/collect")
    @keys.once()
    async def collect(parcel_id: str) -> Response:
        await carry_out(parcel(desk(), parcel_id), await body(Collect), REFUSALS)
        return ok({"parcel_id": parcel_id, "status": "collected"})

    @routes.post(f"{PARCELS}/<parcel_id>/bring")
    async def bring(parcel_id: str) -> Response:
        parcel(desk(), parcel_id)
        return await accept(desk().courier, Bring(parcel_id), at=f"{PARCELS}/{parcel_id}")

    @routes.post(f"{PARCELS}/<parcel_id>/bring-now")
    async def bring_now(parcel_id: str) -> Response:
        parcel(desk(), parcel_id)
        topics, topic = desk().system.topics, f"parcel-{parcel_id}"
        send = partial(desk().courier.send, Bring(parcel_id))
        seen = await wait_milestone(topics, topic, send, told_of, within_s=2.0)
        if isinstance(seen, Refusal):
            raise REFUSALS.answer(seen)
        return accepted({"status": seen or "on its way"}, at=f"{PARCELS}/{parcel_id}")

    @routes.get(PARCELS)
    async def listed() -> Response:
        page = pages.read()
        more = page.limit + 1
        streams = await store.list_streams(category="parcel", after=page.after, limit=more)
        return pages.answer(page, [str(one.stream_id) for one in streams], position=str)

    return routes


def parcel(desk: Desk, parcel_id: str) -> AggregateRef:
    """What cannot be an id is no parcel either, and starts no actor."""
    if not re.fullmatch(PARCEL_ID, parcel_id):
        raise not_found("Parcel", parcel_id)
    return desk.by_id[parcel_id]


def told_of(happened: object) -> Refusal | str | None:
    match happened:
        case Refusal():
            return happened
        case ParcelOut():
            return "out"
    return None


# What a site of one's own is made of; see `own_site.py`.


async def walk() -> None:
    await trio.sleep(1.0)


def tree(site: OwnSite) -> list[ChildSpec]:
    desk = partial(Desk, site.store, site.environment, walk)
    return [ChildSpec("desk", desk, name="desk", type="supervisor")]


def pages(site: OwnSite) -> Blueprint:
    keys, cursors = IdempotencyKeys(site.idempotency, site.ring), Pages(site.ring, str)

    def desk() -> Desk:  # at each use: one that was restarted is another
        return handle_of(Desk, site.ref("desk", Desk))

    return parcel_routes(desk, site.store, keys, cursors)


PLAN = SitePlan(name="parcels", tree=tree, pages=pages)
if __name__ == "__main__":
    raise SystemExit(serve_site(PLAN))
