"""One way to write the score."""

from quart import Blueprint, Response

from actors.runtime import Actor, Ask, message
from supervision import ChildSpec
from web.app import OwnSite, Panel, SitePlan

PAGE = "<!doctype html><title>Match</title><p>{{ panel.score }}</p>{{ live }}"


@message
class Goal(Ask[None]):
    is_home: bool


@message
class Score(Ask[tuple[int, int]]):
    pass


class Match(Actor[Goal | Score]):
    def __init__(self) -> None:
        self.home, self.guests = 0, 0

    def on_goal(self, message: Goal) -> None:
        if message.is_home:
            self.home += 1
        else:
            self.guests += 1
        self.system.topics.publish("score", (self.home, self.guests))

    def on_score(self, message: Score) -> tuple[int, int]:
        return self.home, self.guests


def tree(site: OwnSite) -> list[ChildSpec]:
    return [ChildSpec("match", Match, name="match")]


def panels(site: OwnSite) -> list[Panel]:
    async def render() -> str:
        home, guests = await site.ref("match", Match).ask(Score())
        return site.render("<b>{{ home }} : {{ guests }}</b>", home=home, guests=guests)

    return [Panel("score", topic="score", render=render)]


def pages(site: OwnSite) -> Blueprint:
    routes = Blueprint("match", __name__)

    @routes.get("/")
    async def show() -> Response:
        return await site.page(PAGE, panels=["score"])

    return routes


PLAN = SitePlan(name="match", tree=tree, panels=panels, pages=pages)
