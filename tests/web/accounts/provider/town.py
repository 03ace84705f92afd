"""A site with providers, and who signs in by them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.journeys.visitor import Answer, Visitor
from tests.web.accounts.provider.lying import Lies, LyingProvider, open_provider
from tests.web.accounts.test_entering import get
from tests.web.whole_site import WholeSite, open_whole_site
from web.accounts.ways.provider.asking import AskedProvider
from web.mail.senders.memory import MemorySender
from web.settings import Settings

BEGIN = "/api/v1/auth/oauth/{}/authorize"
BACK = "/api/v1/auth/oauth/{}/callback"


@dataclass
class Town:
    """A site, its mail, and the providers it has."""

    site: WholeSite
    sender: MemorySender
    providers: list[LyingProvider]

    @property
    def provider(self) -> LyingProvider:
        return self.providers[0]

    @property
    def asked(self) -> AskedProvider:
        """The site's side of the first provider."""
        assert self.site.web.providers is not None
        return self.site.web.providers.asked[self.provider.name]

    async def begin(
        self, visitor: Visitor, name: str = "example", then: str | None = "/lab"
    ) -> Answer:
        wanted = "" if then is None else f"?redirect_to={then}"
        return await get(visitor, BEGIN.format(name) + wanted)

    async def agreed(self, visitor: Visitor, then: str | None = "/lab") -> str:
        """Begin, and agree; gives the path one comes back to."""
        began = await self.begin(visitor, self.provider.name, then)
        assert began.status == 302, began.text
        return path_of(self.provider.agree(began.headers["location"]))

    async def sign_in(self, visitor: Visitor, then: str | None = "/lab") -> Answer:
        return await get(visitor, await self.agreed(visitor, then))

    def kept(self) -> object:
        """What of accounts is in the database; but for tries, and states that were used."""
        database = self.site.accounts.database
        return repr((database.users, database.sign_ins, database.identities, database.outbox))

    def lie(self, **how: object) -> None:
        """Have the first provider lie so, and no otherwise; and forget who tried how often."""
        self.provider.lies = Lies(**how)  # type: ignore[arg-type]
        self.site.accounts.database.attempts.clear()


def path_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


@asynccontextmanager
async def open_town(
    *names: str,
    has_mail: bool = True,
    google: bool = False,
    move: Callable[[LyingProvider], Awaitable[None]] | None = None,
    **settings: object,
) -> AsyncIterator[Town]:
    """Open one with a provider of each name, or with one that writes as Google does.

    `move` may have each be reached by another port.
    """
    sender = MemorySender()
    async with AsyncExitStack() as stack:
        providers = [
            await stack.enter_async_context(open_provider(name))
            for name in names or ("google" if google else "example",)
        ]
        if move is not None:
            for provider in providers:
                await move(provider)
        made: dict[str, object] = {
            "port": 0,
            "overload_late_ms": 60_000,
            "overload_after_ms": 60_000,
            "providers": tuple(one.settings(may_be_bare=google) for one in providers),
        }
        whole = Settings(**{**made, **settings})  # type: ignore[arg-type]
        opened = open_whole_site(sender=sender if has_mail else None, settings=whole)
        site = await stack.enter_async_context(opened)
        yield Town(site, sender, providers)
