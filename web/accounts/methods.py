"""Which ways to sign in this program has: by its settings, and by what each of them needs.

A way that is switched off is nowhere offered, and its routes answer 404, as if there were none.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

import msgspec
from quart import Blueprint, Response

from actors.accounts import Method
from actors.accounts.ways.left import OfferedWays
from web.routing.errors import NoSuchThing
from web.views import LocalPath, ProviderLink, ProvidersView, RpId, rp_id


class Leaves(msgspec.Struct, frozen=True):
    """Who signed out here and may leave their provider, too, by an id token of this digest."""

    user_id: UUID
    id_token: str


@dataclass(frozen=True, slots=True)
class Leaving:
    """Where somebody goes on to leave their provider; `said` for a hint that it would know."""

    path: LocalPath
    said: Leaves | None = None


class Offers(Protocol):
    """Which providers sign in, for the pages that show them."""

    def ways(self, then: LocalPath) -> tuple[ProviderLink, ...]:
        """Call this for the ways to providers, each back to a page of this site."""
        ...

    async def shown(self, user_id: UUID) -> ProvidersView:
        """Call this for what is linked to an account, and what can be."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """The providers that sign in."""
        ...

    async def left_by(self, user_id: UUID, reference: UUID) -> Leaving | None:
        """Call this before a sign-in ends: where it goes on to leave its provider, too."""
        ...


class NoOffers:
    """There is no provider."""

    def ways(self, then: LocalPath) -> tuple[ProviderLink, ...]:
        """See `Offers.ways`."""
        return ()

    async def shown(self, user_id: UUID) -> ProvidersView:
        """See `Offers.shown`."""
        return ProvidersView()

    @property
    def names(self) -> tuple[str, ...]:
        """See `Offers.names`."""
        return ()

    async def left_by(self, user_id: UUID, reference: UUID) -> Leaving | None:
        """See `Offers.left_by`."""
        return None


@dataclass(frozen=True, slots=True)
class Methods:
    """The ways that are on."""

    on: frozenset[Method] = frozenset({Method.PASSWORD})
    # The domain that passkeys are of.
    rp_id: str = ""
    offers: Offers = field(default_factory=NoOffers)

    def has(self, method: Method) -> bool:
        """Call this for whether a way is offered."""
        return method in self.on

    @property
    def ways(self) -> OfferedWays:
        """What signs in beside a password, for whether a last way would go (SEC-107)."""
        return OfferedWays(self.has(Method.MAGIC_LINK), self.has(Method.PASSKEY), self.offers.names)

    @property
    def passkey_domain(self) -> RpId | None:
        """Call this for the domain that passkeys are of; None where there are none."""
        return rp_id(self.rp_id) if self.has(Method.PASSKEY) else None

    def keep_switched(self, routes: Blueprint, method: Method) -> None:
        """Call this with the routes of a way, before they are registered."""

        async def check() -> Response | None:
            self.check(method)
            return None

        routes.before_request(check)

    def check(self, method: Method) -> None:
        """Call this on a route of a way; raises `NoSuchThing` where it is switched off."""
        if not self.has(method):
            raise NoSuchThing(f"{method} is switched off")


def methods_of(
    wanted: Collection[Method] | None, is_there: Mapping[Method, bool], rp_id: str = ""
) -> Methods:
    """Call this with what the settings want, None for all, and whether there is what each needs.

    A password can always be used: accounts of this program have one. What is not mentioned in
    `is_there` needs nothing.
    """
    on = frozenset(Method) if wanted is None else frozenset(wanted)
    lacking = {method for method in on if not is_there.get(method, True)}
    return Methods((on | {Method.PASSWORD}) - lacking, rp_id)
