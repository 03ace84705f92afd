"""Proofs of second factors in memory; the twin of `storage/postgres/accounts/proving.py`."""

from dataclasses import replace
from uuid import UUID

from actors.accounts.kept.factors import CodeProof, Proof, TotpProof
from storage.memory.database import FactorsRow, MemoryDatabase


def has_second(database: MemoryDatabase, user_id: UUID) -> bool:
    """Call this for whether a sign-in of an account asks for a second factor."""
    row = database.factors.get(user_id)
    return row is not None and row.has_second


def use_proof(database: MemoryDatabase, user_id: UUID, proof: Proof | None) -> bool:
    """Call this to use a proof up; without one, whether none is needed."""
    row = database.factors.get(user_id, FactorsRow())
    match proof:
        case None:
            return not row.has_second
        case TotpProof(step):
            if row.totp is None or row.totp.last_step >= step:
                return False
            row.totp = replace(row.totp, last_step=step)
            return True
        case CodeProof(digest):
            is_there = digest in row.codes
            row.codes.discard(digest)
            return is_there
