"""Where the read models of a site of one's own are, and who searches them, as the settings say.

The books are the database's; documents may be in Redis, kept in memory for a while, and searched by
a search server. A server that is away at the start is waited for, one that refuses us ends it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from actors.persistence import CachedProjections, ProjectionStore, Purge
from actors.persistence.projections.searching import SearchFields
from actors.runtime.words.tallies import Tallies
from storage.asyncio_thread import ServingActor
from storage.errors import StoreUnavailable
from storage.guard import UNGUARDED, Guard
from storage.redis import RedisActor, RedisClient, RedisProjections
from storage.search import (
    ScanningSearch,
    SearchClient,
    SearchProjections,
    SearchRejected,
    SearchSettings,
    open_search,
)
from supervision import ChildSpec, Dependencies, DependencyPolicy
from web.app.health import check_redis_models, check_search
from web.app.linking import EXIT_ABSENT
from web.app.running import CannotStart, prepare_redis, redis_settings
from web.observability import first_leaf
from web.observability.health import Component
from web.settings import ReadModels, Settings, Switch
from web.wiring.frame.outside import REDIS, REDIS_POLICY, SEARCH, SEARCH_POLICY, StoreGuard
from web.wiring.frame.own_site import Searching

T = TypeVar("T")


class LaterGuard(Guard):
    """Lets everything pass until the site is there whose guard it is."""

    def __init__(self) -> None:
        self.guard: Guard = UNGUARDED

    async def call(self, make: Callable[[], Awaitable[T]]) -> T:
        """See `Guard.call`."""
        return await self.guard.call(make)


@dataclass
class OpenedModels:
    """What was opened: `projections` for who reads by keys, `searching` for who does by words."""

    projections: ProjectionStore
    searching: Searching
    tallies: Tallies = field(default_factory=Tallies)
    children: list[ChildSpec] = field(default_factory=list)
    components: list[Component] = field(default_factory=list)
    # What removes documents that nobody reads, where the database cannot.
    purges: dict[str, Purge] = field(default_factory=dict)
    policies: dict[str, DependencyPolicy] = field(default_factory=dict)
    _guards: dict[str, LaterGuard] = field(default_factory=dict)

    def guarded(self, name: str, policy: DependencyPolicy) -> LaterGuard:
        """Call this for what stands before a server that the site calls outside."""
        self.policies[name] = policy
        return self._guards.setdefault(name, LaterGuard())

    def attach(self, outside: Dependencies) -> None:
        """Call this once there is a site, whose breakers are told and counted."""
        for name, one in self._guards.items():
            one.guard = StoreGuard(outside.dependency(name))


@asynccontextmanager
async def open_read_models(
    settings: Settings, books: ProjectionStore, fields: Mapping[str, SearchFields]
) -> AsyncIterator[OpenedModels]:
    """Call this for read models as long as the block; raises `CannotStart`."""
    kept = settings.projections_kept
    opened = OpenedModels(books, Searching(books, ScanningSearch(books, fields)))
    async with AsyncExitStack() as stack:
        if settings.read_models is ReadModels.REDIS:
            await prepare_redis(settings)
            guard = opened.guarded(REDIS, REDIS_POLICY)
            client = RedisClient(redis_settings(settings), guard=guard)
            opened.projections = RedisProjections(client, books)
            opened.purges["read_models"] = partial(opened.projections.purge, older_than=kept)
            opened.children.append(ChildSpec("redis", partial(RedisActor, client)))
            opened.components.append(Component("redis", partial(check_redis_models, client)))
        if settings.read_models_cache is Switch.ON:
            cached = CachedProjections(
                opened.projections, writes_through=True, tallies=opened.tallies
            )
            opened.projections = cached
            opened.children.append(ChildSpec("read-models", partial(ServingActor, cached)))
        if settings.search_url is None:
            scanning = ScanningSearch(opened.projections, fields)
            opened.searching = Searching(opened.projections, scanning)
        else:
            guard = opened.guarded(SEARCH, SEARCH_POLICY)
            searched = await _open_search(settings, guard, stack)
            opened.components.append(Component("search", partial(check_search, searched)))
            models = SearchProjections(searched, books, fields, prefix=settings.search_prefix)
            opened.purges["searched_models"] = partial(models.purge, older_than=kept)
            opened.searching = Searching(models, models)
        yield opened


async def _open_search(settings: Settings, guard: Guard, stack: AsyncExitStack) -> SearchClient:
    assert settings.search_url is not None
    server = SearchSettings.of(settings.search_url, settings.search_tls_ca, settings.search_api_key)
    opened = open_search(server, guard=guard, wait_s=settings.database_wait_s)
    try:
        return await stack.enter_async_context(opened)
    except* (SearchRejected, OSError) as group:
        raise CannotStart(f"SEARCH_URL: {first_leaf(group)}") from group
    except* StoreUnavailable as group:
        reason = getattr(first_leaf(group), "reason", "")
        raise CannotStart(f"SEARCH_URL: {reason}", EXIT_ABSENT) from group
