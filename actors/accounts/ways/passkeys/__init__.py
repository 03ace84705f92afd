"""Passkeys (AUTH-7, AUTH-8): a key that a device keeps and the site knows.

Read `words.py` (what is kept, and what a browser answers), `checks.py` (what of an answer is judged
here, pure), `port.py` (what the store keeps, and what judges signatures); `flow.py` is the actor of
one challenge.
"""

from actors.accounts.ways.passkeys.checks import (
    BadAnswer,
    Party,
    challenge_digest,
    challenge_of,
    check_made,
    check_use,
    counter_fell,
    fake_ids,
    level_of,
)
from actors.accounts.ways.passkeys.flow import (
    AddPasskey,
    BeginPasskey,
    EnterByPasskey,
    PasskeyEnvironment,
    PasskeyFlow,
    ProvePasskey,
    Unanswered,
)
from actors.accounts.ways.passkeys.port import Passkeys, Verifier
from actors.accounts.ways.passkeys.words import (
    CHALLENGE_BYTES,
    CHALLENGE_KEPT,
    PASSKEY_NAME_MAX,
    PASSKEYS_PER_USER_MAX,
    Added,
    Ceremony,
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

__all__ = [
    "CHALLENGE_BYTES",
    "CHALLENGE_KEPT",
    "PASSKEYS_PER_USER_MAX",
    "PASSKEY_NAME_MAX",
    "AddPasskey",
    "Added",
    "BadAnswer",
    "BeginPasskey",
    "Ceremony",
    "ChallengeClaim",
    "EnterByPasskey",
    "MadeAnswer",
    "MadeKey",
    "NewChallenge",
    "NewPasskey",
    "Party",
    "Passkey",
    "PasskeyEnvironment",
    "PasskeyFlow",
    "Passkeys",
    "ProvePasskey",
    "Removal",
    "Removed",
    "Taken",
    "Unanswered",
    "UseAnswer",
    "Verifier",
    "challenge_digest",
    "challenge_of",
    "check_made",
    "check_use",
    "counter_fell",
    "fake_ids",
    "level_of",
]
