"""What is kept of second factors, and the port that keeps them.

Kept by `storage/postgres/accounts/factors.py` and its twin in `storage/memory`; both pass
`storage.testing.FactorsSuite`. Every method raises `StoreUnavailable` and its kin while the store
is away, and `InvalidField` for nonsense, before any I/O. Cancelled, a change is wholly there or
wholly absent.

Rule 1: a proof is used up in the transaction of the sign-in or step-up that it opens; of any number
        at once, in any processes, one gets it.
Rule 2: adding and removing a factor, its event, its row of the audit and its mail are one
        transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from actors.accounts.kept.audit import Origin
from actors.accounts.kept.factors.codes import CODES_COUNT, SECRET_BYTES
from actors.accounts.ports import check_digest
from actors.persistence.beside_log.outbox import check_messages
from actors.persistence.errors import InvalidField
from actors.persistence.words import (
    BIGINT_MAX,
    OutboxMessage,
    check_a,
    check_bytes,
    check_integer,
    check_list,
    check_uuid,
)

# WebAuthn Level 3, 4: an id has at most 1023 bytes; a counter has 32 bits.
CREDENTIAL_ID_BYTES_MAX = 1023
SIGN_COUNT_MAX = 2**32 - 1


@dataclass(frozen=True, slots=True)
class TotpProof:
    """The code of a step; good while no later step was used."""

    step: int

    def __post_init__(self) -> None:
        check_integer("step", self.step, 1, BIGINT_MAX)


@dataclass(frozen=True, slots=True)
class CodeProof:
    """A recovery code, by its digest; good once."""

    digest: bytes = field(repr=False)

    def __post_init__(self) -> None:
        check_digest(self.digest)


@dataclass(frozen=True, slots=True)
class PasskeyProof:
    """A passkey that signed, with the counter it told; good while that is not one from before.

    A second factor it is only when the device made sure of its user (`is_verified`).
    """

    credential_id: bytes
    sign_count: int
    is_verified: bool = False
    is_backed_up: bool = False

    def __post_init__(self) -> None:
        check_credential_id(self.credential_id)
        check_integer("sign_count", self.sign_count, 0, SIGN_COUNT_MAX)
        check_a("is_verified", self.is_verified, bool)
        check_a("is_backed_up", self.is_backed_up, bool)


Proof = TotpProof | CodeProof | PasskeyProof


def check_credential_id(credential_id: object) -> None:
    """Call this with the id of a passkey; raises `InvalidField`."""
    check_bytes("credential_id", credential_id, CREDENTIAL_ID_BYTES_MAX)
    if not credential_id:
        raise InvalidField("credential_id", "is empty")


def check_proof(proof: object) -> None:
    """Call this with a proof; raises `InvalidField`."""
    if not isinstance(proof, Proof):
        raise InvalidField("proof", "is none of those that are known")


@dataclass(frozen=True, slots=True)
class Totp:
    """An app that shows codes. `last_step` is the step that was used last."""

    secret: bytes = field(repr=False)
    last_step: int
    added_at: datetime


@dataclass(frozen=True, slots=True)
class HeldFactors:
    """The second factors of an account, and how many recovery codes are left."""

    totp: Totp | None = None
    codes_left: int = 0
    passkeys_count: int = 0

    @property
    def has_second(self) -> bool:
        """Call this for whether a sign-in asks for a second factor."""
        return self.totp is not None or self.passkeys_count > 0


@dataclass(frozen=True, slots=True)
class NewTotp:
    """An app to be added; the code of `step` was shown with it.

    The sign-in `reference` goes on under the token of `digest`, at the level of two factors.
    `codes` are digests of a new set of recovery codes, empty to keep those there are.
    """

    user_id: UUID
    secret: bytes = field(repr=False)
    step: int
    reference: UUID
    digest: bytes = field(repr=False)
    codes: Sequence[bytes] = field(default=(), repr=False)
    outbox: Sequence[OutboxMessage] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        check_uuid("user_id", self.user_id)
        check_uuid("reference", self.reference)
        check_bytes("secret", self.secret, SECRET_BYTES)
        if len(self.secret) != SECRET_BYTES:
            raise InvalidField("secret", f"takes {SECRET_BYTES} bytes")
        check_integer("step", self.step, 1, BIGINT_MAX)
        check_digest(self.digest)
        check_codes(self.codes)
        check_messages(self.outbox)


def check_codes(codes: object) -> list[bytes]:
    """Call this with the digests of a set of recovery codes; raises `InvalidField`."""
    given: list[bytes] = []
    for one in check_list("codes", codes):
        check_digest(one)
        assert isinstance(one, bytes)
        given.append(one)
    if len(given) > CODES_COUNT or len(set(given)) != len(given):
        raise InvalidField("codes", f"are up to {CODES_COUNT}, each another one")
    return given


class Factors(Protocol):
    """Second factors. That one is proven is `NewSignIn.proof` and `StepUp.proof` of `Accounts`."""

    async def held(self, user_id: UUID) -> HeldFactors:
        """Call this for what somebody has; nothing for nobody."""
        ...

    async def add_totp(self, new: NewTotp, origin: Origin) -> bool:
        """Call this to add an app; False, and nothing is, when there is one, or the sign-in is
        over.
        """
        ...

    async def remove_totp(
        self, user_id: UUID, reference: UUID, origin: Origin, outbox: Sequence[OutboxMessage] = ()
    ) -> bool:
        """Call this to remove the app; False, and nothing is, when there is none.

        Also when the sign-in `reference` that asks is over.

        With the last second factor the recovery codes go as well.
        """
        ...

    async def renew_codes(
        self,
        user_id: UUID,
        reference: UUID,
        codes: Sequence[bytes],
        origin: Origin,
        outbox: Sequence[OutboxMessage] = (),
    ) -> bool:
        """Call this to replace all recovery codes; False, and nothing is, without a factor.

        Also when the sign-in `reference` that asks is over.
        """
        ...


def check_removal(user_id: object, origin: object, outbox: Sequence[OutboxMessage]) -> None:
    """Call this with what a removal is given; raises `InvalidField`."""
    check_uuid("user_id", user_id)
    check_a("origin", origin, Origin)
    check_messages(outbox)
