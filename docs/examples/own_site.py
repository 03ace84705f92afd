"""Tea or coffee? An aggregate, an actor, a page, a live panel and a topic.

Run `greenroom example votes`, open it in two windows, and vote in one of them."""

from dataclasses import dataclass
from functools import partial

import msgspec
from quart import Blueprint, redirect, request
from quart.typing import ResponseReturnValue

from actors import persistence as store
from actors.reducers import Environment
from actors.runtime import Actor, Ask, message
from supervision import ChildSpec
from web.app import OwnSite, Panel, SitePlan, Speaker, Topic, command, serve_site
from web.server import current_request_state

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Votes</title>
<h1>Tea or coffee?</h1>{{ panel.votes }}<p role="status">{{ said }}</p>
<form method="post">{{ csrf }}{% for drink in drinks %}
<button name="drink" value="{{ drink }}">{{ drink }}</button>{% endfor %}</form>{{ live }}</html>"""
VOTES = "<ul>{% for drink, n in votes.items() %}<li>{{ drink }}: {{ n }}</li>{% endfor %}</ul>"
DRINKS = ("tea", "coffee")
Votes = dict[str, str]  # by voter


class Counted(msgspec.Struct, frozen=True):  # told on the topic
    votes: dict[str, int]


class Vote(msgspec.Struct, frozen=True, forbid_unknown_fields=True):  # taken from the topic
    drink: str


@message
class Cast(Ask[store.Refusal | None]):  # asked of an actor
    voter: str
    drink: str


@store.event()
@dataclass(frozen=True)
class Voted:  # kept in the store
    voter: str
    drink: str


class Poll(store.Aggregate[Votes, Cast, Voted]):
    category, state_type = "poll", dict

    def initial(self) -> Votes:
        return {}

    def decide(self, state: Votes, command: Cast, env: Environment) -> store.Decision[Voted]:
        if command.drink not in DRINKS or command.voter in state:
            return store.Refusal("refused", "One vote each, for tea or for coffee.")
        return [Voted(command.voter, command.drink)]

    def apply(self, state: Votes, event: Voted) -> Votes:
        return {**state, event.voter: event.drink}


async def count(site: OwnSite) -> Counted:
    _, votes = await store.ask_state(site.ref("poll", store.AggregateActor))
    assert isinstance(votes, dict)
    return Counted({drink: list(votes.values()).count(drink) for drink in DRINKS})


class Booth(Actor[Cast]):
    def __init__(self, site: OwnSite) -> None:
        self.site = site

    async def on_cast(self, message: Cast) -> store.Refusal | None:
        done = await store.execute(self.site.ref("poll", store.AggregateActor), message)
        if isinstance(done, store.Done):
            self.system.topics.publish("votes", await count(self.site))
        return done if isinstance(done, store.Refusal) else None


def tree(site: OwnSite) -> list[ChildSpec]:
    poll = partial(store.AggregateActor, Poll(), "drinks", site.store, site.environment)
    booth = partial(Booth, site)
    return [ChildSpec("poll", poll, name="poll"), ChildSpec("booth", booth, name="booth")]


def pages(site: OwnSite) -> Blueprint:
    routes = Blueprint("votes", __name__)

    @routes.route("/", methods=["GET", "POST"])
    async def home() -> ResponseReturnValue:
        said, status = "", 200
        if request.method == "POST":
            cast = Cast(current_request_state().visitor.text, (await request.form).get("drink", ""))
            refused = await site.ref("booth", Booth).ask(cast)
            if refused is None:
                return redirect("/", 303)
            said, status = refused.message, 422
        return await site.page(PAGE, panels=["votes"], status=status, drinks=DRINKS, said=said)

    return routes


def panels(site: OwnSite) -> list[Panel]:
    async def votes() -> str:
        return site.render(VOTES, votes=(await count(site)).votes)

    return [Panel("votes", topic="votes", render=votes)]


def topics(site: OwnSite) -> list[Topic]:
    async def vote(asked: Vote, speaker: Speaker) -> store.Refusal | None:
        return await site.ref("booth", Booth).ask(Cast(str(speaker.visitor), asked.drink))

    return [Topic("votes", events=[Counted], commands=[command(Vote, vote)])]


PLAN = SitePlan(name="drinks", tree=tree, pages=pages, panels=panels, topics=topics)
if __name__ == "__main__":
    raise SystemExit(serve_site(PLAN))
