"""How often passkeys are asked for and answered."""

from datetime import timedelta

from actors.accounts.kept.throttle import Limit

# AUTH-8: nobody's device fails more often; whoever guesses has no use for a signature.
USES_FAILED_PER_ADDRESS_MAX = 10
# Each shows a window to a person; a house of people behind one address opens no more.
BEGUN_PER_ADDRESS_MAX = 60
PASSKEY_PERIOD = timedelta(minutes=15)


def begin_limit(address: str) -> Limit:
    """Call this for how often a challenge is asked for from an address of the network; a digest.

    Each keeps a row for five minutes.
    """
    return Limit(f"passkey-begin:{address}", BEGUN_PER_ADDRESS_MAX, PASSKEY_PERIOD)


def use_limit(address: str) -> Limit:
    """Call this for how often somebody from an address may fail to sign in by a passkey.

    By address alone, so that it is so for each account from there, known or not (SEC-106).
    """
    return Limit(f"passkey:{address}", USES_FAILED_PER_ADDRESS_MAX, PASSKEY_PERIOD)
