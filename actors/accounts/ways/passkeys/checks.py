"""What of a browser's answer is judged here, whatever a library says of it (SEC-101, SEC-102).

Pure: no clock, no store, no cryptography. A signature is judged by a `Verifier`; all that stands in
what was signed is judged by the functions below, once more where the library looks at it too.

Rule: each refusal is a `BadAnswer`; its word is for the log, and all are answered alike.
"""

import base64
import binascii
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

import msgspec

from actors.accounts.members import Level
from actors.accounts.ways.passkeys.words import CHALLENGE_BYTES, Passkey, UseAnswer

# WebAuthn Level 3, 6.1: a hash, a byte of flags, a counter; then what the flags say.
_HEAD_BYTES = 37
_PRESENT, _VERIFIED, _ELIGIBLE, _BACKED_UP, _HAS_KEY = 0x01, 0x04, 0x08, 0x10, 0x40
# Lengths of ids that devices make; what is made up has one of them.
_FAKE_LENGTHS = (16, 20, 32, 32, 64)


class BadAnswer(Exception):
    """Raised for an answer that is refused; nothing was changed but that its challenge is used.

    `reason` is a word for the log; whoever answered is told nothing of it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Party:
    """Who asks for passkeys: the domain they are of, and the origins whose pages may ask."""

    rp_id: str
    origins: frozenset[str]


@dataclass(frozen=True, slots=True)
class Flags:
    """What an authenticator says of one ceremony."""

    is_verified: bool
    is_backup_eligible: bool
    is_backed_up: bool
    sign_count: int


class _ClientData(msgspec.Struct):
    type: str
    challenge: str
    origin: str
    crossOrigin: bool = False  # noqa: N815 - as the standard writes it
    topOrigin: object = msgspec.UNSET  # noqa: N815


def challenge_of(client_data: bytes) -> bytes:
    """Call this for the challenge that an answer is to; raises `BadAnswer` for none of ours."""
    return _bytes_of(_read(client_data).challenge)


def challenge_digest(challenge: bytes) -> bytes:
    """Call this for what the store knows a challenge by."""
    return sha256(b"greenroom passkey challenge" + challenge).digest()


def check_made(client_data: bytes, authenticator_data: bytes, party: Party) -> Flags:
    """Call this with what a device says of a key it made; raises `BadAnswer`.

    A device that cannot make sure of its user is not taken: its key could prove too little.
    """
    _check_client(client_data, "webauthn.create", party)
    flags, byte = _flags(authenticator_data, party)
    if not byte & _HAS_KEY:
        raise BadAnswer("no_key")
    if not flags.is_verified:
        raise BadAnswer("unverified")
    return flags


def check_use(
    answer: UseAnswer, passkey: Passkey, party: Party, *, needs_verified: bool, needs_handle: bool
) -> Flags:
    """Call this with an answer by a passkey that is kept; raises `BadAnswer`.

    `needs_verified`: nothing below two factors will do (SEC-102). `needs_handle`: nobody said whose
    it is, so the device must (SEC-104).
    """
    _check_client(answer.client_data, "webauthn.get", party)
    flags, _ = _flags(answer.authenticator_data, party)
    if needs_verified and not flags.is_verified:
        raise BadAnswer("unverified")
    if flags.is_backup_eligible != passkey.is_backup_eligible:
        raise BadAnswer("backup_changed")
    if answer.credential_id != passkey.credential_id:
        raise BadAnswer("another_key")
    if answer.user_handle is None:
        if needs_handle:
            raise BadAnswer("no_handle")
    elif answer.user_handle != handle_of(passkey.user_id):
        raise BadAnswer("another_user")
    return flags


def counter_fell(kept: int, told: int) -> bool:
    """Call this for whether a counter is one from before (SEC-103).

    Passkeys that are synced do not count: they tell 0 each time, which passes after 0 only.
    """
    return told <= kept and (kept, told) != (0, 0)


def level_of(flags: Flags, passkey: Passkey) -> Level:
    """Call this for what a use proves (AUTH-22)."""
    if not flags.is_verified:
        return Level.BASIC
    is_hardware = passkey.is_attested and not flags.is_backup_eligible
    return Level.HARDWARE_BACKED if is_hardware else Level.MULTI_FACTOR


def handle_of(user_id: UUID) -> bytes:
    """Call this for what a device knows an account by; it tells nobody who it is."""
    return user_id.bytes


def fake_ids(email: str, digest: Callable[[bytes], bytes]) -> tuple[bytes, ...]:
    """Call this for ids that an address without passkeys is answered with (SEC-106).

    `digest` is a keyed one of 32 bytes or more: an address has the same ids each time.
    """
    seed = digest(b"passkeys of " + email.encode("utf-8", "surrogatepass"))
    count = 1 + (seed[0] < 64)
    return tuple(
        b"".join(digest(b"%d %d" % (number, part) + seed) for part in range(2))[: _length(seed)]
        for number in range(count)
    )


def _length(seed: bytes) -> int:
    return _FAKE_LENGTHS[seed[1] % len(_FAKE_LENGTHS)]


def _read(client_data: bytes) -> _ClientData:
    try:
        return msgspec.json.decode(client_data, type=_ClientData)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadAnswer("client_data") from None


def _bytes_of(challenge: str) -> bytes:
    try:
        found = base64.b64decode(challenge + "=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise BadAnswer("challenge") from None
    # The one way to write it: what decodes to the same is not the same.
    written = base64.urlsafe_b64encode(found).decode("ascii").rstrip("=")
    if len(found) != CHALLENGE_BYTES or written != challenge:
        raise BadAnswer("challenge")
    return found


def _check_client(client_data: bytes, kind: str, party: Party) -> None:
    said = _read(client_data)
    if said.type != kind:
        raise BadAnswer("type")
    if said.origin not in party.origins:
        raise BadAnswer("origin")
    # In a frame of another site a person does not see where they sign in.
    if said.crossOrigin:
        raise BadAnswer("cross_origin")
    if said.topOrigin is not msgspec.UNSET:
        raise BadAnswer("top_origin")


def _flags(data: bytes, party: Party) -> tuple[Flags, int]:
    if len(data) < _HEAD_BYTES:
        raise BadAnswer("authenticator_data")
    if not hmac.compare_digest(data[:32], sha256(party.rp_id.encode()).digest()):
        raise BadAnswer("rp_id")
    byte = data[32]
    if not byte & _PRESENT:
        raise BadAnswer("not_present")
    is_eligible, is_backed_up = bool(byte & _ELIGIBLE), bool(byte & _BACKED_UP)
    if is_backed_up and not is_eligible:
        raise BadAnswer("backup")
    flags = Flags(
        bool(byte & _VERIFIED), is_eligible, is_backed_up, int.from_bytes(data[33:_HEAD_BYTES])
    )
    return flags, byte
