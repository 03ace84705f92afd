"""Codes that a person types: those of an app that shows one by the time, and recovery codes.

Rule 1: what is judged is the step of time a code belongs to; that no step opens twice is the
        store's to keep (`TotpProof`).
Rule 2: a code is compared in constant time, and all steps that may be meant are looked at.
"""

import base64
import hmac
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256

# RFC 6238 with what every app can: SHA-1 is safe as HMAC, and many apps ignore another word.
STEP_S = 30
DIGITS = 6
# RFC 4226 section 4 asks for 160 bits, as many as the digest has.
SECRET_BYTES = 20
# A clock half a minute off, and the time it takes to type.
STEPS_AROUND = 1

# AUTH-9. Of each 120 bits, so that a plain digest of it is enough (ASVS v5 6.5.2 asks for 112).
CODES_COUNT = 10
CODE_BYTES = 15
_GROUP = 4
_CODE_CHARS = CODE_BYTES * 8 // 5
# What a person adds while copying.
_BETWEEN = str.maketrans("", "", " -\t\u00a0")

RandomBytes = Callable[[int], bytes]


def new_totp_secret(random_bytes: RandomBytes) -> bytes:
    """Call this for the secret of a new app."""
    return random_bytes(SECRET_BYTES)


def secret_text(secret: bytes) -> str:
    """Call this for a secret as apps take it: base32 without padding."""
    return base64.b32encode(secret).decode("ascii").rstrip("=")


def in_groups(text: str) -> str:
    """Call this to write what a person copies, in groups of four."""
    return " ".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP))


def step_of(now: datetime) -> int:
    """Call this for the step of time that a moment lies in."""
    return int(now.timestamp()) // STEP_S


def code_of_step(secret: bytes, step: int) -> str:
    """Call this for the code of a step (RFC 4226, RFC 6238); ValueError for one before 1970."""
    if step < 0:
        raise ValueError("steps are counted from 1970")
    digest = hmac.digest(secret, step.to_bytes(8), "sha1")
    at = digest[-1] & 0x0F
    number = int.from_bytes(digest[at : at + 4]) & 0x7FFF_FFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def parse_totp(typed: str) -> str | None:
    """Call this for the digits of what somebody typed as a code; None when it is none."""
    code = typed.translate(_BETWEEN)
    is_one = len(code) == DIGITS and code.isascii() and code.isdigit()
    return code if is_one else None


def step_of_code(secret: bytes, code: str, now: datetime, last_step: int) -> int | None:
    """Call this for the step that a code is of, near now and later than the one used last.

    None for a wrong, an old or a used one. Of two steps with one code the later is
    meant: then the code opens neither of them again.
    """
    middle, found = step_of(now), None
    for step in range(middle - STEPS_AROUND, middle + STEPS_AROUND + 1):
        is_this = step >= 0 and hmac.compare_digest(code_of_step(secret, step), code)
        if is_this and step > last_step:
            found = step
    return found


def new_recovery_codes(random_bytes: RandomBytes) -> tuple[str, ...]:
    """Call this for a set of recovery codes, as they are shown once."""
    made = (base64.b32encode(random_bytes(CODE_BYTES)) for _ in range(CODES_COUNT))
    return tuple(in_groups(code.decode("ascii").lower()).replace(" ", "-") for code in made)


def parse_recovery_code(typed: str) -> str | None:
    """Call this for the one form of a recovery code; None when it is none."""
    code = typed.translate(_BETWEEN).lower()
    # What base32 has no sign for is read as what it looks like.
    code = code.replace("0", "o").replace("1", "l").replace("8", "b")
    is_one = len(code) == _CODE_CHARS and all(sign in _SIGNS for sign in code)
    return code if is_one else None


_SIGNS = frozenset("abcdefghijklmnopqrstuvwxyz234567")


def recovery_digest(code: str) -> bytes:
    """Call this with a code's one form for what the store knows it by."""
    return sha256(b"greenroom recovery code" + code.encode("ascii")).digest()
