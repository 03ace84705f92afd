"""The checkout on a page: buy, let it fail, crash it, and see each state as it comes.

`greenroom example checkout-page`. A step takes half a second here, so that it can be seen. Read
`checkout.py` first, the saga and who carries out what it says; here are the states of each
checkout as a row, and an actor that crashes where it hurts most: behind what it has stored.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import trio
from quart import Blueprint, redirect, request
from quart.typing import ResponseReturnValue

from actors.persistence import (
    Done,
    Execute,
    Failed,
    Projection,
    ProjectionTx,
    Refusal,
    StoredEvent,
    ask_state,
    execute,
)
from actors.persistence import inline_collection as collection
from actors.sagas import (
    CompensationStarted,
    Outcome,
    Participant,
    SagaActor,
    SagaCommand,
    SagaCompleted,
    SagaExists,
    SagaFailed,
    SagaId,
    SagaIndex,
    SagaParts,
    Sagas,
    SagaStuck,
    StepStarted,
)
from actors.sagas.words.log import SagaStarted
from docs.examples.checkout import (
    LIMIT_CENTS,
    Checkout,
    Counter,
    InitiateCheckout,
    Ports,
    Shop,
    Stock,
    StockCame,
    states,
)
from supervision import ChildSpec, dynamic_method, handle_of
from web.app import OwnSite, Panel, SitePlan, serve_site
from web.server import BoundedMap

# What the page follows.
TOPIC = "shop"
# As long as one needs to see a state before the next comes.
STEP_S = 0.5
CHAIR_CENTS = 5000
# Which checkouts are to crash (False), and which have (True): as many as the page shows.
Crashes = BoundedMap[str, bool]
CHAIRS = re.compile(r"[1-9]\d?", re.ASCII)
CHAIRS_COME = 3
# What is overlooked on one page; the panel is sent whole with each change.
SHOWN = 10
ORDER = re.compile(r"\d{13}-[0-9a-f]{12}", re.ASCII)
# After the year 2286 the newest would no longer come first.
_LAST_MS = 10**13
_OVER = ("Completed", "Failed", "Stuck")


class Row(msgspec.Struct, frozen=True):
    chairs: int
    cents: int
    states: tuple[str, ...] = ("Idle",)

    @property
    def is_over(self) -> bool:
        return self.states[-1].startswith(_OVER)


class Checkouts(Projection):
    """The states of each checkout, written in the append of the event that changed them."""

    name = "shop_checkouts"
    inline = True
    handles = (
        SagaStarted,
        StepStarted,
        CompensationStarted,
        SagaStuck,
        SagaCompleted,
        SagaFailed,
    )

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        kind, _, name = event.stream_id.partition("-")
        if kind != Checkout.definition().kind:
            return
        happened = self.types.decode(event)
        if isinstance(happened, SagaStarted):
            order = msgspec.convert(happened.data, InitiateCheckout)
            row = Row(order.items["chair"], order.order_total_cents)
        else:
            row = msgspec.convert(await tx.get(name), Row)
            _, *came = states([happened])
            row = msgspec.structs.replace(row, states=(*row.states, *came))
        tx.put(name, msgspec.to_builtins(row))


class CrashedOnPurpose(Exception):
    """A visitor asked for it."""


class CheckoutActor(SagaActor):
    """Crashes behind what it has stored when asked to."""

    def __init__(self, parts: SagaParts, key: str, crashes: Crashes) -> None:
        super().__init__(parts, key)
        self._key, self._crashes = key, crashes

    async def on_execute(self, message: Execute) -> Done | Refusal | Failed:
        done = await super().on_execute(message)
        if self._crashes.get(self._key) is False:
            self._crashes.put(self._key, True)
            raise CrashedOnPurpose
        return done


class Desk:
    """Begins checkouts and has them carried out, slowly; `find` gives the shop at each use."""

    def __init__(self, ports: Ports, find: Callable[[], Shop]) -> None:
        counter = Counter(find)
        slow = {name: _slow(one) for name, one in counter.participants.items()}
        self.ports, self.find = ports, find
        self.parts = replace(counter.parts(ports), topic=TOPIC)
        self.sagas = Sagas(self.parts, counter.saga, slow, dead_letters=ports.dead_letters)


def _slow(carry_out: Participant) -> Participant:
    async def slow(command: SagaCommand) -> Outcome | None:
        await trio.sleep(STEP_S)
        return await carry_out(command)

    return slow


def key_of(order: str) -> str:
    """Call this for the key of an order's checkout."""
    return SagaId.of(Checkout.definition().kind, order).key


class LiveShop(Shop, intensity=10, period=5.0):
    def __init__(self, desk: Desk, crashes: Crashes) -> None:
        super().__init__(desk.ports, desk.parts, desk.sagas.send, desk.sagas.deliver)
        self.crashes = crashes

    @dynamic_method(key="key", restart="transient")
    def sagas(self, key: str) -> SagaActor:
        return CheckoutActor(self.parts, key, self.crashes)


PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Checkout</title>
<meta name="viewport" content="width=device-width">
<link rel="stylesheet" href="{{ file_url('examples.css') }}">
<h1>Checkout</h1>
<p>An order is placed, paid and its chairs are reserved, or all of it is taken back.</p>
<p role="status">{{ said }}</p>
<form method="post" action="/buy">{{ csrf }}
<input type="hidden" name="order" value="{{ order }}">
<label>Chairs, {{ money(price) }} each <input name="chairs" inputmode="numeric" value="1"></label>
<label>Paid with <select name="card"><option value="good">a good card</option>
<option value="poor">a card at its limit</option></select></label>
<button>Buy</button></form>
<form method="post" id="change">{{ csrf }}</form>
{{ panel.shop }}{{ live }}</html>"""

ROWS = """<p>{{ chairs }} chairs in stock
<button form="change" formaction="/stock">Bring {{ come }} more</button></p>
<ul>{% for order, one, crash in orders %}<li>
<span>{{ one.chairs }} for {{ money(one.cents) }}: {{ one.states | join(' → ') }}
{%- if crash %} (its actor crashed, was started again and went on){% endif %}</span>
{% if not one.is_over and crash is none %}
<button form="change" formaction="/crash" name="order" value="{{ order }}">Crash it</button>
{% endif %}</li>{% endfor %}</ul>"""


def money(cents: int) -> str:
    """Call this for an amount as a person reads it."""
    return f"{cents // 100:,}.{cents % 100:02d}"


def checkout_of(form: Mapping[str, str]) -> InitiateCheckout | Refusal:
    """Call this for the checkout that a form asks for."""
    order, chairs = form.get("order", ""), form.get("chairs", "")
    if ORDER.fullmatch(order) is None:
        return Refusal("order", "This form is too old; it was sent from another page.")
    if CHAIRS.fullmatch(chairs) is None:
        return Refusal("chairs", "One to 99 chairs are bought at once.")
    match form.get("card"):
        case "good":
            cents = int(chairs) * CHAIR_CENTS
        case "poor":
            cents = LIMIT_CENTS + int(chairs) * CHAIR_CENTS
        case _:
            return Refusal("card", "A card is good, or at its limit.")
    return InitiateCheckout(order, "visitor", cents, {"chair": int(chairs)})


def desk_of(site: OwnSite) -> Desk:
    """Call this for a desk of a site's shop; it keeps nothing, and there may be several."""
    beside, env = site.beside, site.environment
    ports = Ports(
        site.store, beside.outbox, beside.timers, beside.dead_letters, env, str(env.ids.new_id())
    )
    # At each use: a shop that was restarted is another.
    return Desk(ports, lambda: handle_of(LiveShop, site.ref("shop", LiveShop)))


def new_order(site: OwnSite) -> str:
    """Call this for an order's name; later ones come first in the order of names."""
    env = site.environment
    left_ms = _LAST_MS - int(env.clock.now().timestamp() * 1000)
    return f"{left_ms:013d}-{env.ids.new_id().hex[-12:]}"


def tree(crashes: Crashes, site: OwnSite) -> list[ChildSpec]:
    shop = partial(LiveShop, desk_of(site), crashes)
    return [ChildSpec("shop", shop, name="shop", type="supervisor")]


def panels(crashes: Crashes, site: OwnSite) -> list[Panel]:
    desk = desk_of(site)

    async def shown() -> str:
        rows = await site.beside.projections.query(collection(Checkouts()), limit=SHOWN)
        _, stock = await ask_state(desk.find().inventory["main"])
        assert isinstance(stock, Stock)
        orders = [
            (order, msgspec.convert(row, Row), crashes.get(key_of(order))) for order, row in rows
        ]
        chairs = stock.items.get("chair", 0)
        return site.render(ROWS, orders=orders, chairs=chairs, come=CHAIRS_COME, money=money)

    return [Panel("shop", topic=TOPIC, render=shown)]


def pages(crashes: Crashes, site: OwnSite) -> Blueprint:
    routes, desk = Blueprint("shop", __name__), desk_of(site)

    async def page(said: str = "", status: int = 200) -> ResponseReturnValue:
        # A form that is sent twice asks for one order.
        order, price = new_order(site), CHAIR_CENTS
        return await site.page(
            PAGE, panels=["shop"], status=status, said=said, order=order, price=price, money=money
        )

    @routes.get("/")
    async def home() -> ResponseReturnValue:
        return await page()

    @routes.post("/buy")
    async def buy() -> ResponseReturnValue:
        asked = checkout_of(await request.form)
        if isinstance(asked, Refusal):
            return await page(asked.message, 422)
        try:
            await desk.sagas.start(Checkout, asked, name=asked.order_id)
        except SagaExists:
            return await page("This form was sent before, with other words.", 422)
        return redirect("/", 303)

    @routes.post("/stock")
    async def stock() -> ResponseReturnValue:
        await execute(desk.find().inventory["main"], StockCame({"chair": CHAIRS_COME}))
        site.system.topics.publish(TOPIC, "stock")
        return redirect("/", 303)

    @routes.post("/crash")
    async def crash() -> ResponseReturnValue:
        order = (await request.form).get("order", "")
        if ORDER.fullmatch(order) is None:
            return await page("There is no such order.", 422)
        if crashes.get(key_of(order)) is None:
            crashes.put(key_of(order), False)
            site.system.topics.publish(TOPIC, "crash")
        return redirect("/", 303)

    return routes


def plan_of(crashes: Crashes) -> SitePlan:
    """Call this for the site; `crashes` is what its pages tell its actors."""
    return SitePlan(
        name="checkout",
        tree=partial(tree, crashes),
        pages=partial(pages, crashes),
        panels=partial(panels, crashes),
        inline=(SagaIndex(), Checkouts()),
        files=Path(__file__).parent / "static",
    )


PLAN = plan_of(BoundedMap(SHOWN))
if __name__ == "__main__":
    raise SystemExit(serve_site(PLAN))
