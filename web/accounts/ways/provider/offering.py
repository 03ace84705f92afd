"""Which providers the pages offer, and what they show of an account's identities."""

from collections.abc import Sequence
from urllib.parse import quote
from uuid import UUID

from actors.accounts.ways.links import digest_of
from actors.accounts.ways.provider.identities import Identities, LinkedIdentity
from actors.accounts.ways.provider.words import Provider
from web.accounts.methods import Leaves, Leaving
from web.routing import paths
from web.views import LinkedView, LocalPath, ProviderLink, ProvidersView, local_path


class ProviderOffers:
    """The port `Offers` for the providers that are set."""

    def __init__(self, providers: Sequence[Provider], identities: Identities) -> None:
        self._labels = {one.name: one.label for one in providers}
        self._identities = identities

    def ways(self, then: LocalPath) -> tuple[ProviderLink, ...]:
        """See `Offers.ways`."""
        back = f"?redirect_to={quote(then, safe='')}"
        return tuple(
            ProviderLink(label, local_path(path_of(paths.OAUTH_BEGIN, name) + back))
            for name, label in self._labels.items()
        )

    @property
    def names(self) -> tuple[str, ...]:
        """See `Offers.names`."""
        return tuple(self._labels)

    async def left_by(self, user_id: UUID, reference: UUID) -> Leaving | None:
        """See `Offers.left_by`; without a provider nothing is looked up.

        An id token of another session of the provider is no hint: that session would be ended.
        """
        began = await self._identities.provider_of(reference) if self._labels else None
        if began is None or began.provider not in self._labels:
            return None
        path = local_path(path_of(paths.LOGOUT_PROVIDER, began.provider))
        tokens = await self._identities.tokens(user_id, began.provider)
        if tokens is None or tokens.id_token is None or tokens.id_session != began.session:
            return Leaving(path)
        return Leaving(path, Leaves(user_id, digest_of(tokens.id_token.reveal()).hex()))

    def _renewal(self, one: LinkedIdentity) -> LocalPath | None:
        if one.provider not in self._labels:
            return None  # it cannot be asked any more
        return local_path(path_of(paths.ACCOUNT_PROVIDER_LINK, one.provider))

    async def shown(self, user_id: UUID) -> ProvidersView:
        """See `Offers.shown`; without a provider nobody is looked up."""
        if not self._labels:
            return ProvidersView()
        found = await self._identities.of_user(user_id)
        linked = tuple(
            LinkedView(
                self._labels.get(one.provider, one.provider),
                one.linked_at,
                one.used_at,
                local_path(path_of(paths.ACCOUNT_PROVIDER_UNLINK, one.provider)),
                self._renewal(one) if one.is_refused else None,
            )
            for one in found
        )
        taken = {one.provider for one in found}
        offered = tuple(
            ProviderLink(label, local_path(path_of(paths.ACCOUNT_PROVIDER_LINK, name)))
            for name, label in self._labels.items()
            if name not in taken
        )
        return ProvidersView(linked, offered)


def path_of(path: str, provider: str) -> str:
    """Call this to name a provider in one of the paths that have one."""
    return path.replace("<provider>", quote(provider, safe=""))
