"""API tokens of accounts, as a port (SEC-87); `kept/tokens.py` has the nouns.

Kept by `storage/postgres/accounts/kept/tokens.py` and its twin in `storage/memory`; both pass
`storage.testing.TokensSuite`. Raises `StoreUnavailable` and its kin, `InvalidField` before any I/O.
Cancelled, a change is wholly there or wholly absent.

Rule 1: what ends all sign-ins of an account for its safety ends its tokens in the same transaction:
        its deletion, an operator's word, a role that is taken away, a new password that ends the
        others, a change that somebody disavowed (SEC-16).
Rule 2: a token that ends ends its session, and every process closes what that has open.
"""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from actors.accounts.kept.audit import Origin
from actors.accounts.kept.tokens import ApiToken, NewToken, NotAdded
from actors.accounts.members import Member
from actors.persistence.errors import InvalidField
from actors.persistence.words import check_a, check_uuid

BY_OWNER, BY_OPERATOR = "owner", "operator"


class ApiTokens(Protocol):
    """Tokens of accounts. Of another's, and of one that is unknown, all is answered alike."""

    async def add(self, new: NewToken, origin: Origin) -> ApiToken | NotAdded:
        """Call this to make a token for 90 days; of an account there are at most 20."""
        ...

    async def of_user(self, user_id: UUID) -> Sequence[ApiToken]:
        """Call this for somebody's tokens that are good, the newest first."""
        ...

    async def revoke(
        self, user_id: UUID, id_: UUID, origin: Origin, *, because: str = BY_OWNER
    ) -> bool:
        """Call this to end a token, and what it has open; False for none of theirs.

        `because` is who wants it, `BY_OWNER` or `BY_OPERATOR`; it stands in the act.
        """
        ...

    async def who(self, digest: bytes) -> Member | None:
        """Call this at each request for whose a token is, with its scopes; None for no good one.

        The member's `reference` is the token's id; they have no role, and no proof of an age that
        counts. Notes that the token is used, at most once a minute.
        """
        ...


def check_revoke(user_id: object, id_: object, origin: object, because: object) -> None:
    """Call this with what `revoke` takes; raises `InvalidField`."""
    check_uuid("user_id", user_id)
    check_uuid("id_", id_)
    check_a("origin", origin, Origin)
    if because not in (BY_OWNER, BY_OPERATOR):
        raise InvalidField("because", f"is {BY_OWNER} or {BY_OPERATOR}")
