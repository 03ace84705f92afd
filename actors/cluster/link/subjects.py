"""Under which subjects nodes speak: per node and topic, never per shard.

With a subject for each shard a stale owner and the new one would both handle every message.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

from actors.cluster.link.words import LinkMisuse

# CLU-50. Within what servers index well; a longer name is refused, not shortened.
SUBJECT_BYTES_MAX = 255
SERVICE_GROUP = "any"

_CLUSTER = re.compile(r"[a-z0-9-]{1,32}")
_SERVICE = re.compile(r"[a-z0-9_-]{1,64}")
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789_-")
_TOKEN = re.compile(r"(?:[a-z0-9_-]|=[0-9A-F]{2})+")
_ANY = re.compile(r".+", re.DOTALL)
_ESCAPED = re.compile(rb"=([0-9A-F]{2})")


@dataclass(frozen=True, slots=True)
class Subjects:
    """The subjects of one cluster; raises `LinkMisuse` for a name that none can have."""

    cluster: str

    def __post_init__(self) -> None:
        if not _is(_CLUSTER, self.cluster):
            raise LinkMisuse("the cluster's name", "must be 1 to 32 of a-z, 0-9 and -")

    @property
    def everyone(self) -> str:
        """What every node hears."""
        return f"gr.{self.cluster}.all"

    @property
    def everything(self) -> str:
        """The pattern of all subjects of the cluster, for permissions."""
        return f"gr.{self.cluster}.>"

    def node(self, node_id: UUID) -> str:
        """Call this for where a node hears tells, asks and replies: one subject, so one order."""
        return f"gr.{self.cluster}.n.{node_id}"

    def system(self, node_id: UUID) -> str:
        """Call this for where a node hears what must not wait behind data."""
        return f"gr.{self.cluster}.s.{node_id}.frames"

    def system_pattern(self, node_id: UUID) -> str:
        """Call this for the pattern a node subscribes to for system frames and `gone`."""
        return f"gr.{self.cluster}.s.{node_id}.>"

    def gone(self, node_id: UUID, peer: UUID) -> str:
        """Call this for where the server tells `node_id` that nobody hears `peer`."""
        return f"gr.{self.cluster}.s.{node_id}.gone.{peer}"

    def unheard(self, node_id: UUID, ask: int) -> str:
        """Call this for where the server tells `node_id` that nobody heard one of its asks."""
        return f"gr.{self.cluster}.s.{node_id}.unheard.{ask}"

    def topic(self, name: str) -> str:
        """Call this for where messages of a topic travel; raises `LinkMisuse` when too long."""
        subject = f"gr.{self.cluster}.t.{token_of(name)}"
        if len(subject) > SUBJECT_BYTES_MAX:
            raise LinkMisuse("a topic", f"makes a subject of over {SUBJECT_BYTES_MAX} bytes")
        return subject

    def service(self, name: str) -> str:
        """Call this for where asks to anyone who offers a service travel."""
        if not _is(_SERVICE, name):
            raise LinkMisuse("a service", "must be 1 to 64 of a-z, 0-9, _ and -")
        return f"gr.{self.cluster}.any.{name}"


def token_of(name: str) -> str:
    """Call this for a topic's name as one token of a subject; raises `LinkMisuse`.

    Everything but `[a-z0-9_-]` becomes `=XX`, byte by byte, so that no two names share a token.
    """
    if not _is(_ANY, name):
        raise LinkMisuse("a topic", "must be a text that is not empty")
    try:
        raw = name.encode()
    except UnicodeEncodeError:
        raise LinkMisuse("a topic", "has half of a surrogate pair") from None
    return "".join(chr(one) if one in _PLAIN else f"={one:02X}" for one in raw)


def maybe_topic_of(token: str) -> str | None:
    """Call this for the topic of a token; None for one that `token_of` never gives."""
    if not _TOKEN.fullmatch(token):
        return None
    raw = _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), token.encode())
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        return None
    return name if token_of(name) == token else None


def _is(pattern: re.Pattern[str], value: object) -> bool:
    """Whether a value is a text of a form: what callers give is not always what is declared."""
    return isinstance(value, str) and pattern.fullmatch(value) is not None


@lru_cache(maxsize=4096)
def check_subject(subject: str, *, is_pattern: bool) -> None:
    """Call this before a subject is used; raises `LinkMisuse`.

    Tokens of printable ASCII joined by dots; `>` at the end of a pattern only.
    """
    tokens = subject.split(".")
    if is_pattern and len(tokens) > 1 and tokens[-1] == ">":
        tokens.pop()
    for token in tokens:
        is_plain = token.isascii() and token.isprintable()
        if not token or not is_plain or set(token) & set(" *>"):
            raise LinkMisuse("a subject", "is made of tokens that are not empty, joined by dots")
