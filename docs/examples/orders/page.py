"""A page that shows the list of orders, live, and places one."""

from __future__ import annotations

from functools import partial

from quart import Blueprint, redirect, request
from quart.typing import ResponseReturnValue

from docs.examples.orders.commands import DESK, Desk, Place
from docs.examples.orders.deciding import Item
from docs.examples.orders.desk import TOPIC, OrderDesk
from docs.examples.orders.listing import STATUSES, OrderList
from docs.examples.store_feed import AskPlace
from supervision import handle_of
from web.app import OwnSite, Panel

SHOWN = 20
CUSTOMER_CHARS_MAX = 50
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Orders</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<h1>Orders</h1>{{ panel.orders }}
<form method="post">{{ csrf }}
<label>Customer <input name="customer" required maxlength="50"></label>
<button>Order two widgets</button></form>{{ live }}</html>"""
ROWS = """<p>{% for status, n in counts.items() %}{{ status }}: {{ n }}. {% endfor %}</p>
<table><tr><th>Order<th>Customer<th>Items<th>Cents<th>Status</tr>
{% for row in rows %}<tr><td>{{ row.id }}<td>{{ row.customer_id }}<td>{{ row.item_count }}
<td>{{ row.total_cents }}<td>{{ row.status }}</tr>{% endfor %}</table>"""


def page_routes(site: OwnSite) -> Blueprint:
    """Call this for the page."""
    routes, desk = Blueprint("page", __name__), Desk(site)

    @routes.route("/", methods=["GET", "POST"])
    async def home() -> ResponseReturnValue:
        if request.method == "POST":
            customer = (await request.form).get("customer", "")[:CUSTOMER_CHARS_MAX]
            items = (Item("prod-1", "Widget", 2, 1000),)
            await desk.over_http(Place(desk.new_id(None), customer, items))
            return redirect("/", 303)
        return await site.page(PAGE, panels=["orders"])

    return routes


def order_panels(site: OwnSite) -> list[Panel]:
    """Call this for the part of the page that follows the topic."""
    return [Panel("orders", topic=TOPIC, render=partial(render, site))]


async def render(site: OwnSite) -> str:
    """What was told on the topic is in the list before it is shown."""
    orders = OrderList(site.beside.projections)
    feed = handle_of(OrderDesk, site.ref(DESK, OrderDesk)).feed
    await orders.wait(await feed.ask(AskPlace()))
    rows = await orders.recent(SHOWN)
    counts = {status: await orders.count_by_status(status) for status in STATUSES}
    return site.render(ROWS, rows=rows, counts=counts)
