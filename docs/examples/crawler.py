"""A crawler: three levels of supervisors, a pool of workers, a rate limiter, a periodic report.

The web is a dictionary here, so that it runs anywhere. One page breaks its worker at the first
try: that worker is restarted, and the page is crawled all the same.
"""

from typing import final

import trio

from actors.runtime import Actor, ActorCrashed, Ask, Later, Ref, message
from supervision import Supervisor, child, child_method, open_system, router_method

PAGES = {
    "/": ["/about", "/shop"],
    "/about": ["/"],
    "/shop": ["/shop/oak", "/shop/elm"],
    "/shop/oak": ["/shop"],
    "/shop/elm": [],
}
BROKEN_ONCE = {"/shop/oak"}


@message
class Turn(Ask[None]):
    """Answered when the next request may begin."""


@message
class Refill:
    """Of a timer: one more request is free."""


@message
class Fetch(Ask[list[str]]):
    path: str


@message
class Found:
    path: str


@message
class Tell:
    """Of a timer: say how far it is."""


@message
class Crawl(Ask[set[str]]):
    start: str


@final
class Limiter(Actor[Turn | Refill]):
    """Lets `burst` requests through at once, then one each `interval` seconds."""

    def __init__(self, burst: int, *, interval: float) -> None:
        self.burst, self.free, self.interval = burst, burst, interval
        self.waiting: list[Later[None]] = []

    def on_start(self) -> None:
        _ = self.every(self.interval, Refill())

    def on_turn(self, message: Turn) -> Later[None] | None:
        if self.free == 0:
            later = self.reply_later(message)
            self.waiting.append(later)
            return later  # answered by `on_refill`
        self.free -= 1
        return None

    def on_refill(self, _: Refill) -> None:
        if self.waiting:
            self.waiting.pop(0).reply(None)
        else:
            self.free = min(self.burst, self.free + 1)


@final
class Worker(Actor[Fetch]):
    """Fetches one page at a time."""

    def __init__(self, limiter: Ref[Turn]) -> None:
        self.limiter = limiter

    async def on_fetch(self, message: Fetch) -> list[str]:
        await self.limiter.ask(Turn())
        if message.path in BROKEN_ONCE:
            BROKEN_ONCE.remove(message.path)
            raise ConnectionError(message.path)
        return PAGES[message.path]


@final
class Reporter(Actor[Found | Tell]):
    """Says now and then how many pages were found."""

    def __init__(self) -> None:
        self.count = 0

    def on_start(self) -> None:
        _ = self.every(0.05, Tell())

    def on_found(self, _: Found) -> None:
        self.count += 1

    def on_tell(self, _: Tell) -> None:
        print(f"{self.count} pages so far")


@final
class Crawler(Actor[Crawl]):
    """Follows links, level by level, with as many workers as there are."""

    def __init__(self, workers: Ref[Fetch], reporter: Ref[Found]) -> None:
        self.workers, self.reporter = workers, reporter

    async def on_crawl(self, message: Crawl) -> set[str]:
        seen: set[str] = set()
        level = {message.start}
        while level:
            seen |= level
            links: set[str] = set()
            async with trio.open_nursery() as nursery:
                for path in level:
                    nursery.start_soon(self.fetch, path, links)
            level = links - seen
        return seen

    async def fetch(self, path: str, links: set[str]) -> None:
        try:
            found = await self.workers.ask(Fetch(path))
        except ActorCrashed:  # it is restarted, and another one may try at once
            found = await self.workers.ask(Fetch(path))
        links.update(found)
        self.reporter.tell(Found(path))


@final
class Fetching(Supervisor, strategy="rest_for_one", intensity=5):
    """The workers need the limiter: should it crash, they start anew behind it."""

    limiter = child(Limiter, 2, interval=0.02)

    @router_method(size=3)
    def workers(self) -> Worker:
        return Worker(self.limiter)


@final
class App(Supervisor, strategy="rest_for_one"):
    reporter = child(Reporter)
    fetching = child(Fetching)

    @child_method(restart="transient")
    def crawler(self) -> Crawler:
        return Crawler(self.fetching.workers, self.reporter)


async def main() -> None:
    async with open_system(App) as app:
        pages = await app.crawler.ask(Crawl("/"), timeout=30)
        print("crawled:", *sorted(pages))


if __name__ == "__main__":
    trio.run(main)
