"""Signatures of passkeys and the keys they are made with, judged by `webauthn` (py_webauthn).

Rule 1: the library is told what to ask for, never left to its defaults: it accepts a user that was
        not verified, and looks at no `crossOrigin` and no `topOrigin`. What stands in signed data
        is judged once more by `actors.accounts.ways.passkeys.checks`.
Rule 2: it is imported by the first who needs it, in a thread: that takes half a second.
Rule 3: whatever it raises is one refusal: its text may quote what was given.
"""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType

import trio

from actors.accounts.ways.passkeys import BadAnswer, MadeAnswer, MadeKey, Party, UseAnswer

# ECDSA with P-256, Ed25519 and RSA: what devices make, and all that is offered to them.
ALGORITHMS = (-7, -8, -257)


@cache
def _library() -> ModuleType:
    import webauthn  # noqa: PLC0415 - it takes half a second, and few visits need it

    return webauthn


_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def read_roots(path: Path | None) -> list[bytes]:
    """Call this with the file of an operator, if there is one, for the certificates in it."""
    return [] if path is None else [one + b"\n" for one in _PEM.findall(path.read_bytes())]


class WebauthnVerifier:
    """The port `Verifier`. `roots` are PEM certificates that attestations are led back to.

    Judging takes some tenths of a millisecond, on the thread that asks.
    """

    def __init__(self, roots: Sequence[bytes] = ()) -> None:
        self._roots = list(roots)
        self._is_loaded = False

    async def made(self, answer: MadeAnswer, challenge: bytes, party: Party) -> MadeKey:
        """See `Verifier.made`."""
        await self._load()
        try:
            return self._made(answer, challenge, party)
        except BadAnswer:
            raise
        except Exception as error:  # noqa: BLE001 - it raises what the parsers below it do
            raise BadAnswer(f"made:{type(error).__name__}") from None

    async def check(
        self, answer: UseAnswer, challenge: bytes, party: Party, public_key: bytes
    ) -> None:
        """See `Verifier.check`."""
        await self._load()
        from webauthn.helpers import bytes_to_base64url, structs  # noqa: PLC0415

        credential = structs.AuthenticationCredential(
            id=bytes_to_base64url(answer.credential_id),
            raw_id=answer.credential_id,
            response=structs.AuthenticatorAssertionResponse(
                client_data_json=answer.client_data,
                authenticator_data=answer.authenticator_data,
                signature=answer.signature,
                user_handle=answer.user_handle,
            ),
        )
        try:
            _library().verify_authentication_response(
                credential=credential,
                expected_challenge=challenge,
                expected_rp_id=party.rp_id,
                expected_origin=sorted(party.origins),
                credential_public_key=public_key,
                # The counter is judged by us, and by the store in the transaction of the use.
                credential_current_sign_count=0,
                # Asked for by `check_use` where it is needed.
                require_user_verification=False,
            )
        except Exception as error:  # noqa: BLE001 - as above
            raise BadAnswer(f"use:{type(error).__name__}") from None

    async def _load(self) -> None:
        if not self._is_loaded:
            await trio.to_thread.run_sync(_library)
            self._is_loaded = True

    def _made(self, answer: MadeAnswer, challenge: bytes, party: Party) -> MadeKey:
        from webauthn.helpers import (  # noqa: PLC0415
            bytes_to_base64url,
            encode_cbor,
            parse_attestation_object,
            parse_cbor,
            structs,
        )
        from webauthn.helpers.cose import COSEAlgorithmIdentifier  # noqa: PLC0415

        credential = structs.RegistrationCredential(
            id=bytes_to_base64url(answer.credential_id),
            raw_id=answer.credential_id,
            response=structs.AuthenticatorAttestationResponse(
                client_data_json=answer.client_data, attestation_object=answer.attestation
            ),
        )

        def verified(roots: dict[structs.AttestationFormat, list[bytes]]) -> MadeKey:
            found = _library().verify_registration_response(
                credential=credential,
                expected_challenge=challenge,
                expected_rp_id=party.rp_id,
                expected_origin=sorted(party.origins),
                require_user_verification=True,
                supported_pub_key_algs=[COSEAlgorithmIdentifier(one) for one in ALGORITHMS],
                pem_root_certs_bytes_by_fmt=roots,
            )
            data = parse_cbor(answer.attestation)["authData"]
            return MadeKey(found.credential_id, found.credential_public_key, data, bool(roots))

        # Browsers write it in the shortest form; the library reads over what stands behind it.
        if len(encode_cbor(parse_cbor(answer.attestation))) != len(answer.attestation):
            raise BadAnswer("made:length")
        made = verified({})
        statement = parse_attestation_object(answer.attestation)
        # These two are led back to no root but those that are given here.
        formats = (structs.AttestationFormat.PACKED, structs.AttestationFormat.FIDO_U2F)
        if not self._roots or statement.fmt not in formats or not statement.att_stmt.x5c:
            return made
        try:
            return verified(dict.fromkeys(formats, self._roots))
        except Exception:  # noqa: BLE001 - of a maker that the operator does not know
            return made
