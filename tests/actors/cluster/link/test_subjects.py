"""Subjects: which there are, and that no two names share one."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given, settings

from actors.cluster.link import (
    SUBJECT_BYTES_MAX,
    LinkMisuse,
    Subjects,
    maybe_topic_of,
    token_of,
)
from tests.any_text import any_text

NODE = UUID(int=1)
SUBJECTS = Subjects("green-1")


def test_subjects_are_of_nodes_topics_and_services_and_never_of_shards() -> None:
    # CLU-50
    id_ = "00000000-0000-0000-0000-000000000001"
    assert SUBJECTS.node(NODE) == f"gr.green-1.n.{id_}"
    assert SUBJECTS.system(NODE) == f"gr.green-1.s.{id_}.frames"
    assert SUBJECTS.system_pattern(NODE) == f"gr.green-1.s.{id_}.>"
    assert SUBJECTS.gone(NODE, NODE) == f"gr.green-1.s.{id_}.gone.{id_}"
    assert SUBJECTS.everyone == "gr.green-1.all"
    assert SUBJECTS.everything == "gr.green-1.>"
    assert SUBJECTS.topic("room:Ö") == "gr.green-1.t.room=3A=C3=96"
    assert SUBJECTS.service("mail_2") == "gr.green-1.any.mail_2"


@settings(max_examples=50)
@given(any_text(min_size=1, max_size=40))
def test_a_topic_has_one_token_and_a_token_one_topic(name: str) -> None:
    # CLU-50
    token = token_of(name)
    assert set(token) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-=ABCDEF")
    assert maybe_topic_of(token) == name


@pytest.mark.parametrize(
    "token", ["", "=", "=4", "=zz", "=61", "=c3", "=C3", "a.b", "A", "a\n", "*"]
)
def test_a_token_that_no_name_gives_has_no_topic(token: str) -> None:
    assert maybe_topic_of(token) is None


@pytest.mark.parametrize("name", ["", "\ud800", None, 7, b"x"])
def test_no_topic_has_such_a_name(name: str) -> None:
    with pytest.raises(LinkMisuse, match="a topic"):
        SUBJECTS.topic(name)


def test_a_name_is_refused_rather_than_shortened() -> None:
    room = SUBJECT_BYTES_MAX - len("gr.green-1.t.")
    assert len(SUBJECTS.topic("x" * room)) == SUBJECT_BYTES_MAX
    with pytest.raises(LinkMisuse, match="255"):
        SUBJECTS.topic("x" * (room + 1))


@pytest.mark.parametrize("name", ["", "A", "a.b", "x" * 33, "a\n", ">", "*", None])
def test_no_cluster_has_such_a_name(name: str) -> None:
    with pytest.raises(LinkMisuse, match="cluster"):
        Subjects(name)


@pytest.mark.parametrize("name", ["", "a.b", "x" * 65, "a ", ">", None])
def test_no_service_has_such_a_name(name: str) -> None:
    with pytest.raises(LinkMisuse, match="service"):
        SUBJECTS.service(name)
