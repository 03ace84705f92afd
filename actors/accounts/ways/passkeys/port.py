"""What keeps passkeys, and what judges their signatures.

Rule 1: a challenge is used up by who answers it, whatever the answer is worth (SEC-100).
Rule 2: a use moves the counter in the transaction of what it opens; of two with one counter one is
        taken (SEC-103).
Rule 3: adding and removing one, its event, its row of the audit and its mail are one transaction.

`Passkeys` is kept by the files of that name in `storage`; both pass
`storage.testing.PasskeysSuite`. Each method raises `StoreUnavailable` and its kin, and
`InvalidField` before any I/O. Cancelled, a change is wholly there or wholly absent.
"""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from actors.accounts.kept.audit import Origin
from actors.accounts.kept.factors.port import PasskeyProof
from actors.accounts.members import NOWHERE, NewSignIn
from actors.accounts.ways.links import Entered
from actors.accounts.ways.passkeys.checks import Party
from actors.accounts.ways.passkeys.words import (
    Added,
    ChallengeClaim,
    MadeAnswer,
    MadeKey,
    NewChallenge,
    NewPasskey,
    Passkey,
    Removal,
    Removed,
    Taken,
    UseAnswer,
)
from actors.persistence.words import OutboxMessage


class Passkeys(Protocol):
    """Passkeys and their challenges."""

    async def issue(self, challenge: NewChallenge) -> None:
        """Call this to keep a challenge for five minutes. Some that are over go with it."""
        ...

    async def take(self, claim: ChallengeClaim) -> Taken | None:
        """Call this to use a challenge up; None for one that is over, used, unknown, or was for
        another ceremony or browser.

        Of any number of calls at once, in any processes, one gets it.
        """
        ...

    async def of_user(self, user_id: UUID) -> Sequence[Passkey]:
        """Call this for somebody's passkeys, the oldest first."""
        ...

    async def of_email(self, email: str) -> tuple[UUID | None, Sequence[bytes]]:
        """Call this with an address in its one form for whose it is, and the ids of their passkeys;
        (None, ()) for nobody's.
        """
        ...

    async def add(self, new: NewPasskey, origin: Origin) -> Added:
        """Call this to add a passkey; but for `DONE` nothing was changed."""
        ...

    async def enter(
        self, user_id: UUID, proof: PasskeyProof, sign_in: NewSignIn, origin: Origin = NOWHERE
    ) -> Entered | None:
        """Call this to sign in by a passkey; None, and nothing is, for one that is gone or whose
        counter fell.

        By one whose user was not verified nobody is signed in: it is the first factor only
        (`Entered.needs_second`).
        """
        ...

    async def note_fall(
        self,
        user_id: UUID,
        proof: PasskeyProof,
        origin: Origin,
        outbox: Sequence[OutboxMessage] = (),
    ) -> bool:
        """Call this when a proof was refused: flags its passkey and tells of it, if its counter is
        the reason. False, and nothing is, when it is not.
        """
        ...

    async def rename(self, user_id: UUID, id_: UUID, name: str) -> bool:
        """Call this to call one of somebody's own something; False for none of theirs."""
        ...

    async def remove(self, removal: Removal, origin: Origin) -> Removed:
        """Call this to remove one; but for `DONE` nothing was changed.

        Of removals at once that would together remove the last way in one is `LAST`. With the last
        second factor the recovery codes go as well.
        """
        ...


class Verifier(Protocol):
    """Judges what was signed, and by which key. Raises `BadAnswer`."""

    async def made(self, answer: MadeAnswer, challenge: bytes, party: Party) -> MadeKey:
        """Call this with the answer of a device that made a key."""
        ...

    async def check(
        self, answer: UseAnswer, challenge: bytes, party: Party, public_key: bytes
    ) -> None:
        """Call this with an answer that a passkey signed."""
        ...
