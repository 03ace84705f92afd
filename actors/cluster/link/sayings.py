"""What nodes tell each other about themselves: the bodies of system envelopes, and of refusals.

A saying of a later release that this one does not know is dropped, like every body that is none.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

# One line names the error of another node; its stack stays there, in the crash report.
REMOTE_TEXT_MAX: Final = 500
# As many topics as a node tells the last numbers of, in one message to everyone.
TOLD_TOPICS_MAX: Final = 2048
# Who is present, and where: names of rooms, ids of people, and a few words of each. What is told at
# once fits one message, of 256 KiB, whatever it is.
GROUP_MAX: Final = 128
MEMBER_MAX: Final = 128
ABOUT_BYTES_MAX: Final = 512
PRESENT_AT_ONCE_MAX: Final = 128
PRESENT_PARTS_MAX: Final = 1024


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """Why an ask got no reply: a code of this release or a later one, and words for it."""

    code: Annotated[str, msgspec.Meta(max_length=32)]
    kind: Annotated[str, msgspec.Meta(max_length=256)] = ""
    text: Annotated[str, msgspec.Meta(max_length=REMOTE_TEXT_MAX)] = ""


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    """I hear all my subjects; with `wants_answer` say so too."""

    wants_answer: bool


class Leaving(msgspec.Struct, frozen=True, array_like=True, tag="leaving"):
    """I shall hear nothing any more."""


class Hint(msgspec.Struct, frozen=True, array_like=True, tag="hint"):
    """Who owns a shard, as far as I know: `Moved` on the wire.

    `is_kept`: I was about to give it away, and take messages for it again.
    """

    shard: int
    owner: Annotated[str, msgspec.Meta(max_length=36)]
    epoch: int
    is_kept: bool = False


class Barrier(msgspec.Struct, frozen=True, array_like=True, tag="barrier"):
    """Answer this behind everything that you send back of what I sent you before."""

    shard: int
    number: int


class BarrierDone(msgspec.Struct, frozen=True, array_like=True, tag="barrier_done"):
    """The answer to a `Barrier`."""

    shard: int
    number: int


class WatchFor(msgspec.Struct, frozen=True, array_like=True, tag="watch"):
    """Tell me of the end of an actor that you own."""

    number: int
    target: Annotated[str, msgspec.Meta(max_length=1024)]


class Unwatch(msgspec.Struct, frozen=True, array_like=True, tag="unwatch"):
    """Tell me nothing of it any more."""

    number: int


class Ended(msgspec.Struct, frozen=True, array_like=True, tag="ended"):
    """The end of a watched actor: the kind of its exit, and words for it."""

    number: int
    exit: Annotated[str, msgspec.Meta(max_length=32)]
    text: Annotated[str, msgspec.Meta(max_length=REMOTE_TEXT_MAX)] = ""


class LinkBroke(msgspec.Struct, frozen=True, array_like=True, tag="link_broke"):
    """An actor here that was linked to one of yours has ended."""

    target: Annotated[str, msgspec.Meta(max_length=1024)]
    path: Annotated[str, msgspec.Meta(max_length=1024)]
    exit: Annotated[str, msgspec.Meta(max_length=32)]
    text: Annotated[str, msgspec.Meta(max_length=REMOTE_TEXT_MAX)] = ""


class Beacon(msgspec.Struct, frozen=True, array_like=True, tag="beacon"):
    """I am here; and the last number of each topic that I published on lately."""

    topics: Annotated[dict[str, int], msgspec.Meta(max_length=TOLD_TOPICS_MAX)]


class PresentMember(msgspec.Struct, frozen=True, array_like=True):
    """A member of a group and what is told of it; None when it went."""

    group: Annotated[str, msgspec.Meta(max_length=GROUP_MAX)]
    member: Annotated[str, msgspec.Meta(max_length=MEMBER_MAX)]
    about: Annotated[bytes, msgspec.Meta(max_length=ABOUT_BYTES_MAX)] | None = None


_PresentMembers: TypeAlias = Annotated[
    list[PresentMember], msgspec.Meta(max_length=PRESENT_AT_ONCE_MAX)
]


class Present(msgspec.Struct, frozen=True, array_like=True, tag="present"):
    """Change `before + 1` of who is present on my node."""

    before: int
    members: _PresentMembers


class PresentDigest(msgspec.Struct, frozen=True, array_like=True, tag="present_digest"):
    """So many changes there were, and this is the sum of who is present on my node."""

    number: int
    digest: int


class WantPresent(msgspec.Struct, frozen=True, array_like=True, tag="want_present"):
    """Tell me all who are present on your node."""


class PresentSet(msgspec.Struct, frozen=True, array_like=True, tag="present_set"):
    """A part of all who are present on my node, after change `number`."""

    number: int
    part: Annotated[int, msgspec.Meta(ge=0, lt=PRESENT_PARTS_MAX)]
    parts: Annotated[int, msgspec.Meta(ge=1, le=PRESENT_PARTS_MAX)]
    members: _PresentMembers


class Probe(msgspec.Struct, frozen=True, array_like=True, tag="probe"):
    """Answer at once: I measure how long that takes."""

    number: int


class Probed(msgspec.Struct, frozen=True, array_like=True, tag="probed"):
    """The answer to a `Probe`."""

    number: int


Saying: TypeAlias = (
    Hello
    | Leaving
    | Hint
    | Barrier
    | BarrierDone
    | WatchFor
    | Unwatch
    | Ended
    | LinkBroke
    | Beacon
    | Present
    | PresentDigest
    | PresentSet
    | WantPresent
    | Probe
    | Probed
)

encode_saying: Final = msgspec.msgpack.Encoder().encode
decode_saying: Final = msgspec.msgpack.Decoder(Saying).decode
decode_refusal: Final = msgspec.msgpack.Decoder(Refusal).decode
