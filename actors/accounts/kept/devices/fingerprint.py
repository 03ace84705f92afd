"""Whether two fingerprints are of one device: pure, for services that collect them (AUTH-24).

The site collects none: a signed cookie tells its devices. A fingerprint is made of digests, one a
part; what a browser showed is kept nowhere. A store keeps those `of_account`, packed.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from types import MappingProxyType
from uuid import UUID

from actors.persistence.errors import InvalidField
from actors.persistence.words import check_bytes, check_text

# AUTH-24; together they are 1.
WEIGHTS: Mapping[str, float] = MappingProxyType(
    {
        "canvas": 0.15,
        "webgl": 0.15,
        "audio": 0.15,
        "fonts": 0.10,
        "plugins": 0.10,
        "renderer": 0.10,
        "screen": 0.05,
        "timezone": 0.05,
        "languages": 0.05,
        "color_depth": 0.03,
        "cpu": 0.03,
        "memory": 0.02,
        "concurrency": 0.02,
    }
)
SAME_FROM = 0.75
# A list of fonts is the longest of them.
PART_CHARS_MAX = 65_536
DIGEST_BYTES = 32
PACKED_BYTES = len(WEIGHTS) * DIGEST_BYTES
# What stands in a packed one for a part that was not shown.
_LACK = bytes(DIGEST_BYTES)

Fingerprint = Mapping[str, bytes]


def fingerprint_of(parts: Mapping[str, str]) -> Fingerprint:
    """Call this with what a browser showed, part by part; raises `InvalidField` for unknown ones.

    A part that is empty was not shown, and is left out.
    """
    made = {}
    for name, value in parts.items():
        if name not in WEIGHTS:
            raise InvalidField("fingerprint", "has a part that is not known")
        if check_text(name, value, PART_CHARS_MAX):
            made[name] = sha256(f"{name}:{value}".encode()).digest()
    return made


def similarity(one: Fingerprint, other: Fingerprint) -> float:
    """Call this for how alike two are, from 0 to 1, to two decimals; a lack is not alike."""
    alike = (weight for name, weight in WEIGHTS.items() if _is_alike(name, one, other))
    return round(sum(alike), 2)


def is_same(one: Fingerprint, other: Fingerprint) -> bool:
    """Call this for whether two are of one device."""
    return similarity(one, other) >= SAME_FROM


def can_tell(fingerprint: Fingerprint) -> bool:
    """Call this for whether it has parts enough to be like another one, were it the same."""
    return is_same(fingerprint, fingerprint)


def of_account(fingerprint: Fingerprint, user_id: UUID) -> Fingerprint:
    """Call this for the fingerprint as it is kept of one account: alike to none of another."""
    return {name: sha256(user_id.bytes + part).digest() for name, part in fingerprint.items()}


def packed(fingerprint: Fingerprint) -> bytes:
    """Call this for a fingerprint in the one form a store keeps."""
    return b"".join(fingerprint.get(name, _LACK) for name in WEIGHTS)


def unpacked(data: bytes) -> Fingerprint:
    """Call this for the fingerprint that `packed` was given."""
    parts = (data[at : at + DIGEST_BYTES] for at in range(0, PACKED_BYTES, DIGEST_BYTES))
    return {name: part for name, part in zip(WEIGHTS, parts, strict=True) if part != _LACK}


def known_by(
    device: bytes | None, shown: Fingerprint, kept: Iterable[tuple[bytes, bytes | None]]
) -> bytes | None:
    """Call this for the digest of the device that a sign-in comes from; `device` where of none.

    `kept` are the devices of the account, by digest, with what each showed last, newest first. What
    was signed here goes before what was shown; of those that are alike the most alike one.
    """
    found, most = device, 0.0
    for digest, last in kept:
        if digest == device:
            return device
        alike = 0.0 if last is None else similarity(shown, unpacked(last))
        if alike >= SAME_FROM and alike > most:
            found, most = digest, alike
    return found


def lone_digest(device_id: UUID) -> bytes:
    """Call this for what stands for a cookie at a device that was given none: no cookie has it."""
    return sha256(b"device without a cookie:" + device_id.bytes).digest()


def check_fingerprint(fingerprint: object) -> None:
    """Call this with digests by the name of their part; raises `InvalidField`."""
    if not isinstance(fingerprint, Mapping) or not fingerprint.keys() <= WEIGHTS.keys():
        raise InvalidField("fingerprint", "has a part that is not known")
    for name, part in fingerprint.items():
        check_bytes(name, part, DIGEST_BYTES)
        if len(part) != DIGEST_BYTES:
            raise InvalidField("fingerprint", "is made of digests")


def _is_alike(name: str, one: Fingerprint, other: Fingerprint) -> bool:
    return name in one and one[name] == other.get(name)
