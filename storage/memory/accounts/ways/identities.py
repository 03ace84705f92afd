"""Identities at providers, in memory; the twin of the other engine's."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from actors.accounts.kept.audit import Act, Entry, Origin
from actors.accounts.members import NO_PASSWORD, NOWHERE, AtProvider, NewAccount, NewSignIn
from actors.accounts.ways.left import is_way_left
from actors.accounts.ways.links import Entered, Newcomer, entered
from actors.accounts.ways.provider.identities import (
    ENDED_SESSION_KEPT,
    REFRESH_KEPT,
    RENEW_AGAIN,
    RENEW_AGAIN_MAX,
    RENEW_BEFORE,
    RENEW_EVERY,
    USED_STATE_KEPT,
    AddressTaken,
    LinkedIdentity,
    Linking,
    NewIdentity,
    Renewal,
    SessionOver,
    Unlinking,
    check_claim,
    check_enter,
    check_state,
    said_digest,
    session_digest,
)
from actors.accounts.ways.provider.words import (
    Identity,
    ProviderTokens,
    SaidLogout,
    Shown,
    check_provider_name,
)
from actors.persistence.words import check_a, check_uuid
from storage.memory.accounts.audit import record
from storage.memory.accounts.members import MemoryAccounts
from storage.memory.accounts.proving import is_open_there, kept_ways, use_proof
from storage.memory.database import IdentityRow, SignInRow
from storage.memory.twin import Twin


class MemoryIdentities(Twin):
    """The port `Identities` on a `MemoryDatabase`."""

    async def use_state(self, digest: bytes) -> bool:
        """See `Identities.use_state`."""
        check_state(digest)
        await self.pass_faults()
        used, now = self.database.used_states, self.database.now()
        is_used = digest in used
        for over in [one for one, until in used.items() if until <= now and one != digest]:
            del used[over]
        used.setdefault(digest, now + USED_STATE_KEPT)
        return not is_used

    async def enter(
        self,
        provider: str,
        shown: Shown,
        newcomer: Newcomer,
        sign_in: NewSignIn,
        origin: Origin = NOWHERE,
    ) -> Entered | AddressTaken | SessionOver | None:
        """See `Identities.enter`."""
        check_a("origin", origin, Origin)
        check_enter(provider, shown, newcomer, sign_in)
        await self.pass_faults()
        database, accounts = self.database, MemoryAccounts(self.database)
        row = database.identities.get(shown.identity)
        is_new = row is None
        if row is None:
            if accounts.is_taken(shown.email):
                return AddressTaken()
            taken = {user.username for user in database.users.values()}
            free = [name for name in newcomer.usernames if name not in taken]
            if not free:
                return None
            user_id = newcomer.user_id
            accounts.make_account(NewAccount(user_id, free[0], shown.email, NO_PASSWORD))
            database.users[user_id].email_verified_at = database.now()
            for act in (Act.REGISTER, Act.VERIFY_EMAIL):
                record(database, Entry(act, user_id, origin))
            row = self._add(user_id, provider, shown, origin)
        user_id, user = row.user_id, database.users[row.user_id]
        if user.doubted_since is not None:
            return AddressTaken(user.email)
        row.used_at = database.now()
        self._keep(row, shown.tokens)
        if not is_open_there(database, user_id, sign_in.at_provider):
            return SessionOver()
        if not use_proof(database, user_id, sign_in.proof, origin):
            return Entered(user_id, user.username, user.email, is_new, 0, needs_second=True)
        ended = accounts.admit(user_id, sign_in, origin)
        return entered(user_id, user.username, user.email, ended, is_new=is_new)

    async def link(self, new: NewIdentity, origin: Origin) -> Linking:
        """See `Identities.link`."""
        check_a("new", new, NewIdentity)
        check_a("origin", origin, Origin)
        await self.pass_faults()
        database, user_id = self.database, new.user_id
        if not MemoryAccounts(database).is_alive(user_id, new.reference):
            return Linking.OVER
        row = database.identities.get(new.shown.identity)
        if row is not None:
            if row.user_id != user_id:
                return Linking.NOT_THEIRS
            row.used_at = database.now()
            self._keep(row, new.shown.tokens)
            return Linking.DONE
        if new.provider in {one.provider for one in self._of(user_id).values()}:
            return Linking.TWICE
        database.add_messages(new.outbox)
        self._add(user_id, new.provider, new.shown, origin)
        return Linking.DONE

    async def unlink(self, unlinking: Unlinking, origin: Origin) -> Linking:
        """See `Identities.unlink`."""
        check_a("unlinking", unlinking, Unlinking)
        check_a("origin", origin, Origin)
        await self.pass_faults()
        database, user_id = self.database, unlinking.user_id
        linked = {row.provider: identity for identity, row in self._of(user_id).items()}
        if unlinking.provider not in linked:
            return Linking.NOT_THEIRS
        left = replace(kept_ways(database, user_id), providers=linked.keys() - {unlinking.provider})
        if not is_way_left(left, unlinking.offered):
            return Linking.LAST_WAY
        if not MemoryAccounts(database).is_alive(user_id, unlinking.reference):
            return Linking.OVER
        del database.identities[linked[unlinking.provider]]
        database.add_messages(unlinking.outbox)
        entry = Entry(Act.PROVIDER_UNLINK, user_id, origin)
        record(database, entry, {"provider": unlinking.provider})
        return Linking.DONE

    async def of_user(self, user_id: UUID) -> Sequence[LinkedIdentity]:
        """See `Identities.of_user`."""
        check_uuid("user_id", user_id)
        await self.pass_faults()
        found = [
            LinkedIdentity(identity, row.provider, row.linked_at, row.used_at, row.tokens is None)
            for identity, row in self._of(user_id).items()
        ]
        return sorted(found, key=lambda one: (one.linked_at, one.provider))

    async def tokens(self, user_id: UUID, provider: str) -> ProviderTokens | None:
        """See `Identities.tokens`."""
        row = await self._row(user_id, provider)
        if row is None or row.tokens is None:
            return None
        since = row.tokens.refresh_since
        if since is not None and self.database.now() - since >= REFRESH_KEPT:
            return replace(row.tokens, refresh=None, refresh_since=None)
        return row.tokens

    async def renew_tokens(
        self, user_id: UUID, provider: str, former: ProviderTokens, renewed: ProviderTokens
    ) -> bool:
        """See `Identities.renew_tokens`."""
        check_a("former", former, ProviderTokens)
        check_a("renewed", renewed, ProviderTokens)
        row = await self._row(user_id, provider)
        if row is None or row.tokens is None:
            return False
        if row.tokens.access.reveal() != former.access.reveal():
            return False
        self._keep(row, renewed)
        return True

    async def claim_renewals(self, providers: Sequence[str], limit: int) -> Sequence[Renewal]:
        """See `Identities.claim_renewals`."""
        given = check_claim(providers, limit)
        await self.pass_faults()
        now, rows = self.database.now(), self.database.identities.values()
        due = [
            (row.renew_at, row)
            for row in rows
            if row.renew_at is not None and row.renew_at <= now and row.provider in given
        ]
        claimed = [row for _, row in sorted(due, key=lambda one: one[0])[:limit]]
        for row in claimed:
            again = RENEW_AGAIN * 2 ** min(row.renewals_begun, 20)
            row.renew_at = now + min(again, RENEW_AGAIN_MAX)
            row.renewals_begun += 1
        return [Renewal(row.user_id, row.provider) for row in claimed]

    async def drop_tokens(
        self, user_id: UUID, provider: str, former: ProviderTokens, origin: Origin
    ) -> bool:
        """See `Identities.drop_tokens`."""
        check_a("former", former, ProviderTokens)
        check_a("origin", origin, Origin)
        row = await self._row(user_id, provider)
        if row is None or row.tokens is None:
            return False
        if row.tokens.access.reveal() != former.access.reveal():
            return False
        row.tokens, row.renew_at, row.renewals_begun = None, None, 0
        entry = Entry(Act.PROVIDER_TOKENS, user_id, origin)
        record(self.database, entry, {"provider": provider, "because": "refused"})
        return True

    async def provider_of(self, reference: UUID) -> AtProvider | None:
        """See `Identities.provider_of`."""
        check_uuid("reference", reference)
        await self.pass_faults()
        for row in self.database.sign_ins.values():
            if row.reference == reference and row.at_provider is not None:
                return row.at_provider[0]
        return None

    async def log_out(self, said: SaidLogout, origin: Origin) -> int | None:
        """See `Identities.log_out`."""
        check_a("said", said, SaidLogout)
        check_a("origin", origin, Origin)
        await self.pass_faults()
        database, now = self.database, self.database.now()
        digest = said_digest(said)
        if digest in database.used_states:
            return None
        database.used_states[digest] = said.until
        if said.session is not None:
            over = session_digest(said.issuer, said.session)
            database.used_states.setdefault(over, now + ENDED_SESSION_KEPT)

        def is_meant(row: SignInRow) -> bool:
            if row.at_provider is None:
                return False
            at, identity = row.at_provider
            return (
                identity.issuer == said.issuer
                and said.session in (None, at.session)
                and said.subject in (None, identity.subject)
            )

        counts = Counter(row.user_id for row in database.sign_ins.values() if is_meant(row))
        MemoryAccounts(database).end_where(is_meant)
        for user_id, count in counts.items():
            facts = {"because": "provider", "count": str(count)}
            record(database, Entry(Act.END_SIGN_IN, user_id, origin), facts)
        return sum(counts.values())

    def _keep(self, row: IdentityRow, tokens: ProviderTokens) -> None:
        row.tokens, row.renewals_begun, row.renew_at = tokens, 0, None
        now, until = self.database.now(), tokens.access_until
        if tokens.refresh is not None and until is not None:
            row.renew_at = max(now + RENEW_EVERY, until - min(RENEW_BEFORE, (until - now) / 2))

    async def _row(self, user_id: UUID, provider: str) -> IdentityRow | None:
        check_uuid("user_id", user_id)
        check_provider_name(provider)
        await self.pass_faults()
        rows = self._of(user_id).values()
        return next((row for row in rows if row.provider == provider), None)

    def _of(self, user_id: UUID) -> dict[Identity, IdentityRow]:
        rows = self.database.identities.items()
        return {identity: row for identity, row in rows if row.user_id == user_id}

    def _add(self, user_id: UUID, provider: str, shown: Shown, origin: Origin) -> IdentityRow:
        database = self.database
        row = IdentityRow(user_id, provider, shown.tokens, database.now())
        self._keep(row, shown.tokens)
        database.identities[shown.identity] = row
        entry = Entry(Act.PROVIDER_LINK, user_id, origin)
        record(database, entry, {"provider": provider})
        return row
