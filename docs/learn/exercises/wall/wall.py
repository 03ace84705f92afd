"""A wall that visitors write on: a page with a form.

Write the route of the form. It takes the field `text`: at most 80 characters, and not none. What is
taken is kept by the actor, and the answer leads back to the page (303), so that reloading it posts
nothing twice. What is not taken is answered 422, and nothing is kept. The page shows what people
wrote as they wrote it, also when it looks like markup.
"""

from quart import Blueprint
from quart.typing import ResponseReturnValue

from actors.runtime import Actor, Ask, message
from supervision import ChildSpec
from web.app import OwnSite, SitePlan

PAGE = """<!doctype html><title>Wall</title>
<ul>{% for one in lines %}<li>{{ one }}</li>{% endfor %}</ul>
<form method="post">{{ csrf }}<input name="text" aria-label="Text"><button>Write</button></form>"""


@message
class Write(Ask[int]):
    text: str


@message
class Read(Ask[tuple[str, ...]]):
    pass


class Wall(Actor[Write | Read]):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_write(self, message: Write) -> int:
        self.lines.append(message.text)
        return len(self.lines)

    def on_read(self, message: Read) -> tuple[str, ...]:
        return tuple(self.lines)


def tree(site: OwnSite) -> list[ChildSpec]:
    return [ChildSpec("wall", Wall, name="wall")]


def pages(site: OwnSite) -> Blueprint:
    routes = Blueprint("wall", __name__)

    @routes.get("/")
    async def show() -> ResponseReturnValue:
        return await site.page(PAGE, lines=await site.ref("wall", Wall).ask(Read()))

    @routes.post("/")
    async def write() -> ResponseReturnValue:
        raise NotImplementedError

    return routes


PLAN = SitePlan(name="wall", tree=tree, pages=pages)
