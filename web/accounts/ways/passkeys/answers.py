"""What browsers are asked, and what they answer, as JSON: the shapes of WebAuthn Level 3, 5.1."""

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, TypeVar

import msgspec

from actors.accounts import Member
from actors.accounts.kept.factors.port import CREDENTIAL_ID_BYTES_MAX
from actors.accounts.ways.passkeys import (
    CHALLENGE_KEPT,
    BadAnswer,
    MadeAnswer,
    Party,
    UseAnswer,
)
from actors.accounts.ways.passkeys.checks import handle_of
from actors.accounts.ways.passkeys.words import ANSWER_BYTES_MAX
from actors.persistence.errors import InvalidField
from web.accounts.ways.passkeys.verifying import ALGORITHMS

# What devices show as the site that asks.
SITE_NAME = "greenroom"
# Of the text of an answer: three parts of bytes as base64url, and what browsers add.
CREDENTIAL_CHARS_MAX = 4 * ANSWER_BYTES_MAX
_TIMEOUT_MS = round(CHALLENGE_KEPT.total_seconds() * 1000)

Part = Annotated[str, msgspec.Meta(max_length=2 * ANSWER_BYTES_MAX)]
Id = Annotated[str, msgspec.Meta(max_length=2 * CREDENTIAL_ID_BYTES_MAX)]


class MadeResponse(msgspec.Struct, frozen=True):
    """What a device says that made a key."""

    clientDataJSON: Part  # noqa: N815 - as the standard writes it
    attestationObject: Part  # noqa: N815


class MadeCredential(msgspec.Struct, frozen=True):
    """A key that was made, as a browser's `toJSON` writes it."""

    id: Id
    type: str
    response: MadeResponse

    def answer(self) -> MadeAnswer:
        """Call this for its bytes; raises `BadAnswer`."""
        _check_kind(self.type)
        said = self.response
        try:
            return MadeAnswer(
                unb64(self.id), unb64(said.clientDataJSON), unb64(said.attestationObject)
            )
        except InvalidField as error:
            raise BadAnswer(error.field) from None


class UseResponse(msgspec.Struct, frozen=True):
    """What a device says that signed."""

    clientDataJSON: Part  # noqa: N815
    authenticatorData: Part  # noqa: N815
    signature: Part
    userHandle: Id | None = None  # noqa: N815


class UseCredential(msgspec.Struct, frozen=True):
    """A challenge that was signed, as a browser's `toJSON` writes it."""

    id: Id
    type: str
    response: UseResponse

    def answer(self) -> UseAnswer:
        """Call this for its bytes; raises `BadAnswer`."""
        _check_kind(self.type)
        said = self.response
        try:
            return UseAnswer(
                unb64(self.id),
                unb64(said.clientDataJSON),
                unb64(said.authenticatorData),
                unb64(said.signature),
                None if not said.userHandle else unb64(said.userHandle),
            )
        except InvalidField as error:
            raise BadAnswer(error.field) from None


K = TypeVar("K", MadeCredential, UseCredential)


def read_credential(kind: type[K], text: str) -> K:
    """Call this with what a form's field holds; raises `BadAnswer` for what is none."""
    if len(text) > CREDENTIAL_CHARS_MAX:
        raise BadAnswer("too_long")
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise BadAnswer("json") from None


def b64(data: bytes) -> str:
    """Call this to write bytes as browsers do: base64url without padding."""
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def unb64(text: str) -> bytes:
    """Call this for the bytes of base64url; raises `BadAnswer`."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise BadAnswer("base64") from None


def _check_kind(kind: str) -> None:
    if kind != "public-key":
        raise BadAnswer("kind")


def creation_options(
    party: Party,
    member: Member,
    challenge: bytes,
    known: Sequence[bytes],
    *,
    wants_attestation: bool,
) -> dict[str, object]:
    """Call this for what a browser is asked to have made; `known` are keys there are already."""
    return {
        "rp": {"id": party.rp_id, "name": SITE_NAME},
        "user": {
            "id": b64(handle_of(member.user_id)),
            "name": member.email,
            "displayName": member.username,
        },
        "challenge": b64(challenge),
        "pubKeyCredParams": [{"type": "public-key", "alg": one} for one in ALGORITHMS],
        "timeout": _TIMEOUT_MS,
        "excludeCredentials": _described(known),
        # One that finds its account alone signs in without an address; a verified user is a must.
        "authenticatorSelection": {
            "residentKey": "preferred",
            "requireResidentKey": False,
            "userVerification": "required",
        },
        "attestation": "direct" if wants_attestation else "none",
    }


def request_options(
    party: Party, challenge: bytes, allowed: Sequence[bytes], *, needs_verified: bool
) -> dict[str, object]:
    """Call this for what a browser is asked to have signed, by one of the keys `allowed` or any."""
    return {
        "challenge": b64(challenge),
        "rpId": party.rp_id,
        "timeout": _TIMEOUT_MS,
        "allowCredentials": _described(allowed),
        "userVerification": "required" if needs_verified else "preferred",
    }


def _described(ids: Sequence[bytes]) -> list[dict[str, str]]:
    return [{"type": "public-key", "id": b64(one)} for one in ids]
