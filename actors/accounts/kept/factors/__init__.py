"""Second factors: what a member proves besides a password (AUTH-9).

Read `codes.py` (the codes a person types: how they are made, written and judged; pure), then
`port.py`: what the store keeps of them, and the proofs that a sign-in or a step-up uses up in its
own transaction.
"""

from actors.accounts.kept.factors.codes import (
    CODES_COUNT,
    DIGITS,
    STEP_S,
    code_of_step,
    in_groups,
    new_recovery_codes,
    new_totp_secret,
    parse_recovery_code,
    parse_totp,
    recovery_digest,
    secret_text,
    step_of,
    step_of_code,
)
from actors.accounts.kept.factors.port import (
    CodeProof,
    Factors,
    HeldFactors,
    NewTotp,
    PasskeyProof,
    Proof,
    Totp,
    TotpProof,
    check_proof,
)

__all__ = [
    "CODES_COUNT",
    "DIGITS",
    "STEP_S",
    "CodeProof",
    "Factors",
    "HeldFactors",
    "NewTotp",
    "PasskeyProof",
    "Proof",
    "Totp",
    "TotpProof",
    "check_proof",
    "code_of_step",
    "in_groups",
    "new_recovery_codes",
    "new_totp_secret",
    "parse_recovery_code",
    "parse_totp",
    "recovery_digest",
    "secret_text",
    "step_of",
    "step_of_code",
]
