"""What a provider gave to be asked with is renewed before it is over (AUTH-6).

Rule 1: the store says whose turn it is, and gives each to one process: what a process that died
        had in hand comes again by itself, later each time.
Rule 2: a provider that refuses has said that nothing is left of it: the tokens are dropped. One
        that is away has said nothing: they are tried again.
"""

from collections.abc import Callable, Sequence

import trio

from actors.accounts.kept.audit import Origin
from actors.accounts.ways.provider.identities import Identities, Renewal
from actors.accounts.ways.provider.words import AskProvider, NotShown, ProviderAway, ProviderTokens
from actors.persistence.errors import StoreError
from actors.runtime import Actor, Log, message

# A quarter of the shortest time between two renewals of one: none of them is late by more.
LOOK_S = 15.0
# Of one look; a full one is followed by another at once.
RENEWED_AT_ONCE = 20
PAUSE_S = 0.1
# As long as a flow waits for a provider. Shorter than a claim is good.
RENEW_S_MAX = 10.0

_log = Log("actors.accounts")
# The program itself did it.
_NOBODY = Origin(method="")


@message
class LookForRenewals:
    """Time to look; the renewer tells it itself."""


class TokenRenewer(Actor[LookForRenewals]):
    """Renews what is due, a provider's identities one after the other, the providers at once.

    `names` says which providers there are, `provider` gives one by its name.
    """

    def __init__(
        self,
        identities: Identities,
        names: Callable[[], Sequence[str]],
        provider: Callable[[str], AskProvider | None],
    ) -> None:
        self._identities, self._names, self._provider = identities, names, provider
        self.renewed = self.dropped = self.put_off = 0

    def on_start(self) -> None:
        """Begin at once: what became due while nobody ran is renewed."""
        self.after(0.0, LookForRenewals(), key="look")

    async def on_look_for_renewals(self, _: LookForRenewals) -> None:
        """Renew what is due."""
        self.after(LOOK_S, LookForRenewals(), key="look")
        names = self._names()
        if not names:
            return
        try:
            due = await self._identities.claim_renewals(names, RENEWED_AT_ONCE)
        except StoreError as error:
            _log.warning("accounts.renewals_wait", code=error.code)
            return
        async with trio.open_nursery() as nursery:
            for name in {one.provider for one in due}:
                nursery.start_soon(self._renew_all, [one for one in due if one.provider == name])
        if len(due) >= RENEWED_AT_ONCE:
            self.after(PAUSE_S, LookForRenewals(), key="look")

    async def _renew_all(self, due: Sequence[Renewal]) -> None:
        for one in due:
            try:
                await self._renew(one)
            except ProviderAway as error:
                self.put_off += 1
                _log.warning("accounts.renewal_waits", provider=one.provider, reason=error.reason)
            except StoreError as error:
                self.put_off += 1
                _log.warning("accounts.renewal_waits", provider=one.provider, reason=error.code)

    async def _renew(self, one: Renewal) -> None:
        provider = self._provider(one.provider)
        former = await self._identities.tokens(one.user_id, one.provider)
        if provider is None or former is None:
            return
        if former.refresh is None:  # over by its own term: thrown away
            await self._identities.renew_tokens(one.user_id, one.provider, former, former)
            return
        try:
            renewed = await self._asked(provider, former)
        except NotShown as error:
            await self._drop(one, former, error.reason)
            return
        # Of a provider that takes a refresh token once this is the only copy: an answer that came
        # is kept, whoever is being stopped.
        with trio.move_on_after(RENEW_S_MAX, shield=True):
            if await self._identities.renew_tokens(one.user_id, one.provider, former, renewed):
                self.renewed += 1

    async def _asked(self, provider: AskProvider, former: ProviderTokens) -> ProviderTokens:
        with trio.move_on_after(RENEW_S_MAX):
            return await provider.renew(former)
        raise ProviderAway(provider.provider.name, "slow")

    async def _drop(self, one: Renewal, former: ProviderTokens, reason: str) -> None:
        if await self._identities.drop_tokens(one.user_id, one.provider, former, _NOBODY):
            self.dropped += 1
            _log.warning(
                "accounts.tokens_dropped",
                provider=one.provider,
                user_id=str(one.user_id),
                reason=reason,
            )
