"""Keys for a broker and its clients, signed by an authority of their own; made for each run."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_PEM = serialization.Encoding.PEM
_DAY = datetime.timedelta(days=1)


class Keys:
    """An authority, and what it has signed: `NAME.crt`, `NAME.key` and both as `NAME.pem`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("authority")
        own = self._signed(self._name, self._key, is_authority=True)
        self.authority = folder / "ca.pem"
        self.authority.write_bytes(own.public_bytes(_PEM))

    def make(self, name: str, address: str = "") -> tuple[Path, Path]:
        """Call this for a certificate, of an address for a server, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        signed = self._signed(_named(name), key, address).public_bytes(_PEM)
        plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        secret = key.private_bytes(_PEM, *plain)
        files = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        for file, content in zip(files, (signed, secret), strict=True):
            file.write_bytes(content)
        (self.folder / f"{name}.pem").write_bytes(secret + signed)
        return files

    def _signed(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        address: str = "",
        *,
        is_authority: bool = False,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        basic = x509.BasicConstraints(ca=is_authority, path_length=None)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name).issuer_name(self._name).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY).not_valid_after(now + _DAY)
            .add_extension(basic, critical=True)
        )  # fmt: skip
        if address:
            names = [x509.IPAddress(ipaddress.ip_address(address))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
