"""An authenticator in software, and the browser around it: every byte it answers can be changed."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PRESENT, VERIFIED, ELIGIBLE, BACKED_UP, HAS_KEY = 0x01, 0x04, 0x08, 0x10, 0x40


def b64(data: bytes) -> str:
    """Write bytes as browsers do."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def unb64(text: str) -> bytes:
    """Read bytes as browsers write them."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass(frozen=True)
class Ways:
    """How an answer is made; what is wrong with it is set here."""

    flags: int = PRESENT | VERIFIED
    # Over what the client says, before it is signed; a value of None takes a field away.
    client: Mapping[str, object] = field(default_factory=dict)
    rp_id: str | None = None
    sign_count: int | None = None
    user_handle: bytes | None = b"own"
    attestation: str = "none"
    # Each changes one part behind the signature.
    change: Mapping[str, Callable[[bytes], bytes]] = field(default_factory=dict)


RIGHT = Ways()


@dataclass
class Key:
    """A key of the authenticator."""

    private: ec.EllipticCurvePrivateKey
    credential_id: bytes
    user_handle: bytes
    sign_count: int = 0


class Authenticator:
    """Makes keys of P-256 and signs by them. `counts` by one each time, or never (a synced one)."""

    def __init__(self, rp_id: str, origin: str, *, counts: bool = True) -> None:
        self.rp_id, self.origin, self.counts = rp_id, origin, counts
        self.keys: list[Key] = []
        self.root: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None

    def make(self, challenge: bytes, user_handle: bytes, ways: Ways = RIGHT) -> dict[str, object]:
        """Make a key; gives what the page would post."""
        key = Key(ec.generate_private_key(ec.SECP256R1()), os.urandom(32), user_handle)
        self.keys.append(key)
        client = self._client("webauthn.create", challenge, ways)
        numbers = key.private.public_key().public_numbers()
        cose = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32), -3: numbers.y.to_bytes(32)}
        attested = bytes(16) + len(key.credential_id).to_bytes(2) + key.credential_id
        data = self._head(key, replace(ways, flags=ways.flags | HAS_KEY)) + attested
        data += cbor2.dumps(cose)
        statement: dict[str, object] = {}
        if ways.attestation != "none":
            statement = self._statement(key, data + sha256(client).digest(), ways)
        whole = cbor2.dumps({"fmt": _format(ways), "attStmt": statement, "authData": data})
        response = {"clientDataJSON": client, "attestationObject": whole}
        return self._answer(key, response, ways)

    def use(
        self, challenge: bytes, key: Key | None = None, ways: Ways = RIGHT
    ) -> dict[str, object]:
        """Sign a challenge; gives what the page would post."""
        key = key or self.keys[-1]
        if self.counts:
            key.sign_count += 1
        client = self._client("webauthn.get", challenge, ways)
        data = self._head(key, ways)
        signature = key.private.sign(data + sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
        response = {"clientDataJSON": client, "authenticatorData": data, "signature": signature}
        if ways.user_handle is not None:
            handle = key.user_handle if ways.user_handle == b"own" else ways.user_handle
            response["userHandle"] = handle
        return self._answer(key, response, ways)

    def certify(self) -> bytes:
        """Make a maker's root, by which keys are attested from then on; gives it as PEM."""
        private = ec.generate_private_key(ec.SECP256R1())
        root = _certificate("root", private, "root", private, is_ca=True)
        self.root = root, private
        return root.public_bytes(serialization.Encoding.PEM)

    def _client(self, kind: str, challenge: bytes, ways: Ways) -> bytes:
        said: dict[str, object] = {
            "type": kind,
            "challenge": b64(challenge),
            "origin": self.origin,
            "crossOrigin": False,
        }
        said |= ways.client
        return json.dumps({name: one for name, one in said.items() if one is not None}).encode()

    def _head(self, key: Key, ways: Ways) -> bytes:
        rp_id = self.rp_id if ways.rp_id is None else ways.rp_id
        count = key.sign_count if ways.sign_count is None else ways.sign_count
        return sha256(rp_id.encode()).digest() + bytes([ways.flags]) + count.to_bytes(4)

    def _statement(self, key: Key, signed: bytes, ways: Ways) -> dict[str, object]:
        if ways.attestation == "self":
            return {"alg": -7, "sig": key.private.sign(signed, ec.ECDSA(hashes.SHA256()))}
        assert self.root is not None
        _, by = self.root
        own = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate("device", own, "root", by, is_ca=False)
        return {
            "alg": -7,
            "sig": own.sign(signed, ec.ECDSA(hashes.SHA256())),
            "x5c": [
                certificate.public_bytes(serialization.Encoding.DER),
            ],
        }

    def _answer(self, key: Key, response: dict[str, bytes], ways: Ways) -> dict[str, object]:
        id_ = ways.change.get("id", bytes)(key.credential_id)
        told = {name: b64(ways.change.get(name, bytes)(value)) for name, value in response.items()}
        return {
            "id": b64(id_),
            "rawId": b64(id_),
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": told,
        }


def _format(ways: Ways) -> str:
    return "none" if ways.attestation == "none" else "packed"


def _certificate(
    name: str,
    own: ec.EllipticCurvePrivateKey,
    issuer: str,
    by: ec.EllipticCurvePrivateKey,
    *,
    is_ca: bool,
) -> x509.Certificate:
    now = datetime.now(UTC)

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    return (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .sign(by, hashes.SHA256())
    )
