"""The counter of `counter.py` on a page: three buttons, and what it counts in every window.

`greenroom example counter-page`. Nothing is kept: a reducer without effects begins anew.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from quart import Blueprint, redirect, request
from quart.typing import ResponseReturnValue

from actors.reducers import ReducerRef, as_reducer
from docs.examples.counter import Count, Counter, Decrement, Increment, Reset
from supervision import ChildSpec
from web.app import OwnSite, Panel, SitePlan, serve_site

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Counter</title>
<meta name="viewport" content="width=device-width">
<link rel="stylesheet" href="{{ file_url('examples.css') }}">
<h1>Counter</h1>{{ panel.count }}
<form method="post">{{ csrf }}{% for name in buttons %}
<button name="action" value="{{ name }}">{{ name }}</button>{% endfor %}</form>{{ live }}</html>"""
Action = Increment | Decrement | Reset
ACTIONS: Mapping[str, Action] = {
    "Increment": Increment(),
    "Decrement": Decrement(),
    "Reset": Reset(),
}


def counter(site: OwnSite) -> ReducerRef[Count, Action]:
    return as_reducer(Counter, site.ref("counter", Counter))


def tree(site: OwnSite) -> list[ChildSpec]:
    return [ChildSpec("counter", partial(Counter, site.environment), name="counter")]


def panels(site: OwnSite) -> list[Panel]:
    async def count() -> str:
        return site.render(
            "<output>{{ count }}</output>", count=(await counter(site).state()).value
        )

    return [Panel("count", topic="counter", render=count)]


def pages(site: OwnSite) -> Blueprint:
    routes = Blueprint("counter", __name__)

    @routes.route("/", methods=["GET", "POST"])
    async def home() -> ResponseReturnValue:
        action = ACTIONS.get((await request.form).get("action", ""))
        if action is not None:
            await counter(site).run(action)
            site.system.topics.publish("counter", action)
            return redirect("/", 303)
        return await site.page(PAGE, panels=["count"], buttons=list(ACTIONS))

    return routes


PLAN = SitePlan(
    name="counter",
    tree=tree,
    pages=pages,
    panels=panels,
    files=Path(__file__).parent / "static",
)
if __name__ == "__main__":
    raise SystemExit(serve_site(PLAN))
