"""What Redis speaks, in whatever pieces it comes (PROJ-12)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.redis.codec import NotRedis, Refusal, Replies, Reply, encode

_LEAVES: st.SearchStrategy[Reply] = st.one_of(
    st.none(),
    st.binary(max_size=40),
    st.integers(-(2**63), 2**63 - 1),
    st.builds(Refusal, st.sampled_from(["ERR", "NOSCRIPT"]), st.text("ab c", max_size=9)),
)
_REPLIES = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=4), max_leaves=12)


def written(reply: Reply) -> bytes:
    """As a server writes it."""
    match reply:
        case None:
            return b"$-1\r\n"
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(reply), reply)
        case int():
            return b":%d\r\n" % reply
        case Refusal(code, text):
            return f"-{code} {text}\r\n".encode()
        case list():
            return b"*%d\r\n" % len(reply) + b"".join(map(written, reply))


@given(replies=st.lists(_REPLIES, max_size=5), cuts=st.lists(st.integers(1, 30), max_size=60))
def test_pieces_change_nothing(replies: list[Reply], cuts: list[int]) -> None:
    # PROJ-12
    data = b"".join(map(written, replies))
    reader, read = Replies(), list[Reply]()
    for size in [*cuts, len(data)]:
        read += reader.feed(data[:size])
        data = data[size:]
    assert read == replies


def test_a_command_is_its_words_with_their_lengths() -> None:
    # PROJ-12: so nothing that is in them can be another command
    hostile = "a\r\n*1\r\n$8\r\nFLUSHALL\r\n"
    told = encode(("SET", hostile, b"\xff\x00", 7))
    assert told == (
        b"*4\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$2\r\n\xff\x00\r\n$1\r\n7\r\n"
        % (len(hostile), hostile.encode())
    )
    with pytest.raises(ValueError, match="a word at least"):
        encode(())


@pytest.mark.parametrize(
    "nonsense",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"$-2\r\n",
        b"$ 3\r\nabc\r\n",
        b"$1_0\r\n",
        b"$3\r\nabcde",
        b"$99999999999\r\n",
        b"*99999999\r\n",
        b"*-5\r\n",
        b":one\r\n",
        b":\r\n",
        b":" + b"9" * 30 + b"\r\n",
        b"*1\r\n" * 9,
        b"+" + b"x" * 70_000,
        b"\r\n",
    ],
)
def test_what_is_no_reply_ends_it(nonsense: bytes) -> None:
    # PROJ-12
    with pytest.raises(NotRedis):
        Replies().feed(nonsense)
