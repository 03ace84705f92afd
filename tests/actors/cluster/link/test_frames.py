"""Frames: their bytes, their limits, and that nothing which comes from outside ends a reader."""

from __future__ import annotations

import hmac
import os
import random
from collections import Counter
from struct import pack

import msgspec
import pytest

from actors.cluster.link import (
    BODY_BYTES_MAX,
    ENVELOPES_MAX,
    FRAME_BYTES_MAX,
    FRAME_FORMAT,
    Ack,
    Arrived,
    Envelope,
    EnvelopeKind,
    FrameHead,
    FrameKeys,
    LinkMisuse,
    MessageTooLarge,
    Refused,
    RefusedReason,
    filled,
    read_body,
    weigh,
    write_content,
)
from actors.runtime import Secret
from tests.actors.cluster.link.samples import (
    HERE,
    KEYS,
    NOW_US,
    OTHER_SECRET,
    SECRET,
    SUBJECTS,
    A,
    B,
    door,
    envelope,
    frame,
    head,
)

# What a node of this release sends, byte by byte: a change here is a new `FRAME_FORMAT`.
GOLDEN = bytes.fromhex(
    "9eb5ed980c13221aede7b625d3e5729b8ca7047129141f2d2b1f8028df9185aa"
    "0001002797a474657374c4100000000000000000000000000000000a0509cf00"
    "060a24181e4000920304c391dc001101aa726f6f6d2f6c6f626279a353617901"
    "c40568656c6c6f070300cd01f4a0a0a0a0a0a0a000"
)
# Of a long run: how many mutated frames.
MUTATED = int(os.environ.get("GREENROOM_MUTATED_FRAMES", "10000"))


def _taken(raw: bytes, subject: str = HERE) -> Arrived | Refused:
    return door().take(subject, raw, now_us=NOW_US, at=0.0)


def _reason(raw: bytes, subject: str = HERE) -> RefusedReason:
    taken = _taken(raw, subject)
    assert isinstance(taken, Refused)
    return taken.reason


def _sealed(head_: bytes, rest: bytes, format_: int = FRAME_FORMAT) -> bytes:
    """A frame with a right MAC, whatever is in it."""
    return KEYS.seal(HERE, pack(">HH", format_, len(head_)) + head_ + rest)


def test_a_frame_is_these_bytes() -> None:
    # CLU-51
    of = FrameHead("test", A.bytes, 5, 9, NOW_US, Ack(3, 4), asks=True)
    assert frame(of, [envelope()]) == GOLDEN


def test_what_was_sent_comes() -> None:
    # CLU-51
    envelopes = [envelope(b"%d" % n) for n in range(ENVELOPES_MAX)]
    taken = _taken(frame(head(), envelopes))
    assert isinstance(taken, Arrived)
    assert taken.head == head()
    assert taken.head.node_id == A
    assert taken.envelopes == envelopes


def test_fields_of_a_later_release_are_not_read() -> None:
    # CLU-51
    of = msgspec.msgpack.encode(["test", A.bytes, 1, 0, NOW_US, [0, 0], False, {"later": 1}])
    rest = msgspec.msgpack.encode([[1, "room/lobby", "Say", 1, b"x", *[0] * 4, *[""] * 7, 0, 9]])
    taken = _taken(_sealed(of, rest))
    assert isinstance(taken, Arrived)
    assert taken.envelopes == [Envelope(EnvelopeKind.TELL, "room/lobby", "Say", 1, b"x")]


def test_each_frame_holds_256_envelopes_or_256_kib() -> None:
    # CLU-51
    assert list(filled([])) == []
    assert list(filled([1] * 600)) == [range(256), range(256, 512), range(512, 600)]
    assert list(filled([100_000] * 3)) == [range(2), range(2, 3)]
    alone = weigh(envelope(bytes(BODY_BYTES_MAX)))
    assert list(filled([1, alone, 1])) == [range(1), range(1, 2), range(2, 3)]


def test_the_largest_message_travels_and_a_larger_one_is_the_callers_error() -> None:
    largest = envelope(bytes(BODY_BYTES_MAX))
    weigh(largest)
    assert isinstance(_taken(frame(head(), [largest])), Arrived)
    with pytest.raises(MessageTooLarge) as told:
        weigh(envelope(bytes(BODY_BYTES_MAX + 1)))
    assert (told.value.size, told.value.limit) == (BODY_BYTES_MAX + 1, BODY_BYTES_MAX)
    with pytest.raises(MessageTooLarge):
        write_content(head(), [largest] * 2)
    with pytest.raises(LinkMisuse, match="256"):
        write_content(head(), [envelope()] * (ENVELOPES_MAX + 1))


def test_envelopes_at_all_their_limits_fit_into_a_frame() -> None:
    widest = Envelope(
        *(EnvelopeKind.ASK, "é" * 1024, "n" * 128, 65_535, b""),
        *(2**63 - 1, 2**63 - 1, 2**63 - 1, 2**63 - 1),
        *("é" * 128, "é" * 128, "é" * 128, "é" * 256),
        *("é" * 1024, "é" * 256, "é" * 256, 2**63 - 1),
    )
    size = weigh(widest)
    sizes = [size] * ENVELOPES_MAX
    for part in filled(sizes):
        write_content(head(), [widest] * len(part))


@pytest.mark.parametrize(
    "wrong",
    [
        Envelope(EnvelopeKind.TELL, "", "Say", 1, b""),
        Envelope(EnvelopeKind.TELL, "x" * 1025, "Say", 1, b""),
        Envelope(EnvelopeKind.TELL, "room/\ud800", "Say", 1, b""),
        Envelope(EnvelopeKind.TELL, "room/a", "Say", 0, b""),
        Envelope(EnvelopeKind.TELL, "room/a", "Say", 1, b"", epoch=-1),
        Envelope(EnvelopeKind.TELL, "room/a", "Say", 1, b"", ask=2**63),
        Envelope(EnvelopeKind.TELL, "room/a", "Say", 1, b"", ask=2**70),
        Envelope(EnvelopeKind.TELL, "room/a", "Say", 1, b"", traceparent="\udfff"),
    ],
)
def test_what_a_reader_would_refuse_is_refused_at_the_sender(wrong: Envelope) -> None:
    with pytest.raises(LinkMisuse, match="an envelope"):
        weigh(wrong)


def test_a_secret_must_be_as_long_as_its_hash() -> None:
    # CLU-55
    with pytest.raises(LinkMisuse, match="32 bytes"):
        FrameKeys("test", Secret("x" * 31))
    with pytest.raises(LinkMisuse, match="32 bytes"):
        FrameKeys("test", SECRET, Secret("short"))


def test_a_frame_is_bound_to_cluster_subject_and_secret() -> None:
    # CLU-55
    good = frame(head(), [envelope()])
    assert isinstance(_taken(good), Arrived)
    assert _reason(good, SUBJECTS.node(A)) is RefusedReason.MAC
    assert _reason(frame(keys=FrameKeys("other", SECRET))) is RefusedReason.MAC
    assert _reason(frame(keys=FrameKeys("test", OTHER_SECRET))) is RefusedReason.MAC
    # A byte that leaves the subject for the content is no byte of the content.
    moved = KEYS.seal(HERE[:-1], HERE[-1].encode() + write_content(head()))
    assert _reason(moved[:32] + moved[33:]) is RefusedReason.MAC


def test_the_previous_secret_is_believed_while_a_change_is_rolled_out() -> None:
    # CLU-55
    old, new = FrameKeys("test", SECRET), FrameKeys("test", OTHER_SECRET)
    changing = FrameKeys("test", OTHER_SECRET, SECRET)
    content = write_content(head())
    assert changing.maybe_open(HERE, old.seal(HERE, content)) == content
    assert changing.maybe_open(HERE, new.seal(HERE, content)) == content
    # It seals with the new one, so a node that has only the old refuses it, and after the change
    # nobody believes the old.
    assert old.maybe_open(HERE, changing.seal(HERE, content)) is None
    assert new.maybe_open(HERE, old.seal(HERE, content)) is None


def test_secrets_are_compared_without_being_told() -> None:
    # CLU-55: what stands for a secret is another for each secret and cluster, and no key of frames
    old, new = FrameKeys("test", SECRET), FrameKeys("test", OTHER_SECRET)
    changing = FrameKeys("test", OTHER_SECRET, SECRET)
    assert old.marks == FrameKeys("test", SECRET).marks
    assert changing.marks == (new.marks[0], old.marks[0])
    assert old.marks[1] == ""
    marks = {one.marks[0] for one in (old, new, FrameKeys("other", SECRET))}
    assert len(marks) == 3
    assert not any(SECRET.reveal() in mark for mark in marks)
    # Who reads a mark cannot sign with it.
    content, place = write_content(head()), HERE.encode()
    signed = pack(">HH", len(b"test"), len(place)) + b"test" + place + content
    for key in (old.marks[0].encode(), bytes.fromhex(old.marks[0])):
        forged = hmac.digest(key, signed, "sha256") + content
        assert old.maybe_open(HERE, forged) is None
    right = hmac.digest(SECRET.reveal().encode(), b"greenroom link frames 1", "sha256")
    assert old.maybe_open(HERE, hmac.digest(right, signed, "sha256") + content) == content


HEAD = msgspec.msgpack.encode(head())
EMPTY = msgspec.msgpack.encode([])
NESTED = b"\x91" * 100_000
LAST = frame(head(2**63 - 1), [envelope()])


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", RefusedReason.SIZE),
        (frame()[:36], RefusedReason.SIZE),
        (bytes(FRAME_BYTES_MAX + 1), RefusedReason.SIZE),
        (bytes(FRAME_BYTES_MAX), RefusedReason.MAC),
        (frame()[:-1], RefusedReason.MAC),
        (_sealed(HEAD, EMPTY, FRAME_FORMAT + 1), RefusedReason.FORMAT),
        # A foreign format is told as such, whatever else is wrong.
        (_sealed(b"\xc1", b"\xc1", 0), RefusedReason.FORMAT),
        (KEYS.seal(HERE, pack(">HH", FRAME_FORMAT, 65_535) + HEAD), RefusedReason.HEAD),
        (_sealed(HEAD[:-1], EMPTY), RefusedReason.HEAD),
        (_sealed(b"\x97\xa1\xff", EMPTY), RefusedReason.HEAD),  # broken text
        (_sealed(b"\x98" + HEAD[1:] + NESTED[:50_000], EMPTY), RefusedReason.HEAD),
        (frame(head(cluster="other")), RefusedReason.CLUSTER),
        (frame(head(node=B)), RefusedReason.NODE),
        (_sealed(HEAD, b""), RefusedReason.ENVELOPES),
        (_sealed(HEAD, b"\x91" + NESTED), RefusedReason.ENVELOPES),
        (_sealed(HEAD, b"\x91\x95\x01\xa1\xff"), RefusedReason.ENVELOPES),  # broken text
        # A list that says it has four thousand million, and one that has a few too many.
        (_sealed(HEAD, b"\xdd\xff\xff\xff\xff"), RefusedReason.ENVELOPES),
        (
            _sealed(HEAD, msgspec.msgpack.encode([envelope()] * (ENVELOPES_MAX + 1))),
            RefusedReason.ENVELOPES,
        ),
        (_sealed(HEAD, msgspec.msgpack.encode([[0] * 13])), RefusedReason.ENVELOPES),
        (_sealed(HEAD, EMPTY + b"\x00"), RefusedReason.ENVELOPES),
    ],
)
def test_what_is_no_frame_is_dropped_and_counted_by_its_reason(
    raw: bytes, reason: RefusedReason
) -> None:
    # CLU-24
    at = door()
    taken = at.take(HERE, raw, now_us=NOW_US, at=0.0)
    assert isinstance(taken, Refused)
    assert taken.reason is reason
    assert at.refused == Counter({reason: 1})


def test_a_foreign_format_is_told_with_both_numbers() -> None:
    taken = _taken(_sealed(HEAD, EMPTY, 77))
    assert isinstance(taken, Refused)
    assert "77" in taken.detail
    assert str(FRAME_FORMAT) in taken.detail


class _Say(msgspec.Struct):
    text: str


@pytest.mark.parametrize(
    "bad", [b"", b"\x81\xa4text\x01", b"\x81\xa4text\xa1\xff", b"\x81" + NESTED]
)
def test_one_bad_body_is_refused_alone(bad: bytes) -> None:
    # CLU-24
    good = msgspec.msgpack.encode(_Say("hi"))
    at = door()
    taken = at.take(
        HERE,
        frame(head(), [envelope(good), envelope(bad), envelope(good)]),
        now_us=NOW_US,
        at=0.0,
    )
    assert isinstance(taken, Arrived)
    decode = msgspec.msgpack.Decoder(_Say).decode
    bodies = [read_body(decode, one) for one in taken.envelopes]
    assert [isinstance(one, Refused) for one in bodies] == [False, True, False]
    assert isinstance(bodies[1], Refused)
    at.refuse(bodies[1])
    assert at.refused[RefusedReason.BODY] == 1


def _mutated(raw: bytes, chance: random.Random) -> bytes:
    """A frame that was cut, lengthened, or changed in some of its bytes."""
    at = chance.randrange(len(raw))
    match chance.randrange(5):
        case 0:
            return raw[:at]
        case 1:
            return raw[:at] + chance.randbytes(chance.randrange(1, 9)) + raw[at:]
        case 2:
            return raw[:at] + raw[at + chance.randrange(1, 9) :]
        case 3:
            return raw[:at] + bytes([raw[at] ^ (1 << chance.randrange(8))]) + raw[at + 1 :]
        case _:
            more = chance.randbytes(4)
            return raw[:at] + more + raw[at + 4 :]


@pytest.mark.slow
def test_no_mutated_frame_ends_the_reader() -> None:
    # CLU-24
    chance = random.Random(24)
    content = write_content(head(), [envelope(b"x" * n) for n in (0, 20, 200)])
    whole = KEYS.seal(HERE, content)
    refused: Counter[RefusedReason] = Counter()
    arrived = 0
    for n in range(MUTATED):
        # Half are what a stranger can do; half have a right MAC, as of a node with a fault.
        raw = _mutated(whole, chance) if n % 2 else KEYS.seal(HERE, _mutated(content, chance))
        # A new one each time: a number that chance made up would hide all that comes later.
        at = door()
        taken = at.take(HERE, raw, now_us=NOW_US, at=0.0)
        assert n % 2 == 0 or raw == whole or isinstance(taken, Refused)
        refused += at.refused
        arrived += at.arrived_count
        # And still it hears, with a number above all.
        last = at.take(HERE, LAST, now_us=NOW_US, at=0.0) if n % 20 == 0 else None
        assert last is None or isinstance(last, Arrived)
    assert refused.total() + arrived == MUTATED
    reached = {*RefusedReason} - {RefusedReason.SUBJECTS, RefusedReason.BODY}
    reached -= {RefusedReason.DEADLINE, RefusedReason.SEQUENCE}
    assert reached <= refused.keys()
