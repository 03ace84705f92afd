"""Links that sign in, in memory; the twin of the other engine's."""

from collections.abc import Sequence
from dataclasses import replace

from actors.accounts.kept.audit import Act, Entry, Origin
from actors.accounts.members import NO_PASSWORD, NOWHERE, NewAccount, NewSignIn
from actors.accounts.ways.links import (
    LINK_KEPT,
    WRONG_CODES_MAX,
    Entered,
    LinkClaim,
    Newcomer,
    NewLink,
    check_link,
    check_redeem,
    entered,
)
from actors.persistence.beside_log.outbox import check_messages
from actors.persistence.words import OutboxMessage, check_a
from storage.memory.accounts.audit import record
from storage.memory.accounts.members import MemoryAccounts
from storage.memory.accounts.proving import use_proof
from storage.memory.database import SignInLinkRow
from storage.memory.twin import Twin


class MemorySignInLinks(Twin):
    """The port `SignInLinks` on a `MemoryDatabase`."""

    async def issue(self, link: NewLink, outbox: Sequence[OutboxMessage]) -> None:
        """See `SignInLinks.issue`."""
        check_link(link)
        messages = check_messages(outbox)
        await self.pass_faults()
        links, now = self.database.sign_in_links, self.database.now()
        for mailbox in [one for one, row in links.items() if row.expires_at <= now]:
            del links[mailbox]
        links[link.mailbox] = SignInLinkRow(
            link.digest, link.email, link.flow, link.code, now + LINK_KEPT
        )
        self.database.add_messages(messages)

    async def redeem(
        self,
        claim: LinkClaim,
        newcomer: Newcomer,
        sign_in: NewSignIn,
        origin: Origin = NOWHERE,
    ) -> Entered | None:
        """See `SignInLinks.redeem`."""
        check_a("origin", origin, Origin)
        check_redeem(claim, newcomer, sign_in)
        await self.pass_faults()
        email = self._take(claim)
        if email is None:
            return None
        database, accounts = self.database, MemoryAccounts(self.database)
        user_id = next((id_ for id_, user in database.users.items() if user.email == email), None)
        is_new = user_id is None
        if user_id is None:
            if accounts.is_taken(email):
                return None
            taken = {user.username for user in database.users.values()}
            free = [name for name in newcomer.usernames if name not in taken]
            if not free:
                return None
            user_id = newcomer.user_id
            accounts.make_account(NewAccount(user_id, free[0], email, NO_PASSWORD))
            record(database, Entry(Act.REGISTER, user_id, origin))
        user = database.users[user_id]
        if user.password_hash is None:
            return None  # the demo user
        if user.email_verified_at is None:
            user.email_verified_at = database.now()
            record(database, Entry(Act.VERIFY_EMAIL, user_id, origin))
        if not use_proof(database, user_id, sign_in.proof, origin, by_mailbox=True):
            return Entered(user_id, user.username, email, is_new, 0, needs_second=True)
        ended = accounts.admit(user_id, replace(sign_in, by_mailbox=True), origin)
        return entered(user_id, user.username, email, ended, is_new=is_new)

    def _take(self, claim: LinkClaim) -> str | None:
        links, now = self.database.sign_in_links, self.database.now()
        found = (item for item in links.items() if item[1].digest == claim.digest)
        mailbox, row = next(found, (b"", None))
        if row is None or row.expires_at <= now:
            return None
        is_bound = row.flow is not None
        has_code = claim.code is not None and claim.code == row.code
        if not is_bound or claim.flow == row.flow or has_code:
            del links[mailbox]
            return row.email
        if claim.code is not None:
            row.wrong_codes += 1
            if row.wrong_codes >= WRONG_CODES_MAX:
                del links[mailbox]
        return None
