"""A score that everybody who looks sees change.

Write `panels` and what `on_goal` tells. The panel is called `score`, follows the topic `score`, and
shows `2 : 1` in a `<b>`. Whoever opens the page sees the present score; whoever has it open sees
each goal, without a reload.
"""

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

    def on_score(self, message: Score) -> tuple[int, int]:
        return self.home, self.guests


def tree(site: OwnSite) -> list[ChildSpec]:
    return [ChildSpec("match", Match, name="match")]


def panels(site: OwnSite) -> list[Panel]:
    async def render() -> str:
        raise NotImplementedError

    return [Panel("score", topic="", render=render)]


def pages(site: OwnSite) -> Blueprint:
    routes = Blueprint("match", __name__)

    @routes.get("/")
    async def show() -> Response:
        return await site.page(PAGE, panels=["score"])

    return routes


PLAN = SitePlan(name="match", tree=tree, panels=panels, pages=pages)
