"""The actor of one challenge: it is issued, answered once, and over.

Rule: an actor has one id, the digest of its challenge, and answers for that alone: of two hundred
people who sign in at once nobody is given another's answer (SEC-23).
"""

from dataclasses import dataclass, field, replace
from uuid import UUID

from actors.accounts.kept.audit import Origin
from actors.accounts.kept.factors.port import PasskeyProof
from actors.accounts.members import Level, NewSignIn
from actors.accounts.ways.links import Entered
from actors.accounts.ways.passkeys.checks import (
    BadAnswer,
    Flags,
    Party,
    challenge_digest,
    challenge_of,
    check_made,
    check_use,
    counter_fell,
    level_of,
)
from actors.accounts.ways.passkeys.port import Passkeys, Verifier
from actors.accounts.ways.passkeys.words import (
    Added,
    Ceremony,
    ChallengeClaim,
    MadeAnswer,
    NewChallenge,
    NewPasskey,
    Passkey,
    UseAnswer,
)
from actors.persistence.errors import InvalidField, StoreError
from actors.runtime import Actor, Ask, message


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The store did not say; the challenge is used up, or as it was."""

    code: str


@dataclass(frozen=True, slots=True)
class Refused:
    """An answer was refused: why, in a word for the log, and of whose passkey, where that is known.

    `proof` is there when all but its counter is right.
    """

    reason: str
    user_id: UUID | None = None
    proof: PasskeyProof | None = None


@dataclass(frozen=True, slots=True)
class Proven:
    """A passkey has signed: whose, what that proves, and the proof that is to be used up."""

    passkey: Passkey
    proof: PasskeyProof
    level: Level


@dataclass(frozen=True, slots=True)
class EnteredBy:
    """Somebody is signed in by a passkey, or has given a first factor by it."""

    entered: Entered
    level: Level


@message
class BeginPasskey(Ask[Unanswered | None]):
    """Somebody needs a challenge; None when it is kept."""

    challenge: NewChallenge


@message
class AddPasskey(Ask[Added | Refused | Unanswered]):
    """A device has made a key; `new` is filled in with what it says of it."""

    answer: MadeAnswer
    bound: bytes = field(repr=False)
    party: Party
    new: NewPasskey
    origin: Origin


@message
class EnterByPasskey(Ask[EnteredBy | Refused | Unanswered]):
    """Somebody signs in by a passkey."""

    answer: UseAnswer
    bound: bytes = field(repr=False)
    party: Party
    sign_in: NewSignIn
    origin: Origin


@message
class ProvePasskey(Ask[Proven | Refused | Unanswered]):
    """A passkey is a second factor, or is shown again. The proof is not used up yet."""

    answer: UseAnswer
    bound: bytes = field(repr=False)
    party: Party
    user_id: UUID


Messages = BeginPasskey | AddPasskey | EnterByPasskey | ProvePasskey


@dataclass(frozen=True, slots=True)
class PasskeyEnvironment:
    """What a flow needs: what keeps passkeys, and what judges what they sign."""

    passkeys: Passkeys
    verifier: Verifier


class PasskeyFlow(Actor[Messages]):
    """Issues one challenge, or judges the answer to it."""

    def __init__(self, flow_id: str, env: PasskeyEnvironment) -> None:
        self.flow_id, self._env = flow_id, env

    async def on_begin_passkey(self, message: BeginPasskey) -> Unanswered | None:
        """Keep the challenge."""
        try:
            await self._env.passkeys.issue(message.challenge)
        except StoreError as error:
            return Unanswered(error.code)
        return None

    async def on_add_passkey(self, message: AddPasskey) -> Added | Refused | Unanswered:
        """Use the challenge up, judge the key, and keep it."""
        env, answer, new = self._env, message.answer, message.new
        try:
            challenge = challenge_of(answer.client_data)
            claim = ChallengeClaim(
                challenge_digest(challenge), Ceremony.REGISTER, message.bound, answer.credential_id
            )
            taken = await env.passkeys.take(claim)
            if taken is None or taken.user_id != new.user_id:
                return Refused("challenge")
            made = await env.verifier.made(answer, challenge, message.party)
            flags = check_made(answer.client_data, made.authenticator_data, message.party)
            if made.credential_id != answer.credential_id:
                return Refused("another_key")
            filled = replace(
                new,
                credential_id=made.credential_id,
                public_key=made.public_key,
                sign_count=flags.sign_count,
                is_backup_eligible=flags.is_backup_eligible,
                is_backed_up=flags.is_backed_up,
                is_attested=made.is_attested,
            )
            return await env.passkeys.add(filled, message.origin)
        except BadAnswer as error:
            return Refused(error.reason)
        except InvalidField as error:
            return Refused(error.field)
        except StoreError as error:
            return Unanswered(error.code)

    async def on_enter_by_passkey(
        self, message: EnterByPasskey
    ) -> EnteredBy | Refused | Unanswered:
        """Use the challenge up, judge the answer, and sign in."""
        match await self._judged(message, Ceremony.SIGN_IN, None):
            case Proven(passkey, proof, level):
                pass
            case other:
                return other
        sign_in = replace(message.sign_in, level=level)
        try:
            entered = await self._env.passkeys.enter(
                passkey.user_id, proof, sign_in, message.origin
            )
        except StoreError as error:
            return Unanswered(error.code)
        # In this moment the passkey was removed, or used elsewhere with a later counter.
        return (
            Refused("counter", passkey.user_id, proof)
            if entered is None
            else EnteredBy(entered, level)
        )

    async def on_prove_passkey(self, message: ProvePasskey) -> Proven | Refused | Unanswered:
        """Use the challenge up and judge the answer; the proof is for another transaction."""
        return await self._judged(message, Ceremony.PROVE, message.user_id)

    async def _judged(
        self, message: EnterByPasskey | ProvePasskey, ceremony: Ceremony, user_id: UUID | None
    ) -> Proven | Refused | Unanswered:
        env, answer, party = self._env, message.answer, message.party
        passkey: Passkey | None = None
        try:
            challenge = challenge_of(answer.client_data)
            claim = ChallengeClaim(
                challenge_digest(challenge), ceremony, message.bound, answer.credential_id
            )
            taken = await env.passkeys.take(claim)
            if taken is None:
                return Refused("challenge")
            passkey = taken.passkey
            if passkey is None:
                return Refused("unknown_key")
            whose = taken.user_id if user_id is None else user_id
            if user_id is not None and taken.user_id != user_id:
                return Refused("challenge")
            if whose is not None and passkey.user_id != whose:
                return Refused("another_user")
            flags = check_use(
                answer,
                passkey,
                party,
                needs_verified=ceremony is Ceremony.PROVE,
                needs_handle=whose is None,
            )
            await env.verifier.check(answer, challenge, party, passkey.public_key)
        except BadAnswer as error:
            return Refused(error.reason, None if passkey is None else passkey.user_id)
        except StoreError as error:
            return Unanswered(error.code)
        return _proven(passkey, flags)


def _proven(passkey: Passkey, flags: Flags) -> Proven | Refused:
    proof = PasskeyProof(
        passkey.credential_id, flags.sign_count, flags.is_verified, flags.is_backed_up
    )
    if counter_fell(passkey.sign_count, flags.sign_count):
        return Refused("counter", passkey.user_id, proof)
    return Proven(passkey, proof, level_of(flags, passkey))
