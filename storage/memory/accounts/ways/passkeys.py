"""Passkeys in memory; the twin of `storage/postgres/accounts/ways/passkeys.py`."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from actors.accounts.kept.audit import Act, Entry, Origin
from actors.accounts.kept.factors import PasskeyProof
from actors.accounts.kept.factors.port import check_removal
from actors.accounts.members import NOWHERE, Level, NewSignIn
from actors.accounts.ways.left import is_way_left
from actors.accounts.ways.links import Entered, entered
from actors.accounts.ways.passkeys import (
    CHALLENGE_KEPT,
    PASSKEYS_PER_USER_MAX,
    Added,
    ChallengeClaim,
    NewChallenge,
    NewPasskey,
    Passkey,
    Removal,
    Removed,
    Taken,
    counter_fell,
)
from actors.accounts.ways.passkeys.words import check_passkey_name
from actors.persistence import OutboxMessage
from actors.persistence.words import check_a, check_text, check_uuid
from storage.memory.accounts.audit import record
from storage.memory.accounts.members import MemoryAccounts
from storage.memory.accounts.proving import (
    has_second,
    kept_ways,
    renew_own,
    stop_recovery,
    use_passkey,
)
from storage.memory.database import FactorsRow, PasskeyChallengeRow
from storage.memory.twin import Twin


class MemoryPasskeys(Twin):
    """The port `Passkeys` on a `MemoryDatabase`."""

    async def issue(self, challenge: NewChallenge) -> None:
        """See `Passkeys.issue`."""
        check_a("challenge", challenge, NewChallenge)
        await self.pass_faults()
        kept, now = self.database.passkey_challenges, self.database.now()
        for over in [one for one, row in kept.items() if row.expires_at <= now]:
            del kept[over]
        kept[challenge.digest] = PasskeyChallengeRow(
            challenge.ceremony.value, challenge.bound, challenge.user_id, now + CHALLENGE_KEPT
        )

    async def take(self, claim: ChallengeClaim) -> Taken | None:
        """See `Passkeys.take`."""
        check_a("claim", claim, ChallengeClaim)
        await self.pass_faults()
        kept = self.database.passkey_challenges
        row = kept.get(claim.digest)
        if row is None or (row.ceremony, row.bound) != (claim.ceremony.value, claim.bound):
            return None
        del kept[claim.digest]
        if row.expires_at <= self.database.now():
            return None
        passkey = (
            None if claim.credential_id is None else self.database.passkeys.get(claim.credential_id)
        )
        return Taken(row.user_id, passkey)

    async def of_user(self, user_id: UUID) -> Sequence[Passkey]:
        """See `Passkeys.of_user`."""
        check_uuid("user_id", user_id)
        await self.pass_faults()
        return self._of(user_id)

    async def of_email(self, email: str) -> tuple[UUID | None, Sequence[bytes]]:
        """See `Passkeys.of_email`."""
        check_text("email", email, 1024)
        await self.pass_faults()
        users = self.database.users.items()
        user_id = next((id_ for id_, user in users if user.email == email), None)
        if user_id is None:
            return None, ()
        return user_id, tuple(one.credential_id for one in self._of(user_id))

    async def add(self, new: NewPasskey, origin: Origin) -> Added:
        """See `Passkeys.add`."""
        check_a("new", new, NewPasskey)
        check_a("origin", origin, Origin)
        await self.pass_faults()
        database = self.database
        if new.credential_id in database.passkeys:
            return Added.KNOWN
        if len(self._of(new.user_id)) >= PASSKEYS_PER_USER_MAX:
            return Added.TOO_MANY
        if not renew_own(database, new.user_id, new.reference, new.digest, Level.MULTI_FACTOR):
            return Added.OVER
        database.passkeys[new.credential_id] = Passkey(
            new.id,
            new.user_id,
            new.credential_id,
            new.public_key,
            new.sign_count,
            new.is_backup_eligible,
            new.is_backed_up,
            new.is_attested,
            check_passkey_name(new.name),
            database.now(),
        )
        if new.codes:
            row = database.factors.setdefault(new.user_id, FactorsRow())
            row.codes = set(new.codes)
        if new.ends_others:
            MemoryAccounts(database).end_others_of(new.user_id, new.reference)
        database.add_messages(new.outbox)
        entry = Entry(Act.PASSKEY_ADD, new.user_id, origin)
        record(database, entry, {"passkey": str(new.id)})
        return Added.DONE

    async def enter(
        self, user_id: UUID, proof: PasskeyProof, sign_in: NewSignIn, origin: Origin = NOWHERE
    ) -> Entered | None:
        """See `Passkeys.enter`."""
        check_a("origin", origin, Origin)
        check_uuid("user_id", user_id)
        check_a("proof", proof, PasskeyProof)
        check_a("sign_in", sign_in, NewSignIn)
        await self.pass_faults()
        database = self.database
        user = database.users.get(user_id)
        if user is None or user.doubted_since is not None:
            return None
        if not use_passkey(database, user_id, proof, origin):
            return None
        if not proof.is_verified:
            return Entered(user_id, user.username, user.email, False, 0, needs_second=True)
        stop_recovery(database, user_id, origin, sign_in.tell_stopped)
        ended = MemoryAccounts(database).admit(user_id, sign_in, origin, proof)
        return entered(user_id, user.username, user.email, ended)

    async def note_fall(
        self,
        user_id: UUID,
        proof: PasskeyProof,
        origin: Origin,
        outbox: Sequence[OutboxMessage] = (),
    ) -> bool:
        """See `Passkeys.note_fall`."""
        check_removal(user_id, origin, outbox)
        check_a("proof", proof, PasskeyProof)
        await self.pass_faults()
        database = self.database
        kept = database.passkeys.get(proof.credential_id)
        if kept is None or kept.user_id != user_id:
            return False
        if not counter_fell(kept.sign_count, proof.sign_count):
            return False
        database.passkeys[proof.credential_id] = replace(
            kept, flagged_at=kept.flagged_at or database.now()
        )
        database.add_messages(outbox)
        entry = Entry(Act.COUNTER_FELL, user_id, origin, "counter")
        record(database, entry, {"passkey": str(kept.id)})
        return True

    async def rename(self, user_id: UUID, id_: UUID, name: str) -> bool:
        """See `Passkeys.rename`."""
        check_uuid("user_id", user_id)
        check_uuid("id_", id_)
        given = check_passkey_name(name)
        await self.pass_faults()
        kept = self._one(user_id, id_)
        if kept is not None:
            self.database.passkeys[kept.credential_id] = replace(kept, name=given)
        return kept is not None

    async def remove(self, removal: Removal, origin: Origin) -> Removed:
        """See `Passkeys.remove`."""
        check_a("removal", removal, Removal)
        check_a("origin", origin, Origin)
        await self.pass_faults()
        database, user_id = self.database, removal.user_id
        kept = self._one(user_id, removal.id)
        if kept is None:
            return Removed.UNKNOWN
        ways = kept_ways(database, user_id)
        left = replace(ways, passkeys_count=ways.passkeys_count - 1)
        if not is_way_left(left, removal.offered):
            return Removed.LAST
        if not renew_own(database, user_id, removal.reference, removal.digest):
            return Removed.OVER
        del database.passkeys[kept.credential_id]
        if not has_second(database, user_id):
            database.factors.pop(user_id, None)
        if removal.ends_others:
            MemoryAccounts(database).end_others_of(user_id, removal.reference)
        database.add_messages(removal.outbox)
        entry = Entry(Act.PASSKEY_REMOVE, user_id, origin)
        record(database, entry, {"passkey": str(kept.id)})
        return Removed.DONE

    def _of(self, user_id: UUID) -> list[Passkey]:
        return [one for one in self.database.passkeys.values() if one.user_id == user_id]

    def _one(self, user_id: UUID, id_: UUID) -> Passkey | None:
        return next((one for one in self._of(user_id) if one.id == id_), None)
