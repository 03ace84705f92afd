"""Whether an account can still be entered when one of its ways is gone (SEC-107).

One rule for a passkey that is removed and a provider that is unlinked. It is judged in the act's
transaction, with the row of the credentials locked: of two that race the second sees the first.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from actors.persistence.words import check_a, check_list, check_text


@dataclass(frozen=True, slots=True)
class OfferedWays:
    """Which ways beside a password this program has just now; a password can always be used.

    `providers` are those that are set. What is linked but offered no more opens nothing.
    """

    has_link: bool = False
    has_passkeys: bool = False
    providers: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_a("has_link", self.has_link, bool)
        check_a("has_passkeys", self.has_passkeys, bool)
        for name in check_list("providers", self.providers):
            check_text("providers", name)


NOTHING_OFFERED = OfferedWays()


@dataclass(frozen=True, slots=True)
class KeptWays:
    """What an account has to sign in by."""

    has_password: bool
    passkeys_count: int
    providers: Collection[str]


def is_way_left(left: KeptWays, offered: OfferedWays) -> bool:
    """Call this with what an account will have, for whether it can be entered by it."""
    return (
        left.has_password
        or offered.has_link
        or (offered.has_passkeys and left.passkeys_count > 0)
        or not set(offered.providers).isdisjoint(left.providers)
    )
