"""What the type checkers have to accept of supervision. Run by test_surface.py, never imported."""

from __future__ import annotations

from functools import partial

from actors.runtime import Actor, Ask, Ref, message
from supervision import (
    AnyChild,
    AnyStartResult,
    ChildSpec,
    DeclaredChild,
    DeclaredDynamic,
    Dynamic,
    Router,
    Supervisor,
    by_key,
    child,
    child_method,
    dynamic,
    dynamic_method,
    open_system,
    router,
    router_method,
    run_until_signal,
    serve,
)


@message
class Add:
    item: str


@message
class Total(Ask[int]):
    pass


class Stock(Actor[Add | Total]):
    def __init__(self, shelf: str, size: int = 1, *, name: str = "") -> None: ...

    def on_add(self, message: Add) -> None: ...

    def on_total(self, message: Total) -> int:
        return 1


class Floor(Supervisor):
    def __init__(self, rooms: int, *, deep: bool = False) -> None: ...

    stock = child(Stock, "front")


def item_of(message: Add | Total) -> str:
    return message.item if isinstance(message, Add) else ""


class Shop(Supervisor, strategy="rest_for_one", intensity=3, period=5.0):
    placed = child(Stock, "front", 2)
    chosen = child(Stock, "front", restart="transient", shutdown="kill", name="stock")
    named = child(Stock, shelf="front", size=2)
    mixed = child(Stock, "front", size=2)
    chained = child(Stock, shelf="front").options(restart="transient", shutdown=2.0)
    partly = child(partial(Stock, "front", name="x"), name="y", restart="transient")
    made = child(lambda: Stock("front"), restart="temporary")
    annotated: DeclaredChild[Stock] = child(Stock, "front")
    floor = child(Floor, 3, deep=True)
    other = child(Floor, rooms=3).options(shutdown=9.0)
    shelves = dynamic(Stock, key="shelf", restart="transient", max_children=5)
    sized = dynamic(partial(Stock, size=5), key="shelf")
    pool = dynamic(Stock, "front", max_children=5)
    whole = dynamic(Stock, shelf="front", size=5).options(max_children=5)
    noted: DeclaredDynamic[Add | Total] = dynamic(Stock, key="shelf")
    clerks = router(Stock, "front", size=4, route="least_busy")
    sorted_clerks = router(Stock, "front", size=4, route=by_key(item_of))
    named_clerks = router(Stock, shelf="front").options(size=4)

    @child_method(restart="transient")
    def by_method(self) -> Stock:
        return Stock("front")

    @child_method()
    def floor_by_method(self) -> Floor:
        return Floor(3)

    @dynamic_method(key="name", max_children=5)
    def rooms(self, name: str) -> Stock:
        return Stock(name)

    @router_method(size=4)
    def routed(self) -> Stock:
        return Stock("front")

    @router_method(size=4, route=by_key(item_of))
    def routed_by_key(self) -> Stock:
        return Stock("front")


async def use() -> None:
    async with open_system(Shop, name="shop") as shop:
        refs: list[Ref[Add | Total]] = [
            shop.placed,
            shop.chosen,
            shop.named,
            shop.mixed,
            shop.chained,
            shop.partly,
            shop.made,
            shop.annotated,
            shop.by_method,
            shop.floor.stock,
            shop.other.stock,
            shop.floor_by_method.stock,
            shop.shelves["oak"],
            shop.sized["oak"],
            shop.noted["oak"],
            shop.rooms["oak"],
            shop.clerks,
            shop.sorted_clerks,
            shop.named_clerks,
            shop.routed,
            shop.routed_by_key,
        ]
        total = 1 + await shop.placed.ask(Total())
        routed: Router[Add | Total] = shop.routed
        pools: list[Dynamic[Add | Total]] = [shop.shelves, shop.pool, shop.whole]
        started = await shop.pool.start_child(3, size=5)
        started.started.tell(Add("chair"))
        if started.ref is not None:
            started.ref.tell(Add("chair"))
        for one in await shop.pool.which_children():
            if one.ref is not None:
                one.ref.tell(Add("chair"))
        unknown: AnyStartResult = await shop.start_child(ChildSpec("more", Stock))
        listed: list[AnyChild] = await shop.which_children()
        print(refs, total, routed, pools, unknown, listed)


async def roots() -> None:
    async with open_system(Floor, 3, name="floor") as floor:
        floor.stock.tell(Add("chair"))
    async with open_system(Floor, rooms=3, deep=True) as floor:
        floor.stock.tell(Add("chair"))
    async with open_system(partial(Floor, 3, deep=True), check_replies=True) as floor:
        floor.stock.tell(Add("chair"))


async def stay(floor: Floor) -> None:
    floor.stock.tell(Add("chair"))


def program() -> None:
    serve(Floor, 3)
    serve(Floor, 3, main=stay, name="floor", development=True)
    serve(Floor, rooms=3, deep=True)
    serve(partial(Floor, rooms=3, deep=True), main=stay)


async def within() -> None:
    signal = await run_until_signal(Floor, 3, main=stay)
    print("" if signal is None else signal.name)
