"""The actor of one state: what becomes of who comes back with it.

Rule 1: an actor has one state and answers for it alone, so nobody gets another's answer (SEC-23).
Rule 2: the state is used up before the provider is asked, so a code is exchanged once, and of any
        number who come back with it one goes on (SEC-91).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

import trio

from actors.accounts.kept.audit import Origin
from actors.accounts.members import AtProvider, NewSignIn
from actors.accounts.ways.links import Entered, Newcomer
from actors.accounts.ways.provider.identities import (
    AddressTaken,
    Identities,
    Linking,
    NewIdentity,
    SessionOver,
)
from actors.accounts.ways.provider.words import (
    AskProvider,
    Exchange,
    NotShown,
    ProviderAway,
    Shown,
)
from actors.persistence.errors import StoreError
from actors.persistence.words import OutboxMessage
from actors.runtime import Actor, Ask, message

# Of several calls to one provider together. Whoever waits for the actor waits longer than this and
# a statement of the store: so nobody is signed in who was told that nobody is.
SHOW_S_MAX = 6.0


@dataclass(frozen=True, slots=True)
class Nobody:
    """Nobody is signed in and nothing linked; `reason` is for the log."""

    reason: str


@dataclass(frozen=True, slots=True)
class Away:
    """The provider, or the store, did not answer; whoever came may try another way."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotYours:
    """The address is somebody's, who is to be written to at it."""

    email: str


@dataclass(frozen=True, slots=True)
class SignsIn:
    """Who comes back wants to sign in."""

    newcomer: Newcomer
    sign_in: NewSignIn


@dataclass(frozen=True, slots=True)
class Links:
    """Who comes back links what is shown to the account of their sign-in; a mail tells of it."""

    user_id: UUID
    reference: UUID
    outbox: Sequence[OutboxMessage] = field(default=(), repr=False)


Came = Entered | Linking | NotYours | Nobody | Away


@message
class ComeBack(Ask[Came]):
    """Somebody came back with a state that is theirs; `wants` says what for."""

    provider: str
    state: bytes
    exchange: Exchange
    wants: SignsIn | Links
    origin: Origin


Messages = ComeBack


@dataclass(frozen=True, slots=True)
class FlowEnvironment:
    """What a flow needs: the port, and the providers by their names."""

    identities: Identities
    provider: Callable[[str], AskProvider | None]


class ProviderFlow(Actor[Messages]):
    """Judges who comes back with one state."""

    def __init__(self, flow_id: str, env: FlowEnvironment) -> None:
        self.flow_id, self._env = flow_id, env

    async def on_come_back(self, message: ComeBack) -> Came:
        """Exchange the code and sign in, or link."""
        provider = self._env.provider(message.provider)
        if provider is None:
            return Nobody("provider")
        try:
            if not await self._env.identities.use_state(message.state):
                return Nobody("used")
            shown = await self._shown(provider, message.exchange)
            return await self._done(message, shown)
        except NotShown as error:
            return Nobody(error.reason)
        except ProviderAway as error:
            return Away(error.reason)
        except StoreError as error:
            return Away(error.code)

    async def _shown(self, provider: AskProvider, exchange: Exchange) -> Shown:
        with trio.move_on_after(SHOW_S_MAX):
            return await provider.show(exchange)
        raise ProviderAway(provider.provider.name, "slow")

    async def _done(self, message: ComeBack, shown: Shown) -> Came:
        identities, wants = self._env.identities, message.wants
        if isinstance(wants, Links):
            new = NewIdentity(wants.user_id, wants.reference, message.provider, shown, wants.outbox)
            return await identities.link(new, message.origin)
        at = AtProvider(message.provider, shown.session)
        sign_in = replace(wants.sign_in, at_provider=at)
        found = await identities.enter(
            message.provider, shown, wants.newcomer, sign_in, message.origin
        )
        match found:
            case AddressTaken(email):
                return NotYours(email or shown.email)
            case SessionOver():
                return Nobody("left")
            case None:
                return Away("names")
        return replace(found, session=shown.session)
