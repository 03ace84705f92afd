"""Links that sign in (AUTH-1, AUTH-2, AUTH-3): their words and rules, and the port that keeps them.

Rule 1: of a link only digests are kept. What opens it is in a mail and, until that has left, in the
        outbox; what ties it to a browser is in a cookie there.
Rule 2: nobody is looked up when a link is asked for, so an address that is somebody's is treated as
        any other (SEC-77).
Rule 3: over, used and unknown are one answer (SEC-81).

Kept by the files of the same name in `storage`; both pass `storage.testing.SignInLinksSuite`.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import Protocol
from uuid import UUID

from actors.accounts.kept.audit import Origin
from actors.accounts.kept.risk.words import Withheld
from actors.accounts.kept.throttle import Limit
from actors.accounts.members import NOWHERE, NewSignIn
from actors.accounts.ports import check_digest
from actors.persistence.errors import InvalidField
from actors.persistence.words import OutboxMessage, check_a, check_list, check_text, check_uuid

# AUTH-1: long enough for a mail that is held up at a server that greylists, and for no more.
LINK_KEPT = timedelta(minutes=10)
# Of somebody who has the link and not the browser that asked for it.
WRONG_CODES_MAX = 5
# Read off one screen and typed into another: ten million times less than anybody can try.
CODE_DIGITS = 8
# AUTH-3. More mails than that nobody waits for; a house of people behind one address asks so often.
LINKS_PER_MAILBOX_MAX = 5
LINKS_PER_ADDRESS_MAX = 20
LINK_PERIOD = timedelta(hours=1)
REDEMPTIONS_PER_ADDRESS_MAX = 10
REDEMPTION_PERIOD = timedelta(minutes=15)
# Names that are tried for who comes by a link for the first time.
NAMES_TRIED = 8
NAMES_GIVEN_MAX = 32


@dataclass(frozen=True, slots=True)
class NewLink:
    """A link to be kept: the digests of its token, of its mailbox, of its flow and of its code.

    Without a `flow` it opens in any browser.
    """

    digest: bytes = field(repr=False)
    mailbox: bytes = field(repr=False)
    email: str = field(repr=False)
    flow: bytes | None = field(default=None, repr=False)
    code: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_digest(self.digest)
        check_digest(self.mailbox)
        if not check_text("email", self.email, 1024):
            raise InvalidField("email", "is empty")
        for digest in (self.flow, self.code):
            if digest is not None:
                check_digest(digest)


@dataclass(frozen=True, slots=True)
class LinkClaim:
    """What somebody brings who opens a link: digests, of its token, their flow and their code."""

    digest: bytes = field(repr=False)
    flow: bytes | None = field(default=None, repr=False)
    code: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_digest(self.digest)
        for digest in (self.flow, self.code):
            if digest is not None:
                check_digest(digest)


@dataclass(frozen=True, slots=True)
class Newcomer:
    """Who is made a member where the address is nobody's; the first of the names that is free."""

    user_id: UUID
    usernames: Sequence[str]

    def __post_init__(self) -> None:
        check_uuid("user_id", self.user_id)
        names = check_list("usernames", self.usernames)
        if not 1 <= len(names) <= NAMES_GIVEN_MAX:
            raise InvalidField("usernames", f"are {len(names)}; give 1 to {NAMES_GIVEN_MAX}")
        for name in names:
            if not check_text("usernames", name, 1024):
                raise InvalidField("usernames", "has an empty one")


@dataclass(frozen=True, slots=True)
class Entered:
    """A link was opened: who is signed in now, and how many other sign-ins of theirs ended.

    With `needs_second` nobody is: the account has a second factor, and only the first is proven.
    With `withheld` neither: its risk asks for more.
    """

    user_id: UUID
    username: str
    email: str = field(repr=False)
    is_new: bool
    ended: int
    needs_second: bool = False
    # What a provider calls the session it was by; "" for none.
    session: str = field(default="", repr=False)
    withheld: Withheld | None = None


def entered(
    user_id: UUID, username: str, email: str, ended: int | Withheld, *, is_new: bool = False
) -> Entered:
    """Call this with what became of a sign-in for who came in by it, or did not."""
    if isinstance(ended, Withheld):
        return Entered(user_id, username, email, is_new, 0, withheld=ended)
    return Entered(user_id, username, email, is_new, ended)


class SignInLinks(Protocol):
    """Links that sign in. Raises `StoreUnavailable` and its kin, `InvalidField` before any I/O."""

    async def issue(self, link: NewLink, outbox: Sequence[OutboxMessage]) -> None:
        """Call this to keep a link and to queue its mail, in one transaction.

        Older ones of the mailbox are void from then on. Some that are over are removed with it, so
        what is kept is bounded by how often this is called. Cancelled, all is there or nothing.
        """
        ...

    async def redeem(
        self,
        claim: LinkClaim,
        newcomer: Newcomer,
        sign_in: NewSignIn,
        origin: Origin = NOWHERE,
    ) -> Entered | None:
        """Call this to use a link up and sign in, in one transaction; None for no good one.

        Of any number of calls at once, in any processes, one gets it. It needs the flow it was
        asked for in, or its code, where it has one; the fifth wrong code voids it. Who has no
        account with the address is given one, without a password.
        """
        ...


# -- rules, pure ----------------------------------------------------------------------------------


def send_limit(address: str) -> Limit:
    """Call this for how often links are asked for from an address of the network; a digest."""
    return Limit(f"link:{address}", LINKS_PER_ADDRESS_MAX, LINK_PERIOD)


def mailbox_limit(mailbox: bytes) -> Limit:
    """Call this for how often links go to a mailbox."""
    return Limit(f"link-to:{mailbox.hex()}", LINKS_PER_MAILBOX_MAX, LINK_PERIOD)


def redeem_limit(address: str) -> Limit:
    """Call this for how often links are tried from an address of the network; a digest."""
    return Limit(f"link-open:{address}", REDEMPTIONS_PER_ADDRESS_MAX, REDEMPTION_PERIOD)


def mailbox_of(email: str) -> bytes:
    """Call this for what stands for an address in ids and limits."""
    return sha256(b"mailbox:" + email.encode()).digest()


def digest_of(secret: str) -> bytes:
    """Call this for what the store knows a token, or the nonce of a flow, by."""
    return sha256(secret.encode()).digest()


def code_of(flow: str) -> str:
    """Call this with the nonce of a flow for the code that is shown in its browser."""
    number = int.from_bytes(sha256(b"code:" + flow.encode()).digest()[:16])
    return str(number % 10**CODE_DIGITS).zfill(CODE_DIGITS)


def code_digest(token: str, code: str) -> bytes:
    """Call this for what the store knows a code by: without the token of its link it is nothing.

    A code alone is short enough to be found by trying.
    """
    return sha256(f"{token}:{code}".encode()).digest()


def parse_code(text: str) -> str | None:
    """Call this with a code as it was typed, with blanks and dashes; None for none."""
    digits = re.sub(r"[\s-]", "", unicodedata.normalize("NFKC", text))
    is_one = len(digits) == CODE_DIGITS and digits.isascii() and digits.isdigit()
    return digits if is_one else None


def newcomer_names(number: Callable[[int], int]) -> tuple[str, ...]:
    """Call this for names of a newcomer; `number` draws one below what it is given.

    None of them says anything of their address: names are seen by all.
    """
    return tuple(f"member-{number(10**8):08}" for _ in range(NAMES_TRIED))


def check_link(link: object) -> None:
    """Call this with a link to be kept; raises `InvalidField`."""
    check_a("link", link, NewLink)


def check_redeem(claim: object, newcomer: object, sign_in: object) -> None:
    """Call this with what `redeem` takes; raises `InvalidField`."""
    check_a("claim", claim, LinkClaim)
    check_a("newcomer", newcomer, Newcomer)
    check_a("sign_in", sign_in, NewSignIn)
