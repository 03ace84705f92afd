"""Whether two fingerprints are of one device: pure, for services that collect them (AUTH-24).

The site collects none: a signed cookie tells its devices. A fingerprint is made of digests, one a
part; what a browser showed is kept nowhere.
"""

from collections.abc import Mapping
from hashlib import sha256
from types import MappingProxyType

from actors.persistence.errors import InvalidField
from actors.persistence.words import check_text

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


def device_digest(fingerprint: Fingerprint) -> bytes:
    """Call this for what is kept of a whole fingerprint."""
    return sha256(b"".join(fingerprint.get(name, b"-") for name in WEIGHTS)).digest()


def _is_alike(name: str, one: Fingerprint, other: Fingerprint) -> bool:
    return name in one and one[name] == other.get(name)
